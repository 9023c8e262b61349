//! The master is lost and sentinels, or the other masters of a Redis Cluster, make another one: every node follows by itself, and no
//! client is told.

use std::time::{Duration, Instant};

use countersign_tests::cluster::decisions::{Decisions, Fault, Subject};
use countersign_tests::cluster::delivery::{Delivery, RULE};
use countersign_tests::cluster::{ClusterPlan, RECOVERY};
use countersign_tests::eventually;

/// What was sent so long before a fault began may be lost with it.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// One failover, from a whole cluster to a whole cluster.
async fn check(plan: ClusterPlan, killed: bool) {
    let mut cluster = plan.toml(RULE).start().await;
    let delivery = Delivery::start(&cluster).await;
    let closing = cluster.dial(0).verified().await;
    let mut subjects = Vec::new();
    for (owner, id) in delivery.connections.iter().enumerate().chain([(0, &closing.id)]) {
        cluster.all_answer(id, 200).await;
        subjects.push(Subject { id: id.clone(), owner, verified: true, closed: None });
    }
    let decisions = Decisions::start(&cluster, subjects);

    let (begun, busy) = (Instant::now(), cluster.busy());
    if killed {
        cluster.redis.kill()
    } else {
        cluster.redis.freeze()
    }
    let id = closing.id.clone();
    closing.close().await;
    decisions.closed(&id);
    let new_master = cluster.successor();
    let unready = tokio::select! {
        unready = cluster.become_unready() => Some(unready),
        () = eventually("the replica is promoted", || async { new_master.is_master().await.then_some(()) }) => None,
    };
    eventually("the replica is promoted", || async { new_master.is_master().await.then_some(()) }).await;
    let (promoted, back) = (Instant::now(), cluster.busy());
    let away = promoted - begun;
    let soon = RECOVERY + busy.until(&back);
    assert!(unready.map_or(away, |unready| unready.min(away)) < soon, "unready after {unready:?}, promoted after {away:?}");
    let flowing = delivery.flows(promoted).await;
    let mut right = Duration::ZERO;
    for node in 0..3 {
        for id in &delivery.connections {
            right = right.max(decisions.answers(node, id, 200, promoted).await);
        }
    }
    eprintln!("promoted after {away:?}, unready after {unready:?}; then: delivery {flowing:?}, decisions {right:?}");
    let recovery = RECOVERY + cluster.added(&back);
    assert!(flowing.max(right) < recovery, "delivery after {flowing:?}, decisions after {right:?} of {recovery:?}");
    if !killed {
        // It wakes as the master that it was; sentinels make it a replica, and nobody returns to it.
        cluster.redis.thaw();
        eventually("the old master follows", || async { (!cluster.redis.is_master().await).then_some(()) }).await;
    }
    eventually("the time of recovery is over", || async { (promoted.elapsed() > RECOVERY).then_some(()) }).await;
    cluster.becomes_whole().await;
    delivery.flows(Instant::now()).await;
    eventually("redis knows what is true", || async { (new_master.keys("*:entry:*").await.len() == 3).then_some(()) }).await;
    let fault = Fault { span: (begun, promoted), nodes: vec![0, 1, 2], silent: true };
    let late = cluster.added(&busy);
    let answers = decisions.check(&[fault], late).await;
    let outcome = delivery.finish().await;
    outcome.check(&[(begun - ON_ITS_WAY, promoted + RECOVERY + late)]);
    eprintln!("{} published, {} lost on their way to other nodes, {answers} decisions", outcome.published(), outcome.lost());
}

#[tokio::test]
async fn the_master_is_killed_and_the_replica_takes_over() {
    check(ClusterPlan::new().watched(), true).await;
}

#[tokio::test]
async fn the_master_freezes_and_wakes_as_a_replica() {
    check(ClusterPlan::new().watched(), false).await;
}

#[tokio::test]
async fn nodes_follow_sentinels_to_the_new_master_over_tls() {
    check(ClusterPlan::new().watched().secure(), true).await;
}

#[tokio::test]
async fn nodes_follow_the_masters_of_a_redis_cluster_over_tls() {
    check(ClusterPlan::new().ringed().secure(), true).await;
}

#[tokio::test]
async fn a_master_of_a_redis_cluster_is_killed_and_its_replica_takes_over() {
    check(ClusterPlan::new().ringed(), true).await;
}
