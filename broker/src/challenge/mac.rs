use std::fmt;

use aws_lc_rs::hmac;

use super::binding::sha256;
use super::lanes::Lanes;
use super::transcript::Transcript;

/// K: the key of an answer's MAC, which only the program's result gives.
///
/// It is no secret from the client, who computes it too; it is one from everybody else, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct AnswerKey([u8; 32]);

impl AnswerKey {
    /// K of a program, by its digest, and of what it computes.
    ///
    /// Source: `countersign/k/v1`, held by golden vectors.
    #[must_use]
    pub fn derive(program: &[u8; 32], lanes: &Lanes) -> Self {
        Self(sha256(&Transcript::new("countersign/k/v1").field(program).field(&lanes.to_bytes()).finish()))
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The MAC of a transcript: HMAC-SHA256.
    #[must_use]
    pub fn mac(&self, transcript: &[u8]) -> [u8; 32] {
        let mut mac = [0; 32];
        // Both are 32 bytes: the length of a SHA-256 tag.
        mac.copy_from_slice(hmac::sign(&self.key(), transcript).as_ref());
        mac
    }

    /// Is this the MAC of the transcript? The time does not tell where they differ.
    #[must_use]
    pub fn verifies(&self, transcript: &[u8], mac: &[u8; 32]) -> bool {
        hmac::verify(&self.key(), transcript, mac).is_ok()
    }

    fn key(&self) -> hmac::Key {
        #[cfg(test)]
        MACS.set(MACS.get() + 1);
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }
}

#[cfg(test)]
thread_local! {
    /// MACs that this thread made or checked: what a wrong answer costs is counted, not timed.
    pub(super) static MACS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

impl fmt::Debug for AnswerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerKey(…)")
    }
}
