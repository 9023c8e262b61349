use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::challenge::Transcript;
use crate::page_key::PageKey;

const LABEL: &str = "countersign/proof/v1";
/// What the header begins with.
const VERSION: &str = "v1";
/// Longest header that is looked at: five parts, the longest of them 86 characters.
const TEXT_LEN_MAX: usize = 256;

/// The call that a proof is for, as its page made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    /// Upper-case ASCII.
    pub method: &'a str,
    /// Host, path and query: `api.example:8443/greeting?x=1`.
    pub target: &'a str,
}

/// A page's proof of one call: the header `Countersign-Proof`, read.
///
/// `v1.<counter>.<nonce>.<SHA-256 of the body, or empty>.<signature>`, the last three in canonical base64url without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Rises with every call of the page, from 1.
    pub counter: u64,
    /// The nonce that the page was pushed.
    pub nonce: [u8; 32],
    /// SHA-256 of the body, if the page signed one. Whether it is the body's, only who reads the body can tell.
    pub body_digest: Option<[u8; 32]>,
    /// By the page's key, over all of it and the call.
    pub signature: [u8; PageKey::SIGNATURE_BYTES],
}

/// Why a proof does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It cannot be read, its nonce is not good, or it was not signed by the page's key for this call.
    #[error("proof is not valid for this call")]
    Invalid,
    /// Its counter was used before.
    #[error("proof was used before")]
    Replayed,
}

impl Proof {
    /// Reads the header, strictly: one proof has one text.
    ///
    /// # Errors
    /// [`ProofError::Invalid`].
    pub fn parse(text: &[u8]) -> Result<Self, ProofError> {
        Self::read(text).ok_or(ProofError::Invalid)
    }

    fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= TEXT_LEN_MAX)?;
        let mut parts = text.split('.');
        let mut part = || parts.next();
        if part()? != VERSION {
            return None;
        }
        let counter = counter(part()?)?;
        let nonce = base64url(part()?)?;
        let body_digest = match part()? {
            "" => None,
            digest => Some(base64url(digest)?),
        };
        let signature = base64url(part()?)?;
        parts.next().is_none().then_some(Self { counter, nonce, body_digest, signature })
    }

    /// The header, as a page writes it.
    #[must_use]
    pub fn encode(&self) -> String {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let digest = self.body_digest.map_or_else(String::new, |digest| encode(&digest));
        format!("{VERSION}.{}.{}.{digest}.{}", self.counter, encode(&self.nonce), encode(&self.signature))
    }

    /// What the page signs: the call, its ticket, and everything of the proof but the signature.
    #[must_use]
    pub fn message(&self, call: Call<'_>, ticket: &[u8]) -> Vec<u8> {
        Transcript::new(LABEL)
            .field(call.method.as_bytes())
            .field(call.target.as_bytes())
            .field(digest(&SHA256, ticket).as_ref())
            .field(&self.counter.to_be_bytes())
            .field(&self.nonce)
            .optional(self.body_digest.as_ref().map(<[u8; 32]>::as_slice))
            .finish()
    }

    /// Did the holder of the key sign this call, with this ticket (its text)? The nonce and the counter are others' affair.
    #[must_use]
    pub fn is_signed(&self, call: Call<'_>, ticket: &[u8], key: &PageKey) -> bool {
        key.verifies(&self.message(call, ticket), &self.signature)
    }
}

/// A decimal number from 1, without signs and leading zeros.
fn counter(text: &str) -> Option<u64> {
    let canonical = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    if canonical { text.parse().ok() } else { None }
}

/// Exactly `N` bytes, in canonical base64url without padding.
fn base64url<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
        Ok(length) if length == N => Some(bytes),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use proptest::prelude::*;

    use super::*;

    /// A page: it holds a key and signs its calls.
    pub(crate) struct Page {
        pair: EcdsaKeyPair,
        pub(crate) key: PageKey,
    }

    impl Page {
        pub(crate) fn new() -> Self {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            let key = PageKey::parse(pair.public_key().as_ref().try_into().unwrap()).unwrap();
            Self { pair, key }
        }

        pub(crate) fn sign(
            &self,
            call: Call<'_>,
            ticket: &[u8],
            counter: u64,
            nonce: [u8; 32],
            body_digest: Option<[u8; 32]>,
        ) -> Proof {
            let unsigned = Proof { counter, nonce, body_digest, signature: [0; 64] };
            let signature = self.pair.sign(&SystemRandom::new(), &unsigned.message(call, ticket)).unwrap();
            Proof { signature: signature.as_ref().try_into().unwrap(), ..unsigned }
        }
    }

    const CALL: Call<'_> = Call { method: "POST", target: "api.example/greeting?x=1" };

    #[test]
    fn every_field_of_a_proof_matters() {
        let (page, ticket) = (Page::new(), b"ticket".as_slice());
        let proof = page.sign(CALL, ticket, 7, [1; 32], Some([2; 32]));
        let signed = |proof: &Proof, call, ticket: &[u8]| proof.is_signed(call, ticket, &page.key);
        assert!(signed(&proof, CALL, ticket));
        for method in ["GET", "post", "POS", "POSTT", ""] {
            assert!(!signed(&proof, Call { method, ..CALL }, ticket), "{method}");
        }
        let targets = [
            "api.example/greeting?x=2",
            "api.example/greeting",
            "api.example:443/greeting?x=1",
            "Api.example/greeting?x=1",
            "",
        ];
        for target in targets {
            assert!(!signed(&proof, Call { target, ..CALL }, ticket), "{target}");
        }
        // What one field loses another must not be able to gain.
        assert!(!signed(&proof, Call { method: "POSTapi.example", target: "/greeting?x=1" }, ticket));
        assert!(!signed(&proof, CALL, b"tickeT"));
        assert!(!signed(&Proof { counter: 8, ..proof.clone() }, CALL, ticket));
        assert!(!signed(&Proof { nonce: [3; 32], ..proof.clone() }, CALL, ticket));
        assert!(!signed(&Proof { body_digest: None, ..proof.clone() }, CALL, ticket));
        assert!(!signed(&Proof { body_digest: Some([3; 32]), ..proof.clone() }, CALL, ticket));
        assert!(!proof.is_signed(CALL, ticket, &Page::new().key), "another page's key");
    }

    #[test]
    fn any_flipped_bit_of_the_header_is_refused() {
        let (page, ticket) = (Page::new(), b"ticket".as_slice());
        let text = page.sign(CALL, ticket, 7, [1; 32], Some([2; 32])).encode();
        let good = |text: &[u8]| Proof::parse(text).is_ok_and(|proof| proof.is_signed(CALL, ticket, &page.key));
        assert!(good(text.as_bytes()));
        for place in 0..text.len() {
            for bit in 0..8 {
                let mut flipped = text.clone().into_bytes();
                flipped[place] ^= 1 << bit;
                assert!(!good(&flipped), "bit {bit} of character {place}");
            }
        }
    }

    #[test]
    fn the_header_is_read_strictly() {
        let proof = Proof { counter: 1, nonce: [0; 32], body_digest: None, signature: [0; 64] };
        let text = proof.encode();
        assert_eq!(Proof::parse(text.as_bytes()), Ok(proof));
        let (nonce, signature) = ("A".repeat(43), "A".repeat(86));
        for wrong in [
            String::new(),
            "v1".to_owned(),
            format!("v2.1.{nonce}..{signature}"),
            format!("V1.1.{nonce}..{signature}"),
            format!("v1.1.{nonce}.{signature}"),
            format!("v1.1.{nonce}..{signature}."),
            format!("v1.0.{nonce}..{signature}"),
            format!("v1.01.{nonce}..{signature}"),
            format!("v1.+1.{nonce}..{signature}"),
            format!("v1.-1.{nonce}..{signature}"),
            format!("v1..{nonce}..{signature}"),
            format!("v1.18446744073709551616.{nonce}..{signature}"),
            format!("v1.1.{nonce}A..{signature}"),
            format!("v1.1.{nonce}=..{signature}"),
            format!("v1.1.{}B..{signature}", &nonce[1..]),
            format!("v1.1.{nonce}.A.{signature}"),
            format!("v1.1.{nonce}..{}", &signature[1..]),
            format!("v1.1.{nonce}..{signature} "),
            format!("{text}, {text}"),
        ] {
            assert_eq!(Proof::parse(wrong.as_bytes()), Err(ProofError::Invalid), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_is_canonical(text in "v1\\.[0-9]{1,20}\\.[A-Za-z0-9_-]{43}\\.([A-Za-z0-9_-]{43})?\\.[A-Za-z0-9_-]{86}|\\PC{0,300}") {
            if let Ok(proof) = Proof::parse(text.as_bytes()) {
                prop_assert_eq!(proof.encode(), text);
            }
        }
    }
}
