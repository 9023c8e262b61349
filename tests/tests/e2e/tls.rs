//! Either listener can speak TLS, and takes a new certificate without a restart.

use std::path::Path;
use std::sync::Arc;

use countersign_tests::socket::NATIVE;
use countersign_tests::{Node, Plan, eventually};
use futures_util::StreamExt as _;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

/// Writes a fresh certificate for `localhost` and its key.
fn certify(folder: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    // A node may look between the two writes; it keeps the old pair until both fit.
    std::fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
    cert.der().clone()
}

/// Connects, trusting this certificate alone.
async fn connect(port: u16, trusted: &CertificateDer<'static>) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), tcp).await
}

/// The status line of a `GET`.
async fn status(port: u16, trusted: &CertificateDer<'static>, path: &str) -> std::io::Result<String> {
    let mut stream = connect(port, trusted).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = Vec::new();
    // The end without a TLS farewell is an error of its own, after everything was read.
    let _ = stream.read_to_end(&mut text).await;
    Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned())
}

fn start(plan: Plan) -> Node {
    let (cert, key) = (plan.folder().join("cert.pem"), plan.folder().join("key.pem"));
    let files = format!("cert_file = \"{}\"\nkey_file = \"{}\"", cert.display(), key.display());
    plan.toml(&format!("[server.tls]\n{files}\n[server.admin_tls]\n{files}")).start()
}

#[tokio::test]
async fn both_listeners_speak_tls_and_take_a_new_certificate() {
    let plan = Plan::new();
    let folder = plan.folder().to_owned();
    let first = certify(&folder);
    let node = start(plan);
    assert!(node.printed().iter().all(|line| line.contains("https://")), "{:?}", node.printed());
    let (gateway, admin) = (node.gateway.port(), node.admin.port());
    assert_eq!(status(gateway, &first, "/authorize").await.unwrap(), "HTTP/1.1 401 Unauthorized");
    assert_eq!(status(admin, &first, "/health/ready").await.unwrap(), "HTTP/1.1 200 OK");

    let mut request = format!("wss://localhost:{gateway}/ws").into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("origin", format!("https://localhost:{gateway}").parse().unwrap());
    headers.insert("sec-websocket-protocol", NATIVE.parse().unwrap());
    let (mut socket, _) = client_async(request, connect(gateway, &first).await.unwrap()).await.expect("a socket over TLS");
    let welcome = socket.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(welcome.contains("welcome"), "{welcome}");

    let second = certify(&folder);
    eventually("the new certificate is served on both", || async {
        let public = status(gateway, &second, "/authorize").await.ok()?;
        let private = status(admin, &second, "/health/ready").await.ok()?;
        (!public.is_empty() && !private.is_empty()).then_some(())
    })
    .await;
    assert!(connect(gateway, &first).await.is_err(), "the old one is gone");
}

#[tokio::test]
async fn plain_text_to_a_tls_listener_harms_nobody() {
    let plan = Plan::new();
    let trusted = certify(plan.folder());
    let node = start(plan);
    let mut plain = TcpStream::connect(node.gateway).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "no plain answer");
    assert_eq!(status(node.gateway.port(), &trusted, "/authorize").await.unwrap(), "HTTP/1.1 401 Unauthorized");
}
