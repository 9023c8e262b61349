//! The bus over Redis: see [`countersign_node_proto::Layout`] for what is said where.
//!
//! Out: one queue, said in batches on the command link, so that what one node says arrives in the order in which it was said. In:
//! a link of its own, whose frames go through a queue bounded in bytes to one task. Both are supervised and never give up.
//!
//! Four tasks: `speak`, `subscribe_for_ever`, `hear`, and `prove`, which shows every second that what Redis takes is heard here; a link
//! that is up but deaf is built anew.

mod heard;
mod peers;
mod proof;
mod speaker;
mod subscription;
mod wanted;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use countersign_node_proto::{ChannelName, Decoded, Layout, Message, NodeId, NodeMessage, Publication, Topic, decode};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;

use self::heard::{Frame, HeardQueue};
use self::peers::{Peers, Stream};
use self::proof::Proof;
use self::speaker::SpeechQueue;
use self::wanted::Wanted;
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

/// What the tasks share. No lock is held across an await, and none while another is taken.
struct Shared {
    node: NodeId,
    layout: Layout,
    link: CommandLink,
    heartbeat: Duration,
    deaf_after: Duration,
    metrics: Arc<Metrics>,
    speech: SpeechQueue,
    heard: HeardQueue,
    wanted: Mutex<Wanted>,
    wanted_changed: Notify,
    proof: Mutex<Proof>,
    peers: Mutex<Peers>,
    /// The subscription link is up.
    live: watch::Sender<bool>,
    /// Rings when the present subscription link turns out to be deaf.
    deaf: broadcast::Sender<()>,
    listened_before: AtomicBool,
}

impl RedisBus {
    /// A bus that can speak, and hears from [`RedisBus::listen`] on. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(
        link: CommandLink,
        layout: Layout,
        node: NodeId,
        settings: &ClusterSettings,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let shared = Arc::new(Shared {
            node,
            layout,
            link,
            heartbeat: settings.heartbeat_ms.duration(),
            deaf_after: settings.deaf_after_ms.duration(),
            metrics,
            speech: SpeechQueue::new(),
            heard: HeardQueue::new(HEARD_BYTES_MAX),
            wanted: Mutex::default(),
            wanted_changed: Notify::new(),
            proof: Mutex::new(Proof::new(Instant::now())),
            peers: Mutex::new(Peers::new(settings.lease_seconds.duration())),
            live: watch::Sender::new(false),
            deaf: broadcast::Sender::new(1),
            listened_before: AtomicBool::new(false),
        });
        let speaking = Arc::clone(&shared);
        let tasks = vec![keep("bus speaker", move || Arc::clone(&speaking).speak())];
        Arc::new(Self { shared, tasks: Mutex::new(tasks) })
    }

    /// Starts to hear. Ends with the bus. Must be called within a tokio runtime.
    pub fn listen(&self, listener: Arc<dyn BusListener>) {
        let (hearing, subscribing, proving) = (self.shared.clone(), self.shared.clone(), self.shared.clone());
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.push(keep("bus hearing", move || Arc::clone(&hearing).hear(Arc::clone(&listener))));
        tasks.push(keep("bus subscription", move || Arc::clone(&subscribing).subscribe_for_ever()));
        tasks.push(keep("bus probes", move || Arc::clone(&proving).prove()));
    }

    /// Waits until the subscription link is up. Bound it: Redis may be away.
    pub async fn listening(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.shared.live.subscribe().wait_for(|live| *live).await;
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
        self.shared.wanted().want(channel);
        self.shared.wanted_changed.notify_one();
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        self.shared.wanted().unwant(channel);
        self.shared.wanted_changed.notify_one();
    }

    fn silence(&self) -> Duration {
        self.shared.proof().silence(Instant::now())
    }

    fn hears(&self, node: NodeId) -> bool {
        self.shared.peers().hears(node, Instant::now())
    }
}

impl Shared {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn proof(&self) -> MutexGuard<'_, Proof> {
        self.proof.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn say(&self, topic: Topic, message: &Message) -> Result<usize, BusUnavailable> {
        let body = message.encode().map_err(|error| BusUnavailable(error.to_string()))?;
        let answered = self.speech.push(topic, body)?;
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

    /// Has the link been up, and deaf, for too long?
    fn judge(&self) {
        let deafness = self.proof().deafness(Instant::now());
        if deafness > self.deaf_after {
            self.metrics.bus_probes.of(ProbeOutcome::Deaf).inc();
            self.proof().listening_anew();
            // Nobody follows a link at the moment: then it is being built anew already.
            let _ = self.deaf.send(());
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
        match decoded {
            Decoded::Message(_, Message::Heartbeat { beat }) => self.proof().heartbeat(*beat),
            Decoded::Message(_, Message::Probe { beat }) => {
                let took = self.proof().probe(*beat, Instant::now());
                if let Some(took) = took {
                    self.metrics.bus_probes.of(ProbeOutcome::Heard).inc();
                    self.metrics.bus_lag_seconds.observe(took.as_secs_f64());
                }
            }
            _ => {}
        }
    }

    fn gap(&self, cause: BusGap, listener: &Arc<dyn BusListener>) {
        self.metrics.bus_gaps.of(cause).inc();
        listener.gap();
    }
}

#[cfg(test)]
mod tests;
