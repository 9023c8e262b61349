//! A verified connection shows again what it is, whichever node is told so, and whichever nodes its calls come to.

use countersign_tests::cluster::{Cluster, ClusterPlan};
use countersign_tests::{Node, eventually};
use serde_json::json;

/// Asks a node to challenge a connection again: the status, and what is said to be wrong.
async fn order(node: &Node, connection: &str) -> (u16, String) {
    let answer = node.manage("/api/v1/challenge", &json!({ "connection": connection })).await;
    (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
}

/// Further challenges that a node issued, by cause.
async fn issued(cluster: &Cluster, node: usize, cause: &str) -> f64 {
    cluster.nodes[node].metrics().await.sum("countersign_challenges_again_total", &[("cause", cause)])
}

#[tokio::test]
async fn any_node_has_a_connection_of_any_other_challenged_again() {
    let cluster = ClusterPlan::new().start().await;
    for owner in 0..3 {
        let mut socket = cluster.dial(owner).verified().await;
        let unverified = cluster.dial(owner).welcomed().await;
        cluster.all_answer(&socket.id, 200).await;
        for (epoch, node) in cluster.nodes.iter().enumerate() {
            assert_eq!(order(node, &socket.id).await, (202, String::new()));
            let challenge = socket.event("challenge").await;
            assert_eq!(challenge["epoch"], epoch + 1);
            assert_eq!(order(node, &socket.id).await.0, 202, "while one is pending, nothing more comes");
            socket.ok("answer", socket.answer(&challenge)).await;
            socket.event("verified").await;
            assert_eq!(order(node, &unverified.id).await, (404, "connection_unknown".to_owned()));
        }
        cluster.nodes[owner].metric_reaches("countersign_challenges_again_total", &[("cause", "server")], 3.0).await;
        // The last is answered wrongly.
        assert_eq!(order(&cluster.nodes[(owner + 1) % 3], &socket.id).await.0, 202);
        socket.event("challenge").await;
        socket.json(&json!({ "id": 9, "action": "answer" })).await;
        assert_eq!(socket.close_code().await, 4403);
        cluster.all_answer(&socket.id, 401).await;
        for node in &cluster.nodes {
            assert_eq!(order(node, &socket.id).await, (404, "connection_unknown".to_owned()), "it is closed");
        }
    }
}

#[tokio::test]
async fn an_order_that_its_owner_does_not_confirm_is_no_success() {
    let mut cluster = ClusterPlan::new().start().await;
    let socket = cluster.dial(0).verified().await;
    cluster.all_answer(&socket.id, 200).await;
    cluster.nodes[0].kill();
    assert_eq!(order(&cluster.nodes[1], &socket.id).await, (503, "cluster_unavailable".to_owned()), "nobody knows");
    eventually("its lease has run out", || async {
        (order(&cluster.nodes[1], &socket.id).await == (404, "connection_unknown".to_owned())).then_some(())
    })
    .await;
    assert!(issued(&cluster, 1, "server").await < 0.5);
    cluster.redis.kill();
    assert_eq!(order(&cluster.nodes[1], &socket.id).await, (503, "cluster_unavailable".to_owned()), "nor without a registry");
}
