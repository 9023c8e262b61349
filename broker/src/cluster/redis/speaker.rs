use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use countersign_node_proto::{EncodedBody, Envelope, NodeId, Topic};
use redis::{Pipeline, RedisError, Value};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::Shared;
use super::shards::{Lane, Shard};
use crate::cluster::BusUnavailable;
use crate::link::{LinkError, Place};
use crate::telemetry::RedisCall;

/// Messages that wait to be sent; more are refused.
const QUEUE_MAX: usize = 8_192;
/// Their bytes; more are refused.
const QUEUE_BYTES_MAX: usize = 32 * 1_024 * 1_024;
/// Messages in one round trip, and their bytes: enough to make it cheap, few enough to stay far below the deadline.
const BATCH: (usize, usize) = (256, 1_024 * 1_024);
/// Nodes whose stream is numbered; above this the table starts anew, which receivers take for no loss.
const NODES_MAX: usize = 4_096;

/// What waits to be said, in order.
pub(super) struct SpeechQueue {
    sender: mpsc::Sender<Utterance>,
    // One task takes; it may be a new one after a panic.
    receiver: Mutex<mpsc::Receiver<Utterance>>,
    bytes: Arc<Semaphore>,
}

/// One message on its way out.
struct Utterance {
    topic: Topic,
    body: EncodedBody,
    /// How many clients of Redis got it.
    answer: oneshot::Sender<Result<usize, BusUnavailable>>,
    _room: OwnedSemaphorePermit,
    _lane: Option<Lane>,
}

/// One that was sealed, and may have to be sent again elsewhere.
type Said = (Utterance, Vec<u8>);

/// The numbers of this node's streams.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    broadcast: u64,
    direct: HashMap<NodeId, u64>,
}

impl SpeechQueue {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        Self { sender, receiver: Mutex::new(receiver), bytes: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)) }
    }

    /// Queues a message behind those said before; the answer comes later.
    pub(super) fn push(
        &self,
        topic: Topic,
        body: EncodedBody,
        lane: Option<Lane>,
    ) -> Result<oneshot::Receiver<Result<usize, BusUnavailable>>, BusUnavailable> {
        let full = || BusUnavailable("too much waits to be sent".to_owned());
        let size = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.bytes).try_acquire_many_owned(size).map_err(|_| full())?;
        let (answer, answered) = oneshot::channel();
        self.sender.try_send(Utterance { topic, body, answer, _room: room, _lane: lane }).map_err(|_| full())?;
        Ok(answered)
    }

    /// The next batch.
    async fn batch(&self) -> Vec<Utterance> {
        let mut receiver = self.receiver.lock().await;
        let mut batch = Vec::new();
        let mut bytes = 0;
        // The sender lives beside the receiver, so the queue never ends.
        batch.extend(receiver.recv().await);
        while batch.len() < BATCH.0 && bytes < BATCH.1 {
            let Ok(next) = receiver.try_recv() else { break };
            bytes += next.body.len();
            batch.push(next);
        }
        batch
    }
}

impl Shared {
    /// Says what is queued for a server, for ever: a batch at a time, so that order holds and a number is given only to what
    /// is sent.
    pub(super) async fn speak(self: Arc<Self>, shard: Arc<Shard>) {
        loop {
            let mut batch = shard.speech.batch().await;
            // Whoever stopped waiting has said so to its own caller already.
            batch.retain(|utterance| !utterance.answer.is_closed());
            if !batch.is_empty() {
                self.say_batch(&shard, batch).await;
            }
        }
    }

    async fn say_batch(&self, shard: &Shard, batch: Vec<Utterance>) {
        let mut said = Vec::with_capacity(batch.len());
        for utterance in batch {
            let sequence = self.numbers().next(&utterance.topic);
            let envelope = Envelope { from: self.node, sequence, sent_at_ms: now_ms() };
            match utterance.body.seal(&envelope) {
                Ok(frame) => said.push((utterance, frame)),
                Err(error) => reply(utterance, Err(BusUnavailable(error.to_string()))),
            }
        }
        let moved = self.publish_all(shard, said).await;
        for (place, said) in moved {
            // In order, before anything that comes after it: see `Lane`. Once only: a slot that moves again is not chased.
            match self.shards.at(&place) {
                Some(shard) => {
                    let lost = self.publish_all(&shard, said).await;
                    lost.into_iter().flat_map(|(_, said)| said).for_each(|(utterance, _)| reply(utterance, Err(moving())));
                }
                None => said.into_iter().for_each(|(utterance, _)| reply(utterance, Err(moving()))),
            }
        }
    }

    /// Publishes in one round trip and replies; what belongs to another server by now is given back by its place.
    async fn publish_all(&self, shard: &Shard, said: Vec<Said>) -> Vec<(Place, Vec<Said>)> {
        let mut commands = Pipeline::with_capacity(said.len());
        for (utterance, frame) in &said {
            commands.cmd(self.verbs.publish).arg(self.layout.topic(&utterance.topic)).arg(frame);
        }
        let answers = match shard.commands.call(RedisCall::Publish, &commands).await {
            Ok(answers) => answers,
            Err(error) => {
                let error = BusUnavailable::from(error);
                said.into_iter().for_each(|(utterance, _)| reply(utterance, Err(error.clone())));
                self.shards.doubt.notify_one();
                return Vec::new();
            }
        };
        let mut moved: Vec<(Place, Vec<Said>)> = Vec::new();
        let mut refused = false;
        for ((utterance, frame), answer) in said.into_iter().zip(answers) {
            match answer.extract_error() {
                Ok(count) => {
                    let receivers = self.receivers(shard, &utterance.topic, count);
                    reply(utterance, receivers);
                }
                Err(error) => {
                    refused = true;
                    let Some(place) = moved_to(&error, shard) else {
                        reply(utterance, Err(BusUnavailable(error.to_string())));
                        continue;
                    };
                    match moved.iter_mut().find(|(other, _)| *other == place) {
                        Some((_, row)) => row.push((utterance, frame)),
                        None => moved.push((place, vec![(utterance, frame)])),
                    }
                }
            }
        }
        if refused {
            self.shards.doubt.notify_one();
        }
        moved
    }

    /// How many other nodes got it: Redis counts this one too, where it hears the channel.
    fn receivers(&self, shard: &Shard, topic: &Topic, count: Value) -> Result<usize, BusUnavailable> {
        let receivers = redis::from_redis_value::<usize>(count).map_err(|error| BusUnavailable(error.to_string()))?;
        let own = matches!(topic, Topic::Channel(_)) && shard.with_wanted(&self.metrics, |wanted| wanted.is_confirmed(topic));
        Ok(receivers.saturating_sub(usize::from(own)))
    }
}

/// Where a server says that a slot is. It may leave out the host: then it is its own.
fn moved_to(error: &RedisError, shard: &Shard) -> Option<Place> {
    let here = shard.place.as_ref()?;
    let (address, _slot) = error.redirect_node()?;
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some(Place::new(if host.is_empty() { &here.host } else { host }, port.parse().ok()?))
}

fn moving() -> BusUnavailable {
    BusUnavailable("the slot goes from one server to another".to_owned())
}

impl Numbers {
    fn next(&mut self, topic: &Topic) -> u64 {
        let number = match topic {
            Topic::Broadcast => &mut self.broadcast,
            Topic::Node(node) => {
                if self.direct.len() >= NODES_MAX && !self.direct.contains_key(node) {
                    self.direct.clear();
                }
                self.direct.entry(*node).or_default()
            }
            Topic::Channel(_) | Topic::Echo(..) => return 0,
        };
        *number += 1;
        *number
    }
}

impl From<LinkError> for BusUnavailable {
    fn from(error: LinkError) -> Self {
        Self(error.to_string())
    }
}

fn reply(utterance: Utterance, receivers: Result<usize, BusUnavailable>) {
    // Nobody waits any more: the caller's deadline told it.
    let _ = utterance.answer.send(receivers);
}

/// Milliseconds since the Unix epoch; 0 on a clock before it.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
