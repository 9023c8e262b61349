//! Faults that challenges of this kind have had, each under the name of the fault, as far as they show from outside. The others
//! are in [`crate::domain_security`], in `broker/src/challenge/regressions.rs` and beside the code that they are about.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use countersign_tests::binding::{PageKey, proof_header};
use countersign_tests::browser::Browser;
use countersign_tests::http;
use countersign_tests::pages::{Page, Port};
use countersign_tests::poll::PATIENCE;
use countersign_tests::socket::{Dial, NATIVE, Socket};
use countersign_tests::tokens::Issuer;
use countersign_tests::{Node, Plan, within};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

/// On loopback.
const CHALLENGED_WITHIN: Duration = Duration::from_millis(5);

/// The fastest of many: slower ones tell of the machine, the fastest of a pause that the node makes. They are so many on a busy
/// machine only.
#[tokio::test]
async fn no_fixed_sleep() {
    let node = Node::start("");
    let mut fastest = Duration::MAX;
    for _ in 0..2_000 {
        if fastest < CHALLENGED_WITHIN {
            break;
        }
        let mut socket = Dial::page(&node).welcomed().await;
        let asked = Instant::now();
        socket.challenge().await;
        fastest = fastest.min(asked.elapsed());
    }
    eprintln!("from hello to challenge: {fastest:?} at best");
    assert!(fastest < CHALLENGED_WITHIN, "{fastest:?}");
}

/// Connections, and how many of them arrive at once.
const ARRIVALS: usize = 10_000;
const AT_ONCE: usize = 64;

#[tokio::test]
async fn record_before_challenge() {
    // They come from one network and leave without an answer, which is more than a network may do.
    let node = Node::start("challenge = { failures_per_network_per_minute = 0, failures_per_origin_per_minute = 0 }");
    let arrive = async |_| {
        let mut socket = Dial::page(&node).welcomed().await;
        let challenge = socket.challenge().await;
        // It is there by the time its challenge is: known, and not verified.
        let known = node.authorize(&socket.id).await.json()["error"].clone();
        assert_eq!(known, "connection_unverified");
        [socket.id.clone(), challenge["challenge"].to_string(), challenge["nonce"].to_string()]
    };
    let arrivals: Vec<[String; 3]> =
        futures_util::stream::iter(0..ARRIVALS).map(arrive).buffer_unordered(AT_ONCE).collect().await;
    for (place, what) in ["connection", "challenge", "nonce"].into_iter().enumerate() {
        let distinct: HashSet<&String> = arrivals.iter().map(|arrival| &arrival[place]).collect();
        assert_eq!(distinct.len(), ARRIVALS, "a {what} came twice");
    }
}

#[tokio::test]
async fn no_secrets_in_logs() {
    const PASSWORD: &str = "Correct horse 1";
    let issuer = Issuer::new();
    let settings = r#"
        [telemetry]
        log_filter = "trace"
        [identity.pool]
        enabled = true
        [gateway.token]
        from_query = "Authorizer"
        [[channels]]
        pattern = "room"
        subscribe = "verified"
        publish = "verified"
        [[protected]]
        path = "/greeting"
        require = "both"
        body = { greeting = "Hello" }
    "#;
    let plan = Plan::new().toml(&issuer.settings()).toml(settings);
    let added = plan.cli(&["user", "add", "ada", "--password-stdin", "--permanent"], PASSWORD);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let node = plan.start();
    let mut secrets = vec![PASSWORD.to_owned(), node.api_key()];

    // The user pool: tokens that open sockets, and such as open nothing any more.
    let signed_in = http::post(&node.url("/auth"), &json!({ "user": "ada", "password": PASSWORD })).send().await.json();
    collect(&signed_in, &mut secrets);
    let wrong = json!({ "user": "ada", "password": "Wrong battery staple 2" });
    assert_eq!(http::post(&node.url("/auth"), &wrong).send().await.status, 401);
    collect(&wrong, &mut secrets);
    let body = json!({ "user": "ada", "refresh": signed_in["refresh"] });
    collect(&http::post(&node.url("/auth/refresh"), &body).send().await.json(), &mut secrets);

    // The whole life of a connection, with a token by each way; and calls in its name.
    let token = issuer.token("ada", 600);
    let by_protocol = format!("countersign.token.{token}");
    for dial in [Dial::page(&node).bearer(&token), Dial::page(&node).protocol(&by_protocol)] {
        let mut socket = dial.welcomed().await;
        verify(&mut socket, &mut secrets).await;
        socket.ok("subscribe", json!({ "channel": "room" })).await;
        socket.ok("publish", json!({ "channel": "room", "data": "a secret among friends" })).await;
        let refreshed = issuer.token("ada", 900);
        secrets.push(refreshed.clone());
        socket.ok("refresh", json!({ "token": refreshed })).await;
        let call = http::get(&node.url("/greeting")).header("connectionId", &socket.id);
        let call = call.header("Authorization", &format!("Bearer {token}")).header("Origin", &node.origin());
        collect(&call.send().await.json(), &mut secrets);
        node.authorize(&socket.id).await;
        let body = json!({ "connection": socket.id });
        let key = node.api_key();
        http::post(&node.admin_url("/api/v1/disconnect"), &body).header("X-API-Key", &key).send().await;
        socket.end().await;
    }
    secrets.extend([token.clone(), "a secret among friends".to_owned()]);
    call_with_proofs(&node, &token, &mut secrets).await;

    // What fails is logged more than what does not.
    let mut wrong = Dial::page(&node).query("Authorizer", &token).welcomed().await;
    let challenge = wrong.challenge().await;
    let mut claim = wrong.answer(&challenge);
    claim["origin"] = json!("https://elsewhere.example");
    collect(&challenge, &mut secrets);
    collect(&claim, &mut secrets);
    secrets.push(wrong.id.clone());
    wrong.ask_and_forget("answer", claim).await;
    assert_eq!(wrong.close_code().await, 4403);
    let forged = format!("{}AAAAAA", &token[..token.len() - 6]);
    assert_eq!(Dial::page(&node).bearer(&forged).try_open().await.expect_err("forged").status, 401);
    secrets.push(forged);
    node.metric_reaches("countersign_connections", &[], 0.0).await;

    let log = node.log();
    assert!(log.contains("TRACE") && log.contains("another origin than the handshake"), "the log says little:\n{log}");
    for secret in secrets {
        let found = log.lines().find(|line| line.contains(&secret));
        assert_eq!(found, None, "{secret} is in the log");
    }
}

/// Answers a challenge, and keeps everything that went either way.
async fn verify(socket: &mut Socket, secrets: &mut Vec<String>) {
    let challenge = socket.challenge().await;
    let right = socket.answer(&challenge);
    secrets.push(socket.id.clone());
    collect(&challenge, secrets);
    collect(&right, secrets);
    socket.ok("answer", right).await;
    socket.event("verified").await;
}

/// A connection whose calls show tickets and proofs: a good one, the same again, and a wrong one.
async fn call_with_proofs(node: &Node, token: &str, secrets: &mut Vec<String>) {
    let mut socket = Dial::page(node).bearer(token).welcomed().await;
    let mut hello = socket.hello();
    hello["mode"] = json!("proof");
    socket.ok("hello", hello).await;
    let challenge = socket.event("challenge").await;
    socket.ok("answer", socket.answer(&challenge)).await;
    let pushed = socket.event("ticket").await;
    collect(&pushed, secrets);
    let (ticket, nonce) = (pushed["ticket"].as_str().expect("a ticket"), pushed["nonce"].as_str().expect("a nonce"));
    let (own, other) = (&socket.key, &PageKey::new());
    let target = format!("{}/greeting", node.gateway);
    for (key, counter, status) in [(own, 1, 200), (own, 1, 401), (other, 2, 401)] {
        let proof = proof_header(key, ("GET", &target), ticket, counter, nonce);
        let call = http::get(&node.url("/greeting")).header("Authorization", &format!("Bearer {token}"));
        let call = call.header("Countersign-Ticket", ticket).header("Countersign-Proof", &proof);
        assert_eq!(call.send().await.status, status, "{counter}");
        secrets.extend(proof.rsplit('.').next().map(str::to_owned));
    }
    secrets.push(socket.id.clone());
}

/// Every text in a message that is long enough to be a secret: ids, nonces, MACs, signatures, tokens; and of a printed program
/// its longest piece that no log would have to escape.
fn collect(message: &Value, secrets: &mut Vec<String>) {
    match message {
        Value::String(text) if !text.starts_with("http") => {
            let piece = text.split(['"', '\\', ' ']).max_by_key(|piece| piece.len()).unwrap_or_default();
            if piece.len() >= 20 {
                secrets.push(piece.to_owned());
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, secrets)),
        Value::Object(members) => members.values().for_each(|member| collect(member, secrets)),
        _ => {}
    }
}

/// A node that sends what no honest one would: a program as text, without a signature, to a client that offered bytecode.
async fn evil_node(listener: TcpListener) -> Vec<Value> {
    let (stream, _) = listener.accept().await.expect("the page connects");
    #[expect(clippy::result_large_err, reason = "the library's own type")]
    let chosen = |_: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        response.headers_mut().insert("sec-websocket-protocol", NATIVE.parse().expect("a header value"));
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, chosen).await.expect("a handshake");
    let nonce = "A".repeat(43);
    let id = "A".repeat(22);
    let welcome =
        json!({ "event": "welcome", "connectionId": id, "challenge": "required", "subject": null, "expiresAt": null });
    socket.send(Message::text(welcome.to_string())).await.expect("the page listens");
    let mut said = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let request: Value = serde_json::from_str(&text).expect("requests are JSON");
        if request["action"] == "hello" {
            let program = "function(){globalThis.ran=true;return{origin:location.origin,lanes:[1,2,3,4,5,6,7,8]}}";
            let challenge = json!({
                "event": "challenge", "challenge": id, "epoch": 0, "form": "source", "nonce": nonce, "program": program,
                "answerMs": 10_000, "mode": "bearer",
            });
            for frame in [json!({ "id": request["id"], "ok": {} }), challenge] {
                // The page may have left already.
                let _ = socket.send(Message::text(frame.to_string())).await;
            }
        }
        said.push(request);
    }
    said
}

#[tokio::test]
async fn no_eval_by_default() {
    let node = Node::start("");
    let list = http::get(&node.url("/sdk/")).send().await.json();
    let bundles = list["files"].as_array().expect("files").iter().map(|file| file["path"].as_str().expect("a path"));
    // What a page loads by default; a plug-in that evaluates has a file of its own.
    for path in bundles.filter(|path| path.starts_with("/sdk/countersign.")) {
        let text = http::get(&node.url(path)).send().await.text();
        for word in ["eval(", "Function(", "setTimeout(\"", "import(", "createElement(", "Worker("] {
            let whole = |at: usize| !text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '.');
            assert!(!text.match_indices(word).any(|(at, _)| whole(at)), "{path} has {word}");
        }
    }
    // In a page that would be allowed to evaluate, by a node that wants it to.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let evil = format!("http://localhost:{}", listener.local_addr().expect("an address").port());
    let said = tokio::spawn(evil_node(listener));
    let html = format!(
        "<!doctype html><link rel=icon href=data:,><script src={}></script><script>\
         const connection = countersign.connect('{evil}/ws', {{ reconnect: false }});\
         connection.closed.then((error) => {{ globalThis.end = error.code }})</script>",
        node.url("/sdk/countersign.global.js")
    );
    let page = Page::serve(Port::reserve(), html);
    let browser = Browser::start().await;
    browser.goto(&format!("{}/", page.origin())).await;
    assert_eq!(browser.until("the client gives up", "return globalThis.end").await, "challenge_unsupported");
    assert_eq!(browser.script("return globalThis.ran ?? null").await, Value::Null, "it ran");
    let said = within(PATIENCE, "the socket ends", said).await.expect("the node's part");
    assert!(said.iter().all(|request| request["action"] != "answer"), "{said:?}");
    assert!(said[0]["forms"].as_array().is_some_and(|forms| !forms.contains(&json!("source"))), "{said:?}");
}
