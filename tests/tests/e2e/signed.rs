//! Programs come signed by a key of the node's that pages pin, and a rotation breaks no page.

use countersign_tests::browser::Browser;
use countersign_tests::pages::{Page, Port};
use countersign_tests::socket::{Dial, Socket};
use countersign_tests::{Node, eventually};
use serde_json::{Value, json};

const ALL: &str = "[challenge]\nsign_programs = \"all\"";

/// What the command line prints for pages to pin: the present key, and the next.
fn pins(node: &Node) -> Vec<String> {
    let printed = node.cli(&["keys", "pins"], "");
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    String::from_utf8(printed.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// A socket whose client can run this form, and its challenge.
async fn challenged(node: &Node, form: &str) -> (Socket, Value) {
    let mut socket = Dial::page(node).welcomed().await;
    let mut hello = socket.hello();
    hello["forms"] = json!([form]);
    socket.ok("hello", hello).await;
    let challenge = socket.event("challenge").await;
    assert_eq!(challenge["form"], form);
    (socket, challenge)
}

#[tokio::test]
async fn what_a_page_evaluates_is_signed_and_bytecode_where_it_is_asked_for() {
    for (config, form, is_signed) in [("", "source", true), ("", "vm", false), (ALL, "vm", true), (ALL, "source", true)] {
        let node = Node::start(config);
        let (socket, challenge) = challenged(&node, form).await;
        let pins = pins(&node);
        assert_eq!(challenge["signature"].is_string() && challenge["signer"].is_string(), is_signed, "{challenge}");
        assert_eq!(is_signed, socket.view().is_signed(&challenge, &pins[0]), "{challenge}");
        assert!(!socket.view().is_signed(&challenge, &pins[1]), "the next key waits");
        let mut elsewhere = socket.view();
        elsewhere.host = "evil.example".to_owned();
        assert!(!elsewhere.is_signed(&challenge, &pins[0]), "for one host");
    }
}

#[tokio::test]
async fn a_rotation_takes_the_key_that_pages_pin_already_and_needs_no_restart() {
    let node = Node::start("");
    let pinned = pins(&node);
    let early = node.cli(&["keys", "rotate-programs"], "");
    assert!(!early.status.success(), "pages may not know the next key yet");
    let rotated = node.cli(&["keys", "rotate-programs", "--now"], "");
    assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
    let mut socket = eventually("the next key signs", || async {
        let (socket, challenge) = challenged(&node, "source").await;
        let by = pinned.iter().position(|pin| socket.view().is_signed(&challenge, pin));
        assert!(by.is_some(), "a page that pins the old pair goes on throughout");
        (by == Some(1)).then_some(socket)
    })
    .await;
    assert_eq!(pins(&node)[0], pinned[1]);
    assert_eq!(socket.error("hello", socket.hello()).await, "bad_request", "the socket lives");
}

/// A page that connects with these pins; `seen` is what comes of it.
fn page(node: &Node, pins: &[String]) -> String {
    let here = node.origin();
    format!(
        "<!doctype html><link rel=icon href=data:,><script type=module>\
         import {{ connect }} from '{here}/sdk/countersign.js';\
         const connection = connect('{here}/ws', {{ pins: {}, reconnect: false }});\
         connection.ready().then(() => {{ globalThis.seen = 'verified' }}, () => {{}});\
         connection.closed.then((error) => {{ globalThis.seen = error?.code }});</script>",
        json!(pins)
    )
}

#[tokio::test]
async fn a_page_runs_no_program_that_no_pinned_key_has_signed() {
    let browser = Browser::start().await;
    let other = pins(&Node::start(""));
    for (config, own, seen) in
        [(ALL, true, "verified"), (ALL, false, "program_unsigned"), ("[challenge]\nforms = [\"vm\"]", true, "program_unsigned")]
    {
        let port = Port::reserve();
        let node = Node::start(&format!("[gateway]\nallowed_origins = [\"{}\"]\n{config}", port.origin()));
        let pins = if own { pins(&node) } else { other.clone() };
        let page = Page::serve(port, page(&node, &pins));
        browser.goto(&format!("{}/", page.origin())).await;
        assert_eq!(browser.until("the page's story ends", "return globalThis.seen").await, seen, "{config} {own}");
    }
}
