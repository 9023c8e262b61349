use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::StoreError;
use crate::identity::random::{base64url, from_base64url, random_bytes, sha256};

/// An opaque refresh token: 256 random bits. The store keeps its SHA-256 only.
pub(in crate::identity) struct RefreshToken(Zeroizing<[u8; 32]>);

impl RefreshToken {
    /// A fresh one.
    pub(super) fn random() -> Result<Self, StoreError> {
        Ok(Self(Zeroizing::new(random_bytes()?)))
    }

    /// Reads what a client sent; nothing if it cannot be one.
    pub(in crate::identity) fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(from_base64url(text)?);
        Some(Self(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }

    /// The same once more.
    pub(super) fn again(&self) -> Self {
        Self(self.0.clone())
    }

    /// As the client gets it: 43 characters of base64url.
    pub(in crate::identity) fn text(&self) -> String {
        base64url(self.0.as_slice())
    }

    /// What the store keeps of it.
    pub(super) fn hash(&self) -> [u8; 32] {
        sha256(self.0.as_slice())
    }

    /// Hides this token's successor, or shows it again.
    ///
    /// The pad depends on this token, which the store does not have, and a token has one successor only; so whoever
    /// reads the store learns nothing, and whoever holds this token can be given the same successor twice.
    fn pad(&self, other: &[u8; 32]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_slice());
        let pad = hmac::sign(&key, b"countersign refresh successor");
        let mut out = *other;
        out.iter_mut().zip(pad.as_ref()).for_each(|(byte, pad)| *byte ^= pad);
        out
    }

    /// Its successor, so that only whoever holds this token can read it.
    pub(super) fn seal(&self, successor: &Self) -> [u8; 32] {
        self.pad(&successor.0)
    }

    /// The successor that was sealed with this token.
    pub(super) fn unseal(&self, sealed: &[u8; 32]) -> Self {
        Self(Zeroizing::new(self.pad(sealed)))
    }
}
