//! What is closed on one node is denied on every other, at once and for good.

use std::time::{Duration, Instant};

use countersign_tests::cluster::ClusterPlan;
use countersign_tests::{eventually, http};
use serde_json::json;

/// Far above what takes a millisecond, and far below anything that would end an allow that nobody took back.
const AT_ONCE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn the_first_decision_after_the_invalidation_is_a_denial_and_so_is_every_later_one() {
    let cluster = ClusterPlan::new().start().await;
    let mut slowest = Duration::ZERO;
    for round in 0..30 {
        let socket = cluster.dial(0).verified().await;
        let id = socket.id.clone();
        cluster.all_answer(&id, 200).await;
        for node in &cluster.nodes[1..] {
            assert_eq!(node.authorize(&id).await.status, 200, "remembered for 300 s");
        }
        // Half of them close their sockets, half just go.
        if round % 2 == 0 {
            drop(socket.close().await)
        } else {
            drop(socket)
        }
        let (closed, busy) = (Instant::now(), cluster.busy());
        let others = cluster.nodes[1..].iter().map(|node| async {
            eventually("it is denied", || async { (node.authorize(&id).await.status == 401).then_some(()) }).await;
            let took = closed.elapsed();
            for _ in 0..5 {
                assert_eq!(node.authorize(&id).await.status, 401, "never allowed again");
            }
            took
        });
        let took = futures_util::future::join_all(others).await.into_iter().max().unwrap();
        let added = cluster.added(&busy);
        assert!(took < AT_ONCE + added, "{took:?}, of which a busy machine added {added:?}");
        slowest = slowest.max(took);
    }
    eprintln!("denied on both other nodes within {slowest:?} of 30 closes");
}

#[tokio::test]
async fn an_order_to_any_node_ends_all_connections_of_a_principal_on_all_nodes() {
    let issuer = countersign_tests::tokens::Issuer::new();
    let cluster = ClusterPlan::new().toml(&issuer.settings()).start().await;
    let mut sockets = Vec::new();
    for node in [0, 0, 1, 1, 1, 2] {
        for subject in ["ada", "bob"] {
            sockets.push((subject, cluster.dial(node).bearer(&issuer.token(subject, 600)).verified().await));
        }
    }
    for (_, socket) in &sockets {
        cluster.all_answer(&socket.id, 200).await;
    }
    let order = http::post(&cluster.nodes[2].admin_url("/api/v1/disconnect"), &json!({ "principal": "ada" }));
    let closed = order.header("X-API-Key", &cluster.nodes[2].api_key()).send().await;
    assert_eq!((closed.status, closed.json()), (200, json!({ "closed": 6 })), "each once, wherever it was");
    for (subject, socket) in &mut sockets {
        if *subject == "ada" {
            assert_eq!(socket.close_code().await, 4410);
            cluster.all_answer(&socket.id, 401).await;
        } else {
            socket.ok("ping", json!({})).await;
            cluster.all_answer(&socket.id, 200).await;
        }
    }
}

#[tokio::test]
async fn an_order_that_a_node_with_such_connections_does_not_confirm_is_no_success() {
    let issuer = countersign_tests::tokens::Issuer::new();
    let mut cluster = ClusterPlan::new().toml(&issuer.settings()).start().await;
    let mut sockets = Vec::new();
    for node in 0..3 {
        sockets.push(cluster.dial(node).bearer(&issuer.token("ada", 600)).verified().await);
    }
    for socket in &sockets {
        cluster.all_answer(&socket.id, 200).await;
    }
    cluster.nodes[0].kill();
    let order = async |subject: &str| cluster.nodes[1].manage("/api/v1/disconnect", &json!({ "principal": subject })).await;
    assert_eq!(order("bob").await.json(), json!({ "closed": 0 }), "nobody's silence matters who has none of his");
    let unconfirmed = order("ada").await;
    assert_eq!(unconfirmed.status, 503, "{}", unconfirmed.text());
    assert!(unconfirmed.text().contains("cluster_unavailable"), "{}", unconfirmed.text());
    for socket in &mut sockets[1..] {
        assert_eq!(socket.close_code().await, 4410, "the others obeyed all the same");
    }
    // When its lease has run out, its sockets are nobody's.
    eventually("it is forgotten", || async { (order("ada").await.status == 200).then_some(()) }).await;
    assert_eq!(order("ada").await.json(), json!({ "closed": 0 }));
}

#[tokio::test]
async fn nobody_is_allowed_before_the_challenge_is_answered_on_whichever_node_is_asked() {
    let cluster = ClusterPlan::new().start().await;
    let mut socket = cluster.dial(0).welcomed().await;
    let id = socket.id.clone();
    for node in &cluster.nodes {
        assert_eq!(node.authorize(&id).await.status, 401);
    }
    socket.verify().await;
    // A denial is remembered for about a second; the verification ends it sooner.
    cluster.all_answer(&id, 200).await;
}

#[tokio::test]
async fn a_connection_that_fails_a_further_challenge_and_stays_is_denied_on_every_node() {
    let cluster = ClusterPlan::new().toml("challenge.on_failure = 'stay_unverified'").start().await;
    let mut socket = cluster.dial(0).verified().await;
    cluster.all_answer(&socket.id, 200).await;
    let order = cluster.nodes[0].manage("/api/v1/challenge", &json!({ "connection": socket.id })).await;
    assert_eq!(order.status, 202);
    socket.event("challenge").await;
    cluster.all_answer(&socket.id, 200).await;
    assert_eq!(socket.error("answer", json!({})).await, "denied");
    cluster.all_answer(&socket.id, 401).await;
    socket.ok("ping", json!({})).await;
}
