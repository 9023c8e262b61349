//! The form `frame`: a page whose policy gives the node's code no place runs its program in a window of the node's, for which
//! the browser vouches; and nobody else gets anything out of that window.

use countersign_tests::browser::Browser;
use countersign_tests::pages::{Page, Port};
use countersign_tests::socket::{Dial, Incoming, Socket};
use countersign_tests::{Node, eventually, http};
use serde_json::{Value, json};

const NONCE: &str = "c3RyaWN0";

/// A node that lets pages of this origin in, and prefers the frame.
fn node_for(origin: &str) -> Node {
    Node::start(&format!(
        "[gateway]\nallowed_origins = [\"{origin}\"]\n[challenge]\nforms = [\"frame\", \"vm\"]\nanswer_timeout_ms = 10_000\n\
         [[protected]]\npath = \"/greeting\"\nrequire = \"verified\"\nbody = {{ greeting = \"Hello\" }}"
    ))
}

/// A page's own inline script, under a policy with its nonce and no other script, that may embed the node and talk to it.
fn strict(node: &Node, port: Port, script: &str) -> Page {
    let (http, ws) = (node.origin(), node.origin().replace("http", "ws"));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{NONCE}'; connect-src {http} {ws}; frame-src {http}; img-src data:; worker-src 'none'; \
         base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    );
    let html =
        format!("<!doctype html><link rel=icon href=data:,><body><script nonce={NONCE} type=module>{script}</script></body>");
    Page::under_policy(port, html, &policy)
}

/// What pages pin of a node.
fn pins(node: &Node) -> Value {
    serde_json::from_slice(&node.cli(&["keys", "pins", "--json"], "").stdout).unwrap()
}

/// A client that offers the frame, and its challenge.
async fn challenged(node: &Node) -> (Socket, Value) {
    let mut socket = Dial::page(node).welcomed().await;
    let mut hello = socket.hello();
    hello["forms"] = json!(["frame"]);
    socket.ok("hello", hello).await;
    let challenge = socket.event("challenge").await;
    assert_eq!(challenge["form"], "frame");
    (socket, challenge)
}

fn program_of(node: &Node, challenge: &Value) -> http::Request {
    http::get(&node.url(&format!("/challenge/program/{}", challenge["program"].as_str().unwrap())))
}

#[tokio::test]
async fn a_page_that_may_not_change_its_policy_is_verified_in_the_frame() {
    let browser = Browser::start().await;
    let port = Port::reserve();
    let node = node_for(&port.origin());
    let (here, pins) = (node.origin(), pins(&node));
    let script = format!(
        "import {{ connect }} from '{here}/sdk/countersign.js';\
         import {{ frame }} from '{here}/sdk/frame.js';\
         const seen = {{}}; globalThis.seen = seen;\
         const connection = connect('{here}/ws', {{ pins: {pins}, forms: [frame('{here}/challenge/frame')], reconnect: false }});\
         connection.on('challenge', ({{ form }}) => {{ seen.form = form }});\
         connection.closed.then((error) => {{ seen.end = `${{error?.code}} ${{error?.message}}` }});\
         await connection.ready();\
         const response = await connection.fetch('{here}/greeting');\
         Object.assign(seen, {{ state: connection.state, status: response.status, end: 'told' }});"
    );
    let page = strict(&node, port, &script);
    browser.goto(&format!("{}/", page.origin())).await;
    browser.until("the page's story ends", "return globalThis.seen?.end").await;
    let seen = browser.script("return globalThis.seen").await;
    assert_eq!(seen, json!({ "form": "frame", "state": "verified", "status": 200, "end": "told" }));
    let console = browser.console().await;
    assert!(console.is_empty(), "{console:?}");
}

#[tokio::test]
async fn a_frame_that_the_page_took_away_is_made_anew_for_the_next_challenge() {
    let browser = Browser::start().await;
    let port = Port::reserve();
    let node = node_for(&port.origin());
    let (here, pins) = (node.origin(), pins(&node));
    // A connection, and another when the window is gone; one whose window goes while it loads.
    let script = format!(
        "import {{ connect }} from '{here}/sdk/countersign.js';\
         import {{ frame }} from '{here}/sdk/frame.js';\
         const seen = {{ states: [] }}; globalThis.seen = seen;\
         const forms = [frame('{here}/challenge/frame')];\
         const verify = async (meanwhile) => {{\
             const connection = connect('{here}/ws', {{ pins: {pins}, forms, reconnect: false }});\
             meanwhile?.();\
             await connection.ready();\
             seen.states.push(connection.state);\
             await connection.close();\
         }};\
         const windows = () => document.querySelectorAll('iframe');\
         const takeAway = () => windows().forEach((window) => window.remove());\
         try {{\
             await verify();\
             takeAway();\
             await verify();\
             takeAway();\
             await verify(() => {{\
                 const observer = new MutationObserver(() => {{ if (windows().length) {{ observer.disconnect(); takeAway() }} }});\
                 observer.observe(document, {{ childList: true, subtree: true }});\
             }});\
             seen.end = windows().length;\
         }} catch (error) {{ seen.end = `${{error.code}} ${{error.message}}` }}"
    );
    let page = strict(&node, port, &script);
    browser.goto(&format!("{}/", page.origin())).await;
    browser.until("the page's story ends", "return globalThis.seen?.end").await;
    let seen = browser.script("return globalThis.seen").await;
    assert_eq!(seen, json!({ "states": ["verified", "verified", "verified"], "end": 1 }));
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_embed_the_frame() {
    let browser = Browser::start().await;
    let port = Port::reserve();
    let node = node_for(&port.origin());
    let page = strict(
        &node,
        port,
        &format!(
            "document.body.append(Object.assign(document.createElement('iframe'), {{ src: '{}/challenge/frame' }}))",
            node.origin()
        ),
    );
    browser.goto(&format!("{}/", page.other_origin())).await;
    let told =
        eventually("the browser refuses", || async { Some(browser.console().await).filter(|console| !console.is_empty()) });
    let told = told.await;
    assert!(told.iter().any(|line| line.contains("frame-ancestors")), "{told:?}");
    browser.goto(&format!("{}/", page.origin())).await;
    browser.until("the listed page has it", "return document.querySelector('iframe') && window.frames.length === 1").await;
    let console = browser.console().await;
    assert!(console.is_empty(), "{console:?}");
}

#[tokio::test]
async fn a_program_is_fetched_once_and_not_after_its_challenge() {
    let node = Node::start("[challenge]\nforms = [\"frame\"]\nanswer_timeout_ms = 2_000\non_failure = \"stay_unverified\"");
    let (socket, challenge) = challenged(&node).await;
    assert!(
        socket.view().is_signed(&challenge, pins(&node)[0].as_str().unwrap()),
        "signed, though the page does not see the program"
    );
    let first = program_of(&node, &challenge).send().await;
    assert_eq!((first.status, first.header("cache-control")), (200, Some("no-store")));
    assert!(first.header("access-control-allow-origin").is_none());
    assert_eq!(program_of(&node, &challenge).send().await.status, 404);

    // An answer ends it, however wrong.
    let (mut socket, challenge) = challenged(&node).await;
    assert!(socket.ask("answer", json!({})).await["error"].is_object());
    assert_eq!(program_of(&node, &challenge).send().await.status, 404);
    // So does the socket's end.
    let (socket, challenge) = challenged(&node).await;
    assert!(matches!(socket.close().await, Incoming::Closed(..)));
    eventually("the program is gone", || async { (program_of(&node, &challenge).send().await.status == 404).then_some(()) })
        .await;
    // And time: this client fetches once it is told that it is late.
    let (mut socket, challenge) = challenged(&node).await;
    socket.event("challenge_failed").await;
    assert_eq!(program_of(&node, &challenge).send().await.status, 404);
}

#[tokio::test]
async fn a_page_can_neither_read_a_program_nor_use_it_up() {
    let browser = Browser::start().await;
    let port = Port::reserve();
    let node = node_for(&port.origin());
    // Even a listed one: programs are for the frame.
    let page = strict(&node, port, "");
    browser.goto(&format!("{}/", page.origin())).await;
    let (_socket, challenge) = challenged(&node).await;
    let url = node.url(&format!("/challenge/program/{}", challenge["program"].as_str().unwrap()));
    browser
        .script(&format!(
            "for (const mode of ['cors', 'no-cors']) fetch('{url}', {{ mode }}).then(({{ status }}) => status, ({{ name }}) => name)\
             .then((how) => {{ (globalThis.how ??= {{}})[mode] = how }})"
        ))
        .await;
    let how =
        browser.until("both fetches end", "return globalThis.how?.cors && 'no-cors' in globalThis.how && globalThis.how").await;
    assert_eq!(how, json!({ "cors": "TypeError", "no-cors": 0 }), "an opaque answer or none");
    assert_eq!(program_of(&node, &challenge).send().await.status, 200, "the handle is still good");
}

#[tokio::test]
async fn the_frame_hears_its_parent_alone() {
    let browser = Browser::start().await;
    let port = Port::reserve();
    let node = node_for(&port.origin());
    let here = node.origin();
    // A window beside the frame asks first, then the page. Both ask nonsense, which the frame says of at once, in order.
    let script = format!(
        "globalThis.heard = [];\
         addEventListener('message', ({{ origin, data }}) => heard.push([origin, data.id, typeof data.error]));\
         const put = (src) => new Promise((onload) => document.body.append(Object.assign(document.createElement('iframe'), {{ src, onload }})));\
         await put('{here}/challenge/frame');\
         await put('about:blank');\
         const ask = (id) => ({{ countersign: 'frame/v1', id, handle: '', transcript: new Uint8Array(0), clientNonce: new Uint8Array(32) }});\
         const [frame, other] = [window.frames[0], window.frames[1]];\
         other.ask = ask('beside');\
         const asking = other.document.createElement('script');\
         asking.textContent = \"parent.frames[0].postMessage(ask, '*')\";\
         other.document.body.append(asking);\
         frame.postMessage(ask('page'), '{here}');"
    );
    let page = Page::serve(
        port,
        format!("<!doctype html><link rel=icon href=data:,><body><script type=module>{script}</script></body>"),
    );
    browser.goto(&format!("{}/", page.origin())).await;
    browser.until("the page is answered", "return globalThis.heard?.some(([, id]) => id === 'page')").await;
    assert_eq!(browser.script("return globalThis.heard").await, json!([[here, "page", "string"]]));
}
