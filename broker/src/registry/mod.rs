//! Who is connected: this node's live connections, and the registry that all nodes share.
//!
//! - [`live`]: the connections that this node owns, answered from memory by every thread.
//! - [`Registry`]: the shared store. [`MemoryRegistry`] serves one node, or several in one process; [`RedisRegistry`] a cluster.
//! - [`RegistryKeeper`]: what sockets tell the registry, written in batches; no socket waits on it.
//! - [`LeaseKeeper`]: says, every few seconds, that this node is alive.

#[cfg(test)]
pub(crate) mod conformance;
mod keeper;
mod lease;
mod live;
mod memory;
mod pending;
mod redis;

use async_trait::async_trait;
use countersign_node_proto::{ChannelName, ConnectionId, Generation, NodeId};
use serde::{Deserialize, Serialize};

use crate::config::Mode;

pub use keeper::RegistryKeeper;
pub use lease::{LEASE, LeaseKeeper};
pub use live::{Bound, ConnectionState, LiveConnection, LiveConnections, Mailbox, PostError};
pub use memory::MemoryRegistry;
pub use redis::RedisRegistry;

/// What all nodes know of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The connection.
    pub id: ConnectionId,
    /// The node that owns the socket.
    pub node: NodeId,
    /// Which life of the entry this is.
    pub generation: Generation,
    /// The token's subject, if one was presented.
    pub principal: Option<String>,
    /// The token's issuer, as it is configured: a subject is unique within it only.
    pub issuer: Option<String>,
    /// The handshake's origin, if one was sent.
    pub origin: Option<String>,
    /// The challenge was answered.
    pub verified: bool,
    /// The least that calls in its name must show, as its client asked; known with its verification. Entries of older nodes
    /// have none.
    #[serde(default)]
    pub mode: Mode,
    /// Milliseconds since the Unix epoch.
    pub connected_at_ms: u64,
    /// Milliseconds since the Unix epoch, as of the last write.
    pub last_active_ms: u64,
    /// Seconds since the Unix epoch at which the token expires, where that ends the connection.
    pub expires_at: Option<u64>,
    /// Channels that the connection is subscribed to.
    pub subscriptions: Vec<ChannelName>,
}

/// One write. Writes of one connection are applied in the order in which they are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// A connection opened.
    Register(Box<Entry>),
    /// Its challenge was answered, and what its calls must show: applied only if the entry is there with this generation.
    Verify(ConnectionId, Generation, Mode),
    /// It is verified no more, and stays: as it was before it was verified, for who looks for it to end it.
    Lapse(ConnectionId, Generation),
    /// Its token was replaced; the new expiry.
    Refresh(ConnectionId, Generation, Option<u64>),
    /// It subscribed.
    Subscribe(ConnectionId, Generation, ChannelName),
    /// It ended a subscription.
    Unsubscribe(ConnectionId, Generation, ChannelName),
    /// It closed: applied only with this generation.
    Remove(ConnectionId, Generation),
}

/// A page of identifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// At most as many as were asked for.
    pub ids: Vec<ConnectionId>,
    /// Where to go on; none at the end.
    pub next: Option<ConnectionId>,
}

/// Why the registry did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("registry unavailable: {0}")]
pub struct RegistryUnavailable(pub String);

/// The registry that all nodes share.
///
/// Every implementation passes the conformance suite in `registry/conformance.rs`.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Applies writes in order. A conditional write whose condition fails is no error: it does nothing.
    ///
    /// # Errors
    /// If the store did not confirm; some writes may have been applied, and all may be repeated.
    async fn apply(&self, writes: &[Write]) -> Result<(), RegistryUnavailable>;

    /// The entry of a connection whose node is alive.
    ///
    /// # Errors
    /// If the store did not answer: the caller does not know, and must not allow.
    async fn find(&self, id: ConnectionId) -> Result<Option<Entry>, RegistryUnavailable>;

    /// Connections of a subject, whichever its issuer, in a stable order, after `after`.
    ///
    /// # Errors
    /// If the store did not answer.
    async fn by_principal(
        &self,
        principal: &str,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Page, RegistryUnavailable>;

    /// Connections subscribed to a channel, in a stable order, after `after`.
    ///
    /// # Errors
    /// If the store did not answer.
    async fn by_channel(
        &self,
        channel: &ChannelName,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Page, RegistryUnavailable>;

    /// How many connections all living nodes hold.
    ///
    /// # Errors
    /// If the store did not answer.
    async fn count(&self) -> Result<usize, RegistryUnavailable>;

    /// Renews (or first takes) a node's lease. An entry counts only while its node's lease lives.
    ///
    /// # Errors
    /// If the store did not confirm.
    async fn renew_lease(&self, node: NodeId, lease: std::time::Duration) -> Result<(), RegistryUnavailable>;

    /// Waits until the store can be reached again after it could not: what failed may be tried again at once, and a store that
    /// was replaced may know less than the one before. For ever where it cannot go away.
    async fn returned(&self) {
        std::future::pending().await
    }

    /// Ends a node's lease and removes all its entries: the last act of a drained node, and of whoever reaps a dead one.
    ///
    /// # Errors
    /// If the store did not confirm.
    async fn forget_node(&self, node: NodeId) -> Result<(), RegistryUnavailable>;
}
