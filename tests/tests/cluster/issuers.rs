//! Two issuers are trusted, and one of them lets its users choose their `sub`: who is who is told by issuer and subject together.

use countersign_tests::cluster::{Cluster, ClusterPlan};
use countersign_tests::http;
use countersign_tests::tokens::{ISSUER, Issuer};
use serde_json::{Value, json};

/// Value of `iss` of the issuer whose users choose.
const OPEN_ISSUER: &str = "https://open.example";
const SETTINGS: &str = r#"
[gateway.limits]
connections_per_principal_max = 1
[[channels]]
pattern = "mine:{issuer}:{subject}"
subscribe = "verified"
"#;

/// Both issuers in one configuration: `tests`, and `open` with the same secret.
fn settings(issuer: &Issuer) -> String {
    let strict = issuer.settings();
    let (_, table) = strict.split_once("[[identity.issuers]]").unwrap();
    let open = table.replace("\"tests\"", "\"open\"").replace(ISSUER, OPEN_ISSUER);
    format!("{strict}[[identity.issuers]]{open}{SETTINGS}")
}

/// A token of `ada`: whose, is told by the issuer.
fn token(issuer: &Issuer, iss: &str) -> String {
    let mut claims = issuer.claims("ada", 600);
    claims["iss"] = json!(iss);
    issuer.sign(&claims)
}

/// How many sockets an order closed, on all nodes together.
async fn closed_by(cluster: &Cluster, node: usize, order: &Value) -> u64 {
    let order = http::post(&cluster.nodes[node].admin_url("/api/v1/disconnect"), order);
    order.header("X-API-Key", &cluster.nodes[node].api_key()).send().await.json()["closed"].as_u64().unwrap()
}

#[tokio::test]
async fn a_subject_that_another_issuer_gave_away_opens_nothing_of_its_namesake() {
    let issuer = Issuer::new();
    let cluster = ClusterPlan::new().nodes(2).toml(&settings(&issuer)).start().await;
    let tokens = [ISSUER, OPEN_ISSUER].map(|iss| token(&issuer, iss));
    let names = ["tests", "open"];

    // One place each on every node: the namesake takes nobody's, and a second one of the same issuer finds none.
    let mut sockets = Vec::new();
    for node in 0..2 {
        for token in &tokens {
            sockets.push(cluster.dial(node).bearer(token).verified().await);
        }
        for token in &tokens {
            let refused = cluster.dial(node).bearer(token).try_open().await.expect_err("its only place is taken");
            assert_eq!(refused.status, 429);
        }
    }

    for (number, socket) in sockets.iter_mut().enumerate() {
        let (own, other) = (number % 2, (number + 1) % 2);
        cluster.all_answer(&socket.id, 200).await;
        for node in &cluster.nodes {
            let allowed = node.authorize(&socket.id).await;
            assert_eq!(allowed.header("x-countersign-subject"), Some("ada"));
            assert_eq!(allowed.header("x-countersign-issuer"), Some(names[own]));
            for (whose, status) in [(own, 200), (other, 403)] {
                let url = node.admin_url("/authorize?require=both");
                let question = http::get(&url).header("connectionId", &socket.id);
                let answer = question.header("Authorization", &format!("Bearer {}", tokens[whose])).send().await;
                assert_eq!(answer.status, status, "socket of {}, token of {}", names[own], names[whose]);
            }
        }
        socket.ok("subscribe", json!({ "channel": format!("mine:{}:ada", names[own]) })).await;
        let denied = socket.error("subscribe", json!({ "channel": format!("mine:{}:ada", names[other]) })).await;
        assert_eq!(denied, "denied");
    }

    // An order that names the issuer spares the namesake, on both nodes; one that names none spares nobody.
    assert_eq!(closed_by(&cluster, 0, &json!({ "principal": "ada", "issuer": "open" })).await, 2);
    let (strict, open): (Vec<_>, Vec<_>) = sockets.into_iter().enumerate().partition(|(number, _)| number % 2 == 0);
    for (_, mut socket) in open {
        assert_eq!(socket.close_code().await, 4410);
        cluster.all_answer(&socket.id, 401).await;
    }
    for (_, socket) in &strict {
        cluster.all_answer(&socket.id, 200).await;
    }
    // Nobody is left of it, whatever the registry still has; and what no token can say is told from that.
    assert_eq!(closed_by(&cluster, 1, &json!({ "principal": "ada", "issuer": "open" })).await, 0);
    for node in &cluster.nodes {
        let wrong = node.manage("/api/v1/disconnect", &json!({ "principal": "ada", "issuer": OPEN_ISSUER })).await;
        assert_eq!(wrong.status, 400);
        assert!(wrong.text().contains("`issuer`"), "{}", wrong.text());
    }
    assert_eq!(closed_by(&cluster, 1, &json!({ "principal": "ada" })).await, 2);
    for (_, mut socket) in strict {
        assert_eq!(socket.close_code().await, 4410);
    }
}

#[tokio::test]
async fn a_connection_without_a_token_has_neither_subject_nor_issuer() {
    let cluster = ClusterPlan::new().nodes(2).start().await;
    let socket = cluster.dial(0).verified().await;
    cluster.all_answer(&socket.id, 200).await;
    for node in &cluster.nodes {
        let allowed = node.authorize(&socket.id).await;
        for name in ["x-countersign-subject", "x-countersign-issuer"] {
            assert_eq!(allowed.header(name), Some("-"), "{name}");
        }
    }
}
