use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use arc_swap::ArcSwapOption;
use countersign_node_proto::{ConnectionId, Generation, Payload};

use crate::close::CloseReason;
use crate::config::Mode;
use crate::edge::IdentityHeaders;
use crate::identity::Principal;
use crate::page_key::PageKey;
use crate::quota::PerMinute;
use crate::telemetry::AgainCause;
use crate::ticket::{ReplayWindow, Replayed};

/// Where a connection is in its life: forward only, and `Closed` is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ConnectionState {
    /// Open.
    Accepted = 0,
    /// Challenge sent.
    Challenged = 1,
    /// Challenge answered.
    Verified = 2,
    /// Verified no more: a further challenge failed, and the socket stayed open.
    Lapsed = 3,
    /// Gone.
    Closed = 4,
}

impl ConnectionState {
    /// The state that a stored discriminant stands for.
    const fn of(stored: u8) -> Self {
        match stored {
            0 => Self::Accepted,
            1 => Self::Challenged,
            2 => Self::Verified,
            3 => Self::Lapsed,
            _ => Self::Closed,
        }
    }
}

/// Why a post did not reach a connection's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// No such connection, or it is closing.
    #[error("connection is gone")]
    Gone,
    /// Its outbound queue is full.
    #[error("connection reads too slowly")]
    SlowConsumer,
}

/// How other threads reach a connection.
pub trait Mailbox: Send + Sync + 'static {
    /// Queues a message for the client.
    ///
    /// # Errors
    /// [`PostError`] if it will not be sent.
    fn post(&self, payload: Payload) -> Result<(), PostError>;
    /// Challenges a verified native client again, unless that is under way. Does nothing where there is no such client.
    fn challenge(&self, cause: AgainCause) {
        let _ = cause;
    }
    /// Starts the closing handshake.
    fn close(&self, reason: CloseReason);
    /// Ends the connection now, without one.
    fn cut(&self);
}

/// One open connection of this node.
pub struct LiveConnection {
    /// Its id.
    pub id: ConnectionId,
    /// Tells this life of the id from any other.
    pub generation: Generation,
    /// The handshake's origin.
    pub origin: Option<String>,
    /// The client's address, for quotas and logs.
    pub address: Option<IpAddr>,
    /// Milliseconds since the Unix epoch.
    pub connected_at_ms: u64,
    /// Milliseconds since the Unix epoch of the last message.
    pub last_active_ms: AtomicU64,
    /// The challenge that was answered last; tickets say it.
    pub epoch: AtomicU32,
    /// How other threads reach it.
    pub mailbox: Box<dyn Mailbox>,
    principal: ArcSwapOption<Principal>,
    /// Calls allowed in its name.
    calls: PerMinute,
    state: AtomicU8,
    /// Made at the first decision, for the principal of then: most connections never need it.
    vouched: ArcSwapOption<Vouched>,
    /// Set once, by a native client's `hello`.
    bound: OnceLock<Box<Bound>>,
    /// Which signed calls were seen; made at the first.
    calls_seen: OnceLock<Box<Mutex<ReplayWindow>>>,
}

/// What a native client's `hello` binds to its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The page's key.
    pub key: PageKey,
    /// The least that REST calls in the connection's name must show, whatever their path asks for.
    pub mode: Mode,
}

/// Identity headers, and whom they were made for.
struct Vouched {
    principal: Option<Arc<Principal>>,
    headers: Arc<IdentityHeaders>,
}

impl LiveConnection {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(
        id: ConnectionId,
        generation: Generation,
        origin: Option<String>,
        address: Option<IpAddr>,
        principal: Option<Arc<Principal>>,
        connected_at_ms: u64,
        mailbox: Box<dyn Mailbox>,
    ) -> Self {
        Self {
            id,
            generation,
            origin,
            address,
            connected_at_ms,
            last_active_ms: AtomicU64::new(connected_at_ms),
            epoch: AtomicU32::new(0),
            mailbox,
            principal: ArcSwapOption::new(principal),
            calls: PerMinute::default(),
            state: AtomicU8::new(ConnectionState::Accepted as u8),
            vouched: ArcSwapOption::empty(),
            bound: OnceLock::new(),
            calls_seen: OnceLock::new(),
        }
    }

    /// Has its client challenged again after more calls in its name than this within a minute. 0: never.
    #[must_use]
    pub fn challenged_after_calls(self, per_minute: u32) -> Self {
        Self { calls: PerMinute::new(per_minute), ..self }
    }

    /// A call was allowed in its name. `now` in seconds.
    pub fn called(&self, now: u64) {
        self.called_elsewhere(1, now);
    }

    /// So many calls were allowed in its name by another node that did not ask. `now` in seconds.
    pub fn called_elsewhere(&self, calls: u32, now: u64) {
        if self.calls.passes_by(calls, || now / 60) {
            self.mailbox.challenge(AgainCause::Calls);
        }
    }

    /// Binds the page's key to the connection. The first binding stays; tells whether this was it.
    pub fn bind(&self, bound: Bound) -> bool {
        self.bound.set(Box::new(bound)).is_ok()
    }

    /// What is bound to the connection; nothing before `hello`, and for clients of other dialects.
    #[must_use]
    pub fn bound(&self) -> Option<&Bound> {
        self.bound.get().map(Box::as_ref)
    }

    /// Takes the counter of a signed call, once.
    ///
    /// # Errors
    /// [`Replayed`], also for one that is too old to tell.
    pub fn take_counter(&self, counter: u64) -> Result<(), Replayed> {
        let window = self.calls_seen.get_or_init(Box::default);
        // No method leaves the window half moved, so a panic elsewhere does not spoil it.
        window.lock().unwrap_or_else(PoisonError::into_inner).take(counter)
    }

    /// What a decision says of this connection while `principal` is its own.
    #[must_use]
    pub fn identity(&self, principal: Option<&Arc<Principal>>) -> Arc<IdentityHeaders> {
        if let Some(vouched) = &*self.vouched.load()
            && vouched.principal.as_ref().map(Arc::as_ptr) == principal.map(Arc::as_ptr)
        {
            return vouched.headers.clone();
        }
        let (subject, issuer) = principal.map(|principal| (principal.subject.as_str(), principal.issuer.as_str())).unzip();
        let headers = Arc::new(IdentityHeaders::new(subject, issuer, self.origin.as_deref()));
        let vouched = Vouched { principal: principal.cloned(), headers: headers.clone() };
        self.vouched.store(Some(Arc::new(vouched)));
        headers
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        ConnectionState::of(self.state.load(Ordering::Acquire))
    }

    /// Moves forward to `next`; tells whether it did. A closed connection never moves again.
    pub fn advance(&self, next: ConnectionState) -> bool {
        let step = |now: u8| (now < next as u8).then_some(next as u8);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, step).is_ok()
    }

    /// Ends the connection's rights at once and starts its closing handshake.
    pub fn close(&self, reason: CloseReason) {
        self.advance(ConnectionState::Closed);
        self.mailbox.close(reason);
    }

    /// Whom the connection's token names.
    #[must_use]
    pub fn principal(&self) -> Option<Arc<Principal>> {
        self.principal.load_full()
    }

    /// Replaces the principal after a refresh.
    pub fn set_principal(&self, principal: Arc<Principal>) {
        self.principal.store(Some(principal));
    }
}

/// Independent locks, so that connects on one thread and decisions on another seldom meet. A power of two.
const SHARDS: usize = 64;

/// One shard of the table.
type Shard = RwLock<HashMap<ConnectionId, Arc<LiveConnection>>>;

/// The open connections of this node.
pub struct LiveConnections {
    shards: Box<[Shard]>,
    hasher: RandomState,
}

impl LiveConnections {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::default()).collect(), hasher: RandomState::new() }
    }

    /// Adds a connection.
    pub fn insert(&self, connection: Arc<LiveConnection>) {
        let mut shard = self.shard(connection.id).write().unwrap_or_else(PoisonError::into_inner);
        shard.insert(connection.id, connection);
    }

    /// Marks a connection closed and takes it out. Closed comes first: whoever still holds it sees that at once.
    pub fn remove(&self, id: ConnectionId, generation: Generation) -> Option<Arc<LiveConnection>> {
        let mut shard = self.shard(id).write().unwrap_or_else(PoisonError::into_inner);
        let found = shard.get(&id).filter(|connection| connection.generation == generation)?;
        found.advance(ConnectionState::Closed);
        shard.remove(&id)
    }

    /// The connection, unless it closed.
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<Arc<LiveConnection>> {
        let shard = self.shard(id).read().unwrap_or_else(PoisonError::into_inner);
        shard.get(&id).filter(|connection| connection.state() != ConnectionState::Closed).cloned()
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// None is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that are open now, one shard at a time: a drain or a disconnect acts on them without holding a lock.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Arc<LiveConnection>> {
        let all = |shard: &Shard| shard.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect::<Vec<_>>();
        self.shards.iter().flat_map(all).collect()
    }

    /// Closes every connection whose principal is such; how many there were.
    pub fn close_where(&self, such: impl Fn(&Principal) -> bool, reason: CloseReason) -> usize {
        let all = self.snapshot();
        let named = all.iter().filter(|connection| connection.principal().is_some_and(|principal| such(&principal)));
        named.map(|connection| connection.close(reason)).count()
    }

    /// The shard of an id.
    fn shard(&self, id: ConnectionId) -> &Shard {
        let place = usize::try_from(self.hasher.hash_one(id) % SHARDS as u64).unwrap_or(0);
        &self.shards[place]
    }
}

impl Default for LiveConnections {
    fn default() -> Self {
        Self::new()
    }
}
