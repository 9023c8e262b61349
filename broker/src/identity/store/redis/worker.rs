use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::script::{PoolScript, is_unknown};
use crate::identity::store::StoreError;
use crate::link::{CommandLink, LinkError, RedisTarget};
use crate::telemetry::{Metrics, RedisCall, RedisLinkLabel};

/// Beyond the link's own deadlines: the worker's thread may wait for a core.
const SPARE: Duration = Duration::from_secs(1);

/// The store's own link, on a thread of its own.
///
/// Its callers block, on threads of several runtimes and of none (the command line), and must not hold up each other's:
/// so the link belongs to none of them. While there is no link a call fails at once.
pub(super) struct Worker {
    link: CommandLink,
    handle: Handle,
    deadline: Duration,
    /// Dropped with the worker, which ends the thread.
    _stop: oneshot::Sender<()>,
}

impl Worker {
    /// Starts the thread and waits, within the deadline of the target, until it is connected. If it is not by then it goes
    /// on trying.
    ///
    /// # Errors
    /// [`StoreError::Thread`].
    pub(super) fn start(target: RedisTarget, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(StoreError::Thread)?;
        let (handle, (stop, stopped)) = (runtime.handle().clone(), oneshot::channel::<()>());
        // A script that the server does not know takes a second exchange.
        let deadline = target.reach_timeout() + target.command_timeout * 2 + SPARE;
        let patience = target.reach_timeout();
        let link = {
            let _inside = runtime.enter();
            CommandLink::start_as(RedisLinkLabel::Users, target, metrics)
        };
        let thread = std::thread::Builder::new().name("users".to_owned());
        // The runtime ends on its own thread, where it may block.
        let spawned = thread.spawn(move || runtime.block_on(async { drop(stopped.await) }));
        spawned.map_err(StoreError::Thread)?;
        let worker = Self { link: link.clone(), handle, deadline, _stop: stop };
        // Late or not: each call finds out by itself.
        let _ = worker.wait(async move { tokio::time::timeout(patience, link.up()).await.map_err(|_| LinkError::TimedOut) });
        Ok(worker)
    }

    /// Is there a link?
    ///
    /// # Errors
    /// [`StoreError::Redis`] with the reason why not.
    pub(super) fn reach(&self) -> Result<(), StoreError> {
        let link = self.link.clone();
        self.wait(async move {
            match link.connected() {
                Ok(_) => Ok(()),
                // Once more by hand: this time for the reason.
                Err(_) => link.target().connect(|_| {}).await.map(drop),
            }
        })
    }

    /// Runs a script. Tells on which life of the link, too.
    ///
    /// # Errors
    /// [`StoreError::Redis`]; if the answer was lost it may have been done.
    pub(super) fn call(
        &self,
        script: &'static PoolScript,
        root: &Arc<str>,
        arguments: Vec<String>,
    ) -> Result<(Value, u64), StoreError> {
        let (link, root) = (self.link.clone(), Arc::clone(root));
        self.wait(async move { exchange(&link, script, &root, &arguments).await })
    }

    /// Runs what waits, while this thread blocks.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, LinkError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, result) = sync_channel(1);
        self.handle.spawn(async move {
            // Nobody waits any more if the deadline has passed.
            let _ = done.send(work.await);
        });
        Ok(result.recv_timeout(self.deadline).unwrap_or(Err(LinkError::TimedOut))?)
    }
}

async fn exchange(
    link: &CommandLink,
    script: &PoolScript,
    root: &str,
    arguments: &[String],
) -> Result<(Value, u64), LinkError> {
    let connected = link.connected()?;
    let one = |command| {
        let mut commands = Pipeline::with_capacity(1);
        commands.add_command(command);
        commands
    };
    let first = |values: Vec<Value>| values.into_iter().next().unwrap_or(Value::Nil);
    let by_hash = one(script.by_hash(root, arguments));
    let value = first(link.call_on(&connected, RedisCall::Users, &by_hash).await?);
    if !is_unknown(&value) {
        return Ok((value, connected.epoch));
    }
    let by_text = one(script.by_text(root, arguments));
    let value = first(link.call_on(&connected, RedisCall::Users, &by_text).await?);
    Ok((value, connected.epoch))
}
