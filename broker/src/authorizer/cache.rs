//! What is remembered of connections that other nodes own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_node_proto::{ConnectionId, Invalidate, NodeId, PrincipalName};
use prometheus::IntCounter;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, UnitWeighter};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cluster::Bus;
use crate::config::{AuthorizerSettings, Mode};
use crate::edge::IdentityHeaders;
use crate::registry::{Entry, RegistryUnavailable};
use crate::telemetry::Metrics;

/// Loads under way; more are refused. Each ends within the registry's timeout.
const LOADS_MAX: usize = 4_096;
/// How often a load that was overtaken by an invalidation is made again before the answer is "cannot tell".
const ATTEMPTS_MAX: usize = 4;

/// What is known of a connection that another node owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Who owns it.
    pub node: NodeId,
    /// The token's subject, if it had one.
    pub subject: Option<String>,
    /// Its issuer, as it is configured.
    pub issuer: Option<String>,
    /// Its challenge was answered.
    pub verified: bool,
    /// The least that calls in its name must show.
    pub mode: Mode,
    /// Seconds since the Unix epoch.
    pub expires_at: Option<u64>,
    /// What an allow says of it.
    pub headers: Arc<IdentityHeaders>,
}

impl From<Entry> for Known {
    fn from(entry: Entry) -> Self {
        let Entry { node, principal: subject, issuer, origin, verified, mode, expires_at, .. } = entry;
        let headers = Arc::new(IdentityHeaders::new(subject.as_deref(), issuer.as_deref(), origin.as_deref()));
        Self { node, subject, issuer, verified, mode, expires_at, headers }
    }
}

/// What a load found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The connection, if there is one.
    pub known: Option<Known>,
    /// It may have changed already, and nobody could be asked who knows: remembered as shortly as a denial.
    pub doubtful: bool,
}

impl From<Option<Entry>> for Found {
    fn from(entry: Option<Entry>) -> Self {
        Self { known: entry.map(Known::from), doubtful: false }
    }
}

/// How long what is remembered.
#[derive(Debug, Clone, Copy)]
pub struct CacheSettings {
    /// Life of what allows.
    pub ttl: Duration,
    /// Life of what denies: long enough to spare the registry a flood, short enough not to matter.
    pub denial_ttl: Duration,
    /// Entries.
    pub capacity: usize,
    /// Longest silence of the bus after which what is remembered may still be used.
    pub stale_limit: Duration,
}

impl From<&AuthorizerSettings> for CacheSettings {
    fn from(settings: &AuthorizerSettings) -> Self {
        Self {
            ttl: settings.cache_ttl_seconds.duration(),
            denial_ttl: settings.cache_denial_ttl_ms.duration(),
            capacity: settings.cache_capacity,
            stale_limit: settings.stale_limit_ms.duration(),
        }
    }
}

/// Why nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The registry did not answer.
    #[error(transparent)]
    Registry(#[from] RegistryUnavailable),
    /// Too many loads are under way.
    #[error("too many loads are under way")]
    TooMany,
    /// Each load was overtaken by an invalidation, or its thread ended.
    #[error("the load did not come to an end")]
    Unsettled,
}

/// What one load gave. None: there is no such connection.
pub type Loaded = Result<Option<Arc<Known>>, LoadError>;

/// The cache. Entries end by time, for want of room, and when another node says so.
///
/// Order of an invalidation and a load: both take the lock of `loads`. An invalidation strikes the load from the list
/// before it drops the entry; a load stores its result only if it is still on the list. So nothing that was read before an
/// invalidation is stored after it, nor given to anybody who asked after it. Lock order: `loads`, then a shard of `entries`.
pub struct ConnectionCache {
    entries: Cache<ConnectionId, Remembered, UnitWeighter, DefaultHashBuilder, CountEvictions>,
    loads: Mutex<Loads>,
    bus: Arc<dyn Bus>,
    settings: CacheSettings,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Loads {
    under_way: HashMap<ConnectionId, Load>,
    next_number: u64,
}

/// One load under way; all who ask meanwhile wait for it.
struct Load {
    number: u64,
    outcome: watch::Receiver<Option<Outcome>>,
}

#[derive(Clone)]
enum Outcome {
    Landed(Loaded),
    /// An invalidation overtook it: what it read may be old.
    Overtaken,
}

#[derive(Clone)]
struct Remembered {
    known: Option<Arc<Known>>,
    until: Instant,
}

/// Counts entries that leave for want of room.
#[derive(Clone)]
struct CountEvictions(IntCounter);

impl Lifecycle<ConnectionId, Remembered> for CountEvictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: ConnectionId, _: Remembered) {
        self.0.inc();
    }
}

impl ConnectionCache {
    /// An empty cache. `bus` tells how long invalidations may have been lost.
    #[must_use]
    pub fn new(settings: CacheSettings, bus: Arc<dyn Bus>, metrics: Arc<Metrics>) -> Arc<Self> {
        let capacity = settings.capacity.max(1);
        let evictions = CountEvictions(metrics.cache_evictions.clone());
        let hasher = DefaultHashBuilder::default();
        let entries = Cache::with(capacity, capacity as u64, UnitWeighter, hasher, evictions);
        Arc::new(Self { entries, loads: Mutex::default(), bus, settings, metrics })
    }

    /// What is remembered, if it may be used: `Some(None)` is a remembered denial.
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<Option<Arc<Known>>> {
        let remembered = if self.is_current() { self.entries.get(&id) } else { None };
        let usable = |remembered: &Remembered| {
            let owner_lives = remembered.known.as_ref().is_none_or(|known| self.bus.hears(known.node));
            owner_lives && Instant::now() < remembered.until
        };
        match remembered.filter(usable) {
            Some(remembered) => {
                self.metrics.cache_hits.inc();
                Some(remembered.known)
            }
            None => {
                self.metrics.cache_misses.inc();
                None
            }
        }
    }

    /// Loads with `fetch`, once however many ask at a time, and remembers the result.
    ///
    /// The load runs in a task of its own: whoever asked may go away.
    ///
    /// # Errors
    /// [`LoadError`]: nothing is known, and the caller must not allow.
    pub async fn load<Fetch, Fetched>(self: &Arc<Self>, id: ConnectionId, fetch: Fetch) -> Loaded
    where
        Fetch: Fn() -> Fetched,
        Fetched: Future<Output = Result<Found, RegistryUnavailable>> + Send + 'static,
    {
        for _ in 0..ATTEMPTS_MAX {
            let mut outcome = self.join(id, &fetch)?;
            let landed = outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
            if let Ok(Some(Outcome::Landed(loaded))) = landed {
                return loaded;
            }
        }
        Err(LoadError::Unsettled)
    }

    /// Drops what another node says must be dropped.
    pub fn invalidate(&self, what: &Invalidate) {
        match what {
            Invalidate::Connection(id) => self.forget(*id),
            Invalidate::Principal(principal) => self.forget_principal(principal),
            Invalidate::All => self.forget_all(),
        }
    }

    /// Drops one connection.
    pub fn forget(&self, id: ConnectionId) {
        let mut loads = self.loads();
        loads.under_way.remove(&id);
        if self.entries.remove(&id).is_some() {
            self.metrics.cache_invalidations.inc();
        }
        self.measure();
    }

    /// Drops every connection of a principal. Loads under way may be of that principal: they are made again.
    pub fn forget_principal(&self, principal: &PrincipalName) {
        let mut loads = self.loads();
        loads.under_way.clear();
        let before = self.entries.len();
        let theirs = |known: &Arc<Known>| {
            known.subject.as_deref().is_some_and(|subject| principal.may_be(known.issuer.as_deref(), subject))
        };
        self.entries.retain(|_, remembered| !remembered.known.as_ref().is_some_and(theirs));
        self.metrics.cache_invalidations.inc_by(before.saturating_sub(self.entries.len()) as u64);
        self.measure();
    }

    /// Drops everything: messages of the bus may have been lost.
    pub fn forget_all(&self) {
        let mut loads = self.loads();
        loads.under_way.clear();
        self.metrics.cache_invalidations.inc_by(self.entries.len() as u64);
        self.entries.clear();
        self.measure();
    }

    /// Entries, expired ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Has the stream of invalidations been heard lately?
    fn is_current(&self) -> bool {
        self.bus.silence() <= self.settings.stale_limit
    }

    /// Joins the load of this connection that is under way, or starts one.
    fn join<Fetch, Fetched>(
        self: &Arc<Self>,
        id: ConnectionId,
        fetch: &Fetch,
    ) -> Result<watch::Receiver<Option<Outcome>>, LoadError>
    where
        Fetch: Fn() -> Fetched,
        Fetched: Future<Output = Result<Found, RegistryUnavailable>> + Send + 'static,
    {
        let mut loads = self.loads();
        // The sender of a load whose task was lost is gone: that one will never land.
        let alive = loads.under_way.get(&id).filter(|load| load.outcome.has_changed().is_ok());
        if let Some(load) = alive {
            return Ok(load.outcome.clone());
        }
        if loads.under_way.len() >= LOADS_MAX {
            return Err(LoadError::TooMany);
        }
        let number = loads.next_number;
        loads.next_number += 1;
        let (landing, outcome) = watch::channel(None);
        loads.under_way.insert(id, Load { number, outcome: outcome.clone() });
        drop(loads);
        let (cache, fetched) = (self.clone(), fetch());
        tokio::spawn(async move {
            let fetched = fetched.await;
            let doubtful = fetched.as_ref().is_ok_and(|found| found.doubtful);
            let loaded = fetched.map(|found| found.known.map(Arc::new)).map_err(LoadError::from);
            landing.send_replace(Some(cache.land(id, number, loaded, doubtful)));
        });
        Ok(outcome)
    }

    /// Ends a load: remembers what it gave, unless an invalidation struck it from the list.
    fn land(&self, id: ConnectionId, number: u64, loaded: Loaded, doubtful: bool) -> Outcome {
        let mut loads = self.loads();
        if loads.under_way.get(&id).is_none_or(|load| load.number != number) {
            return Outcome::Overtaken;
        }
        loads.under_way.remove(&id);
        if let Ok(known) = &loaded
            && self.is_current()
        {
            let allows = known.as_ref().is_some_and(|known| known.verified);
            let ttl = if allows && !doubtful { self.settings.ttl } else { self.settings.denial_ttl };
            self.entries.insert(id, Remembered { known: known.clone(), until: Instant::now() + ttl });
            self.measure();
        }
        Outcome::Landed(loaded)
    }

    fn measure(&self) {
        self.metrics.cache_size.set(i64::try_from(self.entries.len()).unwrap_or(i64::MAX));
    }

    fn loads(&self) -> MutexGuard<'_, Loads> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
pub(crate) mod tests;
