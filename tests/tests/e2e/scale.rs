//! Many sockets at once: nothing leaks, and the gauges are right afterwards.

use std::time::{Duration, Instant};

use countersign_tests::raw::{Frame, Raw, TEXT};
use countersign_tests::socket::Dial;
use countersign_tests::{Node, eventually};
use futures_util::StreamExt as _;

/// Idle sockets held at once.
const SOCKETS: usize = 10_000;
/// Of them, those that leave at once.
const LEAVERS: usize = 2_000;
/// Handshakes refused each second, and for how many seconds.
const REFUSED_PER_SECOND: usize = 100;
const REFUSED_SECONDS: usize = 3;
/// Handshakes under way at once.
const AT_ONCE: usize = 64;

/// How often all of them come and go again.
const ROUNDS: usize = 5;

/// Pings would only be noise here.
const SETTINGS: &str = r#"
[gateway]
missing_origin = "allow"
[gateway.limits]
ping_interval_seconds = 0
[challenge]
enabled = false
"#;

/// The soft limit of open files.
fn descriptor_limit() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("Linux");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit of open files");
    line.split_whitespace().nth(3).and_then(|number| number.parse().ok()).unwrap_or(usize::MAX)
}

async fn open(node: &Node, count: usize) -> Vec<Raw> {
    futures_util::stream::iter(0..count).map(|_| Raw::open(node)).buffer_unordered(AT_ONCE).collect().await
}

/// Refuses at a steady pace; how many were.
async fn refused(node: &Node) -> usize {
    let mut pace = tokio::time::interval(Duration::from_secs(1) / u32::try_from(REFUSED_PER_SECOND).expect("small"));
    let mut attempts = Vec::new();
    for _ in 0..REFUSED_PER_SECOND * REFUSED_SECONDS {
        pace.tick().await;
        attempts.push(Dial::to(node).origin("https://evil.example").try_open());
        if attempts.len() == 10 {
            let refusals = futures_util::future::join_all(attempts.drain(..)).await;
            assert!(refusals.iter().all(|refusal| refusal.as_ref().is_err_and(|refusal| refusal.status == 403)));
        }
    }
    REFUSED_PER_SECOND * REFUSED_SECONDS
}

#[tokio::test]
async fn ten_thousand_idle_two_thousand_leaving_a_hundred_refused_a_second() {
    let limit = descriptor_limit();
    assert!(limit > SOCKETS + 2_000, "this test needs {} open files, the limit is {limit}: `ulimit -n 20000`", SOCKETS + 2_000);
    let node = Node::start(SETTINGS);
    // What a first round of sockets leaves behind is not a leak but the allocator's working set.
    drop(open(&node, 500).await);
    node.metric_reaches("countersign_connections", &[], 0.0).await;
    let (rss_empty, descriptors_empty) = (node.rss_kib(), node.descriptors());

    let start = Instant::now();
    let mut sockets = open(&node, SOCKETS).await;
    node.metric_reaches("countersign_connections", &[], 10_000.0).await;
    let rss_full = node.rss_kib();
    let each = (rss_full.saturating_sub(rss_empty)) as f64 / SOCKETS as f64;
    eprintln!("{SOCKETS} sockets in {:?}, {each:.1} KiB each in this build", start.elapsed());
    assert!(each < 40.0, "{each:.1} KiB a socket");

    let refusals = refused(&node).await;
    let leavers = sockets.split_off(SOCKETS - LEAVERS);
    drop(leavers);
    node.metric_reaches("countersign_connections", &[], 8_000.0).await;
    node.metric_reaches("countersign_handshakes_total", &[("outcome", "origin_refused")], refusals as f64).await;
    // The others still work.
    for socket in sockets.iter_mut().step_by(500) {
        socket.send(&[Frame::new(TEXT, r#"{"action":"ping"}"#)]).await;
        assert_eq!(socket.frame().await.expect("an answer").opcode, TEXT);
    }

    drop(sockets);
    node.metric_reaches("countersign_connections", &[], 0.0).await;
    eventually("descriptors are back", || async { (node.descriptors() <= descriptors_empty + 10).then_some(()) }).await;
    // Buffers are allocated whole and touched in part, and it takes some rounds until every page of the heap was touched: what
    // a connection costs then is up to twice what it costs on a fresh node. Growth that does not level off is a leak.
    let mut full = vec![rss_full];
    for _ in 0..ROUNDS {
        let sockets = open(&node, SOCKETS).await;
        node.metric_reaches("countersign_connections", &[], 10_000.0).await;
        full.push(node.rss_kib());
        drop(sockets);
        node.metric_reaches("countersign_connections", &[], 0.0).await;
        eventually("descriptors are back", || async { (node.descriptors() <= descriptors_empty + 10).then_some(()) }).await;
    }
    eprintln!("KiB when full, round by round: {full:?}");
    let (last, most) = (full[ROUNDS], full[..ROUNDS].iter().max().copied().unwrap_or(0));
    assert!(last < most + most / 20, "memory grows round by round: {full:?} KiB");
    assert!(node.metrics().await.sum("countersign_connection_panics_total", &[]) < 0.5);
}
