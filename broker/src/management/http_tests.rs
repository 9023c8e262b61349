use std::rc::Rc;
use std::sync::Mutex;

use actix_web::test::{self, TestRequest};
use actix_web::{App, FromRequest as _, body};
use countersign_node_proto::{Ask, Disconnected, Generation, NodeId, NodeMessage, Question, Reply};
use serde_json::{Map, Value};

use super::*;
use crate::close::CloseReason;
use crate::cluster::{Asker, BusListener, LocalBus, LocalExchange};
use crate::config::OriginPolicy;
use crate::edge::OriginList;
use crate::hub::{Dialect, Hub, Outbox, Shard};
use crate::identity::Principal;
use crate::registry::{
    ConnectionState, LiveConnection, LiveConnections, Mailbox, MemoryRegistry, PostError, Registry as _, RegistryKeeper,
    conformance,
};
use crate::telemetry::Metrics;

/// Notes why its connection was closed.
struct Noting(Arc<Mutex<Vec<CloseReason>>>);

impl Mailbox for Noting {
    fn post(&self, _: Payload) -> Result<(), PostError> {
        Err(PostError::Gone)
    }
    fn close(&self, reason: CloseReason) {
        self.0.lock().unwrap().push(reason);
    }
    fn cut(&self) {}
}

/// Hears answers to what the bench's node asked.
struct Answered(Arc<Asker>);

impl BusListener for Answered {
    fn heard(&self, from: NodeId, message: NodeMessage) {
        if let NodeMessage::Answer(answer) = message {
            self.0.answered(from, answer);
        }
    }
    fn gap(&self) {}
}

/// Another node, which gives one answer to whatever it is asked, and notes all that it hears.
struct Answering {
    asker: Arc<Asker>,
    reply: Mutex<Option<Reply>>,
    heard: Mutex<Vec<NodeMessage>>,
}

impl BusListener for Answering {
    fn heard(&self, from: NodeId, message: NodeMessage) {
        self.heard.lock().unwrap().push(message.clone());
        if let (NodeMessage::Ask(ask), Some(reply)) = (message, self.reply.lock().unwrap().clone()) {
            self.asker.answer(from, ask.number, move || reply);
        }
    }
    fn gap(&self) {}
}

struct Bench {
    management: Arc<Management>,
    live: Arc<LiveConnections>,
    registry: Arc<MemoryRegistry>,
    exchange: Arc<LocalExchange>,
    shard: Shard,
    metrics: Arc<Metrics>,
    closes: Arc<Mutex<Vec<CloseReason>>>,
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 8])
}

fn bench() -> Bench {
    let (metrics, live, registry) =
        (Arc::new(Metrics::new()), Arc::new(LiveConnections::new()), Arc::new(MemoryRegistry::new()));
    let exchange = LocalExchange::new();
    let bus: Arc<LocalBus> = exchange.attach(node(1));
    let hub = Hub::new(bus.clone(), 1 << 20, metrics.clone());
    let shard = hub.attach();
    shard.start();
    let keeper = RegistryKeeper::new(registry.clone(), bus.clone());
    let asker = Asker::new(bus.clone(), std::time::Duration::from_millis(200), metrics.clone());
    let disconnector = Arc::new(Disconnector::new(node(1), live.clone(), keeper, registry.clone(), bus.clone(), asker.clone()));
    let challenger = Arc::new(Challenger::new(node(1), live.clone(), registry.clone(), asker.clone()));
    bus.listen(Arc::new(Answered(asker)));
    let cors = Cors::new(Arc::new(OriginList::new(Vec::new(), OriginPolicy::Refuse, OriginPolicy::Refuse)), "connectionId");
    let publisher = Publisher::new(hub, bus, metrics.clone());
    let issuers = vec!["pool".to_owned(), "another".to_owned()];
    let management = Management::new(ApiKeys::parse("secret"), publisher, disconnector, challenger, issuers, cors, 1_000);
    Bench { management, live, registry, exchange, shard, metrics, closes: Arc::default() }
}

impl Bench {
    async fn post(&self, path: &str, key: &str, body: impl Into<Vec<u8>>) -> (u16, Value) {
        let app = test::init_service(App::new().configure(|config| self.management.configure(config))).await;
        let request = TestRequest::post().uri(path).insert_header(("X-API-Key", key)).set_payload(body.into());
        let response = test::call_service(&app, request.to_request()).await;
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&body::to_bytes(response.into_body()).await.unwrap()).unwrap())
    }

    async fn call(&self, path: &str, body: Value) -> (u16, Value) {
        self.post(path, "secret", body.to_string()).await
    }

    fn open(&self, number: u8, subject: &str) -> Arc<LiveConnection> {
        let principal = Principal {
            subject: subject.to_owned(),
            username: subject.to_owned(),
            issuer: "pool".to_owned(),
            issued_at: 0,
            expires_at: u64::MAX,
            claims: Map::new(),
        };
        let id = ConnectionId::from_bytes([number; 16]);
        let mailbox = Box::new(Noting(self.closes.clone()));
        let connection = Arc::new(LiveConnection::new(id, Generation(1), None, None, Some(Arc::new(principal)), 0, mailbox));
        self.live.insert(connection.clone());
        connection
    }

    /// A second node of the cluster, whose bus and ear these are.
    async fn second_node(&self) -> (Arc<LocalBus>, Arc<Answering>) {
        let there = self.exchange.attach(node(2));
        let asker = Asker::new(there.clone(), std::time::Duration::from_millis(200), self.metrics.clone());
        let ear = Arc::new(Answering { asker, reply: Mutex::new(None), heard: Mutex::default() });
        there.listen(ear.clone());
        self.registry.renew_lease(node(2), std::time::Duration::from_secs(60)).await.unwrap();
        (there, ear)
    }

    fn subscribe(&self, number: u8) -> Rc<Outbox> {
        let id = ConnectionId::from_bytes([number; 16]);
        let outbox = Outbox::new(id, Dialect::Plain, 1 << 20, self.metrics.clone());
        self.shard.subscribe(&ChannelName::new("room").unwrap(), outbox.clone()).unwrap();
        outbox
    }
}

#[actix_rt::test]
async fn publish_reaches_subscribers_with_the_data_as_it_was_written() {
    let bench = bench();
    let (one, two) = (bench.subscribe(1), bench.subscribe(2));
    let body = format!(r#"{{"channel":"room","data":{{"b": 1.50,"a":[]}},"exclude":"{}"}}"#, two.id());
    assert_eq!(bench.post("/api/v1/publish", "secret", body).await, (200, json!({"nodes": 1})));
    let frame = std::future::poll_fn(|cx| one.poll_slice(cx, 8_192)).await;
    assert_eq!(&frame[2..], br#"{"b": 1.50,"a":[]}"#);
    assert_eq!(two.queued_bytes(), 0);
    let nobody = bench.call("/api/v1/publish", json!({"channel": "empty", "data": null})).await;
    assert_eq!(nobody, (200, json!({"nodes": 0})));
}

#[actix_rt::test]
async fn wrong_requests_are_told_what_is_wrong() {
    let bench = bench();
    let id = ConnectionId::from_bytes([1; 16]).encode();
    let publish = "/api/v1/publish";
    let disconnect = "/api/v1/disconnect";
    for (path, body, status, hint) in [
        (publish, "", 400, "one JSON object"),
        (publish, r#"["room", 1, null]"#, 400, "one JSON object"),
        (publish, "{", 400, "EOF"),
        (publish, r#"{"data":1}"#, 400, "channel"),
        (publish, r#"{"channel":"a b","data":1}"#, 400, "`channel`: a channel name"),
        (publish, r#"{"channel":"a"}"#, 400, "data"),
        (publish, r#"{"channel":"a","data":1,"exclude":"short"}"#, 400, "`exclude`"),
        (publish, r#"{"channel":"a","data":1,"excluded":1}"#, 400, "`excluded`"),
        (publish, r#"{"channel":"a","data":1} {}"#, 400, "one JSON object"),
        (disconnect, "{}", 400, "either"),
        (disconnect, &format!(r#"{{"connection":"{id}","principal":"ada"}}"#), 400, "either"),
        (disconnect, r#"{"issuer":"pool"}"#, 400, "either"),
        (disconnect, &format!(r#"{{"connection":"{id}","issuer":"pool"}}"#), 400, "either"),
        (disconnect, r#"{"connection":7}"#, 400, "`connection`"),
        (publish, &format!(r#"{{"channel":"a","data":"{}"}}"#, "x".repeat(1_000)), 413, "1000 bytes"),
    ] {
        let (seen, answer) = bench.post(path, "secret", body).await;
        assert_eq!(seen, status, "{body}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains(hint), "{body}: {answer}");
    }
}

#[actix_rt::test]
async fn without_a_key_nothing_is_read() {
    let bench = bench();
    for (key, said) in [("", "no api key was sent"), ("wrong", "none of this node's"), ("secret2", "none of this node's")] {
        let (status, answer) = bench.post("/api/v1/publish", key, "not json").await;
        assert_eq!((status, answer["error"].as_str()), (401, Some("api_key_invalid")));
        assert!(answer["message"].as_str().unwrap().contains(said), "{answer}");
    }
    let app = test::init_service(App::new().configure(|config| bench.management.configure(config))).await;
    let bearer = TestRequest::post().uri("/api/v1/disconnect").insert_header(("Authorization", "Bearer secret"));
    assert_eq!(test::call_service(&app, bearer.to_request()).await.status(), 400, "the key is good, the body is not");
    let get = TestRequest::get().uri("/api/v1/publish").insert_header(("X-API-Key", "secret"));
    assert_eq!(test::call_service(&app, get.to_request()).await.status(), 405);
}

#[actix_rt::test]
async fn disconnect_closes_one_connection_or_all_of_a_principal_at_once() {
    let bench = bench();
    let (one, two, other) = (bench.open(1, "ada"), bench.open(2, "ada"), bench.open(3, "eve"));
    let disconnect = async |body| bench.call("/api/v1/disconnect", body).await;
    assert_eq!(disconnect(json!({"connection": one.id})).await, (200, json!({"closed": 1})));
    assert_eq!(one.state(), ConnectionState::Closed, "before its closing handshake ends");
    assert!(bench.live.get(one.id).is_none());
    assert_eq!(disconnect(json!({"connection": one.id})).await, (200, json!({"closed": 0})));
    assert_eq!(disconnect(json!({"principal": "ada", "issuer": "another"})).await, (200, json!({"closed": 0})));
    assert_ne!(two.state(), ConnectionState::Closed, "of another issuer's ada");
    assert_eq!(disconnect(json!({"principal": "ada", "issuer": "pool"})).await, (200, json!({"closed": 1})));
    assert_eq!(two.state(), ConnectionState::Closed);
    assert_ne!(other.state(), ConnectionState::Closed);
    assert_eq!(*bench.closes.lock().unwrap(), [CloseReason::Disconnected; 2]);
}

#[actix_rt::test]
async fn disconnect_reaches_other_nodes_and_counts_what_they_say_that_they_closed() {
    let bench = bench();
    let (there, ear) = bench.second_node().await;
    let entry = conformance::entry(7, 2);
    bench.registry.apply(&[crate::registry::Write::Register(Box::new(entry.clone()))]).await.unwrap();
    let by_connection = json!({"connection": entry.id});
    let [anyones, ours, others] = ["", "pool", "another"].map(|issuer| match issuer {
        "" => json!({"principal": "ada"}),
        _ => json!({"principal": "ada", "issuer": issuer}),
    });
    let closed = |closed| Some(Reply::Disconnect(Disconnected { closed }));
    for (order, reply, status, answer) in [
        (&by_connection, closed(1), 200, json!(1)),
        (&by_connection, closed(0), 200, json!(0)),
        (&anyones, closed(3), 200, json!(3)),
        (&ours, closed(2), 200, json!(2)),
        (&others, closed(0), 200, json!(0)),
        // An older node obeys and does not count: what the registry had of it stands in.
        (&by_connection, Some(Reply::NotUnderstood), 200, json!(1)),
        (&anyones, Some(Reply::NotUnderstood), 200, json!(1)),
        (&others, Some(Reply::NotUnderstood), 200, json!(0)),
        // One that does not answer may not have heard it; it matters where it has such connections.
        (&by_connection, None, 503, Value::Null),
        (&anyones, None, 503, Value::Null),
        (&others, None, 200, json!(0)),
    ] {
        *ear.reply.lock().unwrap() = reply.clone();
        let counted = matches!(reply, Some(Reply::Disconnect(_)));
        let (seen, body) = bench.call("/api/v1/disconnect", order.clone()).await;
        assert_eq!((seen, &body["closed"]), (status, &answer), "{order} {reply:?}: {body}");
        let told = || ear.heard.lock().unwrap().iter().any(|heard| matches!(heard, NodeMessage::Disconnect(_)));
        let all = *order != by_connection;
        // Whatever came of the question, the order itself goes out.
        crate::cluster::conformance::eventually(async || told() == (all || !counted)).await;
        ear.heard.lock().unwrap().clear();
    }
    // One that nobody hears any more.
    *ear.reply.lock().unwrap() = closed(1);
    there.leave();
    assert_eq!(bench.call("/api/v1/disconnect", anyones).await.0, 503);
}

#[actix_rt::test]
async fn an_issuer_that_nobody_can_be_of_is_told_from_one_of_whom_nobody_is_connected() {
    let bench = bench();
    let order = async |issuer: &str| bench.call("/api/v1/disconnect", json!({"principal": "ada", "issuer": issuer})).await;
    assert_eq!(order("another").await, (200, json!({"closed": 0})));
    let (status, answer) = order("https://pool.example").await;
    assert_eq!((status, answer["error"].as_str()), (400, Some("bad_request")));
    assert!(answer["message"].as_str().unwrap().contains("`issuer`: this node accepts"), "{answer}");
}

#[actix_rt::test]
async fn a_further_challenge_is_ordered_of_the_owner_and_counts_only_if_that_confirms_it() {
    let bench = bench();
    let (_there, ear) = bench.second_node().await;
    let entry = conformance::entry(7, 2);
    let order = async || bench.call("/api/v1/challenge", json!({"connection": entry.id})).await;
    assert_eq!(order().await.0, 404, "nobody knows it");
    assert!(ear.heard.lock().unwrap().is_empty(), "so nobody is asked");
    bench.registry.apply(&[crate::registry::Write::Register(Box::new(entry.clone()))]).await.unwrap();
    for (reply, status, hint) in [
        (Some(Reply::Challenge(ChallengeVerdict::Ordered)), 202, ""),
        (Some(Reply::Challenge(ChallengeVerdict::ConnectionUnknown)), 404, "no such connection"),
        (Some(Reply::Challenge(ChallengeVerdict::NotPossible)), 404, "native client"),
        (Some(Reply::Challenge(ChallengeVerdict::Unknown)), 503, "of another version"),
        (Some(Reply::NotUnderstood), 503, "of another version"),
        (Some(Reply::Program(None)), 503, "of another version"),
        (None, 503, "did not answer in time"),
    ] {
        *ear.reply.lock().unwrap() = reply.clone();
        let (seen, answer) = order().await;
        assert_eq!(seen, status, "{reply:?}: {answer}");
        assert!(answer["message"].as_str().unwrap_or_default().contains(hint), "{reply:?}: {answer}");
    }
    let question = Question::Challenge(countersign_node_proto::ChallengeQuestion { connection: entry.id });
    let asked = ear
        .heard
        .lock()
        .unwrap()
        .iter()
        .all(|heard| matches!(heard, NodeMessage::Ask(Ask { question: of, .. }) if *of == question));
    assert!(asked, "nothing else was said");
}

#[actix_rt::test]
async fn an_open_connection_that_is_not_verified_is_not_looked_for_elsewhere() {
    let bench = bench();
    let open = bench.open(1, "ada");
    let (status, answer) = bench.call("/api/v1/challenge", json!({"connection": open.id})).await;
    assert_eq!((status, answer["error"].as_str()), (404, Some("connection_unknown")));
    assert!(answer["message"].as_str().unwrap().contains("native client"), "{answer}");
}

#[actix_rt::test]
async fn a_body_that_never_ends_is_given_up() {
    let bench = bench();
    let (mut body, payload) = actix_http::h1::Payload::create(false);
    body.feed_data(b"{\"channel\":".as_slice().into());
    let (request, _) = TestRequest::post().insert_header(("X-API-Key", "secret")).to_http_parts();
    let body_of_request = web::Payload::from_request(&request, &mut payload.into()).await.unwrap();
    tokio::time::pause();
    let refusal = bench.management.admit::<Value>(&request, body_of_request).await.unwrap_err();
    assert_eq!(refusal.status(), StatusCode::REQUEST_TIMEOUT);
    drop(body);
}
