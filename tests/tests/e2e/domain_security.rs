//! Domain security: a page proves through its socket where it runs, then calls with its connection id.
//!
//! The page here is of another origin than the node, runs in a real browser, and does exactly what that system's client
//! does, `eval` included. What its server did wrong is a regression test each, over raw messages.

use countersign_tests::browser::Browser;
use countersign_tests::http::{self, Request};
use countersign_tests::pages::{Page, Port};
use countersign_tests::socket::{Dial, Incoming, Socket};
use countersign_tests::solver::solve;
use countersign_tests::{Node, Plan, eventually};
use serde_json::{Value, json};

/// The origin that the example allows.
const ORIGIN: &str = "http://localhost:3000";

fn start() -> Node {
    Plan::example("domain-security.toml").start()
}

/// That client, on a page of [`ORIGIN`], up to the moment before it answers.
struct Visitor {
    socket: Socket,
    id: String,
    token: Value,
    index: Value,
    result: Value,
}

impl Visitor {
    async fn arrive(node: &Node) -> Self {
        let mut socket = Dial::to(node).origin(ORIGIN).open().await;
        let echo = socket.next_text().await;
        let id = echo.strip_prefix("Echo: ").expect("the connection id first").to_owned();
        let executable = socket.next_text().await;
        assert!(executable.contains("function"), "that is how the client knows it: {executable}");
        let executable: Value = serde_json::from_str(&executable).unwrap();
        let result = solve(executable["func"].as_str().unwrap(), ORIGIN);
        assert!(executable["func"].as_str().unwrap().starts_with("function("), "an anonymous function");
        Self { socket, id, token: executable["token"].clone(), index: executable["index"].clone(), result }
    }

    /// The right answer.
    fn answer(&self) -> Value {
        let mut message = self.result.clone();
        message["index"] = self.index.clone();
        json!({ "action": "OnMessage", "msg": message, "token": self.token })
    }
}

async fn greeting(node: &Node, id: &str) -> http::Response {
    http::get(&node.url("/greeting")).header("connectionId", id).header("Origin", ORIGIN).send().await
}

async fn becomes_verified(node: &Node, id: &str) {
    eventually("the connection is verified", || async { (greeting(node, id).await.status == 200).then_some(()) }).await;
}

/// Answers wrongly; the socket must close and the id must open nothing.
async fn check_refused(node: &Node, what: &str, change: impl Fn(&mut Value)) {
    let mut visitor = Visitor::arrive(node).await;
    let mut answer = visitor.answer();
    change(&mut answer);
    visitor.socket.json(&answer).await;
    let end = visitor.socket.end().await;
    assert!(matches!(end, Incoming::Closed(Some(4403), _)), "{what}: {end:?}");
    assert_eq!(greeting(node, &visitor.id).await.status, 401, "{what}");
}

/// Changes every part of an answer that says what the program computed.
fn spoil(message: &mut Value) {
    message["key"] = json!("0".repeat(64));
    message["lanes"] = json!([0, 0, 0, 0, 0, 0, 0, 0]);
}

/// The page: the client's algorithm, with what it sees put where a test can read it.
fn page(node: &Node) -> String {
    format!(
        r#"<!doctype html><html lang="en"><title>A page of another origin</title><pre id="log"></pre><script>
const seen = {{ id: null, texts: [], answered: false, closed: null, calls: [] }};
window.seen = seen;
const keys = () => ({{ keys: ['a', 'b', 'c'] }});
const socket = new WebSocket('ws://{authority}/ws');
socket.onmessage = ({{ data }}) => {{
  seen.texts.push(data);
  if (data.includes('function')) {{
    const message = JSON.parse(data);
    const result = eval('(' + message.func + ')')(keys);
    result.index = message.index;
    socket.send(JSON.stringify({{ action: 'OnMessage', msg: result, token: message.token }}));
    seen.answered = true;
  }} else {{
    seen.id = data.split(' ')[1];
  }}
}};
socket.onclose = ({{ code }}) => {{ seen.closed = code; }};
window.call = () => {{
  fetch('http://{authority}/greeting', {{ headers: {{ connectionId: seen.id }} }})
    .then(async (response) => seen.calls.push({{ status: response.status, body: await response.text() }}))
    .catch((error) => seen.calls.push({{ status: 0, body: String(error) }}));
}};
window.leave = () => socket.close();
</script></html>"#,
        authority = node.gateway
    )
}

/// Calls from the page and waits for the answer.
async fn call_from(browser: &Browser) -> Value {
    let before = browser.script("return seen.calls.length").await.as_u64().unwrap();
    browser.script("call()").await;
    browser.until("the page's call is answered", &format!("return seen.calls[{before}] || null")).await
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_is_verified_and_calls_until_it_leaves() {
    // A port of its own instead of 3000, which another run may hold.
    let port = Port::reserve();
    let settings = format!("[gateway]\nallowed_origins = [\"{}\"]", port.origin());
    let node = Plan::example("domain-security.toml").toml(&settings).start();
    let page = Page::serve(port, page(&node));
    let browser = Browser::start().await;
    browser.goto(&format!("{}/", page.origin())).await;
    let id = browser.until("the connection id", "return seen.id").await;
    browser.until("the answer is sent", "return seen.answered").await;
    becomes_verified(&node, id.as_str().unwrap()).await;
    let called = call_from(&browser).await;
    assert_eq!(called["status"], 200, "{called}");
    let body: Value = serde_json::from_str(called["body"].as_str().unwrap()).unwrap();
    assert_eq!(body, json!({ "greeting": "Hello, World!" }));
    assert_eq!(browser.script("return seen.id").await, id, "nothing else was taken for a connection id");
    assert_eq!(browser.script("return seen.closed").await, Value::Null);
    browser.script("leave()").await;
    browser.until("the socket is closed", "return seen.closed").await;
    let refused = call_from(&browser).await;
    assert_eq!(refused["status"], 401, "and the page may read that: {refused}");

    // The same page under another origin is not let in.
    browser.goto(&format!("{}/", page.other_origin())).await;
    browser.until("the socket is refused", "return seen.closed").await;
    assert_eq!(browser.script("return seen.texts.length").await, 0);
    let blocked = call_from(&browser).await;
    assert_eq!(blocked["status"], 0, "its preflight fails: {blocked}");
}

#[tokio::test]
async fn every_step_of_the_wire() {
    let node = start();
    let mut visitor = Visitor::arrive(&node).await;
    assert_eq!(visitor.id.len(), 22);
    assert!(visitor.token.is_string() && visitor.index.is_u64());
    assert!(visitor.result["key"].is_string() && visitor.result["domain"] == "localhost", "{}", visitor.result);
    assert_eq!(greeting(&node, &visitor.id).await.status, 401, "not yet");
    visitor.socket.json(&visitor.answer()).await;
    becomes_verified(&node, &visitor.id).await;
    let greeted = greeting(&node, &visitor.id).await;
    assert_eq!(greeted.json(), json!({ "greeting": "Hello, World!" }));
    assert_eq!(greeted.header("access-control-allow-origin"), Some(ORIGIN));
    visitor.socket.close().await;
    let gone = greeting(&node, &visitor.id).await;
    assert_eq!(gone.status, 401);
    assert_eq!(gone.header("access-control-allow-origin"), Some(ORIGIN), "a page may read why");
}

#[tokio::test]
async fn preflight_names_the_header_for_allowed_origins_only() {
    let node = start();
    let preflight = async |origin: &str| {
        Request::new("OPTIONS", &node.url("/greeting"))
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "GET")
            .header("Access-Control-Request-Headers", "connectionid")
            .send()
            .await
    };
    let allowed = preflight(ORIGIN).await;
    assert!(matches!(allowed.status, 200 | 204), "{}", allowed.status);
    assert_eq!(allowed.header("access-control-allow-origin"), Some(ORIGIN));
    let headers = allowed.header("access-control-allow-headers").unwrap().to_ascii_lowercase();
    assert!(headers.split(',').any(|name| name.trim() == "connectionid"), "{headers}");
    assert_eq!(preflight("http://localhost:3001").await.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn client_chooses_question() {
    let node = start();
    for index in [json!(0), json!(-1), json!(9), json!(1e300), json!("constructor"), json!("__proto__"), Value::Null] {
        check_refused(&node, &format!("index {index}"), |answer| {
            spoil(&mut answer["msg"]);
            answer["msg"]["index"] = index.clone();
        })
        .await;
    }
    // Nor does a right answer depend on what the client says of it.
    let mut visitor = Visitor::arrive(&node).await;
    let mut answer = visitor.answer();
    answer["msg"]["index"] = json!(4_242);
    visitor.socket.json(&answer).await;
    becomes_verified(&node, &visitor.id).await;
}

#[tokio::test]
async fn absence_is_not_equality() {
    let node = start();
    for (what, message) in [
        ("nothing", json!({})),
        ("null", json!({ "domain": null, "key": null, "origin": null, "lanes": null, "index": null })),
        ("undefined", json!({ "domain": "undefined", "key": "undefined" })),
        ("empty", json!({ "domain": "", "key": "", "origin": "", "lanes": [] })),
        ("other types", json!({ "domain": 1, "key": [], "origin": {}, "lanes": "1" })),
    ] {
        check_refused(&node, what, |answer| answer["msg"] = message.clone()).await;
    }
    for message in [Value::Null, json!([]), json!("text"), json!(1)] {
        check_refused(&node, "no object", |answer| answer["msg"] = message.clone()).await;
    }
}

#[tokio::test]
async fn origin_is_checked() {
    let node = start();
    let refusal = Dial::to(&node).origin("http://evil.example").try_open().await.expect_err("not on the list");
    assert_eq!(refusal.status, 403);
    check_refused(&node, "a claimed domain of another site", |answer| {
        answer["msg"]["domain"] = json!("evil.example");
        answer["msg"]["origin"] = json!("http://evil.example");
    })
    .await;
    check_refused(&node, "a claimed domain alone", |answer| answer["msg"]["domain"] = json!("evil.example")).await;
}

#[tokio::test]
async fn scheme_and_port_count() {
    let node = start();
    for origin in ["https://localhost:3000", "http://localhost:3001", "http://localhost"] {
        assert_eq!(Dial::to(&node).origin(origin).try_open().await.expect_err(origin).status, 403);
        check_refused(&node, origin, |answer| answer["msg"]["origin"] = json!(origin)).await;
    }
}

#[tokio::test]
async fn a_program_run_elsewhere_computes_something_else() {
    let node = start();
    let mut socket = Dial::to(&node).origin(ORIGIN).open().await;
    let id = socket.next_text().await.split_once(' ').unwrap().1.to_owned();
    let executable = socket.next_json().await;
    let mut message = solve(executable["func"].as_str().unwrap(), "http://evil.example");
    message["origin"] = json!(ORIGIN);
    message["domain"] = json!("localhost");
    socket.json(&json!({ "action": "OnMessage", "msg": message, "token": executable["token"] })).await;
    assert_eq!(socket.close_code().await, 4403);
    assert_eq!(greeting(&node, &id).await.status, 401);
}

#[tokio::test]
async fn deadline_enforced() {
    let node = Plan::example("domain-security.toml").toml("[challenge]\nanswer_timeout_ms = 2000").start();
    let mut visitor = Visitor::arrive(&node).await;
    assert_eq!(visitor.socket.close_code().await, 4408);
    assert_eq!(greeting(&node, &visitor.id).await.status, 401);
}

#[tokio::test]
async fn answer_bound_to_socket() {
    let node = start();
    let first = Visitor::arrive(&node).await;
    let mut second = Visitor::arrive(&node).await;
    second.socket.json(&first.answer()).await;
    assert_eq!(second.socket.close_code().await, 4403);
    assert_eq!(greeting(&node, &first.id).await.status, 401);
    assert_eq!(greeting(&node, &second.id).await.status, 401);
}

#[tokio::test]
async fn no_zombie_verified() {
    let node = start();
    let mut ids = Vec::new();
    for round in 0..40 {
        let mut visitor = Visitor::arrive(&node).await;
        visitor.socket.json(&visitor.answer()).await;
        let id = visitor.id.clone();
        if round % 2 == 0 {
            assert!(matches!(visitor.socket.close().await, Incoming::Closed(..)));
            assert_eq!(greeting(&node, &id).await.status, 401, "round {round}");
        } else {
            drop(visitor);
        }
        ids.push(id);
    }
    node.metric_reaches("countersign_connections", &[], 0.0).await;
    for id in ids {
        assert_eq!(greeting(&node, &id).await.status, 401);
    }
}

#[tokio::test]
async fn visitors_at_once_have_a_connection_and_a_challenge_each() {
    let node = start();
    let visitors = futures_util::future::join_all((0..50).map(|_| Visitor::arrive(&node))).await;
    let mut ids: Vec<&str> = visitors.iter().map(|visitor| visitor.id.as_str()).collect();
    let mut keys: Vec<String> = visitors.iter().map(|visitor| visitor.result["key"].to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!((ids.len(), keys.len()), (50, 50), "one connection and one challenge each");
    for mut visitor in visitors {
        let answer = visitor.answer();
        visitor.socket.json(&answer).await;
        becomes_verified(&node, &visitor.id).await;
    }
}

#[tokio::test]
async fn revocation_bound() {
    let node = start();
    for _ in 0..20 {
        let mut visitor = Visitor::arrive(&node).await;
        let answer = visitor.answer();
        visitor.socket.json(&answer).await;
        becomes_verified(&node, &visitor.id).await;
        assert_eq!(node.authorize(&visitor.id).await.status, 200, "remembered, as a proxy's calls would be");
        visitor.socket.close().await;
        assert_eq!(node.authorize(&visitor.id).await.status, 401, "the very next call");
        assert_eq!(greeting(&node, &visitor.id).await.status, 401);
    }
}

#[tokio::test]
async fn failure_has_effect() {
    let node = start();
    check_refused(&node, "a wrong key", |answer| spoil(&mut answer["msg"])).await;
    node.metric_reaches("countersign_connections", &[], 0.0).await;
}

#[tokio::test]
async fn no_public_secret() {
    let node = start();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..30 {
        let visitor = Visitor::arrive(&node).await;
        assert!(seen.insert(visitor.result["key"].to_string()), "a challenge came twice");
    }
}
