use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use countersign_node_proto::{ChannelName, Topic};
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisResult, Value};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Shared;
use super::heard::Frame;
use super::wanted::Step;
use crate::backoff::Backoff;
use crate::link::{LinkError, Reached};
use crate::telemetry::{BusGap, RedisCall, RedisLinkLabel};

/// Channels in one command.
const STEP_MAX: usize = 512;
/// First and longest pause between attempts to connect, and to change what is heard.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A link that lived so long is no failed attempt: the next pause is the shortest again.
const SETTLED: Duration = Duration::from_secs(5);

/// One life of the subscription link.
struct Subscription {
    connection: MultiplexedConnection,
    server: Arc<str>,
    /// Where commands go, as it changes: what is said there must be heard.
    commands: watch::Receiver<Option<Arc<str>>>,
    lost: Arc<Notify>,
}

impl Shared {
    /// Connects, hears, and connects again, for ever.
    pub(super) async fn subscribe_for_ever(self: Arc<Self>) {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        let mut told = false;
        loop {
            match self.attach().await {
                Ok(subscription) => {
                    told = false;
                    let since = Instant::now();
                    let cause = self.follow(subscription).await;
                    self.detached(cause);
                    if since.elapsed() > SETTLED {
                        backoff.reset();
                    }
                }
                // Once per outage: the attempts go on for as long as it lasts.
                Err(error) if !std::mem::replace(&mut told, true) => {
                    tracing::warn!(redis = self.link.target().address(), %error, "cannot listen to redis, trying on");
                }
                Err(_) => {}
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Connects, and hears everything that is wanted by now.
    async fn attach(self: &Arc<Self>) -> Result<Subscription, LinkError> {
        let lost = Arc::new(Notify::new());
        let mut commands = self.link.server();
        // From before the way is asked for: a change that comes later is one.
        commands.mark_unchanged();
        let Reached { connection, server } = self.link.target().connect(self.router(&lost)).await?;
        let mut subscription = Subscription { connection, server, commands, lost };
        self.wanted().listening_anew();
        self.proof().listening_anew();
        let own = [Topic::Broadcast, Topic::Node(self.node)].map(|topic| self.layout.topic(&topic));
        self.confirmed(subscription.connection.subscribe(&own)).await?;
        while self.step(&mut subscription).await? {}
        // Only now: what was said before this moment may have passed by.
        if self.listened_before.swap(true, Ordering::AcqRel) {
            self.heard.lost(BusGap::Disconnected);
        }
        self.live.send_replace(true);
        self.metrics.redis_connects.of(RedisLinkLabel::Subscription).inc();
        self.metrics.redis_up.of(RedisLinkLabel::Subscription).set(1);
        tracing::info!(redis = self.link.target().address(), server = &*subscription.server, "listening to redis");
        Ok(subscription)
    }

    /// What comes in unasked goes to the queue; the closure runs in the link's own task and must not wait.
    fn router(self: &Arc<Self>, lost: &Arc<Notify>) -> impl Fn(PushInfo) + Send + Sync + 'static {
        let (shared, lost) = (Arc::downgrade(self), Arc::clone(lost));
        move |info| match info.kind {
            PushKind::Message => {
                if let (Some(shared), Some(frame)) = (shared.upgrade(), frame(info.data)) {
                    shared.heard.push(frame, &shared.metrics);
                }
            }
            PushKind::Disconnection => lost.notify_one(),
            _ => {}
        }
    }

    /// Makes Redis follow what is wanted, until the link ends; says why it did.
    async fn follow(&self, mut subscription: Subscription) -> &'static str {
        let lost = Arc::clone(&subscription.lost);
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        // A notice that a link is deaf must be about this one.
        let mut deaf = self.deaf.subscribe();
        let (mut commands, server) = (subscription.commands.clone(), Arc::clone(&subscription.server));
        loop {
            let changed = async {
                self.wanted_changed.notified().await;
                while self.follow_step(&mut subscription, &mut backoff).await {}
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
    async fn follow_step(&self, subscription: &mut Subscription, backoff: &mut Backoff) -> bool {
        match self.step(subscription).await {
            Ok(more) => {
                backoff.reset();
                more
            }
            Err(error) => {
                tracing::warn!(%error, "redis did not change what this node hears, trying again");
                tokio::time::sleep(backoff.pause()).await;
                true
            }
        }
    }

    /// Asks for what is wanted next. False: there is nothing to do.
    async fn step(&self, subscription: &mut Subscription) -> Result<bool, LinkError> {
        let step = self.wanted().next(STEP_MAX);
        if step.is_empty() {
            return Ok(false);
        }
        // The step is open again if this future is dropped on the way.
        let mut open = OpenStep { shared: self, step: Some(step), confirmed: false };
        if let Some(step) = &open.step {
            self.ask(subscription, step).await?;
        }
        open.confirmed = true;
        drop(open);
        Ok(true)
    }

    async fn ask(&self, subscription: &mut Subscription, step: &Step) -> Result<(), LinkError> {
        let topics = |channels: &[ChannelName]| -> Vec<String> {
            channels.iter().map(|channel| self.layout.topic(&Topic::Channel(channel.clone()))).collect()
        };
        if !step.subscribe.is_empty() {
            self.confirmed(subscription.connection.subscribe(topics(&step.subscribe))).await?;
        }
        if !step.unsubscribe.is_empty() {
            self.confirmed(subscription.connection.unsubscribe(topics(&step.unsubscribe))).await?;
        }
        Ok(())
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

    fn detached(&self, cause: &'static str) {
        tracing::warn!(redis = self.link.target().address(), cause, "no longer listening to redis");
        self.live.send_replace(false);
        self.wanted().listening_anew();
        self.metrics.redis_up.of(RedisLinkLabel::Subscription).set(0);
        self.heard.lost(BusGap::Disconnected);
    }
}

/// A step on its way: not confirmed unless it says so when it is dropped.
struct OpenStep<'a> {
    shared: &'a Shared,
    step: Option<Step>,
    confirmed: bool,
}

impl Drop for OpenStep<'_> {
    fn drop(&mut self) {
        if let Some(step) = self.step.take() {
            let mut wanted = self.shared.wanted();
            wanted.done(step, self.confirmed);
            self.shared.metrics.bus_channels.set(i64::try_from(wanted.confirmed()).unwrap_or(i64::MAX));
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
