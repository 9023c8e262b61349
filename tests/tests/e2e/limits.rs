//! Nothing that an outsider can grow is without a bound, and each bound has its own code.

use countersign_tests::raw::{CLOSE, CONTINUATION, Frame, PING, PONG, Raw, TEXT};
use countersign_tests::socket::{Dial, Incoming, NATIVE};
use countersign_tests::tokens::Issuer;
use countersign_tests::{Node, Plan, eventually};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

/// Everybody may connect and subscribe; nobody is challenged.
const OPEN: &str = r#"
[gateway]
missing_origin = "allow"
subscribe_parameter = "channel"
[challenge]
enabled = false
[[channels]]
pattern = "news"
subscribe = "anyone"
publish = "anyone"
"#;

/// A node that is open to all, with some limits.
fn open(limits: &str) -> Node {
    Plan::new().toml(OPEN).toml(&format!("[gateway.limits]\n{limits}")).start()
}

#[tokio::test]
async fn slow_consumer_is_closed_with_its_own_code_and_costs_bounded_memory() {
    let node = open("outbound_queue_max_bytes = 262144\nwrite_stall_timeout_ms = 60000\nmessages_per_second = 10000");
    let mut slow = Raw::open_narrow(&node, &[]).await;
    slow.send(&[Frame::new(TEXT, r#"{"action":"subscribe","channel":"news"}"#)]).await;
    assert!(String::from_utf8_lossy(&slow.frame().await.unwrap().payload).contains("ok"));
    let mut healthy = Dial::to(&node).open().await;
    healthy.text(r#"{"action":"subscribe","channel":"news"}"#).await;
    healthy.next_text().await;
    let before = node.rss_kib();
    let data = json!("x".repeat(60_000));
    // More than the kernel's buffers on both sides and the queue together.
    let mut published = 0;
    while node.metrics().await.sum("countersign_slow_consumers_total", &[]) < 0.5 {
        assert_eq!(node.publish("news", &data).await.status, 200);
        assert_eq!(healthy.next_text().await.len(), 60_002, "a healthy neighbour gets everything");
        published += 1;
        assert!(published < 1_000, "60 MB and no slow consumer");
    }
    let grown = node.rss_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "resident memory grew by {grown} KiB");
    // What the client reads at last are whole frames and then the close.
    assert_eq!(slow.closed().await, Some(4429));
    node.metric_reaches("countersign_closes_total", &[("code", "4429")], 1.0).await;
    node.metric_reaches("countersign_connections", &[], 1.0).await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut() {
    let node = open("outbound_queue_max_bytes = 262144\nwrite_stall_timeout_ms = 500\nclose_timeout_ms = 500");
    let mut frozen = Raw::open_narrow(&node, &[]).await;
    frozen.send(&[Frame::new(TEXT, r#"{"action":"subscribe","channel":"news"}"#)]).await;
    node.metric_reaches("countersign_subscriptions", &[], 1.0).await;
    let data = json!("x".repeat(60_000));
    eventually("the frozen client is gone", || async {
        assert_eq!(node.publish("news", &data).await.status, 200);
        (node.metrics().await.sum("countersign_connections", &[]) < 0.5).then_some(())
    })
    .await;
    node.metric_reaches("countersign_subscriptions", &[], 0.0).await;
    node.metric_at_least("countersign_connection_cuts_total", &[], 1.0).await;
}

#[tokio::test]
async fn too_many_messages_close_with_4429() {
    let node = open("messages_per_second = 5");
    let mut socket = Raw::open(&node).await;
    let flood: Vec<Frame> = (0..50).map(|_| Frame::new(TEXT, r#"{"action":"ping"}"#)).collect();
    socket.send(&flood).await;
    assert_eq!(socket.closed().await, Some(4429));
    node.metric_reaches("countersign_limit_hits_total", &[("limit", "message_rate")], 1.0).await;
}

#[tokio::test]
async fn too_many_control_frames_close_with_4429() {
    let node = open("control_frames_per_second = 5");
    let mut socket = Raw::open(&node).await;
    let flood: Vec<Frame> = (0..50).map(|_| Frame::new(PING, "x")).collect();
    socket.send(&flood).await;
    assert_eq!(socket.closed().await, Some(4429));
    node.metric_reaches("countersign_limit_hits_total", &[("limit", "control_rate")], 1.0).await;
}

#[tokio::test]
async fn a_client_without_a_pulse_is_cut_and_one_with_it_is_not() {
    let node = open("ping_interval_seconds = 1\npong_timeout_seconds = 5");
    let mut silent = Raw::open(&node).await;
    let mut alive = Raw::open(&node).await;
    assert_eq!(silent.frame().await.expect("a ping").opcode, PING);
    let cut = async {
        while let Some(frame) = silent.frame().await {
            assert!(matches!(frame.opcode, PING | CLOSE), "{frame:?}");
        }
    };
    // It answers for as long as the other lives.
    let pulse = async {
        loop {
            let ping = alive.frame().await.expect("a ping");
            assert_eq!(ping.opcode, PING);
            alive.send(&[Frame::new(PONG, ping.payload)]).await;
        }
    };
    tokio::select! {
        () = cut => {}
        () = pulse => {}
    }
    node.metric_reaches("countersign_connection_cuts_total", &[("reason", "pong_timeout")], 1.0).await;
    alive.send(&[Frame::new(TEXT, r#"{"action":"ping"}"#)]).await;
    assert_eq!(alive.answered_frame().await.expect("an answer").opcode, TEXT);
}

#[tokio::test]
async fn an_idle_client_is_closed_with_1001() {
    let node = open("idle_timeout_seconds = 1");
    let mut socket = Dial::to(&node).open().await;
    assert_eq!(socket.close_code().await, 1001);
}

#[tokio::test]
async fn an_old_connection_is_asked_to_come_again() {
    let node = open("connection_age_max_seconds = 1");
    let mut socket = Dial::to(&node).open().await;
    assert_eq!(socket.close_code().await, 1012);
}

#[tokio::test]
async fn an_unfinished_message_closes_with_1008() {
    let node = open("message_assembly_timeout_ms = 300");
    let mut fragments = Raw::open(&node).await;
    fragments.send(&[Frame::part(TEXT, "begun")]).await;
    assert_eq!(fragments.closed().await, Some(1008));
    let mut trickle = Raw::open(&node).await;
    trickle.bytes(&Frame::new(TEXT, "half a frame").masked()[..9]).await;
    assert_eq!(trickle.closed().await, Some(1008));
    let mut drip = Raw::open(&node).await;
    drip.send(&[Frame::part(TEXT, "a")]).await;
    // Further fragments do not start the clock again.
    while node.metrics().await.sum("countersign_closes_total", &[("code", "1008")]) < 2.5 {
        // It may have been closed since the look.
        let _ = drip.stream.write_all(&Frame::part(CONTINUATION, "b").masked()).await;
    }
}

#[tokio::test]
async fn a_full_node_and_full_quotas_refuse_before_the_101() {
    let full = open("connections_max = 2");
    let _one = Dial::to(&full).open().await;
    let two = Dial::to(&full).open().await;
    let refusal = Dial::to(&full).try_open().await.expect_err("full");
    assert_eq!(refusal.status, 503);
    assert!(refusal.header("retry-after").is_some());
    assert!(matches!(two.close().await, Incoming::Closed(..)));
    eventually("room for one again", || async { Dial::to(&full).try_open().await.ok() }).await;

    let address = open("connections_per_address_max = 1");
    let _one = Dial::to(&address).open().await;
    assert_eq!(Dial::to(&address).try_open().await.expect_err("address").status, 429);

    let issuer = Issuer::new();
    let plan = Plan::new().toml(OPEN).toml(&issuer.settings()).toml("[gateway.limits]\nconnections_per_principal_max = 1");
    let principal = plan.start();
    let dial = |subject: &str| Dial::to(&principal).bearer(&issuer.token(subject, 600));
    let _ada = dial("ada").open().await;
    let _bob = dial("bob").open().await;
    assert_eq!(dial("ada").try_open().await.expect_err("principal").status, 429);
    principal.metric_reaches("countersign_handshakes_total", &[("outcome", "quota_exceeded")], 1.0).await;
}

#[tokio::test]
async fn pending_challenges_are_bounded_and_old_ones_are_kept() {
    let node = Node::start("[challenge]\npending_max = 2");
    let mut first = Dial::page(&node).welcomed().await;
    let challenge = first.challenge().await;
    let mut second = Dial::page(&node).welcomed().await;
    second.challenge().await;
    let third = match Dial::page(&node).try_open().await {
        Err(refusal) => refusal.status == 503,
        Ok(mut socket) => {
            let reply = socket.ask("hello", socket.hello()).await;
            reply["error"]["code"] == "overloaded"
        }
    };
    assert!(third, "a third is refused");
    first.ok("answer", first.answer(&challenge)).await;
    first.event("verified").await;
}

#[tokio::test]
async fn an_unverified_connection_may_send_little() {
    let node = Node::start("");
    let mut socket = Dial::page(&node).welcomed().await;
    socket.text(&format!(r#"{{"id":1,"action":"ping","pad":"{}"}}"#, "x".repeat(20_000))).await;
    assert_eq!(socket.close_code().await, 1009);
    let mut verified = Dial::page(&node).verified().await;
    assert_eq!(verified.error("ping", json!({ "pad": "x".repeat(20_000) })).await, "bad_request");
}

#[tokio::test]
async fn subscriptions_are_bounded() {
    let settings = "[challenge]\nenabled = false\n[gateway.limits]\nsubscriptions_max = 2\n\
                    [[channels]]\npattern = \"c:*\"\nsubscribe = \"anyone\"";
    let node = Node::start(settings);
    let mut socket = Dial::page(&node).welcomed().await;
    socket.ok("subscribe", json!({ "channel": "c:1" })).await;
    assert_eq!(socket.error("subscribe", json!({ "channel": "c:1" })).await, "already_subscribed");
    socket.ok("subscribe", json!({ "channel": "c:2" })).await;
    assert_eq!(socket.error("subscribe", json!({ "channel": "c:3" })).await, "limit");
    socket.ok("unsubscribe", json!({ "channel": "c:1" })).await;
    assert_eq!(socket.error("unsubscribe", json!({ "channel": "c:1" })).await, "not_subscribed");
    socket.ok("subscribe", json!({ "channel": "c:3" })).await;
    node.metric_reaches("countersign_subscriptions", &[], 2.0).await;
    socket.close().await;
    node.metric_reaches("countersign_subscriptions", &[], 0.0).await;
}

#[tokio::test]
async fn a_route_that_fails_on_every_message_costs_a_connection_one_line_of_the_log() {
    let node = Plan::new().toml(OPEN).toml("[routes.say]\nreply = '{\"said\": {{ body }}{{ body }}{{ body }}}'").start();
    let mut socket = Dial::to(&node).open().await;
    // Three times this is above what a message may have.
    let message = json!({ "action": "say", "text": "x".repeat(50_000) }).to_string();
    for _ in 0..20 {
        socket.text(&message).await;
        assert!(socket.next_text().await.contains("Internal server error"));
    }
    assert_eq!(node.log().matches("route failed").count(), 1);
}

#[tokio::test]
async fn a_client_that_never_says_hello_keeps_no_room_among_the_challenges() {
    let settings = "[challenge]\npending_max = 1\nhello_timeout_ms = 200\non_failure = \"stay_unverified\"";
    let node = Node::start(settings);
    let mut silent = Dial::page(&node).welcomed().await;
    silent.event("challenge_failed").await;
    let mut next =
        eventually("room for the next one", || async { Dial::page(&node).protocol(NATIVE).try_open().await.ok() }).await;
    next.event("welcome").await;
    silent.ok("ping", json!({})).await;
}

#[tokio::test]
async fn a_refused_slow_consumer_has_lost_its_rights_with_its_queue() {
    let node = Plan::new().toml(SLOW).start();
    let mut slow = Dial::page(&node).verified().await;
    slow.ok("subscribe", json!({ "channel": "news" })).await;
    assert_eq!(node.authorize(&slow.id).await.status, 200);
    // It does not read from here on, and its close takes as long as it likes.
    let data = json!("x".repeat(60_000));
    while node.metrics().await.sum("countersign_slow_consumers_total", &[]) < 0.5 {
        assert_eq!(node.publish("news", &data).await.status, 200);
    }
    assert_eq!(node.authorize(&slow.id).await.status, 401);
    node.metric_reaches("countersign_connections", &[], 1.0).await;
}

/// Queues are small, and nothing else ends a connection.
const SLOW: &str = r#"
[gateway.limits]
outbound_queue_max_bytes = 262144
write_stall_timeout_ms = 60000
close_timeout_ms = 60000
[[channels]]
pattern = "news"
subscribe = "verified"
"#;
