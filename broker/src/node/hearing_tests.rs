use std::sync::Mutex;

use actix_web::http::Uri;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::test;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_node_proto::{
    Calls, ChallengeVerdict, ChannelName, ConnectionId, Disconnect, Generation, Invalidate, Payload, Post, Publication,
};

use super::*;
use crate::authorizer::{
    Asked, AuthorizerParts, Decision, Demand, ForeignCalls, Refused, TokenCheck, TokenProblem, tests::office,
};
use crate::challenge::ProgramHandle;
use crate::close::CloseReason;
use crate::cluster::conformance::eventually;
use crate::cluster::{Bus as _, LocalBus, LocalExchange};
use crate::config::{AuthorizerSettings, CallFrom, Mode, OriginPolicy, Require};
use crate::edge::OriginList;
use crate::frame_page::{FramePage, Programs};
use crate::hub::{Dialect, Outbox, Publisher, Receipt, Shard};
use crate::identity::{Clock, Principal};
use crate::registry::{
    Bound, ConnectionState, Entry, LEASE, LeaseKeeper, LiveConnection, Mailbox, MemoryRegistry, PostError, RegistryKeeper,
};
use crate::telemetry::{AgainCause, DecisionOutcome, DecisionSource, ForeignCall, Metrics};
use crate::ticket::tests::Page;
use crate::ticket::{Call, TicketOffice};

/// More calls than this in a minute bring a further challenge.
const CALLS_PER_MINUTE: u32 = 1_000;

struct NoTokens;

#[async_trait(?Send)]
impl TokenCheck for NoTokens {
    async fn check(&self, _: &str) -> Result<Arc<Principal>, TokenProblem> {
        Err(TokenProblem::Refused)
    }
}

/// Notes what its connection was told.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<String>>>);

impl Mailbox for Noting {
    fn post(&self, payload: Payload) -> Result<(), PostError> {
        self.0.lock().unwrap().push(format!("{payload:?}"));
        Ok(())
    }
    fn challenge(&self, cause: AgainCause) {
        self.0.lock().unwrap().push(format!("challenge: {cause:?}"));
    }
    fn close(&self, reason: CloseReason) {
        self.0.lock().unwrap().push(format!("{reason:?}"));
    }
    fn cut(&self) {}
}

/// What a node is made of, without sockets.
struct Node {
    id: NodeId,
    bus: Arc<LocalBus>,
    live: Arc<LiveConnections>,
    keeper: RegistryKeeper,
    authorizer: Arc<Authorizer>,
    disconnector: Arc<Disconnector>,
    challenger: Arc<Challenger>,
    asker: Arc<Asker>,
    held: Arc<HeldPrograms>,
    tickets: Arc<TicketOffice>,
    shard: Shard,
    publisher: Publisher,
    metrics: Arc<Metrics>,
}

/// Two nodes of one cluster.
async fn cluster() -> [Node; 2] {
    let (exchange, registry) = (LocalExchange::new(), Arc::new(MemoryRegistry::new()));
    let mut nodes = Vec::new();
    for number in 1..3 {
        nodes.push(start(number, &exchange, &registry).await);
    }
    nodes.try_into().ok().unwrap()
}

async fn start(number: u8, exchange: &Arc<LocalExchange>, registry: &Arc<MemoryRegistry>) -> Node {
    let id = NodeId::from_bytes([number; 8]);
    let (bus, metrics, live) = (exchange.attach(id), Arc::new(Metrics::new()), Arc::new(LiveConnections::new()));
    LeaseKeeper::new(id, registry.clone(), LEASE * 100).renew().await.unwrap();
    let keeper = RegistryKeeper::new(registry.clone(), bus.clone());
    let running = keeper.clone();
    tokio::spawn(async move { running.run().await });
    let hub = Hub::new(bus.clone(), 1 << 20, metrics.clone());
    let shard = hub.attach();
    shard.start();
    let tickets = office(id, Clock::system());
    let asker = Asker::new(bus.clone(), std::time::Duration::from_secs(5), metrics.clone());
    let (asker_of, held) = (asker.clone(), Arc::<HeldPrograms>::default());
    let parts = AuthorizerParts {
        node: id,
        live: live.clone(),
        registry: registry.clone(),
        bus: bus.clone(),
        tokens: Arc::new(NoTokens),
        tickets: tickets.clone(),
        asker: asker.clone(),
        metrics: metrics.clone(),
        expiry_ends_connection: true,
    };
    let calls = ForeignCalls::new(CALLS_PER_MINUTE, bus.clone(), metrics.clone());
    let authorizer = Arc::new(Authorizer::new(&AuthorizerSettings::default(), parts).telling_owners(calls.clone()));
    tokio::spawn(calls.unwrap().run());
    let disconnector = Disconnector::new(id, live.clone(), keeper.clone(), registry.clone(), bus.clone(), asker.clone());
    let (disconnector, publisher) = (Arc::new(disconnector), Publisher::new(hub.clone(), bus.clone(), metrics.clone()));
    let (authorizer_of, disconnector_of) = (authorizer.clone(), disconnector.clone());
    let challenger = Arc::new(Challenger::new(id, live.clone(), registry.clone(), asker.clone()));
    bus.listen(Arc::new(Hearing {
        hub,
        live: live.clone(),
        authorizer: authorizer_of,
        disconnector: disconnector_of,
        challenger: challenger.clone(),
        asker: asker_of,
        held: held.clone(),
    }));
    Node { id, bus, live, keeper, authorizer, disconnector, challenger, asker, held, tickets, shard, publisher, metrics }
}

impl Node {
    /// Opens a verified connection and waits until all nodes know it.
    async fn open(&self, number: u8) -> (Arc<LiveConnection>, Noting) {
        let (id, generation, noting) = (ConnectionId::from_bytes([number; 16]), Generation(1), Noting::default());
        let connection = LiveConnection::new(id, generation, None, None, None, 0, Box::new(noting.clone()));
        let connection = Arc::new(connection.challenged_after_calls(CALLS_PER_MINUTE));
        self.live.insert(connection.clone());
        self.keeper.register(Entry {
            id,
            node: self.id,
            generation,
            principal: None,
            issuer: None,
            origin: None,
            verified: false,
            mode: Mode::default(),
            connected_at_ms: 0,
            last_active_ms: 0,
            expires_at: None,
            subscriptions: Vec::new(),
        });
        connection.advance(ConnectionState::Verified);
        self.keeper.verify(id, generation, Mode::Bearer);
        self.keeper.flush().await;
        (connection, noting)
    }

    /// Decides on `GET http://api.example/greeting` with these headers.
    async fn ask(&self, headers: &HeaderMap, mode: Mode) -> Decision {
        let uri = Uri::from_static("http://api.example/greeting");
        let asked = Asked { headers, method: "GET", uri: &uri, prefix: "", from: CallFrom::Request, host: None };
        self.authorizer.decide(&asked, Demand { require: Require::Verified, mode }).await
    }

    async fn decide(&self, id: ConnectionId) -> (Result<(), Refused>, DecisionSource) {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("connectionid"), HeaderValue::from_str(&id.encode()).unwrap());
        let decision = self.ask(&headers, Mode::Bearer).await;
        (decision.verdict.map(|_| ()), decision.source)
    }
}

#[actix_rt::test]
async fn a_close_on_one_node_ends_the_cached_allow_of_another() {
    let [near, far] = cluster().await;
    let (connection, _) = near.open(1).await;
    assert_eq!(near.decide(connection.id).await, (Ok(()), DecisionSource::Owner));
    assert_eq!(far.decide(connection.id).await, (Ok(()), DecisionSource::Registry));
    assert_eq!(far.decide(connection.id).await, (Ok(()), DecisionSource::Cache));
    near.live.remove(connection.id, connection.generation);
    assert_eq!(near.decide(connection.id).await.0, Err(Refused::ConnectionUnknown), "at once, whatever the registry says");
    near.keeper.remove(connection.id, connection.generation);
    near.keeper.flush().await;
    eventually(async || far.decide(connection.id).await.0 == Err(Refused::ConnectionUnknown)).await;
}

#[actix_rt::test]
async fn a_connection_denied_before_it_was_verified_is_allowed_at_once_afterwards() {
    let [near, far] = cluster().await;
    let id = ConnectionId::from_bytes([1; 16]);
    assert_eq!(far.decide(id).await.0, Err(Refused::ConnectionUnknown));
    near.open(1).await;
    eventually(async || far.decide(id).await.0 == Ok(())).await;
}

#[actix_rt::test]
async fn a_publication_reaches_the_subscribers_of_every_node() {
    let [near, far] = cluster().await;
    let channel = ChannelName::new("room").unwrap();
    let outboxes = [(1, &near), (2, &far)].map(|(number, node)| {
        let outbox = Outbox::new(ConnectionId::from_bytes([number; 16]), Dialect::Plain, 1_000, node.metrics.clone());
        node.shard.subscribe(&channel, outbox.clone()).unwrap();
        outbox
    });
    let publication = Publication { channel, payload: Payload::Text("hi".to_owned()), exclude: None };
    assert_eq!(near.publisher.publish(publication.clone()).await, Ok(Receipt { nodes: 2 }));
    for outbox in &outboxes {
        let slice = std::future::poll_fn(|cx| outbox.poll_slice(cx, 100)).await;
        assert_eq!(&slice[2..], b"hi");
    }
    let excluded = Publication { exclude: Some(outboxes[1].id()), ..publication };
    near.publisher.publish(excluded).await.unwrap();
    std::future::poll_fn(|cx| outboxes[0].poll_slice(cx, 100)).await;
    assert_eq!(outboxes[1].queued_bytes(), 0, "the sender is left out on whichever node it is");
}

#[actix_rt::test]
async fn posts_and_disconnects_reach_the_owner() {
    let [near, far] = cluster().await;
    let (connection, noting) = near.open(1).await;
    let post = Post { connection: connection.id, payload: Payload::Text("hi".to_owned()) };
    far.bus.send(near.id, NodeMessage::Post(post)).await.unwrap();
    let closed = far.disconnector.disconnect(&Disconnect::Connection(connection.id)).await;
    assert_eq!((closed.here, closed.elsewhere), (0, Ok(1)));
    eventually(async || noting.0.lock().unwrap().len() == 2).await;
    assert_eq!(*noting.0.lock().unwrap(), [r#"Text("hi")"#, "Disconnected"]);
    assert_eq!(connection.state(), ConnectionState::Closed);
    eventually(async || far.decide(connection.id).await.0 == Err(Refused::ConnectionUnknown)).await;
}

#[actix_rt::test]
async fn a_further_challenge_is_ordered_through_any_node() {
    let [near, far] = cluster().await;
    let (connection, noting) = near.open(1).await;
    let told = || noting.0.lock().unwrap().len();
    assert_eq!(far.challenger.order(connection.id).await, Ok(ChallengeVerdict::NotPossible), "no native client said hello");
    connection.bind(Bound { key: Page::new().key, mode: Mode::Bearer });
    for node in [&near, &far] {
        assert_eq!(node.challenger.order(connection.id).await, Ok(ChallengeVerdict::Ordered));
    }
    assert_eq!(*noting.0.lock().unwrap(), ["challenge: Server"; 2]);
    let nobodys = ConnectionId::from_bytes([9; 16]);
    assert_eq!(far.challenger.order(nobodys).await, Ok(ChallengeVerdict::ConnectionUnknown));
    // The registry still has what closed just now; its owner is ahead.
    connection.advance(ConnectionState::Closed);
    assert_eq!(far.challenger.order(connection.id).await, Ok(ChallengeVerdict::ConnectionUnknown));
    near.bus.leave();
    assert!(far.challenger.order(connection.id).await.is_err(), "its owner is gone: nobody knows");
    assert_eq!(told(), 2);
}

/// What a connection was told, once the calls that other nodes counted until now are counted by its owner.
async fn told_after(far: &Node, noting: &Noting, calls: u64) -> Vec<String> {
    eventually(async || far.metrics.foreign_calls.of(ForeignCall::Told).get() >= calls).await;
    // Order is kept: what is posted after the telling is heard after it.
    let post = Post { connection: ConnectionId::from_bytes([1; 16]), payload: Payload::Text("mark".to_owned()) };
    far.bus.send(NodeId::from_bytes([1; 8]), NodeMessage::Post(post)).await.unwrap();
    let mark = r#"Text("mark")"#;
    eventually(async || noting.0.lock().unwrap().iter().any(|told| told == mark)).await;
    let mut told = noting.0.lock().unwrap();
    told.retain(|told| told != mark);
    told.clone()
}

#[actix_rt::test]
async fn calls_that_other_nodes_allow_are_counted_by_the_owner_too() {
    let [near, far] = cluster().await;
    let (connection, noting) = near.open(1).await;
    eventually(async || far.decide(connection.id).await.1 == DecisionSource::Cache).await;
    // What a node is told of a connection that it does not own counts for nothing.
    far.authorizer.count_calls(&Calls { calls: vec![(connection.id, u32::MAX)] });
    let allowed = |node: &Node| node.metrics.decisions.of(DecisionOutcome::Allow).get();
    while allowed(&near) + allowed(&far) < u64::from(CALLS_PER_MINUTE) {
        let node = if allowed(&near) < 400 { &near } else { &far };
        assert_eq!(node.decide(connection.id).await.0, Ok(()));
    }
    assert_eq!(told_after(&far, &noting, allowed(&far)).await, [""; 0], "not more than may be");
    // One more is enough, unless a minute ended meanwhile.
    eventually(async || {
        assert_eq!(far.decide(connection.id).await.0, Ok(()));
        !told_after(&far, &noting, allowed(&far)).await.is_empty()
    })
    .await;
    assert_eq!(*noting.0.lock().unwrap(), ["challenge: Calls"]);
    assert_eq!(far.metrics.foreign_calls.of(ForeignCall::Told).get(), allowed(&far), "each once");
}

#[actix_rt::test]
async fn a_call_that_its_owner_was_asked_about_is_counted_there_alone() {
    let [near, far] = cluster().await;
    let page = Signing::on(&near, 1).await;
    for counter in 1..10 {
        let decision = far.ask(&page.call(counter), Mode::Proof).await;
        assert_eq!((decision.verdict.map(|_| ()), decision.source), (Ok(()), DecisionSource::Peer));
    }
    // Of these the owner hears nothing otherwise.
    for counter in 10..15 {
        assert!(far.ask(&page.call(counter), Mode::Ticket).await.verdict.is_ok());
    }
    let (allowed, asked) = (&far.metrics.decisions, &far.metrics.decision_sources);
    let untold = allowed.of(DecisionOutcome::Allow).get() - asked.of(DecisionSource::Peer).get();
    assert!((1..=5).contains(&untold), "{untold}");
    eventually(async || far.metrics.foreign_calls.of(ForeignCall::Told).get() > 0).await;
    assert_eq!(far.metrics.foreign_calls.of(ForeignCall::Told).get(), untold);
}

#[actix_rt::test]
async fn a_gap_forgets_everything_that_was_learned() {
    let [near, far] = cluster().await;
    let (connection, _) = near.open(1).await;
    assert_eq!(far.decide(connection.id).await.1, DecisionSource::Registry);
    assert_eq!(far.decide(connection.id).await.1, DecisionSource::Cache);
    let listener = Hearing {
        hub: Hub::new(far.bus.clone(), 1, far.metrics.clone()),
        live: far.live.clone(),
        authorizer: far.authorizer.clone(),
        disconnector: far.disconnector.clone(),
        challenger: far.challenger.clone(),
        asker: far.asker.clone(),
        held: far.held.clone(),
    };
    listener.gap();
    assert_eq!(far.decide(connection.id).await.1, DecisionSource::Registry);
    listener.heard(near.id, NodeMessage::Invalidate(Invalidate::All));
    assert!(far.authorizer.cache().is_empty());
}

/// A verified page, and what it was pushed.
struct Signing {
    page: Page,
    connection: Arc<LiveConnection>,
    ticket: String,
    nonce: [u8; 32],
}

impl Signing {
    async fn on(node: &Node, number: u8) -> Self {
        let (page, (connection, _)) = (Page::new(), node.open(number).await);
        connection.bind(Bound { key: page.key.clone(), mode: Mode::Bearer });
        let issued = node.tickets.issue(&connection).unwrap();
        let nonce = URL_SAFE_NO_PAD.decode(&issued.nonce).unwrap().try_into().unwrap();
        Self { page, connection, ticket: issued.ticket, nonce }
    }

    fn call(&self, counter: u64) -> HeaderMap {
        let call = Call { method: "GET", target: "api.example/greeting" };
        let proof = self.page.sign(call, self.ticket.as_bytes(), counter, self.nonce, None).encode();
        let mut headers = HeaderMap::new();
        for (name, value) in [("countersign-ticket", self.ticket.as_str()), ("countersign-proof", proof.as_str())] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        headers
    }
}

#[actix_rt::test]
async fn a_proof_counts_once_on_all_nodes_together() {
    let [near, far] = cluster().await;
    let page = Signing::on(&near, 1).await;
    let verdict = async |node: &Node, headers: &HeaderMap| {
        let decision = node.ask(headers, Mode::Proof).await;
        (decision.verdict.map(|_| ()), decision.source)
    };
    let (first, second) = (page.call(1), page.call(2));
    assert_eq!(verdict(&far, &first).await, (Ok(()), DecisionSource::Peer), "far asks near");
    assert_eq!(verdict(&near, &first).await, (Err(Refused::ProofReplayed), DecisionSource::Owner));
    assert_eq!(verdict(&near, &second).await, (Ok(()), DecisionSource::Owner));
    assert_eq!(verdict(&far, &second).await, (Err(Refused::ProofReplayed), DecisionSource::Peer));
    let other =
        Signing { page: Page::new(), connection: page.connection.clone(), ticket: page.ticket.clone(), nonce: page.nonce };
    assert_eq!(verdict(&far, &other.call(3)).await.0, Err(Refused::ProofInvalid), "another page's signature");
    page.connection.advance(ConnectionState::Closed);
    assert_eq!(verdict(&far, &page.call(4)).await.0, Err(Refused::ConnectionUnknown), "its owner knows at once");
    // The owner leaves without a word: nobody knows any more.
    near.bus.leave();
    assert_eq!(verdict(&far, &page.call(5)).await.0, Err(Refused::ProofUndecided));
}

#[actix_rt::test]
async fn a_ticket_is_good_on_every_node_until_its_connections_end_is_heard() {
    let [near, far] = cluster().await;
    let page = Signing::on(&near, 1).await;
    let verdict = async |node: &Node| {
        let decision = node.ask(&page.call(1), Mode::Ticket).await;
        (decision.verdict.map(|_| ()), decision.source)
    };
    // Its verification was an invalidation too; the registry is asked once.
    eventually(async || verdict(&far).await == (Ok(()), DecisionSource::Registry)).await;
    assert_eq!(verdict(&near).await, (Ok(()), DecisionSource::Owner));
    let id = page.connection.id;
    near.live.remove(id, page.connection.generation);
    near.keeper.remove(id, page.connection.generation);
    assert_eq!(verdict(&near).await.0, Err(Refused::ConnectionUnknown), "at once");
    eventually(async || verdict(&far).await.0 == Err(Refused::ConnectionUnknown)).await;
}

/// What a node's frame gets for a handle.
async fn fetch(node: &Node, handle: &ProgramHandle) -> (u16, String) {
    let origins = OriginList::new(Vec::new(), OriginPolicy::Refuse, OriginPolicy::Refuse);
    let page = FramePage::new(&origins, Programs::new(node.id, node.held.clone(), node.asker.clone()));
    let app = test::init_service(actix_web::App::new().configure(|app| page.configure(app))).await;
    let request = test::TestRequest::get().uri(&format!("/challenge/program/{}", handle.encode())).to_request();
    let response = test::call_service(&app, request).await;
    (response.status().as_u16(), String::from_utf8(test::read_body(response).await.to_vec()).unwrap())
}

#[actix_web::test]
async fn a_program_is_fetched_through_any_node_and_once() {
    let [one, two] = cluster().await;
    let held = one.held.hold(ProgramHandle::draw(one.id).unwrap(), "AQ".to_owned());
    assert_eq!(fetch(&two, &held.handle()).await, (200, "AQ".to_owned()));
    for node in [&one, &two] {
        assert_eq!(fetch(node, &held.handle()).await.0, 404, "it was given");
    }
    let over = one.held.hold(ProgramHandle::draw(one.id).unwrap(), "AQ".to_owned()).handle();
    assert_eq!(fetch(&two, &over).await.0, 404, "its challenge is over");
    let nobody = ProgramHandle::draw(NodeId::from_bytes([9; 8])).unwrap();
    assert_eq!(fetch(&two, &nobody).await.0, 503, "no such node: nobody knows");
}
