use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use countersign_node_proto::{
    Answer, Ask, Calls, ChannelName, ConnectionId, NodeId, NodeMessage, Payload, Publication, Question, Reply,
};
use tokio::sync::Notify;

use super::{Bus, BusListener, BusUnavailable};

/// Bytes that wait for one node; what comes above is lost, and the node is told of the gap.
const QUEUED_BYTES_MAX: usize = 16 * 1_024 * 1_024;
/// What a message costs beside its payload.
const MESSAGE_BYTES: usize = 128;

/// Where the nodes of one process meet.
///
/// Lock order: the exchange, then one node's queue. No listener is called under a lock.
pub struct LocalExchange {
    nodes: Mutex<HashMap<NodeId, Attached>>,
    queued_bytes_max: usize,
}

/// A node as the others see it.
struct Attached {
    channels: HashSet<ChannelName>,
    queue: Arc<Queue>,
}

/// What one node has not heard yet.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<(NodeId, Arc<NodeMessage>)>,
    bytes: usize,
    lost: bool,
    closed: bool,
}

/// The bus of one process: of a single node, or of the nodes of one [`LocalExchange`].
pub struct LocalBus {
    node: NodeId,
    exchange: Arc<LocalExchange>,
}

impl LocalExchange {
    /// An exchange without nodes.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with_queued_bytes_max(QUEUED_BYTES_MAX)
    }

    /// An exchange whose nodes hold at most this many bytes that they have not heard yet.
    #[must_use]
    pub fn with_queued_bytes_max(queued_bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { nodes: Mutex::default(), queued_bytes_max })
    }

    /// Lets a node in. What is said to it waits until [`LocalBus::listen`]; it leaves when the bus is dropped.
    #[must_use]
    pub fn attach(self: &Arc<Self>, node: NodeId) -> Arc<LocalBus> {
        let attached = Attached { channels: HashSet::new(), queue: Arc::default() };
        self.nodes().insert(node, attached);
        Arc::new(LocalBus { node, exchange: self.clone() })
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<NodeId, Attached>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocalBus {
    /// The bus of a node that is alone.
    #[must_use]
    pub fn single(node: NodeId) -> Arc<Self> {
        LocalExchange::new().attach(node)
    }

    /// Starts to hear. Ends with the bus. Must be called within a tokio runtime.
    pub fn listen(&self, listener: Arc<dyn BusListener>) {
        let Some(queue) = self.exchange.nodes().get(&self.node).map(|node| Arc::downgrade(&node.queue)) else { return };
        tokio::spawn(hear(queue, listener));
    }

    /// Queues a message for every other node that `wants` it; how many there were.
    fn spread(&self, message: NodeMessage, wants: impl Fn(NodeId, &Attached) -> bool) -> usize {
        let message = Arc::new(message);
        let nodes = self.exchange.nodes();
        let receivers = nodes.iter().filter(|(id, node)| **id != self.node && wants(**id, node));
        receivers.map(|(_, node)| node.queue.push(self.node, &message, self.exchange.queued_bytes_max)).count()
    }
}

#[async_trait]
impl Bus for LocalBus {
    async fn publish(&self, publication: Publication) -> Result<usize, BusUnavailable> {
        let channel = publication.channel.clone();
        Ok(self.spread(NodeMessage::Publication(publication), |_, node| node.channels.contains(&channel)))
    }

    async fn send(&self, to: NodeId, message: NodeMessage) -> Result<(), BusUnavailable> {
        match self.spread(message, |id, _| id == to) {
            0 => Err(BusUnavailable(format!("no node {to}"))),
            _ => Ok(()),
        }
    }

    async fn broadcast(&self, message: NodeMessage) -> Result<(), BusUnavailable> {
        self.spread(message, |_, _| true);
        Ok(())
    }

    fn subscribe(&self, channel: &ChannelName) {
        if let Some(node) = self.exchange.nodes().get_mut(&self.node) {
            node.channels.insert(channel.clone());
        }
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        if let Some(node) = self.exchange.nodes().get_mut(&self.node) {
            node.channels.remove(channel);
        }
    }

    fn peers(&self) -> Vec<NodeId> {
        self.exchange.nodes().keys().copied().filter(|node| *node != self.node).collect()
    }

    fn silence(&self) -> Duration {
        // A call within the process cannot be deaf.
        Duration::ZERO
    }
}

impl LocalBus {
    /// From now on the others do not find this node any more, and it hears nothing.
    pub fn leave(&self) {
        if let Some(node) = self.exchange.nodes().remove(&self.node) {
            node.queue.waiting().closed = true;
            node.queue.wake.notify_one();
        }
    }
}

impl Drop for LocalBus {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Queue {
    fn push(&self, from: NodeId, message: &Arc<NodeMessage>, bytes_max: usize) {
        let bytes = cost(message);
        let mut waiting = self.waiting();
        if waiting.bytes + bytes > bytes_max {
            waiting.lost = true;
        } else {
            waiting.bytes += bytes;
            waiting.messages.push_back((from, message.clone()));
        }
        drop(waiting);
        self.wake.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands a node what was said to it, in order, until it leaves.
async fn hear(queue: Weak<Queue>, listener: Arc<dyn BusListener>) {
    while let Some(queue) = queue.upgrade() {
        let (messages, lost, closed) = {
            let mut waiting = queue.waiting();
            waiting.bytes = 0;
            (std::mem::take(&mut waiting.messages), std::mem::take(&mut waiting.lost), waiting.closed)
        };
        for (from, message) in messages {
            listener.heard(from, Arc::unwrap_or_clone(message));
        }
        if lost {
            listener.gap();
        }
        if closed {
            return;
        }
        queue.wake.notified().await;
    }
}

/// Bytes that a waiting message is counted with.
fn cost(message: &NodeMessage) -> usize {
    let payload = |payload: &Payload| match payload {
        Payload::Text(text) => text.len(),
        Payload::Binary(bytes) => bytes.len(),
    };
    MESSAGE_BYTES
        + match message {
            NodeMessage::Publication(publication) => payload(&publication.payload),
            NodeMessage::Post(post) => payload(&post.payload),
            NodeMessage::Ask(Ask { question: Question::Proof(proof), .. }) => {
                proof.ticket.len() + proof.proof.len() + proof.method.len() + proof.target.len()
            }
            NodeMessage::Ask(Ask { question: Question::Program(program), .. }) => program.handle.len(),
            NodeMessage::Answer(Answer { reply: Reply::Program(Some(program)), .. }) => program.len(),
            NodeMessage::Calls(Calls { calls }) => calls.len() * size_of::<(ConnectionId, u32)>(),
            NodeMessage::Disconnect(_) | NodeMessage::Invalidate(_) | NodeMessage::Ask(_) | NodeMessage::Answer(_) => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::conformance::{self, Ear};

    #[tokio::test]
    async fn local_bus_conforms() {
        let exchange = LocalExchange::new();
        conformance::run(async |node, listener| {
            let bus = exchange.attach(node);
            bus.listen(listener);
            bus as Arc<dyn Bus>
        })
        .await;
    }

    #[tokio::test]
    async fn a_node_that_hears_too_slowly_is_told_of_the_gap() {
        let exchange = LocalExchange::with_queued_bytes_max(10 * MESSAGE_BYTES);
        let speaker = exchange.attach(NodeId::from_bytes([1; 8]));
        let slow = exchange.attach(NodeId::from_bytes([2; 8]));
        for number in 0..100 {
            speaker.broadcast(conformance::numbered(number)).await.unwrap();
        }
        let ear = Arc::new(Ear::default());
        slow.listen(ear.clone());
        conformance::eventually(async || ear.gaps() == 1).await;
        assert_eq!(ear.heard(), (0..10).map(conformance::numbered).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_single_node_speaks_to_nobody() {
        let bus = LocalBus::single(NodeId::from_bytes([1; 8]));
        bus.subscribe(&ChannelName::new("c").unwrap());
        assert_eq!(bus.publish(conformance::publication("c", 1)).await, Ok(0));
        assert!(bus.silence().is_zero());
    }
}
