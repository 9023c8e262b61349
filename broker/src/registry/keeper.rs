use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_node_proto::{ChannelName, ConnectionId, Generation, Invalidate, NodeMessage};
use indexmap::IndexSet;
use tokio::sync::{Notify, watch};

use super::pending::Pending;
use super::{Entry, Registry, RegistryUnavailable, Write};
use crate::backoff::Backoff;
use crate::cluster::{Bus, BusUnavailable};
use crate::config::Mode;

/// Writes in one call of the registry: enough to make a round trip cheap, few enough to keep its script short.
const BATCH_MAX: usize = 512;
/// Longest wait for one call. The registry has its own, shorter bound; this one keeps a fault in it from stopping us.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// First and longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// Invalidations that wait for the bus; above this one for all replaces them.
const ANNOUNCEMENTS_MAX: usize = 4_096;

/// What the sockets of this node tell the registry. No call of a socket waits.
///
/// A cheap handle; all clones are one keeper. Its task is [`RegistryKeeper::run`]. Order: a connection's writes are applied
/// as they were made, and other nodes are told to forget it only after its removal (or verification, or lapse) was applied, so that
/// what they load then is the new state. While the registry is away they are told at once as well.
#[derive(Clone)]
pub struct RegistryKeeper {
    shared: Arc<Shared>,
}

struct Shared {
    registry: Arc<dyn Registry>,
    bus: Arc<dyn Bus>,
    // Never held across an await.
    state: Mutex<State>,
    wake: Notify,
    idle: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    pending: Pending,
    /// Taken, not yet confirmed; survives a panic of the task.
    in_flight: VecDeque<Arc<[Write]>>,
    announcements: Announcements,
    away: bool,
}

/// Connections that the other nodes must forget.
#[derive(Default)]
struct Announcements {
    ids: IndexSet<ConnectionId>,
    all: bool,
    /// What is being said.
    under_way: Option<Invalidate>,
}

/// Why a round of the task did not get through.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Registry(#[from] RegistryUnavailable),
    #[error(transparent)]
    Bus(#[from] BusUnavailable),
}

impl RegistryKeeper {
    /// A keeper with nothing to do.
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>, bus: Arc<dyn Bus>) -> Self {
        let shared = Shared { registry, bus, state: Mutex::default(), wake: Notify::new(), idle: watch::Sender::new(true) };
        Self { shared: Arc::new(shared) }
    }

    /// A connection opened.
    pub fn register(&self, entry: Entry) {
        self.note(|state| state.pending.register(entry));
    }

    /// Its challenge was answered; what its calls must at least show.
    pub fn verify(&self, id: ConnectionId, generation: Generation, mode: Mode) {
        self.note(|state| state.pending.verify(id, generation, mode));
    }

    /// It is verified no more, and stays open.
    pub fn lapse(&self, id: ConnectionId, generation: Generation) {
        self.end(id, |pending| pending.lapse(id, generation));
    }

    /// Its token was replaced; `expires_at` in seconds since the Unix epoch.
    pub fn refresh(&self, id: ConnectionId, generation: Generation, expires_at: Option<u64>) {
        self.note(|state| state.pending.refresh(id, generation, expires_at));
    }

    /// It subscribed.
    pub fn subscribe(&self, id: ConnectionId, generation: Generation, channel: ChannelName) {
        self.note(|state| state.pending.subscribe(id, generation, channel));
    }

    /// It ended a subscription.
    pub fn unsubscribe(&self, id: ConnectionId, generation: Generation, channel: ChannelName) {
        self.note(|state| state.pending.unsubscribe(id, generation, channel));
    }

    /// It closed, or must no longer count. May be said twice.
    pub fn remove(&self, id: ConnectionId, generation: Generation) {
        self.end(id, |pending| pending.remove(id, generation));
    }

    /// Notes what other nodes must hear at once while the registry is away, or if it never hears that the connection was verified.
    fn end(&self, id: ConnectionId, change: impl FnOnce(&mut Pending) -> bool) {
        self.note(|state| {
            let unheard_of = change(&mut state.pending);
            if state.away || unheard_of {
                state.announcements.add(id);
            }
        });
    }

    /// Did the last call of the registry succeed?
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        !self.state().away
    }

    /// Connections whose writes wait.
    #[must_use]
    pub fn backlog(&self) -> usize {
        let state = self.state();
        state.pending.len() + state.in_flight.iter().map(|batch| batch.len()).sum::<usize>()
    }

    /// Waits until everything said so far was applied and announced. Bound it: the registry may be away.
    pub async fn flush(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.shared.idle.subscribe().wait_for(|idle| *idle).await;
    }

    /// Applies and announces for ever; end it by dropping it, and start it again after a panic.
    pub async fn run(&self) {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            match self.round().await {
                Ok(true) => backoff.reset(),
                Ok(false) => self.shared.wake.notified().await,
                Err(error) => self.wait_out(&error, backoff.pause()).await,
            }
        }
    }

    /// Applies what is pending and announces what follows from it. False: there was nothing to do.
    ///
    /// A bus that is away does not keep writes from the registry, nor the other way round.
    async fn round(&self) -> Result<bool, RoundError> {
        let applied = self.apply_all().await;
        self.announce().await?;
        Ok(applied?)
    }

    /// Applies everything that is pending now, batch by batch.
    async fn apply_all(&self) -> Result<bool, RegistryUnavailable> {
        self.take_pending();
        let mut some = false;
        while let Some(batch) = self.front() {
            let call = tokio::time::timeout(CALL_TIMEOUT, self.shared.registry.apply(&batch)).await;
            let outcome = call.unwrap_or_else(|_| Err(RegistryUnavailable("timed out".to_owned())));
            self.state().settle(&batch, &outcome);
            outcome?;
            some = true;
        }
        Ok(some)
    }

    /// Cuts what is pending into batches, once the batches before were confirmed; declares the keeper idle if all is done.
    fn take_pending(&self) {
        let mut state = self.state();
        if state.in_flight.is_empty() {
            let writes = state.pending.take();
            state.in_flight.extend(writes.chunks(BATCH_MAX).map(Arc::from));
        }
        if state.in_flight.is_empty() && state.announcements.is_empty() {
            self.shared.idle.send_replace(true);
        }
    }

    fn front(&self) -> Option<Arc<[Write]>> {
        self.state().in_flight.front().cloned()
    }

    /// Tells the other nodes what to forget.
    async fn announce(&self) -> Result<(), BusUnavailable> {
        loop {
            let Some(invalidate) = self.state().announcements.take_next() else { return Ok(()) };
            self.shared.bus.broadcast(NodeMessage::Invalidate(invalidate)).await?;
            self.state().announcements.done();
        }
    }

    /// Pauses after a failure, until the registry is back at most; what must be forgotten meanwhile is announced without
    /// waiting for the pause to end.
    async fn wait_out(&self, error: &RoundError, pause: Duration) {
        tracing::warn!(%error, pause_ms = pause.as_millis(), "registry or bus did not take what changed, trying again");
        let pause = tokio::time::sleep(pause);
        let returned = self.shared.registry.returned();
        tokio::pin!(pause, returned);
        loop {
            tokio::select! {
                () = &mut pause => return,
                () = &mut returned => return,
                () = self.shared.wake.notified() => {
                    // A failure keeps the announcement for the next round.
                    let _ = self.announce().await;
                }
            }
        }
    }

    /// Notes a change and wakes the task.
    fn note(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        self.shared.idle.send_if_modified(|idle| std::mem::replace(idle, false));
        drop(state);
        self.shared.wake.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Records how the front batch fared.
    fn settle(&mut self, batch: &[Write], outcome: &Result<(), RegistryUnavailable>) {
        match outcome {
            Ok(()) => {
                self.in_flight.pop_front();
                self.away = false;
                batch.iter().filter_map(told_to_others).for_each(|id| self.announcements.add(id));
            }
            Err(_) if !self.away => {
                self.away = true;
                let taken = self.in_flight.iter().flat_map(|batch| batch.iter()).filter_map(ended);
                let gone: Vec<ConnectionId> = taken.chain(self.pending.ends()).collect();
                gone.into_iter().for_each(|id| self.announcements.add(id));
            }
            Err(_) => {}
        }
    }
}

impl Announcements {
    fn add(&mut self, id: ConnectionId) {
        if self.ids.len() >= ANNOUNCEMENTS_MAX {
            self.all = true;
            self.ids.clear();
        }
        if !self.all {
            self.ids.insert(id);
        }
    }

    /// The next one. It is taken out, so that what is added meanwhile is said again, and comes back unless it is done: the bus may
    /// fail, or the task panic.
    fn take_next(&mut self) -> Option<Invalidate> {
        match self.under_way.take() {
            Some(Invalidate::Connection(id)) => self.add(id),
            Some(_) => self.all = true,
            None => {}
        }
        let next = if std::mem::take(&mut self.all) {
            Some(Invalidate::All)
        } else {
            self.ids.swap_remove_index(0).map(Invalidate::Connection)
        };
        self.under_way.clone_from(&next);
        next
    }

    /// What was taken last is said.
    fn done(&mut self) {
        self.under_way = None;
    }

    fn is_empty(&self) -> bool {
        !self.all && self.ids.is_empty() && self.under_way.is_none()
    }
}

/// The connection whose state other nodes may have cached otherwise, once this write was applied.
fn told_to_others(write: &Write) -> Option<ConnectionId> {
    match write {
        Write::Register(entry) => entry.verified.then_some(entry.id),
        Write::Verify(id, ..) | Write::Lapse(id, _) | Write::Refresh(id, ..) | Write::Remove(id, _) => Some(*id),
        Write::Subscribe(..) | Write::Unsubscribe(..) => None,
    }
}

/// The connection that this write removes, or that is verified no more by it.
fn ended(write: &Write) -> Option<ConnectionId> {
    if let Write::Remove(id, _) | Write::Lapse(id, _) = write { Some(*id) } else { None }
}

#[cfg(test)]
mod tests;
