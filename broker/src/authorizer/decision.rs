//! The rules of a decision. Nothing here waits, reads a clock or remembers.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use countersign_node_proto::ConnectionId;

use super::cache::Known;
use crate::config::Mode;
use crate::edge::{IdentityHeaders, NO_VALUE, identity_value};
use crate::identity::Principal;
use crate::registry::{ConnectionState, LiveConnection};
use crate::telemetry::DecisionOutcome;

/// Who calls, as the headers of an allow say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The connection id, or `-`.
    pub connection: HeaderValue,
    /// Subject and origin.
    pub headers: Arc<IdentityHeaders>,
    /// What the call showed beside a connection id, and how long that may be taken for shown.
    pub shown: Shown,
}

/// What a call showed of its connection. A proxy that keeps answers must ask again when it may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// The id, or nothing but a token.
    Id,
    /// A ticket, good for so long from now.
    Ticket {
        /// Whole seconds.
        left_seconds: u64,
    },
    /// A proof of this one call.
    Proof {
        /// SHA-256 of the body, in base64url, if the page signed one.
        body_digest: Option<HeaderValue>,
    },
}

/// Every way to be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// No connection id was sent.
    ConnectionMissing,
    /// What was sent is no connection id, or there were several.
    ConnectionMalformed,
    /// No such connection: it never was, or it closed.
    ConnectionUnknown,
    /// Its challenge was not answered.
    ConnectionUnverified,
    /// The token that it was opened with expired.
    ConnectionExpired,
    /// No ticket was sent.
    TicketMissing,
    /// The ticket is none of this cluster's, or there were several.
    TicketInvalid,
    /// The ticket's time is over.
    TicketExpired,
    /// The ticket may be of a key that this node has not heard of: the node does not know.
    TicketUndecided,
    /// No proof was sent.
    ProofMissing,
    /// The proof is not of this call, or not by this page, or there were several.
    ProofInvalid,
    /// The proof was used before.
    ProofReplayed,
    /// The node that knows this page's proofs did not answer: nobody knows.
    ProofUndecided,
    /// The proxy did not say which call it asks about.
    CallMissing,
    /// The connection's client asked that its calls show more than its id.
    ModeTooLow,
    /// No token was sent.
    TokenMissing,
    /// The token is not valid, or there were several.
    TokenInvalid,
    /// Token and connection are of different principals.
    PrincipalMismatch,
    /// The registry did not answer: the node does not know.
    RegistryUnavailable,
    /// The issuer's keys cannot be had: the node does not know.
    TokenUndecided,
}

/// How a refusal looks from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusedRow {
    /// The status.
    pub status: StatusCode,
    /// Stable code of the body.
    pub code: &'static str,
    /// Sentence of the body.
    pub message: &'static str,
    /// `WWW-Authenticate`; on every 401.
    pub challenge: Option<&'static str>,
}

/// The challenge for a connection id.
const CONNECTION: Option<&str> = Some(r#"Connection realm="countersign""#);
/// The challenge for a ticket.
const TICKET: Option<&str> = Some(r#"Ticket realm="countersign""#);
/// The challenge for a proof.
const PROOF: Option<&str> = Some(r#"Proof realm="countersign""#);
/// The challenge for a token (RFC 6750, section 3).
const BEARER: Option<&str> = Some(r#"Bearer realm="countersign""#);
/// The same, after one that is not valid.
const BEARER_INVALID: Option<&str> = Some(r#"Bearer realm="countersign", error="invalid_token""#);

impl Refused {
    /// Every refusal.
    pub const ALL: &'static [Self] = &[
        Self::ConnectionMissing,
        Self::ConnectionMalformed,
        Self::ConnectionUnknown,
        Self::ConnectionUnverified,
        Self::ConnectionExpired,
        Self::TicketMissing,
        Self::TicketInvalid,
        Self::TicketExpired,
        Self::TicketUndecided,
        Self::ProofMissing,
        Self::ProofInvalid,
        Self::ProofReplayed,
        Self::ProofUndecided,
        Self::CallMissing,
        Self::ModeTooLow,
        Self::TokenMissing,
        Self::TokenInvalid,
        Self::PrincipalMismatch,
        Self::RegistryUnavailable,
        Self::TokenUndecided,
    ];

    /// The one table from refusal to answer.
    #[must_use]
    pub const fn row(self) -> RefusedRow {
        let denied = StatusCode::UNAUTHORIZED;
        let (status, code, message, challenge) = match self {
            Self::ConnectionMissing => (denied, "connection_missing", "send the id of an open connection", CONNECTION),
            Self::ConnectionMalformed => {
                (denied, "connection_malformed", "send exactly one connection id, as the socket got it", CONNECTION)
            }
            Self::ConnectionUnknown => (denied, "connection_unknown", "no such connection is open", CONNECTION),
            Self::ConnectionUnverified => {
                (denied, "connection_unverified", "the connection has not answered its challenge", CONNECTION)
            }
            Self::ConnectionExpired => (denied, "connection_expired", "the connection's token expired", CONNECTION),
            Self::TicketMissing => (denied, "ticket_missing", "send the ticket that the socket was pushed", TICKET),
            Self::TicketInvalid => (denied, "ticket_invalid", "send exactly one ticket, as the socket was pushed it", TICKET),
            Self::TicketExpired => (denied, "ticket_expired", "send the ticket that the socket was pushed last", TICKET),
            Self::TicketUndecided => (StatusCode::SERVICE_UNAVAILABLE, "keys_unavailable", "cannot tell now, try again", None),
            Self::ProofMissing => (denied, "proof_missing", "send a proof of this call beside the ticket", PROOF),
            Self::ProofInvalid => (denied, "proof_invalid", "the proof is not of this call, or its nonce is not good", PROOF),
            Self::ProofReplayed => (denied, "proof_replayed", "each call needs a proof of its own", PROOF),
            Self::ProofUndecided => (StatusCode::SERVICE_UNAVAILABLE, "owner_unavailable", "cannot tell now, try again", None),
            Self::CallMissing => (denied, "call_missing", "the proxy did not say which call this is", PROOF),
            Self::ModeTooLow => (denied, "mode_too_low", "this connection's calls must show more than its id", TICKET),
            Self::TokenMissing => (denied, "token_missing", "send a token: Authorization: Bearer", BEARER),
            Self::TokenInvalid => (denied, "token_invalid", "the token is not valid", BEARER_INVALID),
            Self::PrincipalMismatch => {
                (StatusCode::FORBIDDEN, "principal_mismatch", "token and connection are of different principals", None)
            }
            Self::RegistryUnavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "registry_unavailable", "cannot tell now, try again", None)
            }
            Self::TokenUndecided => (StatusCode::SERVICE_UNAVAILABLE, "issuer_unavailable", "cannot tell now, try again", None),
        };
        RefusedRow { status, code, message, challenge }
    }

    /// How it is counted.
    #[must_use]
    pub fn outcome(self) -> DecisionOutcome {
        match self.row().status {
            StatusCode::FORBIDDEN => DecisionOutcome::Forbid,
            StatusCode::SERVICE_UNAVAILABLE => DecisionOutcome::Unknown,
            _ => DecisionOutcome::Deny,
        }
    }
}

/// The value of a header that may be there once; an error if there are several.
///
/// # Errors
/// `several`.
pub fn sole<'a>(headers: &'a HeaderMap, name: &HeaderName, several: Refused) -> Result<Option<&'a HeaderValue>, Refused> {
    let mut values = headers.get_all(name);
    let value = values.next();
    if values.next().is_some() { Err(several) } else { Ok(value) }
}

/// The connection id of a request, and the header value that carried it.
///
/// # Errors
/// [`Refused`] if there is none, several, or one that is no id.
pub fn credential<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<(ConnectionId, &'a HeaderValue), Refused> {
    let mut values = headers.get_all(name);
    let value = values.next().ok_or(Refused::ConnectionMissing)?;
    if values.next().is_some() {
        return Err(Refused::ConnectionMalformed);
    }
    let id = ConnectionId::parse(value.as_bytes()).map_err(|_| Refused::ConnectionMalformed)?;
    Ok((id, value))
}

/// The bearer token of a request.
///
/// # Errors
/// [`Refused`] if there is none, or several, or another scheme.
pub fn bearer(headers: &HeaderMap) -> Result<&str, Refused> {
    let mut values = headers.get_all(actix_web::http::header::AUTHORIZATION);
    let value = values.next().ok_or(Refused::TokenMissing)?;
    if values.next().is_some() {
        return Err(Refused::TokenInvalid);
    }
    let text = value.to_str().map_err(|_| Refused::TokenInvalid)?;
    let (scheme, token) = text.split_once(' ').ok_or(Refused::TokenMissing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim_matches(' ')) } else { Err(Refused::TokenMissing) }
}

/// Judges a connection of this node by its live state. `now` in seconds since the Unix epoch; `expiry_counts`: a token's
/// expiry ends its connection.
///
/// # Errors
/// [`Refused`], for a connection that is not verified or whose token expired.
pub fn judge_live(connection: &LiveConnection, now: u64, expiry_counts: bool) -> Result<Arc<IdentityHeaders>, Refused> {
    match connection.state() {
        ConnectionState::Verified => {}
        ConnectionState::Closed => return Err(Refused::ConnectionUnknown),
        ConnectionState::Accepted | ConnectionState::Challenged | ConnectionState::Lapsed => {
            return Err(Refused::ConnectionUnverified);
        }
    }
    let principal = connection.principal();
    if expiry_counts && principal.as_ref().is_some_and(|principal| principal.expires_at <= now) {
        return Err(Refused::ConnectionExpired);
    }
    Ok(connection.identity(principal.as_ref()))
}

/// Judges a connection of another node by what is known of it.
///
/// # Errors
/// As [`judge_live`].
pub fn judge_known(known: Option<&Known>, now: u64) -> Result<&Known, Refused> {
    let known = known.ok_or(Refused::ConnectionUnknown)?;
    if !known.verified {
        return Err(Refused::ConnectionUnverified);
    }
    if known.expires_at.is_some_and(|expires_at| expires_at <= now) {
        return Err(Refused::ConnectionExpired);
    }
    Ok(known)
}

/// Does the id alone speak for a connection whose calls must show `mode`?
///
/// # Errors
/// [`Refused::ModeTooLow`].
pub fn id_suffices(mode: Mode) -> Result<(), Refused> {
    if mode > Mode::Bearer { Err(Refused::ModeTooLow) } else { Ok(()) }
}

/// Are token and connection of one principal: the same subject of the same issuer? A connection without one takes the token's.
///
/// # Errors
/// [`Refused::PrincipalMismatch`].
pub fn agree(connection: Arc<IdentityHeaders>, token: &Principal) -> Result<Arc<IdentityHeaders>, Refused> {
    let (subject, issuer) = (identity_value(Some(&token.subject)), identity_value(Some(&token.issuer)));
    if connection.subject == subject && connection.issuer == issuer {
        Ok(connection)
    } else if connection.subject == NO_VALUE {
        Ok(Arc::new(IdentityHeaders { subject, issuer, origin: connection.origin.clone() }))
    } else {
        Err(Refused::PrincipalMismatch)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header;

    use super::*;

    #[test]
    fn exactly_one_well_formed_credential_is_taken() {
        let name = HeaderName::from_static("connectionid");
        let id = ConnectionId::from_bytes([7; 16]).encode();
        let check = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|value| headers.append(name.clone(), HeaderValue::from_str(value).unwrap()));
            credential(&headers, &name).map(|(id, _)| id)
        };
        assert_eq!(check(&[]), Err(Refused::ConnectionMissing));
        assert_eq!(check(&[&id]), Ok(ConnectionId::from_bytes([7; 16])));
        for malformed in ["", "-", "undefined", &id[1..], &format!("{id}="), &format!("{id},{id}"), "AAAAAAAAAAAAAAAAAAAAAB"] {
            assert_eq!(check(&[malformed]), Err(Refused::ConnectionMalformed), "{malformed}");
        }
        assert_eq!(check(&[&id, &id]), Err(Refused::ConnectionMalformed));
    }

    #[test]
    fn exactly_one_bearer_token_is_taken() {
        let check = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|value| headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap()));
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(check(&["Bearer a.b.c"]), Ok("a.b.c".to_owned()));
        assert_eq!(check(&["bearer  a.b.c"]), Ok("a.b.c".to_owned()));
        assert_eq!(check(&[]), Err(Refused::TokenMissing));
        assert_eq!(check(&["Basic YTpi"]), Err(Refused::TokenMissing));
        assert_eq!(check(&["Bearer"]), Err(Refused::TokenMissing));
        assert_eq!(check(&["Bearer a", "Bearer b"]), Err(Refused::TokenInvalid));
    }

    #[test]
    fn every_refusal_is_a_401_with_a_challenge_or_says_why_not() {
        let mut codes = std::collections::HashSet::new();
        for refused in Refused::ALL {
            let row = refused.row();
            assert!(codes.insert(row.code), "{} twice", row.code);
            assert!([401, 403, 503].contains(&row.status.as_u16()));
            assert_eq!(row.challenge.is_some(), row.status == StatusCode::UNAUTHORIZED, "{refused:?}");
        }
    }

    #[test]
    fn a_token_is_its_connections_only_if_subject_and_issuer_are() {
        let token = |issuer: &str, subject: &str| Principal {
            subject: subject.to_owned(),
            username: "ada".to_owned(),
            issuer: issuer.to_owned(),
            issued_at: 0,
            expires_at: 0,
            claims: serde_json::Map::new(),
        };
        let check = |connection: Option<(&str, &str)>, token: &Principal| {
            let (issuer, subject) = connection.unzip();
            agree(Arc::new(IdentityHeaders::new(subject, issuer, Some("https://app.example"))), token).map(|headers| {
                let texts = [&headers.subject, &headers.issuer, &headers.origin].map(|value| value.to_str().unwrap());
                texts.join(" ")
            })
        };
        let agreed = Ok("ada pool https://app.example".to_owned());
        assert_eq!(check(Some(("pool", "ada")), &token("pool", "ada")), agreed);
        assert_eq!(check(None, &token("pool", "ada")), agreed, "a connection without a token takes this one's");
        for other in [token("open", "ada"), token("pool", "eve")] {
            assert_eq!(check(Some(("pool", "ada")), &other), Err(Refused::PrincipalMismatch));
        }
    }

    #[test]
    fn expiry_ends_what_is_known_of_a_connection() {
        let headers = Arc::new(IdentityHeaders::new(Some("ada"), Some("pool"), None));
        let known = |verified, expires_at| Known {
            node: countersign_node_proto::NodeId::from_bytes([0; 8]),
            subject: None,
            issuer: None,
            verified,
            mode: Mode::Bearer,
            expires_at,
            headers: headers.clone(),
        };
        assert_eq!(judge_known(None, 10), Err(Refused::ConnectionUnknown));
        assert_eq!(judge_known(Some(&known(false, None)), 10), Err(Refused::ConnectionUnverified));
        assert_eq!(judge_known(Some(&known(true, Some(10))), 10), Err(Refused::ConnectionExpired));
        assert!(judge_known(Some(&known(true, Some(11))), 10).is_ok());
        assert!(judge_known(Some(&known(true, None)), u64::MAX).is_ok());
    }
}
