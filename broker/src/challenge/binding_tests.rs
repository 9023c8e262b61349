//! What an answer is bound to: a client that answers as a page does, and everything that must not pass for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_node_proto::ConnectionId;
use serde_json::{Value, json};

use super::*;
use crate::config::{ChallengeForm, ChallengeSettings, Mode};
use crate::page_key::{PageKey, VERIFICATIONS};

/// A page: its key, and what it knows of the conversation.
pub(super) struct Page {
    pair: EcdsaKeyPair,
    pub(super) hello: Hello,
}

impl Page {
    /// A page with a fresh key that said this hello.
    pub(super) fn new(hello: &str) -> Self {
        Self::with(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), hello, Mode::Bearer)
    }

    fn with(pair: EcdsaKeyPair, hello: &str, mode: Mode) -> Self {
        let key = PageKey::parse(pair.public_key().as_ref().try_into().unwrap()).unwrap();
        Self { pair, hello: Hello { nonce: [7; 32], digest: hello_digest(hello), key, wish: mode, mode } }
    }

    /// The binding of this page under a host.
    pub(super) fn binding(&self, host: &str) -> Arc<Binding> {
        Arc::new(Binding { hello: self.hello.clone(), host: host.into() })
    }

    /// What this page computes for a challenge in bytecode that it got on this connection.
    pub(super) fn lanes(&self, connection: &ConnectionId, issued: &Issued, origin: &str) -> Lanes {
        let bytes = URL_SAFE_NO_PAD.decode(&issued.program).unwrap();
        let tapes = Tapes {
            server_nonce: &issued.server_nonce,
            client_nonce: Some(&self.hello.nonce),
            connection,
            thumbprint: Some(self.hello.key.thumbprint()),
            origin,
            file: issued.file().map(|question| &question.digest),
        };
        evaluate(&Disguise::decode(&bytes).unwrap().1, &tapes).unwrap()
    }

    /// Its answer, without a claim on the top-level page.
    pub(super) fn answer(&self, connection: &ConnectionId, issued: &Issued, host: &str, origin: &str) -> NativeAnswer {
        self.answer_as(connection, issued, host, origin, |_| ())
    }

    /// Its answer where it sees the terms otherwise.
    fn answer_as(
        &self,
        connection: &ConnectionId,
        issued: &Issued,
        host: &str,
        origin: &str,
        sees: impl for<'a> FnOnce(&mut Terms<'a>),
    ) -> NativeAnswer {
        self.answer_asked(connection, issued, host, origin, None, sees)
    }

    /// The same for a page that holds itself asked for this work.
    fn answer_asked(
        &self,
        connection: &ConnectionId,
        issued: &Issued,
        host: &str,
        origin: &str,
        work: Option<&[u8; 2]>,
        sees: impl for<'a> FnOnce(&mut Terms<'a>),
    ) -> NativeAnswer {
        let program = program_digest(&issued.program);
        let file = issued.file().map(FileQuestion::field);
        let mut terms = Terms {
            form: issued.form,
            host,
            connection,
            challenge: &issued.challenge_id,
            epoch: issued.epoch,
            hello: &self.hello.digest,
            server_nonce: &issued.server_nonce,
            program: &program,
            origin,
            top_origin: None,
            thumbprint: self.hello.key.thumbprint(),
            mode: self.hello.mode,
            work: work.map(<[u8; 2]>::as_slice),
            file: file.as_deref(),
        };
        sees(&mut terms);
        let key = AnswerKey::derive(&program, &self.lanes(connection, issued, origin));
        let transcript = terms.transcript();
        let mac = key.mac(&transcript);
        NativeAnswer {
            challenge: issued.challenge_id,
            epoch: issued.epoch,
            origin: origin.to_owned(),
            top_origin: terms.top_origin.map(str::to_owned),
            mac: AnswerMac(mac),
            signature: AnswerSignature(self.sign(&bind_message(&transcript, &mac))),
            work: None,
        }
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.pair.sign(&SystemRandom::new(), message).unwrap().as_ref().try_into().unwrap()
    }
}

/// Everything of one challenge from seed to signature, as a file; the SDK's tests read it too.
#[test]
fn golden_vectors_of_answers_hold() {
    let frozen: Value = serde_json::from_str(include_str!("vectors/answer-v1.json")).unwrap();
    let key = &frozen["key"];
    let pair = key_pair(key["pkcs8"].as_str().unwrap());
    let cases = [
        (ChallengeForm::Vm, "localhost:8080", Some("http://localhost:3000"), None, Mode::Bearer, 0),
        (ChallengeForm::Source, "api.example", Some("https://app.example"), Some("https://top.example"), Mode::Proof, 1),
        (ChallengeForm::Vm, "[::1]:8080", None, None, Mode::Ticket, 0xfedc_ba98),
    ];
    let actual: Vec<Value> = cases.iter().map(|case| vector(&pair, *case)).collect();
    let mut wanted = frozen["vectors"].clone();
    for (vector, actual) in wanted.as_array_mut().unwrap().iter_mut().zip(&actual) {
        let page = PageKey::parse(pair.public_key().as_ref().try_into().unwrap()).unwrap();
        let message = URL_SAFE_NO_PAD.decode(actual["bind"].as_str().unwrap()).unwrap();
        let signature = vector.as_object_mut().unwrap().remove("signature");
        // Each signature is another; the frozen one is checked.
        let signature = signature.and_then(|text| base64url(text.as_str()?)).unwrap_or([0; 64]);
        let fresh = URL_SAFE_NO_PAD.encode(pair.sign(&SystemRandom::new(), &message).unwrap().as_ref());
        assert!(page.verifies(&message, &signature), "not a signature; one is {fresh} for\n{actual:#}");
    }
    let actual = json!(actual);
    assert!(wanted == actual, "the format of answers changed; this is what they are now:\n{actual:#}");
}

/// A key pair of PKCS#8.
fn key_pair(pkcs8: &str) -> EcdsaKeyPair {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &URL_SAFE_NO_PAD.decode(pkcs8).unwrap()).unwrap()
}

type Case = (ChallengeForm, &'static str, Option<&'static str>, Option<&'static str>, Mode, u32);

fn vector(pair: &EcdsaKeyPair, (form, host, origin, top_origin, mode, epoch): Case) -> Value {
    let numbered = |start: u8| std::array::from_fn::<u8, 32, _>(|place| start.wrapping_add(place as u8));
    let b64u = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (server_nonce, client_nonce) = (numbered(64), numbered(128));
    let connection = ConnectionId::from_bytes(std::array::from_fn(|place| 240_u8.wrapping_add(place as u8)));
    let challenge = ChallengeId::from_bytes(std::array::from_fn(|place| 32 + place as u8));
    let point = pair.public_key().as_ref();
    let key = PageKey::parse(point.try_into().unwrap()).unwrap();
    let mode_member = if mode == Mode::Bearer { String::new() } else { format!(r#","mode":"{}""#, mode.name()) };
    let hello_text = format!(
        r#"{{"id":1,"action":"hello","forms":["{}"],"nonce":"{}","key":"{}"{mode_member}}}"#,
        form.name(),
        b64u(&client_nonce),
        b64u(point)
    );
    let hello = hello_digest(&hello_text);
    let page = PageOrigin::of_handshake(origin).unwrap();
    let tapes = Tapes {
        server_nonce: &server_nonce,
        client_nonce: Some(&client_nonce),
        connection: &connection,
        thumbprint: Some(key.thumbprint()),
        origin: page.tape(),
        file: None,
    };
    let seed = issue::seed(&aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &numbered(0)), epoch, &tapes);
    let ir = generate(&seed, Shape::new(32, Constants::Uniform).unwrap()).unwrap();
    let lanes = evaluate(&ir, &tapes).unwrap();
    let program = match form {
        ChallengeForm::Vm | ChallengeForm::Frame => b64u(&Disguise::draw(&seed).encode(&ir)),
        ChallengeForm::Source => print(&ir, &tapes, &page),
    };
    let digest = program_digest(&program);
    let terms = Terms {
        form,
        host,
        connection: &connection,
        challenge: &challenge,
        epoch,
        hello: &hello,
        server_nonce: &server_nonce,
        program: &digest,
        origin: page.tape(),
        top_origin,
        thumbprint: key.thumbprint(),
        mode,
        work: None,
        file: None,
    };
    let transcript = terms.transcript();
    let answer_key = AnswerKey::derive(&digest, &lanes);
    let mac = answer_key.mac(&transcript);
    json!({
        "hello": hello_text, "hello_sha256": b64u(&hello), "form": form.name(), "host": host, "connection": b64u(connection.as_bytes()),
        "challenge": challenge, "epoch": epoch, "nonce": b64u(&server_nonce), "client_nonce": b64u(&client_nonce),
        "program": program, "program_sha256": b64u(&digest), "origin": page.tape(), "top_origin": top_origin,
        "thumbprint": b64u(key.thumbprint()), "mode": mode.name(), "lanes": lanes.values(), "t": b64u(&transcript),
        "k": b64u(answer_key.as_bytes()), "mac": b64u(&mac), "bind": b64u(&bind_message(&transcript, &mac)),
    })
}

const HOST: &str = "node.example";
const ORIGIN: &str = "https://app.example";
const HELLO: &str = r#"{"id":1,"action":"hello","forms":["vm","source"]}"#;

/// One challenge between a page and a node, and whoever sits between them.
struct Scene {
    page: Page,
    connection: ConnectionId,
    issued: Issued,
    pending: Pending,
}

/// What a challenge is bound to.
fn issued_binding(issued: &Issued) -> Arc<Binding> {
    let ExpectedProof::Bound(proof) = &issued.expected.proof else { panic!("not bound") };
    Arc::clone(&proof.binding)
}

impl Scene {
    /// The node saw this page's hello as it was said.
    fn new(issuer: &Issuer, number: u8) -> Self {
        let page = Page::new(HELLO);
        let binding = page.binding(HOST);
        Self::bound(issuer, number, page, &binding)
    }

    /// The node saw another binding than the page.
    fn bound(issuer: &Issuer, number: u8, page: Page, binding: &Arc<Binding>) -> Self {
        let connection = ConnectionId::from_bytes([number; 16]);
        let issued = issuer.issue(connection, 0, Some(ORIGIN), ChallengeForm::Vm, Some(binding)).unwrap();
        let sent_at = Instant::now();
        let pending = Pending::new(connection, &issued, sent_at, sent_at + Duration::from_secs(10));
        Self { page, connection, issued, pending }
    }

    /// The node asks for work too.
    fn asking(issuer: &Issuer, work: Option<Work>) -> Self {
        let Self { page, connection, issued, pending } = Self::new(issuer, 1);
        let binding = issued_binding(&issued);
        let issued = issuer.issue_asking(connection, 0, Some(ORIGIN), ChallengeForm::Vm, Some(&binding), work).unwrap();
        let Pending { sent_at, deadline, .. } = pending;
        let pending = Pending::new(connection, &issued, sent_at, deadline);
        Self { page, connection, issued, pending }
    }

    /// The answer of a page that holds itself asked for this work, and does it.
    fn worked(&self, work: Work) -> NativeAnswer {
        let field = work.field();
        let bound = WorkBound {
            challenge: &self.issued.challenge_id,
            server_nonce: &self.issued.server_nonce,
            thumbprint: self.page.hello.key.thumbprint(),
        };
        let solution = |place| (0..).find(|solution| work.solves(bound, place, *solution)).unwrap();
        let answer = self.page.answer_asked(&self.connection, &self.issued, HOST, ORIGIN, Some(&field), |_| ());
        NativeAnswer { work: Some((0..work.count).map(solution).collect()), ..answer }
    }

    fn answer(&self) -> NativeAnswer {
        self.page.answer(&self.connection, &self.issued, HOST, ORIGIN)
    }

    fn answer_as(&self, sees: impl for<'a> FnOnce(&mut Terms<'a>)) -> NativeAnswer {
        self.page.answer_as(&self.connection, &self.issued, HOST, ORIGIN, sees)
    }

    fn judge(self, answer: NativeAnswer) -> Verdict {
        let received_at = self.pending.sent_at;
        self.pending.judge(&Answer::Native(answer), received_at)
    }

    /// The same challenge once more: a test's privilege, a node judges once.
    fn judge_again(&self, answer: &NativeAnswer) -> Verdict {
        let Pending { connection, sent_at, deadline, .. } = self.pending;
        let again = Pending::new(connection, &self.issued, sent_at, deadline);
        again.judge(&Answer::Native(answer.clone()), sent_at)
    }
}

fn issuer() -> Issuer {
    Issuer::new(Shape::OPERATIONS_MIN).unwrap()
}

#[test]
fn a_page_that_sees_what_the_node_sees_is_verified() {
    let scene = Scene::new(&issuer(), 1);
    let answer = scene.answer();
    assert_eq!(scene.judge(answer), Verdict::Verified);
    // Only the top-level page's origin is the client's to say.
    let scene = Scene::new(&issuer(), 1);
    let answer = scene.answer_as(|terms| terms.top_origin = Some("https://top.example"));
    assert_eq!(answer.top_origin.as_deref(), Some("https://top.example"));
    assert_eq!(scene.judge(answer), Verdict::Verified);
}

#[test]
fn what_page_and_node_see_differently_is_refused() {
    let issuer = issuer();
    let refused = |what: &str, sees: for<'a> fn(&mut Terms<'a>)| {
        let scene = Scene::new(&issuer, 1);
        let answer = scene.answer_as(sees);
        assert_eq!(scene.judge(answer), Verdict::WrongAnswer, "{what}");
    };
    const OTHER: ConnectionId = ConnectionId::from_bytes([9; 16]);
    const CHALLENGE: ChallengeId = ChallengeId::from_bytes([9; 16]);
    refused("form", |terms| terms.form = ChallengeForm::Source);
    refused("host", |terms| terms.host = "evil.example");
    refused("port", |terms| terms.host = "node.example:8443");
    refused("connection", |terms| terms.connection = &OTHER);
    refused("challenge", |terms| terms.challenge = &CHALLENGE);
    refused("epoch", |terms| terms.epoch = 1);
    refused("hello", |terms| terms.hello = &[0; 32]);
    refused("nonce", |terms| terms.server_nonce = &[0; 32]);
    refused("program", |terms| terms.program = &[0; 32]);
    refused("origin", |terms| terms.origin = "https://evil.example");
    refused("no origin", |terms| terms.origin = "");
    refused("key", |terms| terms.thumbprint = &[0; 32]);
    refused("mode", |terms| terms.mode = Mode::Proof);
    refused("work", |terms| terms.work = Some(&[0, 0]));
    refused("file", |terms| terms.file = Some(&[0]));
}

#[test]
fn work_that_was_asked_for_is_done_and_no_other() {
    let issuer = issuer();
    // So many bits that two solutions are not the same number by chance, which could be exchanged.
    let asked = Work { bits: 13, count: 3 };
    let scene = || Scene::asking(&issuer, Some(asked));
    let done = |change: fn(&mut NativeAnswer)| {
        let scene = scene();
        let mut answer = scene.worked(asked);
        change(&mut answer);
        scene.judge(answer)
    };
    assert_eq!(done(|_| ()), Verdict::Verified);
    assert_eq!(done(|answer| answer.work = None), Verdict::WrongAnswer);
    assert_eq!(done(|answer| answer.work = Some(vec![])), Verdict::WrongAnswer);
    assert_eq!(done(|answer| answer.work.as_mut().unwrap().truncate(2)), Verdict::WrongAnswer);
    assert_eq!(done(|answer| answer.work.as_mut().unwrap().swap(0, 1)), Verdict::WrongAnswer);
    // Whoever took the bits out on their way made another transcript.
    let (weaker, scene) = (Work { bits: 1, count: 3 }, scene());
    assert_eq!(scene.judge_again(&scene.worked(weaker)), Verdict::WrongAnswer);
    assert_eq!(scene.judge_again(&scene.answer()), Verdict::WrongAnswer);
    let unasked = Scene::asking(&issuer, None);
    assert_eq!(unasked.judge_again(&NativeAnswer { work: Some(vec![]), ..unasked.answer() }), Verdict::WrongAnswer);
    assert_eq!(unasked.judge_again(&unasked.answer()), Verdict::Verified);
}

#[test]
fn a_question_about_a_file_is_read_by_the_program_and_held_by_the_transcript() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("app.js"), vec![7; 10_000]).unwrap();
    let settings = ChallengeSettings { files_dir: Some(folder.path().to_owned()), ..ChallengeSettings::default() };
    let files = Files::load(&settings).unwrap();
    let issuer = issuer().asking_about(files);
    let scene = Scene::new(&issuer, 1);
    let question = scene.issued.file().unwrap();
    assert_eq!((&*question.path, question.length), ("/app.js", 4_096));
    let bytes = URL_SAFE_NO_PAD.decode(&scene.issued.program).unwrap();
    let program = Disguise::decode(&bytes).unwrap().1;
    let reads = |step: &Instruction| matches!(step, Instruction::Fold { tape: Tape::File, .. });
    assert!(program.instructions().iter().any(reads));
    assert_eq!(scene.judge_again(&scene.answer()), Verdict::Verified);
    assert_eq!(scene.judge_again(&scene.answer_as(|terms| terms.file = None)), Verdict::WrongAnswer);
    assert_eq!(scene.judge_again(&scene.answer_as(|terms| terms.file = Some(b"/other.js"))), Verdict::WrongAnswer);
    // A page that has another file computes other lanes.
    let mut other = Scene::new(&issuer, 1);
    if let ExpectedProof::Bound(BoundProof { file: Some(question), .. }) = &mut other.issued.expected.proof {
        question.digest[31] ^= 1;
    }
    let answer = other.answer();
    assert_eq!(other.judge(answer), Verdict::WrongAnswer);
}

#[test]
fn printed_programs_and_clients_without_a_key_are_asked_about_no_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("app.js"), "x").unwrap();
    let settings = ChallengeSettings { files_dir: Some(folder.path().to_owned()), ..ChallengeSettings::default() };
    let issuer = issuer().asking_about(Files::load(&settings).unwrap());
    let (page, connection) = (Page::new(HELLO), ConnectionId::from_bytes([1; 16]));
    let binding = page.binding(HOST);
    let asked = |form, binding| issuer.issue(connection, 0, Some(ORIGIN), form, binding).unwrap().file().is_some();
    assert!(asked(ChallengeForm::Vm, Some(&binding)));
    assert!(!asked(ChallengeForm::Source, Some(&binding)) && !asked(ChallengeForm::Vm, None));
}

#[test]
fn work_is_looked_at_after_the_mac_and_before_the_signature() {
    let asked = Work { bits: 6, count: 3 };
    let scene = Scene::asking(&issuer(), Some(asked));
    let unsigned = NativeAnswer { signature: AnswerSignature([0; 64]), ..scene.worked(asked) };
    assert_eq!(scene.judge_again(&unsigned), Verdict::BadSignature);
    assert_eq!(scene.judge_again(&NativeAnswer { work: Some(vec![0; 3]), ..unsigned }), Verdict::WrongAnswer);
}

#[test]
fn a_wrong_answer_costs_one_mac_at_most_and_no_signature_is_checked_before_it() {
    let issuer = issuer();
    let spent = |expected: Verdict, late: Duration, change: fn(&mut NativeAnswer)| {
        let scene = Scene::new(&issuer, 1);
        let mut answer = scene.answer();
        change(&mut answer);
        let received_at = scene.pending.sent_at + late;
        let (macs, verifications) = (mac::MACS.get(), VERIFICATIONS.get());
        let verdict = scene.pending.judge(&Answer::Native(answer), received_at);
        assert_eq!(verdict, expected);
        (mac::MACS.get() - macs, VERIFICATIONS.get() - verifications)
    };
    let now = Duration::ZERO;
    assert_eq!(spent(Verdict::Late, Duration::from_secs(11), |_| ()), (0, 0));
    assert_eq!(spent(Verdict::WrongAnswer, now, |answer| answer.challenge = ChallengeId::from_bytes([9; 16])), (0, 0));
    assert_eq!(spent(Verdict::WrongAnswer, now, |answer| answer.epoch = 1), (0, 0));
    assert_eq!(spent(Verdict::OriginMismatch, now, |answer| answer.origin = "https://evil.example".to_owned()), (0, 0));
    assert_eq!(spent(Verdict::WrongAnswer, now, |answer| answer.mac.0[0] ^= 1), (1, 0));
    assert_eq!(spent(Verdict::WrongAnswer, now, |answer| answer.top_origin = Some("https://top.example".to_owned())), (1, 0));
    // Only who ran the program gets the node to check a signature.
    assert_eq!(spent(Verdict::BadSignature, now, |answer| answer.signature.0[0] ^= 1), (1, 1));
    assert_eq!(spent(Verdict::Verified, now, |_| ()), (1, 1));
}

#[test]
fn a_top_level_page_that_is_claimed_but_not_bound_is_refused() {
    for (bound, claimed) in [(None, Some("https://a.example")), (Some("https://a.example"), None)] {
        let scene = Scene::new(&issuer(), 1);
        let mut answer = scene.answer_as(|terms| terms.top_origin = bound);
        answer.top_origin = claimed.map(str::to_owned);
        assert_eq!(scene.judge(answer), Verdict::WrongAnswer);
    }
}

#[test]
fn an_offer_that_was_changed_on_its_way_is_refused() {
    let changed = |what: &str, heard: &str, mode: Mode| {
        let page = Page::new(HELLO);
        let hello = Hello { digest: hello_digest(heard), mode, ..page.hello.clone() };
        let binding = Arc::new(Binding { hello, host: HOST.into() });
        let scene = Scene::bound(&issuer(), 1, page, &binding);
        // The page believes the mode that the challenge names, which is the node's: the hello's digest tells.
        let answer = scene.answer_as(|terms| terms.mode = mode);
        assert_eq!(scene.judge(answer), Verdict::WrongAnswer, "{what}");
    };
    changed("stripped of the form vm", &HELLO.replace(r#""vm","#, ""), Mode::Bearer);
    changed("another order", &HELLO.replace(r#""vm","source""#, r#""source","vm""#), Mode::Bearer);
    changed("a mode put in", &HELLO.replace("\"id\"", r#""mode":"proof","id""#), Mode::Proof);
    changed("white space", &HELLO.replace("\"id\":1", "\"id\": 1"), Mode::Bearer);
}

#[test]
fn a_key_that_was_changed_on_its_way_is_refused() {
    // Somebody between them who says hello with a key of their own, and answers with the page's help.
    let (page, thief) = (Page::new(HELLO), Page::new(HELLO));
    let binding = thief.binding(HOST);
    let scene = Scene::bound(&issuer(), 1, page, &binding);
    let (answer, key) = (scene.answer(), *thief.hello.key.thumbprint());
    assert_eq!(scene.judge_again(&answer), Verdict::WrongAnswer);
    let answer = scene.answer_as(|terms| terms.thumbprint = Box::leak(Box::new(key)));
    assert_eq!(scene.judge_again(&answer), Verdict::WrongAnswer, "the program reads the key, too");
}

#[test]
fn an_answer_that_another_key_signed_is_refused() {
    let scene = Scene::new(&issuer(), 1);
    let mut answer = scene.answer();
    let thief = Page::new(HELLO);
    answer.signature = AnswerSignature(thief.sign(b"whatever"));
    assert_eq!(scene.judge_again(&answer), Verdict::BadSignature);
    // The right message under the wrong key, and the right key under the wrong message.
    let mut transcript = None;
    scene.answer_as(|terms| transcript = Some(terms.transcript()));
    let message = bind_message(&transcript.unwrap(), &answer.mac.0);
    answer.signature = AnswerSignature(thief.sign(&message));
    assert_eq!(scene.judge_again(&answer), Verdict::BadSignature);
    answer.signature = AnswerSignature(scene.page.sign(&message[..message.len() - 1]));
    assert_eq!(scene.judge_again(&answer), Verdict::BadSignature);
    answer.signature = AnswerSignature(scene.page.sign(&message));
    assert_eq!(scene.judge_again(&answer), Verdict::Verified);
}

#[test]
fn no_bit_of_mac_or_signature_is_free() {
    let scene = Scene::new(&issuer(), 1);
    let right = scene.answer();
    assert_eq!(scene.judge_again(&right), Verdict::Verified);
    for bit in 0..256 {
        let mut answer = right.clone();
        answer.mac.0[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(scene.judge_again(&answer), Verdict::WrongAnswer, "bit {bit} of the MAC");
    }
    for bit in 0..512 {
        let mut answer = right.clone();
        answer.signature.0[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(scene.judge_again(&answer), Verdict::BadSignature, "bit {bit} of the signature");
    }
}

#[test]
fn no_bit_of_the_transcript_is_free() {
    let scene = Scene::new(&issuer(), 1);
    let right = scene.answer();
    let mut transcript = Vec::new();
    scene.answer_as(|terms| transcript = terms.transcript());
    let lanes = scene.page.lanes(&scene.connection, &scene.issued, ORIGIN);
    let key = AnswerKey::derive(&program_digest(&scene.issued.program), &lanes);
    assert!(key.verifies(&transcript, &right.mac.0));
    for bit in 0..8 * transcript.len() {
        let mut flipped = transcript.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let mac = key.mac(&flipped);
        let signature = AnswerSignature(scene.page.sign(&bind_message(&flipped, &mac)));
        let answer = NativeAnswer { mac: AnswerMac(mac), signature, ..right.clone() };
        assert_eq!(scene.judge_again(&answer), Verdict::WrongAnswer, "bit {bit}");
    }
}

#[test]
fn a_lane_that_is_wrong_makes_another_mac() {
    let lanes = [1, 2, 3, 4, 5, 6, 7, 8];
    let right = AnswerKey::derive(&[1; 32], &Lanes::new(lanes)).mac(b"T");
    assert_ne!(AnswerKey::derive(&[2; 32], &Lanes::new(lanes)).mac(b"T"), right);
    for lane in 0..Lanes::COUNT {
        let mut other = lanes;
        other[lane] ^= 1 << (4 * lane);
        assert_ne!(AnswerKey::derive(&[1; 32], &Lanes::new(other)).mac(b"T"), right);
    }
}

#[test]
fn the_other_signature_of_an_answer_does_not_verify_twice() {
    // n, the order of the curve's group (SEC 2, section 2.4.2).
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17,
        0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let scene = Scene::new(&issuer(), 1);
    let right = scene.answer();
    let mut twin = right.clone();
    let mut borrow = 0;
    for place in (0..32).rev() {
        let difference = i32::from(ORDER[place]) - i32::from(right.signature.0[32 + place]) - borrow;
        borrow = i32::from(difference < 0);
        twin.signature.0[32 + place] = difference.rem_euclid(256) as u8;
    }
    assert_ne!(twin.signature, right.signature);
    assert_eq!(scene.judge_again(&twin), Verdict::Verified, "the curve's property, which nothing here may rely on");
    // One challenge is one attempt: the judgement takes it, so there is nothing left for the twin, on this socket or another.
    let other = Scene::new(&issuer(), 2);
    assert_eq!(scene.judge(right), Verdict::Verified);
    assert_eq!(other.judge(twin), Verdict::WrongAnswer);
}

#[test]
fn an_answer_of_another_socket_is_refused() {
    let issuer = issuer();
    // Even for a page that uses one key and one hello for both.
    let (a, b) = (Scene::new(&issuer, 1), Scene::new(&issuer, 2));
    let mut answer = a.answer();
    assert_eq!(b.judge_again(&answer), Verdict::WrongAnswer);
    answer.challenge = b.issued.challenge_id;
    assert_eq!(b.judge_again(&answer), Verdict::WrongAnswer);
    assert_eq!(a.judge_again(&a.answer()), Verdict::Verified, "its own is not harmed");
}

#[test]
fn an_answer_in_the_words_of_the_echo_carrier_is_no_answer_to_a_bound_challenge() {
    let scene = Scene::new(&issuer(), 1);
    let lanes = scene.page.lanes(&scene.connection, &scene.issued, ORIGIN);
    let echo = Answer::Echo(EchoAnswer { origin: ORIGIN.to_owned(), domain: None, lanes });
    let received_at = scene.pending.sent_at;
    assert_eq!(scene.pending.judge(&echo, received_at), Verdict::WrongAnswer);
}

#[test]
fn who_could_not_run_the_program_is_not_verified() {
    for said in [json!({}), json!({"error": "unsupported"}), json!({"mac": null, "signature": null}), json!("could not run it")]
    {
        let scene = Scene::new(&issuer(), 1);
        let received_at = scene.pending.sent_at;
        assert_eq!(scene.pending.judge(&Answer::native(&said), received_at), Verdict::WrongAnswer);
    }
}

/// Beside the origin's text, and what `hello` bound, which the connection's challenges share.
#[test]
fn a_pending_challenge_is_small() {
    assert!(size_of::<Pending>() <= 256, "{}", size_of::<Pending>());
}
