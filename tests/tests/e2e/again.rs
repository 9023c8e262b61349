//! A verified connection shows again what it is: when it is busy, or when a server asks; a failure ends its rights.

use countersign_tests::socket::{Dial, Socket};
use countersign_tests::{Node, Plan};
use serde_json::{Value, json};

/// Asks the node to challenge a connection again.
async fn ask(node: &Node, connection: &str) -> u16 {
    node.manage("/api/v1/challenge", &json!({ "connection": connection })).await.status
}

/// A verified client with a further challenge, whose epoch is this.
async fn challenged_again(node: &Node, socket: &mut Socket, epoch: u64) -> Value {
    assert_eq!(ask(node, &socket.id).await, 202);
    let challenge = socket.event("challenge").await;
    assert_eq!(challenge["epoch"], epoch);
    challenge
}

/// What the authorizer says of a connection.
async fn decision(node: &Node, id: &str) -> u16 {
    node.authorize(id).await.status
}

#[tokio::test]
async fn a_connection_that_answers_again_was_verified_all_along() {
    let node = Plan::new().start();
    let mut socket = Dial::page(&node).verified().await;
    let first = challenged_again(&node, &mut socket, 1).await;
    assert_eq!(decision(&node, &socket.id).await, 200, "pending");
    assert_eq!(ask(&node, &socket.id).await, 202, "while one is pending, nothing more comes");
    socket.ok("answer", socket.answer(&first)).await;
    socket.event("verified").await;
    assert_eq!(decision(&node, &socket.id).await, 200);
    let second = challenged_again(&node, &mut socket, 2).await;
    assert_ne!((&first["challenge"], &first["nonce"]), (&second["challenge"], &second["nonce"]));
    socket.ok("answer", socket.answer(&second)).await;
    node.metric_reaches("countersign_challenge_verdicts_total", &[("verdict", "verified")], 3.0).await;
    node.metric_reaches("countersign_challenges_again_total", &[("cause", "server")], 2.0).await;
    node.metric_reaches("countersign_connections", &[("state", "verified")], 1.0).await;
}

#[tokio::test]
async fn an_answer_to_an_older_challenge_ends_the_connection() {
    let node = Plan::new().start();
    let mut socket = Dial::page(&node).verified().await;
    let old = challenged_again(&node, &mut socket, 1).await;
    let old = socket.answer(&old);
    socket.ok("answer", old.clone()).await;
    challenged_again(&node, &mut socket, 2).await;
    let mut replayed = json!({ "id": 9, "action": "answer" });
    replayed.as_object_mut().unwrap().extend(old.as_object().unwrap().clone());
    socket.json(&replayed).await;
    assert_eq!(socket.close_code().await, 4403);
    assert_eq!(decision(&node, &socket.id).await, 401);
}

#[tokio::test]
async fn silence_ends_the_connection_at_the_deadline() {
    let node = Plan::new().toml("challenge.answer_timeout_ms = 2000").start();
    let mut socket = Dial::page(&node).verified().await;
    challenged_again(&node, &mut socket, 1).await;
    assert_eq!(decision(&node, &socket.id).await, 200, "until the deadline it is verified");
    assert_eq!(socket.close_code().await, 4408);
    assert_eq!(decision(&node, &socket.id).await, 401);
}

#[tokio::test]
async fn a_connection_that_may_stay_loses_its_rights() {
    let node = Plan::new().toml("challenge.on_failure = 'stay_unverified'").start();
    let mut socket = Dial::page(&node).verified().await;
    challenged_again(&node, &mut socket, 1).await;
    assert_eq!(socket.error("answer", json!({})).await, "denied");
    socket.event("challenge_failed").await;
    assert_eq!(decision(&node, &socket.id).await, 401);
    assert_eq!(ask(&node, &socket.id).await, 404, "there is no way back");
    socket.ok("ping", json!({})).await;
    node.metric_reaches("countersign_connections", &[("state", "lapsed")], 1.0).await;
}

#[tokio::test]
async fn a_lapsed_connection_receives_nothing_that_needs_a_verified_one() {
    let rules = r#"
        challenge.on_failure = "stay_unverified"
        [[channels]]
        pattern = "for-verified"
        subscribe = "verified"
        [[channels]]
        pattern = "open"
        subscribe = "anyone"
    "#;
    let node = Plan::new().toml(rules).start();
    let mut socket = Dial::page(&node).verified().await;
    for channel in ["for-verified", "open"] {
        socket.ok("subscribe", json!({ "channel": channel })).await;
    }
    challenged_again(&node, &mut socket, 1).await;
    assert_eq!(socket.error("answer", json!({})).await, "denied");
    assert_eq!(socket.event("challenge_failed").await["unsubscribed"], json!(["for-verified"]));
    for channel in ["for-verified", "open"] {
        let publication = json!({ "channel": channel, "data": channel });
        assert_eq!(node.manage("/api/v1/publish", &publication).await.status, 200);
    }
    assert_eq!(socket.event("publication").await["channel"], "open", "the first that comes");
    node.metric_reaches("countersign_subscriptions", &[], 1.0).await;
    assert_eq!(socket.error("subscribe", json!({ "channel": "for-verified" })).await, "denied");
}

#[tokio::test]
async fn a_full_quota_switches_no_further_challenge_off() {
    let node = Plan::new().toml("challenge.pending_per_network_max = 1").start();
    let mut socket = Dial::page(&node).verified().await;
    let _keeps_it_full = Dial::page(&node).welcomed().await;
    assert!(Dial::page(&node).try_open().await.is_err(), "its network has no room for newcomers");
    let challenge = challenged_again(&node, &mut socket, 1).await;
    socket.ok("answer", socket.answer(&challenge)).await;
    socket.event("verified").await;
    assert!(Dial::page(&node).try_open().await.is_err(), "nor has it made any");
}

#[tokio::test]
async fn a_busy_connection_is_challenged_again_and_a_quiet_one_is_not() {
    let node = Plan::new().toml("challenge.again = { messages_per_minute = 20, calls_per_minute = 5 }").start();
    let mut quiet = Dial::page(&node).verified().await;
    let mut busy = Dial::page(&node).verified().await;
    for _ in 0..21 {
        busy.ok("ping", json!({})).await;
    }
    let challenge = busy.event("challenge").await;
    assert_eq!(challenge["epoch"], 1);
    busy.ok("answer", busy.answer(&challenge)).await;
    let mut called = Dial::page(&node).verified().await;
    for _ in 0..6 {
        assert_eq!(decision(&node, &called.id).await, 200);
    }
    let challenge = called.event("challenge").await;
    called.ok("answer", called.answer(&challenge)).await;
    quiet.ok("ping", json!({})).await;
    for cause in ["messages", "calls"] {
        node.metric_reaches("countersign_challenges_again_total", &[("cause", cause)], 1.0).await;
    }
}

#[tokio::test]
async fn only_a_verified_native_client_can_be_challenged_again() {
    let node = Plan::new().start();
    let unverified = Dial::page(&node).welcomed().await;
    assert_eq!(ask(&node, &unverified.id).await, 404);
    assert_eq!(ask(&node, "AAAAAAAAAAAAAAAAAAAAAA").await, 404);
    assert_eq!(node.manage("/api/v1/challenge", &json!({ "connection": 7 })).await.status, 400);
}
