//! The faults of the system that this one replaces, each under the name of the fault, and the golden vectors.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use countersign_node_proto::ConnectionId;
use serde_json::{Value, json};

use super::*;
use crate::config::OriginPolicy;
use crate::edge::{Origin, OriginList, OriginVerdict};

const PAGE: &str = "https://app.example";

/// A socket with its challenge, and the clients that answer it.
struct Socket {
    pending: Pending,
    sent_at: Instant,
}

impl Socket {
    fn open(issuer: &Issuer, number: u8) -> Self {
        Self::from_page(issuer, number, Some(PAGE))
    }

    fn from_page(issuer: &Issuer, number: u8, origin: Option<&str>) -> Self {
        let connection = ConnectionId::from_bytes([number; 16]);
        let issued = issuer.issue(connection, 0, Some([7; 32]), origin).unwrap();
        let sent_at = Instant::now();
        let pending = Pending::new(connection, &issued, sent_at, sent_at + Duration::from_secs(10));
        Self { pending, sent_at }
    }

    /// What an honest native client sends.
    fn native(&self) -> Value {
        json!({
            "id": 1, "action": "answer", "challenge": self.pending.challenge_id, "epoch": self.pending.epoch,
            "origin": PAGE, "lanes": self.pending.expected.lanes.values(),
        })
    }

    /// What an honest client of the echo carrier sends.
    fn echo(&self) -> Value {
        json!({
            "origin": PAGE, "domain": "app.example", "lanes": self.pending.expected.lanes.values(),
            "key": self.pending.expected.lanes.to_key(), "index": 4,
        })
    }

    fn judge(self, answer: &Answer) -> Verdict {
        self.judge_after(answer, Duration::from_secs(1))
    }

    fn judge_after(self, answer: &Answer, after: Duration) -> Verdict {
        let received_at = self.sent_at + after;
        self.pending.judge(answer, received_at)
    }
}

fn issuer() -> Issuer {
    Issuer::new(128).unwrap()
}

/// The verdict on an honest answer after a change to it.
fn changed(honest: fn(&Socket) -> Value, read: fn(&Value) -> Answer, change: impl FnOnce(&mut Value)) -> Verdict {
    let socket = Socket::open(&issuer(), 1);
    let mut answer = honest(&socket);
    change(&mut answer);
    socket.judge(&read(&answer))
}

#[test]
fn honest_answers_verify() {
    assert_eq!(changed(Socket::native, Answer::native, |_| ()), Verdict::Verified);
    assert_eq!(changed(Socket::echo, Answer::echo, |_| ()), Verdict::Verified);
    let without_domain = |answer: &mut Value| drop(answer.as_object_mut().unwrap().remove("domain"));
    assert_eq!(changed(Socket::echo, Answer::echo, without_domain), Verdict::Verified);
}

#[test]
fn client_chooses_question() {
    let issuer = issuer();
    for index in 0..10 {
        // The right answer to another challenge, under whatever index or token.
        let (asked, other) = (Socket::open(&issuer, 1), Socket::open(&issuer, 1));
        let mut answer = other.echo();
        answer["index"] = json!(index);
        answer["token"] = json!(asked.pending.challenge_id);
        assert_eq!(asked.judge(&Answer::echo(&answer)), Verdict::WrongAnswer);
    }
    for index in [json!(0), json!(9), json!("constructor"), json!(null), json!(-1)] {
        // And no index spoils a right one.
        assert_eq!(changed(Socket::echo, Answer::echo, |answer| answer["index"] = index), Verdict::Verified);
    }
}

#[test]
fn absence_is_not_equality() {
    let names = ["constructor", "__proto__", "toString", "hasOwnProperty", "undefined", ""];
    for member in ["key", "origin"] {
        let without = changed(Socket::echo, Answer::echo, |answer| drop(answer.as_object_mut().unwrap().remove(member)));
        assert_eq!(without, Verdict::WrongAnswer);
        for wrong in [json!(null), json!(0), json!([]), json!({}), json!(true)] {
            let verdict = changed(Socket::echo, Answer::echo, |answer| answer[member] = wrong);
            assert_eq!(verdict, Verdict::WrongAnswer);
        }
        for name in names {
            let verdict = changed(Socket::echo, Answer::echo, |answer| answer[member] = json!(name));
            assert_ne!(verdict, Verdict::Verified);
        }
    }
    for wrong in [json!(null), json!(0), json!([])] {
        let verdict = changed(Socket::echo, Answer::echo, |answer| answer["domain"] = wrong);
        assert_eq!(verdict, Verdict::WrongAnswer);
    }
    for whole in [json!(null), json!("constructor"), json!([]), json!({}), json!({"__proto__": {"key": "x"}}), json!([1, 2, 3])]
    {
        assert_eq!(Socket::open(&issuer(), 1).judge(&Answer::echo(&whole)), Verdict::WrongAnswer);
        assert_eq!(Socket::open(&issuer(), 1).judge(&Answer::native(&whole)), Verdict::WrongAnswer);
    }
    // An array that holds the right members in order is still no object.
    let socket = Socket::open(&issuer(), 1);
    let array = json!([PAGE, "app.example", socket.pending.expected.lanes.to_key()]);
    assert_eq!(socket.judge(&Answer::echo(&array)), Verdict::WrongAnswer);
}

#[test]
fn no_public_secret() {
    let mut seen = HashSet::new();
    let issuer = Issuer::new(Shape::OPERATIONS_MIN).unwrap();
    for _ in 0..100_000 {
        let issued = issuer.issue(ConnectionId::from_bytes([1; 16]), 0, None, Some(PAGE)).unwrap();
        assert!(seen.insert(issued.challenge_id.as_bytes().to_vec()), "challenge id came twice");
        assert!(seen.insert(issued.server_nonce.to_vec()), "nonce came twice");
        assert!(seen.insert(issued.expected.lanes.to_key().into_bytes()), "answer came twice");
    }
}

#[test]
fn issuing_stops_without_randomness() {
    assert_eq!(Issuer::with_randomness(128, |_| Err(Unspecified)).map(drop), Err(IssueError::Randomness));
    // The generator fails after the node started: the key is there, nonces are not.
    fn key_only(bytes: &mut [u8]) -> Result<(), Unspecified> {
        thread_local!(static DRAWN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
        if DRAWN.replace(true) { Err(Unspecified) } else { aws_lc_rs::rand::fill(bytes) }
    }
    let issuer = Issuer::with_randomness(128, key_only).unwrap();
    for _ in 0..3 {
        let issued = issuer.issue(ConnectionId::from_bytes([1; 16]), 0, None, Some(PAGE));
        assert_eq!(issued.map(drop), Err(IssueError::Randomness));
    }
}

#[test]
fn two_nodes_never_issue_the_same_program() {
    let tapes = |nonce| Tapes {
        server_nonce: nonce,
        client_nonce: None,
        connection: const { &ConnectionId::from_bytes([1; 16]) },
        thumbprint: None,
        origin: PAGE,
    };
    let key = |byte| hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32]);
    let seed = issue::seed(&key(1), 0, &tapes(&[2; 32]));
    assert_ne!(seed, issue::seed(&key(2), 0, &tapes(&[2; 32])));
    assert_ne!(seed, issue::seed(&key(1), 1, &tapes(&[2; 32])));
    assert_ne!(seed, issue::seed(&key(1), 0, &tapes(&[3; 32])));
}

#[test]
fn origin_is_checked() {
    let claims = |origin: &str| {
        let (native, echo) = (origin.to_owned(), origin.to_owned());
        [
            changed(Socket::native, Answer::native, |answer| answer["origin"] = json!(native)),
            changed(Socket::echo, Answer::echo, |answer| answer["origin"] = json!(echo)),
        ]
    };
    for origin in ["https://evil.example", "https://app.example.evil.example", "https://app.example.", "null", ""] {
        assert_eq!(claims(origin), [Verdict::OriginMismatch; 2], "{origin}");
    }
    for domain in ["evil.example", "APP.example", "app.example.", "", "https://app.example"] {
        let verdict = changed(Socket::echo, Answer::echo, |answer| answer["domain"] = json!(domain));
        assert_eq!(verdict, Verdict::OriginMismatch, "{domain}");
    }
    // A program that ran elsewhere computes other lanes, whatever its answer claims.
    let issuer = issuer();
    let (here, there) = (Socket::open(&issuer, 1), Socket::from_page(&issuer, 1, Some("https://evil.example")));
    assert_eq!(here.judge(&Answer::native(&there.native())), Verdict::WrongAnswer);
    // And an unlisted one is not challenged at all.
    let listed = vec![Origin::parse(PAGE).unwrap()];
    let list = OriginList::new(listed, OriginPolicy::Refuse, OriginPolicy::Refuse);
    let judged = list.judge([b"https://evil.example".as_slice()].into_iter());
    assert_eq!(judged, OriginVerdict::Refused);
}

#[test]
fn scheme_and_port_count() {
    for origin in ["http://app.example", "https://app.example:443", "https://app.example:8443", "wss://app.example"] {
        let verdict = changed(Socket::native, Answer::native, |answer| answer["origin"] = json!(origin));
        assert_eq!(verdict, Verdict::OriginMismatch, "{origin}");
    }
    // The origin is on a tape of the program too: same seed, other scheme or port, other lanes.
    let program = generate(&[5; 32], Shape::new(128, Constants::Uniform).unwrap()).unwrap();
    let id = ConnectionId::from_bytes([1; 16]);
    let lanes = |origin| {
        let tapes = Tapes { server_nonce: &[2; 32], client_nonce: None, connection: &id, thumbprint: None, origin };
        evaluate(&program, &tapes).unwrap().to_key()
    };
    let keys = [PAGE, "http://app.example", "https://app.example:8443"].map(lanes);
    assert_eq!(HashSet::from(keys).len(), 3);
}

#[test]
fn answer_bound_to_socket() {
    let issuer = issuer();
    for (honest, read) in
        [(Socket::native as fn(&Socket) -> Value, Answer::native as fn(&Value) -> Answer), (Socket::echo, Answer::echo)]
    {
        let (a, b) = (Socket::open(&issuer, 1), Socket::open(&issuer, 2));
        let answer = honest(&a);
        assert_eq!(b.judge(&read(&answer)), Verdict::WrongAnswer);
    }
    // Even the same lanes are no answer under another challenge's name.
    let other = ChallengeId::from_bytes([9; 16]);
    assert_eq!(changed(Socket::native, Answer::native, |answer| answer["challenge"] = json!(other)), Verdict::WrongAnswer);
    assert_eq!(changed(Socket::native, Answer::native, |answer| answer["epoch"] = json!(1)), Verdict::WrongAnswer);
}

#[test]
fn deadline_enforced() {
    let after = |after| {
        let socket = Socket::open(&issuer(), 1);
        let answer = Answer::native(&socket.native());
        socket.judge_after(&answer, after)
    };
    assert_eq!(after(Duration::from_secs(10)), Verdict::Verified);
    assert_eq!(after(Duration::from_secs(10) + Duration::from_nanos(1)), Verdict::Late);
    // Lateness comes first: a late answer learns nothing of its lanes.
    assert_eq!(Socket::open(&issuer(), 1).judge_after(&Answer::Malformed, Duration::from_secs(11)), Verdict::Late);
}

#[test]
fn one_wrong_lane_fails() {
    for lane in 0..Lanes::COUNT {
        let verdict = changed(Socket::native, Answer::native, |answer| {
            let right = answer["lanes"][lane].as_i64().unwrap() as i32;
            answer["lanes"][lane] = json!(right ^ 1);
        });
        assert_eq!(verdict, Verdict::WrongAnswer);
    }
}

#[test]
fn pages_without_an_origin_are_judged_by_their_lanes_alone() {
    for header in [None, Some("null")] {
        let socket = Socket::from_page(&issuer(), 1, header);
        let answer = Answer::echo(&json!({"origin": "file://", "domain": "", "key": socket.pending.expected.lanes.to_key()}));
        assert_eq!(socket.judge(&answer), Verdict::Verified);
        let socket = Socket::from_page(&issuer(), 1, header);
        let answer = Answer::echo(&json!({"origin": "", "key": "0".repeat(64)}));
        assert_eq!(socket.judge(&answer), Verdict::WrongAnswer);
    }
}

#[test]
fn nothing_that_prints_shows_the_expected_answer() {
    let issued = issuer().issue(ConnectionId::from_bytes([1; 16]), 0, None, Some(PAGE)).unwrap();
    let lane = issued.expected.lanes.values()[0].to_string();
    assert!(!format!("{:?}", issued.expected).contains(&lane));
    assert!(!format!("{:?}", issuer()).contains("key"));
}

/// Everything from seed material to lanes and text, as a file; JavaScript tests may read it too.
#[test]
fn golden_vectors_hold() {
    let frozen: Value = serde_json::from_str(include_str!("vectors/program-v1.json")).unwrap();
    let actual: Vec<Value> = [
        (32, "uniform", Some(PAGE), true, true),
        (128, "uniform", Some("http://localhost:3000"), true, false),
        (64, "edges", None, false, false),
        (1_024, "edges", Some("null"), false, true),
    ]
    .map(|(operations, constants, origin, client, thumbprint)| vector(operations, constants, origin, client, thumbprint))
    .into();
    let actual = json!({ "version": "countersign/program/v1", "vectors": actual });
    assert!(frozen == actual, "the format of programs changed; this is what they are now:\n{actual:#}");
}

fn vector(operations: usize, constants: &str, origin: Option<&str>, client: bool, thumbprint: bool) -> Value {
    let numbered = |start: u8| std::array::from_fn::<u8, 32, _>(|place| start.wrapping_add(place as u8));
    let (node_key, server, client_nonce, print_of_key) = (numbered(0), numbered(64), numbered(128), numbered(192));
    let connection = ConnectionId::from_bytes(std::array::from_fn(|place| 240_u8.wrapping_add(place as u8)));
    let page = PageOrigin::of_handshake(origin).unwrap();
    let tapes = Tapes {
        server_nonce: &server,
        client_nonce: client.then_some(&client_nonce),
        connection: &connection,
        thumbprint: thumbprint.then_some(&print_of_key),
        origin: page.tape(),
    };
    let seed = issue::seed(&hmac::Key::new(hmac::HMAC_SHA256, &node_key), 1, &tapes);
    let constant_source = if constants == "edges" { Constants::Edges } else { Constants::Uniform };
    let program = generate(&seed, Shape::new(operations, constant_source).unwrap()).unwrap();
    let bytes = program.encode();
    let optional = |bytes: Option<&[u8; 32]>| bytes.map(|bytes| hex(bytes));
    json!({
        "node_key": hex(&node_key), "connection": hex(connection.as_bytes()), "epoch": 1,
        "server_nonce": hex(&server), "client_nonce": optional(tapes.client_nonce),
        "thumbprint": optional(tapes.thumbprint), "origin": origin, "operations": operations, "constants": constants,
        "seed": hex(&seed),
        "program": if operations <= 64 { hex(&bytes).into() } else { Value::Null },
        "program_sha256": hex(digest(&SHA256, &bytes).as_ref()),
        "key": evaluate(&program, &tapes).unwrap().to_key(),
        "source_sha256": hex(digest(&SHA256, print(&program, &tapes, &page).as_bytes()).as_ref()),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
