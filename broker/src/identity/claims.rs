use serde_json::{Map, Value};

use super::{Principal, TokenRefusal};

/// Claim by which the pool's tokens tell how often their user had been revoked when they were issued.
///
/// `iat` counts whole seconds: a token issued in the second of a revocation, but after it, could not be told from
/// one issued before. A counter can.
pub(super) const GENERATION_CLAIM: &str = "countersign:generation";

/// Longest accepted `sub`: it is kept for each connection and names it in other systems' headers.
const SUBJECT_BYTES_MAX: usize = 256;

/// What an issuer's tokens must say.
#[derive(Debug, Clone)]
pub(super) struct ClaimRules {
    /// Name of the issuer as configured.
    pub(super) name: String,
    /// Accepted values of `aud`, or of `client_id` where there is no `aud`.
    pub(super) audiences: Vec<String>,
    /// Accepted values of `token_use`; empty: not asked for.
    pub(super) token_use: Vec<String>,
    /// Refuse tokens without `iat` and generation.
    pub(super) own: bool,
}

impl ClaimRules {
    /// Checks the claims of a token whose signature has been verified.
    ///
    /// `now` and `leeway` are seconds.
    ///
    /// # Errors
    /// [`ClaimFault`]: a claim that is there with the wrong JSON type counts as wrong, never as absent (CVE-2026-25537).
    pub(super) fn check(&self, claims: Map<String, Value>, now: u64, leeway: u64) -> Result<Principal, ClaimFault> {
        let expires_at = date(&claims, "exp")?.ok_or(ClaimFault::Missing("exp"))?;
        let issued_at = date(&claims, "iat")?;
        let not_before = date(&claims, "nbf")?;
        if now >= expires_at.saturating_add(leeway) {
            return Err(ClaimFault::Expired);
        }
        let latest = now.saturating_add(leeway);
        for (name, time) in [("iat", issued_at), ("nbf", not_before)] {
            if time.is_some_and(|time| time > latest) {
                return Err(ClaimFault::Immature(name));
            }
        }
        let subject = text(&claims, "sub")?.ok_or(ClaimFault::Missing("sub"))?;
        if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX {
            return Err(ClaimFault::Mistyped("sub"));
        }
        let subject = subject.to_owned();
        self.check_audience(&claims)?;
        self.check_use(&claims)?;
        if self.own && issued_at.is_none() {
            return Err(ClaimFault::Missing("iat"));
        }
        if self.own && generation(&claims).is_none() {
            return Err(ClaimFault::Missing(GENERATION_CLAIM));
        }
        let username = match text(&claims, "cognito:username")? {
            Some(name) => Some(name),
            None => text(&claims, "username")?,
        };
        let username = username.unwrap_or(&subject).to_owned();
        let issuer = self.name.clone();
        Ok(Principal { subject, username, issuer, issued_at: issued_at.unwrap_or(0), expires_at, claims })
    }

    /// `aud` is a text or a list of texts, one of them accepted; without it, `client_id` must be.
    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), ClaimFault> {
        let accepted = |value: &str| self.audiences.iter().any(|audience| audience == value);
        let fits = match claims.get("aud") {
            Some(Value::String(audience)) => accepted(audience),
            Some(Value::Array(list)) => {
                list.iter().all(Value::is_string) && list.iter().filter_map(Value::as_str).any(accepted)
            }
            Some(_) => false,
            None => text(claims, "client_id")?.is_some_and(accepted),
        };
        if fits { Ok(()) } else { Err(ClaimFault::Audience) }
    }

    fn check_use(&self, claims: &Map<String, Value>) -> Result<(), ClaimFault> {
        let token_use = text(claims, "token_use")?;
        let fits =
            self.token_use.is_empty() || token_use.is_some_and(|used| self.token_use.iter().any(|accepted| accepted == used));
        if fits { Ok(()) } else { Err(ClaimFault::Use) }
    }

    /// A fault in words, for an operator: whoever presents a token hears nothing of it. Times are seconds.
    pub(super) fn explain(&self, fault: ClaimFault, claims: &Map<String, Value>, now: u64) -> String {
        let value = |name: &str| claims.get(name).map_or_else(|| "missing".to_owned(), |value| format!("`{}`", plain(value)));
        let seconds = |name: &'static str| date(claims, name).ok().flatten().unwrap_or(now);
        match fault {
            ClaimFault::Missing(name) => format!("{name} is missing"),
            ClaimFault::Mistyped(name) => format!("{name} is {}, which is not of its kind or length", value(name)),
            ClaimFault::Expired => format!("it expired {} s ago (exp is {})", now.saturating_sub(seconds("exp")), value("exp")),
            ClaimFault::Immature(name) => {
                format!("{name} is {}, {} s in the future", value(name), seconds(name).saturating_sub(now))
            }
            ClaimFault::Audience => {
                let name = if claims.contains_key("aud") { "aud" } else { "client_id" };
                format!("{name} is {}, accepted are: {}", value(name), self.audiences.join(", "))
            }
            ClaimFault::Use => format!("token_use is {}, accepted are: {}", value("token_use"), self.token_use.join(", ")),
        }
    }
}

/// Which claim is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClaimFault {
    /// It is not there and must be.
    Missing(&'static str),
    /// It has another JSON type than it must, or is empty or too long.
    Mistyped(&'static str),
    /// `exp` has passed.
    Expired,
    /// This time is in the future.
    Immature(&'static str),
    /// `aud`, or `client_id` without one, is not accepted.
    Audience,
    /// `token_use` is not accepted.
    Use,
}

impl From<ClaimFault> for TokenRefusal {
    /// What is counted.
    fn from(fault: ClaimFault) -> Self {
        match fault {
            ClaimFault::Expired => Self::Expired,
            ClaimFault::Immature(_) => Self::Immature,
            ClaimFault::Missing(_) | ClaimFault::Mistyped(_) | ClaimFault::Audience | ClaimFault::Use => Self::WrongClaims,
        }
    }
}

/// A value as people read it: text without its quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| text.escape_debug().to_string())
}

/// The generation in the claims of one of the pool's tokens.
pub(super) fn generation(claims: &Map<String, Value>) -> Option<u64> {
    claims.get(GENERATION_CLAIM)?.as_u64()
}

/// A `NumericDate` (RFC 7519, section 2) in whole seconds; fractions are cut.
fn date(claims: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, ClaimFault> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => match (number.as_u64(), number.as_f64()) {
            (Some(seconds), _) => Ok(Some(seconds)),
            // Far above any date and below 2^53, so the conversion is exact enough and cannot wrap.
            (None, Some(seconds)) if (0.0..1e15).contains(&seconds) => Ok(Some(seconds as u64)),
            _ => Err(ClaimFault::Mistyped(name)),
        },
        Some(_) => Err(ClaimFault::Mistyped(name)),
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, ClaimFault> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(ClaimFault::Mistyped(name)),
    }
}
