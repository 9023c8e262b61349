//! The secured socket: a user pool, endpoints and a socket behind its tokens, and greetings; with the example's configuration.
//!
//! Every row of that client's wire is a step here. Its sockets carry no `Origin`, and its tokens travel in the query.

use countersign_tests::http::{self, Response};
use countersign_tests::socket::{Dial, Incoming, Socket};
use countersign_tests::{Node, Plan};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};

/// A password of that system's policy.
const PASSWORD: &str = "Secret1";

/// The example on free ports, with an administrator's user in its pool.
fn start() -> Node {
    let plan = Plan::example("secured-socket.toml");
    add(&plan.cli(&["user", "add", "ada", "--password-stdin", "--permanent"], PASSWORD));
    plan.start()
}

fn add(output: &std::process::Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn sign_in(node: &Node, user: &str, password: &str) -> Response {
    http::post(&node.url("/auth"), &json!({ "user": user, "password": password })).send().await
}

async fn tokens(node: &Node, user: &str) -> Value {
    let response = sign_in(node, user, PASSWORD).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

fn dial(node: &Node, channel: &str, token: &str) -> Dial {
    Dial::to(node).query("connectionType", channel).query("Authorizer", token)
}

async fn connect(node: &Node, channel: &str, tokens: &Value) -> Socket {
    dial(node, channel, tokens["token"].as_str().unwrap()).open().await
}

/// Sends a ping and expects its answer next: whatever else was to come would have come before.
async fn nothing_else_came(socket: &mut Socket) {
    socket.text(r#"{"action":"PING"}"#).await;
    assert_eq!(socket.next_json().await, json!({ "action": "PING", "value": "PONG" }));
}

#[tokio::test]
async fn sign_in_answers_an_id_token_that_its_keys_verify() {
    let node = start();
    let answer = tokens(&node, "ada").await;
    assert_eq!(answer["user"], "ada");
    assert!(answer["refresh"].is_string());
    let token = answer["token"].as_str().unwrap();
    let header = decode_header(token).unwrap();
    assert_eq!(header.alg, Algorithm::RS256);
    let keys = http::get(&node.url("/.well-known/jwks.json")).send().await.json();
    let key = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header.kid.clone().unwrap()).expect("the kid");
    let key = DecodingKey::from_rsa_components(key["n"].as_str().unwrap(), key["e"].as_str().unwrap()).unwrap();
    let mut rules = Validation::new(Algorithm::RS256);
    rules.validate_aud = false;
    let claims = decode::<Value>(token, &key, &rules).expect("the signature").claims;
    assert_eq!(claims["token_use"], "id");
    assert_eq!(claims["cognito:username"], "ada");
    for name in ["sub", "aud", "iss"] {
        assert!(claims[name].is_string(), "{name}");
    }
    assert!(claims["exp"].is_u64());
}

#[tokio::test]
async fn refresh_answers_the_same_shape_with_a_token_that_works() {
    let node = start();
    let first = tokens(&node, "ada").await;
    for round in 0..2 {
        // That client keeps its refresh token: it must work again.
        let body = json!({ "user": "ada", "refresh": first["refresh"] });
        let response = http::post(&node.url("/auth/refresh"), &body).send().await;
        assert_eq!(response.status, 200, "round {round}: {}", response.text());
        let again = response.json();
        assert_eq!(again["user"], "ada");
        assert!(again["refresh"].is_string());
        connect(&node, "greeting", &again).await;
    }
}

#[tokio::test]
async fn the_socket_asks_for_a_good_token_and_for_no_origin() {
    let node = start();
    let good = tokens(&node, "ada").await;
    connect(&node, "greeting", &good).await;
    let none = Dial::to(&node).query("connectionType", "greeting").try_open().await.expect_err("no token");
    assert_eq!(none.status, 401);
    let token = good["token"].as_str().unwrap();
    let (head, signature) = token.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhZGEifQ.".to_owned();
    for (what, bad) in [("forged", forged), ("unsigned", unsigned), ("garbage", "garbage".to_owned())] {
        let refused = dial(&node, "greeting", &bad).try_open().await.expect_err(what);
        assert!(matches!(refused.status, 401 | 403), "{what}: {}", refused.status);
    }
    let expired = node.cli(&["token", "mint", "--user", "ada", "--lifetime-seconds", "1"], "");
    add(&expired);
    let expired = String::from_utf8(expired.stdout).unwrap().trim().to_owned();
    // Leeway is the node's own business; a token that is a second old may still be taken, so only the shape is shown here.
    assert_eq!(expired.split('.').count(), 3);
}

#[tokio::test]
async fn ping_gets_its_pong() {
    let node = start();
    let mut socket = connect(&node, "greeting", &tokens(&node, "ada").await).await;
    for _ in 0..3 {
        nothing_else_came(&mut socket).await;
    }
}

#[tokio::test]
async fn a_greeting_reaches_every_other_subscriber_and_not_its_sender() {
    let node = start();
    let tokens = tokens(&node, "ada").await;
    let mut sender = connect(&node, "greeting", &tokens).await;
    let mut others = [connect(&node, "greeting", &tokens).await, connect(&node, "greeting", &tokens).await];
    let mut elsewhere = connect(&node, "weather", &tokens).await;
    for text in ["hello", "quotes \" and \\ and \u{1F600}", ""] {
        sender.json(&json!({ "action": "GREETING", "message": text })).await;
        for other in &mut others {
            assert_eq!(other.next_json().await, json!({ "action": "GREETING", "value": text }));
        }
    }
    nothing_else_came(&mut sender).await;
    nothing_else_came(&mut elsewhere).await;
    elsewhere.json(&json!({ "action": "GREETING", "message": "from elsewhere" })).await;
    assert_eq!(sender.next_json().await["value"], "from elsewhere");
}

#[tokio::test]
async fn anything_else_gets_an_error_and_the_socket_stays() {
    let node = start();
    let mut socket = connect(&node, "greeting", &tokens(&node, "ada").await).await;
    for text in [r#"{"action":"DANCE"}"#, r#"{"action":"ping"}"#, "{}", "hello", "", "[1]", "null", r#"{"action":7}"#] {
        socket.text(text).await;
        assert_eq!(socket.next_json().await, json!({ "action": "ERROR", "error": "Invalid request" }), "{text:?}");
    }
    nothing_else_came(&mut socket).await;
}

#[tokio::test]
async fn a_closed_connection_leaves_the_table() {
    let node = start();
    let tokens = tokens(&node, "ada").await;
    let mut stays = connect(&node, "greeting", &tokens).await;
    let leaves = connect(&node, "greeting", &tokens).await;
    node.metric_reaches("countersign_subscriptions", &[], 2.0).await;
    assert!(matches!(leaves.close().await, Incoming::Closed(..)));
    node.metric_reaches("countersign_connections", &[], 1.0).await;
    node.metric_reaches("countersign_subscriptions", &[], 1.0).await;
    stays.json(&json!({ "action": "GREETING", "message": "anybody?" })).await;
    nothing_else_came(&mut stays).await;
}

#[tokio::test]
async fn http_endpoints_are_secured_by_the_same_tokens_and_answer_with_cors() {
    let node = start();
    let tokens = tokens(&node, "ada").await;
    let bearer = format!("Bearer {}", tokens["token"].as_str().unwrap());
    let good = http::get(&node.url("/authorize")).header("Authorization", &bearer).send().await;
    assert_eq!(good.status, 200, "{}", good.text());
    let greeting = http::get(&node.url("/greeting")).header("Authorization", &bearer).send().await;
    assert_eq!(greeting.status, 200, "{}", greeting.text());
    assert_eq!(http::get(&node.url("/greeting")).send().await.status, 401);
}

#[tokio::test]
async fn errors_of_the_caller_are_not_errors_of_the_server() {
    let node = start();
    assert_eq!(sign_in(&node, "ada", "wrong").await.status, 401);
    assert_eq!(sign_in(&node, "nobody", PASSWORD).await.status, 401);
    let refresh = http::post(&node.url("/auth/refresh"), &json!({ "user": "ada", "refresh": "garbage" })).send().await;
    assert_eq!(refresh.status, 401);
    let empty = http::post(&node.url("/auth"), &json!({})).send().await;
    assert_eq!(empty.status, 400);
}

#[tokio::test]
async fn users_are_added_while_the_node_runs_under_the_old_password_policy() {
    let node = start();
    let refused =
        |password: &str| !node.cli(&["user", "add", "bob", "--password-stdin", "--permanent"], password).status.success();
    assert!(refused("Abc12"), "five characters");
    assert!(refused("abcdef1"), "no upper-case letter");
    assert!(refused("Abcdefg"), "no digit");
    add(&node.cli(&["user", "add", "bob", "--password-stdin", "--permanent"], "Abcde1"));
    let response = sign_in(&node, "bob", "Abcde1").await;
    assert_eq!(response.status, 200, "{}", response.text());
    let listed = node.cli(&["user", "list"], "");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.contains("ada") && text.contains("bob"), "{text}");
    add(&node.cli(&["user", "add", "new", "--password-stdin"], "Tempor1"));
    let temporary = sign_in(&node, "new", "Tempor1").await;
    assert!(matches!(temporary.status, 401 | 403), "a temporary password must be replaced: {}", temporary.status);
}
