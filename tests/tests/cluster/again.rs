//! A verified connection shows again what it is, whichever node is told so, and whichever nodes its calls come to.

use countersign_tests::cluster::{Cluster, ClusterPlan};
use countersign_tests::{Node, eventually, http};
use serde_json::json;

/// Calls after which a further challenge must have come, also if a minute ended meanwhile: many times the bounds that are set here.
const ENOUGH: u32 = 3_000;

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

/// The metric of calls that one node allowed in the name of others' connections.
async fn told(cluster: &Cluster, node: usize, outcome: &str) -> f64 {
    cluster.nodes[node].metrics().await.sum("countersign_foreign_calls_total", &[("outcome", outcome)])
}

#[tokio::test]
async fn calls_count_whichever_nodes_decide_on_them() {
    let cluster = ClusterPlan::new().toml("challenge.again = { calls_per_minute = 300 }").start().await;
    let mut busy = cluster.dial(0).verified().await;
    cluster.all_answer(&busy.id, 200).await;
    // Its owner decides on none of these. A minute may end meanwhile, so they go on until there are enough in one.
    let mut rounds = 0_u32;
    while issued(&cluster, 0, "calls").await < 0.5 {
        for node in &cluster.nodes[1..] {
            assert_eq!(node.authorize(&busy.id).await.status, 200);
        }
        rounds += 1;
        assert!(rounds < ENOUGH, "nobody counts them");
    }
    assert!(rounds > 140, "challenged after {rounds} calls on each of two nodes");
    let challenge = busy.event("challenge").await;
    assert_eq!(challenge["epoch"], 1);
    busy.ok("answer", busy.answer(&challenge)).await;
    busy.event("verified").await;
    for node in &cluster.nodes[1..] {
        let name = "countersign_foreign_calls_total";
        node.metric_at_least(name, &[("outcome", "told")], rounds.into()).await;
        let scrape = node.metrics().await;
        assert!(scrape.sum(name, &[("outcome", "told")]) < f64::from(rounds) + 5.0, "each call once");
        assert!(scrape.sum(name, &[("outcome", "dropped")]) < 0.5);
    }
    for node in &cluster.nodes {
        assert!(node.metrics().await.sum("countersign_bus_gaps_total", &[]) < 0.5, "nothing of it is a doubt");
    }
}

#[tokio::test]
async fn tickets_that_are_taken_at_their_word_count_and_proofs_count_once() {
    let settings = "challenge.again = { calls_per_minute = 40 }\n[authorizer]\nmode = \"ticket\"";
    let cluster = ClusterPlan::new().nodes(2).toml(settings).start().await;
    let mut socket = cluster.dial(0).verified().await;
    let ticket = socket.ticket().await;
    let about = |query: &str| {
        let request = http::get(&cluster.nodes[1].admin_url(&format!("/authorize{query}")));
        request.header("X-Original-Method", "GET").header("X-Original-URL", "https://api.example/orders")
    };
    for counter in 1..=30 {
        let proof = socket.prove(&ticket, "GET", "api.example/orders", counter);
        assert_eq!(about("?mode=proof").proof(&ticket, &proof).send().await.status, 200);
    }
    let (mut ticket, mut rounds) = (ticket, 0);
    while issued(&cluster, 0, "calls").await < 0.5 {
        rounds += 1;
        assert!(rounds < ENOUGH, "nobody counts them");
        let answer = about("").ticket(&ticket).send().await;
        match answer.status {
            200 => {}
            _ => ticket = socket.ticket().await,
        }
    }
    socket.event("challenge").await;
    eventually("all that was not asked about is told, and nothing else", || async {
        let scrape = cluster.nodes[1].metrics().await;
        let by = |source| scrape.sum("countersign_decision_sources_total", &[("source", source)]);
        let told = scrape.sum("countersign_foreign_calls_total", &[("outcome", "told")]);
        assert!(by("peer") >= 30.0);
        ((by("ticket") + by("registry") - told).abs() < 0.5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn where_calls_bring_no_challenge_nothing_is_told() {
    let cluster = ClusterPlan::new().nodes(2).start().await;
    let socket = cluster.dial(0).verified().await;
    cluster.all_answer(&socket.id, 200).await;
    // Three heartbeats take longer than the interval at which owners would be told.
    let beats = ("countersign_bus_probes_total", [("outcome", "heard")]);
    let heard = cluster.nodes[1].metrics().await.sum(beats.0, &beats.1);
    cluster.nodes[1].metric_at_least(beats.0, &beats.1, heard + 3.0).await;
    for outcome in ["told", "unsent", "dropped"] {
        assert!(told(&cluster, 1, outcome).await < 0.5, "{outcome}");
    }
}
