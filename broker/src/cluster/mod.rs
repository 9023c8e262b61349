//! How nodes reach each other.
//!
//! - [`Bus`]: what a node can say; [`BusListener`]: what it does with what it hears.
//! - [`LocalBus`]: the bus of one node, or of several in one process.
//! - [`RedisBus`]: the bus of a cluster.
//! - [`Asker`]: a question to one node, and its answer.

mod ask;
#[cfg(test)]
pub(crate) mod conformance;
mod local;
mod redis;

use async_trait::async_trait;
use countersign_node_proto::{ChannelName, NodeId, NodeMessage, Publication};
use std::time::Duration;

pub use ask::{AskError, Asker};
pub use local::{LocalBus, LocalExchange};
pub use redis::RedisBus;

/// Why a message did not leave this node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bus unavailable: {0}")]
pub struct BusUnavailable(pub String);

/// What a node does with what it hears.
pub trait BusListener: Send + Sync + 'static {
    /// A message of another node.
    fn heard(&self, from: NodeId, message: NodeMessage);
    /// Messages may have been lost: whatever was learned from the stream is in doubt.
    fn gap(&self);
}

/// The bus: every other node of the cluster.
///
/// A node never hears its own messages. Order is kept from one sender to each receiver.
/// Every implementation passes the conformance suite in `cluster/conformance.rs`.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// To every other node that is subscribed to the publication's channel; how many there were.
    ///
    /// # Errors
    /// If it did not leave; it may be repeated.
    async fn publish(&self, publication: Publication) -> Result<usize, BusUnavailable>;

    /// To one node.
    ///
    /// # Errors
    /// If it did not leave; it may be repeated.
    async fn send(&self, to: NodeId, message: NodeMessage) -> Result<(), BusUnavailable>;

    /// To every other node.
    ///
    /// # Errors
    /// If it did not leave; it may be repeated.
    async fn broadcast(&self, message: NodeMessage) -> Result<(), BusUnavailable>;

    /// From now on this node hears the channel. Never waits; retried until it holds.
    fn subscribe(&self, channel: &ChannelName);

    /// From now on it need not.
    fn unsubscribe(&self, channel: &ChannelName);

    /// How long the stream of this bus has been silent without proof that it is alive.
    fn silence(&self) -> Duration;

    /// How long anything that this node may want to hear, channels included, has gone without proof that it would be heard.
    /// Never below [`Bus::silence`].
    fn unproven(&self) -> Duration {
        self.silence()
    }

    /// The other nodes that were heard lately; none where nobody knows.
    fn peers(&self) -> Vec<NodeId> {
        Vec::new()
    }

    /// Has this node been heard lately, so that its lease surely lives? What is remembered of the connections of one that
    /// has not must be looked up again: it may have died without a word. True where nodes cannot die one by one.
    fn hears(&self, node: NodeId) -> bool {
        let _one_process = node;
        true
    }
}
