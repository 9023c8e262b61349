//! The way to the master that sentinels name. It is asked for at each connect: what was true before a failover is not after it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, PushInfo, Value};

use super::route::Place;
use super::target::Reached;
use super::{LinkError, RedisTarget};

/// A master as one sentinel knows it.
struct Named {
    place: Place,
    /// Counts failovers, by agreement of most sentinels: of two that name different masters the higher one is newer. 0 where it is
    /// not told.
    epoch: u64,
}

/// Asks all sentinels at once, and connects to a server that the newest word of most of them names and that is a master by its own
/// word.
///
/// One word is not enough: a master that hung and wakes takes itself for the master still, and so does a sentinel that hung with
/// it. A sentinel that is away or cut off, and a master that is none any more, cost a try each. Bounded by the caller.
pub(super) async fn reach_master(
    target: &RedisTarget,
    sentinels: &[Place],
    name: &str,
    pushed: &Arc<dyn Fn(PushInfo) + Send + Sync>,
) -> Result<Reached, LinkError> {
    let mut answers: FuturesUnordered<_> = sentinels.iter().map(|sentinel| ask(target, sentinel, name)).collect();
    let (mut named, mut why_not) = most(&mut answers, sentinels.len()).await;
    let mut tried = HashSet::new();
    loop {
        let newest = named.iter().map(|named| named.epoch).max();
        let next = named.iter().find(|named| Some(named.epoch) == newest && !tried.contains(&named.place));
        if let Some(Named { place, .. }) = next {
            tried.insert(place.clone());
            match open_master(target, place, pushed).await {
                Ok(reached) => return Ok(reached),
                Err(error) => why_not = error,
            }
        } else {
            // Whoever is slower may know better.
            match answers.next().await {
                Some(Ok(answer)) => named.push(answer),
                // What a server said is worth more than that a sentinel was away.
                Some(Err(error)) if tried.is_empty() => why_not = error,
                Some(Err(_)) => {}
                None => return Err(why_not),
            }
        }
    }
}

/// The server that the newest word of most sentinels names. Bounded by the deadlines of each.
pub(super) async fn named(target: &RedisTarget, sentinels: &[Place], name: &str) -> Option<Place> {
    let mut answers: FuturesUnordered<_> = sentinels.iter().map(|sentinel| ask(target, sentinel, name)).collect();
    let (named, _) = most(&mut answers, sentinels.len()).await;
    named.into_iter().max_by_key(|named| named.epoch).map(|named| named.place)
}

/// What more than half of `count` sentinels answer, or as many as do; and why one did not.
async fn most<Asking>(answers: &mut FuturesUnordered<Asking>, count: usize) -> (Vec<Named>, LinkError)
where
    Asking: Future<Output = Result<Named, LinkError>>,
{
    let (mut named, mut why_not) = (Vec::new(), LinkError::Disconnected);
    while named.len() <= count / 2
        && let Some(answer) = answers.next().await
    {
        match answer {
            Ok(answer) => named.push(answer),
            Err(error) => why_not = error,
        }
    }
    (named, why_not)
}

/// Connects to a server if it is a master by its own word.
async fn open_master(
    target: &RedisTarget,
    place: &Place,
    pushed: &Arc<dyn Fn(PushInfo) + Send + Sync>,
) -> Result<Reached, LinkError> {
    let check = async |connection: &MultiplexedConnection| match is_master(connection, target.command_timeout).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(LinkError::Refused(format!("sentinel names {place}, which is no master (yet)"))),
        Err(error) => Err(error),
    };
    target.open_if(place, pushed, check).await
}

/// What one sentinel says.
async fn ask(target: &RedisTarget, sentinel: &Place, name: &str) -> Result<Named, LinkError> {
    let mut connection = target.open_sentinel(sentinel).await?;
    let mut commands = Pipeline::new();
    commands.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    commands.cmd("SENTINEL").arg("MASTER").arg(name);
    let asked = connection.send_packed_commands(&commands, 0, 2);
    let answers = match tokio::time::timeout(target.command_timeout, asked).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => return Err(LinkError::Refused(format!("sentinel {sentinel}: {error}"))),
        Err(_) => return Err(LinkError::TimedOut),
    };
    let mut answers = answers.into_iter();
    let place = answers.next().unwrap_or(Value::Nil).extract_error();
    match place.and_then(|place| Ok(redis::from_redis_value::<Option<(String, u16)>>(place)?)) {
        Ok(Some((host, port))) => Ok(Named { place: Place { host, port }, epoch: answers.next().and_then(epoch).unwrap_or(0) }),
        Ok(None) => Err(LinkError::Refused(format!("sentinel {sentinel} knows no master `{name}`"))),
        Err(error) => Err(LinkError::Refused(format!("sentinel {sentinel}: {error}"))),
    }
}

/// The epoch in a sentinel's description of a master; none if it describes nothing to this user.
fn epoch(described: Value) -> Option<u64> {
    let fields: HashMap<String, String> = redis::from_redis_value(described).ok()?;
    fields.get("config-epoch")?.parse().ok()
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
