use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, PushKind, ServerErrorKind, Value};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use super::target::{Reached, Whereabouts};
use super::{RedisTarget, Task, keep};
use crate::backoff::Backoff;
use crate::telemetry::{Metrics, RedisCall, RedisLinkLabel, RedisOutcome};

/// Calls that wait for an answer at once; more fail at once, so that a Redis that is stuck does not gather callers.
const CALLS_MAX: usize = 4_096;
/// First and longest pause between attempts to connect.
pub(crate) const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// An idle link is asked this often whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// A link that answers nothing for this long is built anew. Longer than a stall that passes: what is queued on the link
/// then still arrives, in order.
const MUTE_MAX: Duration = Duration::from_secs(5);
/// Between two looks for another master while the present one refuses writes, or does not answer.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// Between two looks while nothing is wrong, where sentinels can be asked: a server may be replaced without its own
/// knowledge.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// A link that lived so long is no failed attempt: the next pause is the shortest again.
const SETTLED: Duration = Duration::from_secs(5);

/// Why a call of Redis brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// There is no link at the moment. May be repeated; nothing was asked.
    #[error("no link to redis")]
    Disconnected,
    /// No answer in time. It may have been done, or may yet be done.
    #[error("redis did not answer in time")]
    TimedOut,
    /// The link broke meanwhile. It may have been done.
    #[error("link to redis broke: {0}")]
    Broken(String),
    /// The certificate of the server is not to be believed. Not before somebody changes it, or whom this node believes.
    #[error("{0}: is it the right server, and cluster.ca_file its authority?")]
    Untrusted(String),
    /// Redis said no.
    #[error("redis refused: {0}")]
    Refused(String),
    /// Too many calls wait already. May be repeated; nothing was asked.
    #[error("too many calls wait for redis")]
    Overloaded,
}

/// The connection of this node on which all commands go, pipelined.
///
/// A cheap handle; all clones are one link. It ends with the last of them.
#[derive(Clone)]
pub struct CommandLink {
    shared: Arc<Shared>,
    _task: Arc<Task>,
}

struct Shared {
    label: RedisLinkLabel,
    target: RedisTarget,
    current: ArcSwapOption<Connected>,
    epochs: AtomicU64,
    lost: Notify,
    /// There is a link.
    up: watch::Sender<bool>,
    /// The server at the other end of the last link.
    server: watch::Sender<Option<Arc<str>>>,
    /// A write was refused as on a replica, and none went through since.
    read_only: AtomicBool,
    doubted: Notify,
    calls: Semaphore,
    metrics: Arc<Metrics>,
}

/// One life of the link.
pub struct Connected {
    connection: MultiplexedConnection,
    server: Arc<str>,
    /// Counts the link's lives, from 1: what was sent on an older one may still arrive after what is sent on this one.
    pub epoch: u64,
    /// This life has ended: who still waits for an answer waits in vain.
    over: watch::Sender<bool>,
}

impl CommandLink {
    /// A link that connects in the background, for ever. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(target: RedisTarget, metrics: Arc<Metrics>) -> Self {
        Self::start_as(RedisLinkLabel::Commands, target, metrics)
    }

    /// [`CommandLink::start`] for a link beside the node's own, counted under a label of its own.
    #[must_use]
    pub fn start_as(label: RedisLinkLabel, target: RedisTarget, metrics: Arc<Metrics>) -> Self {
        let shared = Arc::new(Shared {
            label,
            target,
            current: ArcSwapOption::empty(),
            epochs: AtomicU64::new(0),
            lost: Notify::new(),
            up: watch::Sender::new(false),
            server: watch::Sender::new(None),
            read_only: AtomicBool::new(false),
            doubted: Notify::new(),
            calls: Semaphore::new(CALLS_MAX),
            metrics,
        });
        let task = keep("redis command link", {
            let shared = Arc::clone(&shared);
            move || Arc::clone(&shared).run()
        });
        Self { shared, _task: Arc::new(task) }
    }

    /// Where it leads.
    #[must_use]
    pub fn target(&self) -> &RedisTarget {
        &self.shared.target
    }

    /// The server at the other end, as it changes. The last one while there is no link; none before the first.
    pub(crate) fn server(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.shared.server.subscribe()
    }

    /// What it counts.
    #[cfg(test)]
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Waits until there is a link. Bound it: Redis may be away.
    pub async fn up(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.shared.up.subscribe().wait_for(|up| *up).await;
    }

    /// Waits until a link comes up that is not up now: what failed may then be tried again at once, and what the server lost
    /// or never had must be said again. Counts from the call, not from the first poll.
    pub(crate) fn returned(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut up = self.shared.up.subscribe();
        async move {
            loop {
                // The task of the link outlives whoever waits, but for the end of the node.
                if up.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                if *up.borrow_and_update() {
                    return;
                }
            }
        }
    }

    /// The link as it is now.
    ///
    /// # Errors
    /// [`LinkError::Disconnected`].
    pub fn connected(&self) -> Result<Arc<Connected>, LinkError> {
        self.shared.current.load_full().ok_or_else(|| {
            self.shared.metrics.redis_calls.of(RedisOutcome::Disconnected).inc();
            LinkError::Disconnected
        })
    }

    /// Sends commands in one round trip; an answer for each, which may be an error of that command alone.
    ///
    /// # Errors
    /// [`LinkError`], within the deadline of the target.
    pub async fn call(&self, what: RedisCall, commands: &Pipeline) -> Result<Vec<Value>, LinkError> {
        let connected = self.connected()?;
        self.call_on(&connected, what, commands).await
    }

    /// [`CommandLink::call`] on a certain life of the link.
    ///
    /// # Errors
    /// As there.
    pub async fn call_on(
        &self,
        connected: &Arc<Connected>,
        what: RedisCall,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, LinkError> {
        let started = Instant::now();
        let result = self.shared.exchange(connected, commands).await;
        self.shared.metrics.redis_calls.of(outcome(&result)).inc();
        if result.is_ok() {
            self.shared.metrics.redis_seconds.of(what).observe(started.elapsed().as_secs_f64());
        }
        result
    }
}

impl Shared {
    /// Connects, watches, and connects again.
    async fn run(self: Arc<Self>) {
        self.current.store(None);
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        let mut told = false;
        loop {
            match self.connect().await {
                Ok(connected) => {
                    told = false;
                    let since = Instant::now();
                    self.current.store(Some(Arc::clone(&connected)));
                    self.read_only.store(false, Ordering::Relaxed);
                    self.server.send_if_modified(|server| {
                        server.replace(Arc::clone(&connected.server)).as_ref() != Some(&connected.server)
                    });
                    self.up.send_replace(true);
                    let counted = UpGuard::new(&self.metrics, self.label);
                    let cause = self.watch(&connected).await;
                    drop(counted);
                    self.current.store(None);
                    self.up.send_replace(false);
                    connected.over.send_replace(true);
                    tracing::warn!(
                        redis = self.target.address(),
                        server = &*connected.server,
                        cause,
                        "command link to redis lost"
                    );
                    if since.elapsed() > SETTLED {
                        backoff.reset();
                    }
                }
                // Once per outage: the attempts go on for as long as it lasts.
                Err(error) if !std::mem::replace(&mut told, true) => {
                    tracing::warn!(redis = self.target.address(), %error, "redis cannot be reached, trying on");
                }
                Err(_) => {}
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    async fn connect(self: &Arc<Self>) -> Result<Arc<Connected>, LinkError> {
        let epoch = self.epochs.fetch_add(1, Ordering::Relaxed) + 1;
        let weak = Arc::downgrade(self);
        let pushed = move |info: redis::PushInfo| {
            if let (PushKind::Disconnection, Some(shared)) = (info.kind, weak.upgrade()) {
                shared.lose(epoch);
            }
        };
        let Reached { connection, server } = self.target.connect(pushed).await?;
        self.metrics.redis_connects.of(self.label).inc();
        tracing::info!(redis = self.target.address(), server = &*server, epoch, "command link to redis is up");
        Ok(Arc::new(Connected { connection, server, epoch, over: watch::Sender::new(false) }))
    }

    /// Returns when this life of the link has ended, and says why.
    async fn watch(&self, connected: &Arc<Connected>) -> &'static str {
        let mut answered = Instant::now();
        let mut looked = Instant::now();
        let mut ping = Pipeline::new();
        ping.cmd("PING");
        loop {
            tokio::select! {
                () = self.lost.notified() => {
                    // The notice of an older life may come late.
                    if self.current.load().is_none() {
                        return "closed";
                    }
                }
                () = self.doubted.notified() => {}
                () = tokio::time::sleep(PING_INTERVAL) => match self.exchange(connected, &ping).await {
                    Ok(_) => answered = Instant::now(),
                    Err(_) if self.current.load().is_none() => return "closed",
                    Err(_) if answered.elapsed() > MUTE_MAX => return "mute",
                    Err(_) => {}
                }
            }
            if self.is_doubtful(answered.elapsed(), looked.elapsed()) {
                looked = Instant::now();
                match self.target.look(&connected.connection, &connected.server).await {
                    Whereabouts::Elsewhere => return "another server is the master",
                    Whereabouts::Here => self.read_only.store(false, Ordering::Relaxed),
                    Whereabouts::Unknown => {}
                }
            }
        }
    }

    /// Is it time to look whether another server is the master by now?
    ///
    /// A link is not given up for a refused write: what is no write still goes through, and the server may take writes again.
    fn is_doubtful(&self, mute: Duration, looked: Duration) -> bool {
        if self.read_only.load(Ordering::Relaxed) {
            return looked >= LOOK_PAUSE;
        }
        // One server alone has nobody to ask. Those of a Redis Cluster say themselves what they lost.
        let mute_for_long = mute > LOOK_PAUSE + PING_INTERVAL && !self.target.is_one();
        mute_for_long || (self.target.has_sentinels() && looked > LOOK_INTERVAL)
    }

    /// One exchange within the deadline, and within this life of the link.
    async fn exchange(&self, connected: &Arc<Connected>, commands: &Pipeline) -> Result<Vec<Value>, LinkError> {
        let _permit = self.calls.try_acquire().map_err(|_| LinkError::Overloaded)?;
        let mut connection = connected.connection.clone();
        let mut over = connected.over.subscribe();
        let answer = connection.send_packed_commands(commands, 0, commands.len());
        let answered = tokio::select! {
            answered = tokio::time::timeout(self.target.command_timeout, answer) => answered,
            _ = over.wait_for(|over| *over) => return Err(LinkError::Broken("it was given up".to_owned())),
        };
        match answered {
            Ok(Ok(values)) => {
                if values.iter().any(is_refused_write) && !self.read_only.swap(true, Ordering::Relaxed) {
                    self.doubted.notify_one();
                }
                Ok(values)
            }
            Ok(Err(error)) => {
                if error.is_unrecoverable_error() {
                    self.lose(connected.epoch);
                }
                Err(LinkError::Broken(error.to_string()))
            }
            Err(_) => Err(LinkError::TimedOut),
        }
    }

    /// Ends a life of the link, unless a later one began.
    fn lose(&self, epoch: u64) {
        let current = self.current.load_full();
        if current.is_some_and(|current| current.epoch == epoch) {
            self.current.store(None);
            self.lost.notify_one();
        }
    }
}

/// Counts a link for as long as it is up, also if its task ends.
pub(crate) struct UpGuard {
    metrics: Arc<Metrics>,
    label: RedisLinkLabel,
}

impl UpGuard {
    pub(crate) fn new(metrics: &Arc<Metrics>, label: RedisLinkLabel) -> Self {
        metrics.redis_up.of(label).inc();
        Self { metrics: Arc::clone(metrics), label }
    }
}

impl Drop for UpGuard {
    fn drop(&mut self) {
        self.metrics.redis_up.of(self.label).dec();
    }
}

/// A server that became a replica says so on writes only; one of a Redis Cluster that lost a slot, on whatever is in it.
fn is_refused_write(value: &Value) -> bool {
    let Value::ServerError(error) = value else { return false };
    matches!(error.kind(), Some(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::Moved))
}

fn outcome(result: &Result<Vec<Value>, LinkError>) -> RedisOutcome {
    match result {
        Ok(values) if values.iter().any(|value| matches!(value, Value::ServerError(_))) => RedisOutcome::Refused,
        Ok(_) => RedisOutcome::Ok,
        Err(LinkError::Disconnected) => RedisOutcome::Disconnected,
        Err(LinkError::TimedOut) => RedisOutcome::TimedOut,
        Err(LinkError::Broken(_)) => RedisOutcome::Broken,
        Err(LinkError::Refused(_) | LinkError::Untrusted(_)) => RedisOutcome::Refused,
        Err(LinkError::Overloaded) => RedisOutcome::Overloaded,
    }
}
