use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use countersign_node_proto::Invalidate;

use super::*;
use crate::cluster::conformance::{self, Ear, numbered, publication};
use crate::config::{Millis, Seconds};
use crate::link::RedisTarget;
use crate::link::testing::{self, PATIENCE, SlowWay, TestCluster, TestRedis, eventually, link_by, link_to, soon};

fn id(node: u8) -> NodeId {
    NodeId::from_bytes([node; 8])
}

/// A node's bus over a link, and what it hears.
struct TestNode {
    bus: Arc<RedisBus>,
    ear: Arc<Ear>,
}

impl TestNode {
    fn over(link: CommandLink, node: u8, settings: &ClusterSettings) -> Self {
        let metrics = Arc::new(Metrics::new());
        let bus = RedisBus::start(link, Layout::new("test").unwrap(), id(node), settings, metrics);
        let ear = Arc::new(Ear::default());
        bus.listen(ear.clone());
        Self { bus, ear }
    }

    /// Listens before this returns.
    async fn at(address: std::net::SocketAddr, node: u8) -> Self {
        // A lease that no test outlives: the doubt at its end is tested on its own.
        let settings = ClusterSettings { lease_seconds: Seconds(600), ..testing::settings(address) };
        let node = Self::over(link_to(address).await, node, &settings);
        node.bus.listening().await;
        node
    }

    async fn on(redis: &TestRedis, node: u8) -> Self {
        Self::at(redis.address(), node).await
    }

    async fn in_cluster(cluster: &TestCluster, node: u8) -> Self {
        let settings = ClusterSettings { lease_seconds: Seconds(600), ..cluster.settings() };
        let node = Self::over(link_by(&settings).await, node, &settings);
        eventually("the node listens", async || tokio::time::timeout(Duration::ZERO, node.bus.listening()).await.is_ok()).await;
        node
    }

    fn metrics(&self) -> &Metrics {
        &self.bus.shared.metrics
    }

    fn proven(&self) -> u64 {
        self.metrics().bus_probes.of(ProbeOutcome::Heard).get()
    }
}

/// Delivery works from one node to the other, by channel.
async fn delivers(from: &TestNode, to: &TestNode, number: usize) {
    to.bus.subscribe(&ChannelName::new("room").unwrap());
    eventually("the publication is delivered", async || {
        let said = from.bus.publish(publication("room", number)).await;
        said == Ok(1) && to.ear.heard().contains(&NodeMessage::Publication(publication("room", number)))
    })
    .await;
}

#[tokio::test]
async fn redis_bus_conforms() {
    let Some(redis) = TestRedis::start().await else { return };
    let attached = Mutex::new(Vec::new());
    conformance::run(async |node, listener| {
        let settings = ClusterSettings { lease_seconds: Seconds(600), ..testing::settings(redis.address()) };
        let metrics = Arc::new(Metrics::new());
        let bus = RedisBus::start(redis.link().await, Layout::new("test").unwrap(), node, &settings, metrics);
        bus.listen(listener);
        bus.listening().await;
        attached.lock().unwrap().push(bus.clone());
        bus as Arc<dyn Bus>
    })
    .await;
}

#[tokio::test]
async fn redis_cluster_bus_conforms() {
    let Some(cluster) = TestCluster::start().await else { return };
    let attached = Mutex::new(Vec::new());
    conformance::run(async |node, listener| {
        let settings = ClusterSettings { lease_seconds: Seconds(600), ..cluster.settings() };
        let metrics = Arc::new(Metrics::new());
        let link = link_by(&settings).await;
        let bus = RedisBus::start(link, Layout::new("test").unwrap(), node, &settings, metrics);
        bus.listen(listener);
        bus.listening().await;
        attached.lock().unwrap().push(bus.clone());
        bus as Arc<dyn Bus>
    })
    .await;
}

#[tokio::test]
async fn channels_spread_over_the_servers_of_a_cluster_and_each_is_proven() {
    let Some(cluster) = TestCluster::start().await else { return };
    let (one, two) = (TestNode::in_cluster(&cluster, 1).await, TestNode::in_cluster(&cluster, 2).await);
    (0..300).for_each(|number| two.bus.subscribe(&ChannelName::new(&format!("c{number}")).unwrap()));
    eventually("all are heard", async || two.metrics().bus_channels.get() == 300).await;
    for number in 0..300 {
        assert_eq!(one.bus.publish(publication(&format!("c{number}"), number)).await, Ok(1), "{number}");
    }
    eventually("all arrive", async || two.ear.heard().len() == 300).await;
    for server in &cluster.servers {
        // The echo of each node, what is said to all, and to each of them; and the channels.
        let channels = server.ask(&["PUBSUB", "SHARDCHANNELS", "*"]).await.len();
        assert!((50..200).contains(&channels), "{channels} of 300 on one of three servers");
    }
    let shards = one.bus.shared.shards.all();
    assert_eq!(shards.len(), 3);
    assert!(shards.iter().all(|shard| shard.echo().is_some()));
    eventually("each is proven", async || one.bus.unproven() < Duration::from_millis(400)).await;
}

/// Publishes numbers on a channel while something happens; those that arrived, in order of arrival.
async fn numbers_during(from: &TestNode, to: &TestNode, channel: &str, happens: impl AsyncFnOnce()) -> (Vec<usize>, usize) {
    let over = AtomicBool::new(false);
    let publishing = async {
        let mut number = 0;
        let mut after = 0;
        // A second more, so that what happens afterwards is seen.
        while after < 200 {
            // Not one after the other: several are on their way at once.
            let said = (0..3).map(|more| from.bus.publish(publication(channel, number + more)));
            futures_util::future::join_all(said).await;
            number += 3;
            after += usize::from(over.load(Ordering::Relaxed));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        number
    };
    let happening = async {
        eventually("some arrive before", async || to.ear.heard().len() > 60).await;
        happens().await;
        over.store(true, Ordering::Relaxed);
    };
    let (published, ()) = tokio::join!(publishing, happening);
    let arrived = || {
        let texts = to.ear.heard().into_iter().filter_map(|message| match message {
            NodeMessage::Publication(publication) if publication.channel.as_str() == channel => Some(publication.payload),
            _ => None,
        });
        texts
            .map(|payload| match payload {
                countersign_node_proto::Payload::Text(text) => text.parse().unwrap(),
                payload => panic!("{payload:?}"),
            })
            .collect::<Vec<usize>>()
    };
    eventually("the last arrives", async || arrived().last() == Some(&(published - 1))).await;
    (arrived(), published)
}

#[tokio::test]
async fn a_channel_whose_slot_moves_under_load_is_heard_at_its_new_server_and_in_order() {
    let Some(cluster) = TestCluster::start().await else { return };
    let (one, two) = (TestNode::in_cluster(&cluster, 1).await, TestNode::in_cluster(&cluster, 2).await);
    delivers(&one, &two, 9_999_999).await;
    let channel = ChannelName::new("moves").unwrap();
    two.bus.subscribe(&channel);
    let said = AtomicUsize::new(0);
    eventually("it is heard", async || {
        let tries = said.fetch_add(1, Ordering::Relaxed);
        one.bus.publish(publication("moves", tries)).await == Ok(1)
    })
    .await;
    // All of it has arrived before the numbers begin anew.
    let last = publication("moves", said.load(Ordering::Relaxed) - 1);
    eventually("the last arrives", async || two.ear.heard().contains(&NodeMessage::Publication(last.clone()))).await;
    let name = one.bus.shared.layout.topic(&Topic::Channel(channel));
    two.ear.forget();
    let gaps = two.ear.gaps();
    let (arrived, published) = numbers_during(&one, &two, "moves", async || {
        for _ in 0..4 {
            let to = (cluster.server_of(&name).await + 1) % 3;
            cluster.move_slot(&name, to).await;
            let before = two.ear.heard().len();
            eventually("some arrive by the new way", async || two.ear.heard().len() > before + 60).await;
        }
    })
    .await;
    let astray: Vec<_> = arrived.windows(2).filter(|pair| pair[0] >= pair[1]).collect();
    assert!(astray.is_empty(), "in order and once: {astray:?}");
    let lost = published - arrived.len();
    eprintln!("{lost} of {published} lost over four moves");
    assert!(lost < published / 20, "{lost} of {published} lost");
    assert_eq!(one.bus.publish(publication("moves", 0)).await, Ok(1));
    assert_eq!(two.ear.gaps(), gaps, "decisions do not hang on it");
}

#[tokio::test]
async fn what_is_said_to_all_is_in_doubt_when_its_slot_moves() {
    let Some(cluster) = TestCluster::start().await else { return };
    let (one, two) = (TestNode::in_cluster(&cluster, 1).await, TestNode::in_cluster(&cluster, 2).await);
    let name = one.bus.shared.layout.topic(&Topic::Broadcast);
    let gaps = [one.ear.gaps(), two.ear.gaps()];
    let to = (cluster.server_of(&name).await + 1) % 3;
    cluster.move_slot(&name, to).await;
    eventually("both are told", async || one.ear.gaps() > gaps[0] && two.ear.gaps() > gaps[1]).await;
    eventually("it is heard again", async || {
        one.bus.broadcast(numbered(7)).await.is_ok() && two.ear.heard().contains(&numbered(7))
    })
    .await;
    eventually("both are proven", async || [&one, &two].iter().all(|node| node.bus.silence() < Duration::from_millis(400)))
        .await;
}

/// The subscription is gone and the connection is not, and nothing is said to all by way of it: only an echo can tell.
#[tokio::test]
async fn a_server_of_a_cluster_that_is_up_but_deaf_is_listened_to_anew() {
    let Some(cluster) = TestCluster::start().await else { return };
    let layout = Layout::new("test").unwrap();
    let core = [Topic::Broadcast, Topic::Node(id(2))].map(|topic| layout.topic(&topic));
    let used = [cluster.server_of(&core[0]).await, cluster.server_of(&core[1]).await];
    let place = (0..3).find(|place| !used.contains(place)).unwrap();
    let way = DeafWay::to(cluster.servers[place].address()).await;
    cluster.announce(place, way.address).await;
    let (one, two) = (TestNode::in_cluster(&cluster, 1).await, TestNode::in_cluster(&cluster, 2).await);
    let mut names = (0..).map(|number| format!("c{number}"));
    let name = loop {
        let name = names.next().unwrap();
        let topic = Topic::Channel(ChannelName::new(&name).unwrap());
        if cluster.server_of(&layout.topic(&topic)).await == place {
            break name;
        }
    };
    two.bus.subscribe(&ChannelName::new(&name).unwrap());
    let heard = async |number| {
        let said = one.bus.publish(publication(&name, number)).await;
        said == Ok(1) && two.ear.heard().contains(&NodeMessage::Publication(publication(&name, number)))
    };
    eventually("it is heard", async || heard(1).await).await;
    let (gaps, deaf) = (two.ear.gaps(), || two.metrics().bus_probes.of(ProbeOutcome::Deaf).get());
    way.swallow_pushes();
    eventually("the deaf link is built anew", async || deaf() > 0).await;
    eventually("it is heard again", async || heard(2).await).await;
    assert_eq!(two.ear.gaps(), gaps, "decisions do not hang on it");
}

#[tokio::test]
async fn concurrent_speakers_make_no_gap() {
    let Some(redis) = TestRedis::start().await else { return };
    let (one, two) = (TestNode::on(&redis, 1).await, TestNode::on(&redis, 2).await);
    let said = (0..2_000).map(|number| {
        let bus = one.bus.clone();
        async move {
            match number % 2 {
                0 => bus.broadcast(numbered(number)).await,
                _ => bus.send(id(2), numbered(number)).await,
            }
        }
    });
    futures_util::future::try_join_all(said).await.unwrap();
    eventually("all is heard", async || two.ear.heard().len() == 2_000).await;
    assert_eq!(two.ear.gaps(), 0);
    let round_trips = one.bus.shared.link.metrics().redis_seconds.of(crate::telemetry::RedisCall::Publish).get_sample_count();
    assert!(round_trips < 500, "2,000 messages took {round_trips} round trips");
}

#[tokio::test]
async fn a_message_to_a_node_that_is_not_there_fails() {
    let Some(redis) = TestRedis::start().await else { return };
    let one = TestNode::on(&redis, 1).await;
    assert!(one.bus.send(id(9), numbered(1)).await.is_err());
}

#[tokio::test]
async fn silence_ends_with_each_probe() {
    let Some(redis) = TestRedis::start().await else { return };
    let one = TestNode::on(&redis, 1).await;
    eventually("three probes are heard", async || one.proven() >= 3).await;
    eventually("it is not silent", async || one.bus.silence() < Duration::from_secs(1)).await;
    redis.freeze();
    eventually("nothing is proven while nothing is heard", async || one.bus.silence() > Duration::from_secs(1)).await;
    redis.thaw();
    eventually("the silence ends", async || one.bus.silence() < Duration::from_millis(400)).await;
}

#[tokio::test]
async fn the_bus_recovers_by_itself_after_redis_was_killed_and_came_back_empty() {
    let Some(mut redis) = TestRedis::start().await else { return };
    let (one, two) = (TestNode::on(&redis, 1).await, TestNode::on(&redis, 2).await);
    delivers(&one, &two, 1).await;
    assert_eq!((one.ear.gaps(), two.ear.gaps()), (0, 0));
    redis.kill();
    eventually("the loss is told", async || one.ear.gaps() > 0 && two.ear.gaps() > 0).await;
    assert!(one.bus.publish(publication("room", 2)).await.is_err());
    assert!(one.bus.broadcast(numbered(2)).await.is_err());
    let told = two.ear.gaps();
    eventually("no link is left", async || {
        let listens = |node: &TestNode| *node.bus.shared.live.borrow();
        [&one, &two].iter().all(|node| node.bus.shared.link.connected().is_err() && !listens(node))
    })
    .await;
    redis.restart().await;
    delivers(&one, &two, 3).await;
    eventually("both are proven", async || [&one, &two].iter().all(|node| node.bus.silence() < Duration::from_millis(500)))
        .await;
    assert!(two.ear.gaps() > told, "what was said before the new link listened may have passed by");
}

#[tokio::test]
async fn a_stall_that_outlasts_every_deadline_is_survived() {
    let Some(redis) = TestRedis::start().await else { return };
    let (one, two) = (TestNode::on(&redis, 1).await, TestNode::on(&redis, 2).await);
    delivers(&one, &two, 1).await;
    redis.freeze();
    // It fails while Redis is frozen: there is a deadline.
    assert!(soon("the call ends", one.bus.publish(publication("room", 2))).await.is_err());
    // Subscribing never waits, and holds once Redis is back.
    two.bus.subscribe(&ChannelName::new("meanwhile").unwrap());
    // Commands have run out, and nobody relies on the stream any more.
    let unsent = |node: &TestNode| node.metrics().bus_probes.of(ProbeOutcome::Unsent).get();
    let stalled = |node: &TestNode| unsent(node) > 1 && node.bus.silence() > Duration::from_secs(2);
    eventually("both nodes have seen the stall", async || stalled(&one) && stalled(&two)).await;
    redis.thaw();
    delivers(&one, &two, 3).await;
    eventually("what was subscribed meanwhile holds", async || one.bus.publish(publication("meanwhile", 4)).await == Ok(1))
        .await;
}

#[tokio::test]
async fn a_slow_redis_delays_nobody_beyond_the_deadline() {
    let Some(redis) = TestRedis::start().await else { return };
    let way = SlowWay::to(redis.address()).await;
    let (one, two) = (TestNode::at(way.address(), 1).await, TestNode::at(way.address(), 2).await);
    delivers(&one, &two, 1).await;
    // The answer is still on its way when the call has failed.
    way.delay(PATIENCE);
    assert!(one.bus.broadcast(numbered(1)).await.is_err());
    way.delay(Duration::ZERO);
    delivers(&one, &two, 2).await;
}

/// The subscription is gone and the connection is not: only a probe can tell.
#[tokio::test]
async fn a_link_that_is_up_but_deaf_is_built_anew() {
    let Some(redis) = TestRedis::start().await else { return };
    let way = DeafWay::to(redis.address()).await;
    let settings = ClusterSettings { lease_seconds: Seconds(600), ..testing::settings(way.address) };
    let two = TestNode::over(link_to(way.address).await, 2, &settings);
    two.bus.listening().await;
    let one = TestNode::on(&redis, 1).await;
    delivers(&one, &two, 1).await;
    way.swallow_pushes();
    eventually("the deaf link is built anew", async || two.metrics().bus_probes.of(ProbeOutcome::Deaf).get() > 0).await;
    delivers(&one, &two, 2).await;
    assert!(two.ear.gaps() > 0);
}

#[tokio::test]
async fn without_redis_the_bus_starts_and_does_not_spin() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    let closing = tokio::spawn(async move {
        while let Ok((connection, _)) = nobody.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            drop(connection);
        }
    });
    let settings = ClusterSettings { command_timeout_ms: Millis(600_000), ..testing::settings(address) };
    let started = tokio::time::Instant::now();
    let link = CommandLink::start(RedisTarget::new(&settings).unwrap(), Arc::new(Metrics::new()));
    let node = TestNode::over(link, 1, &settings);
    node.bus.subscribe(&ChannelName::new("room").unwrap());
    let asked = tokio::time::Instant::now();
    // Without a link it fails at once: there is no deadline here that it could have waited for.
    assert!(soon("it fails", node.bus.publish(publication("room", 1))).await.is_err());
    eventually("both links try on", async || attempts.load(Ordering::Relaxed) >= 12).await;
    // The five shortest pauses between six attempts of each link, however they are drawn.
    assert!(started.elapsed() > Duration::from_millis(25 + 50 + 100 + 200 + 400), "{:?}", started.elapsed());
    let since_asked = asked.elapsed();
    assert!(node.bus.silence() > since_asked, "silent since before it was asked");
    closing.abort();
}

#[tokio::test]
async fn what_a_newer_node_says_is_skipped_and_what_nobody_says_is_a_gap() {
    let Some(redis) = TestRedis::start().await else { return };
    let one = TestNode::on(&redis, 1).await;
    let all = one.bus.shared.layout.topic(&Topic::Broadcast);
    // {"v": 2, "n": 8 bytes of 3, "k": "handover"}
    let newer = [&b"\x83\xa1v\x02\xa1n\xc4\x08\x03\x03\x03\x03\x03\x03\x03\x03\xa1k\xa8handover"[..]].concat();
    publish_raw(&redis, &all, &newer).await;
    eventually("it is counted", async || one.metrics().bus_drops.of(BusDrop::UnknownKind).get() == 1).await;
    assert_eq!(one.ear.gaps(), 0);
    publish_raw(&redis, &all, b"\xff\x00 no frame").await;
    eventually("it is counted", async || one.metrics().bus_drops.of(BusDrop::Unreadable).get() == 1).await;
    eventually("a gap is told", async || one.ear.gaps() == 1).await;
    let lost = Message::Node(NodeMessage::Invalidate(Invalidate::All)).encode().unwrap();
    for sequence in [5, 9] {
        let envelope = countersign_node_proto::Envelope { from: id(4), sequence, sent_at_ms: 0 };
        publish_raw(&redis, &all, &lost.seal(&envelope).unwrap()).await;
    }
    eventually("a missing number is a gap", async || one.ear.gaps() == 2).await;
}

#[tokio::test]
async fn a_node_that_falls_silent_is_not_relied_on() {
    let Some(redis) = TestRedis::start().await else { return };
    let settings = ClusterSettings { lease_seconds: Seconds(1), ..testing::settings(redis.address()) };
    let one = TestNode::over(redis.link().await, 1, &settings);
    let two = TestNode::over(redis.link().await, 2, &settings);
    let its_id = NodeId::from_bytes([2; 8]);
    eventually("each hears the other", async || one.bus.hears(its_id)).await;
    drop(two);
    eventually("its silence is noticed", async || !one.bus.hears(its_id)).await;
    eventually("it is no living node any more", async || one.metrics().cluster_nodes.get() == 1).await;
}

#[tokio::test]
async fn many_channels_are_heard_after_a_new_link() {
    let Some(redis) = TestRedis::start().await else { return };
    let (one, two) = (TestNode::on(&redis, 1).await, TestNode::on(&redis, 2).await);
    let channel = |number: u32| ChannelName::new(&format!("c{number}")).unwrap();
    (0..3_000).for_each(|number| two.bus.subscribe(&channel(number)));
    eventually("all are heard", async || two.metrics().bus_channels.get() == 3_000).await;
    (0..1_000).for_each(|number| two.bus.unsubscribe(&channel(number)));
    redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    eventually("the rest is heard again", async || {
        let said = |name| one.bus.publish(publication(name, 1));
        (said("c999").await, said("c1000").await, said("c2999").await) == (Ok(0), Ok(1), Ok(1))
    })
    .await;
}

async fn publish_raw(redis: &TestRedis, topic: &str, frame: &[u8]) {
    let got: usize = redis::cmd("PUBLISH").arg(topic).arg(frame).query_async(&mut redis.connection().await).await.unwrap();
    assert!(got > 0);
}

/// A way to Redis on which, once told so, connections that exist by then carry no pushes any more: an answer that begins a
/// RESP3 push is swallowed.
struct DeafWay {
    address: std::net::SocketAddr,
    deaf: watch::Sender<u64>,
}

impl DeafWay {
    async fn to(redis: std::net::SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let deaf = watch::Sender::new(0);
        let told = deaf.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(Self::carry(client, redis, told.clone()));
            }
        });
        Self { address, deaf }
    }

    fn swallow_pushes(&self) {
        self.deaf.send_modify(|times| *times += 1);
    }

    async fn carry(client: tokio::net::TcpStream, redis: std::net::SocketAddr, deaf: watch::Receiver<u64>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let server = tokio::net::TcpStream::connect(redis).await.unwrap();
        let born = *deaf.borrow();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let answers = async {
            let mut buffer = vec![0; 65_536];
            while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                let swallowed = *deaf.borrow() > born && buffer[0] == b'>';
                if !swallowed && to_client.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = answers => {}
            _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        }
    }
}
