//! The key with which nodes sign programs: what a page pins, so that it runs nobody else's.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::page_key::PageKey;

/// A P-256 key pair that signs program frames.
pub struct ProgramKey {
    pair: EcdsaKeyPair,
    point: [u8; PageKey::POINT_BYTES],
    signer: String,
}

/// The key did not sign: the system's generator failed. Nothing may be sent then that has to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("program could not be signed")]
pub struct Unsigned;

impl ProgramKey {
    /// Reads a private key (PKCS#8, DER); nothing if it is none of this curve.
    #[must_use]
    pub fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok()?;
        let point: [u8; PageKey::POINT_BYTES] = pair.public_key().as_ref().try_into().ok()?;
        let signer = URL_SAFE_NO_PAD.encode(digest(&SHA256, &point));
        Some(Self { pair, point, signer })
    }

    /// Its name: base64url of the SHA-256 of its point, 43 characters.
    #[must_use]
    pub fn signer(&self) -> &str {
        &self.signer
    }

    /// What pages pin: the uncompressed point of the public half in base64url, 87 characters.
    #[must_use]
    pub fn pin(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.point)
    }

    /// Signs a message (ECDSA with SHA-256): r and s, big-endian.
    ///
    /// # Errors
    /// [`Unsigned`]: the caller fails closed.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; PageKey::SIGNATURE_BYTES], Unsigned> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| Unsigned)?;
        signature.as_ref().try_into().map_err(|_| Unsigned)
    }
}

impl fmt::Debug for ProgramKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgramKey").field("signer", &self.signer).finish_non_exhaustive()
    }
}
