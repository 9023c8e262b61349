use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use countersign_node_proto::{EncodedBody, Envelope, NodeId, Topic};
use redis::{Pipeline, Value};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::Shared;
use crate::cluster::BusUnavailable;
use crate::link::LinkError;
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
}

/// The numbers of this node's streams. They go with the task that holds them: numbers that start anew are no loss.
#[derive(Default)]
struct Numbers {
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
    ) -> Result<oneshot::Receiver<Result<usize, BusUnavailable>>, BusUnavailable> {
        let full = || BusUnavailable("too much waits to be sent".to_owned());
        let size = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.bytes).try_acquire_many_owned(size).map_err(|_| full())?;
        let (answer, answered) = oneshot::channel();
        self.sender.try_send(Utterance { topic, body, answer, _room: room }).map_err(|_| full())?;
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
    /// Says what is queued, for ever: a batch at a time, so that order holds and a number is given only to what is sent.
    pub(super) async fn speak(self: Arc<Self>) {
        let mut numbers = Numbers::default();
        loop {
            let mut batch = self.speech.batch().await;
            // Whoever stopped waiting has said so to its own caller already.
            batch.retain(|utterance| !utterance.answer.is_closed());
            if !batch.is_empty() {
                self.say_batch(batch, &mut numbers).await;
            }
        }
    }

    async fn say_batch(&self, batch: Vec<Utterance>, numbers: &mut Numbers) {
        let mut commands = Pipeline::with_capacity(batch.len());
        let mut sent = Vec::with_capacity(batch.len());
        for utterance in batch {
            let envelope = Envelope { from: self.node, sequence: numbers.next(&utterance.topic), sent_at_ms: now_ms() };
            match utterance.body.seal(&envelope) {
                Ok(frame) => {
                    commands.cmd("PUBLISH").arg(self.layout.topic(&utterance.topic)).arg(frame);
                    sent.push(utterance);
                }
                Err(error) => reply(utterance, Err(BusUnavailable(error.to_string()))),
            }
        }
        match self.link.call(RedisCall::Publish, &commands).await {
            Ok(answers) => {
                for (utterance, answer) in sent.into_iter().zip(answers) {
                    let receivers = self.receivers(&utterance.topic, answer);
                    reply(utterance, receivers);
                }
            }
            Err(error) => {
                let error = BusUnavailable::from(error);
                sent.into_iter().for_each(|utterance| reply(utterance, Err(error.clone())));
            }
        }
    }

    /// How many other nodes got it: Redis counts this one too, where it hears the channel.
    fn receivers(&self, topic: &Topic, answer: Value) -> Result<usize, BusUnavailable> {
        let receivers =
            redis::from_redis_value::<usize>(answer.extract_error().map_err(|error| BusUnavailable(error.to_string()))?);
        let receivers = receivers.map_err(|error| BusUnavailable(error.to_string()))?;
        let own = matches!(topic, Topic::Channel(channel) if self.wanted().is_confirmed(channel));
        Ok(receivers.saturating_sub(usize::from(own)))
    }
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
            Topic::Channel(_) => return 0,
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
