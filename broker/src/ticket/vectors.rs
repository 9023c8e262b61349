//! Golden vectors, for every implementation of the protocol: tickets of the nodes, proofs of the pages.
//!
//! Frozen: a change of these files is a change of the protocol. Binary values are base64url without padding. The page's key is
//! the point of the private scalar in the file; ECDSA draws randomness, so another signature of the same message is as good.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_node_proto::{ConnectionId, Generation, NodeId};
use serde_json::{Value, json};

use super::keys::{KeyRing, Kid, TicketKey};
use super::{Call, Claims, Nonce, Proof};
use crate::config::Mode;
use crate::page_key::PageKey;

const TICKETS: &str = include_str!("vectors/ticket-v1.json");
const PROOFS: &str = include_str!("vectors/proof-v1.json");
const ISSUED: u64 = 1_700_000_000_000;

fn b64u(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    URL_SAFE_NO_PAD.decode(value.as_str().unwrap()).unwrap().try_into().unwrap()
}

fn key() -> TicketKey {
    TicketKey::from_parts(Kid::from_bytes([0xA1; 8]), &[0xB2; 32])
}

fn tickets() -> Value {
    let full = Claims {
        connection: ConnectionId::from_bytes([0xC3; 16]),
        owner: NodeId::from_bytes([0xD4; 8]),
        generation: Generation(ISSUED - 5),
        epoch: 1,
        origin: Some("https://app.example".to_owned()),
        thumbprint: [0xE5; 32],
        mode: Mode::Proof,
        subject: Some("ada".to_owned()),
        issuer: Some("pool".to_owned()),
        issued_at_ms: ISSUED,
        expires_at_ms: ISSUED + 15_000,
    };
    let bare = Claims { origin: None, subject: None, issuer: None, mode: Mode::Bearer, epoch: 0, ..full.clone() };
    let vectors = [full, bare].map(|claims| {
        json!({
            "kid": b64u(key().kid().as_bytes()),
            "key": b64u([0xB2; 32]),
            "connection": claims.connection.encode(),
            "owner": claims.owner.encode(),
            "generation": claims.generation.0,
            "epoch": claims.epoch,
            "origin": claims.origin,
            "thumbprint": b64u(claims.thumbprint),
            "mode": claims.mode.name(),
            "subject": claims.subject,
            "issuer": claims.issuer,
            "issuedAtMs": claims.issued_at_ms,
            "expiresAtMs": claims.expires_at_ms,
            "ticket": claims.mint(&key()),
            "nonce": Nonce::at(&key(), claims.connection, claims.epoch, ISSUED).encode(),
        })
    });
    json!({ "vectors": vectors })
}

#[test]
fn tickets_and_nonces_are_frozen() {
    let frozen: Value = serde_json::from_str(TICKETS).unwrap_or_default();
    let now = tickets();
    assert_eq!(frozen, now, "the vectors are now:\n{}", serde_json::to_string_pretty(&now).unwrap());
    for vector in frozen["vectors"].as_array().unwrap() {
        let claims = Claims::check(vector["ticket"].as_str().unwrap().as_bytes(), &KeyRing::single(key()), ISSUED).unwrap();
        let (connection, epoch) = (claims.connection, claims.epoch);
        assert!(Nonce::is_good(&bytes(&vector["nonce"]), &key(), connection, epoch, ISSUED));
    }
}

/// Reads a vector's proof without its signature.
fn unsigned(vector: &Value) -> Proof {
    Proof {
        counter: vector["counter"].as_u64().unwrap(),
        nonce: bytes(&vector["nonce"]),
        body_digest: vector["bodyDigest"].is_string().then(|| bytes(&vector["bodyDigest"])),
        signature: [0; 64],
    }
}

#[test]
fn proofs_are_frozen() {
    let frozen: Value = serde_json::from_str(PROOFS).unwrap();
    let (private, point) = (bytes::<32>(&frozen["privateKey"]), bytes::<65>(&frozen["publicKey"]));
    let pair = EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &private, &point).unwrap();
    let key = PageKey::parse(point).unwrap();
    assert_eq!(b64u(key.thumbprint()), frozen["thumbprint"]);
    let vectors = frozen["vectors"].as_array().unwrap();
    assert!(vectors.len() > 1);
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        let (call, ticket) = (Call { method: text("method"), target: text("target") }, text("ticket").as_bytes());
        let unsigned = unsigned(vector);
        let message = unsigned.message(call, ticket);
        let fresh: [u8; 64] = pair.sign(&SystemRandom::new(), &message).unwrap().as_ref().try_into().unwrap();
        let fresh = Proof { signature: fresh, ..unsigned };
        assert!(fresh.is_signed(call, ticket, &key));
        assert_eq!(b64u(&message), text("message"), "a proof of it:\n{}", fresh.encode());
        let proof = Proof::parse(text("proof").as_bytes()).unwrap_or_else(|_| panic!("a proof of it:\n{}", fresh.encode()));
        assert!(proof.is_signed(call, ticket, &key));
        assert_eq!(Proof { signature: proof.signature, ..fresh }, proof);
    }
}
