use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::http::Uri;
use actix_web::http::header::{self, HeaderValue};
use countersign_node_proto::{Answer, Ask, ChannelName, Generation, NodeMessage, Payload, Question, Reply};
use serde_json::Map;

use super::super::cache::tests::QuietBus;
use super::*;
use crate::close::CloseReason;
use crate::config::{CallFrom, Settings};
use crate::identity::Clock;
use crate::registry::{
    ConnectionState, Entry, LiveConnection, Mailbox, Page, PostError, RegistryUnavailable, Write, conformance,
};
use crate::ticket::{KeyRing, Kid, TicketKey, TicketKeys};

/// A registry with one answer, which counts how often it is asked.
pub(crate) struct OneAnswer {
    pub(crate) answer: Mutex<Result<Option<Entry>, RegistryUnavailable>>,
    pub(crate) calls: AtomicUsize,
}

#[async_trait]
impl Registry for OneAnswer {
    async fn apply(&self, _: &[Write]) -> Result<(), RegistryUnavailable> {
        Ok(())
    }
    async fn find(&self, _: ConnectionId) -> Result<Option<Entry>, RegistryUnavailable> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.answer.lock().unwrap().clone()
    }
    async fn by_principal(&self, _: &str, _: Option<ConnectionId>, _: usize) -> Result<Page, RegistryUnavailable> {
        Ok(Page { ids: Vec::new(), next: None })
    }
    async fn by_channel(&self, _: &ChannelName, _: Option<ConnectionId>, _: usize) -> Result<Page, RegistryUnavailable> {
        Ok(Page { ids: Vec::new(), next: None })
    }
    async fn count(&self) -> Result<usize, RegistryUnavailable> {
        Ok(0)
    }
    async fn renew_lease(&self, _: NodeId, _: Duration) -> Result<(), RegistryUnavailable> {
        Ok(())
    }
    async fn forget_node(&self, _: NodeId) -> Result<(), RegistryUnavailable> {
        Ok(())
    }
}

/// Takes `token:<subject>` for a valid token.
struct ReadableTokens;

#[async_trait(?Send)]
impl TokenCheck for ReadableTokens {
    async fn check(&self, token: &str) -> Result<Arc<Principal>, TokenProblem> {
        match token.strip_prefix("token:") {
            Some(subject) => Ok(principal(subject, u64::MAX)),
            None if token == "away" => Err(TokenProblem::Unavailable),
            None => Err(TokenProblem::Refused),
        }
    }
}

pub(crate) struct NoMailbox;

impl Mailbox for NoMailbox {
    fn post(&self, _: Payload) -> Result<(), PostError> {
        Err(PostError::Gone)
    }
    fn close(&self, _: CloseReason) {}
    fn cut(&self) {}
}

pub(crate) fn principal(subject: &str, expires_at: u64) -> Arc<Principal> {
    Arc::new(Principal {
        subject: subject.to_owned(),
        username: subject.to_owned(),
        issuer: "pool".to_owned(),
        issued_at: 0,
        expires_at,
        claims: Map::new(),
    })
}

const THIS_NODE: NodeId = NodeId::from_bytes([1; 8]);

pub(crate) struct Bench {
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) live: Arc<LiveConnections>,
    pub(crate) registry: Arc<OneAnswer>,
    pub(crate) bus: Arc<QuietBus>,
    pub(crate) tickets: Arc<TicketOffice>,
    pub(crate) metrics: Arc<Metrics>,
}

/// The tickets of a node; all nodes of a test have one key.
pub(crate) fn office(node: NodeId, clock: Clock) -> Arc<TicketOffice> {
    let keys = TicketKeys::fixed(KeyRing::single(TicketKey::from_parts(Kid::from_bytes([1; 8]), &[2; 32])));
    TicketOffice::new(&Settings::default(), node, keys, clock, Arc::new(Metrics::new()))
}

/// A node that has been up for longer than tickets live.
pub(crate) fn bench() -> Bench {
    let settled = |authorizer: Authorizer| {
        authorizer.suspects.settle();
        authorizer
    };
    bench_of(settled)
}

/// A node that has just started.
pub(crate) fn fresh_bench() -> Bench {
    bench_of(|authorizer| authorizer)
}

fn bench_of(aged: impl FnOnce(Authorizer) -> Authorizer) -> Bench {
    let (live, bus, metrics) = (Arc::new(LiveConnections::new()), Arc::new(QuietBus::default()), Arc::new(Metrics::new()));
    let registry = Arc::new(OneAnswer { answer: Mutex::new(Ok(None)), calls: AtomicUsize::new(0) });
    let tickets = office(THIS_NODE, Clock::system());
    let parts = AuthorizerParts {
        node: THIS_NODE,
        live: live.clone(),
        registry: registry.clone(),
        bus: bus.clone(),
        tokens: Arc::new(ReadableTokens),
        tickets: tickets.clone(),
        asker: Asker::new(bus.clone(), Duration::from_millis(50), metrics.clone()),
        metrics: metrics.clone(),
        expiry_ends_connection: true,
    };
    let authorizer = Arc::new(aged(Authorizer::new(&AuthorizerSettings::default(), parts)));
    Bench { authorizer, live, registry, bus, tickets, metrics }
}

impl Bench {
    /// Opens a connection of this node.
    pub(crate) fn open(&self, number: u8, state: ConnectionState, principal: Option<Arc<Principal>>) -> Arc<LiveConnection> {
        let id = ConnectionId::from_bytes([number; 16]);
        let origin = Some("https://app.example".to_owned());
        let connection = LiveConnection::new(id, Generation(1), origin, None, principal, 0, Box::new(NoMailbox));
        connection.advance(state);
        let connection = Arc::new(connection);
        self.live.insert(connection.clone());
        connection
    }

    /// Lets the registry know a verified connection of a node.
    pub(crate) fn remote(&self, number: u8, node: u8) -> Entry {
        let entry = Entry { verified: true, ..conformance::entry(number, node) };
        *self.registry.answer.lock().unwrap() = Ok(Some(entry.clone()));
        entry
    }

    async fn decide(&self, require: Require, id: ConnectionId, token: Option<&str>) -> Decision {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("connectionid"), HeaderValue::from_str(&id.encode()).unwrap());
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
        }
        self.ask(&headers, Demand { require, mode: Mode::Bearer }).await
    }

    /// Decides on a call that is its own request: `GET http://api.example/greeting`.
    pub(crate) async fn ask(&self, headers: &HeaderMap, demand: Demand) -> Decision {
        let uri = Uri::from_static("http://api.example/greeting");
        let asked = Asked { headers, method: "GET", uri: &uri, prefix: "", from: CallFrom::Request, host: None };
        self.authorizer.decide(&asked, demand).await
    }

    /// The future's outcome, while the owner of a connection answers so what it is asked about it, once.
    pub(crate) async fn with_owners_word<T>(
        &self,
        (owner, id): (NodeId, ConnectionId),
        word: Option<OwnedConnection>,
        deciding: impl Future<Output = T>,
    ) -> T {
        let answering = async {
            let number = loop {
                let asked = self.bus.sent.lock().unwrap().pop();
                match asked {
                    Some((node, NodeMessage::Ask(Ask { number, question: Question::Connection(question) }))) => {
                        assert_eq!((node, question.connection), (owner, id));
                        break number;
                    }
                    Some(other) => panic!("{other:?}"),
                    None => tokio::task::yield_now().await,
                }
            };
            self.authorizer.parts.asker.answered(owner, Answer { number, reply: Reply::Connection(word) });
        };
        tokio::join!(deciding, answering).0
    }

    pub(crate) fn calls(&self) -> usize {
        self.registry.calls.load(Ordering::Relaxed)
    }
}

#[track_caller]
fn allowed(decision: &Decision) -> (&str, &str, DecisionSource) {
    let identity = decision.verdict.as_ref().expect("allowed");
    (identity.headers.subject.to_str().unwrap(), identity.headers.origin.to_str().unwrap(), decision.source)
}

#[tokio::test(start_paused = true)]
async fn the_owner_answers_from_live_state_without_asking_anybody() {
    let bench = bench();
    let connection = bench.open(1, ConnectionState::Verified, Some(principal("ada", u64::MAX)));
    let decision = bench.decide(Require::Verified, connection.id, None).await;
    assert_eq!(allowed(&decision), ("ada", "https://app.example", DecisionSource::Owner));
    assert_eq!(decision.verdict.unwrap().connection, connection.id.encode());
    connection.set_principal(principal("ada2", u64::MAX));
    let decision = bench.decide(Require::Verified, connection.id, None).await;
    assert_eq!(allowed(&decision).0, "ada2", "the headers follow a refresh");
    assert_eq!(bench.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn only_a_verified_unexpired_connection_of_this_node_passes() {
    let bench = bench();
    let anonymous = bench.open(1, ConnectionState::Verified, None);
    assert_eq!(allowed(&bench.decide(Require::Verified, anonymous.id, None).await).0, "-");
    let verdict = async |id| bench.decide(Require::Verified, id, None).await.verdict.unwrap_err();
    let challenged = bench.open(2, ConnectionState::Challenged, None);
    assert_eq!(verdict(challenged.id).await, Refused::ConnectionUnverified);
    let expired = bench.open(3, ConnectionState::Verified, Some(principal("ada", 1)));
    assert_eq!(verdict(expired.id).await, Refused::ConnectionExpired);
    assert_eq!(verdict(ConnectionId::from_bytes([9; 16])).await, Refused::ConnectionUnknown);
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_is_denied_at_once_even_if_the_registry_still_has_it() {
    let bench = bench();
    let connection = bench.open(1, ConnectionState::Verified, None);
    bench.remote(1, 1);
    assert!(bench.decide(Require::Verified, connection.id, None).await.verdict.is_ok());
    bench.live.remove(connection.id, connection.generation);
    let denied = bench.decide(Require::Verified, connection.id, None).await;
    assert_eq!(denied.verdict, Err(Refused::ConnectionUnknown));
    assert_eq!(denied.source, DecisionSource::Registry);
}

#[tokio::test(start_paused = true)]
async fn another_nodes_connection_comes_from_the_registry_then_from_the_cache() {
    let bench = bench();
    let entry = bench.remote(1, 2);
    let first = bench.decide(Require::Verified, entry.id, None).await;
    assert_eq!(allowed(&first), ("ada", "https://app.example", DecisionSource::Registry));
    let second = bench.decide(Require::Verified, entry.id, None).await;
    assert_eq!(allowed(&second), ("ada", "https://app.example", DecisionSource::Cache));
    assert_eq!(bench.calls(), 1);
    assert_eq!((bench.metrics.cache_misses.get(), bench.metrics.cache_hits.get()), (1, 1));
    *bench.registry.answer.lock().unwrap() = Ok(None);
    bench.authorizer.invalidate(&Invalidate::Connection(entry.id));
    let third = bench.decide(Require::Verified, entry.id, None).await;
    assert_eq!(third.verdict, Err(Refused::ConnectionUnknown));
}

#[tokio::test(start_paused = true)]
async fn a_silent_bus_sends_every_decision_on_other_nodes_to_the_registry() {
    let bench = bench();
    let entry = bench.remote(1, 2);
    bench.decide(Require::Verified, entry.id, None).await;
    bench.bus.silence_ms.store(60_000, Ordering::Relaxed);
    let decision = bench.decide(Require::Verified, entry.id, None).await;
    assert_eq!(allowed(&decision).2, DecisionSource::Registry);
    *bench.registry.answer.lock().unwrap() = Err(RegistryUnavailable("away".to_owned()));
    let decision = bench.decide(Require::Verified, entry.id, None).await;
    assert_eq!(decision.verdict, Err(Refused::RegistryUnavailable));
    let own = bench.open(5, ConnectionState::Verified, None);
    assert!(bench.decide(Require::Verified, own.id, None).await.verdict.is_ok(), "local decisions go on");
    assert_eq!(bench.metrics.decisions.of(DecisionOutcome::Unknown).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_paths_answer_is_never_anothers() {
    let bench = bench();
    let entry = bench.remote(1, 2);
    assert!(bench.decide(Require::Verified, entry.id, None).await.verdict.is_ok());
    let both = async |token| bench.decide(Require::Both, entry.id, token).await.verdict;
    assert_eq!(both(None).await, Err(Refused::TokenMissing));
    assert_eq!(both(Some("forged")).await, Err(Refused::TokenInvalid));
    assert_eq!(both(Some("away")).await, Err(Refused::TokenUndecided));
    assert_eq!(both(Some("token:eve")).await, Err(Refused::PrincipalMismatch));
    assert!(both(Some("token:ada")).await.is_ok());
    assert!(bench.decide(Require::Verified, entry.id, None).await.verdict.is_ok());
    assert_eq!(bench.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_alone_names_the_subject_and_no_connection() {
    let bench = bench();
    let decision = bench.decide(Require::Token, ConnectionId::from_bytes([9; 16]), Some("token:ada")).await;
    assert_eq!(allowed(&decision), ("ada", "-", DecisionSource::Request));
    assert_eq!(decision.verdict.unwrap().connection, NO_VALUE);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_principal_takes_the_tokens() {
    let bench = bench();
    let connection = bench.open(1, ConnectionState::Verified, None);
    let decision = bench.decide(Require::Both, connection.id, Some("token:ada")).await;
    assert_eq!(allowed(&decision), ("ada", "https://app.example", DecisionSource::Owner));
}
