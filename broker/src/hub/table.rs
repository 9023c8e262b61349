use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::OnceLock;

use bytes::Bytes;
use countersign_node_proto::{ChannelName, ConnectionId, Publication};
use indexmap::IndexMap;

use super::encode::encode_publication;
use super::outbox::{Dialect, Outbox};

/// The connection is subscribed to the channel already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("already subscribed")]
pub struct AlreadySubscribed;

/// The connection is not subscribed to the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not subscribed")]
pub struct NotSubscribed;

/// A publication on its way, shared by all threads of the node; each dialect's frame is encoded when the first subscriber
/// who speaks it comes up, and never again.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) publication: Publication,
    native: OnceLock<Bytes>,
    plain: OnceLock<Bytes>,
}

impl Envelope {
    pub(super) fn new(publication: Publication) -> Self {
        Self { publication, native: OnceLock::new(), plain: OnceLock::new() }
    }

    fn frame(&self, dialect: Dialect) -> &Bytes {
        let place = match dialect {
            Dialect::Native => &self.native,
            Dialect::Plain => &self.plain,
        };
        place.get_or_init(|| encode_publication(dialect, &self.publication))
    }
}

/// Who is subscribed to what on one thread.
///
/// Subscribers stand in an ordered map: an unordered one cannot be walked without walking its empty places too, and the
/// walk is what a publication costs.
#[derive(Default)]
pub(super) struct Table {
    channels: HashMap<ChannelName, IndexMap<ConnectionId, Rc<Outbox>>>,
    /// A list: a connection has few subscriptions (`subscriptions_max`), mostly one.
    connections: HashMap<ConnectionId, Vec<ChannelName>>,
}

impl Table {
    /// Adds a subscription. True: it is the first one of its channel.
    pub(super) fn subscribe(&mut self, channel: &ChannelName, outbox: Rc<Outbox>) -> Result<bool, AlreadySubscribed> {
        let held = self.connections.entry(outbox.id()).or_default();
        if held.contains(channel) {
            return Err(AlreadySubscribed);
        }
        held.push(channel.clone());
        let subscribers = self.channels.entry(channel.clone()).or_default();
        let is_first = subscribers.is_empty();
        subscribers.insert(outbox.id(), outbox);
        Ok(is_first)
    }

    /// Ends a subscription. True: it was the last one of its channel.
    pub(super) fn unsubscribe(&mut self, channel: &ChannelName, id: ConnectionId) -> Result<bool, NotSubscribed> {
        let held = self.connections.get_mut(&id).ok_or(NotSubscribed)?;
        let place = held.iter().position(|held| held == channel).ok_or(NotSubscribed)?;
        held.swap_remove(place);
        if held.is_empty() {
            self.connections.remove(&id);
        }
        Ok(self.leave(channel, id))
    }

    /// Ends every subscription of a connection. How many there were, and the channels that have none left.
    pub(super) fn drop_connection(&mut self, id: ConnectionId) -> (usize, Vec<ChannelName>) {
        let held = self.connections.remove(&id).unwrap_or_default();
        (held.len(), held.into_iter().filter(|channel| self.leave(channel, id)).collect())
    }

    /// Channels that a connection is subscribed to.
    pub(super) fn of_connection(&self, id: ConnectionId) -> &[ChannelName] {
        self.connections.get(&id).map_or(&[], Vec::as_slice)
    }

    /// All channels with a subscriber.
    pub(super) fn channels(&self) -> impl Iterator<Item = &ChannelName> {
        self.channels.keys()
    }

    /// All subscriptions.
    pub(super) fn len(&self) -> usize {
        self.connections.values().map(Vec::len).sum()
    }

    /// Pushes a publication to its subscribers; appends to `unflushed` those that must be flushed for it.
    pub(super) fn deliver(&self, envelope: &Envelope, unflushed: &mut VecDeque<Rc<Outbox>>) {
        let Some(subscribers) = self.channels.get(&envelope.publication.channel) else { return };
        let exclude = envelope.publication.exclude;
        // Copied once for this thread: a reference count that threads share costs each of them more than the copy.
        let (mut native, mut plain) = (None, None);
        for (id, outbox) in subscribers {
            if Some(*id) == exclude {
                continue;
            }
            let own = match outbox.dialect() {
                Dialect::Native => &mut native,
                Dialect::Plain => &mut plain,
            };
            let frame = own.get_or_insert_with(|| Bytes::copy_from_slice(envelope.frame(outbox.dialect())));
            if outbox.push_deferred(frame.clone()) {
                unflushed.push_back(Rc::clone(outbox));
            }
        }
    }

    /// Takes a connection off a channel. True: it was the last.
    fn leave(&mut self, channel: &ChannelName, id: ConnectionId) -> bool {
        let Some(subscribers) = self.channels.get_mut(channel) else { return false };
        subscribers.swap_remove(&id);
        let is_last = subscribers.is_empty();
        if is_last {
            self.channels.remove(channel);
        }
        is_last
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use countersign_node_proto::Payload;
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::Metrics;

    fn outboxes() -> Vec<Rc<Outbox>> {
        let metrics = Arc::new(Metrics::new());
        let dialect = |number: u8| if number.is_multiple_of(2) { Dialect::Native } else { Dialect::Plain };
        (0..4).map(|n| Outbox::new(ConnectionId::from_bytes([n; 16]), dialect(n), 1 << 20, metrics.clone())).collect()
    }

    fn channel(number: u8) -> ChannelName {
        ChannelName::new(&format!("c{number}")).unwrap()
    }

    proptest! {
        /// The table against a set of pairs.
        #[test]
        fn table_does_what_a_set_of_pairs_does(acts in prop::collection::vec((0..4_u8, 0..4_u8, 0..3_u8), 0..80)) {
            let outboxes = outboxes();
            let mut table = Table::default();
            let mut model: BTreeSet<(u8, u8)> = BTreeSet::new();
            for (kind, connection, name) in acts {
                let outbox = &outboxes[usize::from(connection)];
                let holders = |model: &BTreeSet<(u8, u8)>| model.iter().filter(|(_, held)| *held == name).count();
                match kind {
                    0 => {
                        let expected = if model.insert((connection, name)) { Ok(holders(&model) == 1) } else { Err(AlreadySubscribed) };
                        prop_assert_eq!(table.subscribe(&channel(name), outbox.clone()), expected);
                    }
                    1 => {
                        let expected = if model.remove(&(connection, name)) { Ok(holders(&model) == 0) } else { Err(NotSubscribed) };
                        prop_assert_eq!(table.unsubscribe(&channel(name), outbox.id()), expected);
                    }
                    2 => {
                        let before = model.len();
                        model.retain(|(holder, _)| *holder != connection);
                        prop_assert_eq!(table.drop_connection(outbox.id()).0, before - model.len());
                    }
                    _ => {
                        let queued: Vec<usize> = outboxes.iter().map(|outbox| outbox.queued_bytes()).collect();
                        let publication = Publication {
                            channel: channel(name),
                            payload: Payload::Text("x".to_owned()),
                            exclude: Some(outbox.id()),
                        };
                        table.deliver(&Envelope::new(publication), &mut VecDeque::new());
                        for (other, before) in (0_u8..).zip(queued) {
                            let got = outboxes[usize::from(other)].queued_bytes() > before;
                            prop_assert_eq!(got, other != connection && model.contains(&(other, name)));
                        }
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                let channels: BTreeSet<&str> = table.channels().map(ChannelName::as_str).collect();
                prop_assert_eq!(channels.len(), model.iter().map(|(_, held)| held).collect::<BTreeSet<_>>().len());
                prop_assert_eq!(table.of_connection(outbox.id()).len(), model.iter().filter(|(holder, _)| *holder == connection).count());
            }
        }
    }

    #[test]
    fn a_publication_is_encoded_once_for_each_dialect() {
        let outboxes = outboxes();
        let mut table = Table::default();
        for outbox in &outboxes {
            table.subscribe(&channel(0), outbox.clone()).unwrap();
        }
        let envelope =
            Envelope::new(Publication { channel: channel(0), payload: Payload::Text("x".to_owned()), exclude: None });
        table.deliver(&envelope, &mut VecDeque::new());
        let (native, plain) = (envelope.native.get().unwrap().as_ptr(), envelope.plain.get().unwrap().as_ptr());
        table.deliver(&envelope, &mut VecDeque::new());
        assert_eq!(envelope.frame(Dialect::Native).as_ptr(), native);
        assert_eq!(envelope.frame(Dialect::Plain).as_ptr(), plain);
    }
}
