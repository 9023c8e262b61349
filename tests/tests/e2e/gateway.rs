//! A native client's life: welcome, challenge, verdict; and every way in which it must not become verified.

use countersign_tests::binding::{PageKey, View};
use countersign_tests::raw::{Frame, Raw, TEXT};
use countersign_tests::socket::{Dial, Incoming, NATIVE, Socket};
use countersign_tests::{Node, eventually};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

/// The status with which the authorizer answers for a connection.
async fn decision(node: &Node, connection: &str) -> u16 {
    node.authorize(connection).await.status
}

#[tokio::test]
async fn the_right_answer_verifies_and_opens_the_authorizer() {
    let node = Node::start("");
    let mut socket = Dial::page(&node).open().await;
    let welcome = socket.event("welcome").await;
    assert_eq!(welcome["challenge"], "required");
    assert_eq!(welcome["subject"], Value::Null);
    assert_eq!(welcome["expiresAt"], Value::Null);
    socket.id = welcome["connectionId"].as_str().unwrap().to_owned();
    assert_eq!(socket.id.len(), 22);
    assert_eq!(decision(&node, &socket.id).await, 401, "not before the answer");
    let challenge = socket.challenge().await;
    assert_eq!(challenge["form"], "source");
    assert_eq!(challenge["epoch"], 0);
    assert_eq!(challenge["answerMs"], 10_000);
    assert_eq!(decision(&node, &socket.id).await, 401, "not while it is judged");
    socket.ok("answer", socket.answer(&challenge)).await;
    assert_eq!(socket.event("verified").await["connectionId"], socket.id);
    assert_eq!(decision(&node, &socket.id).await, 200);
    node.metric_reaches("countersign_connections", &[("state", "verified")], 1.0).await;
    node.metric_reaches("countersign_challenges_pending", &[], 0.0).await;
    node.metric_reaches("countersign_challenge_verdicts_total", &[("verdict", "verified")], 1.0).await;
}

#[tokio::test]
async fn programs_and_identifiers_never_repeat() {
    let node = Node::start("");
    let mut seen = std::collections::HashSet::new();
    for _ in 0..20 {
        let mut socket = Dial::page(&node).welcomed().await;
        let challenge = socket.challenge().await;
        for part in [&challenge["program"], &challenge["challenge"], &challenge["nonce"]] {
            assert!(seen.insert(part.to_string()), "twice: {part}");
        }
        assert!(seen.insert(socket.id.clone()));
    }
}

/// Sends an answer without waiting for a reply: it may be the close.
async fn send_answer(socket: &mut Socket, mut answer: Value) {
    answer["id"] = 999.into();
    answer["action"] = "answer".into();
    socket.json(&answer).await;
}

/// Changes a right answer and expects the close that says nothing but "failed".
async fn check_wrong(node: &Node, what: &str, change: impl Fn(&mut Value)) {
    let mut socket = Dial::page(node).welcomed().await;
    let challenge = socket.challenge().await;
    let mut wrong = socket.answer(&challenge);
    change(&mut wrong);
    send_answer(&mut socket, wrong).await;
    let end = socket.end().await;
    assert!(matches!(end, Incoming::Closed(Some(4403), _)), "{what}: {end:?}");
    assert_eq!(decision(node, &socket.id).await, 401, "{what}");
}

#[tokio::test]
async fn a_wrong_answer_closes_with_4403_whatever_was_wrong() {
    let node = Node::start("");
    // The first digit, so that the text stays canonical.
    let flip = |member: &'static str| {
        move |wrong: &mut Value| {
            let text = wrong[member].as_str().unwrap();
            let other = if text.starts_with('A') { "B" } else { "A" };
            wrong[member] = format!("{other}{}", &text[1..]).into();
        }
    };
    check_wrong(&node, "the MAC", flip("mac")).await;
    check_wrong(&node, "the signature", flip("signature")).await;
    check_wrong(&node, "a claim on the top-level page", |wrong| wrong["topOrigin"] = "https://top.example".into()).await;
    check_wrong(&node, "another origin", |wrong| wrong["origin"] = "https://evil.example".into()).await;
    check_wrong(&node, "another challenge", |wrong| wrong["challenge"] = "AAAAAAAAAAAAAAAAAAAAAA".into()).await;
    check_wrong(&node, "another epoch", |wrong| wrong["epoch"] = 1.into()).await;
    node.metric_at_least("countersign_challenge_verdicts_total", &[("verdict", "origin_mismatch")], 1.0).await;
    node.metric_at_least("countersign_challenge_verdicts_total", &[("verdict", "bad_signature")], 1.0).await;
    node.metric_at_least("countersign_closes_total", &[("code", "4403")], 6.0).await;
}

#[tokio::test]
async fn a_misshapen_answer_never_verifies() {
    let node = Node::start("");
    for (what, member, value) in [
        ("a short MAC", "mac", json!("A".repeat(42))),
        ("a padded MAC", "mac", json!(format!("{}=", "A".repeat(43)))),
        ("no MAC", "mac", Value::Null),
        ("a short signature", "signature", json!("A".repeat(85))),
        ("bytes in a list", "signature", json!([0, 0, 0])),
        ("the bare result of the program", "lanes", json!([1, 2, 3, 4, 5, 6, 7, 8])),
        ("a word that it could not be run", "error", json!("unsupported")),
        ("a member too many", "index", json!(3)),
    ] {
        let mut socket = Dial::page(&node).welcomed().await;
        let challenge = socket.challenge().await;
        let mut wrong = socket.answer(&challenge);
        wrong[member] = value;
        send_answer(&mut socket, wrong).await;
        let refused = match socket.next().await {
            Incoming::Text(text) => serde_json::from_str::<Value>(&text).unwrap()["error"]["code"] == "bad_request",
            Incoming::Closed(code, _) => matches!(code, Some(4400 | 4403)),
            _ => false,
        };
        assert!(refused, "{what}");
        assert_eq!(decision(&node, &socket.id).await, 401, "{what}");
    }
}

#[tokio::test]
async fn silence_after_the_challenge_closes_with_4408() {
    let node = Node::start("[challenge]\nanswer_timeout_ms = 2000");
    let mut socket = Dial::page(&node).welcomed().await;
    socket.challenge().await;
    assert_eq!(socket.close_code().await, 4408);
    assert_eq!(decision(&node, &socket.id).await, 401);
    node.metric_reaches("countersign_challenge_verdicts_total", &[("verdict", "late")], 1.0).await;
    node.metric_reaches("countersign_challenges_pending", &[], 0.0).await;
}

#[tokio::test]
async fn silence_instead_of_hello_closes_with_4408() {
    let node = Node::start("[challenge]\nhello_timeout_ms = 200");
    let mut socket = Dial::page(&node).welcomed().await;
    assert_eq!(socket.close_code().await, 4408);
}

#[tokio::test]
async fn a_failure_may_leave_the_socket_open_but_never_verified() {
    let node = Node::start("[challenge]\non_failure = \"stay_unverified\"");
    let mut socket = Dial::page(&node).welcomed().await;
    let challenge = socket.challenge().await;
    let right = socket.answer(&challenge);
    let mut wrong = right.clone();
    wrong["origin"] = "https://evil.example".into();
    assert_eq!(socket.error("answer", wrong).await, "denied");
    socket.event("challenge_failed").await;
    socket.ok("ping", json!({})).await;
    let hello = socket.ask("hello", socket.hello()).await;
    assert!(hello["error"].is_object(), "{hello}");
    assert_eq!(decision(&node, &socket.id).await, 401);
    // There is no second attempt, not even with the right answer.
    send_answer(&mut socket, right).await;
    assert_eq!(socket.close_code().await, 4403);
    assert_eq!(decision(&node, &socket.id).await, 401);
}

#[tokio::test]
async fn an_answer_on_another_socket_verifies_neither() {
    let node = Node::start("");
    let mut first = Dial::page(&node).welcomed().await;
    let mut second = Dial::page(&node).welcomed().await;
    let mine = first.challenge().await;
    second.challenge().await;
    let right = first.answer(&mine);
    send_answer(&mut second, right.clone()).await;
    assert_eq!(second.close_code().await, 4403);
    assert_eq!(decision(&node, &second.id).await, 401);
    assert_eq!(decision(&node, &first.id).await, 401);
    first.ok("answer", right).await;
    first.event("verified").await;
    assert_eq!(decision(&node, &first.id).await, 200, "the owner of the challenge is not harmed");
}

#[tokio::test]
async fn a_second_answer_is_refused_and_changes_nothing() {
    let node = Node::start("");
    let mut socket = Dial::page(&node).welcomed().await;
    let challenge = socket.challenge().await;
    let right = socket.answer(&challenge);
    socket.ok("answer", right.clone()).await;
    socket.event("verified").await;
    assert_eq!(socket.error("answer", right.clone()).await, "denied");
    let mut wrong = right;
    wrong["origin"] = "https://evil.example".into();
    assert_eq!(socket.error("answer", wrong).await, "denied");
    assert_eq!(decision(&node, &socket.id).await, 200);
    node.metric_reaches("countersign_challenge_verdicts_total", &[("verdict", "verified")], 1.0).await;
}

#[tokio::test]
async fn an_answer_before_hello_is_refused() {
    let node = Node::start("");
    let mut socket = Dial::page(&node).welcomed().await;
    let early = json!({
        "id": 1, "action": "answer", "challenge": "A".repeat(22), "epoch": 0, "origin": node.origin(),
        "mac": "A".repeat(43), "signature": "A".repeat(86),
    });
    socket.json(&early).await;
    let refused = match socket.next().await {
        Incoming::Text(text) => text.contains("error"),
        Incoming::Closed(..) => true,
        _ => false,
    };
    assert!(refused);
    assert_eq!(decision(&node, &socket.id).await, 401);
}

/// The next event of that name.
async fn raw_event(socket: &mut Raw, name: &str) -> Value {
    loop {
        let frame = socket.answered_frame().await.expect("an event");
        let message: Value = serde_json::from_slice(&frame.payload).unwrap();
        if message["event"] == name {
            return message;
        }
    }
}

/// A native socket of raw frames, its challenge received but not answered: id and the frame that would answer.
async fn at_the_brink(node: &Node) -> (Raw, String, Frame) {
    let mut socket = Raw::open_with(node, &[("Origin", &node.origin()), ("Sec-WebSocket-Protocol", NATIVE)]).await;
    let welcome = raw_event(&mut socket, "welcome").await;
    let id = welcome["connectionId"].as_str().unwrap().to_owned();
    let key = PageKey::new();
    let hello =
        json!({ "id": 1, "action": "hello", "forms": ["source"], "nonce": "A".repeat(43), "key": key.point() }).to_string();
    socket.send(&[Frame::new(TEXT, hello.clone())]).await;
    let challenge = raw_event(&mut socket, "challenge").await;
    let view = View::new(&node.gateway.to_string(), &id, &hello, &node.origin());
    let mut right = view.answer(&challenge, &key);
    right["id"] = 2.into();
    right["action"] = "answer".into();
    (socket, id, Frame::new(TEXT, right.to_string()))
}

#[tokio::test]
async fn no_zombie_verified_when_answer_and_close_race() {
    let node = Node::start("");
    let mut ids = Vec::new();
    for round in 0..120 {
        let (mut socket, id, right) = at_the_brink(&node).await;
        let close = Frame::close(1000, b"");
        match round % 4 {
            0 => {
                // Both in one write, and the close observed.
                socket.send(&[right, close]).await;
                socket.closed().await;
                assert_eq!(decision(&node, &id).await, 401, "round {round}");
            }
            1 => {
                socket.send(&[right]).await;
                socket.send(&[close]).await;
                socket.closed().await;
                assert_eq!(decision(&node, &id).await, 401, "round {round}");
            }
            2 => {
                // The client is gone without a word.
                socket.send(&[right]).await;
                drop(socket);
            }
            _ => {
                // The client is gone with a reset.
                socket.send(&[right]).await;
                socket.stream.set_zero_linger().unwrap();
                drop(socket);
            }
        }
        ids.push(id);
    }
    node.metric_reaches("countersign_connections", &[], 0.0).await;
    for id in &ids {
        assert_eq!(decision(&node, id).await, 401);
    }
    node.metric_reaches("countersign_challenges_pending", &[], 0.0).await;
}

#[tokio::test]
async fn half_a_close_is_no_way_to_stay() {
    let node = Node::start("");
    let (mut socket, id, right) = at_the_brink(&node).await;
    socket.send(&[right]).await;
    socket.stream.shutdown().await.unwrap();
    eventually("the connection ends", || async { (decision(&node, &id).await == 401).then_some(()) }).await;
    node.metric_reaches("countersign_connections", &[], 0.0).await;
}

#[tokio::test]
async fn frames_outside_the_native_protocol_close_with_4400_and_binary_with_1003() {
    let node = Node::start("");
    for text in
        ["", "hello", "[]", "17", "{}", r#"{"action":"ping"}"#, r#"{"id":1}"#, r#"{"id":{},"action":"ping"}"#, r#"{"id":1,"#]
    {
        let mut socket = Dial::page(&node).welcomed().await;
        socket.text(text).await;
        assert_eq!(socket.close_code().await, 4400, "{text:?}");
    }
    let mut socket = Dial::page(&node).welcomed().await;
    socket.binary(vec![1, 2, 3]).await;
    assert_eq!(socket.close_code().await, 1003);
}

#[tokio::test]
async fn unknown_and_misshapen_requests_get_an_error_and_the_socket_stays() {
    let node = Node::start("");
    let mut socket = Dial::page(&node).welcomed().await;
    assert_eq!(socket.error("dance", json!({})).await, "unknown_action");
    assert_eq!(socket.error("ping", json!({ "extra": 1 })).await, "bad_request");
    assert_eq!(socket.error("subscribe", json!({})).await, "bad_request");
    assert_eq!(socket.error("subscribe", json!({ "channel": "a b" })).await, "bad_request");
    assert_eq!(socket.error("subscribe", json!({ "channel": "x".repeat(256) })).await, "bad_request");
    assert_eq!(socket.error("refresh", json!({ "token": "abc" })).await, "not_available", "it came without a token");
    assert_eq!(socket.error("hello", json!({ "forms": ["source"], "nonce": "short" })).await, "bad_request");
    socket.ok("ping", json!({})).await;
    socket.json(&json!({ "id": "a string", "action": "ping" })).await;
    assert_eq!(socket.next_json().await, json!({ "id": "a string", "ok": {} }));
}

#[tokio::test]
async fn no_identifier_nonce_or_token_reaches_the_log() {
    let node = Node::start("[telemetry]\nlog_filter = \"trace\"");
    let mut socket = Dial::page(&node).welcomed().await;
    let challenge = socket.challenge().await;
    let right = socket.answer(&challenge);
    socket.ok("answer", right.clone()).await;
    socket.event("verified").await;
    let id = socket.id.clone();
    assert_eq!(decision(&node, &id).await, 200);
    socket.close().await;
    node.metric_reaches("countersign_connections", &[], 0.0).await;
    let log = node.log();
    assert!(!log.is_empty(), "tracing is on");
    for (what, secret) in [("connection id", &id), ("API key", &node.api_key())] {
        assert!(!log.contains(secret.as_str()), "the {what} is in the log: {}", line_with(&log, secret));
    }
    for member in ["nonce", "challenge", "program"] {
        let secret = challenge[member].as_str().unwrap();
        assert!(!log.contains(secret), "the {member} is in the log: {}", line_with(&log, secret));
    }
    for member in ["mac", "signature"] {
        let secret = right[member].as_str().unwrap();
        assert!(!log.contains(secret), "the {member} is in the log: {}", line_with(&log, secret));
    }
}

/// The first line that holds a text.
fn line_with<'a>(log: &'a str, text: &str) -> &'a str {
    log.lines().find(|line| line.contains(text)).unwrap_or_default()
}
