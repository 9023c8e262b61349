//! Starts actors and starts them again.
//!
//! `actix::Supervisor` re-uses the value, has no back-off and does nothing after a panic. This one makes a new value from
//! a factory, waits longer each time, and gives up aloud when a budget is spent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext as _, Context};
use actix_rt::task::{JoinError, JoinHandle};
use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::telemetry::Metrics;

/// How often an actor may be started again, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct RestartPolicy {
    /// Pause before the first restart; it doubles with each further one.
    pub first_pause: Duration,
    /// Longest pause.
    pub longest_pause: Duration,
    /// Restarts allowed within the window; one more and the supervisor gives up.
    pub budget: usize,
    /// Restarts older than this do not count, and the pause starts small again.
    pub window: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(5),
            budget: 10,
            window: Duration::from_secs(60),
        }
    }
}

/// The budget of an actor is spent: the node is no longer whole and should not call itself ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GaveUp {
    /// What the actor is called.
    pub name: &'static str,
}

/// The present address of a supervised actor. Keep this over restarts, never a bare address.
pub struct AddressCell<A: Actor>(Arc<ArcSwapOption<Addr<A>>>);

impl<A: Actor> AddressCell<A> {
    /// The address; none between two lives.
    #[must_use]
    pub fn get(&self) -> Option<Arc<Addr<A>>> {
        self.0.load_full()
    }
}

impl<A: Actor> Clone for AddressCell<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// A supervised actor. Dropping this ends it, and nothing starts it again.
pub struct Supervised<A: Actor> {
    address: AddressCell<A>,
    watch: EndOnDrop,
}

impl<A: Actor> Supervised<A> {
    /// Where to find the actor, whichever life it is in.
    #[must_use]
    pub fn address(&self) -> AddressCell<A> {
        self.address.clone()
    }

    /// The supervisor gave up.
    #[must_use]
    pub fn has_given_up(&self) -> bool {
        self.watch.0.is_finished()
    }
}

/// Starts an actor on this thread and starts it again, from the factory, whenever it ends: by panic or by itself.
///
/// Must be called where actors can be started, such as a worker thread of the server. `escalate` is called once, when the
/// budget is spent.
pub fn supervise<A, Factory>(
    name: &'static str,
    policy: RestartPolicy,
    metrics: Arc<Metrics>,
    escalate: impl FnOnce(GaveUp) + 'static,
    mut factory: Factory,
) -> Supervised<A>
where
    A: Actor<Context = Context<A>>,
    Factory: FnMut() -> A + 'static,
{
    let address = AddressCell(Arc::new(ArcSwapOption::empty()));
    let mut life = start(&mut factory, &address);
    let cell = address.clone();
    let watch = actix_rt::spawn(async move {
        let mut restarts = Restarts::new(policy);
        loop {
            let exit = (&mut life.0).await;
            cell.0.store(None);
            let Some(pause) = restarts.next(Instant::now()) else { break };
            report(name, exit, pause);
            tokio::time::sleep(pause).await;
            metrics.supervisor_restarts.inc();
            life = start(&mut factory, &cell);
        }
        tracing::error!(name, "actor ended too often, giving it up");
        escalate(GaveUp { name });
    });
    Supervised { address, watch: EndOnDrop(watch) }
}

/// Starts one life of an actor.
fn start<A: Actor<Context = Context<A>>>(factory: &mut impl FnMut() -> A, cell: &AddressCell<A>) -> EndOnDrop {
    let ctx = Context::new();
    cell.0.store(Some(Arc::new(ctx.address())));
    EndOnDrop(actix_rt::spawn(ctx.into_future(factory())))
}

/// Says why a life ended.
fn report(name: &'static str, exit: Result<(), JoinError>, pause: Duration) {
    let panicked = exit.is_err_and(|error| error.is_panic());
    tracing::error!(name, panicked, pause_ms = pause.as_millis(), "actor ended, starting it again");
}

/// A task that ends with its handle.
struct EndOnDrop(JoinHandle<()>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Counts restarts against the budget.
struct Restarts {
    policy: RestartPolicy,
    recent: VecDeque<Instant>,
    backoff: Backoff,
}

impl Restarts {
    fn new(policy: RestartPolicy) -> Self {
        Self { policy, recent: VecDeque::new(), backoff: Backoff::new(policy.first_pause, policy.longest_pause) }
    }

    /// The pause before the next restart; none if the budget is spent.
    fn next(&mut self, now: Instant) -> Option<Duration> {
        while self.recent.front().is_some_and(|at| now.duration_since(*at) > self.policy.window) {
            self.recent.pop_front();
        }
        if self.recent.is_empty() {
            self.backoff.reset();
        }
        if self.recent.len() >= self.policy.budget {
            return None;
        }
        self.recent.push_back(now);
        Some(self.backoff.pause())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use actix::{Handler, Message};
    use tokio::task::LocalSet;

    use super::*;

    /// Panics when told to, and answers which life it is.
    struct Fragile {
        life: usize,
    }

    #[derive(Message)]
    #[rtype(result = "usize")]
    struct Life;

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Explode;

    impl Actor for Fragile {
        type Context = Context<Self>;
    }

    impl Handler<Life> for Fragile {
        type Result = usize;
        fn handle(&mut self, _: Life, _: &mut Self::Context) -> usize {
            self.life
        }
    }

    impl Handler<Explode> for Fragile {
        type Result = ();
        fn handle(&mut self, _: Explode, _: &mut Self::Context) {
            panic!("injected");
        }
    }

    struct Bench {
        supervised: Supervised<Fragile>,
        metrics: Arc<Metrics>,
        gave_up: Rc<Cell<Option<GaveUp>>>,
    }

    fn bench(policy: RestartPolicy) -> Bench {
        let (metrics, gave_up) = (Arc::new(Metrics::new()), Rc::new(Cell::new(None)));
        let mut life = 0;
        let factory = move || {
            life += 1;
            Fragile { life }
        };
        let escalate = {
            let gave_up = gave_up.clone();
            move |why| gave_up.set(Some(why))
        };
        Bench { supervised: supervise("fragile", policy, metrics.clone(), escalate, factory), metrics, gave_up }
    }

    impl Bench {
        async fn explode(&self) {
            if let Some(address) = self.supervised.address().get() {
                address.do_send(Explode);
            }
            tokio::time::sleep(Duration::from_secs(6)).await;
        }

        async fn life(&self) -> Option<usize> {
            self.supervised.address().get()?.send(Life).await.ok()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_panic_a_new_value_is_reached_through_the_cell() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let bench = bench(RestartPolicy::default());
                let cell = bench.supervised.address();
                assert_eq!(bench.life().await, Some(1));
                bench.explode().await;
                assert_eq!(bench.life().await, Some(2));
                assert_eq!(cell.get().unwrap().send(Life).await.unwrap(), 2);
                assert_eq!(bench.metrics.supervisor_restarts.get(), 1);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_budget_is_told_once_and_ends_the_restarts() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let bench = bench(RestartPolicy { budget: 3, ..RestartPolicy::default() });
                for _ in 0..6 {
                    bench.explode().await;
                }
                assert_eq!(bench.gave_up.get(), Some(GaveUp { name: "fragile" }));
                assert!(bench.supervised.has_given_up());
                assert_eq!(bench.life().await, None);
                assert_eq!(bench.metrics.supervisor_restarts.get(), 3);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn restarts_far_apart_do_not_spend_the_budget() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let bench = bench(RestartPolicy { budget: 1, window: Duration::from_secs(5), ..RestartPolicy::default() });
                for life in 2..6 {
                    bench.explode().await;
                    assert_eq!(bench.life().await, Some(life));
                }
                assert_eq!(bench.gave_up.get(), None);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_handle_ends_the_actor() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let bench = bench(RestartPolicy::default());
                let address = bench.supervised.address().get().unwrap();
                drop(bench.supervised);
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert!(!address.connected());
                assert_eq!(bench.metrics.supervisor_restarts.get(), 0);
            })
            .await;
    }
}
