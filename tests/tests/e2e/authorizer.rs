//! The contract with reverse proxies: one question, four answers, nothing else.

use countersign_tests::http::{self, Request, Response};
use countersign_tests::socket::{Dial, Incoming};
use countersign_tests::tokens::Issuer;
use countersign_tests::{Node, Plan, eventually};
use serde_json::json;

/// What every allow carries.
fn check_allow(what: &str, response: &Response, subject: &str, connection: &str) {
    assert_eq!(response.status, 200, "{what}: {}", response.text());
    assert_eq!(response.header("x-countersign-subject"), Some(subject), "{what}");
    assert_eq!(response.header("x-countersign-connection-id"), Some(connection), "{what}");
    assert_eq!(response.header("cache-control"), Some("no-store"), "{what}");
    assert_eq!(response.header("set-cookie"), None, "{what}");
    assert!(response.body.len() <= 1_024, "{what}");
    for (name, value) in &response.headers {
        let identity = name.to_ascii_lowercase().starts_with("x-countersign-");
        assert!(!identity || (!value.is_empty() && value.bytes().all(|byte| (0x20..0x7F).contains(&byte))), "{what}: {name}");
    }
}

/// What every denial carries.
fn check_denial(what: &str, response: &Response) {
    assert_eq!(response.status, 401, "{what}: {}", response.text());
    assert!(response.header("www-authenticate").is_some(), "{what}");
    assert_eq!(response.header("cache-control"), Some("no-store"), "{what}");
    assert_eq!(response.header("x-countersign-subject"), None, "{what}");
}

#[tokio::test]
async fn every_method_and_sub_path_is_answered_alike_on_both_listeners() {
    let node = Node::start("");
    let socket = Dial::page(&node).verified().await;
    for base in [node.admin_url("/authorize"), node.url("/authorize")] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
            for path in ["", "/", "/a/b", "/a%2Fb?x=1", "?require=verified"] {
                let url = format!("{base}{path}");
                let what = format!("{method} {url}");
                let request = || Request::new(method, &url);
                check_allow(&what, &request().header("connectionId", &socket.id).send().await, "-", &socket.id);
                check_denial(&what, &request().send().await);
            }
        }
    }
}

#[tokio::test]
async fn what_a_proxy_passes_on_is_ignored() {
    let node = Node::start("");
    let socket = Dial::page(&node).verified().await;
    let request = |method: &str| Request::new(method, &node.admin_url("/authorize")).header("connectionId", &socket.id);
    for (name, value) in [
        ("If-None-Match", "*"),
        ("If-Modified-Since", "Fri, 20 Nov 2026 00:00:00 GMT"),
        ("Range", "bytes=0-1"),
        ("Upgrade", "websocket"),
        ("X-Countersign-Subject", "admin"),
        ("X-Countersign-Connection-Id", "AAAAAAAAAAAAAAAAAAAAAA"),
        ("X-Forwarded-Method", "OPTIONS"),
        ("Accept-Encoding", "gzip, br"),
    ] {
        check_allow(name, &request("GET").header(name, value).send().await, "-", &socket.id);
        let denied = http::get(&node.admin_url("/authorize")).header(name, value).send().await;
        check_denial(name, &denied);
    }
    check_allow("a body", &request("POST").body("ignored").send().await, "-", &socket.id);
    let expecting = request("POST").header("Expect", "100-continue").body("ignored").send().await;
    check_allow("an expectation", &expecting, "-", &socket.id);
}

#[tokio::test]
async fn everything_but_a_live_verified_connection_is_denied() {
    let node = Node::start("");
    let unverified = Dial::page(&node).welcomed().await;
    let verified = Dial::page(&node).verified().await;
    let mut cut = verified.id.clone();
    cut.pop();
    let lower = if verified.id.to_lowercase() == verified.id { "x".repeat(22) } else { verified.id.to_lowercase() };
    for (what, id) in [
        ("unverified", unverified.id.as_str()),
        ("unknown", "AAAAAAAAAAAAAAAAAAAAAA"),
        ("empty", ""),
        ("cut", &cut),
        ("padded", &format!("{}==", verified.id)),
        ("in lower case", &lower),
        ("another encoding", "AAAAAAAAAAAAAAAAAAAAAB"),
        ("long", &"A".repeat(4_000)),
        ("odd bytes", "\u{e9}\u{e9}"),
        ("two in one", &format!("{}, {}", verified.id, verified.id)),
    ] {
        check_denial(what, &node.authorize(id).await);
    }
    let twice = node.ask("AAAAAAAAAAAAAAAAAAAAAA").header("connectionId", &verified.id).send().await;
    check_denial("two headers that differ", &twice);
    let message = node.authorize("").await.json();
    assert!(message["message"].is_string());
}

#[tokio::test]
async fn a_denial_follows_the_close_at_once() {
    let node = Node::start("");
    for round in 0..30 {
        let socket = Dial::page(&node).verified().await;
        let id = socket.id.clone();
        for _ in 0..3 {
            assert_eq!(node.authorize(&id).await.status, 200);
        }
        let end = socket.close().await;
        assert!(matches!(end, Incoming::Closed(..)), "{end:?}");
        // The close was seen by its client: from here on nothing is allowed, on either listener.
        check_denial(&format!("round {round}"), &node.authorize(&id).await);
        check_denial(&format!("round {round}"), &http::get(&node.url("/authorize")).header("connectionId", &id).send().await);
    }
}

#[tokio::test]
async fn a_denial_follows_a_lost_client() {
    let node = Node::start("");
    let socket = Dial::page(&node).verified().await;
    let id = socket.id.clone();
    assert_eq!(node.authorize(&id).await.status, 200);
    drop(socket);
    eventually("the lost connection is denied", || async { (node.authorize(&id).await.status == 401).then_some(()) }).await;
}

#[tokio::test]
async fn a_call_may_have_to_show_a_token_or_both() {
    let issuer = Issuer::new();
    let by_token = Plan::new().toml(&issuer.settings()).toml("[authorizer]\nrequire = \"token\"").start();
    let token = issuer.token("ada", 600);
    let bearer = format!("Bearer {token}");
    let asked = http::get(&by_token.admin_url("/authorize")).header("Authorization", &bearer).send().await;
    check_allow("token", &asked, "ada", "-");
    check_denial("no token", &http::get(&by_token.admin_url("/authorize")).send().await);

    let node = Plan::new().toml(&issuer.settings()).start();
    let socket = Dial::page(&node).bearer(&token).verified().await;
    let url = node.admin_url("/authorize?require=both");
    let ask =
        async |bearer: &str| http::get(&url).header("Authorization", bearer).header("connectionId", &socket.id).send().await;
    check_allow("both", &ask(&bearer).await, "ada", &socket.id);
    check_denial("one of both", &http::get(&url).header("connectionId", &socket.id).send().await);
    check_denial("the other of both", &http::get(&url).header("Authorization", &bearer).send().await);
    let mixed = ask(&format!("Bearer {}", issuer.token("bob", 600))).await;
    assert_eq!(mixed.status, 403, "both are valid, but not of one principal");
    check_denial("an expired token", &ask(&format!("Bearer {}", issuer.token("ada", -5))).await);
    check_allow("verified", &node.authorize(&socket.id).await, "ada", &socket.id);
}

#[tokio::test]
async fn per_route_decision() {
    let issuer = Issuer::new();
    let paths = r#"
[[protected]]
path = "/by-connection"
body = { a = 1 }
[[protected]]
path = "/by-token"
require = "token"
body = { b = 2 }
[[protected]]
path = "/by-both"
require = "both"
body = { c = 3 }
"#;
    let node = Plan::new().toml(&issuer.settings()).toml(paths).start();
    let token = issuer.token("ada", 600);
    let socket = Dial::page(&node).bearer(&token).verified().await;
    let call = async |path: &str, id: bool, bearer: bool| {
        let mut request = http::get(&node.url(path));
        if id {
            request = request.header("connectionId", &socket.id);
        }
        if bearer {
            request = request.header("Authorization", &format!("Bearer {token}"));
        }
        request.send().await.status
    };
    // In an order in which a remembered answer of one path would betray itself on the next.
    for _ in 0..3 {
        assert_eq!(call("/by-connection", true, false).await, 200);
        assert_eq!(call("/by-both", true, false).await, 401);
        assert_eq!(call("/by-token", true, false).await, 401);
        assert_eq!(call("/by-token", false, true).await, 200);
        assert_eq!(call("/by-connection", false, true).await, 401);
        assert_eq!(call("/by-both", true, true).await, 200);
    }
    let body = http::get(&node.url("/by-both")).header("connectionId", &socket.id);
    assert_eq!(body.header("Authorization", &format!("Bearer {token}")).send().await.json(), json!({ "c": 3 }));
}

#[tokio::test]
async fn header_path_and_default_requirement_are_settings() {
    let settings = "[authorizer]\npath = \"/check\"\nheader = \"X-Socket\"\nallow_max_age_seconds = 7";
    let node = Node::start(settings);
    let socket = Dial::page(&node).verified().await;
    let allowed = http::get(&node.admin_url("/check")).header("X-Socket", &socket.id).send().await;
    assert_eq!(allowed.status, 200);
    assert!(allowed.header("cache-control").unwrap().contains("max-age=7"));
    check_denial("the default header", &http::get(&node.admin_url("/check")).header("connectionId", &socket.id).send().await);
    assert_eq!(http::get(&node.admin_url("/authorize")).send().await.status, 404);
    assert_eq!(http::get(&node.admin_url("/checkout")).send().await.status, 404, "another word, not a sub-path");
}

#[tokio::test]
async fn cross_origin_calls_are_answered_to_listed_origins() {
    let node = Node::start("[gateway]\nallowed_origins = [\"https://app.example\"]");
    let ask = async |origin: &str| http::get(&node.url("/authorize")).header("Origin", origin).send().await;
    let denied = ask("https://app.example").await;
    check_denial("cross-origin", &denied);
    assert_eq!(denied.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(ask("https://evil.example").await.header("access-control-allow-origin"), None);
}

/// A proxy may pass on method and headers of the call that it asks about: whatever these are, only an allow is 2xx.
#[tokio::test]
async fn nothing_but_an_allow_is_2xx_whatever_the_method_and_a_preflight_is_no_allow() {
    let node = Node::start("[gateway]\nallowed_origins = [\"https://app.example\"]");
    let socket = Dial::page(&node).verified().await;
    let methods =
        ["OPTIONS", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "PURGE", "QUERY", "M-SEARCH", "get"];
    for base in [node.admin_url("/authorize"), node.url("/authorize")] {
        for method in methods {
            for (path, asked) in [("", "GET"), ("/orders/1", "DELETE"), ("/?require=verified", "OPTIONS")] {
                for origin in ["https://app.example", "https://evil.example", "null"] {
                    let url = format!("{base}{path}");
                    let what = format!("{method} {url} of {origin}");
                    let preflight = Request::new(method, &url)
                        .header("Origin", origin)
                        .header("Access-Control-Request-Method", asked)
                        .header("Access-Control-Request-Headers", "connectionid");
                    let denied = preflight.clone().send().await;
                    check_denial(&what, &denied);
                    assert_eq!(denied.header("access-control-allow-methods"), None, "{what}");
                    check_denial(&what, &preflight.clone().header("connectionId", "null").send().await);
                    let allowed = preflight.header("connectionId", &socket.id).send().await;
                    check_allow(&what, &allowed, "-", &socket.id);
                }
            }
        }
    }
}

#[tokio::test]
async fn decisions_are_counted_by_outcome_and_source() {
    let node = Node::start("");
    let socket = Dial::page(&node).verified().await;
    node.authorize(&socket.id).await;
    node.authorize("").await;
    node.metric_reaches("countersign_decisions_total", &[("outcome", "allow")], 1.0).await;
    node.metric_reaches("countersign_decisions_total", &[("outcome", "deny")], 1.0).await;
    node.metric_reaches("countersign_decision_sources_total", &[("source", "owner")], 1.0).await;
    node.metric_reaches("countersign_decision_sources_total", &[("source", "request")], 1.0).await;
}
