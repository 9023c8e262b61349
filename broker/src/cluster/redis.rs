//! The bus over Redis: see [`countersign_node_proto::Layout`] for what is said where.
//!
//! Out: one queue, said in batches on the command link, so that what one node says arrives in the order in which it was said. In:
//! a link of its own, whose frames go through a queue bounded in bytes to one task. Both are supervised and never give up.
//!
//! Four tasks: `speak`, `subscribe_for_ever`, `hear`, and `prove`, which shows every second that what Redis takes is heard here; a link
//! that is up but deaf is built anew.
//!
//! With a Redis Cluster every master is a [`Shard`] with a link each way and its own of these tasks: what is said about a topic goes to
//! the server that has the slot of its name, as a sharded message, and is heard there. `follow_slots` keeps up with slots that
//! move; `echo` shows for each server that this node hears it.

mod heard;
mod peers;
mod proof;
mod shards;
mod speaker;
mod subscription;
mod topology;
mod wanted;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use countersign_node_proto::{ChannelName, Decoded, Layout, Message, NodeId, NodeMessage, Publication, Topic, decode};
use tokio::sync::watch;
use tokio::time::Instant;

use self::heard::{Frame, HeardQueue};
use self::peers::{Peers, Stream};
use self::proof::{Proof, Way};
use self::shards::{Shard, Shards};
use self::speaker::Numbers;
use super::{Bus, BusListener, BusUnavailable};
use crate::config::ClusterSettings;
use crate::link::{CommandLink, Task, keep};
use crate::telemetry::{BusDrop, BusGap, Metrics, ProbeOutcome};

/// Bytes heard and not yet handed on; what comes above is lost, and told as a gap.
const HEARD_BYTES_MAX: usize = 32 * 1_024 * 1_024;

/// The bus of a node in a cluster.
pub struct RedisBus {
    shared: Arc<Shared>,
    /// End with the bus.
    tasks: Mutex<Vec<Task>>,
}

/// What the tasks share. No lock is held across an await. Where two meet, that of a shard's wanted topics comes before that of
/// [`Shards`], and that before the one of a shard's echo and of its proof.
struct Shared {
    node: NodeId,
    layout: Layout,
    link: CommandLink,
    verbs: Verbs,
    heartbeat: Duration,
    deaf_after: Duration,
    metrics: Arc<Metrics>,
    shards: Arc<Shards>,
    numbers: Mutex<Numbers>,
    heard: HeardQueue,
    /// All that this node wants to hear, from whichever server.
    topics: Mutex<HashSet<Topic>>,
    proof: Mutex<Proof>,
    peers: Mutex<Peers>,
    /// What other nodes say to this one and to all can be heard.
    live: watch::Sender<bool>,
    /// Every server can be heard.
    all_live: watch::Sender<bool>,
    /// Which of that was heard before: when it is again, something may have passed by.
    listened: Mutex<HashSet<Topic>>,
}

/// What a message is published by.
struct Verbs {
    publish: &'static str,
}

impl RedisBus {
    /// A bus that hears, and with a Redis Cluster speaks, from [`RedisBus::listen`] on. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(
        link: CommandLink,
        layout: Layout,
        node: NodeId,
        settings: &ClusterSettings,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let many = link.target().is_cluster();
        let shards = if many { Shards::many(layout.clone()) } else { Shards::one(layout.clone(), link.clone()) };
        let shared = Arc::new(Shared {
            node,
            layout,
            link,
            verbs: Verbs { publish: if many { "SPUBLISH" } else { "PUBLISH" } },
            heartbeat: settings.heartbeat_ms.duration(),
            deaf_after: settings.deaf_after_ms.duration(),
            metrics,
            shards,
            numbers: Mutex::default(),
            heard: HeardQueue::new(HEARD_BYTES_MAX),
            topics: Mutex::default(),
            proof: Mutex::new(Proof::new(Instant::now())),
            peers: Mutex::new(Peers::new(settings.lease_seconds.duration())),
            live: watch::Sender::new(false),
            all_live: watch::Sender::new(false),
            listened: Mutex::default(),
        });
        shared.want(Topic::Broadcast);
        shared.want(Topic::Node(node));
        let tasks = if many { Vec::new() } else { shared.shards.all().iter().map(|shard| shared.speaking(shard)).collect() };
        Arc::new(Self { shared, tasks: Mutex::new(tasks) })
    }

    /// Starts to hear. Ends with the bus. Must be called within a tokio runtime.
    pub fn listen(&self, listener: Arc<dyn BusListener>) {
        let (hearing, proving, mapping) = (self.shared.clone(), self.shared.clone(), self.shared.clone());
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.push(keep("bus hearing", move || Arc::clone(&hearing).hear(Arc::clone(&listener))));
        if self.shared.shards.are_many() {
            tasks.push(keep("bus slots", move || Arc::clone(&mapping).follow_slots()));
        } else {
            tasks.extend(self.shared.shards.all().iter().map(|shard| self.shared.subscribing(shard)));
        }
        tasks.push(keep("bus probes", move || Arc::clone(&proving).prove()));
    }

    /// Waits until every subscription link is up. Bound it: Redis may be away.
    pub async fn listening(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.shared.all_live.subscribe().wait_for(|live| *live).await;
    }

    /// Says something and waits for how many nodes got it.
    async fn say(&self, topic: Topic, message: Message) -> Result<usize, BusUnavailable> {
        self.shared.say(topic, &message).await
    }
}

#[async_trait]
impl Bus for RedisBus {
    async fn publish(&self, publication: Publication) -> Result<usize, BusUnavailable> {
        let topic = Topic::Channel(publication.channel.clone());
        self.say(topic, Message::Node(NodeMessage::Publication(publication))).await
    }

    async fn send(&self, to: NodeId, message: NodeMessage) -> Result<(), BusUnavailable> {
        match self.say(Topic::Node(to), Message::Node(message)).await? {
            0 => Err(BusUnavailable(format!("no node {to}"))),
            _ => Ok(()),
        }
    }

    async fn broadcast(&self, message: NodeMessage) -> Result<(), BusUnavailable> {
        self.say(Topic::Broadcast, Message::Node(message)).await.map(drop)
    }

    fn subscribe(&self, channel: &ChannelName) {
        self.shared.want(Topic::Channel(channel.clone()));
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        self.shared.unwant(&Topic::Channel(channel.clone()));
    }

    fn silence(&self) -> Duration {
        self.shared.proof().silence(Instant::now())
    }

    fn unproven(&self) -> Duration {
        let shards = self.shared.shards.all();
        let echoing = shards.iter().filter(|shard| shard.echo().is_some());
        echoing.map(|shard| shard.proof().silence(Instant::now())).fold(self.silence(), Duration::max)
    }

    fn peers(&self) -> Vec<NodeId> {
        self.shared.peers().heard_lately(Instant::now())
    }

    fn hears(&self, node: NodeId) -> bool {
        self.shared.peers().hears(node, Instant::now())
    }
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        self.shared.shards.close();
    }
}

impl Shared {
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn topics(&self) -> MutexGuard<'_, HashSet<Topic>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listened(&self) -> MutexGuard<'_, HashSet<Topic>> {
        self.listened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn proof(&self) -> MutexGuard<'_, Proof> {
        self.proof.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this node hears a topic.
    fn want(&self, topic: Topic) {
        // Noted before the server is asked for: a new map that comes in between gives it to its server as well.
        self.topics().insert(topic.clone());
        if let Some(shard) = self.shards.of(&topic) {
            shard.with_wanted(&self.metrics, |wanted| wanted.want(&topic));
            shard.wanted_changed.notify_one();
        }
    }

    fn unwant(&self, topic: &Topic) {
        self.topics().remove(topic);
        if let Some(shard) = self.shards.of(topic) {
            shard.with_wanted(&self.metrics, |wanted| wanted.unwant(topic));
            shard.wanted_changed.notify_one();
        }
    }

    /// Is it what decisions rely on: said to all nodes, or to this one?
    fn is_core(&self, topic: &Topic) -> bool {
        *topic == Topic::Broadcast || *topic == Topic::Node(self.node)
    }

    /// The servers that carry it.
    fn core(&self) -> impl Iterator<Item = Option<Arc<Shard>>> {
        [Topic::Broadcast, Topic::Node(self.node)].into_iter().map(|topic| self.shards.of(&topic))
    }

    fn carries_core(&self, shard: &Shard) -> bool {
        self.core().flatten().any(|core| std::ptr::eq(&raw const *core, shard))
    }

    /// Notes which links are up.
    fn note_live(&self) {
        let core = self.core().all(|shard| shard.is_some_and(|shard| shard.is_live()));
        self.live.send_if_modified(|live| std::mem::replace(live, core) != core);
        let all = core && self.shards.all().iter().all(|shard| shard.is_live());
        self.all_live.send_replace(all);
    }

    fn speaking(self: &Arc<Self>, shard: &Arc<Shard>) -> Task {
        let (shared, shard) = (Arc::clone(self), Arc::clone(shard));
        keep("bus speaker", move || Arc::clone(&shared).speak(Arc::clone(&shard)))
    }

    fn subscribing(self: &Arc<Self>, shard: &Arc<Shard>) -> Task {
        let (shared, shard) = (Arc::clone(self), Arc::clone(shard));
        keep("bus subscription", move || Arc::clone(&shared).subscribe_for_ever(Arc::clone(&shard)))
    }

    async fn say(&self, topic: Topic, message: &Message) -> Result<usize, BusUnavailable> {
        let body = message.encode().map_err(|error| BusUnavailable(error.to_string()))?;
        let (shard, lane) = self.shards.enter(&topic)?;
        let answered = shard.speech.push(topic, body, lane)?;
        match tokio::time::timeout(self.link.target().command_timeout, answered).await {
            Ok(Ok(receivers)) => receivers,
            Ok(Err(_)) => Err(BusUnavailable("the sending task ended".to_owned())),
            Err(_) => Err(BusUnavailable("redis did not answer in time".to_owned())),
        }
    }

    /// Says at every interval that this node lives, and that it must hear itself.
    async fn prove(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(self.heartbeat);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut live = self.live.subscribe();
        // Numbers must differ from those of a task before this one that panicked.
        let mut beat = u64::from(getrandom::u32().unwrap_or_default()) << 32;
        loop {
            // A new link is proven at once.
            tokio::select! {
                _ = ticks.tick() => {}
                _ = live.changed() => {}
            }
            beat += 1;
            let is_live = *live.borrow_and_update();
            self.beat(beat, is_live).await;
            self.judge();
        }
    }

    async fn beat(&self, beat: u64, live: bool) {
        if live {
            self.proof().sending(beat, Instant::now());
        }
        let heartbeat = Message::Heartbeat { beat };
        let probe = Message::Probe { beat };
        let said = tokio::join!(self.say(Topic::Broadcast, &heartbeat), self.say(Topic::Node(self.node), &probe));
        match said {
            (Ok(_), Ok(_)) => self.proof().accepted(beat),
            _ => self.metrics.bus_probes.of(ProbeOutcome::Unsent).inc(),
        }
    }

    /// Have the links that carry it been up, and deaf, for too long?
    fn judge(&self) {
        let deafness = self.proof().deafness(Instant::now());
        if deafness > self.deaf_after {
            self.metrics.bus_probes.of(ProbeOutcome::Deaf).inc();
            self.proof().listening_anew();
            for shard in self.core().flatten() {
                // Nobody follows a link at the moment: then it is being built anew already.
                let _ = shard.deaf.send(());
            }
            self.shards.doubt.notify_one();
        }
    }

    /// Hands on what was heard, in order, for ever.
    async fn hear(self: Arc<Self>, listener: Arc<dyn BusListener>) {
        let mut ticks = tokio::time::interval(self.heartbeat);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let waiting = tokio::select! {
                waiting = self.heard.take() => Some(waiting),
                _ = ticks.tick() => None,
            };
            if let Some(waiting) = waiting {
                for cause in waiting.losses {
                    if cause == BusGap::Disconnected {
                        self.peers().listening_anew();
                    }
                    self.gap(cause, &listener);
                }
                for frame in waiting.frames {
                    self.hear_frame(&frame, &listener);
                }
            }
            let living = self.peers().living(Instant::now());
            self.metrics.cluster_nodes.set(i64::try_from(living + 1).unwrap_or(i64::MAX));
        }
    }

    fn hear_frame(&self, frame: &Frame, listener: &Arc<dyn BusListener>) {
        let topic = std::str::from_utf8(&frame.topic).ok().and_then(|name| self.layout.topic_of(name));
        let stream = match topic {
            Some(Topic::Broadcast) => Stream::Broadcast,
            Some(Topic::Node(_)) => Stream::Direct,
            Some(Topic::Channel(_)) => Stream::Channel,
            Some(topic @ Topic::Echo(..)) => return self.hear_echo(&topic, &frame.bytes),
            None => return,
        };
        let decoded = match decode(&frame.bytes) {
            Ok(decoded) => decoded,
            Err(error) => {
                tracing::debug!(%error, ?stream, "frame on the bus cannot be read");
                self.metrics.bus_drops.of(BusDrop::Unreadable).inc();
                if stream != Stream::Channel {
                    self.gap(BusGap::Unreadable, listener);
                }
                return;
            }
        };
        let (Decoded::Message(envelope, _) | Decoded::Unknown { envelope, .. }) = &decoded;
        if envelope.from == self.node {
            self.hear_self(&decoded);
            return;
        }
        let missing = self.peers().heard(envelope, stream, Instant::now());
        if missing {
            self.gap(BusGap::Sequence, listener);
        }
        if decoded.may_invalidate() {
            self.gap(BusGap::NewerVersion, listener);
        }
        match decoded {
            Decoded::Message(envelope, Message::Node(message)) => listener.heard(envelope.from, message),
            Decoded::Message(..) => {}
            Decoded::Unknown { version, kind, .. } => {
                tracing::debug!(version, kind, "message of a newer node was skipped");
                self.metrics.bus_drops.of(BusDrop::UnknownKind).inc();
            }
        }
    }

    /// What this node said itself proves that it hears.
    fn hear_self(&self, decoded: &Decoded) {
        let (way, beat) = match decoded {
            Decoded::Message(_, Message::Heartbeat { beat }) => (Way::All, *beat),
            Decoded::Message(_, Message::Probe { beat }) => (Way::Direct, *beat),
            _ => return,
        };
        let took = self.proof().heard(way, beat, Instant::now());
        if let Some(took) = took {
            self.metrics.bus_probes.of(ProbeOutcome::Heard).inc();
            self.metrics.bus_lag_seconds.observe(took.as_secs_f64());
        }
    }

    fn gap(&self, cause: BusGap, listener: &Arc<dyn BusListener>) {
        self.metrics.bus_gaps.of(cause).inc();
        listener.gap();
    }
}

#[cfg(test)]
mod tests;
