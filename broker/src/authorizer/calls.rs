//! Calls that this node allowed in the name of other nodes' connections, on their way to those who count them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_node_proto::{Calls, ConnectionId, NodeId, NodeMessage};
use futures_util::future::join_all;
use tokio::time::MissedTickBehavior;

use crate::cluster::Bus;
use crate::telemetry::{ForeignCall, Metrics};

/// How often owners are told: a further challenge may be as much later than by the owner's own count.
const INTERVAL: Duration = Duration::from_secs(1);
/// Connections that are counted between two tellings. More is dropped, and seen in the metrics: whoever calls most is the
/// likeliest to be among them. It makes the largest message about 200 KiB, if one node owns them all.
const CONNECTIONS_MAX: usize = 8_192;
/// Independent locks, so that decisions on different threads seldom meet. A power of two.
const SHARDS: usize = 16;

/// Adds up the calls that were allowed without asking the owner, and tells the owners.
///
/// A decision costs one lock that is seldom contended and one look at a table whose memory is kept; nothing is sent from there.
/// What is lost on the way is not told again: a count that is too low only delays a challenge.
pub struct ForeignCalls {
    shards: Box<[Shard]>,
    /// Connections in all shards.
    held: AtomicUsize,
    connections_max: usize,
    bus: Arc<dyn Bus>,
    metrics: Arc<Metrics>,
}

type Shard = Mutex<HashMap<ConnectionId, Tally>>;

/// The calls of one connection.
struct Tally {
    owner: NodeId,
    calls: u32,
}

impl ForeignCalls {
    /// Counts, if more calls than `per_minute` are to bring a challenge; 0: they never do, and nothing is counted.
    #[must_use]
    pub fn new(per_minute: u32, bus: Arc<dyn Bus>, metrics: Arc<Metrics>) -> Option<Arc<Self>> {
        (per_minute > 0).then(|| Self::with_connections_max(CONNECTIONS_MAX, bus, metrics))
    }

    fn with_connections_max(connections_max: usize, bus: Arc<dyn Bus>, metrics: Arc<Metrics>) -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        Arc::new(Self { shards, held: AtomicUsize::new(0), connections_max, bus, metrics })
    }

    /// A call was allowed in the name of a connection, and its owner does not know. Never waits for more than a lookup.
    pub(super) fn note(&self, owner: NodeId, connection: ConnectionId) {
        let mut shard = lock(self.shard(connection));
        if let Some(tally) = shard.get_mut(&connection) {
            tally.calls = tally.calls.saturating_add(1);
        } else if self.held.fetch_add(1, Ordering::Relaxed) < self.connections_max {
            shard.insert(connection, Tally { owner, calls: 1 });
        } else {
            self.held.fetch_sub(1, Ordering::Relaxed);
            self.metrics.foreign_calls.of(ForeignCall::Dropped).inc();
        }
    }

    /// Tells the owners what was counted, every second, for ever.
    pub async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.tell().await;
        }
    }

    /// Tells each owner in one message what was counted since the last time.
    async fn tell(&self) {
        let told = self.take().into_iter().map(|(owner, calls)| async move {
            let count = calls.iter().map(|(_, calls)| u64::from(*calls)).sum();
            let outcome = match self.say(owner, Calls { calls }).await {
                true => ForeignCall::Told,
                false => ForeignCall::Unsent,
            };
            self.metrics.foreign_calls.of(outcome).inc_by(count);
        });
        join_all(told).await;
    }

    /// One that is not heard has died, or will be: it is not waited for.
    async fn say(&self, owner: NodeId, calls: Calls) -> bool {
        if !self.bus.hears(owner) {
            return false;
        }
        let said = self.bus.send(owner, NodeMessage::Calls(calls)).await;
        if let Err(error) = &said {
            tracing::debug!(?owner, %error, "calls are not counted: their owner was not told");
        }
        said.is_ok()
    }

    /// What was counted, by owner; counts from nothing again. The tables keep their memory.
    fn take(&self) -> HashMap<NodeId, Vec<(ConnectionId, u32)>> {
        let mut by_owner = HashMap::<NodeId, Vec<_>>::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            self.held.fetch_sub(shard.len(), Ordering::Relaxed);
            for (connection, tally) in shard.drain() {
                by_owner.entry(tally.owner).or_default().push((connection, tally.calls));
            }
        }
        by_owner
    }

    /// The shard of an id: ids are drawn at random, all of their bits alike.
    fn shard(&self, id: ConnectionId) -> &Shard {
        let [first, ..] = *id.as_bytes();
        &self.shards[usize::from(first) % SHARDS]
    }
}

/// No holder leaves a table half changed, so a panic elsewhere does not spoil it.
fn lock(shard: &Shard) -> MutexGuard<'_, HashMap<ConnectionId, Tally>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::cache::tests::QuietBus;
    use super::*;

    const OWNERS: [NodeId; 2] = [NodeId::from_bytes([2; 8]), NodeId::from_bytes([3; 8])];

    fn id(byte: u8) -> ConnectionId {
        ConnectionId::from_bytes([byte; 16])
    }

    fn counting(connections_max: usize) -> (Arc<ForeignCalls>, Arc<QuietBus>, Arc<Metrics>) {
        let (bus, metrics) = (Arc::new(QuietBus::default()), Arc::new(Metrics::new()));
        (ForeignCalls::with_connections_max(connections_max, bus.clone(), metrics.clone()), bus, metrics)
    }

    fn told(bus: &QuietBus) -> Vec<(NodeId, Vec<(ConnectionId, u32)>)> {
        let sent = std::mem::take(&mut *bus.sent.lock().unwrap());
        let mut told: Vec<_> = sent
            .into_iter()
            .map(|(owner, message)| match message {
                NodeMessage::Calls(Calls { mut calls }) => {
                    calls.sort_unstable();
                    (owner, calls)
                }
                other => panic!("{other:?}"),
            })
            .collect();
        told.sort_unstable();
        told
    }

    #[tokio::test]
    async fn each_owner_is_told_once_what_was_added_up() {
        let (calls, bus, metrics) = counting(100);
        calls.tell().await;
        assert_eq!(told(&bus), [], "nothing is said of nothing");
        for (owner, byte, count) in [(0, 1, 3), (1, 17, 1), (0, 33, 2)] {
            (0..count).for_each(|_| calls.note(OWNERS[owner], id(byte)));
        }
        calls.tell().await;
        assert_eq!(told(&bus), [(OWNERS[0], vec![(id(1), 3), (id(33), 2)]), (OWNERS[1], vec![(id(17), 1)])]);
        calls.tell().await;
        assert_eq!(told(&bus), [], "no call is told twice");
        assert_eq!(metrics.foreign_calls.of(ForeignCall::Told).get(), 6);
        bus.peers_silent.store(true, Ordering::Relaxed);
        calls.note(OWNERS[0], id(1));
        calls.tell().await;
        assert_eq!((told(&bus), metrics.foreign_calls.of(ForeignCall::Unsent).get()), (Vec::new(), 1));
    }

    #[tokio::test]
    async fn what_is_above_the_bound_is_dropped_and_counted_and_room_comes_again() {
        let (calls, bus, metrics) = counting(40);
        for _ in 0..2 {
            for byte in 0..100 {
                (0..2).for_each(|_| calls.note(OWNERS[0], id(byte)));
            }
            calls.tell().await;
            let told = told(&bus);
            assert_eq!(told[0].1, (0..40).map(|byte| (id(byte), 2)).collect::<Vec<_>>(), "those that came first");
        }
        assert_eq!(metrics.foreign_calls.of(ForeignCall::Dropped).get(), 2 * 60 * 2);
        assert_eq!(calls.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn where_no_count_matters_nothing_is_counted() {
        assert!(ForeignCalls::new(0, Arc::new(QuietBus::default()), Arc::new(Metrics::new())).is_none());
    }
}
