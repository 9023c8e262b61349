//! The store in the Redis that the nodes of a cluster share.
//!
//! Every change is one script, so that of two nodes that decide at once one comes first, as with SQLite's transactions.
//! What ends by itself ends by Redis's clock some time after it is worth nothing by the caller's, which alone decides.
//! The Redis must keep what it is told: persistence on, no eviction.
//!
//! An answer that was lost leaves open whether its command was done. That harms in one case only: a refresh token that was
//! replaced without its holder's knowledge would look stolen when it comes again. So a replacement counts as evidence
//! once it is confirmed: by the node that had the answer, or by the first use of the successor.

mod lockouts;
mod script;
mod sessions;
#[cfg(test)]
mod tests;
mod users;
mod worker;

use std::fmt;
use std::sync::Arc;

use countersign_node_proto::Layout;
use redis::{FromRedisValue, Value};

use super::{Mark, RefreshRules, StoreError, UserStore};
use crate::config::ClusterSettings;
use crate::identity::revocation::Revocation;
use crate::link::{LinkError, RedisTarget};
use crate::telemetry::Metrics;
use script::PoolScript;
use worker::Worker;

/// What ends by itself does so this much later than it must, in milliseconds: nodes' and Redis's clocks differ a little.
const SLACK_MS: u64 = 60_000;
/// Users, or revocations, that one call asks for: a long script holds up everybody else's.
const PAGE: usize = 500;

/// A handle on the store in Redis; clones share one link.
#[derive(Clone)]
pub(in crate::identity) struct RedisStore {
    root: Arc<str>,
    worker: Arc<Worker>,
}

impl RedisStore {
    /// Connects. A Redis that is away is no error: it may come back.
    ///
    /// # Errors
    /// [`StoreError::Target`] or [`StoreError::Prefix`] if the settings lead nowhere, [`StoreError::Thread`].
    pub(in crate::identity) fn open(settings: &ClusterSettings, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        let layout = Layout::new(&settings.prefix)?;
        let target = RedisTarget::new(settings)?;
        let worker = Worker::start(target, metrics)?;
        Ok(Self { root: layout.pool().into(), worker: Arc::new(worker) })
    }

    /// Runs a script.
    fn run<T: FromRedisValue>(&self, script: &'static PoolScript, arguments: Vec<String>) -> Result<T, StoreError> {
        let (value, _) = self.worker.call(script, &self.root, arguments)?;
        read(value)
    }

    /// Runs a script that answers whether it found what it was to change.
    fn found(&self, script: &'static PoolScript, arguments: Vec<String>) -> Result<bool, StoreError> {
        Ok(self.run::<i64>(script, arguments)? != 0)
    }
}

impl UserStore for RedisStore {
    fn reopen(&self) -> Result<Box<dyn UserStore>, StoreError> {
        Ok(Box::new(self.clone()))
    }

    fn reach(&self) -> Result<(), StoreError> {
        self.worker.reach()
    }

    /// A server that took over, or came back, may have forgotten the last revocations and counted others under their
    /// numbers. Either way the link was another one, and on a new link the whole log is read again.
    fn revocations_since(&self, mark: &mut Mark) -> Result<Vec<Revocation>, StoreError> {
        let mut all = Vec::new();
        // The mark moves only once everything has arrived: what is lost on the way is asked for again.
        let mut read_to = mark.last_id;
        let mut version = mark.version;
        loop {
            let asked = vec![read_to.to_string(), PAGE.to_string()];
            let (value, epoch) = self.worker.call(&script::REVOCATIONS, &self.root, asked)?;
            let epoch = Some(i64::try_from(epoch).unwrap_or(i64::MAX));
            if std::mem::replace(&mut version, epoch) != epoch && read_to != 0 {
                read_to = 0;
                all.clear();
                continue;
            }
            let page: Vec<(i64, String, String)> = read(value)?;
            let last = page.len() < PAGE;
            for (id, subject, said) in page {
                all.push(revocation(subject, &said)?);
                read_to = id;
            }
            if last {
                *mark = Mark { version, last_id: read_to };
                return Ok(all);
            }
        }
    }

    /// Families and tokens end by themselves.
    fn prune(&self, _: &RefreshRules, lockout_max_ms: u64, revoked_before: u64, now: u64) -> Result<(), StoreError> {
        let tried_before = now.saturating_sub(lockout_max_ms.saturating_mul(2));
        loop {
            let arguments = vec![revoked_before.to_string(), tried_before.to_string(), PAGE.to_string()];
            let dropped: usize = self.run(&script::PRUNE, arguments)?;
            if dropped < PAGE {
                return Ok(());
            }
        }
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("root", &self.root).finish_non_exhaustive()
    }
}

fn revocation(subject: String, said: &str) -> Result<Revocation, StoreError> {
    let numbers = said.split_once(' ').and_then(|(generation, time)| Some((generation.parse().ok()?, time.parse().ok()?)));
    let (generation, not_before_ms) = numbers.ok_or(StoreError::Spoiled("a revocation"))?;
    Ok(Revocation { subject, generation, not_before_ms })
}

/// Reads what a script answered.
fn read<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    if let Value::ServerError(error) = &value {
        return Err(LinkError::Refused(error.to_string()).into());
    }
    redis::from_redis_value(value).map_err(|_| StoreError::Spoiled("an answer"))
}
