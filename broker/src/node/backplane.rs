use std::sync::Arc;

use countersign_node_proto::NodeId;

use crate::cluster::{Bus, BusListener, LocalBus, LocalExchange};
use crate::registry::{MemoryRegistry, Registry};

/// What nodes share: the registry and the bus between them.
///
/// A node by itself has one of its own; nodes in one process can share one, as tests and load tests do.
#[derive(Clone)]
pub struct Backplane {
    registry: Arc<MemoryRegistry>,
    exchange: Arc<LocalExchange>,
}

/// A node's end of the backplane.
pub(super) struct Attached {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) bus: Arc<dyn Bus>,
    local: Arc<LocalBus>,
}

impl Backplane {
    /// A backplane within this process.
    #[must_use]
    pub fn local() -> Self {
        Self { registry: Arc::new(MemoryRegistry::new()), exchange: LocalExchange::new() }
    }

    /// Lets a node in.
    pub(super) fn attach(&self, node: NodeId) -> Attached {
        let local = self.exchange.attach(node);
        let (registry, bus): (Arc<dyn Registry>, Arc<dyn Bus>) = (Arc::clone(&self.registry) as _, Arc::clone(&local) as _);
        Attached { registry, bus, local }
    }
}

impl Attached {
    /// Starts to hear the other nodes.
    pub(super) fn listen(&self, listener: Arc<dyn BusListener>) {
        self.local.listen(listener);
    }
}
