use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign_node_proto::Topic;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, PushInfo, PushKind, RedisResult, ServerErrorKind, Value};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Shared;
use super::heard::Frame;
use super::shards::Shard;
use super::wanted::Step;
use crate::backoff::Backoff;
use crate::link::{LinkError, Reached, UpGuard};
use crate::telemetry::{BusGap, RedisCall, RedisLinkLabel};

/// Channels in one command.
const STEP_MAX: usize = 512;
/// First and longest pause between attempts to connect, and to change what is heard.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A link that lived so long is no failed attempt: the next pause is the shortest again.
const SETTLED: Duration = Duration::from_secs(5);

/// One life of a subscription link.
struct Subscription {
    connection: MultiplexedConnection,
    server: Arc<str>,
    /// Where commands go, as it changes: what is said there must be heard.
    commands: watch::Receiver<Option<Arc<str>>>,
    lost: Arc<Notify>,
    /// What an older life still says must not mix with what the present one does.
    _ears: Ears,
}

/// Open for as long as it lives.
struct Ears(Arc<AtomicBool>);

/// What came of asking for what is wanted.
#[derive(PartialEq)]
enum Stepped {
    /// There was nothing to ask for.
    Nothing,
    /// Redis answered.
    Answered,
    /// Another server has the slot by now.
    Misplaced,
}

impl Shared {
    /// Connects, hears, and connects again, for ever.
    pub(super) async fn subscribe_for_ever(self: Arc<Self>, shard: Arc<Shard>) {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        let mut told = false;
        loop {
            match self.attach(&shard).await {
                Ok(subscription) => {
                    told = false;
                    let since = Instant::now();
                    let counted = UpGuard::new(&self.metrics, RedisLinkLabel::Subscription);
                    let cause = self.follow(&shard, subscription).await;
                    drop(counted);
                    self.detached(&shard, cause);
                    if since.elapsed() > SETTLED {
                        backoff.reset();
                    }
                }
                // Once per outage: the attempts go on for as long as it lasts.
                Err(error) if !std::mem::replace(&mut told, true) => {
                    tracing::warn!(redis = shard.address(), %error, "cannot listen to redis, trying on");
                }
                Err(_) => {}
            }
            self.shards.doubt.notify_one();
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Connects, and hears everything that is wanted by now.
    async fn attach(self: &Arc<Self>, shard: &Arc<Shard>) -> Result<Subscription, LinkError> {
        let (lost, ears) = (Arc::new(Notify::new()), Ears(Arc::new(AtomicBool::new(true))));
        let mut commands = shard.commands.server();
        // From before the way is asked for: a change that comes later is one.
        commands.mark_unchanged();
        shard.with_wanted(&self.metrics, |wanted| wanted.listening_anew());
        let Reached { connection, server } = shard.commands.target().connect(self.router(shard, &lost, &ears)).await?;
        let mut subscription = Subscription { connection, server, commands, lost, _ears: ears };
        shard.proof().listening_anew();
        if self.carries_core(shard) {
            self.proof().listening_anew();
        }
        while self.step(shard, &mut subscription).await? == Stepped::Answered {}
        shard.live.send_replace(true);
        self.note_live();
        self.metrics.redis_connects.of(RedisLinkLabel::Subscription).inc();
        tracing::info!(redis = shard.address(), server = &*subscription.server, "listening to redis");
        Ok(subscription)
    }

    /// What comes in unasked goes to the queue; the closure runs in the link's own task and must not wait.
    fn router(
        self: &Arc<Self>,
        shard: &Arc<Shard>,
        lost: &Arc<Notify>,
        ears: &Ears,
    ) -> impl Fn(PushInfo) + Send + Sync + 'static {
        let (shared, shard, lost) = (Arc::downgrade(self), Arc::downgrade(shard), Arc::clone(lost));
        let open = Arc::clone(&ears.0);
        move |info| {
            if !open.load(Ordering::Acquire) {
                return;
            }
            let (Some(shared), Some(shard)) = (shared.upgrade(), shard.upgrade()) else { return };
            match info.kind {
                PushKind::Message | PushKind::SMessage => {
                    if let Some(frame) = frame(info.data) {
                        shared.heard.push(frame, &shared.metrics);
                    }
                }
                PushKind::Subscribe | PushKind::SSubscribe => shared.told(&shard, &info.data, true),
                PushKind::Unsubscribe | PushKind::SUnsubscribe => shared.told(&shard, &info.data, false),
                PushKind::Disconnection => lost.notify_one(),
                _ => {}
            }
        }
    }

    /// A server said whether it tells a topic from now on, asked or not.
    fn told(&self, shard: &Shard, data: &[Value], tells: bool) {
        let Some(Value::BulkString(name)) = data.first() else { return };
        let Some(topic) = std::str::from_utf8(name).ok().and_then(|name| self.layout.topic_of(name)) else { return };
        let is_core = self.is_core(&topic);
        let amiss = shard.with_wanted(&self.metrics, |wanted| wanted.confirm(topic.clone(), tells));
        if amiss {
            // Its slot went to another server, or what is wanted changed meanwhile.
            shard.wanted_changed.notify_one();
            self.shards.doubt.notify_one();
        }
        let first = tells && is_core && self.listened().insert(topic);
        // What was said while it was not told has passed by.
        if is_core && !first && (tells || amiss) {
            self.heard.lost(BusGap::Disconnected);
        }
    }

    /// Makes Redis follow what is wanted, until the link ends; says why it did.
    async fn follow(&self, shard: &Shard, mut subscription: Subscription) -> &'static str {
        let lost = Arc::clone(&subscription.lost);
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        // A notice that a link is deaf must be about this one.
        let mut deaf = shard.deaf.subscribe();
        let (mut commands, server) = (subscription.commands.clone(), Arc::clone(&subscription.server));
        loop {
            let changed = async {
                shard.wanted_changed.notified().await;
                while self.follow_step(shard, &mut subscription, &mut backoff).await {}
            };
            tokio::select! {
                () = lost.notified() => return "closed",
                _ = deaf.recv() => return "deaf",
                () = moved(&mut commands, &server) => return "commands go to another server",
                () = changed => {}
            }
        }
    }

    /// One step, tried until it is confirmed. False: there is nothing to do.
    async fn follow_step(&self, shard: &Shard, subscription: &mut Subscription, backoff: &mut Backoff) -> bool {
        match self.step(shard, subscription).await {
            Ok(Stepped::Nothing) => return false,
            Ok(Stepped::Answered) => {
                backoff.reset();
                return true;
            }
            // Until the new map says who has it.
            Ok(Stepped::Misplaced) => self.shards.doubt.notify_one(),
            Err(error) => tracing::warn!(%error, "redis did not change what this node hears, trying again"),
        }
        tokio::time::sleep(backoff.pause()).await;
        true
    }

    /// Asks for what is wanted next.
    async fn step(&self, shard: &Shard, subscription: &mut Subscription) -> Result<Stepped, LinkError> {
        let step = shard.with_wanted(&self.metrics, |wanted| wanted.next(STEP_MAX));
        if step.is_empty() {
            return Ok(Stepped::Nothing);
        }
        // What is not confirmed is open again, also if this future is dropped on the way.
        let open = OpenStep { shared: self, shard, step: Some(step) };
        let Some(step) = &open.step else { return Ok(Stepped::Nothing) };
        if self.shards.are_many() { self.ask_shard(subscription, step).await } else { self.ask(subscription, step).await }
    }

    async fn ask(&self, subscription: &mut Subscription, step: &Step) -> Result<Stepped, LinkError> {
        if !step.subscribe.is_empty() {
            self.confirmed(subscription.connection.subscribe(self.names(&step.subscribe))).await?;
        }
        if !step.unsubscribe.is_empty() {
            self.confirmed(subscription.connection.unsubscribe(self.names(&step.unsubscribe))).await?;
        }
        Ok(Stepped::Answered)
    }

    /// The same of a server of a Redis Cluster: a command for each, since one may name channels of one slot only.
    ///
    /// Which answer belongs to which command is not relied on: one that the server gives unasked is taken for another's by
    /// the client. What is confirmed is known from [`Shared::told`].
    async fn ask_shard(&self, subscription: &mut Subscription, step: &Step) -> Result<Stepped, LinkError> {
        let mut commands = Pipeline::new();
        for (command, topics) in [("SSUBSCRIBE", &step.subscribe), ("SUNSUBSCRIBE", &step.unsubscribe)] {
            for name in self.names(topics) {
                commands.cmd(command).arg(name);
            }
        }
        let mut answers = Vec::new();
        let asked = async {
            answers = subscription.connection.send_packed_commands(&commands, 0, commands.len()).await?;
            Ok(())
        };
        self.confirmed(asked).await?;
        let mut misplaced = false;
        for answer in answers {
            let Value::ServerError(error) = answer else { continue };
            match error.kind() {
                Some(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::ClusterDown) => misplaced = true,
                _ => return Err(LinkError::Refused(error.to_string())),
            }
        }
        Ok(if misplaced { Stepped::Misplaced } else { Stepped::Answered })
    }

    fn names(&self, topics: &[Topic]) -> Vec<String> {
        topics.iter().map(|topic| self.layout.topic(topic)).collect()
    }

    /// Waits for a confirmation, within the deadline.
    async fn confirmed(&self, asked: impl Future<Output = RedisResult<()>>) -> Result<(), LinkError> {
        let started = Instant::now();
        match tokio::time::timeout(self.link.target().command_timeout, asked).await {
            Ok(Ok(())) => {
                self.metrics.redis_seconds.of(RedisCall::Subscribe).observe(started.elapsed().as_secs_f64());
                Ok(())
            }
            Ok(Err(error)) if error.is_unrecoverable_error() => Err(LinkError::Broken(error.to_string())),
            Ok(Err(error)) => Err(LinkError::Refused(error.to_string())),
            Err(_) => Err(LinkError::TimedOut),
        }
    }

    fn detached(&self, shard: &Shard, cause: &'static str) {
        tracing::warn!(redis = shard.address(), cause, "no longer listening to redis");
        shard.live.send_replace(false);
        self.note_live();
        shard.with_wanted(&self.metrics, |wanted| wanted.listening_anew());
        if self.carries_core(shard) {
            self.heard.lost(BusGap::Disconnected);
        }
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A step on its way.
struct OpenStep<'a> {
    shared: &'a Shared,
    shard: &'a Shard,
    step: Option<Step>,
}

impl Drop for OpenStep<'_> {
    fn drop(&mut self) {
        if let Some(step) = self.step.take() {
            self.shard.with_wanted(&self.shared.metrics, |wanted| wanted.settle(step));
        }
    }
}

/// Waits until commands begin to go to another server. One that lies behind already is no reason: it is found at its own time.
async fn moved(commands: &mut watch::Receiver<Option<Arc<str>>>, server: &Arc<str>) {
    while commands.changed().await.is_ok() {
        if commands.borrow_and_update().as_ref().is_some_and(|at| at != server) {
            return;
        }
    }
    // The sender lives in the link, which outlives this.
    std::future::pending().await
}

/// The two texts of a message.
fn frame(data: Vec<Value>) -> Option<Frame> {
    match <[Value; 2]>::try_from(data) {
        Ok([Value::BulkString(topic), Value::BulkString(bytes)]) => Some(Frame { topic, bytes }),
        _ => None,
    }
}
