use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use async_trait::async_trait;
use countersign_node_proto::{Calls, ConnectionId, Invalidate, NodeId, OwnedConnection};

use super::cache::{CacheSettings, ConnectionCache, Known};
use super::call::Asked;
use super::calls::ForeignCalls;
use super::decision::{Identity, Refused, Shown, agree, bearer, credential, id_suffices, judge_known, judge_live, sole};
use super::demand::Demand;
use super::lookup::LookUp;
use super::suspects::Suspects;
use super::tickets::{Foreign, TICKET};
use crate::cluster::{Asker, Bus};
use crate::config::{AuthorizerSettings, Mode, Require};
use crate::edge::{IdentityHeaders, NO_VALUE};
use crate::identity::Principal;
use crate::registry::{ConnectionState, LiveConnections, Registry};
use crate::telemetry::{DecisionOutcome, DecisionSource, Metrics, ModeLabel};
use crate::ticket::TicketOffice;

/// Why a token does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenProblem {
    /// It is not valid; which rule it breaks is nobody's business.
    #[error("token refused")]
    Refused,
    /// The issuer's keys cannot be had: nobody knows.
    #[error("token cannot be judged now")]
    Unavailable,
}

/// Who tells whether a token is valid.
///
/// Its futures stay on their thread: fetching keys may need a client that does.
#[async_trait(?Send)]
pub trait TokenCheck: Send + Sync + 'static {
    /// Whom the token names.
    ///
    /// # Errors
    /// [`TokenProblem`]; the second kind may be asked again.
    async fn check(&self, token: &str) -> Result<Arc<Principal>, TokenProblem>;
}

/// What an authorizer is made of.
pub struct AuthorizerParts {
    /// This node.
    pub node: NodeId,
    /// Its connections.
    pub live: Arc<LiveConnections>,
    /// All connections.
    pub registry: Arc<dyn Registry>,
    /// Tells how long invalidations may have been lost.
    pub bus: Arc<dyn Bus>,
    /// Verifies tokens.
    pub tokens: Arc<dyn TokenCheck>,
    /// Checks tickets and proofs.
    pub tickets: Arc<TicketOffice>,
    /// Asks the nodes that own connections.
    pub asker: Arc<Asker>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// A token's expiry ends its connection (`gateway.token.expiry_ends_connection`).
    pub expiry_ends_connection: bool,
}

/// One decision and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Who calls, or why not.
    pub verdict: Result<Identity, Refused>,
    /// Who knew.
    pub source: DecisionSource,
    /// What had to be shown of the connection, as far as the call let that be known; none where no connection was asked for.
    pub mode: Option<Mode>,
}

/// Decides whether a call may pass.
pub struct Authorizer {
    pub(super) parts: AuthorizerParts,
    pub(super) cache: Arc<ConnectionCache>,
    pub(super) suspects: Arc<Suspects>,
    lookup: Arc<LookUp>,
    /// Calls that owners must be told of; none where nobody counts them.
    calls: Option<Arc<ForeignCalls>>,
    header: HeaderName,
}

/// What must be waited for.
pub(super) enum Wait<'a> {
    /// The registry, about a connection of which the id alone was shown.
    Id(ConnectionId, &'a HeaderValue),
    /// The registry, the owner or both, about a ticket of another node's connection.
    Ticket(Box<Foreign<'a>>),
}

impl Authorizer {
    /// An authorizer. A configured header name that is no header name falls back to `connectionid`; the configuration
    /// refuses such a name before.
    #[must_use]
    pub fn new(settings: &AuthorizerSettings, parts: AuthorizerParts) -> Self {
        let cache = ConnectionCache::new(CacheSettings::from(settings), parts.bus.clone(), parts.metrics.clone());
        let header = HeaderName::try_from(&settings.header).unwrap_or(HeaderName::from_static("connectionid"));
        let registry_timeout = settings.registry_timeout_ms.duration();
        // What other nodes said before this one heard them is not known: a ticket from before may be of a closed connection.
        let suspects = Arc::new(Suspects::default());
        suspects.doubt_all(parts.tickets.now_ms());
        let registry = (parts.registry.clone(), registry_timeout);
        let lookup = LookUp::new(parts.node, registry, parts.asker.clone(), suspects.clone(), parts.tickets.clone());
        Self { parts, cache, suspects, lookup, calls: None, header }
    }

    /// Has the owners of connections told how many calls this node allows in their name.
    #[must_use]
    pub fn telling_owners(self, calls: Option<Arc<ForeignCalls>>) -> Self {
        Self { calls, ..self }
    }

    /// Decides on a call. Reads no clock of the caller's, and nothing of the request beside the credentials and, for a
    /// proof, which call it is.
    pub async fn decide(&self, asked: &Asked<'_>, demand: Demand) -> Decision {
        let started = Instant::now();
        // Boxed where it may wait: the common case must not pay for the state of the rare ones.
        let decision = match demand.require {
            Require::Verified => match self.decide_at_once(asked, demand.mode) {
                Ok(decision) => decision,
                Err(wait) => Box::pin(self.decide_later(wait)).await,
            },
            Require::Token | Require::Both => Box::pin(self.decide_with_token(asked, demand)).await,
        };
        self.count(&decision, started.elapsed());
        decision
    }

    /// Drops what is remembered of connections of other nodes, and no longer takes their tickets at their word.
    pub fn invalidate(&self, what: &Invalidate) {
        self.suspects.hear(what, self.parts.tickets.now_ms());
        self.cache.invalidate(what);
    }

    /// Messages of the bus may have been lost: nothing that is remembered counts any more.
    pub fn invalidate_all(&self) {
        self.suspects.doubt_all(self.parts.tickets.now_ms());
        self.cache.forget_all();
    }

    /// Counts calls that another node allowed in the name of connections of this one.
    pub fn count_calls(&self, Calls { calls }: &Calls) {
        let now = unix_now();
        for (id, calls) in calls {
            // One that closed meanwhile, or never was this node's, counts for nothing.
            if let Some(connection) = self.parts.live.get(*id) {
                connection.called_elsewhere(*calls, now);
            }
        }
    }

    /// What is remembered.
    #[must_use]
    pub fn cache(&self) -> &ConnectionCache {
        &self.cache
    }

    /// The request alone, this node's own connections, the cache, and tickets that nothing was heard against: what needs no
    /// waiting. Else what must be waited for.
    fn decide_at_once<'a>(&self, asked: &Asked<'a>, floor: Mode) -> Result<Decision, Wait<'a>> {
        match sole(asked.headers, &TICKET, Refused::TicketInvalid) {
            Err(refused) => Ok(Decision::refused(refused, DecisionSource::Request, floor)),
            Ok(Some(ticket)) => self.judge_ticket(asked, ticket, floor),
            Ok(None) if floor > Mode::Bearer => Ok(Decision::refused(Refused::TicketMissing, DecisionSource::Request, floor)),
            Ok(None) => self.judge_id(asked.headers),
        }
    }

    async fn decide_later(&self, wait: Wait<'_>) -> Decision {
        match wait {
            Wait::Id(id, value) => {
                let judged = self.load(id, None).await.and_then(|known| self.judge_known_id(id, known.as_deref()));
                Decision::on_id(judged, value, DecisionSource::Registry)
            }
            Wait::Ticket(foreign) => self.judge_foreign(*foreign).await,
        }
    }

    /// A call that shows a connection id alone.
    fn judge_id<'a>(&self, headers: &'a HeaderMap) -> Result<Decision, Wait<'a>> {
        let (id, value) = match credential(headers, &self.header) {
            Ok(credential) => credential,
            Err(refused) => return Ok(Decision::refused(refused, DecisionSource::Request, Mode::Bearer)),
        };
        let (judged, source) = self.judge_at_once(id).ok_or(Wait::Id(id, value))?;
        Ok(Decision::on_id(judged, value, source))
    }

    /// The token first: its verification may wait, and the connection's state must be the one at the answer.
    async fn decide_with_token(&self, asked: &Asked<'_>, demand: Demand) -> Decision {
        let connection_too = demand.require == Require::Both;
        let mode = connection_too.then_some(demand.mode);
        let principal = match self.principal(asked.headers).await {
            Ok(principal) => principal,
            Err(refused) => return Decision { verdict: Err(refused), source: DecisionSource::Request, mode },
        };
        if !connection_too {
            let headers = Arc::new(IdentityHeaders::new(Some(&principal.subject), Some(&principal.issuer), None));
            let identity = Identity { connection: NO_VALUE, headers, shown: Shown::Id };
            return Decision { verdict: Ok(identity), source: DecisionSource::Request, mode };
        }
        let decision = match self.decide_at_once(asked, demand.mode) {
            Ok(decision) => decision,
            Err(wait) => self.decide_later(wait).await,
        };
        let agreed = |identity: Identity| Ok(Identity { headers: agree(identity.headers.clone(), &principal)?, ..identity });
        Decision { verdict: decision.verdict.and_then(agreed), ..decision }
    }

    async fn principal(&self, headers: &HeaderMap) -> Result<Arc<Principal>, Refused> {
        let checked = self.parts.tokens.check(bearer(headers)?).await;
        checked.map_err(|problem| match problem {
            TokenProblem::Refused => Refused::TokenInvalid,
            TokenProblem::Unavailable => Refused::TokenUndecided,
        })
    }

    /// The owner's word, else what is remembered.
    fn judge_at_once(&self, id: ConnectionId) -> Option<(Result<Arc<IdentityHeaders>, Refused>, DecisionSource)> {
        if let Some(connection) = self.parts.live.get(id) {
            let now = unix_now();
            let mode = connection.bound().map(|bound| bound.mode).unwrap_or_default();
            let judged = judge_live(&connection, now, self.parts.expiry_ends_connection);
            let judged = judged.and_then(|headers| id_suffices(mode).map(|()| headers));
            if judged.is_ok() {
                connection.called(now);
            }
            return Some((judged, DecisionSource::Owner));
        }
        let known = self.cache.get(id)?;
        Some((self.judge_known_id(id, known.as_deref()), DecisionSource::Cache))
    }

    /// A call was allowed in the name of a connection whose owner was not asked: one that was asked counts it itself.
    pub(super) fn called(&self, owner: NodeId, connection: ConnectionId) {
        if let Some(calls) = &self.calls {
            calls.note(owner, connection);
        }
    }

    /// Judges by what is known of a connection of another node a call that showed its id alone.
    fn judge_known_id(&self, id: ConnectionId, known: Option<&Known>) -> Result<Arc<IdentityHeaders>, Refused> {
        let known = judge_known(known, unix_now())?;
        id_suffices(known.mode)?;
        self.called(known.node, id);
        Ok(known.headers.clone())
    }

    /// Asks the registry, and the owner where that may know better; `owner` is who is said to be it, if the registry does not
    /// tell.
    pub(super) async fn load(&self, id: ConnectionId, owner: Option<NodeId>) -> Result<Option<Arc<Known>>, Refused> {
        self.cache.load(id, || Arc::clone(&self.lookup).find(id, owner)).await.map_err(|error| {
            tracing::debug!(%error, "decision is not known");
            Refused::RegistryUnavailable
        })
    }

    /// How a connection of this node stands, for another node that must not rely on the registry.
    #[must_use]
    pub fn own_connection(&self, id: ConnectionId) -> Option<OwnedConnection> {
        let connection = self.parts.live.get(id)?;
        let state = connection.state();
        if state == ConnectionState::Closed {
            return None;
        }
        let principal = connection.principal();
        let expiring = principal.as_ref().filter(|_| self.parts.expiry_ends_connection);
        Some(OwnedConnection {
            verified: state == ConnectionState::Verified,
            mode: connection.bound().map(|bound| bound.mode).unwrap_or_default().name().to_owned(),
            expires_at: expiring.map(|principal| principal.expires_at),
            subject: principal.as_ref().map(|principal| principal.subject.clone()),
            issuer: principal.as_ref().map(|principal| principal.issuer.clone()),
            origin: connection.origin.clone(),
        })
    }

    fn count(&self, decision: &Decision, took: Duration) {
        let metrics = &self.parts.metrics;
        let outcome = decision.verdict.as_ref().map_or_else(|refused| refused.outcome(), |_| DecisionOutcome::Allow);
        metrics.decisions.of(outcome).inc();
        metrics.decision_sources.of(decision.source).inc();
        metrics.decision_seconds.of(decision.source).observe(took.as_secs_f64());
        if let Some(mode) = decision.mode {
            metrics.mode_decisions.of(label_of(mode), outcome).inc();
        }
    }
}

impl Decision {
    /// A call that may not pass.
    pub(super) fn refused(refused: Refused, source: DecisionSource, mode: Mode) -> Self {
        Self { verdict: Err(refused), source, mode: Some(mode) }
    }

    /// On a call that showed the id alone.
    fn on_id(judged: Result<Arc<IdentityHeaders>, Refused>, value: &HeaderValue, source: DecisionSource) -> Self {
        let verdict = judged.map(|headers| Identity { connection: value.clone(), headers, shown: Shown::Id });
        Self { verdict, source, mode: Some(Mode::Bearer) }
    }
}

/// How a mode is counted.
const fn label_of(mode: Mode) -> ModeLabel {
    match mode {
        Mode::Bearer => ModeLabel::Bearer,
        Mode::Ticket => ModeLabel::Ticket,
        Mode::Proof => ModeLabel::Proof,
    }
}

/// Seconds since the Unix epoch: tokens expire by the calendar.
pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[path = "judge_tests.rs"]
pub(crate) mod tests;
