//! The way to the master that sentinels name. It is asked for at each connect: what was true before a failover is not after it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, Value};

use super::route::Place;
use super::target::Reached;
use super::{LinkError, RedisTarget};

/// Asks all sentinels at once, and connects to the first server named that is a master by its own word.
///
/// A sentinel that is away or cut off, and a master that is none any more, cost a try each. Bounded by the caller.
pub(super) async fn reach_master(
    target: &RedisTarget,
    sentinels: &[Place],
    name: &str,
    pushed: &Arc<dyn Fn(PushInfo) + Send + Sync>,
) -> Result<Reached, LinkError> {
    let mut answers: FuturesUnordered<_> = sentinels.iter().map(|sentinel| ask(target, sentinel, name)).collect();
    let (mut tried, mut why_not) = (HashSet::new(), LinkError::Disconnected);
    while let Some(answer) = answers.next().await {
        let place = match answer {
            Ok(place) => place,
            // What a server said later is worth more than that a sentinel was away.
            Err(error) if tried.is_empty() => {
                why_not = error;
                continue;
            }
            Err(_) => continue,
        };
        if !tried.insert(place.clone()) {
            continue;
        }
        let reached =
            target.open_if(&place, pushed, async |connection| match is_master(connection, target.command_timeout).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(LinkError::Refused(format!("sentinel names {place}, which is no master (yet)"))),
                Err(error) => Err(error),
            });
        match reached.await {
            Ok(reached) => return Ok(reached),
            Err(error) => why_not = error,
        }
    }
    Err(why_not)
}

/// The server that the first sentinel to answer names. Bounded by the deadlines of each.
pub(super) async fn named(target: &RedisTarget, sentinels: &[Place], name: &str) -> Option<Place> {
    let mut answers: FuturesUnordered<_> = sentinels.iter().map(|sentinel| ask(target, sentinel, name)).collect();
    while let Some(answer) = answers.next().await {
        if let Ok(place) = answer {
            return Some(place);
        }
    }
    None
}

/// What one sentinel says.
async fn ask(target: &RedisTarget, sentinel: &Place, name: &str) -> Result<Place, LinkError> {
    let mut connection = target.open_sentinel(sentinel).await?;
    let mut command = redis::cmd("SENTINEL");
    command.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let asked = command.query_async::<Option<(String, u16)>>(&mut connection);
    match tokio::time::timeout(target.command_timeout, asked).await {
        Ok(Ok(Some((host, port)))) => Ok(Place { host, port }),
        Ok(Ok(None)) => Err(LinkError::Refused(format!("sentinel {sentinel} knows no master `{name}`"))),
        Ok(Err(error)) => Err(LinkError::Refused(format!("sentinel {sentinel}: {error}"))),
        Err(_) => Err(LinkError::TimedOut),
    }
}

/// Is it a master by its own word?
pub(super) async fn is_master(connection: &MultiplexedConnection, timeout: Duration) -> Result<bool, LinkError> {
    let (mut connection, command) = (connection.clone(), redis::cmd("ROLE"));
    match tokio::time::timeout(timeout, command.query_async::<Vec<Value>>(&mut connection)).await {
        Ok(Ok(role)) => Ok(role.first().is_some_and(|word| *word == Value::BulkString(b"master".to_vec()))),
        Ok(Err(error)) => Err(LinkError::Refused(error.to_string())),
        Err(_) => Err(LinkError::TimedOut),
    }
}
