//! Users in Redis: what one node or the command line decides about a user ends that user's sockets on every node.

use countersign_tests::cluster::{Cluster, ClusterPlan};
use countersign_tests::http::{self, Response};
use countersign_tests::socket::Socket;
use serde_json::{Value, json};

const POOL: &str = "[identity.pool]\nstore = \"redis\"\nissuer = \"https://ws.example.com\"";
const PASSWORD: &str = "Correct horse 1";

/// Runs `user` of the command line, which shares the nodes' Redis.
fn user(cluster: &Cluster, node: usize, arguments: &[&str], input: &str) {
    let output = cluster.nodes[node].cli(&[&["user"], arguments].concat(), input);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn post(cluster: &Cluster, node: usize, path: &str, body: &Value) -> Response {
    http::post(&cluster.nodes[node].url(path), body).send().await
}

async fn sign_in(cluster: &Cluster, node: usize, name: &str, password: &str) -> Value {
    let answer = post(cluster, node, "/auth", &json!({ "user": name, "password": password })).await;
    assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    answer.json()
}

/// A user's verified socket on every node, all with the same token.
async fn sockets(cluster: &Cluster, session: &Value) -> Vec<Socket> {
    let token = session["token"].as_str().unwrap();
    let mut sockets = Vec::new();
    for node in 0..cluster.nodes.len() {
        let socket = cluster.dial(node).bearer(token).verified().await;
        cluster.all_answer(&socket.id, 200).await;
        sockets.push(socket);
    }
    sockets
}

/// Every socket is ended by the server, every node denies it, and the token opens no other.
async fn all_end(cluster: &Cluster, what: &str, sockets: Vec<Socket>, session: &Value) {
    for (node, mut socket) in sockets.into_iter().enumerate() {
        assert_eq!(socket.close_code().await, 4410, "{what}: the socket on node {node}");
        cluster.all_answer(&socket.id, 401).await;
        let again = cluster.dial(node).bearer(session["token"].as_str().unwrap()).try_open().await;
        assert_eq!(again.err().map(|refusal| refusal.status), Some(401), "{what}: the token on node {node}");
    }
}

#[tokio::test]
async fn whatever_ends_a_user_anywhere_ends_that_users_sockets_on_every_node() {
    let cluster = ClusterPlan::new().toml(POOL).start().await;
    for name in ["ada", "bob"] {
        user(&cluster, 0, &["add", name, "--password-stdin", "--permanent"], PASSWORD);
    }
    let mut others = sockets(&cluster, &sign_in(&cluster, 0, "bob", PASSWORD).await).await;

    let session = sign_in(&cluster, 0, "ada", PASSWORD).await;
    let open = sockets(&cluster, &session).await;
    user(&cluster, 1, &["disable", "ada"], "");
    all_end(&cluster, "disabled", open, &session).await;
    for node in 0..3 {
        let refused = post(&cluster, node, "/auth", &json!({ "user": "ada", "password": PASSWORD })).await;
        assert_eq!(refused.status, 401, "node {node}");
    }
    user(&cluster, 2, &["enable", "ada"], "");

    let session = sign_in(&cluster, 1, "ada", PASSWORD).await;
    let open = sockets(&cluster, &session).await;
    let revoked = post(&cluster, 2, "/auth/revoke", &json!({ "refresh": session["refresh"] })).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text());
    all_end(&cluster, "revoked", open, &session).await;

    let session = sign_in(&cluster, 2, "ada", PASSWORD).await;
    let open = sockets(&cluster, &session).await;
    let change = json!({ "user": "ada", "password": PASSWORD, "new_password": "Correct horse 2" });
    assert_eq!(post(&cluster, 0, "/auth/password", &change).await.status, 200);
    all_end(&cluster, "a new password", open, &session).await;

    let session = sign_in(&cluster, 0, "ada", "Correct horse 2").await;
    let open = sockets(&cluster, &session).await;
    user(&cluster, 0, &["delete", "ada"], "");
    all_end(&cluster, "deleted", open, &session).await;

    for (node, socket) in others.iter_mut().enumerate() {
        socket.ok("ping", json!({})).await;
        assert_eq!(cluster.nodes[node].authorize(&socket.id).await.status, 200, "somebody else's socket stays");
    }
}
