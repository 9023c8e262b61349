//! A node that is killed takes its connections out of every answer, and leaves nothing.

use std::time::{Duration, Instant};

use countersign_tests::cluster::{Cluster, ClusterPlan, LEASE};
use countersign_tests::socket::Socket;
use countersign_tests::{eventually, eventually_ok};
use futures_util::StreamExt as _;

/// Verified connections on the node that is killed, and how many are opened at once.
const CONNECTIONS: usize = 1_000;
const AT_ONCE: usize = 32;
/// The next look of whoever asks.
const SLACK: Duration = Duration::from_secs(2);

async fn open(cluster: &Cluster, node: usize, count: usize) -> Vec<Socket> {
    futures_util::stream::iter(0..count).map(|_| cluster.dial(node).verified()).buffer_unordered(AT_ONCE).collect().await
}

/// Does a node answer `status` about all connections? If not, some of the other answers.
async fn all_answer(cluster: &Cluster, node: usize, ids: &[String], status: u16) -> Result<(), String> {
    let ask = |id: &String| {
        let (question, id) = (cluster.nodes[node].ask(id), id.clone());
        async move {
            let answer = question.send().await;
            (answer.status != status).then(|| format!("{id}: {} {}", answer.status, answer.text()))
        }
    };
    let asked = futures_util::stream::iter(ids.iter().map(ask)).buffer_unordered(AT_ONCE);
    let others: Vec<String> = asked.filter_map(std::future::ready).collect().await;
    if others.is_empty() {
        Ok(())
    } else {
        Err(format!("{} answers are others: {:?}", others.len(), &others[..others.len().min(3)]))
    }
}

/// A node that is killed with `kill -9` is forgotten within the lease, and leaves nothing.
#[tokio::test]
async fn records_expire() {
    let mut cluster = ClusterPlan::new().start().await;
    let empty = cluster.redis.keys("*").await;
    let stays = cluster.dial(1).verified().await;
    let sockets = open(&cluster, 0, CONNECTIONS).await;
    let ids: Vec<String> = sockets.iter().map(|socket| socket.id.clone()).collect();
    for node in [1, 2] {
        eventually_ok(&format!("all are known to node {node}"), || all_answer(&cluster, node, &ids, 200)).await;
    }
    cluster.nodes[0].kill();
    let (killed, busy) = (Instant::now(), cluster.busy());
    for node in [1, 2] {
        eventually_ok("all are denied", || all_answer(&cluster, node, &ids, 401)).await;
        let took = killed.elapsed();
        eprintln!("node {node} denies all {CONNECTIONS} after {took:?}");
        let added = cluster.added(&busy);
        assert!(took < LEASE + SLACK + added, "node {node}: {took:?}, of which a busy machine added {added:?}");
    }
    for node in &cluster.nodes[1..] {
        node.metric_reaches("countersign_cluster_nodes", &[], 2.0).await;
    }
    // What says which link of a node may write runs out by itself.
    let kept = |keys: Vec<String>| keys.into_iter().filter(|key| !key.contains(":fence:")).collect::<Vec<_>>();
    eventually_ok("only the living are in redis", || async {
        let entries = cluster.redis.keys("*:entry:*").await;
        if entries.len() == 1 && entries[0].ends_with(&stays.id) {
            return Ok(());
        }
        Err(format!("{} entries are there: {:?}", entries.len(), &entries[..entries.len().min(3)]))
    })
    .await;
    // One lease less, one entry and the list of its node's connections more.
    let most = kept(empty.clone()).len() - 1 + 2;
    eventually("the rest is taken out", || async { (kept(cluster.redis.keys("*").await).len() == most).then_some(()) }).await;
    for key in cluster.redis.keys("*:fence:*").await {
        let life = cluster.redis.ask(&["PTTL", &key]).await.number();
        assert!(life.is_some_and(|life| life > 0), "{key} stays for ever");
    }
    assert_eq!(cluster.nodes[2].authorize(&stays.id).await.status, 200);
    drop(sockets);
}

#[tokio::test]
async fn a_frozen_node_that_wakes_after_its_lease_has_everything_again() {
    let cluster = ClusterPlan::new().nodes(2).start().await;
    let mut socket = cluster.dial(0).verified().await;
    cluster.all_answer(&socket.id, 200).await;
    cluster.nodes[0].freeze();
    let other = &cluster.nodes[1];
    eventually("its lease ends", || async { (other.authorize(&socket.id).await.status == 401).then_some(()) }).await;
    eventually("it is reaped", || async { cluster.redis.keys("*:entry:*").await.is_empty().then_some(()) }).await;
    cluster.nodes[0].thaw();
    let (woken, busy) = (Instant::now(), cluster.busy());
    cluster.all_answer(&socket.id, 200).await;
    let took = woken.elapsed();
    let added = cluster.added(&busy);
    assert!(took < Duration::from_secs(10) + added, "{took:?}, of which a busy machine added {added:?}");
    socket.ok("ping", serde_json::json!({})).await;
}
