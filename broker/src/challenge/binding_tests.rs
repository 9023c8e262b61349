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
use crate::config::{ChallengeForm, Mode};
use crate::page_key::PageKey;

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
        Self { pair, hello: Hello { nonce: [7; 32], digest: hello_digest(hello), key, mode } }
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
        let program = program_digest(&issued.program);
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
            work: None,
            file: None,
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
    };
    let seed = issue::seed(&aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &numbered(0)), epoch, &tapes);
    let ir = generate(&seed, Shape::new(32, Constants::Uniform).unwrap()).unwrap();
    let lanes = evaluate(&ir, &tapes).unwrap();
    let program = match form {
        ChallengeForm::Vm => b64u(&Disguise::draw(&seed).encode(&ir)),
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
