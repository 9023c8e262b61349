use std::sync::Arc;

use countersign_node_proto::{ConnectionId, Disconnect, NodeId, NodeMessage, PrincipalName};

use crate::close::CloseReason;
use crate::cluster::{Bus, BusUnavailable};
use crate::registry::{ConnectionState, Entry, LiveConnection, LiveConnections, Registry, RegistryKeeper, RegistryUnavailable};

/// Identifiers asked for at a time.
const PAGE: usize = 512;

/// Ends connections, of this node and of others.
///
/// A connection counts as closed from the moment of the order on, not from the end of its closing handshake: decisions
/// deny it at once, and its registry entry goes at once.
pub struct Disconnector {
    node: NodeId,
    live: Arc<LiveConnections>,
    keeper: RegistryKeeper,
    registry: Arc<dyn Registry>,
    bus: Arc<dyn Bus>,
}

/// How many connections an order reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// On this node: these are closed.
    pub here: usize,
    /// On other nodes: these were told. An error: they may not have been.
    pub elsewhere: Result<usize, DisconnectError>,
}

/// Why other nodes may not have been told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DisconnectError {
    /// The order did not leave; it may be repeated.
    #[error(transparent)]
    Bus(#[from] BusUnavailable),
    /// The order left, but nobody knows how many it concerns; it may be repeated.
    #[error(transparent)]
    Registry(#[from] RegistryUnavailable),
}

impl Disconnector {
    /// A disconnector over this node's connections and the cluster.
    #[must_use]
    pub fn new(
        node: NodeId,
        live: Arc<LiveConnections>,
        keeper: RegistryKeeper,
        registry: Arc<dyn Registry>,
        bus: Arc<dyn Bus>,
    ) -> Self {
        Self { node, live, keeper, registry, bus }
    }

    /// Ends connections wherever they are. Those of this node are ended before anything is waited for.
    pub async fn disconnect(&self, order: &Disconnect) -> Closed {
        let here = self.disconnect_here(order);
        let elsewhere = match order {
            // An identifier is owned by one node only.
            Disconnect::Connection(_) if here > 0 => Ok(0),
            _ => self.disconnect_elsewhere(order).await,
        };
        Closed { here, elsewhere }
    }

    /// Ends connections of this node, as another node ordered; how many there were. Never waits.
    pub fn disconnect_here(&self, order: &Disconnect) -> usize {
        let ordered: Vec<Arc<LiveConnection>> = match order {
            Disconnect::Connection(id) => self.live.get(*id).into_iter().collect(),
            Disconnect::Principal(name) => {
                let is_theirs = |connection: &Arc<LiveConnection>| {
                    connection.principal().is_some_and(|theirs| name.may_be(Some(&theirs.issuer), &theirs.subject))
                };
                self.live.snapshot().into_iter().filter(is_theirs).collect()
            }
        };
        ordered.iter().filter(|connection| self.end(connection)).count()
    }

    /// Closed first, so that no decision allows it any more; then its entry, then its socket.
    fn end(&self, connection: &LiveConnection) -> bool {
        let was_open = connection.advance(ConnectionState::Closed);
        if was_open {
            self.keeper.remove(connection.id, connection.generation);
            connection.mailbox.close(CloseReason::Disconnected);
        }
        was_open
    }

    async fn disconnect_elsewhere(&self, order: &Disconnect) -> Result<usize, DisconnectError> {
        // Told before counted: an unknown number must not keep anybody connected.
        match order {
            Disconnect::Connection(id) => {
                let owner = self.registry.find(*id).await?.map(|entry| entry.node).filter(|node| *node != self.node);
                let Some(owner) = owner else { return Ok(0) };
                self.bus.send(owner, NodeMessage::Disconnect(order.clone())).await?;
                Ok(1)
            }
            Disconnect::Principal(name) => {
                self.bus.broadcast(NodeMessage::Disconnect(order.clone())).await?;
                Ok(self.count_elsewhere(name).await?)
            }
        }
    }

    /// Connections of a principal that other nodes own, as far as the registry still has them.
    async fn count_elsewhere(&self, name: &PrincipalName) -> Result<usize, RegistryUnavailable> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.registry.by_principal(&name.subject, after, PAGE).await?;
            for id in &page.ids {
                count += usize::from(self.is_elsewhere(*id, name).await?);
            }
            after = page.next;
            if after.is_none() {
                return Ok(count);
            }
        }
    }

    async fn is_elsewhere(&self, id: ConnectionId, name: &PrincipalName) -> Result<bool, RegistryUnavailable> {
        let is_theirs = |entry: Entry| entry.node != self.node && name.may_be(entry.issuer.as_deref(), &name.subject);
        Ok(self.registry.find(id).await?.is_some_and(is_theirs))
    }
}
