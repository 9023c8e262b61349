use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::challenge::binding_tests::Page;
use crate::challenge::{ExpectedProof, IssueError, Issued, Issuer, Work};

fn frozen() -> Value {
    serde_json::from_str(include_str!("../vectors/frame-v1.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(value.as_str().unwrap()).unwrap()
}

fn hash(text: &str) -> [u8; 32] {
    digest(&SHA256, text.as_bytes()).as_ref().try_into().unwrap()
}

fn key() -> ProgramKey {
    ProgramKey::from_pkcs8(&bytes(&frozen()["privateKey"])).unwrap()
}

/// What is delivered, and what goes into the frame of it.
struct Scene {
    host: &'static str,
    hello: &'static str,
    program: &'static str,
    epoch: u32,
    form: ChallengeForm,
    mode: Mode,
    answer_ms: u32,
    /// Bits and count.
    work: Option<[u8; 2]>,
    /// Path, offset and length.
    file: Option<(&'static str, u64, u32)>,
}

const SCENES: [Scene; 4] = [
    Scene {
        host: "gateway.example",
        hello: r#"{"id":1,"action":"hello","forms":["source"]}"#,
        program: "function(){return 1}",
        epoch: 0,
        form: ChallengeForm::Source,
        mode: Mode::Ticket,
        answer_ms: 10_000,
        work: None,
        file: None,
    },
    Scene {
        host: "127.0.0.1:8080",
        hello: r#"{"id":"é","action":"hello","forms":["vm"],"mode":"proof"}"#,
        program: "AQ",
        epoch: 7,
        form: ChallengeForm::Vm,
        mode: Mode::Proof,
        answer_ms: 2_000,
        work: None,
        file: None,
    },
    Scene {
        host: "[::1]:8443",
        hello: "{}",
        program: "",
        epoch: u32::MAX,
        form: ChallengeForm::Vm,
        mode: Mode::Bearer,
        answer_ms: 30_000,
        work: None,
        file: None,
    },
    Scene {
        host: "gateway.example",
        hello: r#"{"id":1,"action":"hello","forms":["vm"]}"#,
        program: "AQ",
        epoch: 1,
        form: ChallengeForm::Vm,
        mode: Mode::Ticket,
        answer_ms: 10_000,
        work: Some([4, 2]),
        file: Some(("/assets/é.js", 2, 5)),
    },
];

impl Scene {
    /// The message of its frame, after a change to the frame.
    fn message(&self, change: impl FnOnce(&mut ProgramFrame<'_>)) -> Vec<u8> {
        let (hello, program, nonce) = (hash(self.hello), hash(self.program), std::array::from_fn(|place| place as u8));
        let file = self
            .file
            .map(|(path, offset, length)| [path.as_bytes(), &[0], &offset.to_be_bytes(), &length.to_be_bytes()].concat());
        let mut frame = ProgramFrame {
            host: self.host,
            hello: &hello,
            connection: ConnectionId::from_bytes([0xc0; 16]),
            challenge_id: ChallengeId::from_bytes([0xc1; 16]),
            epoch: self.epoch,
            form: self.form,
            server_nonce: &nonce,
            program: &program,
            mode: self.mode,
            answer_ms: self.answer_ms,
            work: self.work.as_ref().map(<[u8; 2]>::as_slice),
            file: file.as_deref(),
        };
        change(&mut frame);
        frame.message(key().signer())
    }

    fn describe(&self, signature: &Value) -> Value {
        json!({
            "host": self.host, "hello": self.hello, "connection": URL_SAFE_NO_PAD.encode([0xc0; 16]),
            "challenge": ChallengeId::from_bytes([0xc1; 16]), "epoch": self.epoch, "form": self.form.name(),
            "nonce": URL_SAFE_NO_PAD.encode(std::array::from_fn::<u8, 32, _>(|place| place as u8)), "program": self.program,
            "mode": self.mode.name(), "answerMs": self.answer_ms, "message": URL_SAFE_NO_PAD.encode(self.message(|_| ())),
            "work": self.work.map(|[bits, count]| json!({ "bits": bits, "count": count })),
            "file": self.file.map(|(path, offset, length)| json!({ "path": path, "offset": offset, "length": length })),
            "signature": signature,
        })
    }
}

/// Signatures are random, so those of the file are verified and the rest is compared. The SDK's tests read the file too.
#[test]
fn golden_vectors_of_signed_frames_hold() {
    let frozen = frozen();
    let point = bytes(&frozen["pin"]).try_into().unwrap();
    let public = PageKey::parse(point).unwrap();
    let vectors: Vec<Value> =
        SCENES.iter().zip(0..).map(|(scene, at)| scene.describe(&frozen["vectors"][at]["signature"])).collect();
    let actual = json!({
        "version": "countersign/frame/v1", "privateKey": frozen["privateKey"], "pin": key().pin(), "signer": key().signer(),
        "vectors": vectors,
    });
    assert!(frozen == actual, "the format of signed frames changed; this is what they are now:\n{actual:#}");
    for (scene, vector) in SCENES.iter().zip(&vectors) {
        let signature = bytes(&vector["signature"]).try_into().unwrap();
        assert!(public.verifies(&scene.message(|_| ()), &signature));
    }
}

#[test]
fn no_part_of_a_challenge_can_be_exchanged_under_its_signature() {
    let scene = &SCENES[0];
    let signature = key().sign(&scene.message(|_| ())).unwrap();
    let public = PageKey::parse(bytes(&frozen()["pin"]).try_into().unwrap()).unwrap();
    let verifies = |change: fn(&mut ProgramFrame<'_>)| public.verifies(&scene.message(change), &signature);
    assert!(verifies(|_| ()));
    let changes: [fn(&mut ProgramFrame<'_>); 12] = [
        |frame| frame.host = "gateway.example:8443",
        |frame| frame.hello = &[1; 32],
        |frame| frame.connection = ConnectionId::from_bytes([0xc1; 16]),
        |frame| frame.challenge_id = ChallengeId::from_bytes([0xc0; 16]),
        |frame| frame.epoch = 1,
        |frame| frame.form = ChallengeForm::Vm,
        |frame| frame.server_nonce = &[1; 32],
        |frame| frame.program = &[1; 32],
        |frame| frame.mode = Mode::Bearer,
        |frame| frame.answer_ms = 10_001,
        |frame| frame.work = Some(&[20, 255]),
        |frame| frame.file = Some(b"/private"),
    ];
    for (place, change) in changes.into_iter().enumerate() {
        assert!(!verifies(change), "change {place}");
    }
}

#[test]
fn a_frame_names_the_key_that_signed_it() {
    let (scene, key) = (&SCENES[0], key());
    let (hello, program, nonce) = (hash(scene.hello), hash(scene.program), [0; 32]);
    let frame = ProgramFrame {
        host: scene.host,
        hello: &hello,
        connection: ConnectionId::from_bytes([1; 16]),
        challenge_id: ChallengeId::from_bytes([2; 16]),
        epoch: 0,
        form: scene.form,
        server_nonce: &nonce,
        program: &program,
        mode: scene.mode,
        answer_ms: scene.answer_ms,
        work: None,
        file: None,
    };
    let signed = frame.sign(&key).unwrap();
    assert_eq!(signed.signer, URL_SAFE_NO_PAD.encode(digest(&SHA256, &bytes(&frozen()["pin"]))));
    let public = PageKey::parse(bytes(&frozen()["pin"]).try_into().unwrap()).unwrap();
    assert!(public.verifies(&frame.message(&signed.signer), &signed.signature));
    assert!(!public.verifies(&frame.message("another"), &signed.signature));
}

/// An issuer that signs these forms with the fixed key, and a page under `gateway.example` that it challenges.
fn challenged(which: SignPrograms, form: ChallengeForm, sign: Option<fn() -> Unsigned>) -> Result<Issued, IssueError> {
    let key = key();
    let issuer = Issuer::new(128).unwrap().signing(Signing::new(which, 9_000, move |frame| match sign {
        None => frame.sign(&key),
        Some(fault) => Err(fault()),
    }));
    let page = Page::new("hello");
    issuer.issue_asking(
        ConnectionId::from_bytes([1; 16]),
        3,
        Some("https://app.example"),
        form,
        Some(&page.binding("gateway.example")),
        Some(Work { bits: 3, count: 2 }),
    )
}

#[test]
fn what_a_page_evaluates_is_signed_always_and_bytecode_where_it_is_asked_for() {
    for (which, form, is_signed) in [
        (SignPrograms::Source, ChallengeForm::Source, true),
        (SignPrograms::Source, ChallengeForm::Vm, false),
        (SignPrograms::All, ChallengeForm::Source, true),
        (SignPrograms::All, ChallengeForm::Vm, true),
    ] {
        let issued = challenged(which, form, None).unwrap();
        assert_eq!(issued.signature.is_some(), is_signed, "{which:?} {form:?}");
        let Some(FrameSignature { signer, signature }) = issued.signature else { continue };
        let ExpectedProof::Bound(proof) = &issued.expected.proof else { panic!("not bound") };
        // As the page sees it: the hash is of the text that came.
        let program = hash(&issued.program);
        let frame = ProgramFrame {
            host: "gateway.example",
            hello: &hash("hello"),
            connection: ConnectionId::from_bytes([1; 16]),
            challenge_id: issued.challenge_id,
            epoch: 3,
            form,
            server_nonce: &issued.server_nonce,
            program: &program,
            mode: proof.binding.hello.mode,
            answer_ms: 9_000,
            work: Some(&[3, 2]),
            file: None,
        };
        let public = PageKey::parse(bytes(&frozen()["pin"]).try_into().unwrap()).unwrap();
        assert!(public.verifies(&frame.message(&signer), &signature), "{which:?} {form:?}");
    }
}

#[test]
fn what_cannot_be_signed_is_not_issued() {
    let broken = |form| challenged(SignPrograms::Source, form, Some(|| Unsigned)).err();
    assert_eq!(broken(ChallengeForm::Source), Some(IssueError::Unsigned(Unsigned)));
    assert_eq!(broken(ChallengeForm::Vm), None, "nothing to sign");
}
