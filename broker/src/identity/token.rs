use std::str::FromStr;

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::TokenRefusal;
use super::json::strict_object;
use super::random::from_base64url;

/// Longest accepted `kid`; it is a look-up key and nothing else.
pub(super) const KID_BYTES_MAX: usize = 256;

/// Header members that would let a token choose its own key, or ask for what is not understood here.
///
/// Source: RFC 8725, sections 3.1 and 3.10; RFC 7515, section 4.1.11.
const FORBIDDEN_HEADERS: [&str; 6] = ["jku", "x5u", "x5c", "jwk", "crit", "b64"];

/// A token taken apart, nothing of it believed.
#[derive(Debug)]
pub(super) struct UnverifiedToken<'a> {
    /// What the header claims; compared with the key's own list, never followed.
    pub(super) algorithm: Algorithm,
    /// Which key the header names.
    pub(super) kid: Option<String>,
    /// The payload.
    pub(super) claims: Map<String, Value>,
    /// What was signed: header and payload as they came.
    pub(super) signed: &'a str,
    /// Base64url of the signature.
    pub(super) signature: &'a str,
}

impl<'a> UnverifiedToken<'a> {
    /// Takes a compact JWS apart (RFC 7515, section 7.1).
    ///
    /// # Errors
    /// [`TokenRefusal::Malformed`], or [`TokenRefusal::UnknownKey`] for an algorithm that is none, `none` included.
    pub(super) fn parse(token: &'a str) -> Result<Self, TokenRefusal> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenRefusal::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenRefusal::Malformed)?;
        if payload.contains('.') || signature.is_empty() {
            return Err(TokenRefusal::Malformed);
        }
        let (algorithm, kid) = check_header(&decode(header)?)?;
        Ok(Self { algorithm, kid, claims: decode(payload)?, signed, signature })
    }

    /// The issuer that it claims.
    pub(super) fn issuer(&self) -> Result<&str, TokenRefusal> {
        self.claims.get("iss").and_then(Value::as_str).ok_or(TokenRefusal::WrongClaims)
    }
}

fn decode(part: &str) -> Result<Map<String, Value>, TokenRefusal> {
    let bytes = from_base64url(part).ok_or(TokenRefusal::Malformed)?;
    strict_object(&bytes).map_err(|_| TokenRefusal::Malformed)
}

fn check_header(header: &Map<String, Value>) -> Result<(Algorithm, Option<String>), TokenRefusal> {
    if FORBIDDEN_HEADERS.iter().any(|name| header.contains_key(*name)) {
        return Err(TokenRefusal::Malformed);
    }
    let kind_fits = match header.get("typ") {
        None => true,
        // An access token says `at+jwt` (RFC 9068); other kinds, such as logout tokens, open nothing here.
        Some(Value::String(kind)) => kind.eq_ignore_ascii_case("jwt") || kind.eq_ignore_ascii_case("at+jwt"),
        Some(_) => false,
    };
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= KID_BYTES_MAX => Some(kid.clone()),
        Some(_) => return Err(TokenRefusal::Malformed),
    };
    let Some(Value::String(algorithm)) = header.get("alg") else { return Err(TokenRefusal::Malformed) };
    if !kind_fits {
        return Err(TokenRefusal::Malformed);
    }
    Ok((Algorithm::from_str(algorithm).map_err(|_| TokenRefusal::UnknownKey)?, kid))
}
