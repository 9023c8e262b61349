use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use countersign_node_proto::NodeId;

use super::claims::{Claims, TicketError};
use super::keys::TicketKeys;
use super::nonce::{NONCE_WINDOW_MS, Nonce};
use super::proof::{Call, Proof, ProofError};
use crate::config::{Mode, Settings};
use crate::identity::Clock;
use crate::registry::{ConnectionState, LiveConnection};
use crate::telemetry::Metrics;

/// Longest pause between two tickets: a nonce that was made at the end of its window is good for one window more.
const RENEW_MAX: Duration = Duration::from_millis(NONCE_WINDOW_MS / 10 * 8);
/// Shortest: the last tickets before a token expires would come ever faster.
const RENEW_MIN: Duration = Duration::from_secs(1);

/// A node's tickets: it mints for its live connections, and judges what is shown of them.
pub struct TicketOffice {
    node: NodeId,
    keys: Arc<TicketKeys>,
    ttl_ms: u64,
    floor: Mode,
    /// A token's expiry ends its connection (`gateway.token.expiry_ends_connection`), and so its tickets.
    expiry_counts: bool,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// What is pushed to a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The ticket's text.
    pub ticket: String,
    /// The nonce's text.
    pub nonce: String,
    /// Milliseconds from now until the ticket expires.
    pub expires_in_ms: u64,
    /// The next should follow within this.
    pub renew_in: Duration,
}

impl TicketOffice {
    /// The office of a node.
    #[must_use]
    pub fn new(settings: &Settings, node: NodeId, keys: Arc<TicketKeys>, clock: Clock, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            node,
            keys,
            ttl_ms: settings.authorizer.ticket.ttl_ms.0,
            floor: settings.authorizer.mode,
            expiry_counts: settings.gateway.token.expiry_ends_connection,
            clock,
            metrics,
        })
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Milliseconds since the Unix epoch, by this node's clock.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.clock.millis()
    }

    /// Does this connection's page need tickets? Only one that has a key, where bare ids do not do.
    #[must_use]
    pub fn serves(&self, connection: &LiveConnection) -> bool {
        connection.bound().is_some_and(|bound| self.floor.max(bound.mode) > Mode::Bearer)
    }

    /// A ticket and a nonce for a verified connection of this node. None for any other, and while the cluster's keys are
    /// not known.
    #[must_use]
    pub fn issue(&self, connection: &LiveConnection) -> Option<Issued> {
        let bound = connection.bound().filter(|_| connection.state() == ConnectionState::Verified)?;
        let (principal, now_ms) = (connection.principal(), self.now_ms());
        let token_ends = principal.as_ref().filter(|_| self.expiry_counts).map(|principal| principal.expires_at);
        let expires_at_ms =
            token_ends.map_or(u64::MAX, |seconds| seconds.saturating_mul(1_000)).min(now_ms.saturating_add(self.ttl_ms));
        let expires_in_ms = expires_at_ms.checked_sub(now_ms).filter(|left| *left > 0)?;
        let claims = Claims {
            connection: connection.id,
            owner: self.node,
            generation: connection.generation,
            epoch: connection.epoch.load(Ordering::Acquire),
            origin: connection.origin.clone(),
            thumbprint: *bound.key.thumbprint(),
            mode: bound.mode,
            subject: principal.as_ref().map(|principal| principal.subject.clone()),
            issuer: principal.map(|principal| principal.issuer.clone()),
            issued_at_ms: now_ms,
            expires_at_ms,
        };
        let ring = self.keys.ring();
        let key = ring.minting()?;
        let ticket = claims.mint(key)?;
        let nonce = Nonce::at(key, claims.connection, claims.epoch, now_ms).encode();
        self.metrics.tickets_minted.inc();
        let renew_in = (Duration::from_millis(expires_in_ms) / 2).clamp(RENEW_MIN, RENEW_MAX);
        Some(Issued { ticket, nonce, expires_in_ms, renew_in })
    }

    /// What a ticket says, if it counts.
    ///
    /// # Errors
    /// [`TicketError`]. An unknown key is looked for soon.
    pub fn check(&self, ticket: &[u8]) -> Result<Claims, TicketError> {
        let checked = Claims::check(ticket, &self.keys.ring(), self.now_ms());
        if checked == Err(TicketError::UnknownKey) {
            self.keys.miss();
        }
        checked
    }

    /// Is a key that is not known surely none of the cluster's?
    #[must_use]
    pub fn knows_all_keys(&self) -> bool {
        self.keys.is_current()
    }

    /// Is this connection of this node the one that the ticket was minted for?
    #[must_use]
    pub fn is_of(&self, claims: &Claims, connection: &LiveConnection) -> bool {
        let key = connection.bound().map(|bound| bound.key.thumbprint());
        claims.owner == self.node && connection.generation == claims.generation && key == Some(&claims.thumbprint)
    }

    /// Judges a proof of a call in the name of a connection of this node: its nonce, its signature, and last, since a forger
    /// must not move it, the window of its counter. `ticket` is the text that `claims` were read from.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn judge_proof(
        &self,
        connection: &LiveConnection,
        (ticket, claims): (&[u8], &Claims),
        proof: &Proof,
        call: Call<'_>,
    ) -> Result<(), ProofError> {
        let bound = connection.bound().ok_or(ProofError::Invalid)?;
        let ring = self.keys.ring();
        let key = Claims::kid_of(ticket).and_then(|kid| ring.find(kid)).ok_or(ProofError::Invalid)?;
        let is_fresh = Nonce::is_good(&proof.nonce, key, claims.connection, claims.epoch, self.now_ms());
        if !is_fresh || !proof.is_signed(call, ticket, &bound.key) {
            return Err(ProofError::Invalid);
        }
        connection.take_counter(proof.counter).map_err(|_| {
            self.metrics.proof_replays.inc();
            ProofError::Replayed
        })
    }
}

#[cfg(test)]
#[path = "office_tests.rs"]
mod tests;
