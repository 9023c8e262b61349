use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use async_trait::async_trait;
use countersign_node_proto::{ConnectionId, Invalidate, NodeId};

use super::cache::{CacheSettings, ConnectionCache, Known};
use super::decision::{Identity, Refused, agree, bearer, credential, judge_known, judge_live};
use crate::cluster::Bus;
use crate::config::{AuthorizerSettings, Require};
use crate::edge::{IdentityHeaders, NO_VALUE};
use crate::identity::Principal;
use crate::registry::{LiveConnections, Registry, RegistryUnavailable};
use crate::telemetry::{DecisionOutcome, DecisionSource, Metrics};

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
}

/// Decides whether a call may pass.
pub struct Authorizer {
    parts: AuthorizerParts,
    cache: Arc<ConnectionCache>,
    header: HeaderName,
    registry_timeout: Duration,
}

impl Authorizer {
    /// An authorizer. A configured header name that is no header name falls back to `connectionid`; the configuration
    /// refuses such a name before.
    #[must_use]
    pub fn new(settings: &AuthorizerSettings, parts: AuthorizerParts) -> Self {
        let cache = ConnectionCache::new(CacheSettings::from(settings), parts.bus.clone(), parts.metrics.clone());
        let header = HeaderName::try_from(&settings.header).unwrap_or(HeaderName::from_static("connectionid"));
        Self { parts, cache, header, registry_timeout: settings.registry_timeout_ms.duration() }
    }

    /// Decides on a call by its headers. Reads no clock of the caller's and nothing of the request beside the credentials.
    pub async fn decide(&self, headers: &HeaderMap, require: Require) -> Decision {
        let started = Instant::now();
        // Boxed where it may wait: the common case must not pay for the state of the rare ones.
        let decision = match require {
            Require::Verified => match self.decide_at_once(headers) {
                Ok(decision) => decision,
                Err((id, value)) => Box::pin(self.ask_registry(id, value)).await,
            },
            Require::Token | Require::Both => Box::pin(self.decide_with_token(headers, require)).await,
        };
        self.count(&decision, started.elapsed());
        decision
    }

    /// Drops what is remembered of connections of other nodes.
    pub fn invalidate(&self, what: &Invalidate) {
        self.cache.invalidate(what);
    }

    /// Messages of the bus may have been lost: nothing that is remembered counts any more.
    pub fn invalidate_all(&self) {
        self.cache.forget_all();
    }

    /// What is remembered.
    #[must_use]
    pub fn cache(&self) -> &ConnectionCache {
        &self.cache
    }

    /// The request alone, this node's own connections and the cache: what needs no waiting. Else whom to ask about.
    fn decide_at_once<'a>(&self, headers: &'a HeaderMap) -> Result<Decision, (ConnectionId, &'a HeaderValue)> {
        let (id, value) = match credential(headers, &self.header) {
            Ok(credential) => credential,
            Err(refused) => return Ok(Decision { verdict: Err(refused), source: DecisionSource::Request }),
        };
        let (judged, source) = self.judge_at_once(id).ok_or((id, value))?;
        let verdict = judged.map(|headers| Identity { connection: value.clone(), headers });
        Ok(Decision { verdict, source })
    }

    async fn ask_registry(&self, id: ConnectionId, value: &HeaderValue) -> Decision {
        let judged = self.load(id).await.and_then(|known| judge_known(known.as_deref(), unix_now()));
        let verdict = judged.map(|headers| Identity { connection: value.clone(), headers });
        Decision { verdict, source: DecisionSource::Registry }
    }

    /// The token first: its verification may wait, and the connection's state must be the one at the answer.
    async fn decide_with_token(&self, headers: &HeaderMap, require: Require) -> Decision {
        let principal = match self.principal(headers).await {
            Ok(principal) => principal,
            Err(refused) => return Decision { verdict: Err(refused), source: DecisionSource::Request },
        };
        if require == Require::Token {
            let headers = Arc::new(IdentityHeaders::new(Some(&principal.subject), None));
            return Decision { verdict: Ok(Identity { connection: NO_VALUE, headers }), source: DecisionSource::Request };
        }
        let Decision { verdict, source } = match self.decide_at_once(headers) {
            Ok(decision) => decision,
            Err((id, value)) => self.ask_registry(id, value).await,
        };
        let verdict = verdict.and_then(|identity| {
            Ok(Identity { headers: agree(identity.headers, &principal)?, connection: identity.connection })
        });
        Decision { verdict, source }
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
            let judged = judge_live(&connection, now, self.parts.expiry_ends_connection);
            if judged.is_ok() {
                connection.called(now);
            }
            return Some((judged, DecisionSource::Owner));
        }
        let known = self.cache.get(id)?;
        Some((judge_known(known.as_deref(), unix_now()), DecisionSource::Cache))
    }

    /// Asks the registry.
    async fn load(&self, id: ConnectionId) -> Result<Option<Arc<Known>>, Refused> {
        let (node, timeout) = (self.parts.node, self.registry_timeout);
        let fetch = || {
            let registry = self.parts.registry.clone();
            async move {
                let found = tokio::time::timeout(timeout, registry.find(id)).await;
                let found = found.unwrap_or_else(|_| Err(RegistryUnavailable("timed out".to_owned())))?;
                // An entry of this node whose connection is not live is one whose removal is still on its way.
                Ok(found.filter(|entry| entry.node != node))
            }
        };
        self.cache.load(id, fetch).await.map_err(|error| {
            tracing::debug!(%error, "decision is not known");
            Refused::RegistryUnavailable
        })
    }

    fn count(&self, decision: &Decision, took: Duration) {
        let metrics = &self.parts.metrics;
        let outcome = decision.verdict.as_ref().map_or_else(|refused| refused.outcome(), |_| DecisionOutcome::Allow);
        metrics.decisions.of(outcome).inc();
        metrics.decision_sources.of(decision.source).inc();
        metrics.decision_seconds.of(decision.source).observe(took.as_secs_f64());
    }
}

/// Seconds since the Unix epoch: tokens expire by the calendar.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[path = "judge_tests.rs"]
pub(crate) mod tests;
