//! One node loses its way to Redis, and nobody is told.

use std::time::{Duration, Instant};

use countersign_tests::cluster::decisions::{Decisions, Fault, Subject};
use countersign_tests::cluster::delivery::{Delivery, RULE};
use countersign_tests::cluster::{ClusterPlan, LEASE, RECOVERY, STALE_LIMIT, node_becomes};
use countersign_tests::eventually;

/// The node behind the blocked way.
const CUT: usize = 2;
/// The next look of whoever asks, and what was sent so long before.
const SLACK: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_node_cut_off_from_redis_fails_closed_serves_its_own_and_returns_without_ghosts() {
    let cluster = ClusterPlan::new().toml(RULE).over_ways().start().await;
    let delivery = Delivery::start(&cluster).await;
    // Closes while it is cut off: on its own node, and on another.
    let ghost = cluster.dial(CUT).verified().await;
    let elsewhere = cluster.dial(0).verified().await;
    let mut subjects: Vec<Subject> = Vec::new();
    for (owner, id) in delivery.connections.iter().enumerate().chain([(CUT, &ghost.id), (0, &elsewhere.id)]) {
        cluster.all_answer(id, 200).await;
        subjects.push(Subject { id: id.clone(), owner, verified: true, closed: None });
    }
    let decisions = Decisions::start(&cluster, subjects);

    cluster.ways[CUT].block();
    let (begun, busy) = (Instant::now(), cluster.busy());
    let unready = node_becomes(&cluster.nodes[CUT], false).await;
    assert!(unready < RECOVERY + cluster.added(&busy), "unready after {unready:?}");
    for socket in [ghost, elsewhere] {
        let id = socket.id.clone();
        socket.close().await;
        decisions.closed(&id);
    }
    let closed = decisions.answers(CUT, &delivery.connections[0], 503, begun).await;
    assert!(closed < STALE_LIMIT + SLACK + cluster.added(&busy), "fails closed after {closed:?}");
    for other in [0, 1] {
        let forgotten = decisions.answers(other, &delivery.connections[CUT], 401, begun).await;
        assert!(forgotten < LEASE + SLACK + cluster.added(&busy), "node {other} forgets it after {forgotten:?}");
        assert_eq!(cluster.nodes[other].ready().await, Some(true), "the others do not suffer");
    }
    // Its own go on, and so do the others among themselves.
    delivery.flows_between(Instant::now(), |from, to| from == to || (from != CUT && to != CUT)).await;
    assert_eq!(cluster.nodes[CUT].authorize(&delivery.connections[CUT]).await.status, 200);
    for node in &cluster.nodes[..2] {
        node.metric_reaches("countersign_cluster_nodes", &[], 2.0).await;
    }
    let (ended, back) = (Instant::now(), cluster.busy());
    cluster.ways[CUT].unblock();
    let flowing = delivery.flows(ended).await;
    let mut right = Duration::ZERO;
    for node in 0..3 {
        for id in &delivery.connections {
            right = right.max(decisions.answers(node, id, 200, ended).await);
        }
    }
    let ready = node_becomes(&cluster.nodes[CUT], true).await;
    eprintln!("unready {unready:?}, fails closed {closed:?}; back: delivery {flowing:?}, decisions {right:?}, ready {ready:?}");
    let recovery = RECOVERY + cluster.added(&back);
    assert!(flowing.max(right) < recovery, "delivery {flowing:?}, decisions {right:?} of {recovery:?}");
    cluster.becomes_whole().await;
    eventually("no ghost is left", || async { (cluster.redis.keys("*:entry:*").await.len() == 3).then_some(()) }).await;
    let fault = Fault { span: (begun, ended), nodes: vec![CUT], silent: true };
    let late = cluster.added(&busy);
    decisions.check(&[fault], late).await;
    delivery.finish().await.check(&[(begun - SLACK, ended + RECOVERY + late)]);
}
