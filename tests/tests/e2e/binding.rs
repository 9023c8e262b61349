//! An answer counts for the page, host, offer and key that the node saw, and for nothing else.

use countersign_tests::Node;
use countersign_tests::binding::{PageKey, View};
use countersign_tests::socket::{Dial, Incoming, Socket};
use serde_json::{Value, json};

/// Sends an answer without waiting for a reply, and expects the close of a wrong one.
async fn refused(node: &Node, socket: &mut Socket, mut answer: Value, what: &str) {
    answer["id"] = 999.into();
    answer["action"] = "answer".into();
    socket.json(&answer).await;
    let end = socket.end().await;
    assert!(matches!(end, Incoming::Closed(Some(4403), _)), "{what}: {end:?}");
    assert_eq!(node.authorize(&socket.id).await.status, 401, "{what}");
}

#[tokio::test]
async fn what_somebody_changed_between_page_and_node_makes_the_answer_wrong() {
    let node = Node::start("");
    let check = async |what: &str, sees: fn(&mut View, &mut Value)| {
        let mut socket = Dial::page(&node).welcomed().await;
        let mut challenge = socket.challenge().await;
        let (mut view, real) = (socket.view(), challenge.clone());
        sees(&mut view, &mut challenge);
        let mut answer = view.answer(&challenge, &socket.key);
        // The one between them knows what the node expects to read.
        for member in ["challenge", "epoch"] {
            answer[member] = real[member].clone();
        }
        answer["origin"] = node.origin().into();
        refused(&node, &mut socket, answer, what).await;
    };
    check("a form that was stripped from the offer", |view, _| {
        view.hello = view.hello.replace(r#"["source"]"#, r#"["vm","source"]"#);
    })
    .await;
    check("a mode that was taken from the hello", |view, challenge| {
        view.hello = view.hello.replacen('{', r#"{"mode":"proof","#, 1);
        challenge["mode"] = "proof".into();
    })
    .await;
    check("the mode of the challenge", |_, challenge| challenge["mode"] = "proof".into()).await;
    check("the form of the challenge", |_, challenge| challenge["form"] = "vm".into()).await;
    check("the host", |view, _| view.host = "evil.example".to_owned()).await;
    check("the nonce", |_, challenge| challenge["nonce"] = "A".repeat(43).into()).await;
    check("the program", |_, challenge| {
        challenge["program"] = format!("{} ", challenge["program"].as_str().unwrap()).into();
    })
    .await;
    check("the challenge", |_, challenge| challenge["challenge"] = "A".repeat(22).into()).await;
    check("the epoch", |_, challenge| challenge["epoch"] = 1.into()).await;
    check("the connection", |view, _| view.connection = "A".repeat(22)).await;
    check("the origin", |view, _| view.origin = "https://evil.example".to_owned()).await;
    check("the version", |view, _| view.version = "countersign.v0".to_owned()).await;
    node.metric_reaches("countersign_challenge_verdicts_total", &[("verdict", "wrong_answer")], 12.0).await;
}

#[tokio::test]
async fn only_the_key_of_the_hello_signs() {
    let node = Node::start("");
    let thief = PageKey::new();
    // A page whose hello was given another key on its way.
    let mut socket = Dial::page(&node).welcomed().await;
    let mut hello = socket.hello();
    hello["key"] = thief.point().into();
    socket.ok("hello", hello).await;
    let challenge = socket.event("challenge").await;
    let answer = socket.answer(&challenge);
    refused(&node, &mut socket, answer, "a key that was changed").await;
    // And somebody who has the page's MAC, and signs with a key of their own.
    let mut socket = Dial::page(&node).welcomed().await;
    let challenge = socket.challenge().await;
    let mut answer = socket.answer(&challenge);
    answer["signature"] = socket.view().answer(&challenge, &thief)["signature"].clone();
    refused(&node, &mut socket, answer, "another key's signature").await;
    node.metric_reaches("countersign_challenge_verdicts_total", &[("verdict", "bad_signature")], 1.0).await;
}

#[tokio::test]
async fn the_top_level_page_is_the_clients_to_say_and_bound_by_its_answer() {
    let node = Node::start("");
    let mut socket = Dial::page(&node).welcomed().await;
    let challenge = socket.challenge().await;
    let mut view = socket.view();
    view.top_origin = Some("https://top.example".to_owned());
    socket.ok("answer", view.answer(&challenge, &socket.key)).await;
    socket.event("verified").await;
    let mut socket = Dial::page(&node).welcomed().await;
    let challenge = socket.challenge().await;
    let mut view = socket.view();
    view.top_origin = Some("https://top.example".to_owned());
    let mut answer = view.answer(&challenge, &socket.key);
    answer["topOrigin"] = "https://other.example".into();
    refused(&node, &mut socket, answer, "another top-level page").await;
}

#[tokio::test]
async fn a_client_may_ask_for_a_stronger_mode_than_the_nodes() {
    let node = Node::start("");
    let mut socket = Dial::page(&node).welcomed().await;
    let mut hello = socket.hello();
    hello["mode"] = "proof".into();
    socket.ok("hello", hello).await;
    let challenge = socket.event("challenge").await;
    assert_eq!(challenge["mode"], "proof");
    socket.ok("answer", socket.answer(&challenge)).await;
    socket.event("verified").await;
}

#[tokio::test]
async fn a_hello_without_a_key_that_is_one_is_refused_and_may_be_said_again() {
    let node = Node::start("");
    let mut socket = Dial::page(&node).welcomed().await;
    let good = socket.hello();
    for (member, value) in [
        ("key", Value::Null),
        ("key", "A".repeat(87).into()),
        ("key", good["key"].as_str().unwrap()[1..].into()),
        ("mode", "none".into()),
        ("mode", Value::Null),
    ] {
        let mut wrong = good.clone();
        wrong[member] = value;
        assert_eq!(socket.error("hello", wrong).await, "bad_request");
    }
    assert_eq!(socket.error("hello", json!({ "forms": ["source"], "nonce": good["nonce"] })).await, "bad_request");
    socket.verify().await;
}

#[tokio::test]
async fn the_host_that_a_client_dialed_is_in_its_answer() {
    // A proxy that hands its own name on: what the page dialed is not what the node reads.
    let node = Node::start("");
    let rewritten = async |node: &Node| {
        let mut socket = Dial::page(node).header("host", "inner.example:8080").welcomed().await;
        let challenge = socket.challenge().await;
        let mut view = socket.view();
        view.host = "api.example".to_owned();
        let answer = view.answer(&challenge, &socket.key);
        (socket, answer)
    };
    let (mut socket, answer) = rewritten(&node).await;
    refused(&node, &mut socket, answer, "a host that the proxy rewrote").await;
    // The one name by which clients reach the node stands for it.
    let named = Node::start("[gateway]\nhosts = [\"api.example\"]");
    let (mut socket, answer) = rewritten(&named).await;
    socket.ok("answer", answer).await;
    socket.event("verified").await;
    // Letters and the default port are as browsers write them.
    let mut socket = Dial::page(&node).header("host", "API.example:80").welcomed().await;
    let challenge = socket.challenge().await;
    let mut view = socket.view();
    view.host = "api.example".to_owned();
    socket.ok("answer", view.answer(&challenge, &socket.key)).await;
}

#[tokio::test]
async fn with_several_names_a_handshake_must_carry_one_of_them() {
    let node = Node::start("[gateway]\nhosts = [\"a.example\", \"b.example:8080\"]");
    Dial::page(&node).header("host", "b.example:8080").welcomed().await;
    for other in ["c.example", "a.example.", "x.a.example", "b.example"] {
        let refusal = Dial::page(&node).header("host", other).try_open().await.expect_err(other);
        assert_eq!((refusal.status, refusal.json()["error"].clone()), (421, json!("host_refused")), "{other}");
    }
    node.metric_reaches("countersign_handshakes_total", &[("outcome", "host_refused")], 4.0).await;
}
