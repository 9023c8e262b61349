//! A page in the scenario's own process: answers challenges as a client does. What it spends is never counted.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::challenge::{
    AnswerKey, AnswerMac, AnswerSignature, Binding, Disguise, Hello, Issued, Lanes, NativeAnswer, Tapes, Terms, bind_message,
    evaluate, hello_digest, program_digest,
};
use countersign::config::Mode;
use countersign::page_key::PageKey;
use countersign_node_proto::ConnectionId;
use serde_json::{Value, json};

use crate::Outcome;
use crate::solver::solve;

/// Origin of the page.
pub(super) const ORIGIN: &str = "https://app.example";
/// The node's host as the page dialed it.
const HOST: &str = "gateway.example";

/// A page and its key.
pub(super) struct Page {
    pair: EcdsaKeyPair,
    /// What the node keeps of it.
    pub binding: Arc<Binding>,
}

impl Page {
    /// A page with a fresh key.
    ///
    /// # Errors
    /// Without randomness.
    pub(super) fn new() -> Outcome<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| "no key")?;
        let point = <[u8; PageKey::POINT_BYTES]>::try_from(pair.public_key().as_ref())?;
        let key = PageKey::parse(point).ok_or("a key off its curve")?;
        let hello = Hello { nonce: [7; 32], digest: hello_digest("hello"), key, mode: Mode::Proof, wish: Mode::Bearer };
        Ok(Self { pair, binding: Arc::new(Binding { hello, host: HOST.into() }) })
    }

    /// T, the transcript of this challenge.
    pub(super) fn transcript(&self, connection: &ConnectionId, issued: &Issued) -> Vec<u8> {
        let Binding { hello, host } = &*self.binding;
        Terms {
            form: issued.form,
            host,
            connection,
            challenge: &issued.challenge_id,
            epoch: issued.epoch,
            hello: &hello.digest,
            server_nonce: &issued.server_nonce,
            program: &program_digest(&issued.program),
            origin: ORIGIN,
            top_origin: None,
            thumbprint: hello.key.thumbprint(),
            mode: hello.mode,
            work: None,
            file: None,
        }
        .transcript()
    }

    /// The right answer to a challenge in bytecode.
    ///
    /// # Errors
    /// If the program is none.
    pub(super) fn answer(&self, connection: &ConnectionId, issued: &Issued) -> Outcome<NativeAnswer> {
        let key = AnswerKey::derive(&program_digest(&issued.program), &self.lanes(connection, issued)?);
        let transcript = self.transcript(connection, issued);
        let mac = key.mac(&transcript);
        Ok(NativeAnswer {
            challenge: issued.challenge_id,
            epoch: issued.epoch,
            origin: ORIGIN.to_owned(),
            top_origin: None,
            mac: AnswerMac(mac),
            signature: AnswerSignature(self.sign(&bind_message(&transcript, &mac))?),
            work: None,
        })
    }

    /// A signature by the page's key.
    ///
    /// # Errors
    /// Without randomness.
    pub(super) fn sign(&self, message: &[u8]) -> Outcome<[u8; 64]> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| "no signature")?;
        Ok(signature.as_ref().try_into()?)
    }

    /// The public point.
    pub(super) fn point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn lanes(&self, connection: &ConnectionId, issued: &Issued) -> Outcome<Lanes> {
        let (_, program) = Disguise::decode(&URL_SAFE_NO_PAD.decode(&issued.program)?)?;
        let tapes = Tapes {
            server_nonce: &issued.server_nonce,
            client_nonce: Some(&self.binding.hello.nonce),
            connection,
            thumbprint: Some(self.binding.hello.key.thumbprint()),
            origin: ORIGIN,
            file: None,
        };
        Ok(evaluate(&program, &tapes)?)
    }
}

/// The `msg` with which a client of the echo carrier answers a printed program.
///
/// # Errors
/// If the program is none.
pub(super) fn echo(issued: &Issued) -> Outcome<Value> {
    let lanes = Lanes::new(solve(&issued.program, ORIGIN)?);
    Ok(json!({"origin": ORIGIN, "domain": "app.example", "lanes": lanes.values(), "key": lanes.to_key(), "index": 3}))
}
