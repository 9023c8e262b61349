use std::collections::HashMap;
use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::Value;

use super::TokenRefusal;
use super::json::strict_object;
use super::token::{KID_BYTES_MAX, UnverifiedToken};

/// Most keys taken from one key set.
const KEYS_MAX: usize = 100;

/// A key and the algorithms for which it may be used.
///
/// The list comes from configuration and key set. A token's header can only name one of it; it never adds one, so a
/// public RSA key is no HMAC secret here (RFC 8725, section 2.1).
#[derive(Debug, Clone)]
pub(super) struct VerifyingKey {
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

impl VerifyingKey {
    /// Pins a key to those of the algorithms that fit its family; none if none does.
    pub(super) fn new(key: DecodingKey, algorithms: &[Algorithm]) -> Option<Self> {
        let fitting: Vec<_> = algorithms.iter().copied().filter(|algorithm| algorithm.family() == key.family()).collect();
        (!fitting.is_empty()).then_some(Self { key, algorithms: fitting })
    }

    /// Verifies a token's signature.
    ///
    /// # Errors
    /// [`TokenRefusal`] if the algorithm is not this key's, or the signature is not this token's.
    pub(super) fn verify(&self, token: &UnverifiedToken<'_>) -> Result<(), TokenRefusal> {
        if !self.algorithms.contains(&token.algorithm) {
            return Err(TokenRefusal::UnknownKey);
        }
        match jsonwebtoken::crypto::verify(token.signature, token.signed.as_bytes(), &self.key, token.algorithm) {
            Ok(true) => Ok(()),
            Ok(false) => Err(TokenRefusal::BadSignature),
            Err(_) => Err(TokenRefusal::Malformed),
        }
    }
}

/// An issuer's keys by `kid`.
#[derive(Debug, Default)]
pub(super) struct KeyTable {
    by_kid: HashMap<String, Arc<VerifyingKey>>,
    /// The key of a set that has only one: then a token need not name it.
    only: Option<Arc<VerifyingKey>>,
}

/// Why a key set was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeySetError {
    /// Not `{"keys":[…]}`.
    #[error("not a key set")]
    NotAKeySet,
    /// More keys than anybody needs.
    #[error("key set has more than {KEYS_MAX} keys")]
    TooMany,
    /// No key of it can verify anything here.
    #[error("no key of the set fits the configured algorithms")]
    NoneFits,
}

impl KeyTable {
    /// A table of keys under their names.
    pub(super) fn of(keys: impl IntoIterator<Item = (String, VerifyingKey)>) -> Self {
        let by_kid: HashMap<_, _> = keys.into_iter().map(|(kid, key)| (kid, Arc::new(key))).collect();
        let only = if by_kid.len() == 1 { by_kid.values().next().cloned() } else { None };
        Self { by_kid, only }
    }

    /// Reads a JSON Web Key Set (RFC 7517, section 5), leaving out the keys that do not fit.
    ///
    /// # Errors
    /// [`KeySetError`]; the caller keeps the table that it has.
    pub(super) fn from_key_set(document: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeySetError> {
        let mut set = strict_object(document).map_err(|_| KeySetError::NotAKeySet)?;
        let Some(Value::Array(keys)) = set.remove("keys") else { return Err(KeySetError::NotAKeySet) };
        if keys.len() > KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        let table = Self::of(keys.into_iter().filter_map(|key| public_key(key, algorithms)));
        if table.by_kid.is_empty() { Err(KeySetError::NoneFits) } else { Ok(table) }
    }

    /// The key that a token names.
    pub(super) fn find(&self, kid: Option<&str>) -> Option<Arc<VerifyingKey>> {
        match kid {
            Some(kid) => self.by_kid.get(kid).cloned(),
            None => self.only.clone(),
        }
    }
}

/// One key of a set, if it is a public signature key that fits: its type, use, operations, curve and algorithm.
fn public_key(key: Value, algorithms: &[Algorithm]) -> Option<(String, VerifyingKey)> {
    let members = key.as_object()?;
    // A symmetric key that can be fetched is no secret; a private key is a fault of the issuer's, not ours to use.
    if members.contains_key("k") || members.contains_key("d") {
        return None;
    }
    let jwk: Jwk = serde_json::from_value(key).ok()?;
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    let operations = jwk.common.key_operations.as_ref();
    let verifies = operations.is_none_or(|list| list.contains(&KeyOperations::Verify));
    if !signs || !verifies {
        return None;
    }
    let mut fitting: Vec<_> = algorithms.iter().copied().filter(|algorithm| fits(&jwk, *algorithm)).collect();
    if let Some(named) = jwk.common.key_algorithm {
        fitting.retain(|algorithm| named.to_string() == format!("{algorithm:?}"));
    }
    let kid = jwk.common.key_id.clone().unwrap_or_default();
    if kid.len() > KID_BYTES_MAX {
        return None;
    }
    Some((kid, VerifyingKey::new(DecodingKey::from_jwk(&jwk).ok()?, &fitting)?))
}

/// Does the type of key, and the curve, fit the algorithm?
fn fits(jwk: &Jwk, algorithm: Algorithm) -> bool {
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => algorithm.family() == AlgorithmFamily::Rsa,
        AlgorithmParameters::EllipticCurve(key) => {
            matches!((&key.curve, algorithm), (EllipticCurve::P256, Algorithm::ES256) | (EllipticCurve::P384, Algorithm::ES384))
        }
        AlgorithmParameters::OctetKeyPair(key) => key.curve == EllipticCurve::Ed25519 && algorithm == Algorithm::EdDSA,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(document: &str, algorithms: &[Algorithm]) -> Result<usize, KeySetError> {
        KeyTable::from_key_set(document.as_bytes(), algorithms).map(|table| table.by_kid.len())
    }

    const EC: &str = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;

    #[test]
    fn symmetric_private_and_unfitting_keys_are_left_out() {
        let es256 = [Algorithm::ES256];
        let one = |members: &str| format!(r#"{{"keys":[{{{members}}}]}}"#);
        assert_eq!(check(&one(&format!(r#"{EC},"kid":"a","use":"sig","alg":"ES256""#)), &es256), Ok(1));
        let none = Err(KeySetError::NoneFits);
        assert_eq!(check(&one(r#""kty":"oct","kid":"a","k":"c2VjcmV0""#), &[Algorithm::HS256]), none);
        assert_eq!(check(&one(&format!(r#"{EC},"kid":"a","use":"enc""#)), &es256), none);
        assert_eq!(check(&one(&format!(r#"{EC},"kid":"a","alg":"ES384""#)), &es256), none);
        assert_eq!(check(&one(&format!(r#"{EC},"kid":"a","key_ops":["sign"]"#)), &es256), none);
        assert_eq!(check(&one(&format!(r#"{EC},"kid":"a","d":"AA""#)), &es256), none);
        assert_eq!(check(&one(&format!(r#"{EC},"kid":"a""#)), &[Algorithm::RS256]), none);
        assert_eq!(check(&one(&format!(r#"{EC},"kid":"{}""#, "k".repeat(300))), &es256), none);
    }

    #[test]
    fn what_is_no_key_set_is_refused_whole() {
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert!(check(text, &[Algorithm::ES256]).is_err(), "{text}");
        }
        let many = format!(r#"{{"keys":[{}]}}"#, vec!["{}"; 101].join(","));
        assert_eq!(check(&many, &[Algorithm::ES256]), Err(KeySetError::TooMany));
    }
}
