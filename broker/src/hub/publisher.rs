use std::sync::Arc;

use countersign_node_proto::Publication;

use super::fanout::{Hub, HubOverloaded};
use crate::cluster::{Bus, BusUnavailable};
use crate::telemetry::Metrics;

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Nodes with subscribers that it was given to, this one included.
    pub nodes: usize,
}

/// Why a publication did not reach everybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Nobody got it; the caller may try again later.
    #[error(transparent)]
    Overloaded(#[from] HubOverloaded),
    /// The subscribers of this node got it, those of other nodes did not: repeating it would be a second delivery here.
    #[error("delivered on this node only: {0}")]
    ThisNodeOnly(BusUnavailable),
}

/// Publishes to local subscribers and to other nodes.
#[derive(Clone)]
pub struct Publisher {
    hub: Arc<Hub>,
    bus: Arc<dyn Bus>,
    metrics: Arc<Metrics>,
}

impl Publisher {
    /// A publisher over this node's hub and bus.
    #[must_use]
    pub fn new(hub: Arc<Hub>, bus: Arc<dyn Bus>, metrics: Arc<Metrics>) -> Self {
        Self { hub, bus, metrics }
    }

    /// Publishes. The local part is done when this returns its future's first poll; only the bus is waited for.
    ///
    /// # Errors
    /// [`PublishError`] says who got it.
    pub async fn publish(&self, publication: Publication) -> Result<Receipt, PublishError> {
        let shards = self.hub.publish_local(publication.clone())?;
        self.metrics.publications.inc();
        let others = self.bus.publish(publication).await.map_err(PublishError::ThisNodeOnly)?;
        Ok(Receipt { nodes: others + usize::from(shards > 0) })
    }
}
