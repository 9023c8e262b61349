//! Nodes of two versions in one cluster: what the older ones do not know they skip and count, and nothing else changes for them.
//!
//! There is no next version yet, so one is played: it beats, holds a lease, owns a connection, publishes and gives orders over the
//! real Redis, in frames and entries that say more than this version understands.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign_node_proto::{
    ChannelName, ConnectionId, Decoded, Layout, Message, NodeId, NodeMessage, Payload, Publication, Topic, decode,
};
use countersign_tests::cluster::decisions::{Decisions, Subject};
use countersign_tests::cluster::delivery::{CHANNEL, Delivery, RULE};
use countersign_tests::cluster::{Cluster, ClusterPlan};
use countersign_tests::eventually;
use countersign_tests::poll::PATIENCE;
use futures_util::StreamExt as _;
use redis::aio::MultiplexedConnection;
use serde::Serialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// Where only the peer publishes.
const NEWS: &str = "check:news";
/// Publications of the peer.
const PUBLICATIONS: u64 = 400;
/// Between two heartbeats of the peer, each of which renews its lease.
const BEAT_EVERY: Duration = Duration::from_millis(250);
/// Life of the peer's lease.
const PEER_LEASE_MS: u64 = 3_000;

/// A frame as the next version writes it: with fields of its own before, between and after the known ones.
#[derive(Serialize)]
struct Frame<'a> {
    hops: [u8; 2],
    v: u16,
    n: NodeId,
    zone: &'a str,
    s: u64,
    t: u64,
    k: &'a str,
    b: Bytes,
    trace: BTreeMap<&'a str, Vec<u64>>,
}

/// The numbers that the peer has come to: in all broadcasts, and in what it said to each node.
#[derive(Default)]
struct Numbers {
    broadcast: u64,
    direct: HashMap<NodeId, u64>,
}

/// A node of the next version.
struct Peer {
    id: NodeId,
    layout: Layout,
    redis: MultiplexedConnection,
    /// Held while something is said, so that numbers go out in order.
    numbers: Mutex<Numbers>,
    /// Broadcasts that this version does not know.
    strange: AtomicU64,
    /// What it heard of others, by kind; a frame that it cannot read has none.
    heard: std::sync::Mutex<BTreeMap<&'static str, u64>>,
}

/// A peer that takes part; dropped, it is dead.
struct Participant {
    peer: Arc<Peer>,
    tasks: [JoinHandle<()>; 2],
}

impl Participant {
    /// Takes a lease, beats and listens.
    async fn join(cluster: &Cluster) -> Self {
        let client = redis::Client::open(format!("redis://tests:tests@{}", cluster.redis.address())).unwrap();
        // The client's deadlines of its own are too short for a busy machine.
        let patient =
            redis::AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        let peer = Arc::new(Peer {
            id: NodeId::from_bytes([0x5a; 8]),
            layout: Layout::new("countersign").unwrap(),
            redis: client.get_multiplexed_async_connection_with_config(&patient).await.unwrap(),
            numbers: Mutex::default(),
            strange: AtomicU64::new(0),
            heard: std::sync::Mutex::default(),
        });
        let mut stream = client.get_async_pubsub().await.unwrap();
        for topic in [Topic::Broadcast, Topic::Node(peer.id), Topic::Channel(ChannelName::new(CHANNEL).unwrap())] {
            stream.subscribe(peer.layout.topic(&topic)).await.unwrap();
        }
        let (beating, hearing) = (Arc::clone(&peer), Arc::clone(&peer));
        let beats = tokio::spawn(async move { beating.beat().await });
        let hears = tokio::spawn(async move {
            let mut messages = stream.into_on_message();
            while let Some(message) = messages.next().await {
                hearing.hear(message.get_payload_bytes());
            }
        });
        Self { peer, tasks: [beats, hears] }
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Peer {
    /// Lives, and now and then says what only its own version knows.
    async fn beat(&self) {
        let mut ticks = tokio::time::interval(BEAT_EVERY);
        for beat in 1_u64.. {
            ticks.tick().await;
            // A lease that says something, where the older ones write `1`.
            let lease = json!({ "version": 2, "zone": "b", "until": beat }).to_string();
            self.ask(redis::cmd("SET").arg(self.layout.lease(self.id)).arg(lease).arg("PX").arg(PEER_LEASE_MS)).await;
            self.ask(redis::cmd("SADD").arg(self.layout.nodes()).arg(self.id.encode())).await;
            #[derive(Serialize)]
            struct Beat {
                load: [f32; 2],
                beat: u64,
                capabilities: Vec<&'static str>,
            }
            self.broadcast(1, "heartbeat", &Beat { load: [0.5, 0.25], beat, capabilities: vec!["handover"] }).await;
            self.broadcast(1, "presence", &json!({ "channel": "x", "members": [1, 2, 3] })).await;
            self.broadcast(2, "heartbeat", &json!("of another shape")).await;
            self.strange.fetch_add(2, Ordering::Relaxed);
        }
    }

    async fn broadcast(&self, v: u16, kind: &str, body: &impl Serialize) {
        let mut numbers = self.numbers.lock().await;
        numbers.broadcast += 1;
        self.say(&Topic::Broadcast, numbers.broadcast, v, kind, body).await;
    }

    async fn tell(&self, node: NodeId, v: u16, kind: &str, body: &impl Serialize) {
        let mut numbers = self.numbers.lock().await;
        let number = numbers.direct.entry(node).or_default();
        *number += 1;
        self.say(&Topic::Node(node), *number, v, kind, body).await;
    }

    async fn publish(&self, number: u64) {
        #[derive(Serialize)]
        struct Later {
            expires_in_ms: u64,
            channel: ChannelName,
            payload: Payload,
            history: Option<Vec<u64>>,
        }
        let channel = ChannelName::new(NEWS).unwrap();
        let payload = Payload::Text(json!({ "number": number }).to_string());
        let topic = Topic::Channel(channel.clone());
        let later = Later { expires_in_ms: 60_000, channel, payload, history: Some(vec![1, 2]) };
        self.say(&topic, 0, 1, "publication", &later).await;
    }

    async fn say(&self, topic: &Topic, s: u64, v: u16, k: &str, body: &impl Serialize) {
        let b = rmp_serde::to_vec_named(body).unwrap().into();
        let trace = BTreeMap::from([("spans", vec![1, 2, 3])]);
        let frame = Frame { hops: [1, 2], v, n: self.id, zone: "b", s, t: 1, k, b, trace };
        let bytes = rmp_serde::to_vec_named(&frame).unwrap();
        self.ask(redis::cmd("PUBLISH").arg(self.layout.topic(topic)).arg(bytes)).await;
    }

    /// Writes an entry of a verified connection, with fields that nobody else knows.
    async fn register(&self, id: ConnectionId) {
        let mut entry = redis::cmd("HSET");
        entry.arg(self.layout.entry(id)).arg("zone").arg("b").arg("n").arg(self.id.encode()).arg("g").arg(7).arg("v").arg(1);
        entry.arg("c").arg(1).arg("a").arg(2).arg("p").arg("ada").arg("o").arg("https://app.example");
        entry.arg("step").arg("3").arg("-channel").arg("").arg("+check:news").arg("since=5");
        self.ask(&entry).await;
        let member = Layout::member(id, self.id);
        self.ask(redis::cmd("SADD").arg(self.layout.node(self.id)).arg(id.encode())).await;
        self.ask(redis::cmd("ZADD").arg(self.layout.principal("ada")).arg(0).arg(&member)).await;
        self.ask(redis::cmd("ZADD").arg(self.layout.channel(&ChannelName::new(NEWS).unwrap())).arg(0).arg(&member)).await;
    }

    async fn ask(&self, command: &redis::Cmd) {
        let _: redis::Value = command.query_async(&mut self.redis.clone()).await.unwrap();
    }

    fn hear(&self, frame: &[u8]) {
        let kind = match decode(frame) {
            Ok(Decoded::Message(envelope, _) | Decoded::Unknown { envelope, .. }) if envelope.from == self.id => return,
            Ok(Decoded::Message(_, Message::Heartbeat { .. })) => "heartbeat",
            Ok(Decoded::Message(_, Message::Node(NodeMessage::Publication(Publication { .. })))) => "publication",
            Ok(_) => "other",
            Err(_) => "unreadable",
        };
        *self.heard.lock().unwrap().entry(kind).or_default() += 1;
    }

    fn heard(&self, kind: &str) -> u64 {
        self.heard.lock().unwrap().get(kind).copied().unwrap_or_default()
    }
}

/// The node that owns a connection, as Redis has it.
async fn owner_of(cluster: &Cluster, id: &str) -> NodeId {
    let node = cluster.redis.ask(&["HGET", &format!("{{countersign}}:entry:{id}"), "n"]).await.texts().concat();
    node.parse().unwrap()
}

/// What a node counted on the bus.
async fn counted(cluster: &Cluster, node: usize, name: &str, label: (&str, &str)) -> u64 {
    cluster.nodes[node].metrics().await.sum(name, &[label]) as u64
}

#[tokio::test]
async fn a_node_of_a_later_version_takes_part_and_disturbs_nobody() {
    let cluster = ClusterPlan::new().nodes(2).toml(RULE).start().await;
    let delivery = Delivery::start(&cluster).await;
    let mut listeners = Vec::new();
    for node in 0..2 {
        let mut socket = cluster.dial(node).verified().await;
        socket.ok("subscribe", json!({ "channel": NEWS })).await;
        listeners.push(socket);
    }
    for node in &cluster.nodes {
        // CHANNEL and NEWS.
        node.metric_reaches("countersign_bus_channels", &[], 2.0).await;
    }
    let connection = |owner, socket: &countersign_tests::socket::Socket| Subject {
        id: socket.id.clone(),
        owner,
        verified: true,
        closed: None,
    };
    for socket in &listeners {
        cluster.all_answer(&socket.id, 200).await;
    }
    let decisions =
        Decisions::start(&cluster, listeners.iter().enumerate().map(|(at, socket)| connection(at, socket)).collect());
    let busy = cluster.busy();

    let participant = Participant::join(&cluster).await;
    let peer = &participant.peer;
    for node in &cluster.nodes {
        node.metric_reaches("countersign_cluster_nodes", &[], 3.0).await;
    }
    for number in 0..PUBLICATIONS {
        peer.publish(number).await;
        // Between them what the older nodes do not know, on the same channel.
        if number % 4 == 0 {
            let channel = Topic::Channel(ChannelName::new(NEWS).unwrap());
            peer.say(&channel, 0, 1, "snapshot", &json!({ "upto": number })).await;
            peer.say(&channel, 0, 2, "publication", &json!({ "channels": [NEWS] })).await;
            peer.strange.fetch_add(2, Ordering::Relaxed);
        }
    }
    for socket in &mut listeners {
        for number in 0..PUBLICATIONS {
            assert_eq!(socket.event("publication").await["data"]["number"], number, "in order, and none is missing");
        }
    }

    // Its connection is decided on by the others, and listed; when it says that it closed, nobody allows it any more.
    let its_own = ConnectionId::from_bytes([0x21; 16]);
    peer.register(its_own).await;
    cluster.all_answer(&its_own.encode(), 200).await;
    peer.ask(redis::cmd("DEL").arg(peer.layout.entry(its_own))).await;
    #[derive(Serialize)]
    struct Forget {
        connection: ConnectionId,
    }
    peer.broadcast(1, "invalidate", &Forget { connection: its_own }).await;
    cluster.all_answer(&its_own.encode(), 401).await;

    // An order of its own to one node.
    let mut ordered = cluster.dial(1).verified().await;
    cluster.all_answer(&ordered.id, 200).await;
    let owner = owner_of(&cluster, &ordered.id).await;
    peer.tell(owner, 2, "handover", &json!({ "to": "elsewhere" })).await;
    peer.tell(owner, 1, "disconnect", &Forget { connection: ConnectionId::parse(ordered.id.as_bytes()).unwrap() }).await;
    assert_eq!(ordered.close_code().await, 4410);
    cluster.all_answer(&ordered.id, 401).await;

    eventually("the peer hears the others", || async {
        (peer.heard("heartbeat") > 2 && peer.heard("publication") > 10).then_some(())
    })
    .await;
    for node in 0..2 {
        for cause in ["sequence", "unreadable", "overflow", "disconnected", "newer_version"] {
            assert_eq!(counted(&cluster, node, "countersign_bus_gaps_total", ("cause", cause)).await, 0, "{cause}");
        }
        // The one order that it does not know went to one node.
        let to_one = u64::from(node == 1);
        eventually("everything strange is counted", || async {
            let strange = peer.strange.load(Ordering::Relaxed);
            let found = counted(&cluster, node, "countersign_bus_drops_total", ("reason", "unknown_kind")).await;
            (found == strange + to_one).then_some(())
        })
        .await;
    }

    // What it may have said of remembered decisions in words of its own is a doubt: all of them are looked up again.
    peer.broadcast(2, "invalidate", &json!({ "subtree": "a" })).await;
    for node in &cluster.nodes {
        node.metric_reaches("countersign_bus_gaps_total", &[("cause", "newer_version")], 1.0).await;
    }
    assert_eq!(peer.heard("unreadable"), 0, "what the older nodes say is readable for ever");
    delivery.finish().await.check(&[]);
    let answers = decisions.check(&[], cluster.added(&busy)).await;
    assert!(answers > 20, "{answers} decisions");
}

#[tokio::test]
async fn what_a_dead_node_of_a_later_version_leaves_is_taken_out_whole() {
    let cluster = ClusterPlan::new().nodes(2).start().await;
    let participant = Participant::join(&cluster).await;
    let ids: Vec<ConnectionId> = (0..50).map(|byte| ConnectionId::from_bytes([byte; 16])).collect();
    for id in &ids {
        participant.peer.register(*id).await;
    }
    cluster.all_answer(&ids[0].encode(), 200).await;
    drop(participant);
    let died = Instant::now();
    cluster.all_answer(&ids[0].encode(), 401).await;
    eprintln!("denied {:?} after its last renewal at most {BEAT_EVERY:?} earlier", died.elapsed());
    eventually("nothing of it is left", || async {
        let keys = cluster.redis.keys("*").await;
        let left =
            keys.iter().any(|key| [":entry:", ":principal:", ":channel:", ":node:"].iter().any(|kind| key.contains(kind)));
        (!left).then_some(())
    })
    .await;
    for node in &cluster.nodes {
        node.metric_reaches("countersign_cluster_nodes", &[], 2.0).await;
    }
}
