use std::sync::{Arc, OnceLock};
use std::time::Duration;

use countersign_node_proto::{Layout, NodeId};

use crate::cluster::{Bus, BusListener, LocalBus, LocalExchange, RedisBus};
use crate::config::ClusterSettings;
use crate::link::{CommandLink, RedisTarget, TargetError, Task, keep};
use crate::registry::{MemoryRegistry, RedisRegistry, Registry};
use crate::telemetry::Metrics;
use crate::ticket::{NewKeyError, RedisKeyStore, TicketKeys};

/// What nodes share: the registry and the bus between them.
///
/// A node by itself has one of its own; nodes in one process can share one, as tests and load tests do; the nodes of a cluster
/// share a Redis.
#[derive(Clone)]
pub struct Backplane(Kind);

#[derive(Clone)]
enum Kind {
    Local { registry: Arc<MemoryRegistry>, exchange: Arc<LocalExchange>, keys: Arc<OnceLock<Arc<TicketKeys>>> },
    Redis(Arc<Cluster>),
}

/// A cluster, before any node joined it.
struct Cluster {
    target: RedisTarget,
    layout: Layout,
    settings: ClusterSettings,
}

/// A node's end of the backplane.
pub(super) struct Attached {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) keys: Arc<TicketKeys>,
    ear: Ear,
}

/// Where a node hears the others.
enum Ear {
    Local(Arc<LocalBus>),
    Redis { bus: Arc<RedisBus>, registry: Arc<RedisRegistry>, keys: Arc<RedisKeyStore>, link: CommandLink },
}

impl Backplane {
    /// A backplane within this process.
    #[must_use]
    pub fn local() -> Self {
        Self(Kind::Local { registry: Arc::new(MemoryRegistry::new()), exchange: LocalExchange::new(), keys: Arc::default() })
    }

    /// The backplane of a cluster. Connects to nothing yet: a node starts without its Redis too, and is unready meanwhile.
    ///
    /// # Errors
    /// [`TargetError`] if the settings do not lead to a Redis.
    pub fn redis(settings: &ClusterSettings) -> Result<Self, TargetError> {
        let (target, layout) = (RedisTarget::new(settings)?, Layout::new(&settings.prefix)?);
        Ok(Self(Kind::Redis(Arc::new(Cluster { target, layout, settings: settings.clone() }))))
    }

    /// The one that the settings ask for.
    ///
    /// # Errors
    /// As [`Backplane::redis`].
    pub fn of(settings: &ClusterSettings) -> Result<Self, TargetError> {
        if settings.redis.is_some() { Self::redis(settings) } else { Ok(Self::local()) }
    }

    /// Lets a node in. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`NewKeyError`] if there is no randomness for the first key of tickets.
    pub(super) fn attach(&self, node: NodeId, metrics: &Arc<Metrics>) -> Result<Attached, NewKeyError> {
        match &self.0 {
            Kind::Local { registry, exchange, keys } => {
                let (local, fresh) = (exchange.attach(node), TicketKeys::random()?);
                let keys = Arc::clone(keys.get_or_init(|| fresh));
                Ok(Attached { registry: registry.clone(), bus: local.clone(), keys, ear: Ear::Local(local) })
            }
            Kind::Redis(cluster) => Ok(cluster.attach(node, metrics)),
        }
    }
}

impl Cluster {
    fn attach(&self, node: NodeId, metrics: &Arc<Metrics>) -> Attached {
        let link = CommandLink::start(self.target.clone(), Arc::clone(metrics));
        let registry = RedisRegistry::new(link.clone(), self.layout.clone(), node, Arc::clone(metrics));
        let bus = RedisBus::start(link.clone(), self.layout.clone(), node, &self.settings, Arc::clone(metrics));
        let (registry, store) = (Arc::new(registry), RedisKeyStore::new(link.clone(), &self.layout));
        let keys = Arc::clone(store.keys());
        Attached { registry: registry.clone(), bus: bus.clone(), keys, ear: Ear::Redis { bus, registry, keys: store, link } }
    }
}

impl Attached {
    /// Starts to hear the other nodes.
    pub(super) fn listen(&self, listener: Arc<dyn BusListener>) {
        match &self.ear {
            Ear::Local(bus) => bus.listen(listener),
            Ear::Redis { bus, .. } => bus.listen(listener),
        }
    }

    /// Waits until commands go out, for as long as a connection may take. Without it the node goes on, unready.
    pub(super) async fn reached(&self) {
        if let Ear::Redis { link, keys, .. } = &self.ear {
            wait(link.target(), "commands", link.up()).await;
            keys.refresh().await;
        }
    }

    /// Waits until messages come in, likewise.
    pub(super) async fn listening(&self) {
        if let Ear::Redis { bus, link, .. } = &self.ear {
            wait(link.target(), "messages", bus.listening()).await;
        }
    }

    /// What keeps the shared registry equal to this node's truth, and its ticket keys to those of the cluster, for as long as
    /// the node lives.
    pub(super) fn maintenance(&self) -> Vec<Task> {
        let Ear::Redis { registry, keys, .. } = &self.ear else { return Vec::new() };
        let (registry, keys) = (Arc::clone(registry), Arc::clone(keys));
        let registry = keep("registry maintenance", move || {
            let registry = Arc::clone(&registry);
            async move { registry.maintain().await }
        });
        let keys = keep("ticket keys", move || {
            let keys = Arc::clone(&keys);
            async move { keys.maintain().await }
        });
        vec![registry, keys]
    }

    /// Is there a bus that can be away?
    pub(super) fn is_remote(&self) -> bool {
        matches!(self.ear, Ear::Redis { .. })
    }
}

async fn wait(target: &RedisTarget, what: &'static str, up: impl Future<Output = ()>) {
    let patience = target.reach_timeout() + Duration::from_millis(500);
    if tokio::time::timeout(patience, up).await.is_err() {
        tracing::warn!(redis = target.address(), what, "starting without redis, unready until it is there");
    }
}
