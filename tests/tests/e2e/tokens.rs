//! Tokens over a connection's life, and the user pool over HTTP.

use std::collections::VecDeque;

use countersign_tests::http::{self, Response};
use countersign_tests::socket::Dial;
use countersign_tests::tokens::Issuer;
use countersign_tests::{Node, Plan, eventually};
use serde_json::{Value, json};

/// Cheap hashes: what is tested is not their cost.
const POOL: &str = "[identity.pool]\nargon2_memory_kib = 1024\nargon2_iterations = 1\nattempts_per_address_per_minute = 0";
/// A password that any policy takes.
const PASSWORD: &str = "Correct horse battery 1";

/// A node with a user `ada` whose password is permanent.
fn with_ada(settings: &str) -> Node {
    let plan = Plan::new().toml(POOL).toml(settings);
    add(&plan, "ada");
    plan.start()
}

fn add(plan: &Plan, name: &str) {
    let added = plan.cli(&["user", "add", name, "--password-stdin", "--permanent"], PASSWORD);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
}

/// Posts to an endpoint of the pool.
async fn auth(node: &Node, path: &str, body: Value) -> Response {
    http::post(&node.url(path), &body).send().await
}

async fn sign_in(node: &Node, user: &str) -> Value {
    let response = auth(node, "/auth", json!({ "user": user, "password": PASSWORD })).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

/// A token's claims, unverified.
fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let part = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn an_expired_token_ends_its_connection_with_4401() {
    let issuer = Issuer::new();
    let node = Plan::new().toml(&issuer.settings()).start();
    let mut socket = Dial::page(&node).bearer(&issuer.token("ada", 2)).open().await;
    let welcome = socket.event("welcome").await;
    assert_eq!(welcome["subject"], "ada");
    assert!(welcome["expiresAt"].is_u64());
    assert_eq!(socket.close_code().await, 4401);
    assert_eq!(node.authorize(welcome["connectionId"].as_str().unwrap()).await.status, 401);
}

#[tokio::test]
async fn a_refresh_over_the_socket_prevents_that() {
    let issuer = Issuer::new();
    let node = Plan::new().toml(&issuer.settings()).start();
    let mut short_lived = Dial::page(&node).bearer(&issuer.token("ada", 3)).verified().await;
    let mut refreshed = Dial::page(&node).bearer(&issuer.token("ada", 3)).verified().await;
    let reply = refreshed.ok("refresh", json!({ "token": issuer.token("ada", 600) })).await;
    assert!(reply["expiresAt"].as_i64().unwrap() > countersign_tests::tokens::now() + 500);
    assert_eq!(refreshed.error("refresh", json!({ "token": issuer.token("bob", 600) })).await, "token_invalid");
    assert_eq!(refreshed.error("refresh", json!({ "token": issuer.token("ada", -9) })).await, "token_invalid");
    assert_eq!(short_lived.close_code().await, 4401);
    refreshed.ok("ping", json!({})).await;
    assert_eq!(node.authorize(&refreshed.id).await.status, 200);
}

#[tokio::test]
async fn sign_in_refresh_and_revoke() {
    let node = with_ada("");
    let first = sign_in(&node, "ada").await;
    assert_eq!(first["user"], "ada");
    let mut socket = Dial::page(&node).bearer(first["token"].as_str().unwrap()).open().await;
    assert_eq!(socket.event("welcome").await["subject"], claims(first["token"].as_str().unwrap())["sub"]);
    let second = auth(&node, "/auth/refresh", json!({ "user": "ada", "refresh": first["refresh"] })).await;
    assert_eq!(second.status, 200, "{}", second.text());
    let second = second.json();
    assert_ne!(second["refresh"], first["refresh"], "refresh tokens rotate");
    let someone = auth(&node, "/auth/refresh", json!({ "user": "bob", "refresh": second["refresh"] })).await;
    assert_eq!(someone.status, 401);
    let latest = auth(&node, "/auth/refresh", json!({ "user": "ada", "refresh": second["refresh"] })).await.json();
    let revoked = auth(&node, "/auth/revoke", json!({ "refresh": latest["refresh"] })).await;
    assert!((200..300).contains(&revoked.status), "{}", revoked.text());
    assert_eq!(auth(&node, "/auth/refresh", json!({ "user": "ada", "refresh": latest["refresh"] })).await.status, 401);
}

#[tokio::test]
async fn a_refresh_token_used_again_ends_its_family() {
    let node = with_ada("[identity.pool]\nrotation_grace_ms = 0");
    let first = sign_in(&node, "ada").await;
    let refresh = async |token: &Value| auth(&node, "/auth/refresh", json!({ "user": "ada", "refresh": token })).await;
    let second = refresh(&first["refresh"]).await;
    assert_eq!(second.status, 200);
    assert_eq!(refresh(&first["refresh"]).await.status, 401, "a rotated token comes again");
    assert_eq!(refresh(&second.json()["refresh"]).await.status, 401, "and its successor ends with it");
    node.metric_at_least("countersign_auth_requests_total", &[("outcome", "reuse_detected")], 1.0).await;
}

#[tokio::test]
async fn unknown_user_and_wrong_password_look_the_same() {
    let node = with_ada("");
    let unknown = auth(&node, "/auth", json!({ "user": "nobody", "password": PASSWORD })).await;
    let wrong = auth(&node, "/auth", json!({ "user": "ada", "password": "wrong" })).await;
    assert_eq!((unknown.status, unknown.json()), (wrong.status, wrong.json()));
    assert_eq!(unknown.status, 401);
}

#[tokio::test]
async fn failed_attempts_lock_for_a_while() {
    let node = with_ada("[identity.pool]\nlockout_threshold = 3\nlockout_base_seconds = 60");
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(auth(&node, "/auth", json!({ "user": "ada", "password": "wrong" })).await.status);
    }
    let right = auth(&node, "/auth", json!({ "user": "ada", "password": PASSWORD })).await;
    assert!(matches!(right.status, 401 | 429), "not even the right password now: {} after {statuses:?}", right.status);
}

#[tokio::test]
async fn bad_bodies_get_400_with_json_and_cors() {
    let node = with_ada("");
    for (what, body) in [
        ("empty", ""),
        ("no JSON", "user=ada"),
        ("cut", "{\"user\":"),
        ("no password", r#"{"user":"ada"}"#),
        ("a number", r#"{"user":1,"password":"x"}"#),
        ("an array", "[]"),
        ("deep", &"[".repeat(10_000)),
    ] {
        let request = http::Request::new("POST", &node.url("/auth")).header("Origin", &node.origin());
        let response = request.header("Content-Type", "application/json").body(body).send().await;
        assert_eq!(response.status, 400, "{what}: {}", response.text());
        assert!(response.json()["message"].is_string(), "{what}");
        assert_eq!(response.header("access-control-allow-origin"), Some(node.origin().as_str()), "{what}");
    }
    let long = json!({ "user": "ada", "password": "x".repeat(200_000) });
    assert_eq!(auth(&node, "/auth", long).await.status, 413);
    assert!(matches!(http::get(&node.url("/auth")).send().await.status, 404 | 405));
}

#[tokio::test]
async fn a_temporary_password_must_be_replaced() {
    let plan = Plan::new().toml(POOL);
    let added = plan.cli(&["user", "add", "eve", "--password-stdin"], PASSWORD);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let node = plan.start();
    let refused = auth(&node, "/auth", json!({ "user": "eve", "password": PASSWORD })).await;
    assert!(matches!(refused.status, 401 | 403), "{} {}", refused.status, refused.text());
    assert_eq!(refused.json().get("token"), None);
    let change = |to: &str| json!({ "user": "eve", "password": PASSWORD, "new_password": to });
    let weak = auth(&node, "/auth/password", change("short")).await;
    assert_eq!(weak.status, 400, "{}", weak.text());
    let same = auth(&node, "/auth/password", change(PASSWORD)).await;
    assert!(same.status >= 400, "the same again is no change");
    let changed = auth(&node, "/auth/password", change("An entirely new one 2")).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert!(changed.json()["token"].is_string());
    let old = auth(&node, "/auth", json!({ "user": "eve", "password": PASSWORD })).await;
    assert_eq!(old.status, 401);
    let new = auth(&node, "/auth", json!({ "user": "eve", "password": "An entirely new one 2" })).await;
    assert_eq!(new.status, 200);
}

#[tokio::test]
async fn disabling_a_user_ends_its_connections_at_once() {
    let plan = Plan::new().toml(POOL);
    add(&plan, "ada");
    add(&plan, "bob");
    let node = plan.start();
    let tokens = (sign_in(&node, "ada").await, sign_in(&node, "bob").await);
    let mut ada = Dial::page(&node).bearer(tokens.0["token"].as_str().unwrap()).verified().await;
    let mut bob = Dial::page(&node).bearer(tokens.1["token"].as_str().unwrap()).verified().await;
    let disabled = node.cli(&["user", "disable", "ada"], "");
    assert!(disabled.status.success(), "{}", String::from_utf8_lossy(&disabled.stderr));
    let code = ada.close_code().await;
    assert!(matches!(code, 4401 | 4410), "{code}");
    assert_eq!(node.authorize(&ada.id).await.status, 401);
    let again = Dial::page(&node).bearer(tokens.0["token"].as_str().unwrap()).try_open().await;
    assert_eq!(again.expect_err("disabled").status, 401);
    assert_eq!(auth(&node, "/auth", json!({ "user": "ada", "password": PASSWORD })).await.status, 401);
    assert_eq!(auth(&node, "/auth/refresh", json!({ "user": "ada", "refresh": tokens.0["refresh"] })).await.status, 401);
    bob.ok("ping", json!({})).await;
    assert!(node.cli(&["user", "enable", "ada"], "").status.success());
    eventually("ada is back", || async {
        let response = auth(&node, "/auth", json!({ "user": "ada", "password": PASSWORD })).await;
        (response.status == 200).then_some(())
    })
    .await;
    assert!(node.cli(&["user", "delete", "bob"], "").status.success());
    let code = bob.close_code().await;
    assert!(matches!(code, 4401 | 4410), "{code}");
}

/// The revocation falls anywhere between a token's verification and the connection's entry in the table.
#[tokio::test]
async fn nobody_who_connects_while_being_disabled_stays() {
    let plan = Plan::new().toml(POOL);
    add(&plan, "ada");
    let node = std::sync::Arc::new(plan.start());
    let token = sign_in(&node, "ada").await["token"].as_str().unwrap().to_owned();
    let connecting: Vec<_> = (0..8)
        .map(|_| {
            let (node, token) = (std::sync::Arc::clone(&node), token.clone());
            tokio::spawn(async move {
                let mut latest = VecDeque::new();
                while let Ok(socket) = Dial::page(&node).bearer(&token).try_open().await {
                    latest.push_back(socket);
                    if latest.len() > 8 {
                        latest.pop_front();
                    }
                }
                latest
            })
        })
        .collect();
    let disabling = std::sync::Arc::clone(&node);
    let disabled = tokio::task::spawn_blocking(move || disabling.cli(&["user", "disable", "ada"], "")).await.unwrap();
    assert!(disabled.status.success(), "{}", String::from_utf8_lossy(&disabled.stderr));
    for latest in connecting {
        for mut socket in latest.await.unwrap() {
            assert!(matches!(socket.close_code().await, 4401 | 4410));
        }
    }
    node.metric_reaches("countersign_connections", &[], 0.0).await;
}

#[tokio::test]
async fn a_token_that_outlives_the_clock_opens_a_socket() {
    let issuer = Issuer::new();
    let node = Node::start(&issuer.settings());
    for expires in [u64::MAX, u64::MAX / 2, 1 << 62] {
        let mut claims = issuer.claims("ada", 600);
        claims["exp"] = json!(expires);
        let mut socket = Dial::page(&node).bearer(&issuer.sign(&claims)).verified().await;
        socket.ok("ping", json!({})).await;
    }
    assert!(node.metrics().await.sum("countersign_connection_panics_total", &[]) < 0.5);
}

#[tokio::test]
async fn self_sign_up_is_off_unless_asked_for() {
    let off = Plan::new().toml(POOL).start();
    let wish = json!({ "user": "new", "password": PASSWORD });
    assert!(matches!(auth(&off, "/auth/sign-up", wish.clone()).await.status, 403 | 404));
    let on = Plan::new().toml(POOL).toml("[identity.pool]\nself_sign_up = true").start();
    let created = auth(&on, "/auth/sign-up", wish.clone()).await;
    assert!((200..300).contains(&created.status), "{}", created.text());
    assert_eq!(auth(&on, "/auth", wish.clone()).await.status, 200);
    assert!(auth(&on, "/auth/sign-up", wish).await.status >= 400, "a name is taken once");
}

#[tokio::test]
async fn keys_rotate_with_overlap() {
    let node = with_ada("[identity.pool]\nkey_publish_ahead_seconds = 0");
    let kids = async || {
        let set = http::get(&node.url("/.well-known/jwks.json")).send().await.json();
        let kids: Vec<Value> = set["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect();
        kids
    };
    let before = kids().await;
    assert_eq!(before.len(), 1);
    let old = sign_in(&node, "ada").await;
    let rotated = node.cli(&["keys", "rotate"], "");
    assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
    eventually("the node publishes both keys", || async { (kids().await.len() == 2).then_some(()) }).await;
    Dial::page(&node).bearer(old["token"].as_str().unwrap()).open().await;
    let new = eventually("the new key signs", || async {
        let new = sign_in(&node, "ada").await;
        let header = new["token"].as_str().unwrap().split('.').next().unwrap().to_owned();
        let same = old["token"].as_str().unwrap().starts_with(&header);
        (!same).then_some(new)
    })
    .await;
    Dial::page(&node).bearer(new["token"].as_str().unwrap()).open().await;
}

#[tokio::test]
async fn the_command_line_mints_tokens_that_the_node_takes() {
    // Its name is fixed here: by default it is the listen address, and the port of this node is known to nobody else.
    let node = with_ada("[identity.pool]\nissuer = \"https://pool.example\"");
    let minted = node.cli(&["token", "mint", "--user", "ada"], "");
    assert!(minted.status.success(), "{}", String::from_utf8_lossy(&minted.stderr));
    let token = String::from_utf8(minted.stdout).unwrap().trim().to_owned();
    let mut socket = Dial::page(&node).bearer(&token).open().await;
    assert_eq!(socket.event("welcome").await["subject"], claims(&token)["sub"]);
    let document = http::get(&node.url("/.well-known/openid-configuration")).send().await.json();
    assert_eq!(document["issuer"], claims(&token)["iss"]);
    assert!(document["jwks_uri"].as_str().unwrap().ends_with("/.well-known/jwks.json"));
}
