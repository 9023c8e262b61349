use proptest::prelude::*;

use super::*;
use crate::{
    Answer, Ask, ChallengeQuestion, ChallengeVerdict, ChannelName, ConnectionId, ConnectionQuestion, Disconnected,
    OwnedConnection, Payload, PrincipalName, ProgramQuestion, ProofQuestion, ProofVerdict, Question, Reply,
};

const ENVELOPE: Envelope = Envelope { from: NodeId::from_bytes([7; 8]), sequence: 42, sent_at_ms: 1_700_000_000_000 };

fn id(byte: u8) -> ConnectionId {
    ConnectionId::from_bytes([byte; 16])
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

/// One of each kind and shape, under the names of the golden file.
fn examples() -> Vec<(&'static str, Message)> {
    let publication =
        |payload, exclude| NodeMessage::Publication(Publication { channel: channel("räume:1"), payload, exclude });
    let post = Post { connection: id(2), payload: Payload::Text("{}".to_owned()) };
    let ours = PrincipalName { subject: "ada".to_owned(), issuer: Some("pool".to_owned()) };
    let node = [
        ("publication_text", publication(Payload::Text("\"hi\"".to_owned()), None)),
        ("publication_binary", publication(Payload::Binary(vec![0, 255].into()), Some(id(1)))),
        ("post", NodeMessage::Post(post)),
        ("disconnect_connection", NodeMessage::Disconnect(Disconnect::Connection(id(3)))),
        ("disconnect_principal", NodeMessage::Disconnect(Disconnect::Principal("ada".into()))),
        ("invalidate_connection", NodeMessage::Invalidate(Invalidate::Connection(id(4)))),
        ("invalidate_principal", NodeMessage::Invalidate(Invalidate::Principal("ada".into()))),
        ("invalidate_all", NodeMessage::Invalidate(Invalidate::All)),
        ("disconnect_principal_of_issuer", NodeMessage::Disconnect(Disconnect::Principal(ours.clone()))),
        ("invalidate_principal_of_issuer", NodeMessage::Invalidate(Invalidate::Principal(ours.clone()))),
        ("calls", NodeMessage::Calls(Calls { calls: vec![(id(6), 1), (id(7), 70_000)] })),
        ("ask_connection", NodeMessage::Ask(Ask { number: 6, question: Question::Connection(connection_question()) })),
        ("answer_connection", NodeMessage::Answer(Answer { number: 6, reply: Reply::Connection(Some(owned_connection())) })),
        ("answer_no_connection", NodeMessage::Answer(Answer { number: 6, reply: Reply::Connection(None) })),
        ("ask_proof", NodeMessage::Ask(Ask { number: 7, question: Question::Proof(proof_question()) })),
        ("answer_proof", NodeMessage::Answer(Answer { number: 7, reply: Reply::Proof(ProofVerdict::ProofReplayed) })),
        ("ask_program", NodeMessage::Ask(Ask { number: 9, question: Question::Program(program_question()) })),
        ("answer_program", NodeMessage::Answer(Answer { number: 9, reply: Reply::Program(Some("AQ".to_owned())) })),
        ("answer_no_program", NodeMessage::Answer(Answer { number: 9, reply: Reply::Program(None) })),
        ("ask_challenge", NodeMessage::Ask(Ask { number: 10, question: Question::Challenge(challenge_question()) })),
        ("answer_challenge", NodeMessage::Answer(Answer { number: 10, reply: Reply::Challenge(ChallengeVerdict::Ordered) })),
        ("ask_disconnect", NodeMessage::Ask(Ask { number: 11, question: Question::Disconnect(Disconnect::Principal(ours)) })),
        ("answer_disconnect", NodeMessage::Answer(Answer { number: 11, reply: Reply::Disconnect(Disconnected { closed: 2 }) })),
        ("answer_not_understood", NodeMessage::Answer(Answer { number: 8, reply: Reply::NotUnderstood })),
    ];
    let own = [("heartbeat", Message::Heartbeat { beat: 9 }), ("probe", Message::Probe { beat: u64::MAX })];
    node.into_iter().map(|(name, message)| (name, Message::Node(message))).chain(own).collect()
}

fn connection_question() -> ConnectionQuestion {
    ConnectionQuestion { connection: id(5) }
}

fn owned_connection() -> OwnedConnection {
    OwnedConnection {
        verified: true,
        mode: "ticket".to_owned(),
        expires_at: Some(1_700_000_000),
        subject: Some("ada".to_owned()),
        issuer: Some("pool".to_owned()),
        origin: None,
    }
}

fn proof_question() -> ProofQuestion {
    ProofQuestion {
        ticket: "dGlja2V0".to_owned(),
        proof: "v1.1".to_owned(),
        method: "GET".to_owned(),
        target: "api.example/x?y".to_owned(),
    }
}

fn program_question() -> ProgramQuestion {
    ProgramQuestion { handle: "aGFuZGxl".to_owned() }
}

fn challenge_question() -> ChallengeQuestion {
    ChallengeQuestion { connection: id(5) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// What an older or newer node may have sent is in the file; it must be read for ever, and written as it is.
#[test]
fn golden_frames_are_read_and_written_byte_for_byte() {
    let golden: Vec<_> = include_str!("golden.txt").lines().filter_map(|line| line.split_once(' ')).collect();
    let written: Vec<_> = examples()
        .into_iter()
        .map(|(name, message)| (name, hex(&message.encode().unwrap().seal(&ENVELOPE).unwrap())))
        .collect();
    let lines: String = written.iter().map(|(name, frame)| format!("{name} {frame}\n")).collect();
    assert_eq!(golden.len(), written.len(), "the frames are now:\n{lines}");
    for ((name, frame), (expected_name, message)) in golden.iter().zip(examples()) {
        assert_eq!(*name, expected_name);
        assert_eq!(decode(&unhex(frame)).unwrap(), Decoded::Message(ENVELOPE, message), "{name}");
    }
    for ((name, frame), golden) in written.iter().zip(golden) {
        assert_eq!(golden, (*name, frame.as_str()), "the frames are now:\n{lines}");
    }
}

/// A frame as a later version might write it.
#[derive(Serialize)]
struct Later<'a> {
    v: u16,
    hops: [u8; 2],
    n: NodeId,
    s: u64,
    k: &'a str,
    b: Bytes,
    trace: Option<&'a str>,
}

fn later(v: u16, k: &str, body: &impl Serialize) -> Vec<u8> {
    let b = rmp_serde::to_vec_named(body).unwrap().into();
    rmp_serde::to_vec_named(&Later { v, hops: [1, 2], n: ENVELOPE.from, s: 5, k, b, trace: Some("x") }).unwrap()
}

#[test]
fn unknown_fields_are_skipped() {
    #[derive(Serialize)]
    struct LaterBeat {
        priority: Vec<u8>,
        beat: u64,
    }
    let envelope = Envelope { sequence: 5, sent_at_ms: 0, ..ENVELOPE };
    let frame = later(VERSION, "heartbeat", &LaterBeat { priority: vec![1], beat: 3 });
    assert_eq!(decode(&frame).unwrap(), Decoded::Message(envelope, Message::Heartbeat { beat: 3 }));
}

#[test]
fn unknown_kinds_and_newer_versions_are_data() {
    let envelope = Envelope { sequence: 5, sent_at_ms: 0, ..ENVELOPE };
    let unknown = |version, kind: &str| Decoded::Unknown { envelope, version, kind: kind.to_owned() };
    assert_eq!(decode(&later(1, "presence", &1)).unwrap(), unknown(1, "presence"));
    assert_eq!(decode(&later(2, "heartbeat", &"otherwise")).unwrap(), unknown(2, "heartbeat"));
    assert!(decode(&later(2, "invalidate", &"otherwise")).unwrap().may_invalidate());
    assert!(!decode(&later(2, "handover", &1)).unwrap().may_invalidate());
    let long = "ä".repeat(100);
    assert_eq!(decode(&later(1, &long, &1)).unwrap(), unknown(1, &"ä".repeat(16)));
}

/// A question of a newer node is answered, not taken for a damaged frame: that would count as lost messages.
#[test]
fn unknown_questions_and_answers_are_data() {
    #[derive(Serialize)]
    struct LaterQuestion {
        i: u64,
        k: &'static str,
        b: Bytes,
        urgent: bool,
    }
    let enclosed = LaterQuestion { i: 3, k: "tomorrow", b: Bytes::from_static(&[1]), urgent: true };
    let message = |frame: Vec<u8>| match decode(&frame).unwrap() {
        Decoded::Message(_, Message::Node(message)) => message,
        other => panic!("{other:?}"),
    };
    let ask = Ask { number: 3, question: Question::Unknown };
    assert_eq!(message(later(VERSION, "ask", &enclosed)), NodeMessage::Ask(ask));
    let answer = Answer { number: 3, reply: Reply::NotUnderstood };
    assert_eq!(message(later(VERSION, "answer", &enclosed)), NodeMessage::Answer(answer));
    let verdict = rmp_serde::to_vec_named("a_verdict_of_tomorrow").unwrap().into();
    let enclosed = LaterQuestion { i: 3, k: "proof", b: verdict, urgent: true };
    let answer = Answer { number: 3, reply: Reply::Proof(ProofVerdict::Unknown) };
    assert_eq!(message(later(VERSION, "answer", &enclosed)), NodeMessage::Answer(answer));
    let enclosed = LaterQuestion { k: "challenge", ..enclosed };
    let answer = Answer { number: 3, reply: Reply::Challenge(ChallengeVerdict::Unknown) };
    assert_eq!(message(later(VERSION, "answer", &enclosed)), NodeMessage::Answer(answer));
}

#[test]
fn what_breaks_a_rule_of_ours_is_no_message() {
    #[derive(Serialize)]
    struct Wild {
        channel: &'static str,
        payload: Payload,
    }
    let wild = Wild { channel: "a b", payload: Payload::Text(String::new()) };
    assert!(decode(&later(1, "publication", &wild)).is_err(), "a channel name is checked here too");
    assert!(decode(&later(1, "heartbeat", &"no map")).is_err());
    assert!(decode(b"").is_err());
    assert!(decode(b"PING").is_err());
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    /// Bytes that begin like a frame go deeper into the decoder than arbitrary ones.
    #[test]
    fn decoding_a_damaged_frame_never_panics(pick in 0..examples().len(), at in any::<prop::sample::Index>(), with: u8, cut in any::<prop::sample::Index>()) {
        let mut frame = examples()[pick].1.encode().unwrap().seal(&ENVELOPE).unwrap();
        let place = at.index(frame.len());
        frame[place] = with;
        let _ = decode(&frame);
        let _ = decode(&frame[..cut.index(frame.len())]);
    }

    #[test]
    fn payloads_round_trip(text in ".*", binary: Vec<u8>, sequence: u64, sent_at_ms: u64) {
        let envelope = Envelope { sequence, sent_at_ms, ..ENVELOPE };
        for payload in [Payload::Text(text), Payload::Binary(binary.into())] {
            let message = Message::Node(NodeMessage::Post(Post { connection: id(1), payload }));
            let frame = message.encode().unwrap().seal(&envelope).unwrap();
            prop_assert_eq!(decode(&frame).unwrap(), Decoded::Message(envelope, message));
        }
    }
}

/// Depth is bounded too: a frame of nothing but opened arrays must not end the process.
#[test]
fn deep_nesting_is_an_error() {
    let mut frame = rmp_serde::to_vec_named(&std::collections::BTreeMap::from([("x", 1)])).unwrap();
    frame.pop();
    frame.extend(std::iter::repeat_n(0x91, 1_000_000));
    assert!(decode(&frame).is_err());
}
