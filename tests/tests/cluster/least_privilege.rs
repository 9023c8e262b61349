//! A node needs exactly the rights that the ACL file gives it.

use std::collections::BTreeSet;

use countersign_tests::cluster::delivery::{Delivery, RULE};
use countersign_tests::cluster::redis::Redis;
use countersign_tests::cluster::{Cluster, ClusterPlan};
use countersign_tests::tokens::Issuer;
use countersign_tests::{eventually, http, node};
use serde_json::json;

/// Commands that need no permission, and those of the tests themselves.
const OTHERS: [&str; 9] = ["hello", "auth", "acl|log", "config|resetstat", "info", "keys", "client|kill", "quit", "replconf"];

/// Commands for what a test cannot bring about in a moment: bounds that are reached, sessions that have run out.
const RARE: [&str; 4] = ["zpopmin", "zcard", "zrangebyscore", "zremrangebyscore"];
/// Commands for a master that is in doubt, and for a Redis Cluster: its own test sees them used.
const ELSEWHERE: [&str; 5] = ["role", "spublish", "ssubscribe", "sunsubscribe", "cluster|slots"];
/// Users in Redis too.
const POOL: &str = "[identity.pool]\nstore = \"redis\"\nissuer = \"https://ws.example.com\"";
/// A user's password, and the next one.
const PASSWORDS: [&str; 2] = ["Correct horse 1", "Correct horse 2"];

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

/// Does all that a user pool does.
async fn sign_in(cluster: &Cluster) {
    let url = |path: &str| cluster.nodes[0].url(path);
    let user = |arguments: &[&str], input: &str| {
        let output = cluster.nodes[0].cli(&[&["user"], arguments].concat(), input);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    user(&["add", "ada", "--password-stdin", "--permanent"], PASSWORDS[0]);
    let wrong = http::post(&url("/auth"), &json!({ "user": "ada", "password": "wrong" })).send().await;
    assert_eq!(wrong.status, 401);
    let signed_in = http::post(&url("/auth"), &json!({ "user": "ada", "password": PASSWORDS[0] })).send().await;
    assert_eq!(signed_in.status, 200, "{}", signed_in.text());
    let refresh = json!({ "user": "ada", "refresh": signed_in.json()["refresh"] });
    let refreshed = http::post(&url("/auth/refresh"), &refresh).send().await;
    assert_eq!(refreshed.status, 200, "{}", refreshed.text());
    let change = json!({ "user": "ada", "password": PASSWORDS[0], "new_password": PASSWORDS[1] });
    assert_eq!(http::post(&url("/auth/password"), &change).send().await.status, 200);
    let again = http::post(&url("/auth"), &json!({ "user": "ada", "password": PASSWORDS[1] })).send().await;
    let revoked = http::post(&url("/auth/revoke"), &json!({ "refresh": again.json()["refresh"] })).send().await;
    assert!(revoked.status < 300, "{}", revoked.text());
    user(&["disable", "ada"], "");
    user(&["enable", "ada"], "");
    user(&["list"], "");
    user(&["delete", "ada"], "");
}

/// Does all that a cluster does.
async fn live(cluster: &mut Cluster, issuer: &Issuer) {
    sign_in(cluster).await;
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
    let mut cluster = ClusterPlan::new().toml(RULE).toml(&issuer.settings()).toml(POOL).start().await;
    live(&mut cluster, &issuer).await;
    let denied = cluster.redis.ask(&["ACL", "LOG"]).await.texts();
    assert!(denied.is_empty(), "a node was denied: {denied:?}");
    let used = used(&cluster.redis).await;
    let allowed = allowed();
    let needless: Vec<_> =
        allowed.difference(&used).filter(|name| !RARE.iter().chain(&ELSEWHERE).any(|rare| rare == name)).collect();
    assert!(needless.is_empty(), "allowed and not used: {needless:?}");
    let foreign: Vec<_> =
        used.difference(&allowed).filter(|name| !name.starts_with("client|") && *name != "acl|setuser").collect();
    assert!(foreign.is_empty(), "used and not allowed: {foreign:?}");
}
