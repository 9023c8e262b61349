//! SIGTERM: unready at once, a close frame for every client, paced; then exit 0, in bounded time.

use std::time::{Duration, Instant};

use countersign_tests::http;
use countersign_tests::raw::{CLOSE, Raw};
use countersign_tests::socket::{Dial, Incoming};
use countersign_tests::{Node, Plan, eventually};

/// Settings of a short drain for everybody.
const DRAIN: &str = r#"
[gateway]
missing_origin = "allow"
[challenge]
enabled = false
[server.drain]
notice_ms = 300
window_ms = 1500
grace_ms = 500
"#;

/// What a drain does not end by: each of these is longer than any test waits.
const ENDLESS_NOTICE: &str = "[server.drain]\nnotice_ms = 600000";
const ENDLESS_GRACE: &str = "[server.drain]\ngrace_ms = 600000";

/// A node with a short drain, of which some part is another.
fn started(other: &str) -> Node {
    Plan::new().toml(DRAIN).toml(other).start()
}

#[tokio::test]
async fn every_client_gets_its_close_frame_paced_over_the_window_and_the_node_exits_with_0() {
    // So long that a client which is held up for a while still sees one close after the other.
    let mut node = started("[server.drain]\nwindow_ms = 5000\ngrace_ms = 60000");
    let mut sockets = Vec::new();
    for _ in 0..60 {
        sockets.push(Dial::to(&node).open().await);
    }
    assert_eq!(http::get(&node.admin_url("/health/ready")).send().await.status, 200);
    let start = Instant::now();
    node.sigterm();
    eventually("the node is not ready", || async {
        let ready = http::get(&node.admin_url("/health/ready")).try_send().await.ok()?;
        (ready.status == 503).then_some(())
    })
    .await;
    assert_eq!(http::get(&node.admin_url("/health/live")).send().await.status, 200, "draining is alive");
    node.metric_reaches("countersign_draining", &[], 1.0).await;
    let ends = sockets.into_iter().map(|mut socket| async move {
        let end = socket.end().await;
        assert!(matches!(end, Incoming::Closed(Some(1012), _)), "{end:?}");
        start.elapsed()
    });
    let mut times = futures_util::future::join_all(ends).await;
    times.sort();
    let (last, spread) = (times[times.len() - 1], times[times.len() - 1] - times[0]);
    assert!(times[0] >= Duration::from_millis(250), "balancers get their notice: {:?}", times[0]);
    assert!(last >= Duration::from_millis(4_500), "the last of 60 is closed at the end of the window: {last:?}");
    assert!(spread >= Duration::from_millis(700), "closes are spread over the window: {spread:?}");
    assert_eq!(node.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_client_that_ignores_its_close_does_not_hold_the_node() {
    // Nothing else would end their sockets while anybody waits.
    let mut node = started("[gateway.limits]\nclose_timeout_ms = 60000\nwrite_stall_timeout_ms = 60000");
    let mut deaf = Raw::open(&node).await;
    let frozen = Raw::open_narrow(&node, &[]).await;
    node.sigterm();
    // Neither has closed its socket yet.
    assert_eq!(node.exit().await.code(), Some(0));
    assert_eq!(deaf.frame().await.map(|frame| frame.opcode), Some(CLOSE));
    drop(frozen);
}

#[tokio::test]
async fn no_handshake_is_accepted_while_draining() {
    let mut node = started(ENDLESS_GRACE);
    let held = Dial::to(&node).open().await;
    node.sigterm();
    // During the notice the balancers may still send some; after it none is taken.
    // The socket that is held keeps the node from leaving before it has answered.
    let refusal = eventually("handshakes are refused", || async { Dial::to(&node).try_open().await.err() }).await;
    assert_eq!(refusal.status, 503);
    assert!(refusal.header("retry-after").is_some());
    drop(held);
    assert_eq!(node.exit().await.code(), Some(0));
}

#[tokio::test]
async fn an_empty_node_leaves_at_once() {
    let mut node = Node::start("[server.drain]\nwindow_ms = 600000\ngrace_ms = 600000");
    node.sigterm();
    assert_eq!(node.exit().await.code(), Some(0));
    assert_eq!(node.printed().len(), 2, "two lines for people, nothing more: {:?}", node.printed());
}

#[tokio::test]
async fn a_second_signal_ends_the_node_at_once_and_is_no_success() {
    let mut node = started(ENDLESS_NOTICE);
    let mut held = Dial::to(&node).open().await;
    node.sigterm();
    eventually("the drain has begun", || async { (node.metrics().await.sum("countersign_draining", &[]) > 0.5).then_some(()) })
        .await;
    node.sigterm();
    assert_eq!(node.exit().await.code(), Some(1), "sockets were cut: a supervisor must be able to tell");
    let end = held.end().await;
    assert!(!matches!(end, Incoming::Closed(Some(1000), _)), "{end:?}");
}

#[tokio::test]
async fn a_hangup_changes_nothing() {
    let mut node = Node::start(DRAIN);
    let mut held = Dial::to(&node).open().await;
    node.sighup();
    eventually("it says so", || async { node.log().contains("SIGHUP changes nothing").then_some(()) }).await;
    held.text(r#"{"action":"ping"}"#).await;
    assert!(node.runs());
    assert_eq!(http::get(&node.admin_url("/health/ready")).send().await.status, 200);
}

#[tokio::test]
async fn the_administrative_listener_names_what_it_serves() {
    let node = Node::start("");
    let index = http::get(&node.admin_url("/")).send().await;
    assert_eq!(index.status, 200);
    for path in [index.json()["metrics"].clone(), index.json()["health"][0].clone(), index.json()["health"][1].clone()] {
        let path = path.as_str().expect("a path").to_owned();
        assert_eq!(http::get(&node.admin_url(&path)).send().await.status, 200, "{path}");
    }
}
