//! What a page's policy lets the SDK do, in a real browser: one exact result for each policy and form of program.
//!
//! Bytecode runs under every policy that lets the page connect at all. Printed programs run only where text may be evaluated, and
//! the node's window where it may be framed.

use countersign_tests::browser::Browser;
use countersign_tests::pages::{Page, Port};
use countersign_tests::{Node, eventually};
use serde_json::{Value, json};

const NONCE: &str = "c3RyaWN0";

/// How a page ends: verified, or why it is not.
const VERIFIED: &str = "verified";
/// The policy forbids to evaluate text. On the wire that is no answer, and on the page no second attempt.
const NO_EVAL: &str = "challenge_unsupported EvalError";
/// The policy forbids to say that a text is to be trusted.
const NO_POLICY: &str = "challenge_unsupported TypeError";
/// The policy does not let the node's window in, or that window not the page.
const NO_FRAME: &str = "challenge_unsupported Error";
/// The node does not let the page in; browsers do not say why, and a page whose origin is `null` cannot conclude it.
const REFUSED: &str = "closed";

/// Where the page runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// By itself.
    Top,
    /// In a frame with `sandbox="allow-scripts"`: its origin is `null`.
    Sandbox,
}

/// A row of the table.
struct Row {
    what: &'static str,
    /// `NODE` and `SOCKET` stand for the node's origin in either scheme.
    policy: &'static str,
    place: Place,
    /// `gateway.null_origin`.
    null_origin: &'static str,
    vm: &'static str,
    source: &'static str,
    frame: &'static str,
}

/// A page by itself, and its results as bytecode, printed, and in the node's window.
const fn top(what: &'static str, policy: &'static str, [vm, source, frame]: [&'static str; 3]) -> Row {
    Row { what, policy, place: Place::Top, null_origin: "refuse", vm, source, frame }
}

const fn sandbox(what: &'static str, null_origin: &'static str, [vm, source, frame]: [&'static str; 3]) -> Row {
    Row { what, policy: "", place: Place::Sandbox, null_origin, vm, source, frame }
}

const TABLE: [Row; 12] = [
    top("none", "", [VERIFIED, VERIFIED, VERIFIED]),
    top(
        "strict: nonce and strict-dynamic",
        "script-src 'nonce-c3RyaWN0' 'strict-dynamic'; object-src 'none'; base-uri 'none'",
        [VERIFIED, NO_EVAL, VERIFIED],
    ),
    top("no unsafe-eval", "script-src 'nonce-c3RyaWN0' NODE; connect-src NODE SOCKET", [VERIFIED, NO_EVAL, VERIFIED]),
    top(
        "unsafe-eval",
        "script-src 'nonce-c3RyaWN0' NODE 'unsafe-eval'; connect-src NODE SOCKET",
        [VERIFIED, VERIFIED, VERIFIED],
    ),
    top("trusted types, any policy", "require-trusted-types-for 'script'", [VERIFIED, VERIFIED, VERIFIED]),
    top(
        "trusted types, the plug-in's policy and evaluation",
        "script-src 'nonce-c3RyaWN0' NODE 'unsafe-eval'; require-trusted-types-for 'script'; trusted-types countersign",
        [VERIFIED, VERIFIED, VERIFIED],
    ),
    top(
        "trusted types, no policy",
        "require-trusted-types-for 'script'; trusted-types 'none'",
        [VERIFIED, NO_POLICY, VERIFIED],
    ),
    top("no workers", "worker-src 'none'", [VERIFIED, VERIFIED, VERIFIED]),
    top(
        "next to nothing",
        "default-src 'none'; script-src 'nonce-c3RyaWN0' NODE; connect-src SOCKET; img-src data:; worker-src 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        [VERIFIED, NO_POLICY, NO_FRAME],
    ),
    top(
        "next to nothing, and the node's window",
        "default-src 'none'; script-src 'nonce-c3RyaWN0' NODE; connect-src SOCKET; frame-src NODE; img-src data:; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        [VERIFIED, NO_POLICY, VERIFIED],
    ),
    sandbox("a sandboxed frame", "refuse", [REFUSED, REFUSED, REFUSED]),
    sandbox("a sandboxed frame, null let in", "allow", [VERIFIED, VERIFIED, NO_FRAME]),
];

/// The page's script: it connects, and says how that ended.
const STORY: &str = r#"
    import { connect } from 'NODE/sdk/countersign.js';
    import { source } from 'NODE/sdk/source.js';
    import { frame } from 'NODE/sdk/frame.js';
    let why = '';
    const telling = (form) => ({ ...form, run: async (...given) => {
        try { return await form.run(...given) } catch (error) { why = ' ' + error.name; throw error }
    } });
    const forms = [source(), frame('NODE/challenge/frame', { timeoutMs: 2000 })].map(telling);
    const connection = connect('SOCKET/ws', { reconnect: false, pins: PINS, forms });
    connection.on('verified', () => { parent.postMessage('verified', '*') });
    connection.closed.then((error) => { parent.postMessage(error.code + why, '*') });
"#;

/// Hears how the page, or the page in its frame, ended; what the node's window says is no text.
const LISTENER: &str =
    "addEventListener('message', ({ data }) => { if (typeof data === 'string') globalThis.outcome ??= data });";

/// Opens the page of a row, with a node that asks in this form; how it ends.
async fn outcome(browser: &Browser, row: &Row, form: &str) -> Value {
    let port = Port::reserve();
    let node = Node::start(&format!(
        "[gateway]\nallowed_origins = [\"{}\"]\nnull_origin = \"{}\"\n[challenge]\nforms = [\"{form}\"]\nsign_programs = \"all\"",
        port.origin(),
        row.null_origin
    ));
    let (http, socket) = (node.origin(), node.origin().replace("http", "ws"));
    let pins = String::from_utf8(node.cli(&["keys", "pins", "--json"], "").stdout).expect("text");
    let filled = |text: &str| text.replace("NODE", &http).replace("SOCKET", &socket).replace("PINS", pins.trim());
    let story = format!("<script type=module nonce={NONCE}>{}</script>", filled(STORY));
    let listener = format!("<script nonce={NONCE}>{LISTENER}</script>");
    let html = match row.place {
        Place::Top => format!("<!doctype html><link rel=icon href=data:,>{listener}{story}"),
        Place::Sandbox => {
            let inner = story.replace('&', "&amp;").replace('"', "&quot;");
            format!(
                "<!doctype html><link rel=icon href=data:,>{listener}<iframe sandbox=allow-scripts srcdoc=\"{inner}\"></iframe>"
            )
        }
    };
    let page = Page::under_policy(port, html, &filled(row.policy));
    browser.goto(&format!("{}/", page.origin())).await;
    let outcome = browser.until(row.what, "return globalThis.outcome").await;
    // What the page says of itself is what the node says of it.
    let verified = if outcome == VERIFIED { 1.0 } else { 0.0 };
    eventually("the node has judged", || async {
        let seen = node.metrics().await.sum("countersign_challenge_verdicts_total", &[("verdict", "verified")]);
        ((seen - verified).abs() < 0.5).then_some(())
    })
    .await;
    outcome
}

#[tokio::test]
async fn every_policy_has_its_exact_result_in_every_form() {
    let browser = Browser::start().await;
    let mut wrong = Vec::new();
    for row in &TABLE {
        for (form, expected) in [("vm", row.vm), ("source", row.source), ("frame", row.frame)] {
            let outcome = outcome(&browser, row, form).await;
            eprintln!("{:<50} {form:<7} {outcome}", row.what);
            if outcome != json!(expected) {
                wrong.push(format!("{}, {form}: {outcome} instead of {expected}", row.what));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
