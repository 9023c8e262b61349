//! The slots of a Redis Cluster go from one server to another under load, with what is in them.

use std::time::{Duration, Instant};

use countersign_tests::cluster::decisions::{Decisions, Fault, Subject};
use countersign_tests::cluster::delivery::{CHANNEL, Delivery, RULE};
use countersign_tests::cluster::{Cluster, ClusterPlan, PREFIX, RECOVERY};
use countersign_tests::{eventually, http};
use serde_json::json;

/// Users in Redis too.
const POOL: &str = "[identity.pool]\nstore = \"redis\"\nissuer = \"https://ws.example.com\"";
const PASSWORD: &str = "Correct horse 1";
/// What was sent so long before a fault began may be lost with it.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// Waits until a node signs a user in.
async fn signs_in(cluster: &Cluster, node: usize) {
    let url = cluster.nodes[node].url("/auth");
    let body = json!({ "user": "ada", "password": PASSWORD });
    eventually("a user signs in", || async { (http::post(&url, &body).send().await.status == 200).then_some(()) }).await;
}

/// Gives the slot of a name to the next master, and waits until all is right again; how long that took.
async fn moves(cluster: &Cluster, delivery: &Delivery, decisions: &Decisions, name: &str) -> (Instant, Instant) {
    let ring = cluster.ring.as_ref().unwrap();
    let to = (ring.master_of(&cluster.redis, name).await + 1) % 3;
    let begun = Instant::now();
    ring.move_slot(&cluster.redis, name, to).await;
    let (moved, busy) = (Instant::now(), cluster.busy());
    let flowing = delivery.flows(moved).await;
    let mut right = Duration::ZERO;
    for node in 0..3 {
        for id in &delivery.connections {
            right = right.max(decisions.answers(node, id, 200, moved).await);
        }
    }
    eprintln!("{name} moved to {to} in {:?}; then: delivery {flowing:?}, decisions {right:?}", moved - begun);
    let recovery = RECOVERY + cluster.added(&busy);
    assert!(flowing.max(right) < recovery, "delivery after {flowing:?}, decisions after {right:?} of {recovery:?}");
    (begun, moved)
}

#[tokio::test]
async fn slots_of_channels_and_of_the_registry_move_under_load() {
    let cluster = ClusterPlan::new().ringed().toml(RULE).toml(POOL).start().await;
    let added = cluster.nodes[0].cli(&["user", "add", "ada", "--password-stdin", "--permanent"], PASSWORD);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    signs_in(&cluster, 0).await;
    let delivery = Delivery::start(&cluster).await;
    let closing = cluster.dial(0).verified().await;
    let mut subjects = Vec::new();
    for (owner, id) in delivery.connections.iter().enumerate().chain([(0, &closing.id)]) {
        cluster.all_answer(id, 200).await;
        subjects.push(Subject { id: id.clone(), owner, verified: true, closed: None });
    }
    let decisions = Decisions::start(&cluster, subjects);
    let busy = cluster.busy();

    let mut spans = Vec::new();
    // What is said on a channel, what is said to all, and all that is known of connections and users.
    let (channel, all, keys) = (format!("{PREFIX}/channel/{CHANNEL}"), format!("{PREFIX}/all"), format!("{{{PREFIX}}}:"));
    for name in [&channel, &all, &keys, &channel, &all, &keys] {
        spans.push(moves(&cluster, &delivery, &decisions, name).await);
        // Once more, so that some is said on each of the ways.
        delivery.flows(Instant::now() + Duration::from_millis(200)).await;
    }
    // It is known where all keys are by now.
    let new = cluster.dial(2).verified().await;
    cluster.all_answer(&new.id, 200).await;
    new.close().await;
    let id = closing.id.clone();
    closing.close().await;
    decisions.closed(&id);
    signs_in(&cluster, 1).await;
    cluster.becomes_whole().await;
    let servers = cluster.ring.as_ref().unwrap().masters(&cluster.redis);
    let keeper = servers[cluster.ring.as_ref().unwrap().master_of(&cluster.redis, &keys).await];
    eventually("redis knows what is true", || async { (keeper.keys("*:entry:*").await.len() == 3).then_some(()) }).await;
    for server in servers {
        let denied = server.ask(&["ACL", "LOG"]).await.texts();
        assert!(denied.is_empty(), "a node was denied: {denied:?}");
        let used = server.ask(&["INFO", "commandstats"]).await.texts().concat();
        for command in ["spublish", "ssubscribe", "cluster|slots"] {
            assert!(used.contains(&format!("cmdstat_{command}:")), "{command} is allowed and not used");
        }
    }
    let span = (spans[0].0, spans[5].1);
    let late = cluster.added(&busy);
    let answers = decisions.check(&[Fault { span, nodes: vec![0, 1, 2], silent: false }], late).await;
    let outcome = delivery.finish().await;
    let excused = |(begun, moved): &(Instant, Instant)| (*begun - ON_ITS_WAY, *moved + RECOVERY + late);
    outcome.check(&spans.iter().map(excused).collect::<Vec<_>>());
    eprintln!("{} published, {} lost on their way to other nodes, {answers} decisions", outcome.published(), outcome.lost());
}
