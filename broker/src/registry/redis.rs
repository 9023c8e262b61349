//! The registry in Redis: see [`countersign_node_proto::Layout`] for what is kept where.
//!
//! Every write is one step of one script, so that entry and indexes never disagree; a batch is one round trip. Nothing scans
//! keys. What Redis loses (it came back empty or older, or another node took this one for dead) is given again from a mirror of
//! what this node wrote: see [`RedisRegistry::maintain`].

mod codec;
mod mirror;
mod script;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign_node_proto::{ChannelName, ConnectionId, Layout, NodeId};
use redis::{Cmd, FromRedisValue, Pipeline, Value};
use tokio::sync::{Mutex, Notify};

use self::mirror::Mirror;
use self::script::RegistryScript;
use super::{Entry, Page, Registry, RegistryUnavailable, Write};
use crate::backoff::Backoff;
use crate::link::{CommandLink, Connected, LinkError};
use crate::telemetry::{Metrics, RedisCall};

/// Writes in one round trip.
const BATCH_MAX: usize = 512;
/// Writes in one call of the script: Redis serves nobody else while it runs.
const SCRIPT_MAX: usize = 64;
/// Identifiers in one page.
const PAGE_MAX: usize = 1_000;
/// Index members that one page looks at: those of dead nodes are skipped, and must not make it endless.
const PAGE_LOOKS_MAX: usize = 10_000;
/// Entries that one call takes out.
const FORGET_MAX: usize = 256;
/// Life of a fence after the last write: far above any time that a command can be on its way.
const FENCE_LIFE: Duration = Duration::from_secs(3_600);
/// Between two looks for what is missing or left over.
const AUDIT_INTERVAL: Duration = Duration::from_secs(1);
/// First and longest pause after a failed look.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// The registry that the nodes of a cluster share.
pub struct RedisRegistry {
    link: CommandLink,
    layout: Layout,
    node: NodeId,
    /// Held while a batch of this node's writes is on its way: what is given again must not overtake what changed meanwhile.
    mirror: Mutex<Mirror>,
    doubt: Notify,
    metrics: Arc<Metrics>,
}

impl RedisRegistry {
    /// The registry as `node` writes it. Connects to nothing by itself.
    #[must_use]
    pub fn new(link: CommandLink, layout: Layout, node: NodeId, metrics: Arc<Metrics>) -> Self {
        Self { link, layout, node, mirror: Mutex::new(Mirror::new(node)), doubt: Notify::new(), metrics }
    }

    /// Keeps Redis equal to the truth, for ever: gives again what it lost, and takes out what dead nodes left.
    ///
    /// Any node may reap any dead one; several at once do no harm. End it by dropping it.
    pub async fn maintain(&self) {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let returned = self.link.returned();
            let pause = match self.audit().await {
                Ok(()) => {
                    backoff.reset();
                    AUDIT_INTERVAL
                }
                Err(error) => {
                    tracing::debug!(%error, "registry was not audited, trying again");
                    backoff.pause()
                }
            };
            tokio::select! {
                () = self.doubt.notified() => {}
                () = returned => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One look: restores this node if that is in doubt, then reaps.
    async fn audit(&self) -> Result<(), RegistryUnavailable> {
        let connected = self.link.connected()?;
        let in_doubt = {
            let mirror = self.mirror.lock().await;
            mirror.lost || mirror.checked_epoch != connected.epoch
        };
        if in_doubt {
            self.restore(&connected).await?;
        }
        for node in self.dead_nodes().await? {
            self.reap(node).await?;
        }
        Ok(())
    }

    /// Makes Redis equal to the mirror: writes every entry again, and takes out those that this node does not have.
    ///
    /// Batch by batch: what sockets change meanwhile goes in between.
    async fn restore(&self, connected: &Arc<Connected>) -> Result<(), RegistryUnavailable> {
        let ids = {
            let mut mirror = self.mirror.lock().await;
            mirror.lost = false;
            mirror.ids()
        };
        let restored = self.restore_entries(&ids, connected).await;
        let outcome = match restored {
            Ok(()) => self.disown_strangers(connected).await,
            Err(error) => Err(error),
        };
        let mut mirror = self.mirror.lock().await;
        match outcome {
            Ok(()) => mirror.checked_epoch = connected.epoch,
            Err(_) => mirror.lost = true,
        }
        if outcome.is_ok() && !ids.is_empty() {
            tracing::info!(entries = ids.len(), "registry was given this node's connections again");
        }
        outcome
    }

    async fn restore_entries(&self, ids: &[ConnectionId], connected: &Arc<Connected>) -> Result<(), RegistryUnavailable> {
        for ids in ids.chunks(BATCH_MAX) {
            let mirror = self.mirror.lock().await;
            let still: Vec<Write> =
                ids.iter().filter_map(|id| mirror.get(*id)).map(|entry| Write::Register(Box::new(entry.clone()))).collect();
            self.send_writes(connected, &still).await?;
            self.metrics.registry_restored.inc_by(still.len() as u64);
        }
        Ok(())
    }

    /// Entries of this node that it does not have: their removal was lost with an older state of Redis.
    async fn disown_strangers(&self, connected: &Arc<Connected>) -> Result<(), RegistryUnavailable> {
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SSCAN");
            scan.arg(self.layout.node(self.node)).arg(&cursor).arg("COUNT").arg(BATCH_MAX);
            // Read under the lock: what is registered between a look and its judgement would seem strange.
            let mirror = self.mirror.lock().await;
            let mut answer = self.link.call_on(connected, RedisCall::Audit, &single(scan)).await?;
            let (next, members): (String, Vec<Vec<u8>>) = answer.pop().map_or_else(|| Err(no_answer()), read)?;
            let ids = members.iter().filter_map(|member| ConnectionId::parse(member).ok());
            let strangers: Vec<ConnectionId> = ids.filter(|id| mirror.get(*id).is_none()).collect();
            for strangers in strangers.chunks(SCRIPT_MAX) {
                let mut call = self.apply_call(connected);
                strangers.iter().for_each(|id| codec::add_disown(&mut call, *id, self.node));
                self.run_on(connected, RedisCall::Apply, &script::APPLY, &single(call)).await?;
            }
            cursor = next;
            if cursor == "0" {
                return Ok(());
            }
        }
    }

    async fn dead_nodes(&self) -> Result<Vec<NodeId>, RegistryUnavailable> {
        let mut call = script::DEAD.on(&self.layout.nodes());
        call.arg(self.layout.root());
        let names: Vec<String> = self.run(RedisCall::Audit, &script::DEAD, call).await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).filter(|node| *node != self.node).collect())
    }

    /// Takes out what a dead node left, until nothing is left or the node lives again.
    async fn reap(&self, node: NodeId) -> Result<(), RegistryUnavailable> {
        loop {
            let (taken, left) = self.forget_some(node, "dead").await?;
            self.metrics.registry_reaped.inc_by(taken);
            if taken > 0 && left <= 0 {
                tracing::info!(?node, "entries of a dead node were taken out");
            }
            if left <= 0 {
                return Ok(());
            }
        }
    }

    /// Takes out a bounded number of a node's entries: how many, and how many are left.
    async fn forget_some(&self, node: NodeId, condition: &str) -> Result<(u64, i64), RegistryUnavailable> {
        let mut call = script::FORGET.on(&self.layout.node(node));
        call.arg(self.layout.root()).arg(node.encode()).arg(FORGET_MAX).arg(condition);
        self.run(RedisCall::Forget, &script::FORGET, call).await
    }

    /// One page of an index.
    async fn page(&self, index: &str, after: Option<ConnectionId>, limit: usize) -> Result<Page, RegistryUnavailable> {
        let from = after.map_or_else(|| "-".to_owned(), Layout::above);
        let mut call = script::PAGE.on(index);
        call.arg(self.layout.root()).arg(from).arg(limit.min(PAGE_MAX)).arg(PAGE_LOOKS_MAX);
        let mut texts: Vec<Vec<u8>> = self.run(RedisCall::List, &script::PAGE, call).await?;
        if texts.is_empty() {
            return Err(no_answer());
        }
        let next = texts.remove(0);
        let ids = texts.iter().filter_map(|text| ConnectionId::parse(text).ok()).collect();
        Ok(Page { ids, next: ConnectionId::parse(&next).ok() })
    }

    /// Sends writes of one batch, in order.
    async fn send_writes(&self, connected: &Arc<Connected>, writes: &[Write]) -> Result<(), RegistryUnavailable> {
        if writes.is_empty() {
            return Ok(());
        }
        let mut calls = Pipeline::with_capacity(writes.len().div_ceil(SCRIPT_MAX));
        for writes in writes.chunks(SCRIPT_MAX) {
            let mut call = self.apply_call(connected);
            writes.iter().for_each(|write| codec::add_write(&mut call, write));
            calls.add_command(call);
        }
        self.run_on(connected, RedisCall::Apply, &script::APPLY, &calls).await.map(drop)
    }

    /// The head of a call of the writing script.
    fn apply_call(&self, connected: &Connected) -> Cmd {
        let mut call = script::APPLY.on(&self.layout.fence(self.node));
        call.arg(self.layout.root()).arg(connected.epoch).arg(FENCE_LIFE.as_millis() as u64);
        call
    }

    /// Calls a script once and reads its answer.
    async fn run<T: FromRedisValue>(
        &self,
        what: RedisCall,
        script: &RegistryScript,
        call: Cmd,
    ) -> Result<T, RegistryUnavailable> {
        let connected = self.link.connected()?;
        let mut answers = self.run_on(&connected, what, script, &single(call)).await?;
        answers.pop().map_or_else(|| Err(no_answer()), read)
    }

    /// Calls a script several times in one round trip; sends it along if the server does not know it.
    ///
    /// Calls that follow an unknown one may have been done: they are repeated with it, in order, which is harmless.
    async fn run_on(
        &self,
        connected: &Arc<Connected>,
        what: RedisCall,
        script: &RegistryScript,
        calls: &Pipeline,
    ) -> Result<Vec<Value>, RegistryUnavailable> {
        let mut answers = self.link.call_on(connected, what, calls).await?;
        if answers.iter().any(script::is_unknown) {
            answers = self.link.call_on(connected, what, &script.with_text(calls)).await?;
            answers.drain(..1);
        }
        answers
            .into_iter()
            .map(|answer| answer.extract_error().map_err(|error| RegistryUnavailable(error.to_string())))
            .collect()
    }
}

#[async_trait]
impl Registry for RedisRegistry {
    async fn apply(&self, writes: &[Write]) -> Result<(), RegistryUnavailable> {
        for writes in writes.chunks(BATCH_MAX) {
            let mut mirror = self.mirror.lock().await;
            // After the wait: the link may have changed meanwhile, and what goes out on the older one would be fenced off.
            let connected = self.link.connected()?;
            mirror.forget_ended(writes);
            self.send_writes(&connected, writes).await?;
            mirror.confirm(writes);
        }
        Ok(())
    }

    async fn find(&self, id: ConnectionId) -> Result<Option<Entry>, RegistryUnavailable> {
        let mut call = script::FIND.on(&self.layout.entry(id));
        call.arg(self.layout.root());
        codec::read_entry(id, self.run(RedisCall::Find, &script::FIND, call).await?)
    }

    async fn by_principal(
        &self,
        principal: &str,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Page, RegistryUnavailable> {
        self.page(&self.layout.principal(principal), after, limit).await
    }

    async fn by_channel(
        &self,
        channel: &ChannelName,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Page, RegistryUnavailable> {
        self.page(&self.layout.channel(channel), after, limit).await
    }

    async fn count(&self) -> Result<usize, RegistryUnavailable> {
        let mut call = script::COUNT.on(&self.layout.nodes());
        call.arg(self.layout.root());
        self.run(RedisCall::Count, &script::COUNT, call).await
    }

    async fn renew_lease(&self, node: NodeId, lease: Duration) -> Result<(), RegistryUnavailable> {
        let mut call = script::LEASE.on(&self.layout.lease(node));
        call.arg(self.layout.root()).arg(node.encode()).arg(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
        let (held, connections): (bool, usize) = self.run(RedisCall::Lease, &script::LEASE, call).await?;
        // A batch that is on its way changes both sides: what is missing then is seen at the next renewal.
        if let (true, Ok(mut mirror)) = (node == self.node, self.mirror.try_lock()) {
            let something_missing = !held || connections < mirror.len();
            if mirror.len() > 0 && something_missing {
                tracing::warn!(held, connections, expected = mirror.len(), "registry lost connections of this node");
                mirror.lost = true;
                self.doubt.notify_one();
            }
        }
        Ok(())
    }

    async fn returned(&self) {
        self.link.returned().await;
    }

    async fn forget_node(&self, node: NodeId) -> Result<(), RegistryUnavailable> {
        self.mirror.lock().await.forget_node(node);
        while self.forget_some(node, "always").await?.1 > 0 {}
        Ok(())
    }
}

impl From<LinkError> for RegistryUnavailable {
    fn from(error: LinkError) -> Self {
        Self(error.to_string())
    }
}

fn single(command: Cmd) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(1);
    pipeline.add_command(command);
    pipeline
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, RegistryUnavailable> {
    redis::from_redis_value(value).map_err(|error| RegistryUnavailable(format!("unexpected answer of redis: {error}")))
}

fn no_answer() -> RegistryUnavailable {
    RegistryUnavailable("redis left an answer out".to_owned())
}

#[cfg(test)]
mod tests;
