//! Any node authorizes, posts to, publishes to and closes any connection; clients see one address.

use std::collections::HashSet;
use std::process::Output;

use countersign_tests::cluster::{ClusterPlan, ORIGIN, node_becomes};
use countersign_tests::eventually;
use countersign_tests::http::{self, Request};
use countersign_tests::socket::{Dial, Incoming};
use countersign_tests::solver::solve;
use serde_json::{Value, json};

const RULES: &str = r#"
[[channels]]
pattern = "room:*"
subscribe = "verified"
publish = "verified"
"#;

/// A password of the secured socket's policy.
const PASSWORD: &str = "Secret1";

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn any_node_authorizes_publishes_to_and_closes_a_connection_of_any_other() {
    let cluster = ClusterPlan::new().toml(RULES).start().await;
    for owner in 0..3 {
        for other in (0..3).filter(|other| *other != owner) {
            let mut socket = cluster.dial(owner).verified().await;
            let (id, channel) = (socket.id.clone(), format!("room:{owner}{other}"));
            cluster.all_answer(&id, 200).await;
            socket.ok("subscribe", json!({ "channel": channel })).await;
            // Subscriptions are not waited for: a node hears a channel a moment after its first subscriber.
            eventually("the other node knows the subscriber", || async {
                let answer = cluster.nodes[other].publish(&channel, &json!("server")).await;
                (answer.json()["nodes"] == 1).then_some(())
            })
            .await;
            assert_eq!(socket.event("publication").await["data"], "server");
            let mut peer = cluster.dial(other).verified().await;
            peer.ok("publish", json!({ "channel": channel, "data": { "from": other } })).await;
            assert_eq!(socket.event("publication").await["data"], json!({ "from": other }));
            let order = http::post(&cluster.nodes[other].admin_url("/api/v1/disconnect"), &json!({ "connection": id }));
            let closed = order.header("X-API-Key", &cluster.nodes[other].api_key()).send().await;
            assert_eq!((closed.status, closed.json()), (200, json!({ "closed": 1 })));
            assert_eq!(socket.close_code().await, 4410);
            cluster.all_answer(&id, 401).await;
        }
    }
}

#[tokio::test]
async fn a_frame_fetches_its_program_through_any_node_and_once() {
    let cluster = ClusterPlan::new().toml("[challenge]\nforms = [\"frame\"]").nodes(2).start().await;
    for owner in 0..2 {
        let mut socket = cluster.dial(owner).welcomed().await;
        let mut hello = socket.hello();
        hello["forms"] = json!(["frame"]);
        socket.ok("hello", hello).await;
        let challenge = socket.event("challenge").await;
        let path = format!("/challenge/program/{}", challenge["program"].as_str().unwrap());
        let program = http::get(&cluster.nodes[1 - owner].url(&path)).send().await;
        assert_eq!((program.status, program.header("cache-control")), (200, Some("no-store")));
        for node in &cluster.nodes {
            assert_eq!(http::get(&node.url(&path)).send().await.status, 404, "it was given");
        }
    }
}

#[tokio::test]
async fn a_balancer_without_stickiness_spreads_sockets_and_any_request_finds_them() {
    let cluster = ClusterPlan::new().toml(RULES).balanced().start().await;
    let mut sockets = Vec::new();
    for _ in 0..6 {
        sockets.push(cluster.dial_balanced().verified().await);
    }
    for (number, node) in cluster.nodes.iter().enumerate() {
        let held = node.metrics().await.sum("countersign_connections", &[]);
        assert!((held - 2.0).abs() < 0.5, "node {number} holds {held} of 6");
    }
    // Requests go to each node in turn: nine cover every pair three times.
    for socket in &mut sockets {
        for _ in 0..9 {
            eventually("every node allows", || async {
                (cluster.ask_balanced(&socket.id).send().await.status == 200).then_some(())
            })
            .await;
        }
        socket.ok("subscribe", json!({ "channel": "room:all" })).await;
    }
    eventually("all nodes know the subscribers of the others", || async {
        let mut nodes = HashSet::new();
        for _ in 0..3 {
            nodes.insert(
                cluster.api("publish", &json!({ "channel": "room:all", "data": "first" })).await.json()["nodes"].as_u64(),
            );
        }
        (nodes == HashSet::from([Some(3)])).then_some(())
    })
    .await;
    assert_eq!(cluster.api("publish", &json!({ "channel": "room:all", "data": "last" })).await.status, 200);
    for socket in &mut sockets {
        while socket.event("publication").await["data"] != "last" {}
        let closed = cluster.api("disconnect", &json!({ "connection": socket.id })).await;
        assert_eq!(closed.json(), json!({ "closed": 1 }));
        assert_eq!(socket.close_code().await, 4410);
    }
}

#[tokio::test]
async fn a_lapsed_connection_is_denied_everywhere_and_ended_from_any_node() {
    let cluster = ClusterPlan::new().toml("challenge.on_failure = 'stay_unverified'").start().await;
    let mut socket = cluster.dial(0).verified().await;
    cluster.all_answer(&socket.id, 200).await;
    let [owner, other, _] = &cluster.nodes[..] else { panic!("three nodes") };
    let order = json!({ "connection": socket.id });
    assert_eq!(owner.manage("/api/v1/challenge", &order).await.status, 202);
    socket.event("challenge").await;
    assert_eq!(socket.error("answer", json!({})).await, "denied");
    cluster.all_answer(&socket.id, 401).await;
    let closed = other.manage("/api/v1/disconnect", &order).await;
    assert_eq!(closed.json(), json!({ "closed": 1 }));
    assert_eq!(socket.close_code().await, 4410);
}

#[tokio::test]
async fn identity_headers_of_clients_end_at_the_balancer_and_so_do_the_metrics_of_nodes() {
    let cluster = ClusterPlan::example("domain-security.toml").balanced().start().await;
    let public = cluster.balancer().public;
    let forged = Request::new("GET", &format!("http://{public}/greeting")).header("X-Countersign-Subject", "ada");
    assert_eq!(forged.send().await.status, 401);
    for path in ["/metrics", "/health/ready"] {
        let answer = http::get(&format!("http://{}{path}", cluster.balancer().admin)).send().await;
        assert_eq!(answer.status, 404, "{path}: of whichever node comes next");
    }
}

#[tokio::test]
async fn domain_security_through_the_balancer() {
    // The first of these is what the plan allows; the example's own list is replaced by it.
    let cluster = ClusterPlan::example("domain-security.toml").balanced().start().await;
    let public = cluster.balancer().public;
    let greeting = async |id: &str| {
        let url = format!("http://{public}/greeting");
        http::get(&url).header("connectionId", id).header("Origin", ORIGIN).send().await
    };
    for _ in 0..6 {
        let mut socket = Dial::at(public).origin(ORIGIN).open().await;
        let echo = socket.next_text().await;
        let id = echo.strip_prefix("Echo: ").expect("the connection id first").to_owned();
        let executable: Value = serde_json::from_str(&socket.next_text().await).unwrap();
        assert_eq!(greeting(&id).await.status, 401, "not yet");
        let mut message = solve(executable["func"].as_str().unwrap(), ORIGIN);
        message["index"] = executable["index"].clone();
        socket.json(&json!({ "action": "OnMessage", "msg": message, "token": executable["token"] })).await;
        cluster.all_answer(&id, 200).await;
        for _ in 0..3 {
            let greeted = greeting(&id).await;
            assert_eq!((greeted.status, greeted.json()), (200, json!({ "greeting": "Hello, World!" })));
        }
        assert!(matches!(socket.close().await, Incoming::Closed(..)));
        cluster.all_answer(&id, 401).await;
        assert_eq!(greeting(&id).await.status, 401);
    }
    let refused = Dial::at(public).origin("http://evil.example").try_open().await.expect_err("not on the list");
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn secured_socket_through_the_balancer() {
    let pool = "[identity.pool]\nstore = \"redis\"\nissuer = \"https://ws.example.com\"";
    let cluster = ClusterPlan::example("secured-socket.toml").toml(pool).balanced().start().await;
    succeeded(&cluster.nodes[0].cli(&["user", "add", "ada", "--password-stdin", "--permanent"], PASSWORD));
    let public = cluster.balancer().public;
    let url = |path: &str| format!("http://{public}{path}");
    let signed_in = http::post(&url("/auth"), &json!({ "user": "ada", "password": PASSWORD })).send().await;
    assert_eq!(signed_in.status, 200, "{}", signed_in.text());
    let first = signed_in.json();
    // A sign-in on one node is refreshed on any other.
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let body = json!({ "user": "ada", "refresh": first["refresh"] });
        let again = http::post(&url("/auth/refresh"), &body).send().await;
        assert_eq!(again.status, 200, "{}", again.text());
        tokens.push(again.json()["token"].as_str().unwrap().to_owned());
    }
    let mut sockets = Vec::new();
    for token in &tokens {
        let dial = Dial::at(public).query("connectionType", "greeting").query("Authorizer", token);
        sockets.push(dial.open().await);
        for _ in 0..3 {
            let bearer = format!("Bearer {token}");
            assert_eq!(http::get(&url("/greeting")).header("Authorization", &bearer).send().await.status, 200);
        }
    }
    for node in &cluster.nodes {
        node.metric_reaches("countersign_connections", &[], 1.0).await;
        node.metric_reaches("countersign_bus_channels", &[], 1.0).await;
    }
    for sender in 0..3 {
        sockets[sender].text(r#"{"action":"PING"}"#).await;
        assert_eq!(sockets[sender].next_json().await, json!({ "action": "PING", "value": "PONG" }));
        let greeting = format!("from {sender}");
        sockets[sender].json(&json!({ "action": "GREETING", "message": greeting })).await;
        for other in (0..3).filter(|other| *other != sender) {
            assert_eq!(sockets[other].next_json().await, json!({ "action": "GREETING", "value": greeting }));
        }
    }
    let none = Dial::at(public).query("connectionType", "greeting").try_open().await.expect_err("no token");
    assert_eq!(none.status, 401);
}

#[tokio::test]
async fn a_drained_node_gets_no_new_sockets_and_its_own_move_to_the_others() {
    let drain = "[server.drain]\nnotice_ms = 1500\nwindow_ms = 500\n";
    let mut cluster = ClusterPlan::new().toml(drain).balanced().start().await;
    let mut leaving = cluster.dial(0).verified().await;
    cluster.all_answer(&leaving.id, 200).await;
    cluster.nodes[0].sigterm();
    cluster.balancer().sees(1, "DOWN").await;
    for _ in 0..4 {
        // Refusing nobody while one node goes: what it refuses goes to another.
        cluster.dial_balanced().verified().await;
    }
    assert_eq!(leaving.close_code().await, 1012);
    assert_eq!(cluster.nodes[0].exit().await.code(), Some(0));
    for node in &cluster.nodes[1..] {
        // What it said last may still be on its way.
        eventually("it is denied", || async { (node.authorize(&leaving.id).await.status == 401).then_some(()) }).await;
        node.metric_reaches("countersign_cluster_nodes", &[], 2.0).await;
    }
    cluster.start_again(0);
    node_becomes(&cluster.nodes[0], true).await;
    cluster.becomes_whole().await;
}

#[tokio::test]
async fn a_node_starts_without_redis_and_joins_when_it_is_there() {
    let mut cluster = ClusterPlan::new().nodes(2).start().await;
    cluster.nodes[0].kill();
    cluster.redis.kill();
    cluster.start_again(0);
    let node = &cluster.nodes[0];
    assert_eq!(node.ready().await, Some(false));
    let mut socket = cluster.dial(0).verified().await;
    assert_eq!(node.authorize(&socket.id).await.status, 200, "its own connections it knows");
    assert_eq!(node.authorize(&"A".repeat(22)).await.status, 503, "of others it knows nothing");
    cluster.redis.restart_empty().await;
    cluster.becomes_whole().await;
    cluster.all_answer(&socket.id, 200).await;
    socket.ok("ping", json!({})).await;
}
