use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use countersign_node_proto::{NodeId, Publication};

use super::*;
use crate::registry::{LEASE, LeaseKeeper, MemoryRegistry, Page, conformance};

/// A registry that can be away, and counts its calls.
#[derive(Default)]
struct Flaky {
    memory: MemoryRegistry,
    away: AtomicBool,
    calls: AtomicUsize,
    largest_batch: AtomicUsize,
    back: Notify,
}

impl Flaky {
    fn check(&self) -> Result<(), RegistryUnavailable> {
        if self.away.load(Ordering::Relaxed) { Err(RegistryUnavailable("away".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl Registry for Flaky {
    async fn apply(&self, writes: &[Write]) -> Result<(), RegistryUnavailable> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.largest_batch.fetch_max(writes.len(), Ordering::Relaxed);
        self.check()?;
        self.memory.apply(writes).await
    }
    async fn find(&self, id: ConnectionId) -> Result<Option<Entry>, RegistryUnavailable> {
        self.memory.find(id).await
    }
    async fn by_principal(&self, p: &str, after: Option<ConnectionId>, limit: usize) -> Result<Page, RegistryUnavailable> {
        self.memory.by_principal(p, after, limit).await
    }
    async fn by_channel(
        &self,
        channel: &ChannelName,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Page, RegistryUnavailable> {
        self.memory.by_channel(channel, after, limit).await
    }
    async fn count(&self) -> Result<usize, RegistryUnavailable> {
        self.memory.count().await
    }
    async fn renew_lease(&self, node: NodeId, lease: Duration) -> Result<(), RegistryUnavailable> {
        self.check()?;
        self.memory.renew_lease(node, lease).await
    }
    async fn returned(&self) {
        self.back.notified().await;
    }
    async fn forget_node(&self, node: NodeId) -> Result<(), RegistryUnavailable> {
        self.memory.forget_node(node).await
    }
}

/// A bus that notes, for each invalidation, whether the registry still held the entry then.
struct Witness {
    registry: Arc<Flaky>,
    seen: Mutex<Vec<(Invalidate, bool)>>,
}

#[async_trait]
impl Bus for Witness {
    async fn publish(&self, _: Publication) -> Result<usize, BusUnavailable> {
        Ok(0)
    }
    async fn send(&self, _: NodeId, _: NodeMessage) -> Result<(), BusUnavailable> {
        Ok(())
    }
    async fn broadcast(&self, message: NodeMessage) -> Result<(), BusUnavailable> {
        let NodeMessage::Invalidate(invalidate) = message else { return Ok(()) };
        let there = match &invalidate {
            Invalidate::Connection(id) => self.registry.find(*id).await.unwrap().is_some(),
            _ => false,
        };
        self.seen.lock().unwrap().push((invalidate, there));
        Ok(())
    }
    fn subscribe(&self, _: &ChannelName) {}
    fn unsubscribe(&self, _: &ChannelName) {}
    fn silence(&self) -> Duration {
        Duration::ZERO
    }
}

struct Bench {
    registry: Arc<Flaky>,
    bus: Arc<Witness>,
    keeper: RegistryKeeper,
}

impl Bench {
    async fn new() -> Self {
        let registry = Arc::new(Flaky::default());
        registry.renew_lease(NodeId::from_bytes([1; 8]), Duration::from_secs(1_000_000)).await.unwrap();
        let bus = Arc::new(Witness { registry: registry.clone(), seen: Mutex::default() });
        let keeper = RegistryKeeper::new(registry.clone(), bus.clone());
        Self { registry, bus, keeper }
    }

    fn start(&self) {
        let keeper = self.keeper.clone();
        tokio::spawn(async move { keeper.run().await });
    }

    async fn is_there(&self, entry: &Entry) -> bool {
        self.registry.find(entry.id).await.unwrap().is_some()
    }
}

#[tokio::test(start_paused = true)]
async fn many_acts_become_few_calls_of_bounded_size() {
    let bench = Bench::new().await;
    for number in 0..2_000_u16 {
        let mut entry = conformance::entry(1, 1);
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        entry.id = ConnectionId::from_bytes(bytes);
        let (id, generation) = (entry.id, entry.generation);
        bench.keeper.register(entry);
        bench.keeper.verify(id, generation, Mode::Bearer);
    }
    assert_eq!(bench.keeper.backlog(), 2_000);
    bench.start();
    bench.keeper.flush().await;
    assert_eq!(bench.registry.count().await.unwrap(), 2_000);
    assert_eq!(bench.registry.calls.load(Ordering::Relaxed), 4);
    assert_eq!(bench.registry.largest_batch.load(Ordering::Relaxed), BATCH_MAX);
    assert_eq!(bench.keeper.backlog(), 0);
}

#[tokio::test(start_paused = true)]
async fn other_nodes_forget_only_after_the_removal_was_applied() {
    let bench = Bench::new().await;
    bench.start();
    let entry = conformance::entry(1, 1);
    bench.keeper.register(entry.clone());
    bench.keeper.flush().await;
    assert!(bench.is_there(&entry).await);
    bench.keeper.remove(entry.id, entry.generation);
    bench.keeper.flush().await;
    assert!(!bench.is_there(&entry).await);
    assert_eq!(*bench.bus.seen.lock().unwrap(), [(Invalidate::Connection(entry.id), false)]);
}

#[tokio::test(start_paused = true)]
async fn while_the_registry_is_away_others_forget_at_once_and_the_removal_follows() {
    let bench = Bench::new().await;
    bench.start();
    let (one, two) = (conformance::entry(1, 1), conformance::entry(2, 1));
    bench.keeper.register(one.clone());
    bench.keeper.register(two.clone());
    bench.keeper.flush().await;
    bench.registry.away.store(true, Ordering::Relaxed);
    bench.keeper.remove(one.id, one.generation);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!bench.keeper.is_reachable());
    bench.keeper.remove(two.id, two.generation);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let told: Vec<_> = bench.bus.seen.lock().unwrap().drain(..).collect();
    assert_eq!(told, [(Invalidate::Connection(one.id), true), (Invalidate::Connection(two.id), true)]);
    bench.registry.away.store(false, Ordering::Relaxed);
    bench.keeper.flush().await;
    assert!(bench.keeper.is_reachable());
    assert!(!bench.is_there(&one).await && !bench.is_there(&two).await);
    assert_eq!(bench.bus.seen.lock().unwrap().len(), 2, "told again, now that a load finds nothing");
}

#[tokio::test(start_paused = true)]
async fn churn_while_the_registry_is_away_costs_nothing() {
    let bench = Bench::new().await;
    bench.registry.away.store(true, Ordering::Relaxed);
    bench.start();
    bench.keeper.register(conformance::entry(255, 1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    for number in 0..200 {
        let entry = conformance::entry(number, 1);
        bench.keeper.register(entry.clone());
        bench.keeper.remove(entry.id, entry.generation);
    }
    assert_eq!(bench.keeper.backlog(), 1);
    bench.registry.away.store(false, Ordering::Relaxed);
    bench.keeper.flush().await;
    assert_eq!(bench.registry.count().await.unwrap(), 1);
}

/// A failover takes long enough for a lease to run out: what waits for its next attempt then is waited for by all nodes.
#[tokio::test(start_paused = true)]
async fn a_registry_that_is_back_is_written_and_the_lease_renewed_at_once() {
    let registry = Arc::new(Flaky::default());
    registry.away.store(true, Ordering::Relaxed);
    let entry = conformance::entry(1, 1);
    let keeper =
        RegistryKeeper::new(registry.clone(), Arc::new(Witness { registry: registry.clone(), seen: Mutex::default() }));
    let lease = Arc::new(LeaseKeeper::new(entry.node, registry.clone(), LEASE));
    keeper.register(entry.clone());
    let running = {
        let (keeper, lease) = (keeper.clone(), lease.clone());
        tokio::spawn(async move { tokio::join!(keeper.run(), lease.run()) })
    };
    // Long enough for the longest pauses.
    tokio::time::sleep(LEASE * 10).await;
    for _ in 0..20 {
        registry.away.store(false, Ordering::Relaxed);
        let back = tokio::time::Instant::now();
        registry.back.notify_waiters();
        keeper.flush().await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(lease.holds(), "without waiting for the next attempt");
        assert_eq!(back.elapsed(), Duration::ZERO);
        registry.away.store(true, Ordering::Relaxed);
        keeper.refresh(entry.id, entry.generation, None);
        tokio::time::sleep(LEASE * 10).await;
        assert!(!lease.holds());
    }
    running.abort();
}

/// Its ticket was handed out already, and other nodes take that at its word: only the announcement ends it there.
#[tokio::test(start_paused = true)]
async fn what_ends_before_the_registry_heard_that_it_was_verified_is_announced() {
    let bench = Bench::new().await;
    let [closed, lapsed, never_verified] = [1, 2, 3].map(|number| conformance::entry(number, 1));
    for entry in [&closed, &lapsed, &never_verified] {
        bench.keeper.register(entry.clone());
    }
    for entry in [&closed, &lapsed] {
        bench.keeper.verify(entry.id, entry.generation, Mode::Ticket);
    }
    bench.keeper.lapse(lapsed.id, lapsed.generation);
    bench.keeper.remove(closed.id, closed.generation);
    // Storms of those who come and go must not make all nodes forget everything.
    bench.keeper.remove(never_verified.id, never_verified.generation);
    bench.start();
    bench.keeper.flush().await;
    let seen = bench.bus.seen.lock().unwrap();
    let mut announced: Vec<_> = seen.iter().map(|(invalidate, _)| invalidate.clone()).collect();
    announced.sort_by_key(|invalidate| format!("{invalidate:?}"));
    assert_eq!(announced, [closed.id, lapsed.id].map(Invalidate::Connection));
}

#[test]
fn what_is_added_while_it_is_being_said_is_said_again() {
    let id = ConnectionId::from_bytes([1; 16]);
    let mut announcements = Announcements::default();
    announcements.add(id);
    assert_eq!(announcements.take_next(), Some(Invalidate::Connection(id)));
    announcements.add(id);
    announcements.done();
    assert_eq!(announcements.take_next(), Some(Invalidate::Connection(id)), "it closed while its verification was being said");
    // Not done: the bus failed.
    assert_eq!(announcements.take_next(), Some(Invalidate::Connection(id)));
    announcements.done();
    for number in 0..=ANNOUNCEMENTS_MAX as u128 {
        announcements.add(ConnectionId::from_bytes(number.to_be_bytes()));
    }
    assert_eq!(announcements.take_next(), Some(Invalidate::All));
    announcements.add(id);
    announcements.done();
    assert_eq!(announcements.take_next(), Some(Invalidate::Connection(id)));
    announcements.done();
    assert!(announcements.is_empty() && announcements.take_next().is_none());
}
