//! A page's key, and how an answer is bound to it: written from the protocol's description, without a node's code.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::solver::solve;

/// A page's key pair.
#[derive(Debug)]
pub struct PageKey(EcdsaKeyPair);

impl PageKey {
    /// A fresh one.
    ///
    /// # Panics
    /// If there is no randomness.
    #[must_use]
    pub fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("randomness"))
    }

    /// The public point as a `hello` carries it.
    #[must_use]
    pub fn point(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.public_key())
    }

    /// SHA-256 of the point.
    #[must_use]
    pub fn thumbprint(&self) -> Vec<u8> {
        sha256(self.0.public_key().as_ref())
    }

    /// A signature, r and s.
    ///
    /// # Panics
    /// If there is no randomness.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(&SystemRandom::new(), message).expect("randomness").as_ref().to_vec()
    }
}

impl Default for PageKey {
    fn default() -> Self {
        Self::new()
    }
}

/// What a page knows of its conversation. A test that changes a part of it stands for somebody between page and node who did.
#[derive(Debug, Clone)]
pub struct View {
    /// The protocol's version.
    pub version: String,
    /// `URL.host` of the address that it dialed.
    pub host: String,
    /// The connection's id, as its welcome named it.
    pub connection: String,
    /// The text of its `hello`.
    pub hello: String,
    /// Its origin.
    pub origin: String,
    /// The origin of the page at the top.
    pub top_origin: Option<String>,
}

impl View {
    /// A page at the top that dialed `host` and said this `hello`.
    #[must_use]
    pub fn new(host: &str, connection: &str, hello: &str, origin: &str) -> Self {
        let [host, connection, hello, origin] = [host, connection, hello, origin].map(str::to_owned);
        Self { version: "countersign.v1".to_owned(), host, connection, hello, origin, top_origin: None }
    }

    /// The right answer to a challenge in the form `source`, without `id` and `action`.
    ///
    /// # Panics
    /// If the challenge is none.
    #[must_use]
    pub fn answer(&self, challenge: &Value, key: &PageKey) -> Value {
        let text = |member: &str| challenge[member].as_str().unwrap_or_else(|| panic!("no {member}: {challenge}"));
        let result = solve(text("program"), &self.origin);
        let lanes: Vec<u8> = result["lanes"].as_array().expect("lanes").iter().flat_map(lane).collect();
        let mut answer = self.answer_with(challenge, &lanes, key);
        answer["origin"] = result["origin"].clone();
        answer
    }

    /// The same for a program in any form, of which somebody else has computed the lanes: 32 bytes.
    ///
    /// # Panics
    /// If the challenge is none.
    #[must_use]
    pub fn answer_with(&self, challenge: &Value, lanes: &[u8], key: &PageKey) -> Value {
        let text = |member: &str| challenge[member].as_str().unwrap_or_else(|| panic!("no {member}: {challenge}"));
        let program = sha256(text("program").as_bytes());
        let epoch = u32::try_from(challenge["epoch"].as_u64().expect("an epoch")).expect("32 bits");
        let work = work_of(challenge);
        let transcript = laid_out(&[
            b"countersign/answer/v1",
            self.version.as_bytes(),
            text("form").as_bytes(),
            self.host.as_bytes(),
            &bytes(&self.connection),
            &bytes(text("challenge")),
            &epoch.to_be_bytes(),
            &sha256(self.hello.as_bytes()),
            &bytes(text("nonce")),
            &program,
            self.origin.as_bytes(),
            self.top_origin.as_deref().unwrap_or_default().as_bytes(),
            &key.thumbprint(),
            text("mode").as_bytes(),
            &work.map(|(bits, count)| vec![bits, count]).unwrap_or_default(),
            &file_of(challenge),
        ]);
        let mac_key = sha256(&laid_out(&[b"countersign/k/v1", &program, lanes]));
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &mac_key), &transcript);
        let signature = key.sign(&laid_out(&[b"countersign/bind/v1", &transcript, mac.as_ref()]));
        let mut answer = json!({
            "challenge": challenge["challenge"], "epoch": epoch, "origin": self.origin,
            "mac": URL_SAFE_NO_PAD.encode(mac), "signature": URL_SAFE_NO_PAD.encode(signature),
        });
        if let Some(top_origin) = &self.top_origin {
            answer["topOrigin"] = json!(top_origin);
        }
        if let Some((bits, count)) = work {
            let bound = [bytes(text("challenge")), bytes(text("nonce")), key.thumbprint()];
            answer["work"] = (0..count).map(|place| solve_puzzle(&bound, bits, place)).collect();
        }
        answer
    }
}

/// Bits and count of the puzzles, if there are some.
fn work_of(challenge: &Value) -> Option<(u8, u8)> {
    let work = challenge.get("work")?;
    let number = |name: &str| u8::try_from(work[name].as_u64().expect("a number")).expect("8 bits");
    Some((number("bits"), number("count")))
}

/// The question about a file, if there is one: path, a zero byte, offset, length.
fn file_of(challenge: &Value) -> Vec<u8> {
    let Some(file) = challenge.get("file") else { return Vec::new() };
    let path = file["path"].as_str().expect("a path").as_bytes();
    let offset = file["offset"].as_u64().expect("an offset").to_be_bytes();
    let length = u32::try_from(file["length"].as_u64().expect("a length")).expect("32 bits").to_be_bytes();
    [path, &[0], &offset, &length].concat()
}

/// The first number whose digest begins with so many zero bits.
fn solve_puzzle([challenge, nonce, thumbprint]: &[Vec<u8>; 3], bits: u8, place: u8) -> u32 {
    let solves = |solution: &u32| {
        let puzzle = laid_out(&[b"countersign/work/v1", challenge, nonce, thumbprint, &[place], &solution.to_be_bytes()]);
        let hash = sha256(&puzzle);
        let zeros = hash.iter().take_while(|byte| **byte == 0).count();
        let rest = hash.get(zeros).map_or(0, |byte| byte.leading_zeros());
        zeros * 8 + rest as usize >= usize::from(bits)
    };
    (0..=u32::MAX).find(solves).expect("there is one")
}

/// The header by which the holder of this key proves a call without a body: method and target, as it made it.
///
/// # Panics
/// If the nonce is none.
#[must_use]
pub fn proof_header(key: &PageKey, (method, target): (&str, &str), ticket: &str, counter: u64, nonce: &str) -> String {
    let message = laid_out(&[
        b"countersign/proof/v1",
        method.as_bytes(),
        target.as_bytes(),
        &sha256(ticket.as_bytes()),
        &counter.to_be_bytes(),
        &bytes(nonce),
        b"",
    ]);
    format!("v1.{counter}.{nonce}..{}", URL_SAFE_NO_PAD.encode(key.sign(&message)))
}

impl View {
    /// Has the node's key of this pin signed the challenge, as this page sees it?
    ///
    /// # Panics
    /// If the challenge is none, or the pin is no point.
    #[must_use]
    pub fn is_signed(&self, challenge: &Value, pin: &str) -> bool {
        let text = |member: &str| challenge[member].as_str().unwrap_or_default();
        let number = |member: &str| u32::try_from(challenge[member].as_u64().expect("a number")).expect("32 bits");
        let signer = URL_SAFE_NO_PAD.encode(sha256(&bytes(pin)));
        // A frame fetches the program; the page has its hash.
        let program = challenge["programHash"].as_str().map_or_else(|| sha256(text("program").as_bytes()), bytes);
        let message = laid_out(&[
            b"countersign/frame/v1",
            signer.as_bytes(),
            self.host.as_bytes(),
            &sha256(self.hello.as_bytes()),
            &bytes(&self.connection),
            &bytes(text("challenge")),
            &number("epoch").to_be_bytes(),
            text("form").as_bytes(),
            &bytes(text("nonce")),
            &program,
            text("mode").as_bytes(),
            &number("answerMs").to_be_bytes(),
            &work_of(challenge).map(|(bits, count)| vec![bits, count]).unwrap_or_default(),
            &file_of(challenge),
        ]);
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes(pin)).expect("a point");
        text("signer") == signer && key.verify_sig(&message, &bytes(text("signature"))).is_ok()
    }
}

/// Fields with their places and lengths before them.
pub(crate) fn laid_out(fields: &[&[u8]]) -> Vec<u8> {
    let field = |(tag, field): (usize, &&[u8])| {
        let (tag, length) = (u8::try_from(tag).expect("few fields"), u32::try_from(field.len()).expect("short fields"));
        [&[tag], length.to_be_bytes().as_slice(), field].concat()
    };
    fields.iter().enumerate().flat_map(field).collect()
}

/// A lane's four bytes.
fn lane(value: &Value) -> [u8; 4] {
    i32::try_from(value.as_i64().expect("an integer")).expect("32 bits").to_be_bytes()
}

pub(crate) fn bytes(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).expect("base64url")
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}
