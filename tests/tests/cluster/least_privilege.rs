//! A node needs exactly the rights that the ACL file gives it.

use std::collections::BTreeSet;

use countersign_tests::cluster::delivery::{Delivery, RULE};
use countersign_tests::cluster::redis::Redis;
use countersign_tests::cluster::{Cluster, ClusterPlan};
use countersign_tests::tokens::Issuer;
use countersign_tests::{eventually, http, node};
use serde_json::json;

/// Commands that need no permission, and those of the tests themselves.
const OTHERS: [&str; 9] =
    ["hello", "auth", "acl|log", "config|resetstat", "info", "keys", "client|setinfo", "client|list", "quit"];

/// What the ACL file allows.
fn allowed() -> BTreeSet<String> {
    let text = std::fs::read_to_string(node::root().join("deploy/redis/users.acl")).unwrap();
    let line = text.lines().find(|line| line.starts_with("user countersign ")).unwrap();
    line.split(' ').filter_map(|word| word.strip_prefix('+')).map(str::to_owned).collect()
}

/// What Redis was asked.
async fn used(redis: &Redis) -> BTreeSet<String> {
    let stats = redis.ask(&["INFO", "commandstats"]).await.texts().concat();
    let names =
        stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(':')).map(|(name, _)| name.to_owned());
    names.filter(|name| !OTHERS.contains(&name.as_str())).collect()
}

/// Does all that a cluster does.
async fn live(cluster: &mut Cluster, issuer: &Issuer) {
    let delivery = Delivery::start(cluster).await;
    let token = issuer.token("ada", 600);
    let mut socket = cluster.dial(0).bearer(&token).verified().await;
    socket.ok("subscribe", json!({ "channel": "check:other" })).await;
    // What is taken back before it was told is never told.
    eventually("redis knows", || async { (!cluster.redis.keys("*:channel:check:other").await.is_empty()).then_some(()) }).await;
    socket.ok("unsubscribe", json!({ "channel": "check:other" })).await;
    socket.ok("refresh", json!({ "token": issuer.token("ada", 900) })).await;
    cluster.all_answer(&socket.id, 200).await;
    let order = http::post(&cluster.nodes[1].admin_url("/api/v1/disconnect"), &json!({ "principal": "ada" }));
    assert_eq!(order.header("X-API-Key", &cluster.nodes[1].api_key()).send().await.status, 200);
    socket.close_code().await;
    drop(delivery);
    // A restart, after which everything is given and looked through again; then a node that dies and one that leaves.
    let _stays = cluster.dial(1).verified().await;
    cluster.redis.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    cluster.become_ready().await;
    let _lost = cluster.dial(0).verified().await;
    cluster.nodes[0].kill();
    cluster.nodes[1].metric_reaches("countersign_cluster_nodes", &[], 1.0 + 1.0).await;
    eventually("the dead one is reaped", || async { (cluster.redis.keys("*:entry:*").await.len() == 1).then_some(()) }).await;
    cluster.nodes[2].sigterm();
    cluster.nodes[2].exit().await;
}

#[tokio::test]
async fn the_acl_file_allows_what_a_node_does_and_nothing_else() {
    let issuer = Issuer::new();
    let mut cluster = ClusterPlan::new().toml(RULE).toml(&issuer.settings()).start().await;
    live(&mut cluster, &issuer).await;
    let denied = cluster.redis.ask(&["ACL", "LOG"]).await.texts();
    assert!(denied.is_empty(), "a node was denied: {denied:?}");
    let used = used(&cluster.redis).await;
    let allowed = allowed();
    let needless: Vec<_> = allowed.difference(&used).collect();
    assert!(needless.is_empty(), "allowed and not used: {needless:?}");
    let foreign: Vec<_> =
        used.difference(&allowed).filter(|name| !name.starts_with("client|") && *name != "acl|setuser").collect();
    assert!(foreign.is_empty(), "used and not allowed: {foreign:?}");
}
