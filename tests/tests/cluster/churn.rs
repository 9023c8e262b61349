//! Sockets come and go by the thousand on every node, in every way that sockets end: afterwards nothing of them is left anywhere.

use std::cell::Cell;
use std::collections::BTreeMap;

use countersign_tests::cluster::{Cluster, ClusterPlan};
use countersign_tests::poll::PATIENCE;
use countersign_tests::socket::Incoming;
use countersign_tests::tokens::Issuer;
use countersign_tests::{Node, eventually, http};
use futures_util::StreamExt as _;
use serde_json::json;

/// Sockets that come and go.
const CYCLES: usize = 3_000;
/// Of them at once.
const AT_ONCE: usize = 24;
/// Token subjects, so that each has several connections at a time.
const SUBJECTS: usize = 40;
/// Channels that many are subscribed to at a time.
const SHARED_CHANNELS: usize = 10;

const SETTINGS: &str = r#"
[gateway.limits]
ping_interval_seconds = 0
[[channels]]
pattern = "churn:**"
subscribe = "verified"
publish = "verified"
"#;

/// Gauges of a node that say what it holds of sockets, its own and other nodes'.
const GAUGES: [&str; 5] = [
    "countersign_connections",
    "countersign_subscriptions",
    "countersign_challenges_pending",
    "countersign_bus_channels",
    "countersign_decision_cache_entries",
];

/// Everything that is held of sockets anywhere in the cluster, by name.
async fn held(cluster: &Cluster) -> BTreeMap<String, String> {
    let mut held = BTreeMap::new();
    held.insert("keys in redis".to_owned(), cluster.redis.keys("*").await.join(" "));
    let mut channels = cluster.redis.ask(&["PUBSUB", "CHANNELS"]).await.texts();
    channels.sort();
    held.insert("channels of the bus".to_owned(), channels.join(" "));
    for (number, node) in cluster.nodes.iter().enumerate() {
        held.insert(format!("descriptors of node {number}"), node.descriptors().to_string());
        let scrape = node.metrics().await;
        for gauge in GAUGES {
            held.insert(format!("{gauge} of node {number}"), scrape.sum(gauge, &[]).to_string());
        }
    }
    held
}

/// One socket, from its handshake to its end.
async fn cycle(cluster: &Cluster, issuer: &Issuer, number: usize) {
    let (owner, other) = (number % 3, &cluster.nodes[(number + 1) % 3]);
    let token = issuer.token(&format!("user-{}", number % SUBJECTS), 600);
    let dial = cluster.dial(owner).bearer(&token);
    if number % 5 == 4 {
        // Leaves while its challenge is on its way.
        let mut socket = dial.welcomed().await;
        socket.challenge().await;
        return;
    }
    let mut socket = dial.verified().await;
    let shared = format!("churn:shared:{}", number % SHARED_CHANNELS);
    for channel in [&shared, &format!("churn:own:{number}")] {
        socket.ok("subscribe", json!({ "channel": channel })).await;
    }
    socket.ok("publish", json!({ "channel": shared, "data": number })).await;
    // Another node remembers it, so that there is something to forget. (A denial that it remembers before it hears of the
    // connection would stay until it is crowded out: nobody tells it of the end of what it was never told of.)
    eventually("another node allows it", || async { (other.authorize(&socket.id).await.status == 200).then_some(()) }).await;
    match number % 5 {
        0 => drop(socket.close().await),
        1 => drop(socket),
        2 => {
            eventually("any node closes it", || async { (closed_by(other, &socket.id).await == 1).then_some(()) }).await;
            assert_eq!(socket.close_code().await, 4410);
        }
        _ => {
            socket.text("no JSON").await;
            assert!(matches!(socket.end().await, Incoming::Closed(Some(4400), _)));
        }
    }
}

/// How many connections an order through the server API closed.
async fn closed_by(node: &Node, id: &str) -> u64 {
    let order = http::post(&node.admin_url("/api/v1/disconnect"), &json!({ "connection": id }));
    order.header("X-API-Key", &node.api_key()).send().await.json()["closed"].as_u64().unwrap_or_default()
}

async fn churn(cluster: &Cluster, issuer: &Issuer, numbers: std::ops::Range<usize>) {
    futures_util::stream::iter(numbers).for_each_concurrent(AT_ONCE, |number| cycle(cluster, issuer, number)).await;
}

#[tokio::test]
async fn thousands_of_sockets_that_came_and_went_leave_nothing_behind() {
    let issuer = Issuer::new();
    let cluster = ClusterPlan::new().toml(&issuer.settings()).toml(SETTINGS).start().await;
    // Each node served every kind of end once: what is opened with the first of it stays open.
    churn(&cluster, &issuer, 0..30).await;
    let last = Cell::default();
    let before = eventually("the first sockets are gone", || async {
        let held = held(&cluster).await;
        // Twice the same: a look itself may still be on its way out.
        let is_settled = last.replace(held.clone()) == held;
        let named = |kind: &&str| held["keys in redis"].contains(*kind);
        let entries = [":entry:", ":principal:", ":channel:", ":node:"].iter().any(named);
        let entries = entries || held["channels of the bus"].contains("/channel/");
        let gauges = held.iter().filter(|(name, _)| name.starts_with("countersign_"));
        (is_settled && !entries && gauges.into_iter().all(|(_, value)| value == "0")).then_some(held)
    })
    .await;
    churn(&cluster, &issuer, 30..CYCLES).await;
    let mut after = held(&cluster).await;
    let begun = std::time::Instant::now();
    // Waited for by hand: what is different in the end is to be told.
    while after != before && begun.elapsed() < PATIENCE {
        after = held(&cluster).await;
    }
    let names = before.keys().chain(after.keys()).collect::<std::collections::BTreeSet<_>>();
    let different: Vec<_> = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| format!("{name}: {:?} before, {:?} after", before.get(name), after.get(name)))
        .collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
    for node in &cluster.nodes {
        let scrape = node.metrics().await;
        let accepted = scrape.sum("countersign_handshakes_total", &[("outcome", "accepted")]);
        assert!((accepted - CYCLES as f64 / 3.0).abs() < 0.5, "{accepted} sockets");
        for never in
            ["countersign_connection_panics_total", "countersign_bus_gaps_total", "countersign_registry_restored_total"]
        {
            assert!(scrape.sum(never, &[]) < 0.5, "{never}");
        }
    }
}
