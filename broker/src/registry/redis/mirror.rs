use std::collections::HashMap;

use countersign_node_proto::{ConnectionId, NodeId};

use crate::config::Mode;
use crate::registry::{Entry, Write};

/// What the registry was last known to hold of this node, so that it can be given again to a Redis that lost it.
///
/// Costs a few hundred bytes a connection. Only confirmed writes are here, but for removals and lapses: a connection that is gone
/// must not be given again, nor one that is verified no more as verified, whether or not Redis confirmed that.
#[derive(Debug)]
pub(super) struct Mirror {
    node: NodeId,
    entries: HashMap<ConnectionId, Entry>,
    /// The life of the link on which Redis was last made equal to this.
    pub(super) checked_epoch: u64,
    /// Redis lost something since.
    pub(super) lost: bool,
}

impl Mirror {
    pub(super) fn new(node: NodeId) -> Self {
        Self { node, entries: HashMap::new(), checked_epoch: 0, lost: false }
    }

    /// Notes what ends or lapses, before it is sent.
    pub(super) fn forget_ended(&mut self, writes: &[Write]) {
        writes.iter().filter(|write| matches!(write, Write::Remove(..) | Write::Lapse(..))).for_each(|write| self.apply(write));
    }

    /// Notes what was confirmed.
    pub(super) fn confirm(&mut self, writes: &[Write]) {
        writes.iter().for_each(|write| self.apply(write));
    }

    pub(super) fn forget_node(&mut self, node: NodeId) {
        if node == self.node {
            self.entries.clear();
        }
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.entries.keys().copied().collect()
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn apply(&mut self, write: &Write) {
        let (id, generation) = match write {
            Write::Register(entry) => {
                if entry.node == self.node {
                    self.entries.insert(entry.id, (**entry).clone());
                }
                return;
            }
            Write::Verify(id, generation, _)
            | Write::Lapse(id, generation)
            | Write::Refresh(id, generation, _)
            | Write::Subscribe(id, generation, _)
            | Write::Unsubscribe(id, generation, _)
            | Write::Remove(id, generation) => (id, generation),
        };
        let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.generation == *generation) else { return };
        match write {
            Write::Verify(_, _, mode) => (entry.verified, entry.mode) = (true, *mode),
            Write::Lapse(..) => (entry.verified, entry.mode) = (false, Mode::default()),
            Write::Refresh(_, _, expires_at) => entry.expires_at = *expires_at,
            Write::Subscribe(_, _, channel) if !entry.subscriptions.contains(channel) => {
                entry.subscriptions.push(channel.clone());
            }
            Write::Unsubscribe(_, _, channel) => entry.subscriptions.retain(|held| held != channel),
            // A batch may remove and register again: the removal noted before it was sent came too early for that.
            Write::Remove(..) => {
                self.entries.remove(id);
            }
            Write::Register(_) | Write::Subscribe(..) => {}
        }
    }
}
