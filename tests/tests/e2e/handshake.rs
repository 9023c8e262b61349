//! What is checked before the 101, and how a refusal looks.

use countersign_tests::http;
use countersign_tests::raw::{fresh_key, status_of};
use countersign_tests::socket::{Dial, NATIVE};
use countersign_tests::tokens::Issuer;
use countersign_tests::{Node, Plan};

/// The fields of a good handshake, without the key.
const GOOD: &[(&str, &str)] =
    &[("Connection", "keep-alive, Upgrade"), ("Upgrade", "WebSocket"), ("Sec-WebSocket-Version", "13")];

/// What it is, the request line, fields left out, fields added, and the statuses that are right.
type Case<'a> = (&'a str, &'a str, &'a [&'a str], &'a [(&'a str, &'a str)], &'a [u16]);

/// Sends a handshake whose fields are `GOOD` with some replaced; the status.
async fn check(node: &Node, what: &str, request: &str, without: &[&str], with: &[(&str, &str)], expected: &[u16]) {
    let key = fresh_key();
    let mut fields: Vec<(&str, &str)> = GOOD.to_vec();
    fields.push(("Sec-WebSocket-Key", &key));
    fields.retain(|(name, _)| !without.iter().any(|gone| gone.eq_ignore_ascii_case(name)));
    fields.extend(with);
    let head = status_of(node, request, &fields).await;
    assert!(expected.contains(&head.status), "{what}: {} instead of {expected:?}", head.status);
    if head.status >= 400 && head.status != 404 && head.status != 405 {
        let kind = http::find(&head.headers, "content-type").unwrap_or_default();
        assert!(kind.starts_with("application/json"), "{what}: a refusal has a JSON body, not {kind:?}");
    }
    if head.status == 426 {
        assert_eq!(http::find(&head.headers, "sec-websocket-version"), Some("13"), "{what}");
    }
}

#[tokio::test]
async fn malformed_handshakes_are_refused_before_the_101() {
    let node = Node::start("[gateway]\nmissing_origin = \"allow\"");
    let ws = "GET /ws HTTP/1.1";
    let cases: &[Case] = &[
        ("a good one", ws, &[], &[], &[101]),
        ("query parameters", "GET /ws?a=b HTTP/1.1", &[], &[], &[101]),
        ("no key", ws, &["sec-websocket-key"], &[], &[400]),
        ("a short key", ws, &["sec-websocket-key"], &[("Sec-WebSocket-Key", "c2hvcnQ=")], &[400]),
        ("a key of 17 bytes", ws, &["sec-websocket-key"], &[("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAAA=")], &[400]),
        ("a key that is no base64", ws, &["sec-websocket-key"], &[("Sec-WebSocket-Key", "!!!!!!!!!!!!!!!!!!!!!!==")], &[400]),
        ("two keys", ws, &[], &[("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")], &[400]),
        ("no version", ws, &["sec-websocket-version"], &[], &[400, 426]),
        ("version 8", ws, &["sec-websocket-version"], &[("Sec-WebSocket-Version", "8")], &[400, 426]),
        ("version 14", ws, &["sec-websocket-version"], &[("Sec-WebSocket-Version", "14")], &[400, 426]),
        ("no upgrade", ws, &["upgrade"], &[], &[400, 426]),
        ("another upgrade", ws, &["upgrade"], &[("Upgrade", "h2c")], &[400, 426]),
        ("no connection", ws, &["connection"], &[], &[400, 426]),
        ("connection close", ws, &["connection"], &[("Connection", "close")], &[400, 426]),
        ("POST", "POST /ws HTTP/1.1", &[], &[("Content-Length", "0")], &[400, 404, 405]),
        ("another path", "GET /wss HTTP/1.1", &[], &[], &[404]),
        ("a sub-path", "GET /ws/ HTTP/1.1", &[], &[], &[404]),
        ("upper case", "GET /WS HTTP/1.1", &[], &[], &[404]),
    ];
    for (what, request, without, with, expected) in cases {
        check(&node, what, request, without, with, expected).await;
    }
    node.metric_at_least("countersign_handshakes_total", &[("outcome", "malformed")], 8.0).await;
    node.metric_reaches("countersign_connections", &[], 0.0).await;
}

#[tokio::test]
async fn only_exactly_listed_origins_open_a_socket() {
    let node = Node::start("[gateway]\nallowed_origins = [\"https://app.example\", \"http://localhost:3000\"]");
    let own = node.origin();
    let local = format!("http://localhost:{}", node.gateway.port());
    for origin in ["https://app.example", "http://localhost:3000", &own, &local] {
        Dial::to(&node).origin(origin).open().await;
    }
    for origin in [
        "http://app.example",
        "https://app.example:443",
        "https://app.example:8443",
        "https://app.example.",
        "https://evil-app.example",
        "https://app.example.evil.example",
        "https://sub.app.example",
        "https://APP.example",
        "https://app.example/",
        "https://user@app.example",
        "http://localhost:3001",
        "null",
        "",
    ] {
        let refusal = Dial::to(&node).origin(origin).try_open().await.expect_err(origin);
        assert_eq!(refusal.status, 403, "{origin}");
        assert_eq!(refusal.header("access-control-allow-origin"), None, "{origin}");
        assert!(refusal.json()["message"].is_string(), "{origin}");
    }
    assert_eq!(Dial::to(&node).try_open().await.expect_err("none").status, 403, "browsers always send an Origin");
    check(&node, "two origins", "GET /ws HTTP/1.1", &[], &[("Origin", &own), ("Origin", &own)], &[403]).await;
    node.metric_at_least("countersign_handshakes_total", &[("outcome", "origin_refused")], 15.0).await;
}

#[tokio::test]
async fn missing_and_null_origins_follow_their_own_policies() {
    let missing = Node::start("[gateway]\nmissing_origin = \"allow\"");
    Dial::to(&missing).open().await;
    assert_eq!(Dial::to(&missing).origin("null").try_open().await.expect_err("null").status, 403);
    let null = Node::start("[gateway]\nnull_origin = \"allow\"");
    Dial::to(&null).origin("null").open().await;
    assert_eq!(Dial::to(&null).try_open().await.expect_err("none").status, 403);
    let strict = Node::start("[gateway]\nallow_own_origin = false\nallowed_origins = [\"https://app.example\"]");
    assert_eq!(Dial::page(&strict).try_open().await.expect_err("own").status, 403);
}

#[tokio::test]
async fn a_token_comes_by_any_of_three_ways_and_each_wrong_one_is_refused() {
    let issuer = Issuer::new();
    let settings = "[gateway.token]\nrequired = true\nfrom_query = \"Authorizer\"";
    let node = Plan::new().toml(&issuer.settings()).toml(settings).start();
    let token = issuer.token("ada", 600);
    let page = || Dial::page(&node);
    let by_header = page().bearer(&token).welcomed().await;
    let mut by_query = page().query("Authorizer", &token).open().await;
    assert_eq!(by_query.event("welcome").await["subject"], "ada");
    let by_protocol = page().protocol(&format!("countersign.token.{token}")).welcomed().await;
    assert_eq!(by_protocol.protocol.as_deref(), Some(NATIVE), "the token is never echoed");
    drop(by_header);

    let refusal = page().try_open().await.expect_err("no token");
    assert_eq!(refusal.status, 401);
    assert_eq!(refusal.header("access-control-allow-origin"), Some(node.origin().as_str()), "{:?}", refusal.headers);
    assert!(refusal.header("www-authenticate").is_some(), "{:?}", refusal.headers);
    let mut audience = issuer.claims("ada", 600);
    audience["aud"] = "another".into();
    let mut other = issuer.claims("ada", 600);
    other["iss"] = "https://evil.example".into();
    let mut forged = token.clone();
    forged.replace_range(forged.len() - 6.., "AAAAAA");
    let long = "x".repeat(6_000) + "." + &"y".repeat(6_000) + ".z";
    for (what, bad) in [
        ("expired", issuer.token("ada", -5)),
        ("another audience", issuer.sign(&audience)),
        ("another issuer", issuer.sign(&other)),
        ("a forged signature", forged),
        ("no token at all", "abc".to_owned()),
        ("unsigned", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.".to_owned()),
        ("too long", long),
    ] {
        let refusal = page().bearer(&bad).try_open().await.expect_err(what);
        assert!(matches!(refusal.status, 401 | 431), "{what}: {}", refusal.status);
    }
}

#[tokio::test]
async fn the_native_protocol_is_chosen_only_when_offered() {
    let node = Node::start("");
    let native = Dial::page(&node).protocol("other").open().await;
    assert_eq!(native.protocol.as_deref(), Some(NATIVE));
    let plain = Dial::to(&node).origin(&node.origin()).open().await;
    assert_eq!(plain.protocol, None);
}
