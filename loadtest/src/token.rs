//! Tokens of the load test's own issuer.

use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
use serde::Serialize;

use crate::Outcome;
use crate::swarm::Verified;

/// A token outlives every run.
const LIFETIME_SECONDS: u64 = 3_600;

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: String,
    iat: u64,
    exp: u64,
}

/// A token of its own for the socket numbered `place`, signed with HS256.
///
/// # Errors
/// If the claims cannot be signed.
pub(crate) fn mint(wanted: &Verified, place: usize) -> Outcome<String> {
    let now = get_current_timestamp();
    let claims = Claims {
        iss: &wanted.issuer,
        aud: &wanted.audience,
        sub: format!("load-{}-{place}", std::process::id()),
        iat: now,
        exp: now + LIFETIME_SECONDS,
    };
    Ok(encode(&Header::default(), &claims, &EncodingKey::from_secret(wanted.secret.as_bytes()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_signed_and_differ() {
        let wanted = Verified {
            path: "/ws".to_owned(),
            origin: String::new(),
            secret: "secret".to_owned(),
            issuer: "issuer".to_owned(),
            audience: "audience".to_owned(),
            channel: None,
            shows: crate::swarm::Shows::Id,
        };
        let [first, second] = [1, 2].map(|place| mint(&wanted, place).unwrap());
        assert_eq!(first.split('.').count(), 3);
        assert_ne!(first, second);
    }
}
