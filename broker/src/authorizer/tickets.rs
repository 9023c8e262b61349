//! Decisions on calls that show a ticket, with or without a proof.

use std::sync::Arc;

use actix_web::http::header::{HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_node_proto::{ProofQuestion, ProofVerdict, Question, Reply};

use super::call::{Asked, CallText};
use super::decision::{Identity, Refused, Shown, judge_known, judge_live, sole};
use super::judge::{Authorizer, Decision, Wait, unix_now};
use crate::config::Mode;
use crate::edge::{CREDENTIAL_HEADERS, IdentityHeaders, NO_VALUE};
use crate::registry::LiveConnection;
use crate::telemetry::DecisionSource;
use crate::ticket::{Call, Claims, Proof, ProofError, TicketError};

/// Carries the ticket.
pub(super) const TICKET: HeaderName = HeaderName::from_static(CREDENTIAL_HEADERS[0]);
/// Carries the proof.
const PROOF: HeaderName = HeaderName::from_static(CREDENTIAL_HEADERS[1]);

/// A ticket of another node's connection that may count, and what is left to be found out.
pub(super) struct Foreign<'a> {
    ticket: &'a HeaderValue,
    claims: Claims,
    /// What is remembered of its connection, if anything.
    remembered: Option<Result<(), Refused>>,
    proof: Option<Signed<'a>>,
    mode: Mode,
}

/// A proof, the text that it was read from, and the call that it must be of.
struct Signed<'a> {
    text: &'a HeaderValue,
    proof: Proof,
    call: CallText,
}

impl Authorizer {
    /// A call that shows a ticket. The id, if it is there too, counts for nothing.
    pub(super) fn judge_ticket<'a>(
        &self,
        asked: &Asked<'a>,
        ticket: &'a HeaderValue,
        floor: Mode,
    ) -> Result<Decision, Wait<'a>> {
        let claims = match self.check(ticket.as_bytes()) {
            Ok(claims) => claims,
            Err(refused) => return Ok(Decision::refused(refused, DecisionSource::Request, floor)),
        };
        let mode = floor.max(claims.mode);
        let proof = match (mode == Mode::Proof).then(|| read_proof(asked)).transpose() {
            Ok(proof) => proof,
            Err(refused) => return Ok(Decision::refused(refused, DecisionSource::Request, mode)),
        };
        if claims.owner == self.parts.node {
            let judged =
                self.judge_own(ticket.as_bytes(), &claims, proof.as_ref().map(|signed| (&signed.proof, signed.call.as_call())));
            let verdict = judged.map(|()| self.identity(&claims, proof.as_ref()));
            return Ok(Decision { verdict, source: DecisionSource::Owner, mode: Some(mode) });
        }
        let remembered = self.stands(&claims);
        if remembered == Some(Ok(())) && proof.is_none() {
            self.called(claims.owner, claims.connection);
            let verdict = Ok(self.identity(&claims, None));
            return Ok(Decision { verdict, source: DecisionSource::Ticket, mode: Some(mode) });
        }
        Err(Wait::Ticket(Box::new(Foreign { ticket, claims, remembered, proof, mode })))
    }

    /// A ticket of another node's connection about which somebody must be asked.
    pub(super) async fn judge_foreign(&self, foreign: Foreign<'_>) -> Decision {
        let Foreign { ticket, claims, remembered, proof, mode } = foreign;
        let (judged, source) = match &proof {
            // Who owns the connection knows it all by itself.
            Some(signed) => (self.ask_owner(ticket, &claims, signed).await, DecisionSource::Peer),
            None => self.judge_doubted(&claims, remembered).await,
        };
        let verdict = judged.map(|()| self.identity(&claims, proof.as_ref()));
        Decision { verdict, source, mode: Some(mode) }
    }

    /// A ticket that is not taken at its word.
    async fn judge_doubted(
        &self,
        claims: &Claims,
        remembered: Option<Result<(), Refused>>,
    ) -> (Result<(), Refused>, DecisionSource) {
        let (judged, source) = match remembered {
            Some(judged) => (judged, DecisionSource::Cache),
            None => {
                let loaded = self.load(claims.connection, Some(claims.owner)).await;
                let judged = loaded.and_then(|known| judge_known(known.as_deref(), unix_now()).map(drop));
                (judged, DecisionSource::Registry)
            }
        };
        if judged.is_ok() {
            self.called(claims.owner, claims.connection);
        }
        (judged, source)
    }

    /// Answers another node about a proof in the name of a connection of this one, and remembers that it was shown. Waits for
    /// nothing.
    #[must_use]
    pub fn answer(&self, question: &ProofQuestion) -> ProofVerdict {
        let ProofQuestion { ticket, proof, method, target } = question;
        let judged = self.check(ticket.as_bytes()).and_then(|claims| {
            let proof = Proof::parse(proof.as_bytes()).map_err(refused_proof)?;
            self.judge_own(ticket.as_bytes(), &claims, Some((&proof, Call { method, target })))
        });
        judged.map_or_else(verdict_of, |()| ProofVerdict::Good)
    }

    /// What a ticket says, if it counts.
    fn check(&self, ticket: &[u8]) -> Result<Claims, Refused> {
        self.parts.tickets.check(ticket).map_err(|error| match error {
            TicketError::Expired => Refused::TicketExpired,
            TicketError::UnknownKey if !self.parts.tickets.knows_all_keys() => Refused::TicketUndecided,
            TicketError::UnknownKey | TicketError::Malformed | TicketError::Forged | TicketError::Early => {
                Refused::TicketInvalid
            }
        })
    }

    /// Judges by the live state what was shown of a connection of this node.
    fn judge_own(&self, ticket: &[u8], claims: &Claims, proof: Option<(&Proof, Call<'_>)>) -> Result<(), Refused> {
        let connection = self.own(claims)?;
        let now = unix_now();
        judge_live(&connection, now, self.parts.expiry_ends_connection)?;
        if let Some((proof, call)) = proof {
            self.parts.tickets.judge_proof(&connection, (ticket, claims), proof, call).map_err(refused_proof)?;
        }
        connection.called(now);
        Ok(())
    }

    /// The connection that a ticket of this node was minted for.
    fn own(&self, claims: &Claims) -> Result<Arc<LiveConnection>, Refused> {
        let connection = self.parts.live.get(claims.connection).ok_or(Refused::ConnectionUnknown)?;
        if self.parts.tickets.is_of(claims, &connection) { Ok(connection) } else { Err(Refused::ConnectionUnknown) }
    }

    /// Does the connection of another node's ticket still stand, as far as is known without asking? None: it is in doubt.
    fn stands(&self, claims: &Claims) -> Option<Result<(), Refused>> {
        // A node that is not heard may have died without a word: then its lease decides, which the registry knows.
        if self.parts.bus.hears(claims.owner) && !self.suspects.doubts(claims) {
            return Some(Ok(()));
        }
        // What is remembered was loaded after the doubt was heard: that drops what was remembered before.
        let known = self.cache.get(claims.connection)?;
        Some(judge_known(known.as_deref(), unix_now()).map(drop))
    }

    /// Asks the node that owns the connection whether a proof is good: only there each counts once.
    async fn ask_owner(&self, ticket: &HeaderValue, claims: &Claims, signed: &Signed<'_>) -> Result<(), Refused> {
        let text = |value: &HeaderValue| value.to_str().map(str::to_owned);
        let (Ok(ticket), Ok(proof)) = (text(ticket), text(signed.text)) else { return Err(Refused::ProofInvalid) };
        let CallText { method, target } = signed.call.clone();
        let question = Question::Proof(ProofQuestion { ticket, proof, method, target });
        match self.parts.asker.ask(claims.owner, question).await {
            Ok(Reply::Proof(verdict)) => refusal_of(verdict).map_or(Ok(()), Err),
            Ok(_) => Err(Refused::ProofUndecided),
            Err(error) => {
                tracing::debug!(owner = ?claims.owner, %error, "proof cannot be judged");
                Err(Refused::ProofUndecided)
            }
        }
    }

    /// Who calls, as the ticket says.
    fn identity(&self, claims: &Claims, proof: Option<&Signed<'_>>) -> Identity {
        let shown = match proof {
            Some(signed) => {
                let text = |digest: [u8; 32]| HeaderValue::try_from(URL_SAFE_NO_PAD.encode(digest)).unwrap_or(NO_VALUE);
                Shown::Proof { body_digest: signed.proof.body_digest.map(text) }
            }
            None => Shown::Ticket { left_seconds: claims.expires_at_ms.saturating_sub(self.parts.tickets.now_ms()) / 1_000 },
        };
        Identity {
            connection: HeaderValue::try_from(claims.connection.encode()).unwrap_or(NO_VALUE),
            headers: Arc::new(IdentityHeaders::new(
                claims.subject.as_deref(),
                claims.issuer.as_deref(),
                claims.origin.as_deref(),
            )),
            shown,
        }
    }
}

/// The proof of a request, and its call.
fn read_proof<'a>(asked: &Asked<'a>) -> Result<Signed<'a>, Refused> {
    let text = sole(asked.headers, &PROOF, Refused::ProofInvalid)?.ok_or(Refused::ProofMissing)?;
    let proof = Proof::parse(text.as_bytes()).map_err(refused_proof)?;
    let call = asked.call().ok_or(Refused::CallMissing)?;
    Ok(Signed { text, proof, call })
}

const fn refused_proof(error: ProofError) -> Refused {
    match error {
        ProofError::Invalid => Refused::ProofInvalid,
        ProofError::Replayed => Refused::ProofReplayed,
    }
}

/// What another node is told of a refusal.
const fn verdict_of(refused: Refused) -> ProofVerdict {
    match refused {
        Refused::TicketInvalid => ProofVerdict::TicketInvalid,
        Refused::TicketExpired => ProofVerdict::TicketExpired,
        Refused::ConnectionUnknown | Refused::ConnectionUnverified => ProofVerdict::ConnectionUnknown,
        Refused::ConnectionExpired => ProofVerdict::ConnectionExpired,
        Refused::ProofInvalid => ProofVerdict::ProofInvalid,
        Refused::ProofReplayed => ProofVerdict::ProofReplayed,
        _ => ProofVerdict::Unknown,
    }
}

/// What another node's verdict refuses; none: nothing.
const fn refusal_of(verdict: ProofVerdict) -> Option<Refused> {
    Some(match verdict {
        ProofVerdict::Good => return None,
        ProofVerdict::TicketInvalid => Refused::TicketInvalid,
        ProofVerdict::TicketExpired => Refused::TicketExpired,
        ProofVerdict::ConnectionUnknown => Refused::ConnectionUnknown,
        ProofVerdict::ConnectionExpired => Refused::ConnectionExpired,
        ProofVerdict::ProofInvalid => Refused::ProofInvalid,
        ProofVerdict::ProofReplayed => Refused::ProofReplayed,
        ProofVerdict::Unknown => Refused::ProofUndecided,
    })
}

#[cfg(test)]
#[path = "tickets_tests.rs"]
pub(super) mod tests;
