//! The reverse proxy of the README: a real nginx with its block, in front of a node and of a service that says what it was
//! sent.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_tests::binding::sha256;
use countersign_tests::http::{self, Request, Response};
use countersign_tests::socket::Dial;
use countersign_tests::tokens::Issuer;
use countersign_tests::{Node, Plan, eventually, node, port};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Who calls, by the node's word alone.
const IDENTITY: [&str; 5] = [
    "X-Countersign-Subject",
    "X-Countersign-Issuer",
    "X-Countersign-Connection-Id",
    "X-Countersign-Origin",
    "X-Countersign-Body-Digest",
];
/// What forgers put there.
const FORGED: &str = "forged";

/// A running nginx; dropped, it is killed.
struct Nginx {
    child: Child,
    folder: TempDir,
    address: SocketAddr,
}

impl Nginx {
    /// With the block of the README, but for the two addresses in it.
    async fn start(node: &Node, service: SocketAddr) -> Self {
        let readme = std::fs::read_to_string(node::root().join("README.md")).unwrap();
        let block = readme.split("```nginx\n").nth(1).expect("a block").split("```").next().unwrap();
        let (maps, server): (Vec<&str>, Vec<&str>) = block.lines().partition(|line| line.starts_with("map "));
        let replaced = |text: String, old: &str, new: &str| {
            assert!(text.contains(old), "the block names {old}");
            text.replace(old, new)
        };
        let server = replaced(server.join("\n"), "http://app;", &format!("http://{service};"));
        let server = replaced(server, "http://127.0.0.1:9090/", &format!("http://{}/", node.admin));
        let address = SocketAddr::from(([127, 0, 0, 1], port::free()));
        let folder = tempfile::Builder::new().prefix("countersign-nginx-").tempdir().unwrap();
        let path = folder.path().display();
        // One process in the foreground, so that nothing is left when it is killed.
        let text = format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/log; events {{}}\n\
             http {{\naccess_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;\n\
             fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;\n\
             {}\nserver {{\nlisten {address};\n{server}\n}}\n}}\n",
            maps.join("\n"),
        );
        std::fs::write(folder.path().join("nginx.conf"), text).unwrap();
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("nginx");
        command.env("PATH", path).arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(folder.path().join("stderr")).unwrap());
        let child = command.spawn().expect("`nginx` is there; tests/run installs it");
        let nginx = Self { child, folder, address };
        eventually("nginx listens", || async { tokio::net::TcpStream::connect(address).await.ok() }).await;
        nginx
    }

    fn url(&self) -> String {
        format!("http://{}/api/orders?id=7", self.address)
    }

    /// `host/path?query` of that, as pages sign it.
    fn target(&self) -> String {
        format!("{}/api/orders?id=7", self.address)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["stderr", "log"] {
                eprintln!("{}", std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default());
            }
        }
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A service that answers with the head of the request as it came, and with 200 whatever it is.
async fn service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", head.len());
                // The proxy may be gone: then nobody reads it.
                let _ = stream.write_all(&[answer.into_bytes(), head].concat()).await;
            });
        }
    });
    address
}

/// What the service was sent under a name, in whatever spelling a service may take for it.
fn came(response: &Response, name: &str) -> Vec<String> {
    assert_eq!(response.status, 200, "{}", response.text());
    let spelled = |name: &str| name.to_ascii_lowercase().replace(['_', '.'], "-");
    let head = response.text();
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.filter(|(key, _)| spelled(key) == spelled(name)).map(|(_, value)| value.trim().to_owned()).collect()
}

/// Claims to be somebody, in every spelling.
fn forge(request: Request) -> Request {
    IDENTITY.iter().fold(request, |request, name| {
        let request = request.header(name, FORGED).header(&name.to_ascii_lowercase(), FORGED);
        request.header(&name.replace('-', "_"), FORGED).header(&name.replacen('-', ".", 1), FORGED)
    })
}

async fn started() -> (Node, Nginx, Issuer) {
    let issuer = Issuer::new();
    let node = Plan::new().toml(&issuer.settings()).toml("[authorizer]\nmode = \"ticket\"").start();
    let nginx = Nginx::start(&node, service().await).await;
    (node, nginx, issuer)
}

#[tokio::test]
async fn behind_the_nginx_of_the_readme_services_hear_the_node_and_no_forger() {
    let (node, nginx, issuer) = started().await;
    let mut socket = Dial::page(&node).bearer(&issuer.token("ada", 600)).verified().await;
    let ticket = socket.ticket().await;
    let own = http::get(&node.admin_url("/authorize")).ticket(&ticket).send().await;
    let called = forge(http::get(&nginx.url())).ticket(&ticket).send().await;
    for name in IDENTITY {
        assert_eq!(came(&called, name), [own.header(name).expect(name)], "{name}");
    }
    assert_eq!(came(&called, IDENTITY[0]), ["ada"]);
    assert_eq!(came(&called, IDENTITY[2]), [socket.id.as_str()]);
    assert_eq!(came(&called, IDENTITY[3]), [node.origin()]);
    for method in ["GET", "POST", "OPTIONS"] {
        assert_eq!(forge(Request::new(method, &nginx.url())).send().await.status, 401, "{method} without a credential");
    }
    socket.close().await;
    assert_eq!(forge(http::get(&nginx.url())).ticket(&ticket).send().await.status, 401, "of a closed socket");
}

#[tokio::test]
async fn proofs_count_behind_the_nginx_of_the_readme_for_their_call_alone() {
    let (node, nginx, _issuer) = started().await;
    let mut socket = Dial::page(&node).welcomed().await;
    let mut hello = socket.hello();
    hello["mode"] = json!("proof");
    socket.ok("hello", hello).await;
    let challenge = socket.event("challenge").await;
    socket.ok("answer", socket.answer(&challenge)).await;
    let ticket = socket.ticket().await;
    let body = b"{\"order\":7}".as_slice();
    let call = async |method: &str, proof: &str| {
        forge(Request::new(method, &nginx.url())).proof(&ticket, proof).body(body).send().await
    };
    let proof = socket.prove_body(&ticket, "PUT", &nginx.target(), 1, Some(body));
    assert_eq!(call("POST", &proof).await.status, 401, "another method");
    let claimed = Request::new("POST", &nginx.url()).proof(&ticket, &proof).header("X-Original-Method", "PUT");
    assert_eq!(claimed.send().await.status, 401, "the proxy says what the call is");
    let called = call("PUT", &proof).await;
    assert_eq!(came(&called, IDENTITY[4]), [URL_SAFE_NO_PAD.encode(sha256(body))]);
    assert_eq!(call("PUT", &proof).await.status, 401, "again");
    assert_eq!(forge(http::get(&nginx.url())).ticket(&ticket).send().await.status, 401, "a ticket is less");
}

#[tokio::test]
async fn a_preflight_passes_the_nginx_of_the_readme_and_nobodys_identity_with_it() {
    let (_node, nginx, _issuer) = started().await;
    let preflight = |method: &str| {
        let request = Request::new(method, &nginx.url()).header("Origin", "https://page.example");
        forge(request.header("Access-Control-Request-Method", "PUT"))
    };
    let passed = preflight("OPTIONS").send().await;
    for name in IDENTITY {
        assert_eq!(came(&passed, name), Vec::<String>::new(), "{name}");
    }
    assert_eq!(preflight("GET").send().await.status, 401, "only a preflight is one");
}
