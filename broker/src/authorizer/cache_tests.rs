use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use countersign_node_proto::{ChannelName, NodeId, NodeMessage, Publication};
use tokio::sync::Semaphore;

use super::*;
use crate::cluster::BusUnavailable;
use crate::registry::conformance;

/// A bus whose silence the test sets, in milliseconds.
#[derive(Default)]
pub(crate) struct QuietBus {
    pub(crate) silence_ms: AtomicU64,
    /// The other nodes have fallen silent, this one has not.
    pub(crate) peers_silent: AtomicBool,
    /// What was sent to one node.
    pub(crate) sent: Mutex<Vec<(NodeId, NodeMessage)>>,
}

#[async_trait]
impl Bus for QuietBus {
    async fn publish(&self, _: Publication) -> Result<usize, BusUnavailable> {
        Ok(0)
    }
    async fn send(&self, node: NodeId, message: NodeMessage) -> Result<(), BusUnavailable> {
        self.sent.lock().unwrap().push((node, message));
        Ok(())
    }
    async fn broadcast(&self, _: NodeMessage) -> Result<(), BusUnavailable> {
        Ok(())
    }
    fn subscribe(&self, _: &ChannelName) {}
    fn unsubscribe(&self, _: &ChannelName) {}
    fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms.load(Ordering::Relaxed))
    }
    fn hears(&self, _: NodeId) -> bool {
        !self.peers_silent.load(Ordering::Relaxed)
    }
}

/// A cache, and a store whose answers wait until the test lets them go.
struct Bench {
    cache: Arc<ConnectionCache>,
    bus: Arc<QuietBus>,
    metrics: Arc<Metrics>,
    store: Arc<Store>,
}

struct Store {
    entry: Mutex<Option<Entry>>,
    calls: AtomicUsize,
    released: Semaphore,
}

fn bench(capacity: usize) -> Bench {
    let (bus, metrics) = (Arc::new(QuietBus::default()), Arc::new(Metrics::new()));
    let settings = CacheSettings {
        ttl: Duration::from_secs(300),
        denial_ttl: Duration::from_secs(1),
        capacity,
        stale_limit: Duration::from_secs(5),
    };
    let cache = ConnectionCache::new(settings, bus.clone(), metrics.clone());
    let store = Store { entry: Mutex::new(Some(verified())), calls: AtomicUsize::new(0), released: Semaphore::new(0) };
    Bench { cache, bus, metrics, store: Arc::new(store) }
}

fn verified() -> Entry {
    Entry { verified: true, ..conformance::entry(1, 2) }
}

fn id() -> ConnectionId {
    verified().id
}

impl Bench {
    /// Asks as a decision does. The store is read when the call begins, its answer arrives when it is released.
    async fn ask(&self) -> Loaded {
        if let Some(remembered) = self.cache.get(id()) {
            return Ok(remembered);
        }
        let store = self.store.clone();
        self.cache
            .load(id(), move || {
                let store = store.clone();
                async move {
                    store.calls.fetch_add(1, Ordering::Relaxed);
                    let read = store.entry.lock().unwrap().clone();
                    store.released.acquire().await.unwrap().forget();
                    Ok(Found::from(read))
                }
            })
            .await
    }

    fn spawn_ask(self: &Arc<Self>) -> tokio::task::JoinHandle<Loaded> {
        let bench = self.clone();
        tokio::spawn(async move { bench.ask().await })
    }

    fn calls(&self) -> usize {
        self.store.calls.load(Ordering::Relaxed)
    }

    fn release(&self, calls: usize) {
        self.store.released.add_permits(calls);
    }

    fn close(&self) {
        *self.store.entry.lock().unwrap() = None;
    }
}

/// Lets every task run until it waits.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_misses_at_once_are_one_call() {
    let bench = Arc::new(bench(100));
    let asked: Vec<_> = (0..100).map(|_| bench.spawn_ask()).collect();
    settle().await;
    bench.release(1);
    for ask in asked {
        assert!(ask.await.unwrap().unwrap().unwrap().verified);
    }
    assert_eq!(bench.calls(), 1);
    assert!(bench.ask().await.unwrap().is_some());
    assert_eq!(bench.calls(), 1, "remembered");
    assert_eq!(bench.metrics.cache_misses.get(), 100);
    assert_eq!(bench.metrics.cache_hits.get(), 1);
    assert_eq!(bench.metrics.cache_size.get(), 1);
}

/// Runs a load that begins before the connection closes and ends after the invalidation.
async fn overtaken_by(invalidate: Invalidate) {
    let bench = Arc::new(bench(100));
    let before = bench.spawn_ask();
    settle().await;
    bench.close();
    bench.cache.invalidate(&invalidate);
    let after = bench.spawn_ask();
    settle().await;
    bench.release(10);
    assert_eq!(before.await.unwrap(), Ok(None), "{invalidate:?}: who waited is told the new state");
    assert_eq!(after.await.unwrap(), Ok(None), "{invalidate:?}: who asked later does not join the old load");
    assert_eq!(bench.cache.get(id()), Some(None), "{invalidate:?}: the old state is not stored");
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_during_a_load_gives_no_stale_allow() {
    overtaken_by(Invalidate::Connection(id())).await;
    overtaken_by(Invalidate::Principal("ada".into())).await;
    overtaken_by(Invalidate::All).await;
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_after_a_load_drops_what_it_stored() {
    let of = |issuer: &str| Invalidate::Principal(PrincipalName { subject: "ada".to_owned(), issuer: Some(issuer.to_owned()) });
    for invalidate in [Invalidate::Connection(id()), Invalidate::Principal("ada".into()), of("pool"), Invalidate::All] {
        let bench = bench(100);
        bench.release(10);
        assert!(bench.ask().await.unwrap().is_some());
        bench.close();
        bench.cache.invalidate(&Invalidate::Connection(ConnectionId::from_bytes([9; 16])));
        bench.cache.invalidate(&Invalidate::Principal("eve".into()));
        bench.cache.invalidate(&of("another"));
        assert!(bench.ask().await.unwrap().is_some(), "another's invalidation does not matter");
        bench.cache.invalidate(&invalidate);
        assert_eq!(bench.ask().await, Ok(None), "{invalidate:?}");
        assert_eq!(bench.metrics.cache_invalidations.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn allows_live_for_the_ttl_and_denials_for_a_second() {
    let bench = bench(100);
    bench.release(10);
    bench.ask().await.unwrap();
    tokio::time::advance(Duration::from_secs(299)).await;
    assert!(bench.cache.get(id()).is_some());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(bench.cache.get(id()).is_none());
    *bench.store.entry.lock().unwrap() = Some(Entry { verified: false, ..verified() });
    bench.ask().await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(bench.cache.get(id()).is_none(), "an unverified connection may be verified any moment");
}

#[tokio::test(start_paused = true)]
async fn while_the_bus_is_silent_nothing_is_remembered_or_used() {
    let bench = bench(100);
    bench.release(10);
    bench.ask().await.unwrap();
    bench.bus.silence_ms.store(5_001, Ordering::Relaxed);
    bench.close();
    assert_eq!(bench.ask().await, Ok(None), "asked the registry");
    *bench.store.entry.lock().unwrap() = Some(verified());
    assert!(bench.ask().await.unwrap().is_some(), "the denial was not remembered either");
    assert_eq!(bench.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_allow_is_used_only_while_its_owner_is_heard() {
    let bench = bench(100);
    bench.release(10);
    bench.ask().await.unwrap();
    bench.ask().await.unwrap();
    assert_eq!(bench.calls(), 1);
    bench.bus.peers_silent.store(true, Ordering::Relaxed);
    bench.close();
    assert_eq!(bench.ask().await, Ok(None), "asked the registry, which knows the lease");
}

#[tokio::test(start_paused = true)]
async fn whoever_asked_may_go_away() {
    let bench = Arc::new(bench(100));
    let first = bench.spawn_ask();
    settle().await;
    let second = bench.spawn_ask();
    settle().await;
    first.abort();
    bench.release(1);
    assert!(second.await.unwrap().unwrap().is_some());
    assert_eq!(bench.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_endless_row_of_invalidations_ends_in_not_knowing() {
    let bench = Arc::new(bench(100));
    let asked = bench.spawn_ask();
    for _ in 0..ATTEMPTS_MAX {
        settle().await;
        bench.cache.forget_all();
        bench.release(1);
    }
    assert_eq!(asked.await.unwrap(), Err(LoadError::Unsettled));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_to_all_and_not_remembered() {
    let bench = bench(100);
    let away = || async { Err(RegistryUnavailable("away".to_owned())) };
    assert!(matches!(bench.cache.load(id(), away).await, Err(LoadError::Registry(_))));
    bench.release(1);
    assert!(bench.ask().await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn the_cache_is_bounded_and_counts_what_it_evicts() {
    let bench = bench(50);
    for number in 0..200_u8 {
        let entry = conformance::entry(number, 2);
        bench.cache.load(entry.id, || std::future::ready(Ok(Found::from(Some(entry.clone()))))).await.unwrap();
    }
    assert!(bench.cache.len() <= 50);
    assert!(bench.metrics.cache_evictions.get() >= 150);
    assert_eq!(bench.metrics.cache_size.get(), i64::try_from(bench.cache.len()).unwrap());
}
