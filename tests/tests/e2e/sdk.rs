//! The browser SDK in a real browser, under a policy that lets a page do next to nothing; and the form of the challenge
//! that makes this possible, byte by byte.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_tests::browser::Browser;
use countersign_tests::pages::{Page, Port};
use countersign_tests::socket::Dial;
use countersign_tests::{Node, eventually, http};
use serde_json::{Value, json};

const NONCE: &str = "c3RyaWN0";

/// What the page does with the SDK; `seen` is what it has to show.
const STORY: &str = r#"
    const seen = { states: [], heard: [] };
    globalThis.seen = seen;
    try { Function('return 1')(); seen.eval = 'allowed' } catch (error) { seen.eval = error.name }
    const connection = connect(NODE + '/ws');
    globalThis.connection = connection;
    connection.on('state', (state) => seen.states.push(state));
    connection.on('challenge', ({ form, mode }) => { Object.assign(seen, { form, mode }) });
    connection.on('disconnected', (how) => { seen.lost = how });
    connection.closed.then((error) => { seen.end = error && { code: error.code, closeCode: error.closeCode } });
    const story = async () => {
        await connection.subscribe('room', (data) => seen.heard.push(data));
        await connection.publish('room', { from: 'page' });
        const response = await connection.fetch(NODE + '/greeting');
        seen.call = { status: response.status, body: await response.json() };
        await connection.fetch('https://elsewhere.example/').catch(({ code }) => { seen.foreign = code });
        seen.id = connection.id;
    };
    story().catch((error) => { seen.fault = `${error.code} ${error.message}` });
"#;

/// How a page loads the SDK.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    Module,
    Script,
}

/// A node that lets pages of this origin in, has them run bytecode only, and asks of calls what this mode says.
fn node_for(origin: &str, mode: &str) -> Node {
    Node::start(&format!(
        r#"
        [authorizer]
        mode = "{mode}"
        [gateway]
        allowed_origins = ["{origin}"]
        [challenge]
        forms = ["vm"]
        [[channels]]
        pattern = "room"
        subscribe = "verified"
        publish = "verified"
        [[protected]]
        path = "/greeting"
        require = "verified"
        body = {{ greeting = "Hello" }}
        "#
    ))
}

/// No `eval`, no sink that takes text, no worker; scripts by nonce, connections to the node alone.
fn policy(node: &Node) -> String {
    let (http, ws) = (node.origin(), node.origin().replace("http", "ws"));
    format!(
        "default-src 'none'; script-src 'nonce-{NONCE}' {http}; connect-src {http} {ws}; img-src data:; worker-src 'none'; base-uri 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

/// A page that loads the SDK from the node, pinned by the hash that the node's list says.
async fn page(node: &Node, load: Load) -> String {
    let list = http::get(&node.url("/sdk/")).send().await.json();
    let integrity = |path: &str| {
        let files = list["files"].as_array().expect("files");
        let file = files.iter().find(|file| file["path"] == path).expect("the file is listed");
        file["integrity"].as_str().expect("a hash").to_owned()
    };
    let here = node.origin();
    let story = STORY.replace("NODE", &format!("'{here}'"));
    match load {
        Load::Script => {
            let path = "/sdk/countersign.global.min.js";
            let hash = integrity(path);
            format!(
                "<!doctype html><link rel=icon href=data:,><script nonce={NONCE} src={here}{path} integrity={hash} crossorigin></script>\
                 <script nonce={NONCE}>const {{ connect }} = countersign; {story}</script>"
            )
        }
        Load::Module => format!(
            "<!doctype html><link rel=icon href=data:,>\
             <script nonce={NONCE} type=module>import {{ connect }} from '{here}/sdk/countersign.js'; {story}</script>"
        ),
    }
}

/// Opens a page that uses the SDK, and waits for the end of its story.
async fn told(browser: &Browser, url: &str) -> Value {
    browser.goto(url).await;
    let ended = "const seen = globalThis.seen ?? {}; return (seen.id && seen.heard.length) || seen.fault ? seen : null";
    browser.until("the page's story ends", ended).await
}

#[tokio::test]
async fn a_page_under_a_strict_policy_is_verified_by_bytecode() {
    let browser = Browser::start().await;
    for (load, mode) in [(Load::Script, "ticket"), (Load::Module, "proof"), (Load::Module, "bearer")] {
        let port = Port::reserve();
        let node = node_for(&port.origin(), mode);
        let page = Page::under_policy(port, page(&node, load).await, &policy(&node));
        let seen = told(&browser, &format!("{}/", page.origin())).await;
        assert_eq!(seen["fault"], Value::Null, "{seen}");
        assert_eq!(seen["eval"], "EvalError", "the policy holds");
        assert_eq!((&seen["form"], &seen["mode"]), (&json!("vm"), &json!(mode)));
        assert_eq!(seen["states"], json!(["open", "verified"]));
        assert_eq!(seen["heard"], json!([{ "from": "page" }]));
        assert_eq!(seen["call"], json!({ "status": 200, "body": { "greeting": "Hello" } }));
        assert_eq!(seen["foreign"], "foreign_origin");
        // All that the policy had to complain of is the attempt to evaluate text.
        let console = browser.console().await;
        let expected = |line: &String| line.contains("'TrustedScript'") || line.contains("Function constructor");
        let complaints: Vec<_> = console.iter().filter(|line| !expected(line)).collect();
        assert!(complaints.is_empty(), "{complaints:?}");

        let body = json!({ "connection": seen["id"] });
        let disconnect = http::post(&node.admin_url("/api/v1/disconnect"), &body).header("X-API-Key", &node.api_key());
        assert_eq!(disconnect.send().await.json(), json!({ "closed": 1 }));
        let end = browser.until("the connection ends", "return seen.end").await;
        assert_eq!(end, json!({ "code": "closed", "closeCode": 4410 }));
    }
}

#[tokio::test]
async fn a_page_of_another_origin_is_told_that_it_was_refused() {
    let browser = Browser::start().await;
    let port = Port::reserve();
    let node = node_for(&port.origin(), "bearer");
    let page = Page::under_policy(port, page(&node, Load::Script).await, &policy(&node));
    let seen = told(&browser, &format!("{}/", page.other_origin())).await;
    assert!(seen["fault"].as_str().unwrap().starts_with("origin_refused "), "{seen}");
    assert_eq!(seen["end"], json!({ "code": "origin_refused", "closeCode": null }));
}

#[tokio::test]
async fn a_page_that_is_shown_again_is_verified_anew() {
    let browser = Browser::start().await;
    let port = Port::reserve();
    let node = node_for(&port.origin(), "bearer");
    let page = Page::under_policy(port, page(&node, Load::Script).await, &policy(&node));
    let seen = told(&browser, &format!("{}/", page.origin())).await;
    let first = seen["id"].as_str().unwrap();
    // What a browser does around its back-forward cache, which a driven browser does not use.
    browser.script("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))").await;
    eventually("the node lets go", || async { (node.authorize(first).await.status == 401).then_some(()) }).await;
    browser.script("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))").await;
    let second = browser.until("it is verified again", "return connection.state === 'verified' && connection.id").await;
    assert_ne!(second, first);
    assert_eq!(node.authorize(second.as_str().unwrap()).await.status, 200);
    // Its subscription came with it.
    browser.script("seen.heard.length = 0; connection.publish('room', 'again')").await;
    assert_eq!(browser.until("the publication", "return seen.heard[0]").await, "again");
}

#[tokio::test]
async fn a_page_that_is_challenged_again_answers_and_its_calls_go_on() {
    let browser = Browser::start().await;
    let port = Port::reserve();
    let node = node_for(&port.origin(), "proof");
    let page = Page::under_policy(port, page(&node, Load::Module).await, &policy(&node));
    let seen = told(&browser, &format!("{}/", page.origin())).await;
    let answered = "connection.on('challenge', ({ epoch }) => { seen.epoch = epoch }); \
                    connection.on('ticket', () => { seen.tickets = (seen.tickets ?? 0) + 1 })";
    browser.script(answered).await;
    for epoch in 1..=2 {
        let body = json!({ "connection": seen["id"] });
        assert_eq!(node.manage("/api/v1/challenge", &body).await.status, 202);
        browser.until("the challenge comes", &format!("return seen.epoch === {epoch}")).await;
        node.metric_reaches("countersign_challenge_verdicts_total", &[("verdict", "verified")], f64::from(epoch + 1)).await;
        let call = format!(
            "connection.fetch('{}/greeting').then(({{ status }}) => {{ seen.again = [{epoch}, status] }})",
            node.origin()
        );
        browser.script(&call).await;
        let status =
            browser.until("the call is answered", &format!("return seen.again?.[0] === {epoch} && seen.again[1]")).await;
        assert_eq!(status, 200, "after challenge {epoch}");
    }
    assert_eq!(browser.script("return [connection.state, seen.lost ?? null]").await, json!(["verified", null]));
}

#[tokio::test]
async fn a_page_waits_as_long_as_a_draining_node_asks_for() {
    let browser = Browser::start().await;
    let port = Port::reserve();
    let node = node_for(&port.origin(), "bearer");
    let page = Page::under_policy(port, page(&node, Load::Module).await, &policy(&node));
    let seen = told(&browser, &format!("{}/", page.origin())).await;
    assert_eq!(seen["lost"], Value::Null, "{seen}");
    node.sigterm();
    let lost = browser.until("the node lets go", "return seen.lost").await;
    assert_eq!((&lost["code"], &lost["again"]), (&json!(1012), &json!(true)));
    assert!(lost["reason"].as_str().unwrap().starts_with("node restarts, reconnect in "), "{lost}");
    assert_eq!(browser.script("return connection.state").await, "waiting");
}

#[tokio::test]
async fn a_worker_is_verified_as_a_page_is() {
    let browser = Browser::start().await;
    let port = Port::reserve();
    let node = node_for(&port.origin(), "bearer");
    let here = node.origin();
    let story = STORY.replace("NODE", &format!("'{here}'"));
    // It tells when it has ended, well or not.
    let story = story.replace("story().catch(", "story().finally(() => setTimeout(() => postMessage(seen))).catch(");
    let worker = format!("import {{ connect }} from '{here}/sdk/countersign.min.js'; {story}");
    let html = format!(
        "<!doctype html><link rel=icon href=data:,><script>\
         const worker = new Worker(URL.createObjectURL(new Blob([{}], {{ type: 'text/javascript' }})), {{ type: 'module' }});\
         worker.onmessage = ({{ data }}) => {{ globalThis.seen = data }};</script>",
        json!(worker).to_string().replace("</", "<\\/")
    );
    let page = Page::serve(port, html);
    browser.goto(&format!("{}/", page.origin())).await;
    let seen = browser.until("the worker's story ends", "return globalThis.seen ?? null").await;
    assert_eq!(seen["fault"], Value::Null, "{seen}");
    assert_eq!(seen["call"], json!({ "status": 200, "body": { "greeting": "Hello" } }));
    assert_eq!(node.authorize(seen["id"].as_str().unwrap()).await.status, 200);
}

#[test]
fn a_program_of_node_js_shows_with_a_socket_and_a_key_of_its_own_what_its_mode_asks_for() {
    let headers = |seen: &Value| seen["headers"].to_string().to_lowercase();
    let check = |node: &Node, asked: &str, mode: &str, shown: &str, bare: u16| {
        let seen = outside_of_pages(node, asked);
        assert_eq!((&seen["fault"], &seen["state"], &seen["mode"]), (&Value::Null, &json!("verified"), &json!(mode)), "{seen}");
        assert_eq!((&seen["status"], &seen["body"]), (&json!(200), &json!({ "greeting": "Hello" })), "{seen}");
        assert_eq!((headers(&seen), &seen["bare"]), (shown.to_owned(), &json!(bare)), "{seen}");
        assert_eq!(seen["closed"]["code"], 1000);
    };
    let (ticket, proof) = (r#"["countersign-ticket"]"#, r#"["countersign-ticket","countersign-proof"]"#);
    let bearer = node_for("https://app.example", "bearer");
    check(&bearer, "", "bearer", r#"["connectionid"]"#, 200);
    check(&bearer, "proof", "proof", proof, 401);
    let node = node_for("https://app.example", "ticket");
    check(&node, "", "ticket", ticket, 401);
    check(&node, "proof", "proof", proof, 401);
    check(&node_for("https://app.example", "proof"), "ticket", "proof", proof, 401);
}

#[test]
fn the_socket_that_node_js_has_built_in_ends_with_a_handshake_that_is_refused() {
    let node = node_for("https://app.example", "ticket");
    let nowhere = node.origin().replace("http", "ws") + "/nowhere";
    let seen = told_by_node_js(&["built_in_socket.mjs", &nowhere]);
    if seen["missing"] == true {
        eprintln!("SKIPPED: this Node.js has no socket of its own (20.10 is the first that has)");
        return;
    }
    assert_eq!(seen["lost"], json!([[1006, true], [1006, true]]));
    assert_eq!((&seen["ready"], &seen["end"]), (&json!("timeout"), &json!(["closed", 1006])));
    assert_eq!(seen["closed"]["code"], 1006);
}

/// What a program sees that uses the SDK outside of pages; with a mode, it asks for that.
fn outside_of_pages(node: &Node, mode: &str) -> Value {
    told_by_node_js(&["sdk_client.mjs", &node.origin(), mode])
}

/// What a program of Node.js in `js/` prints.
fn told_by_node_js(arguments: &[&str]) -> Value {
    let mut command = Command::new("node");
    let output = command
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/js"))
        .output()
        .expect("`node` is on the PATH");
    let (told, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}{complaints}"))
}

#[tokio::test]
async fn the_node_prefers_bytecode_and_falls_back_only_where_it_is_configured() {
    let ask = async |node: &Node, forms: Value| {
        let mut socket = Dial::page(node).welcomed().await;
        let mut hello = socket.hello();
        hello["forms"] = forms;
        let reply = socket.ask("hello", hello).await;
        if reply["ok"].is_object() { socket.event("challenge").await } else { reply }
    };
    let both = Node::start("");
    let challenge = ask(&both, json!(["source", "hologram", "vm"])).await;
    assert_eq!(challenge["form"], "vm");
    let program = URL_SAFE_NO_PAD.decode(challenge["program"].as_str().unwrap()).unwrap();
    assert_eq!((program[0], program.len()), (1, 54 + 128 * 8), "version, opcodes, registers, 128 operations");
    assert!(challenge.to_string().len() <= 4096);
    assert_eq!(ask(&both, json!(["source"])).await["form"], "source");
    let strict = Node::start("[challenge]\nforms = [\"vm\"]");
    assert_eq!(ask(&strict, json!(["source"])).await["error"]["code"], "not_available");
    assert_eq!(ask(&strict, json!([])).await["error"]["code"], "not_available");
    // Two disguises of one node have hardly an opcode in common.
    let other = URL_SAFE_NO_PAD.decode(ask(&both, json!(["vm"])).await["program"].as_str().unwrap()).unwrap();
    assert_ne!(program[1..54], other[1..54]);
}
