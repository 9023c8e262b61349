//! Faults that challenges of this kind have had, each under the name of the fault, and the golden vectors.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_node_proto::ConnectionId;
use serde_json::{Value, json};

use super::binding_tests::Page;
use super::*;
use crate::config::{ChallengeForm, OriginPolicy};
use crate::edge::{Origin, OriginList, OriginVerdict};

const PAGE: &str = "https://app.example";

/// The node's host in these tests.
const HOST: &str = "node.example";

/// A socket with its challenge, and the client that answers it.
struct Socket {
    pending: Pending,
    /// What an honest client sends, computed as one does.
    honest: Value,
    sent_at: Instant,
}

impl Socket {
    /// A native client's.
    fn native(issuer: &Issuer, number: u8) -> Self {
        Self::native_from(issuer, number, Some(PAGE))
    }

    fn native_from(issuer: &Issuer, number: u8, origin: Option<&str>) -> Self {
        let page = Page::new("hello");
        let connection = ConnectionId::from_bytes([number; 16]);
        let issued = issuer.issue(connection, 0, origin, ChallengeForm::Vm, Some(&page.binding(HOST))).unwrap();
        let honest = page.answer(&connection, &issued, HOST, origin.unwrap_or_default());
        Self::sent(connection, &issued, serde_json::to_value(honest).unwrap())
    }

    /// A client's of the echo carrier.
    fn echo(issuer: &Issuer, number: u8) -> Self {
        Self::echo_from(issuer, number, Some(PAGE))
    }

    fn echo_from(issuer: &Issuer, number: u8, origin: Option<&str>) -> Self {
        let connection = ConnectionId::from_bytes([number; 16]);
        let issued = issuer.issue(connection, 0, origin, ChallengeForm::Source, None).unwrap();
        let lanes = issued.lanes();
        let honest = json!({
            "origin": PAGE, "domain": "app.example", "lanes": lanes.values(), "key": lanes.to_key(), "index": 4,
        });
        Self::sent(connection, &issued, honest)
    }

    fn sent(connection: ConnectionId, issued: &Issued, honest: Value) -> Self {
        let sent_at = Instant::now();
        let pending = Pending::new(connection, issued, sent_at, sent_at + Duration::from_secs(10));
        Self { pending, honest, sent_at }
    }

    fn judge(self, answer: &Answer) -> Verdict {
        self.judge_after(answer, Duration::from_secs(1))
    }

    fn judge_after(self, answer: &Answer, after: Duration) -> Verdict {
        let received_at = self.sent_at + after;
        self.pending.judge(answer, received_at)
    }
}

impl Issued {
    /// What the program of an echo client computes.
    fn lanes(&self) -> Lanes {
        match &self.expected.proof {
            ExpectedProof::Lanes(lanes) => *lanes,
            ExpectedProof::Bound(_) => panic!("a native client's challenge"),
        }
    }
}

/// How a dialect opens a socket, and reads an answer.
type Speaks = (fn(&Issuer, u8) -> Socket, fn(&Value) -> Answer);

const NATIVE: Speaks = (Socket::native, Answer::native);
const ECHO: Speaks = (Socket::echo, Answer::echo);

fn issuer() -> Issuer {
    Issuer::new(128).unwrap()
}

/// The verdict on an honest answer after a change to it.
fn changed((open, read): Speaks, change: impl FnOnce(&mut Value)) -> Verdict {
    let socket = open(&issuer(), 1);
    let mut answer = socket.honest.clone();
    change(&mut answer);
    socket.judge(&read(&answer))
}

#[test]
fn honest_answers_verify() {
    assert_eq!(changed(NATIVE, |_| ()), Verdict::Verified);
    assert_eq!(changed(ECHO, |_| ()), Verdict::Verified);
    let without_domain = |answer: &mut Value| drop(answer.as_object_mut().unwrap().remove("domain"));
    assert_eq!(changed(ECHO, without_domain), Verdict::Verified);
}

#[test]
fn client_chooses_question() {
    let issuer = issuer();
    for index in 0..10 {
        // The right answer to another challenge, under whatever index or token.
        let (asked, other) = (Socket::echo(&issuer, 1), Socket::echo(&issuer, 1));
        let mut answer = other.honest;
        answer["index"] = json!(index);
        answer["token"] = json!(asked.pending.challenge_id);
        assert_eq!(asked.judge(&Answer::echo(&answer)), Verdict::WrongAnswer);
    }
    for index in [json!(0), json!(9), json!("constructor"), json!(null), json!(-1)] {
        // And no index spoils a right one.
        assert_eq!(changed(ECHO, |answer| answer["index"] = index), Verdict::Verified);
    }
}

#[test]
fn absence_is_not_equality() {
    let names = ["constructor", "__proto__", "toString", "hasOwnProperty", "undefined", ""];
    for member in ["key", "origin"] {
        let without = changed(ECHO, |answer| drop(answer.as_object_mut().unwrap().remove(member)));
        assert_eq!(without, Verdict::WrongAnswer);
        for wrong in [json!(null), json!(0), json!([]), json!({}), json!(true)] {
            let verdict = changed(ECHO, |answer| answer[member] = wrong);
            assert_eq!(verdict, Verdict::WrongAnswer);
        }
        for name in names {
            let verdict = changed(ECHO, |answer| answer[member] = json!(name));
            assert_ne!(verdict, Verdict::Verified);
        }
    }
    for wrong in [json!(null), json!(0), json!([])] {
        let verdict = changed(ECHO, |answer| answer["domain"] = wrong);
        assert_eq!(verdict, Verdict::WrongAnswer);
    }
    for whole in [json!(null), json!("constructor"), json!([]), json!({}), json!({"__proto__": {"key": "x"}}), json!([1, 2, 3])]
    {
        assert_eq!(Socket::echo(&issuer(), 1).judge(&Answer::echo(&whole)), Verdict::WrongAnswer);
        assert_eq!(Socket::native(&issuer(), 1).judge(&Answer::native(&whole)), Verdict::WrongAnswer);
    }
    // An array that holds the right members in order is still no object.
    let socket = Socket::echo(&issuer(), 1);
    let array = json!([PAGE, "app.example", socket.honest["key"]]);
    assert_eq!(socket.judge(&Answer::echo(&array)), Verdict::WrongAnswer);
}

/// Challenges of one node that are compared with each other.
const NO_REPEAT_AMONG: usize = 1_000_000;

/// No secret is there to be found, for no challenge comes again; and none is made without randomness.
#[test]
fn no_public_secret() {
    let issuer = Issuer::new(Shape::OPERATIONS_MIN).unwrap();
    // All for one connection, as if it were asked again and again: nothing but randomness tells them apart.
    let draw = |_| {
        let issued = issuer.issue(ConnectionId::from_bytes([1; 16]), 0, Some(PAGE), ChallengeForm::Vm, None).unwrap();
        let [id, nonce, answer] =
            [issued.challenge_id.as_bytes().as_slice(), &issued.server_nonce, &issued.lanes().to_bytes()].map(half);
        (id, nonce, answer)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let drawn: Vec<_> = std::thread::scope(|scope| {
        let share = NO_REPEAT_AMONG.div_ceil(threads);
        let draw_share = |_| scope.spawn(move || (0..share).map(draw).collect::<Vec<_>>());
        let running: Vec<_> = (0..threads).map(draw_share).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    no_repeat("challenge id", drawn.iter().map(|drawn| drawn.0));
    no_repeat("nonce", drawn.iter().map(|drawn| drawn.1));
    no_repeat("answer", drawn.iter().map(|drawn| drawn.2));
    issuing_stops_without_randomness();
}

/// The first 16 bytes: two random ones among a million are equal once in 10^26 runs.
fn half(bytes: &[u8]) -> u128 {
    u128::from_be_bytes(bytes[..16].try_into().unwrap())
}

fn no_repeat(what: &str, values: impl Iterator<Item = u128>) {
    let mut values: Vec<u128> = values.collect();
    values.sort_unstable();
    assert!(values.len() >= NO_REPEAT_AMONG);
    assert!(values.windows(2).all(|pair| pair[0] != pair[1]), "{what} came twice");
}

fn issuing_stops_without_randomness() {
    assert_eq!(Issuer::with_randomness(128, |_| Err(Unspecified)).map(drop), Err(IssueError::Randomness));
    // The generator fails after the node started: the key is there, nonces are not.
    fn key_only(bytes: &mut [u8]) -> Result<(), Unspecified> {
        thread_local!(static DRAWN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
        if DRAWN.replace(true) { Err(Unspecified) } else { aws_lc_rs::rand::fill(bytes) }
    }
    let issuer = Issuer::with_randomness(128, key_only).unwrap();
    for _ in 0..3 {
        let issued = issuer.issue(ConnectionId::from_bytes([1; 16]), 0, Some(PAGE), ChallengeForm::Source, None);
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
        file: None,
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
        [changed(NATIVE, |answer| answer["origin"] = json!(native)), changed(ECHO, |answer| answer["origin"] = json!(echo))]
    };
    for origin in ["https://evil.example", "https://app.example.evil.example", "https://app.example.", "null", ""] {
        assert_eq!(claims(origin), [Verdict::OriginMismatch; 2], "{origin}");
    }
    for domain in ["evil.example", "APP.example", "app.example.", "", "https://app.example"] {
        let verdict = changed(ECHO, |answer| answer["domain"] = json!(domain));
        assert_eq!(verdict, Verdict::OriginMismatch, "{domain}");
    }
    // A program that ran elsewhere computes other lanes, whatever its answer claims.
    let issuer = issuer();
    let (here, there) = (Socket::echo(&issuer, 1), Socket::echo_from(&issuer, 1, Some("https://evil.example")));
    assert_eq!(here.judge(&Answer::echo(&there.honest)), Verdict::WrongAnswer);
    // And an unlisted one is not challenged at all.
    let listed = vec![Origin::parse(PAGE).unwrap()];
    let list = OriginList::new(listed, OriginPolicy::Refuse, OriginPolicy::Refuse);
    let judged = list.judge([b"https://evil.example".as_slice()].into_iter());
    assert_eq!(judged, OriginVerdict::Refused);
}

#[test]
fn scheme_and_port_count() {
    for origin in ["http://app.example", "https://app.example:443", "https://app.example:8443", "wss://app.example"] {
        let verdict = changed(NATIVE, |answer| answer["origin"] = json!(origin));
        assert_eq!(verdict, Verdict::OriginMismatch, "{origin}");
    }
    // The origin is on a tape of the program too: same seed, other scheme or port, other lanes.
    let program = generate(&[5; 32], Shape::new(128, Constants::Uniform).unwrap()).unwrap();
    let id = ConnectionId::from_bytes([1; 16]);
    let lanes = |origin| {
        let tapes = Tapes { server_nonce: &[2; 32], client_nonce: None, connection: &id, thumbprint: None, origin, file: None };
        evaluate(&program, &tapes).unwrap().to_key()
    };
    let keys = [PAGE, "http://app.example", "https://app.example:8443"].map(lanes);
    assert_eq!(HashSet::from(keys).len(), 3);
}

#[test]
fn answer_bound_to_socket() {
    let issuer = issuer();
    for (open, read) in [NATIVE, ECHO] {
        let (a, b) = (open(&issuer, 1), open(&issuer, 2));
        assert_eq!(b.judge(&read(&a.honest)), Verdict::WrongAnswer);
    }
    // Even the same result is no answer under another challenge's name.
    let other = ChallengeId::from_bytes([9; 16]);
    assert_eq!(changed(NATIVE, |answer| answer["challenge"] = json!(other)), Verdict::WrongAnswer);
    assert_eq!(changed(NATIVE, |answer| answer["epoch"] = json!(1)), Verdict::WrongAnswer);
}

#[test]
fn deadline_enforced() {
    let after = |after| {
        let socket = Socket::native(&issuer(), 1);
        let answer = Answer::native(&socket.honest);
        socket.judge_after(&answer, after)
    };
    assert_eq!(after(Duration::from_secs(10)), Verdict::Verified);
    assert_eq!(after(Duration::from_secs(10) + Duration::from_nanos(1)), Verdict::Late);
    // A late answer learns nothing of what it says, be it ever so wrong.
    let mut socket = Socket::native(&issuer(), 1);
    socket.honest["origin"] = json!("https://evil.example");
    socket.honest["mac"] = json!(AnswerMac([0; 32]));
    let wrong = Answer::native(&socket.honest);
    assert_eq!(socket.judge_after(&wrong, Duration::from_secs(11)), Verdict::Late);
}

#[test]
fn one_wrong_lane_fails() {
    for lane in 0..Lanes::COUNT {
        let verdict = changed(ECHO, |answer| {
            let digit = &answer["key"].as_str().unwrap()[8 * lane..=8 * lane];
            let other = if digit == "0" { "1" } else { "0" };
            let mut key = answer["key"].as_str().unwrap().to_owned();
            key.replace_range(8 * lane..=8 * lane, other);
            answer["key"] = json!(key);
        });
        assert_eq!(verdict, Verdict::WrongAnswer);
    }
}

#[test]
fn pages_without_an_origin_are_judged_by_what_their_program_computes() {
    for header in [None, Some("null")] {
        let socket = Socket::echo_from(&issuer(), 1, header);
        let answer = Answer::echo(&json!({"origin": "file://", "domain": "", "key": socket.honest["key"]}));
        assert_eq!(socket.judge(&answer), Verdict::Verified);
        let socket = Socket::echo_from(&issuer(), 1, header);
        let answer = Answer::echo(&json!({"origin": "", "key": "0".repeat(64)}));
        assert_eq!(socket.judge(&answer), Verdict::WrongAnswer);
        // The transcript holds what the handshake had, whatever the answer claims.
        let mut socket = Socket::native_from(&issuer(), 1, header);
        socket.honest["origin"] = json!("file://");
        let answer = Answer::native(&socket.honest);
        assert_eq!(socket.judge(&answer), Verdict::Verified);
    }
}

#[test]
fn nothing_that_prints_shows_the_expected_answer() {
    let issued = issuer().issue(ConnectionId::from_bytes([1; 16]), 0, Some(PAGE), ChallengeForm::Source, None).unwrap();
    let lane = issued.lanes().values()[0].to_string();
    assert!(!format!("{:?}", issued.expected).contains(&lane));
    assert_eq!(format!("{:?}", AnswerKey::derive(&[0; 32], &issued.lanes())), "AnswerKey(…)");
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
    let scene = Scene::new(operations, constants, origin, client, thumbprint);
    let (tapes, bytes) = (scene.tapes(), scene.program.encode());
    let mut vector = scene.describe(operations, constants, origin);
    let own = json!({
        "program": if operations <= 64 { hex(&bytes).into() } else { Value::Null },
        "program_sha256": hex(digest(&SHA256, &bytes).as_ref()),
        "source_sha256": hex(digest(&SHA256, print(&scene.program, &tapes, &scene.page).as_bytes()).as_ref()),
    });
    vector.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    vector
}

/// The form `vm` of the same programs, and bytes that are refused; the SDK's tests read this file too.
#[test]
fn golden_vectors_of_the_vm_form_hold() {
    let frozen: Value = serde_json::from_str(include_str!("vectors/vm-v1.json")).unwrap();
    let vectors = [
        (32, "uniform", Some(PAGE), true, true),
        (128, "uniform", Some("http://localhost:3000"), true, false),
        (64, "edges", None, false, false),
        (1_024, "edges", Some("null"), false, true),
    ]
    .map(|(operations, constants, origin, client, thumbprint)| {
        let scene = Scene::new(operations, constants, origin, client, thumbprint);
        let mut vector = scene.describe(operations, constants, origin);
        vector["bytecode"] = URL_SAFE_NO_PAD.encode(Disguise::draw(&scene.seed).encode(&scene.program)).into();
        vector
    });
    let actual = json!({ "version": "countersign/vm/v1", "vectors": vectors, "refused": refused() });
    assert!(frozen == actual, "the format of programs changed; this is what they are now:\n{actual:#}");
}

/// Bytes that are no program, each with the one word that the SDK refuses them with.
fn refused() -> Vec<Value> {
    let good = Disguise::draw(&[1; 32]).encode(&one_of_each());
    let spare = (0..=255).find(|code| !good[1..22].contains(code)).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let step = |step: usize, member: usize, byte: u8| with(54 + 8 * step + member, byte);
    let cases = [
        ("short", Vec::new()),
        ("short", good[..53].to_vec()),
        ("version", with(0, 2)),
        ("opcodes", with(2, good[1])),
        ("registers", with(22, good[23])),
        ("registers", with(53, 32)),
        ("ragged", good[..good.len() - 1].to_vec()),
        ("long", [&good[..54], &good[54..62].repeat(OPERATIONS_MAX + 1)].concat()),
        ("opcode", step(0, 0, spare)),
        ("register", step(0, 1, 32)),
        ("unused", step(0, 2, 1)),
        ("unused", step(1, 7, 1)),
        ("register", step(2, 3, 32)),
        ("unused", step(2, 4, 1)),
        ("shift", step(3, 7, 0)),
        ("shift", step(3, 7, 32)),
        ("shift", step(3, 4, 0x80)),
        ("multiplier", step(4, 7, 2)),
        ("register", step(5, 7, 32)),
        ("register", step(5, 4, 1)),
        ("tape", step(6, 2, 5)),
        ("shift", step(6, 3, 0)),
        ("multiplier", step(6, 7, 2)),
    ];
    assert!(Disguise::decode(&good).is_ok());
    let case = |(word, bytes): (&str, Vec<u8>)| {
        assert_eq!(refusal(&bytes), Some(word));
        json!({ "why": word, "bytecode": URL_SAFE_NO_PAD.encode(bytes) })
    };
    cases.into_iter().map(case).collect()
}

/// Why an interpreter refuses bytes over tapes without a file: it counts its tapes before it looks at a program.
fn refusal(bytes: &[u8]) -> Option<&'static str> {
    let tapes = Tapes {
        server_nonce: &[0; 32],
        client_nonce: None,
        connection: const { &ConnectionId::from_bytes([0; 16]) },
        thumbprint: None,
        origin: "",
        file: None,
    };
    match Disguise::decode(bytes).map(|(_, program)| evaluate(&program, &tapes)) {
        Err(error) => Some(why(error)),
        Ok(Err(EvaluateError::File)) => Some("tape"),
        Ok(_) => None,
    }
}

/// One instruction of each shape.
fn one_of_each() -> Program {
    let [r, s] = [3, 4].map(|number| Register::new(number).unwrap());
    let (by, odd) = (ShiftBy::new(5).unwrap(), Odd::new(7).unwrap());
    Program::new(vec![
        Instruction::Const { dst: r, imm: 9 },
        Instruction::Unary { op: Unary::Neg, dst: s, a: r },
        Instruction::Binary { op: Binary::Add, dst: s, a: r, b: s },
        Instruction::Shift { op: Shift::Shl, dst: r, a: s, by },
        Instruction::MulOdd { dst: r, a: r, by: odd },
        Instruction::Select { dst: r, a: r, b: s, c: s },
        Instruction::Fold { dst: r, tape: Tape::Origin, by, odd },
    ])
    .unwrap()
}

/// The SDK's word for an error.
fn why(error: BytecodeError) -> &'static str {
    match error {
        BytecodeError::Short => "short",
        BytecodeError::Version(_) => "version",
        BytecodeError::Opcodes(_) => "opcodes",
        BytecodeError::Registers => "registers",
        BytecodeError::Program(ProgramError::Ragged) => "ragged",
        BytecodeError::Program(ProgramError::TooLong) => "long",
        BytecodeError::Program(ProgramError::Opcode(_)) => "opcode",
        BytecodeError::Program(ProgramError::Register(_)) => "register",
        BytecodeError::Program(ProgramError::Tape(_)) => "tape",
        BytecodeError::Program(ProgramError::Shift(_)) => "shift",
        BytecodeError::Program(ProgramError::EvenMultiplier(_)) => "multiplier",
        BytecodeError::Program(ProgramError::Unused) => "unused",
    }
}

/// What a vector is made from.
struct Scene {
    node_key: [u8; 32],
    connection: ConnectionId,
    server_nonce: [u8; 32],
    client_nonce: Option<[u8; 32]>,
    thumbprint: Option<[u8; 32]>,
    page: PageOrigin,
    seed: [u8; 32],
    program: Program,
}

impl Scene {
    fn new(operations: usize, constants: &str, origin: Option<&str>, client: bool, thumbprint: bool) -> Self {
        let numbered = |start: u8| std::array::from_fn::<u8, 32, _>(|place| start.wrapping_add(place as u8));
        let connection = ConnectionId::from_bytes(std::array::from_fn(|place| 240_u8.wrapping_add(place as u8)));
        let constants = if constants == "edges" { Constants::Edges } else { Constants::Uniform };
        let mut scene = Self {
            node_key: numbered(0),
            connection,
            server_nonce: numbered(64),
            client_nonce: client.then_some(numbered(128)),
            thumbprint: thumbprint.then_some(numbered(192)),
            page: PageOrigin::of_handshake(origin).unwrap(),
            seed: [0; 32],
            program: Program::new(Vec::new()).unwrap(),
        };
        scene.seed = issue::seed(&hmac::Key::new(hmac::HMAC_SHA256, &scene.node_key), 1, &scene.tapes());
        scene.program = generate(&scene.seed, Shape::new(operations, constants).unwrap()).unwrap();
        scene
    }

    fn tapes(&self) -> Tapes<'_> {
        Tapes {
            server_nonce: &self.server_nonce,
            client_nonce: self.client_nonce.as_ref(),
            connection: &self.connection,
            thumbprint: self.thumbprint.as_ref(),
            origin: self.page.tape(),
            file: None,
        }
    }

    fn describe(&self, operations: usize, constants: &str, origin: Option<&str>) -> Value {
        let optional = |bytes: Option<[u8; 32]>| bytes.map(|bytes| hex(&bytes));
        json!({
            "node_key": hex(&self.node_key), "connection": hex(self.connection.as_bytes()), "epoch": 1,
            "server_nonce": hex(&self.server_nonce), "client_nonce": optional(self.client_nonce),
            "thumbprint": optional(self.thumbprint), "origin": origin, "operations": operations, "constants": constants,
            "seed": hex(&self.seed), "key": evaluate(&self.program, &self.tapes()).unwrap().to_key(),
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
