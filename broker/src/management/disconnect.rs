use std::collections::HashMap;
use std::sync::Arc;

use countersign_node_proto::{Disconnect, Disconnected, NodeId, NodeMessage, PrincipalName, Question, Reply};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;

use crate::close::CloseReason;
use crate::cluster::{AskError, Asker, Bus, BusUnavailable};
use crate::registry::{ConnectionState, LiveConnection, LiveConnections, Registry, RegistryKeeper, RegistryUnavailable};

/// Identifiers asked for at a time.
const PAGE: usize = 512;
/// Entries asked for at once.
const AT_ONCE: usize = 32;

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
    asker: Arc<Asker>,
}

/// How many connections an order reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// On this node: these are closed.
    pub here: usize,
    /// On other nodes: as many as they say that they closed. An error: they may have closed fewer than there are.
    pub elsewhere: Result<usize, DisconnectError>,
}

/// What became of an order to one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It closed so many.
    Closed(usize),
    /// It obeys, and its version does not count: the registry's count stands in.
    NotCounted,
    /// It may not have heard it.
    Unconfirmed,
}

/// Why other nodes may not have been told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DisconnectError {
    /// The order did not leave; it may be repeated.
    #[error(transparent)]
    Bus(#[from] BusUnavailable),
    /// Nobody knows how many it concerns, or where they are; it may be repeated.
    #[error(transparent)]
    Registry(#[from] RegistryUnavailable),
    /// A node that has such connections did not confirm the order; it may be repeated.
    #[error("a node that has such connections did not answer")]
    Unconfirmed,
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
        asker: Arc<Asker>,
    ) -> Self {
        Self { node, live, keeper, registry, bus, asker }
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
        match order {
            Disconnect::Connection(id) => {
                let owner = self.registry.find(*id).await?.map(|entry| entry.node).filter(|node| *node != self.node);
                let Some(owner) = owner else { return Ok(0) };
                match self.ask(owner, order).await {
                    Told::Closed(closed) => Ok(closed),
                    told => {
                        self.bus.send(owner, NodeMessage::Disconnect(order.clone())).await?;
                        if told == Told::NotCounted { Ok(1) } else { Err(DisconnectError::Unconfirmed) }
                    }
                }
            }
            Disconnect::Principal(name) => self.disconnect_theirs(order, name).await,
        }
    }

    /// Ends a principal's connections on other nodes.
    ///
    /// Whoever is heard is asked, at once and all together, since its own count is the only exact one. The order goes to all in
    /// any case, whatever is known of them by then: an unknown number must not keep anybody connected.
    async fn disconnect_theirs(&self, order: &Disconnect, name: &PrincipalName) -> Result<usize, DisconnectError> {
        let ask = |node| async move { (node, self.ask(node, order).await) };
        let asking = join_all(self.bus.peers().into_iter().map(ask));
        // Counted before the order that is not answered, which takes out what is counted.
        let (told, held) = tokio::join!(asking, self.count_elsewhere(name));
        self.bus.broadcast(NodeMessage::Disconnect(order.clone())).await?;
        let told: HashMap<NodeId, Told> = told.into_iter().collect();
        let mut closed = told.values().map(|told| if let Told::Closed(closed) = told { *closed } else { 0 }).sum();
        for (owner, count) in held? {
            match told.get(&owner) {
                Some(Told::Closed(_)) => {}
                Some(Told::NotCounted) => closed += count,
                // One that is not heard may be dead, or cut off with its sockets open.
                Some(Told::Unconfirmed) | None => return Err(DisconnectError::Unconfirmed),
            }
        }
        Ok(closed)
    }

    async fn ask(&self, node: NodeId, order: &Disconnect) -> Told {
        match self.asker.ask(node, Question::Disconnect(order.clone())).await {
            Ok(Reply::Disconnect(Disconnected { closed })) => Told::Closed(usize::try_from(closed).unwrap_or(usize::MAX)),
            Ok(_) | Err(AskError::NotUnderstood) => Told::NotCounted,
            Err(error) => {
                tracing::debug!(?node, %error, "order to disconnect was not confirmed");
                Told::Unconfirmed
            }
        }
    }

    /// How many connections of a principal other nodes own, by node, as far as the registry has them.
    async fn count_elsewhere(&self, name: &PrincipalName) -> Result<HashMap<NodeId, usize>, RegistryUnavailable> {
        let (mut counts, mut after) = (HashMap::new(), None);
        loop {
            let page = self.registry.by_principal(&name.subject, after, PAGE).await?;
            let mut found = stream::iter(page.ids).map(|id| self.registry.find(id)).buffer_unordered(AT_ONCE);
            while let Some(entry) = found.next().await {
                if let Some(entry) = entry?
                    && entry.node != self.node
                    && name.may_be(entry.issuer.as_deref(), &name.subject)
                {
                    *counts.entry(entry.node).or_default() += 1;
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(counts);
            }
        }
    }
}
