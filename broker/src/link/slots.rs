//! Which server of a Redis Cluster has which slot.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_node_proto::SLOTS;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::{FromRedisValue as _, Value};

use super::route::Place;
use super::{LinkError, RedisTarget};

/// Once a server has answered, others are waited for so long: one that was cut off answers too, and knows no better.
const OTHERS_WAIT: Duration = Duration::from_millis(100);
/// Servers that are remembered; a Redis Cluster is advised to stay below.
const PLACES_MAX: usize = 1_000;

/// The masters of all slots at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct SlotMap {
    /// First and last slot, and who has them; in order.
    ranges: Vec<(u16, u16, Place)>,
}

/// Servers that can be asked for the map, masters and replicas: those of the settings, and those that were named last.
#[derive(Debug)]
pub(super) struct Known {
    seeds: Vec<Place>,
    named: Mutex<Vec<Place>>,
}

impl SlotMap {
    /// A map of a test's own.
    #[cfg(test)]
    pub(crate) fn of(ranges: &[(u16, u16, Place)]) -> Self {
        Self { ranges: ranges.to_vec() }
    }

    /// Reads an answer to `CLUSTER SLOTS`, and the servers that it names. A server without a name is the one that was asked.
    fn read(answer: &Value, asked: &Place) -> Option<(Self, Vec<Place>)> {
        let Value::Array(rows) = answer else { return None };
        let (mut ranges, mut places) = (Vec::new(), Vec::new());
        for row in rows {
            let Value::Array(fields) = row else { return None };
            let [Value::Int(first), Value::Int(last), servers @ ..] = fields.as_slice() else { return None };
            let mut servers = servers.iter().map(|server| read_place(server, asked));
            let master = servers.next()??;
            let slot = |number: &i64| u16::try_from(*number).ok().filter(|slot| *slot < SLOTS);
            ranges.push((slot(first)?, slot(last)?, master.clone()));
            places.push(master);
            places.extend(servers.flatten());
        }
        ranges.sort();
        Some((Self { ranges }, places))
    }

    /// Who has a slot.
    pub(crate) fn master_of(&self, slot: u16) -> Option<&Place> {
        let after = self.ranges.partition_point(|(first, ..)| *first <= slot);
        let (_, last, place) = self.ranges.get(after.checked_sub(1)?)?;
        (slot <= *last).then_some(place)
    }

    /// All that have any.
    pub(crate) fn masters(&self) -> impl Iterator<Item = &Place> {
        self.ranges.iter().map(|(.., place)| place)
    }
}

fn read_place(server: &Value, asked: &Place) -> Option<Place> {
    let Value::Array(fields) = server else { return None };
    let [host, Value::Int(port), ..] = fields.as_slice() else { return None };
    let host = Option::<String>::from_redis_value_ref(host).ok()?.filter(|host| !host.is_empty() && host != "?");
    Some(Place::new(host.unwrap_or_else(|| asked.host.clone()), u16::try_from(*port).ok()?))
}

impl Known {
    pub(super) fn new(seeds: &[Place]) -> Self {
        Self { seeds: seeds.to_vec(), named: Mutex::default() }
    }

    fn places(&self) -> HashSet<Place> {
        self.seeds.iter().chain(self.named().iter()).cloned().collect()
    }

    /// Takes what a server said.
    fn learn(&self, (map, mut places): (SlotMap, Vec<Place>)) -> SlotMap {
        places.truncate(PLACES_MAX);
        *self.named() = places;
        map
    }

    fn named(&self) -> MutexGuard<'_, Vec<Place>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks all known servers at once; what most of those that answer in time say.
pub(super) async fn discover(target: &RedisTarget, known: &Arc<Known>) -> Result<SlotMap, LinkError> {
    let mut answers: FuturesUnordered<_> =
        known.places().into_iter().map(|place| async move { ask(target, &place).await }).collect();
    let (mut votes, mut why_not) = (HashMap::<SlotMap, usize>::new(), LinkError::Disconnected);
    while votes.is_empty() {
        match answers.next().await {
            Some(Ok(map)) => *votes.entry(known.learn(map)).or_default() += 1,
            Some(Err(error)) => why_not = error,
            None => return Err(why_not),
        }
    }
    let others = async {
        while let Some(answer) = answers.next().await {
            if let Ok(map) = answer {
                *votes.entry(known.learn(map)).or_default() += 1;
            }
        }
    };
    // Who is late has no vote.
    let _ = tokio::time::timeout(OTHERS_WAIT, others).await;
    votes.into_iter().max_by_key(|(_, count)| *count).map(|(map, _)| map).ok_or(why_not)
}

async fn ask(target: &RedisTarget, place: &Place) -> Result<(SlotMap, Vec<Place>), LinkError> {
    let mut connection = target.open_server(place).await?;
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    match tokio::time::timeout(target.command_timeout, command.query_async::<Value>(&mut connection)).await {
        Ok(Ok(answer)) => SlotMap::read(&answer, place)
            .filter(|(map, _)| !map.ranges.is_empty())
            .ok_or_else(|| LinkError::Refused(format!("{place} knows no slots"))),
        Ok(Err(error)) => Err(LinkError::Refused(format!("{place}: {error}"))),
        Err(_) => Err(LinkError::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: Option<&str>, port: i64) -> Value {
        let host = host.map_or(Value::Nil, |host| Value::BulkString(host.as_bytes().to_vec()));
        Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec()), Value::Array(Vec::new())])
    }

    fn row(first: i64, last: i64, servers: &[Value]) -> Value {
        Value::Array([&[Value::Int(first), Value::Int(last)], servers].concat())
    }

    #[test]
    fn slots_lead_to_their_masters_and_replicas_are_known() {
        let asked = Place::new("seed", 1);
        let answer = Value::Array(vec![
            row(8_000, 16_383, &[server(Some("b"), 2)]),
            row(0, 10, &[server(None, 1), server(Some("c"), 3)]),
            row(12, 12, &[server(Some(""), 4)]),
        ]);
        let (map, places) = SlotMap::read(&answer, &asked).unwrap();
        let master = |slot| map.master_of(slot).map(Place::to_string);
        for (slot, expected) in
            [(0, Some("seed:1")), (10, Some("seed:1")), (11, None), (12, Some("seed:4")), (13, None), (16_383, Some("b:2"))]
        {
            assert_eq!(master(slot).as_deref(), expected, "{slot}");
        }
        assert!(places.contains(&Place::new("c", 3)));
        for wrong in
            [Value::Nil, Value::Array(vec![row(0, 16_384, &[server(Some("a"), 1)])]), Value::Array(vec![row(0, 1, &[])])]
        {
            assert!(SlotMap::read(&wrong, &asked).is_none(), "{wrong:?}");
        }
    }
}
