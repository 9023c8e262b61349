//! Delivery: who may, who gets it, in which shape; and the server's own API.

use countersign_tests::http;
use countersign_tests::socket::{Dial, Incoming};
use countersign_tests::tokens::Issuer;
use countersign_tests::{Node, Plan};
use serde_json::{Value, json};

/// One channel for each requirement.
const RULES: &str = r#"
[[channels]]
pattern = "open"
subscribe = "anyone"
publish = "anyone"
[[channels]]
pattern = "signed-in"
subscribe = "authenticated"
[[channels]]
pattern = "proven"
subscribe = "verified"
publish = "verified"
[[channels]]
pattern = "both"
subscribe = "authenticated_and_verified"
[[channels]]
pattern = "team"
subscribe = { claim = { name = "team", value = "blue" } }
[[channels]]
pattern = "inbox:{subject}"
subscribe = "authenticated"
[[channels]]
pattern = "room:*"
subscribe = "anyone"
"#;

/// The channels among all that a socket may subscribe to.
async fn allowed(socket: &mut countersign_tests::socket::Socket) -> Vec<&'static str> {
    let mut open = Vec::new();
    for channel in ["open", "signed-in", "proven", "both", "team", "inbox:ada", "room:1", "room:1:2", "elsewhere"] {
        let reply = socket.ask("subscribe", json!({ "channel": channel })).await;
        match reply["error"]["code"].as_str() {
            None => open.push(channel),
            Some(code) => assert_eq!(code, "denied", "{channel}"),
        }
    }
    open
}

#[tokio::test]
async fn rules_decide_by_state_and_claim_and_deny_by_default() {
    let issuer = Issuer::new();
    let node = Plan::new().toml(RULES).toml(&issuer.settings()).start();
    let mut stranger = Dial::page(&node).welcomed().await;
    assert_eq!(allowed(&mut stranger).await, ["open", "room:1"]);
    let mut proven = Dial::page(&node).verified().await;
    assert_eq!(allowed(&mut proven).await, ["open", "proven", "room:1"]);
    let mut ada = Dial::page(&node).bearer(&issuer.token("ada", 600)).welcomed().await;
    assert_eq!(allowed(&mut ada).await, ["open", "signed-in", "inbox:ada", "room:1"]);
    let mut claims = issuer.claims("bob", 600);
    claims["team"] = json!(["red", "blue"]);
    let mut bob = Dial::page(&node).bearer(&issuer.sign(&claims)).verified().await;
    assert_eq!(allowed(&mut bob).await, ["open", "signed-in", "proven", "both", "team", "room:1"]);
    assert_eq!(stranger.error("publish", json!({ "channel": "proven", "data": 1 })).await, "denied");
    assert_eq!(stranger.error("publish", json!({ "channel": "room:1", "data": 1 })).await, "denied");
}

#[tokio::test]
async fn a_publication_reaches_every_subscriber_once_and_its_sender_unless_excluded() {
    let node = Node::start(RULES);
    let mut sockets = Vec::new();
    for _ in 0..8 {
        let mut socket = Dial::page(&node).welcomed().await;
        socket.ok("subscribe", json!({ "channel": "open" })).await;
        sockets.push(socket);
    }
    sockets[0].ok("publish", json!({ "channel": "open", "data": { "n": 1 }, "exclude": true })).await;
    sockets[0].ok("publish", json!({ "channel": "open", "data": "two" })).await;
    for (place, socket) in sockets.iter_mut().enumerate() {
        if place > 0 {
            let first = socket.event("publication").await;
            assert_eq!(first, json!({ "event": "publication", "channel": "open", "data": { "n": 1 } }));
        }
        assert_eq!(socket.event("publication").await["data"], "two");
        socket.ok("ping", json!({})).await;
    }
    node.metric_reaches("countersign_publications_total", &[], 2.0).await;
}

#[tokio::test]
async fn one_sender_is_heard_in_order() {
    let node = Plan::new().toml(RULES).toml("[gateway.limits]\nmessages_per_second = 10000").start();
    let mut sender = Dial::page(&node).welcomed().await;
    let mut receiver = Dial::page(&node).welcomed().await;
    receiver.ok("subscribe", json!({ "channel": "open" })).await;
    for n in 0..200 {
        sender.ok("publish", json!({ "channel": "open", "data": n })).await;
    }
    for n in 0..200 {
        assert_eq!(receiver.event("publication").await["data"], n);
    }
}

#[tokio::test]
async fn nothing_comes_after_unsubscribing() {
    let node = Node::start(RULES);
    let mut socket = Dial::page(&node).welcomed().await;
    socket.ok("subscribe", json!({ "channel": "open" })).await;
    socket.ok("unsubscribe", json!({ "channel": "open" })).await;
    assert_eq!(node.publish("open", &json!("gone")).await.status, 200);
    socket.ok("subscribe", json!({ "channel": "open" })).await;
    assert_eq!(node.publish("open", &json!("here")).await.status, 200);
    assert_eq!(socket.event("publication").await["data"], "here");
}

#[tokio::test]
async fn plain_clients_get_payloads_verbatim() {
    let node = Plan::new().toml(RULES).toml("[gateway]\nmissing_origin = \"allow\"").start();
    let mut plain = Dial::to(&node).open().await;
    plain.json(&json!({ "action": "subscribe", "channel": "open" })).await;
    let reply = plain.next_json().await;
    assert_eq!(reply["action"], "subscribe");
    assert!(reply["ok"].is_object(), "{reply}");
    let mut native = Dial::page(&node).welcomed().await;
    native.ok("publish", json!({ "channel": "open", "data": { "a": [1, null, "ü"] } })).await;
    assert_eq!(plain.next_json().await, json!({ "a": [1, null, "ü"] }));
    plain.json(&json!({ "action": "subscribe", "channel": "proven" })).await;
    assert_eq!(plain.next_json().await["error"]["code"], "denied");
    plain.json(&json!({ "action": "dance" })).await;
    let reply = plain.next_json().await;
    assert_eq!(reply["message"], "Forbidden");
    assert!(reply["connectionId"].is_string() && reply["requestId"].is_string(), "{reply}");
    plain.binary(vec![1]).await;
    assert_eq!(plain.close_code().await, 1003);
}

#[tokio::test]
async fn templates_make_replies_and_publications_of_messages() {
    let routes = r#"
[routes.HELLO]
reply = '{"action":"HELLO","to":{{ message.name }},"from":{{ connection.id }}}'
[routes.SAY]
publish = { channel = "open", template = '{"said":{{ message.text }}}', exclude_sender = true }
[routes.JOIN]
builtin = "subscribe"
[routes."$default"]
reply = '{"unknown":true}'
"#;
    let node = Plan::new().toml(RULES).toml(routes).toml("[gateway]\nmissing_origin = \"allow\"").start();
    let mut one = Dial::to(&node).open().await;
    let mut two = Dial::to(&node).open().await;
    let quoted = "\"}, {\"x\": \\ \u{7}é";
    one.json(&json!({ "action": "HELLO", "name": quoted })).await;
    let reply = one.next_json().await;
    assert_eq!(reply["to"], quoted, "text is escaped as JSON");
    assert_eq!(reply["from"].as_str().map(str::len), Some(22));
    for socket in [&mut one, &mut two] {
        socket.json(&json!({ "action": "JOIN", "channel": "open" })).await;
        assert_eq!(socket.next_json().await["action"], "JOIN");
    }
    one.json(&json!({ "action": "SAY", "text": "hello" })).await;
    assert_eq!(two.next_json().await, json!({ "said": "hello" }));
    one.text("no JSON at all").await;
    assert_eq!(one.next_json().await, json!({ "unknown": true }), "and no publication of its own before");
}

#[tokio::test]
async fn the_server_api_asks_for_its_key_and_says_what_is_wrong() {
    let node = Node::start(RULES);
    let key = node.api_key();
    let url = node.admin_url("/api/v1/publish");
    let good = json!({ "channel": "open", "data": 1 });
    assert_eq!(http::post(&url, &good).send().await.status, 401);
    assert_eq!(http::post(&url, &good).header("X-API-Key", "wrong").send().await.status, 401);
    let sent = http::post(&url, &good).header("Authorization", &format!("Bearer {key}")).send().await;
    assert_eq!(sent.status, 200);
    assert!(sent.json()["nodes"].is_u64());
    for (what, body) in [
        ("no channel", json!({ "data": 1 })),
        ("a bad channel", json!({ "channel": "a b", "data": 1 })),
        ("an unknown member", json!({ "channel": "open", "data": 1, "chanel": "x" })),
        ("no object", json!([])),
    ] {
        let refused = http::post(&url, &body).header("X-API-Key", &key).send().await;
        assert_eq!(refused.status, 400, "{what}");
        assert!(refused.json()["message"].is_string(), "{what}");
    }
    let cut =
        http::Request::new("POST", &url).header("X-API-Key", &key).header("Content-Type", "application/json").body("{\"chan");
    assert_eq!(cut.send().await.status, 400);
    let long = json!({ "channel": "open", "data": "x".repeat(200_000) });
    assert_eq!(http::post(&url, &long).header("X-API-Key", &key).send().await.status, 413);
    assert_eq!(http::post(&node.url("/api/v1/publish"), &good).header("X-API-Key", &key).send().await.status, 404);
    let public = Node::start("[management]\non_public_listener = true");
    let sent = http::post(&public.url("/api/v1/publish"), &good).header("X-API-Key", &public.api_key()).send().await;
    assert_eq!(sent.status, 200);
}

#[tokio::test]
async fn the_server_disconnects_by_connection_and_by_principal() {
    let issuer = Issuer::new();
    let node = Plan::new().toml(&issuer.settings()).start();
    let disconnect = async |body: Value| {
        let request = http::post(&node.admin_url("/api/v1/disconnect"), &body).header("X-API-Key", &node.api_key());
        let response = request.send().await;
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["closed"].as_u64().unwrap()
    };
    let dial = |subject: &str| Dial::page(&node).bearer(&issuer.token(subject, 600));
    let mut one = dial("ada").verified().await;
    let mut two = dial("ada").welcomed().await;
    let mut other = dial("bob").verified().await;
    assert_eq!(disconnect(json!({ "connection": one.id })).await, 1);
    assert_eq!(one.close_code().await, 4410);
    assert_eq!(node.authorize(&one.id).await.status, 401);
    assert_eq!(disconnect(json!({ "connection": one.id })).await, 0);
    let mut three = dial("ada").welcomed().await;
    assert_eq!(disconnect(json!({ "principal": "ada" })).await, 2);
    assert_eq!(two.close_code().await, 4410);
    assert_eq!(three.close_code().await, 4410);
    other.ok("ping", json!({})).await;
    assert_eq!(node.authorize(&other.id).await.status, 200);
    assert!(matches!(other.close().await, Incoming::Closed(..)));
}
