//! A ticket is good on every node, and a proof on one of them, once.

use countersign_tests::cluster::{Cluster, ClusterPlan};
use countersign_tests::http::{self, Request, Response};
use countersign_tests::socket::Socket;
use countersign_tests::tickets::Ticket;
use countersign_tests::{Node, eventually};
use serde_json::json;

/// The call that every node is asked about.
const CALL: [(&str, &str); 2] = [("X-Original-Method", "GET"), ("X-Original-URL", "https://api.example/orders")];
const TARGET: &str = "api.example/orders";

async fn start() -> Cluster {
    ClusterPlan::new().toml("[authorizer]\nmode = \"ticket\"").start().await
}

async fn page(cluster: &Cluster, node: usize) -> (Socket, Ticket) {
    let mut socket = cluster.dial(node).verified().await;
    let ticket = socket.ticket().await;
    (socket, ticket)
}

fn about(node: &Node, query: &str) -> Request {
    let request = http::get(&node.admin_url(&format!("/authorize{query}")));
    CALL.iter().fold(request, |request, (name, value)| request.header(name, value))
}

async fn by_ticket(node: &Node, ticket: &Ticket) -> Response {
    about(node, "").ticket(ticket).send().await
}

async fn by_proof(node: &Node, ticket: &Ticket, proof: &str) -> Response {
    about(node, "?mode=proof").proof(ticket, proof).send().await
}

fn code(response: &Response) -> String {
    format!("{} {}", response.status, response.json()["error"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn a_ticket_of_one_node_is_good_on_all_and_its_connections_id_on_none() {
    let cluster = start().await;
    let (mut socket, ticket) = page(&cluster, 0).await;
    for node in &cluster.nodes {
        let allowed = by_ticket(node, &ticket).await;
        assert_eq!(allowed.header("x-countersign-connection-id"), Some(socket.id.as_str()), "{}", allowed.text());
        assert_eq!(code(&node.authorize(&socket.id).await), "401 ticket_missing");
    }
    // A ticket from well after the verification needs no question to anybody.
    let mut taken = false;
    while !taken {
        let ticket = socket.ticket().await;
        assert_eq!(by_ticket(&cluster.nodes[1], &ticket).await.status, 200);
        let scrape = cluster.nodes[1].metrics().await;
        taken = scrape.sum("countersign_decision_sources_total", &[("source", "ticket")]) > 0.0;
    }
}

#[tokio::test]
async fn a_closed_or_revoked_connections_ticket_is_refused_everywhere_as_soon_as_that_is_heard() {
    let cluster = start().await;
    for round in 0..6 {
        let (socket, ticket) = page(&cluster, round % 3).await;
        for node in &cluster.nodes {
            assert_eq!(by_ticket(node, &ticket).await.status, 200);
        }
        if round % 2 == 0 {
            drop(socket.close().await);
        } else {
            let order = json!({ "connection": socket.id });
            let other = &cluster.nodes[(round + 1) % 3];
            let closed = http::post(&other.admin_url("/api/v1/disconnect"), &order).header("X-API-Key", &other.api_key());
            assert_eq!(closed.send().await.status, 200);
        }
        for node in &cluster.nodes {
            eventually("it is refused", || async { (by_ticket(node, &ticket).await.status == 401).then_some(()) }).await;
            // By what was heard, not by its end.
            assert_eq!(code(&by_ticket(node, &ticket).await), "401 connection_unknown", "round {round}");
        }
    }
}

/// Its ticket is handed out before the registry hears of the connection, and the registry never does.
#[tokio::test]
async fn a_ticket_of_a_connection_that_closed_before_the_registry_heard_of_it_is_refused_everywhere() {
    let cluster = start().await;
    // From before until well after: a node that has just started doubts everything.
    let mut witness = cluster.dial(0).verified().await;
    for node in &cluster.nodes[1..] {
        let mut taken = false;
        while !taken {
            let ticket = witness.ticket().await;
            assert_eq!(by_ticket(node, &ticket).await.status, 200);
            let scrape = node.metrics().await;
            taken = scrape.sum("countersign_decision_sources_total", &[("source", "ticket")]) > 0.0;
        }
    }
    // Shorter than any deadline. What is written first keeps the rest waiting.
    cluster.redis.ask(&["CLIENT", "PAUSE", "800"]).await;
    let _first = cluster.dial(0).welcomed().await;
    let (socket, ticket) = page(&cluster, 0).await;
    drop(socket.close().await);
    for node in &cluster.nodes {
        eventually("it is refused", || async { (by_ticket(node, &ticket).await.status == 401).then_some(()) }).await;
        assert_eq!(code(&by_ticket(node, &ticket).await), "401 connection_unknown", "by what was heard, not by its end");
    }
}

#[tokio::test]
async fn a_ticket_of_a_connection_that_failed_a_further_challenge_is_refused_everywhere() {
    let plan = ClusterPlan::new().toml("[authorizer]\nmode = \"ticket\"\n[challenge]\non_failure = \"stay_unverified\"");
    let cluster = plan.start().await;
    let (mut socket, ticket) = page(&cluster, 0).await;
    for node in &cluster.nodes {
        assert_eq!(by_ticket(node, &ticket).await.status, 200);
    }
    let order = cluster.nodes[0].manage("/api/v1/challenge", &json!({ "connection": socket.id })).await;
    assert_eq!(order.status, 202, "{}", order.text());
    socket.event("challenge").await;
    assert_eq!(socket.error("answer", json!({})).await, "denied");
    for node in &cluster.nodes {
        eventually("it is refused", || async { (by_ticket(node, &ticket).await.status == 401).then_some(()) }).await;
        let refused = code(&by_ticket(node, &ticket).await);
        assert_ne!(refused, "401 ticket_expired", "by what was heard, not by its end");
    }
}

#[tokio::test]
async fn a_proof_counts_once_in_the_whole_cluster_and_not_at_all_without_its_owner() {
    let mut cluster = start().await;
    let (socket, ticket) = page(&cluster, 0).await;
    let prove = |counter| socket.prove(&ticket, "GET", TARGET, counter);
    let verdict = async |node: usize, proof: &str| code(&by_proof(&cluster.nodes[node], &ticket, proof).await);
    for (first, number) in [(0, 1), (1, 2), (2, 3)] {
        assert_eq!(verdict(first, &prove(number)).await, "200 ", "node {first}");
        for node in 0..3 {
            assert_eq!(verdict(node, &prove(number)).await, "401 proof_replayed", "node {first}, then node {node}");
        }
    }
    let at_once = prove(9);
    let raced = tokio::join!(verdict(0, &at_once), verdict(1, &at_once), verdict(2, &at_once));
    let allowed = [&raced.0, &raced.1, &raced.2].iter().filter(|code| code.as_str() == "200 ").count();
    assert_eq!(allowed, 1, "{raced:?}");
    let another = socket.prove(&ticket, "GET", "api.example/other", 10);
    assert_eq!(verdict(1, &another).await, "401 proof_invalid");
    cluster.nodes[1].metric_at_least("countersign_asks_total", &[("outcome", "answered")], 4.0).await;

    cluster.nodes[0].kill();
    let verdict = async |node: usize, proof: &str| code(&by_proof(&cluster.nodes[node], &ticket, proof).await);
    assert_eq!(verdict(1, &prove(11)).await, "503 owner_unavailable");
    eventually("the ticket expires", || async { (verdict(1, &prove(12)).await == "401 ticket_expired").then_some(()) }).await;
}

#[tokio::test]
async fn the_balancer_passes_tickets_and_proofs_on_and_nobodys_word_on_who_calls() {
    let greeting = "[[protected]]\npath = \"/greeting\"\nmode = \"proof\"\nbody = { greeting = \"Hello\" }";
    let cluster = ClusterPlan::new().toml("[authorizer]\nmode = \"ticket\"").toml(greeting).balanced().start().await;
    let mut socket = cluster.dial_balanced().verified().await;
    let ticket = socket.ticket().await;
    let (public, admin) = (cluster.balancer().public, cluster.balancer().admin);
    for counter in 1..=6 {
        let proof = socket.prove(&ticket, "GET", &format!("{public}/greeting"), counter);
        let called = http::get(&format!("http://{public}/greeting")).proof(&ticket, &proof).send().await;
        assert_eq!(called.status, 200, "{}", called.text());
        let asked = http::get(&format!("http://{admin}/authorize")).ticket(&ticket);
        let asked = asked.header("X-Countersign-Subject", "root").header("X_Countersign.Subject", "root").send().await;
        assert_eq!((asked.status, asked.header("x-countersign-subject")), (200, Some("-")), "{}", asked.text());
    }
}

#[tokio::test]
async fn tickets_outlive_an_outage_of_redis_and_its_memory() {
    let mut cluster = start().await;
    let (mut socket, _) = page(&cluster, 0).await;
    cluster.redis.kill();
    cluster.become_unready().await;
    let ticket = socket.ticket().await;
    assert_eq!(by_ticket(&cluster.nodes[0], &ticket).await.status, 200, "its owner knows it");
    cluster.redis.restart_empty().await;
    cluster.become_ready().await;
    let ticket = socket.ticket().await;
    for node in &cluster.nodes {
        eventually("it is good again", || async { (by_ticket(node, &ticket).await.status == 200).then_some(()) }).await;
    }
    // Whoever joins gets the keys that were given back.
    cluster.start_again(2);
    cluster.becomes_whole().await;
    let ticket = socket.ticket().await;
    assert_eq!(by_ticket(&cluster.nodes[2], &ticket).await.status, 200);
    let (_socket, ticket) = page(&cluster, 2).await;
    assert_eq!(by_ticket(&cluster.nodes[0], &ticket).await.status, 200);
}
