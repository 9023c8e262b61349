//! Nodes that share a Redis behave as one broker, and lose nobody when it is lost.

use std::time::{Duration, Instant};

use countersign_tests::redis::Redis;
use countersign_tests::socket::Dial;
use countersign_tests::{Node, Plan, eventually, http};
use serde_json::json;

const RULES: &str = "[[channels]]\npattern = 'room'\nsubscribe = 'verified'\n";

fn node(redis: &Redis) -> Node {
    Plan::new().toml(RULES).toml(&redis.settings()).start()
}

/// Waits until a node answers so about a connection; how long it took.
async fn decides(node: &Node, connection: &str, status: u16) -> Duration {
    let start = Instant::now();
    eventually(&format!("{status} for a connection"), || async {
        (node.authorize(connection).await.status == status).then_some(())
    })
    .await;
    start.elapsed()
}

async fn ready(node: &Node) -> u16 {
    http::get(&node.admin_url("/health/ready")).send().await.status
}

#[tokio::test]
async fn any_node_authorizes_delivers_and_closes() {
    let redis = Redis::start();
    let (a, b) = (node(&redis), node(&redis));
    assert_eq!((ready(&a).await, ready(&b).await), (200, 200));
    let mut socket = Dial::page(&a).verified().await;
    decides(&b, &socket.id, 200).await;
    assert!(socket.ask("subscribe", json!({ "channel": "room" })).await["ok"].is_object());
    // The subscription is not waited for: the node's link follows.
    eventually("both nodes deliver", || async {
        let response = b.publish("room", &json!("from b")).await;
        (response.json()["nodes"].as_u64() == Some(1)).then_some(())
    })
    .await;
    let delivered = socket.event("publication").await;
    assert_eq!(delivered["data"], "from b");
    let body = json!({ "connection": socket.id });
    let closed = http::post(&b.admin_url("/api/v1/disconnect"), &body).header("X-API-Key", &b.api_key()).send().await;
    assert_eq!(closed.status, 200, "{}", closed.text());
    let denied = decides(&b, &socket.id, 401).await;
    assert!(denied < Duration::from_secs(2), "a closed socket was allowed for {denied:?}");
    eventually("nothing of it is left", || async { redis.keys("*:entry:*").is_empty().then_some(()) }).await;
}

#[tokio::test]
async fn a_closed_socket_loses_its_access_on_other_nodes_by_the_pushed_invalidation() {
    let redis = Redis::start();
    let (a, b) = (node(&redis), node(&redis));
    for _ in 0..10 {
        let socket = Dial::page(&a).verified().await;
        let id = socket.id.clone();
        decides(&b, &id, 200).await;
        assert_eq!(b.authorize(&id).await.status, 200, "from the cache, whose entries live for 300 s");
        drop(socket);
        let denied = decides(&b, &id, 401).await;
        assert!(denied < Duration::from_secs(2), "a closed socket was allowed for {denied:?}");
    }
}

#[tokio::test]
async fn a_killed_node_takes_its_connections_out_of_every_answer_within_the_lease() {
    let redis = Redis::start();
    let (a, b) = (node(&redis), node(&redis));
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let socket = Dial::page(&a).verified().await;
        decides(&b, &socket.id, 200).await;
        sockets.push(socket);
    }
    let killed = Instant::now();
    drop(a);
    for socket in &sockets {
        decides(&b, &socket.id, 401).await;
    }
    // Three seconds of lease, and a heartbeat of half a second to notice.
    assert!(killed.elapsed() < Duration::from_secs(6), "the dead were allowed for {:?}", killed.elapsed());
    eventually("nothing of the dead node is left", || async {
        let left = [redis.keys("*:entry:*"), redis.keys("*:principal:*")].concat();
        (left.is_empty() && redis.keys("*:node:*").is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn redis_may_die_and_come_back_empty_without_costing_a_socket() {
    let mut redis = Redis::start();
    let (a, b) = (node(&redis), node(&redis));
    let mut socket = Dial::page(&a).verified().await;
    assert!(socket.ask("subscribe", json!({ "channel": "room" })).await["ok"].is_object());
    decides(&b, &socket.id, 200).await;
    redis.kill();
    let killed = Instant::now();
    eventually("both are unready", || async { (ready(&a).await == 503 && ready(&b).await == 503).then_some(()) }).await;
    assert!(killed.elapsed() < Duration::from_secs(6), "unready after {:?}", killed.elapsed());
    assert_eq!(a.authorize(&socket.id).await.status, 200, "the owner knows by itself");
    decides(&b, &socket.id, 503).await;
    assert_eq!(http::get(&b.admin_url("/health/live")).send().await.status, 200);
    let newcomer = Dial::page(&a).verified().await;
    let local = a.publish("room", &json!("without redis")).await;
    eprintln!("publishing without redis answers {} {}", local.status, local.text());
    assert_eq!(socket.event("publication").await["data"], "without redis");

    redis.restart();
    let back = Instant::now();
    for id in [&socket.id, &newcomer.id] {
        decides(&b, id, 200).await;
    }
    eventually("both are ready", || async { (ready(&a).await == 200 && ready(&b).await == 200).then_some(()) }).await;
    eventually("delivery works", || async {
        (b.publish("room", &json!("again")).await.json()["nodes"].as_u64() == Some(1)).then_some(())
    })
    .await;
    assert!(back.elapsed() < Duration::from_secs(6), "right again after {:?}", back.elapsed());
    assert_eq!(socket.event("publication").await["data"], "again");
}

#[tokio::test]
async fn a_node_starts_without_its_redis_and_joins_when_it_is_there() {
    let mut redis = Redis::start();
    redis.kill();
    let a = node(&redis);
    assert_eq!(ready(&a).await, 503);
    let socket = Dial::page(&a).verified().await;
    assert_eq!(a.authorize(&socket.id).await.status, 200);
    redis.restart();
    eventually("it is ready", || async { (ready(&a).await == 200).then_some(()) }).await;
    let b = node(&redis);
    decides(&b, &socket.id, 200).await;
}
