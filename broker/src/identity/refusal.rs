use crate::telemetry::TokenOutcome;

/// Why a token was refused.
///
/// The reason is for metrics and logs. To whoever presented the token there is one text, so that an answer never
/// tells how close a forgery came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("token refused")]
pub enum TokenRefusal {
    /// Not a token, above the size limit, or with a header that must not be there.
    Malformed,
    /// No such issuer, key or algorithm.
    UnknownKey,
    /// Signature does not verify.
    BadSignature,
    /// Expired.
    Expired,
    /// Not valid yet, or issued in the future.
    Immature,
    /// A claim is missing, mistyped or not accepted here.
    WrongClaims,
    /// Revoked by its issuer, which is this node's own pool.
    Revoked,
    /// The issuer's keys, or the pool's revocations, cannot be had: nothing is known of the token, and it may be presented
    /// again later.
    Unavailable,
}

impl TokenRefusal {
    /// The label under which it is counted.
    #[must_use]
    pub fn outcome(self) -> TokenOutcome {
        match self {
            Self::Malformed => TokenOutcome::Malformed,
            Self::UnknownKey => TokenOutcome::UnknownKey,
            Self::BadSignature => TokenOutcome::BadSignature,
            Self::Expired => TokenOutcome::Expired,
            Self::Immature => TokenOutcome::Immature,
            Self::WrongClaims => TokenOutcome::WrongClaims,
            Self::Revoked => TokenOutcome::Revoked,
            Self::Unavailable => TokenOutcome::Unavailable,
        }
    }
}
