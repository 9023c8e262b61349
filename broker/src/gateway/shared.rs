use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use countersign_node_proto::{ConnectionId, Generation, NodeId};
use tokio::sync::Semaphore;

use super::supervisor::ConnectionSupervisor;
use super::{SessionConfig, Watchdog};
use crate::challenge::{HeldPrograms, Issuer, PendingPermits};
use crate::config::GatewaySettings;
use crate::edge::{ClientAddress, Cors, HostList, OriginList};
use crate::hub::{Hub, Publisher, Shard};
use crate::identity::{Clock, TokenVerifier};
use crate::registry::RegistryKeeper;
use crate::telemetry::Metrics;
use crate::ticket::TicketOffice;

/// What all sockets of a node share.
pub struct Gateway {
    /// Endpoint, token sources, limits.
    pub settings: GatewaySettings,
    /// Compiled routes and rules, and the challenge.
    pub session: Arc<SessionConfig>,
    /// This node.
    pub node: NodeId,
    /// Who may open a socket.
    pub origins: Arc<OriginList>,
    /// By which names clients reach the node.
    pub hosts: HostList,
    /// Cross-origin answers to refused handshakes.
    pub cors: Cors,
    /// Tells the client's address.
    pub addresses: ClientAddress,
    /// Admits, knows and drains connections.
    pub supervisor: Arc<ConnectionSupervisor>,
    /// Verifies tokens at the handshake and at a refresh.
    pub verifier: Arc<TokenVerifier>,
    /// Mints tickets for verified pages.
    pub tickets: Arc<TicketOffice>,
    /// Makes challenges.
    pub issuer: Issuer,
    /// Programs that frames have yet to fetch.
    pub held: Arc<HeldPrograms>,
    /// Room for pending challenges.
    pub permits: PendingPermits,
    /// Room for handshakes whose token is being verified.
    pub handshakes: Semaphore,
    /// The registry's scribe.
    pub keeper: RegistryKeeper,
    /// Publishes for sockets.
    pub publisher: Publisher,
    /// Subscriptions by thread.
    pub hub: Arc<Hub>,
    /// Wall clock, for token expiry and entries.
    pub clock: Clock,
    /// Upper end of the reconnect delay that a draining node tells its clients.
    pub retry_hint_max: Duration,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Source of [`Generation`]s; starts at the node's start in milliseconds, so that no generation is used twice.
    pub generations: AtomicU64,
}

impl Gateway {
    /// The generation of the next connection.
    #[must_use]
    pub fn next_generation(&self) -> Generation {
        Generation(self.generations.fetch_add(1, Ordering::Relaxed))
    }

    /// A fresh connection id.
    ///
    /// # Errors
    /// If the system's generator fails: nobody is let in then.
    pub fn draw_id() -> Result<ConnectionId, getrandom::Error> {
        let mut bytes = [0_u8; 16];
        getrandom::fill(&mut bytes)?;
        Ok(ConnectionId::from_bytes(bytes))
    }
}

/// What the sockets of one worker thread share.
pub struct Worker {
    /// What all threads share.
    pub gateway: Arc<Gateway>,
    /// Subscriptions of this thread.
    pub shard: Shard,
    /// Looks after the sockets of this thread, outside their tasks.
    pub watchdog: Watchdog,
}
