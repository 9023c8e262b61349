//! The key that a page holds: what a challenge binds, and what signs its REST calls.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};

/// The public half of a page's P-256 key, whose private half cannot be extracted from the page.
///
/// Kept as its point, not as a parsed key: that is 97 bytes a connection instead of several hundred, and parsing costs a
/// fraction of a verification.
#[derive(Clone, PartialEq, Eq)]
pub struct PageKey {
    point: [u8; Self::POINT_BYTES],
    thumbprint: [u8; 32],
}

impl PageKey {
    /// Bytes of an uncompressed point: 0x04, x, y (SEC 1, section 2.3.3).
    pub const POINT_BYTES: usize = 65;
    /// Bytes of a signature: r and s, big-endian, as WebCrypto gives it.
    pub const SIGNATURE_BYTES: usize = 64;

    /// Reads an uncompressed point; nothing if it is not on the curve.
    #[must_use]
    pub fn parse(point: [u8; Self::POINT_BYTES]) -> Option<Self> {
        // The library would take a compressed or a hybrid point too, by its first byte.
        if point[0] != 4 {
            return None;
        }
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?;
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(digest(&SHA256, &point).as_ref());
        Some(Self { point, thumbprint })
    }

    /// The point as it was read.
    #[must_use]
    pub const fn point(&self) -> &[u8; Self::POINT_BYTES] {
        &self.point
    }

    /// SHA-256 of the point.
    #[must_use]
    pub const fn thumbprint(&self) -> &[u8; 32] {
        &self.thumbprint
    }

    /// Is this a signature of the message by the key's holder (ECDSA with SHA-256)?
    ///
    /// Who holds no private key can make a second valid signature of a signed message, (r, n - s): nothing may be told
    /// apart by the bytes of a signature.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; Self::SIGNATURE_BYTES]) -> bool {
        #[cfg(test)]
        VERIFICATIONS.set(VERIFICATIONS.get() + 1);
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.point).is_ok_and(|key| key.verify_sig(message, signature).is_ok())
    }
}

#[cfg(test)]
thread_local! {
    /// Signatures that this thread checked: what a wrong answer costs is counted, not timed.
    pub(crate) static VERIFICATIONS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

impl fmt::Debug for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.thumbprint;
        write!(f, "PageKey({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

    use super::*;

    fn pair() -> (EcdsaKeyPair, [u8; 65]) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref().try_into().unwrap();
        (pair, point)
    }

    #[test]
    fn only_the_holder_signs() {
        let (pair, point) = pair();
        let key = PageKey::parse(point).unwrap();
        let signature: [u8; 64] = pair.sign(&SystemRandom::new(), b"message").unwrap().as_ref().try_into().unwrap();
        assert!(key.verifies(b"message", &signature));
        assert!(!key.verifies(b"massage", &signature));
        let other = PageKey::parse(self::pair().1).unwrap();
        assert!(!other.verifies(b"message", &signature));
        for bit in 0..512 {
            let mut flipped = signature;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.verifies(b"message", &flipped), "bit {bit}");
        }
    }

    #[test]
    fn a_point_off_the_curve_or_in_another_form_is_no_key() {
        let (_, point) = pair();
        assert!(PageKey::parse([0; 65]).is_none());
        for (place, byte) in [(0, 2), (0, 6), (1, point[1] ^ 1), (64, point[64] ^ 1)] {
            let mut wrong = point;
            wrong[place] = byte;
            assert!(PageKey::parse(wrong).is_none(), "{place}");
        }
    }

    #[test]
    fn debug_shows_a_prefix() {
        let key = PageKey::parse(pair().1).unwrap();
        assert!(format!("{key:?}").len() < 24);
    }
}
