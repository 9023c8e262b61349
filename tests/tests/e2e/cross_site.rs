//! Other sites: what a handshake with any other `Origin` gets, to the letter, and what an evil page in a real browser can do.
//!
//! A program that is no browser can send any `Origin` it likes; see the threat model. A page cannot.

use countersign_tests::browser::Browser;
use countersign_tests::pages::{Page, Port};
use countersign_tests::raw::{exchange, fresh_key};
use countersign_tests::socket::{Dial, NATIVE};
use countersign_tests::{Node, Plan, http};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// The one listed origin has everything that another could lack: a name with a non-ASCII letter in it, and a port.
const LISTED: &str = "https://xn--bcher-kva.example:8443";

const UNLISTED: &str = "this origin is not in gateway.allowed_origins, which scheme, host and port must match exactly";
const MISSING: &str = "no Origin was sent: browsers send theirs, programs without one are let in by gateway.missing_origin";
const NULL: &str = "the Origin is null, as in sandboxed frames and local files: gateway.null_origin lets it in";

/// Status and body of a handshake with these `Origin` fields, in this order.
async fn shake(node: &Node, origins: &[&str]) -> (u16, Value) {
    let key = fresh_key();
    let mut fields = vec![
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", &key),
        ("Sec-WebSocket-Protocol", NATIVE),
    ];
    fields.extend(origins.iter().map(|origin| ("Origin", *origin)));
    let mut stream = TcpStream::connect(node.gateway).await.expect("the node listens");
    let mut head = exchange(&mut stream, "GET /ws HTTP/1.1", &fields).await;
    if head.status == 101 {
        return (101, Value::Null);
    }
    assert_eq!(http::find(&head.headers, "access-control-allow-origin"), None, "{origins:?} may read nothing");
    let length: usize = http::find(&head.headers, "content-length").expect("a length").parse().expect("a number");
    while head.rest.len() < length {
        assert_ne!(stream.read_buf(&mut head.rest).await.expect("the body"), 0, "{origins:?}: the body ends early");
    }
    (head.status, serde_json::from_slice(&head.rest).expect("a refusal is JSON"))
}

fn refusal(message: &str) -> (u16, Value) {
    (403, json!({ "error": "origin_refused", "message": message }))
}

#[tokio::test]
async fn every_origin_but_the_listed_one_gets_its_exact_refusal() {
    let node = Node::start(&format!("[gateway]\nallow_own_origin = false\nallowed_origins = [\"{LISTED}\"]"));
    assert_eq!(shake(&node, &[LISTED]).await, (101, Value::Null));
    let own = node.origin();
    let cases: &[(&str, &[&str], &str)] = &[
        ("missing", &[], MISSING),
        ("null", &["null"], NULL),
        ("NULL", &["NULL"], UNLISTED),
        ("empty", &[""], UNLISTED),
        ("twice the same", &[LISTED, LISTED], UNLISTED),
        ("listed, then evil", &[LISTED, "https://evil.example"], UNLISTED),
        ("evil, then listed", &["https://evil.example", LISTED], UNLISTED),
        ("null, then listed", &["null", LISTED], UNLISTED),
        ("two in one field", &["https://xn--bcher-kva.example:8443, https://evil.example"], UNLISTED),
        ("two in one field, as redirects had it", &["https://xn--bcher-kva.example:8443 https://evil.example"], UNLISTED),
        ("listed name as a suffix", &["https://evil-xn--bcher-kva.example:8443"], UNLISTED),
        ("a name below it", &["https://www.xn--bcher-kva.example:8443"], UNLISTED),
        ("listed name as a prefix", &["https://xn--bcher-kva.example.evil.example:8443"], UNLISTED),
        ("the listed origin as a prefix", &["https://xn--bcher-kva.example:84430"], UNLISTED),
        ("cut short", &["https://xn--bcher-kva.example:844"], UNLISTED),
        ("the name above it", &["https://example:8443"], UNLISTED),
        ("another port", &["https://xn--bcher-kva.example:8444"], UNLISTED),
        ("no port", &["https://xn--bcher-kva.example"], UNLISTED),
        ("the scheme's own port", &["https://xn--bcher-kva.example:443"], UNLISTED),
        ("a port with a zero before it", &["https://xn--bcher-kva.example:08443"], UNLISTED),
        ("another scheme", &["http://xn--bcher-kva.example:8443"], UNLISTED),
        ("the socket's scheme", &["wss://xn--bcher-kva.example:8443"], UNLISTED),
        ("no scheme", &["xn--bcher-kva.example:8443"], UNLISTED),
        ("capitals in the host", &["https://XN--BCHER-KVA.example:8443"], UNLISTED),
        ("capitals in the scheme", &["HTTPS://xn--bcher-kva.example:8443"], UNLISTED),
        ("the name as people read it", &["https://bücher.example:8443"], UNLISTED),
        ("the same, decomposed", &["https://bu\u{308}cher.example:8443"], UNLISTED),
        ("without the umlaut", &["https://bucher.example:8443"], UNLISTED),
        ("percent-encoded", &["https://b%C3%BCcher.example:8443"], UNLISTED),
        ("a trailing dot", &["https://xn--bcher-kva.example.:8443"], UNLISTED),
        ("a user", &["https://user@xn--bcher-kva.example:8443"], UNLISTED),
        ("the listed name as a user", &["https://xn--bcher-kva.example:8443@evil.example"], UNLISTED),
        ("a path", &["https://xn--bcher-kva.example:8443/"], UNLISTED),
        ("a fragment", &["https://evil.example#xn--bcher-kva.example:8443"], UNLISTED),
        ("the node's own, which is off the list", &[&own], UNLISTED),
        ("a local file", &["file://"], UNLISTED),
        ("an extension", &["chrome-extension://abcdefghijklmnop"], UNLISTED),
    ];
    for (what, origins, message) in cases {
        assert_eq!(shake(&node, origins).await, refusal(message), "{what}");
    }
    // White space around a field's value is no part of it (RFC 9110, section 5.5).
    assert_eq!(shake(&node, &[&format!("  {LISTED}\t ")]).await.0, 101);
    node.metric_reaches("countersign_handshakes_total", &[("outcome", "origin_refused")], cases.len() as f64).await;
}

#[tokio::test]
async fn a_list_is_written_as_browsers_write_origins_or_not_at_all() {
    for (given, canonical) in [
        ("https://bücher.example:8443", Some(LISTED)),
        ("https://XN--BCHER-KVA.example:8443", Some(LISTED)),
        ("https://app.example:443", Some("https://app.example")),
        ("https://app.example/", Some("https://app.example")),
        ("https://user@app.example", Some("https://app.example")),
        ("*", None),
        ("https://*.example", None),
        ("null", None),
    ] {
        let plan = Plan::new().toml(&format!("[gateway]\nallowed_origins = [\"{given}\"]"));
        let mut check = plan.command(&["config", "check"]);
        let output = check.output().expect("the command runs");
        assert_eq!(output.status.code(), Some(64), "{given}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("gateway.allowed_origins"), "{given}: {said}");
        assert!(canonical.is_none_or(|canonical| said.contains(&format!("write `{canonical}`"))), "{given}: {said}");
    }
}

/// What an evil page tries; each result is said in one word.
const TRIES: &str = r#"
    const tried = {};
    globalThis.tried = tried;
    const opened = (url, protocols) => new Promise((done) => {
        const socket = new WebSocket(url, protocols);
        socket.onopen = () => done('open');
        socket.onmessage = () => done('message');
        socket.onclose = ({ code }) => done(`closed ${code}`);
    });
    const called = (url, init) => fetch(url, init).then((response) => `${response.type} ${response.status}`, (error) => error.name);
    const framed = (url) => new Promise((done) => {
        const frame = document.createElement('iframe');
        frame.onload = () => done('loaded');
        frame.src = url;
        document.body.append(frame);
    });
    const sandboxed = () => new Promise((done) => {
        const frame = document.createElement('iframe');
        frame.sandbox = 'allow-scripts';
        addEventListener('message', ({ origin, data }) => done(`${origin} ${data}`));
        frame.srcdoc = `<script>const socket = new WebSocket('${WS}', 'countersign.v1');
            socket.onopen = () => parent.postMessage('open', '*');
            socket.onclose = ({ code }) => parent.postMessage('closed ' + code, '*');<\/script>`;
        document.body.append(frame);
    });
    const attack = async () => {
        tried.native = await opened(WS, 'countersign.v1');
        tried.plain = await opened(WS);
        tried.sandboxed = await sandboxed();
        tried.stolen = await called(HTTP + '/greeting', { headers: { connectionId: STOLEN } });
        tried.guessed = await called(HTTP + '/greeting', { headers: { connectionId: 'A'.repeat(22) } });
        tried.withCookies = await called(HTTP + '/greeting', { headers: { connectionId: STOLEN }, credentials: 'include' });
        tried.noCors = await called(HTTP + '/greeting', { headers: { connectionId: STOLEN }, mode: 'no-cors' });
        tried.inQuery = await called(HTTP + '/greeting?connectionId=' + STOLEN, { mode: 'no-cors' });
        tried.form = await called(HTTP + '/greeting', { method: 'POST', body: 'connectionId=' + STOLEN, mode: 'no-cors',
            headers: { 'content-type': 'application/x-www-form-urlencoded' } });
        tried.framed = await framed(HTTP + '/');
        tried.done = true;
    };
    attack().catch((error) => { tried.fault = String(error); tried.done = true });
"#;

/// The honest page keeps its socket open; the evil one is at the same port under another name, and knows its connection id.
#[tokio::test]
async fn an_evil_page_gets_nowhere() {
    let port = Port::reserve();
    let node = Node::start(&format!(
        r#"
        [server]
        demo_page = true
        [gateway]
        allowed_origins = ["{}"]
        [[protected]]
        path = "/greeting"
        require = "verified"
        body = {{ greeting = "Hello" }}
        "#,
        port.origin()
    ));
    let victim = Dial::page(&node).verified().await;
    let (http, ws) = (node.origin(), node.origin().replace("http", "ws"));
    let script = format!("const HTTP = '{http}', WS = '{ws}/ws', STOLEN = '{}';{TRIES}", victim.id);
    let page = Page::serve(port, format!("<!doctype html><link rel=icon href=data:,><body><script>{script}</script>"));
    let browser = Browser::start().await;
    let before = node.metrics().await.sum("countersign_decisions_total", &[("outcome", "allow")]);

    browser.goto(&format!("{}/", page.other_origin())).await;
    let tried = browser.until("the attack ends", "return globalThis.tried.done ? globalThis.tried : null").await;
    let expected = json!({
        "native": "closed 1006", "plain": "closed 1006", "sandboxed": "null closed 1006",
        // A preflight asks first, and is not allowed: the call itself is never made.
        "stolen": "TypeError", "guessed": "TypeError", "withCookies": "TypeError",
        // These are made, without the header, and are not to be read.
        "noCors": "opaque 0", "inQuery": "opaque 0", "form": "opaque 0",
        "framed": "loaded", "done": true,
    });
    assert_eq!(tried, expected);
    // What loaded in the frame is the browser's own page of error: the demo page may not be framed.
    let console = browser.console().await;
    assert!(console.iter().any(|line| line.contains("frame-ancestors")), "{console:?}");
    node.metric_reaches("countersign_handshakes_total", &[("outcome", "origin_refused")], 3.0).await;
    let after = node.metrics().await.sum("countersign_decisions_total", &[("outcome", "allow")]);
    assert_eq!(before.to_bits(), after.to_bits(), "some call of the evil page was allowed");

    // The same page under its listed name can do all of that, so it is the name that counted.
    browser.goto(&format!("{}/", page.origin())).await;
    let tried = browser.until("the page is done", "return globalThis.tried.done ? globalThis.tried : null").await;
    assert_eq!((&tried["native"], &tried["plain"]), (&json!("open"), &json!("open")));
    assert_eq!((&tried["sandboxed"], &tried["stolen"]), (&json!("null closed 1006"), &json!("cors 200")));
}
