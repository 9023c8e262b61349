use std::collections::HashMap;

use countersign_node_proto::{ChannelName, ConnectionId, Generation};
use indexmap::IndexMap;

use super::{Entry, Write};
use crate::config::Mode;

/// What the registry does not know yet, one record per connection.
///
/// Bounded by connections, not by what they do: acts that undo each other leave nothing, and a connection that opened and
/// closed while the registry was away leaves nothing either. What remains is relative to the writes already taken, so
/// those must be applied, in order, before what is taken next.
#[derive(Debug, Default)]
pub(super) struct Pending {
    connections: IndexMap<ConnectionId, PendingConnection>,
}

/// The difference between what the registry was told of a connection and what is true.
#[derive(Debug)]
struct PendingConnection {
    generation: Generation,
    register: Option<Box<Entry>>,
    verify: Option<Mode>,
    lapse: bool,
    refresh: Option<Option<u64>>,
    /// True: subscribed; false: no more.
    channels: HashMap<ChannelName, bool>,
    remove: bool,
}

impl Pending {
    pub(super) fn register(&mut self, entry: Entry) {
        let (id, record) = (entry.id, PendingConnection::new(entry.generation));
        self.connections.insert(id, PendingConnection { register: Some(Box::new(entry)), ..record });
    }

    pub(super) fn verify(&mut self, id: ConnectionId, generation: Generation, mode: Mode) {
        self.with(id, generation, |record| match &mut record.register {
            Some(entry) => (entry.verified, entry.mode) = (true, mode),
            None => (record.verify, record.lapse) = (Some(mode), false),
        });
    }

    /// Tells whether other nodes must hear it without a write: the registry has not heard that the connection was verified,
    /// while they may hold its ticket already.
    pub(super) fn lapse(&mut self, id: ConnectionId, generation: Generation) -> bool {
        let unheard_of = self.unwritten(id, generation).is_some_and(|entry| entry.verified);
        self.with(id, generation, |record| match &mut record.register {
            Some(entry) => (entry.verified, entry.mode) = (false, Mode::default()),
            // Whether or not the registry has heard of the verification.
            None => (record.verify, record.lapse) = (None, true),
        });
        unheard_of
    }

    pub(super) fn refresh(&mut self, id: ConnectionId, generation: Generation, expires_at: Option<u64>) {
        self.with(id, generation, |record| match &mut record.register {
            Some(entry) => entry.expires_at = expires_at,
            None => record.refresh = Some(expires_at),
        });
    }

    pub(super) fn subscribe(&mut self, id: ConnectionId, generation: Generation, channel: ChannelName) {
        self.with(id, generation, |record| match &mut record.register {
            Some(entry) if entry.subscriptions.contains(&channel) => {}
            Some(entry) => entry.subscriptions.push(channel),
            None => record.toggle(channel, true),
        });
    }

    pub(super) fn unsubscribe(&mut self, id: ConnectionId, generation: Generation, channel: ChannelName) {
        self.with(id, generation, |record| match &mut record.register {
            Some(entry) => entry.subscriptions.retain(|held| *held != channel),
            None => record.toggle(channel, false),
        });
    }

    /// Tells what [`Pending::lapse`] does.
    pub(super) fn remove(&mut self, id: ConnectionId, generation: Generation) -> bool {
        let unwritten = self.unwritten(id, generation).map(|entry| entry.verified);
        if unwritten.is_some() {
            self.connections.swap_remove(&id);
        } else {
            self.with(id, generation, |record| {
                *record = PendingConnection { remove: true, ..PendingConnection::new(generation) }
            });
        }
        unwritten == Some(true)
    }

    /// The entry of a connection that no write was taken of yet.
    fn unwritten(&self, id: ConnectionId, generation: Generation) -> Option<&Entry> {
        let record = self.connections.get(&id).filter(|record| record.generation == generation);
        record.and_then(|record| record.register.as_deref())
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Connections whose removal or lapse is pending.
    pub(super) fn ends(&self) -> impl Iterator<Item = ConnectionId> {
        self.connections.iter().filter(|(_, record)| record.remove || record.lapse).map(|(id, _)| *id)
    }

    /// Takes everything, as writes in the order in which they must be applied.
    pub(super) fn take(&mut self) -> Vec<Write> {
        let mut writes = Vec::with_capacity(self.connections.len());
        for (id, record) in std::mem::take(&mut self.connections) {
            record.write_out(id, &mut writes);
        }
        writes
    }

    /// Changes the record of a connection, unless it is about another life, or the connection's end.
    fn with(&mut self, id: ConnectionId, generation: Generation, change: impl FnOnce(&mut PendingConnection)) {
        let record = self.connections.entry(id).or_insert_with(|| PendingConnection::new(generation));
        if record.generation == generation && !record.remove {
            change(record);
        }
        if record.is_empty() {
            self.connections.swap_remove(&id);
        }
    }
}

impl PendingConnection {
    fn new(generation: Generation) -> Self {
        Self { generation, register: None, verify: None, lapse: false, refresh: None, channels: HashMap::new(), remove: false }
    }

    fn is_empty(&self) -> bool {
        self.register.is_none()
            && self.verify.is_none()
            && !self.lapse
            && self.refresh.is_none()
            && self.channels.is_empty()
            && !self.remove
    }

    /// A subscription and its end cancel each other: the registry already knows the state before both.
    fn toggle(&mut self, channel: ChannelName, subscribed: bool) {
        match self.channels.get(&channel) {
            Some(pending) if *pending == subscribed => {}
            Some(_) => {
                self.channels.remove(&channel);
            }
            None => {
                self.channels.insert(channel, subscribed);
            }
        }
    }

    fn write_out(self, id: ConnectionId, writes: &mut Vec<Write>) {
        let generation = self.generation;
        if self.remove {
            writes.push(Write::Remove(id, generation));
            return;
        }
        if let Some(entry) = self.register {
            writes.push(Write::Register(entry));
        }
        if let Some(expires_at) = self.refresh {
            writes.push(Write::Refresh(id, generation, expires_at));
        }
        if let Some(mode) = self.verify {
            writes.push(Write::Verify(id, generation, mode));
        }
        if self.lapse {
            writes.push(Write::Lapse(id, generation));
        }
        for (channel, subscribed) in self.channels {
            let write = if subscribed { Write::Subscribe } else { Write::Unsubscribe };
            writes.push(write(id, generation, channel));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::registry::{MemoryRegistry, Registry as _, conformance};

    fn channel(number: u8) -> ChannelName {
        ChannelName::new(&format!("c{number}")).unwrap()
    }

    #[test]
    fn a_connection_that_came_and_went_leaves_nothing() {
        let mut pending = Pending::default();
        let entry = conformance::entry(1, 1);
        let (id, generation) = (entry.id, entry.generation);
        pending.register(entry);
        pending.verify(id, generation, Mode::Ticket);
        pending.subscribe(id, generation, channel(1));
        pending.remove(id, generation);
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn a_thousand_acts_on_a_written_connection_stay_one_record() {
        let mut pending = Pending::default();
        let (id, generation) = (ConnectionId::from_bytes([1; 16]), Generation(1));
        for number in 0..250_u8 {
            pending.subscribe(id, generation, channel(number));
            pending.unsubscribe(id, generation, channel(number));
            pending.refresh(id, generation, Some(u64::from(number)));
            pending.verify(id, generation, Mode::Ticket);
        }
        assert_eq!(pending.take(), [Write::Refresh(id, generation, Some(249)), Write::Verify(id, generation, Mode::Ticket)]);
    }

    #[test]
    fn acts_after_the_end_are_ignored() {
        let mut pending = Pending::default();
        let (id, generation) = (ConnectionId::from_bytes([1; 16]), Generation(1));
        pending.remove(id, generation);
        pending.verify(id, generation, Mode::Ticket);
        pending.subscribe(id, generation, channel(1));
        assert_eq!(pending.take(), [Write::Remove(id, generation)]);
    }

    /// An act on one of two connections: kind, connection, channel.
    fn act() -> impl Strategy<Value = (u8, u8, u8)> {
        (0..8_u8, 1..3_u8, 0..3_u8)
    }

    fn write_of((kind, number, name): (u8, u8, u8)) -> Option<Write> {
        let entry = conformance::entry(number, 1);
        let (id, generation) = (entry.id, entry.generation);
        Some(match kind {
            0 => Write::Register(Box::new(entry)),
            1 => Write::Verify(id, generation, Mode::ALL[usize::from(name)]),
            2 => Write::Refresh(id, generation, Some(u64::from(name))),
            3 => Write::Subscribe(id, generation, channel(name)),
            4 => Write::Unsubscribe(id, generation, channel(name)),
            5 => Write::Remove(id, generation),
            7 => Write::Lapse(id, generation),
            _ => return None,
        })
    }

    fn note(pending: &mut Pending, write: Write) {
        match write {
            Write::Register(entry) => pending.register(*entry),
            Write::Verify(id, generation, mode) => pending.verify(id, generation, mode),
            Write::Lapse(id, generation) => drop(pending.lapse(id, generation)),
            Write::Refresh(id, generation, expires_at) => pending.refresh(id, generation, expires_at),
            Write::Subscribe(id, generation, channel) => pending.subscribe(id, generation, channel),
            Write::Unsubscribe(id, generation, channel) => pending.unsubscribe(id, generation, channel),
            Write::Remove(id, generation) => drop(pending.remove(id, generation)),
        }
    }

    /// A socket registers once, acts on what is true, and ends: the only histories that occur.
    fn is_lawful(history: &mut HashMap<u8, (bool, Vec<u8>)>, (kind, number, name): (u8, u8, u8)) -> bool {
        match (kind, history.get_mut(&number)) {
            (0, None) => history.insert(number, (true, Vec::new())).is_none(),
            (3, Some((true, held))) if !held.contains(&name) => {
                held.push(name);
                true
            }
            (4, Some((true, held))) if held.contains(&name) => {
                held.retain(|other| *other != name);
                true
            }
            (5, Some((open, _))) if *open => {
                *open = false;
                true
            }
            (1 | 2 | 7, Some((true, _))) | (6, _) => true,
            _ => false,
        }
    }

    proptest! {
        /// Act 6 takes and applies what is pending, as the keeper does at any moment.
        #[test]
        fn coalesced_writes_end_where_single_writes_end(acts in prop::collection::vec(act(), 0..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (single, coalesced) = (MemoryRegistry::new(), MemoryRegistry::new());
            let mut pending = Pending::default();
            let mut history = HashMap::new();
            runtime.block_on(async {
                for act in acts.into_iter().filter(|act| is_lawful(&mut history, *act)) {
                    match write_of(act) {
                        Some(write) => {
                            single.apply(std::slice::from_ref(&write)).await.unwrap();
                            note(&mut pending, write);
                        }
                        None => coalesced.apply(&pending.take()).await.unwrap(),
                    }
                }
                coalesced.apply(&pending.take()).await.unwrap();
                for number in 1..3 {
                    let node = conformance::entry(number, 1).node;
                    for registry in [&single, &coalesced] {
                        registry.renew_lease(node, std::time::Duration::from_secs(60)).await.unwrap();
                    }
                    let id = conformance::entry(number, 1).id;
                    let sorted = |found: Option<Entry>| found.map(|mut entry| { entry.subscriptions.sort(); entry });
                    assert_eq!(sorted(single.find(id).await.unwrap()), sorted(coalesced.find(id).await.unwrap()));
                }
            });
        }
    }
}
