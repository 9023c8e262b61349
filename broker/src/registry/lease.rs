use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_node_proto::NodeId;
use tokio::time::Instant;

use super::{Registry, RegistryUnavailable};
use crate::backoff::Backoff;

/// Life of a node's lease: the longest time for which the connections of a killed node still count.
///
/// Shorter costs more renewals and survives shorter outages of the registry; three renewals fit into one lease.
pub const LEASE: Duration = Duration::from_secs(6);

/// Longest time between two renewals, however long the lease: readiness must show within seconds that they fail.
const RENEWAL_MAX: Duration = Duration::from_secs(2);

/// Renews this node's lease every third of its life, at least every two seconds, and as soon as a registry that was away can be
/// reached: the longer it was away, the sooner the lease runs out, if it has not been lost.
pub struct LeaseKeeper {
    node: NodeId,
    registry: Arc<dyn Registry>,
    lease: Duration,
    held_until: Mutex<Option<Instant>>,
}

impl LeaseKeeper {
    /// A keeper that has not taken the lease yet.
    #[must_use]
    pub fn new(node: NodeId, registry: Arc<dyn Registry>, lease: Duration) -> Self {
        Self { node, registry, lease, held_until: Mutex::new(None) }
    }

    /// Renews for ever; end it by dropping it. A failed renewal is tried again soon, so that one hiccup costs no lease.
    pub async fn run(&self) {
        let mut backoff = Backoff::new(self.renewal() / 10, self.renewal());
        loop {
            let pause = match self.renew().await {
                Ok(()) => {
                    backoff.reset();
                    self.renewal()
                }
                Err(error) => {
                    tracing::warn!(%error, "lease was not renewed");
                    backoff.pause()
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.registry.returned() => {}
            }
        }
    }

    /// Takes or renews the lease once.
    ///
    /// # Errors
    /// If the registry did not confirm within a third of the lease; may be repeated.
    pub async fn renew(&self) -> Result<(), RegistryUnavailable> {
        // The lease counts from before the call: the registry may have begun it at any moment since.
        let asked = Instant::now();
        let renewal = self.registry.renew_lease(self.node, self.lease);
        tokio::time::timeout(self.lease / 3, renewal).await.map_err(|_| RegistryUnavailable("timed out".to_owned()))??;
        *self.held_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked + self.lease);
        Ok(())
    }

    /// Does the lease live, as far as this node can tell?
    #[must_use]
    pub fn holds(&self) -> bool {
        let until = *self.held_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Was it confirmed lately? A node whose lease two renewals in a row did not confirm is not ready, while its connections still
    /// count: the registry cannot be written, and whoever connects elsewhere is better off.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.holds() && self.age().is_some_and(|age| age < self.renewal() * 2)
    }

    /// Time between two renewals.
    fn renewal(&self) -> Duration {
        (self.lease / 3).min(RENEWAL_MAX)
    }

    /// How long ago the lease was last confirmed; none before the first time, and after it was given up.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let until = *self.held_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.map(|until| (Instant::now() + self.lease).saturating_duration_since(until))
    }

    /// Gives the lease up, and with it every entry of this node: its last act, after [`LeaseKeeper::run`] was dropped.
    ///
    /// # Errors
    /// If the registry did not confirm in time; the lease then runs out by itself.
    pub async fn leave(&self) -> Result<(), RegistryUnavailable> {
        *self.held_until.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let farewell = self.registry.forget_node(self.node);
        tokio::time::timeout(self.lease / 3, farewell).await.map_err(|_| RegistryUnavailable("timed out".to_owned()))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{MemoryRegistry, Write, conformance};

    #[tokio::test(start_paused = true)]
    async fn a_running_keeper_holds_the_lease_and_a_stopped_one_loses_it() {
        let registry = Arc::new(MemoryRegistry::new());
        let entry = conformance::entry(1, 1);
        let keeper = Arc::new(LeaseKeeper::new(entry.node, registry.clone(), LEASE));
        assert!(!keeper.holds());
        let running = tokio::spawn({
            let keeper = keeper.clone();
            async move { keeper.run().await }
        });
        registry.apply(&[Write::Register(Box::new(entry.clone()))]).await.unwrap();
        // A second after a renewal, so that it is clear which was the last.
        tokio::time::sleep(LEASE * 5 + Duration::from_secs(1)).await;
        assert!(keeper.holds() && keeper.is_fresh());
        assert!(registry.find(entry.id).await.unwrap().is_some());
        running.abort();
        tokio::time::sleep(LEASE * 2 / 3).await;
        assert!(keeper.holds() && !keeper.is_fresh(), "doubted before it is over");
        tokio::time::sleep(LEASE * 2).await;
        assert!(!keeper.holds());
        assert!(registry.find(entry.id).await.unwrap().is_none());
    }
}
