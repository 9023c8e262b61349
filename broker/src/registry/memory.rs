use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use countersign_node_proto::{ChannelName, ConnectionId, Generation, NodeId};
use tokio::time::Instant;

use super::{Entry, Page, Registry, RegistryUnavailable, Write};
use crate::config::Mode;

/// The registry of one process: of a single node, or of several nodes in a test.
///
/// Nodes share it through an `Arc`. It never fails. An entry whose node's lease ran out is hidden, and shows again if the
/// node renews; only [`Registry::forget_node`] takes it away.
#[derive(Debug, Default)]
pub struct MemoryRegistry {
    tables: Mutex<Tables>,
}

/// The entries and their indexes; each method keeps them equal.
#[derive(Debug, Default)]
struct Tables {
    entries: HashMap<ConnectionId, Entry>,
    leases: HashMap<NodeId, Instant>,
    by_node: HashMap<NodeId, HashSet<ConnectionId>>,
    by_principal: HashMap<String, BTreeSet<ConnectionId>>,
    by_channel: HashMap<ChannelName, BTreeSet<ConnectionId>>,
}

impl MemoryRegistry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The tables. No method leaves them half written, so a panic elsewhere does not spoil them.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn apply(&self, writes: &[Write]) -> Result<(), RegistryUnavailable> {
        let mut tables = self.tables();
        writes.iter().for_each(|write| tables.apply(write));
        Ok(())
    }

    async fn find(&self, id: ConnectionId) -> Result<Option<Entry>, RegistryUnavailable> {
        let tables = self.tables();
        let now = Instant::now();
        Ok(tables.entries.get(&id).filter(|entry| tables.is_alive(entry.node, now)).cloned())
    }

    async fn by_principal(
        &self,
        principal: &str,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Page, RegistryUnavailable> {
        let tables = self.tables();
        Ok(tables.page(tables.by_principal.get(principal), after, limit))
    }

    async fn by_channel(
        &self,
        channel: &ChannelName,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Page, RegistryUnavailable> {
        let tables = self.tables();
        Ok(tables.page(tables.by_channel.get(channel), after, limit))
    }

    async fn count(&self) -> Result<usize, RegistryUnavailable> {
        let tables = self.tables();
        let now = Instant::now();
        Ok(tables.by_node.iter().filter(|(node, _)| tables.is_alive(**node, now)).map(|(_, ids)| ids.len()).sum())
    }

    async fn renew_lease(&self, node: NodeId, lease: Duration) -> Result<(), RegistryUnavailable> {
        self.tables().leases.insert(node, Instant::now() + lease);
        Ok(())
    }

    async fn forget_node(&self, node: NodeId) -> Result<(), RegistryUnavailable> {
        let mut tables = self.tables();
        tables.leases.remove(&node);
        for id in tables.by_node.get(&node).cloned().unwrap_or_default() {
            tables.remove(id);
        }
        Ok(())
    }
}

impl Tables {
    /// Applies one write, or does nothing if its condition fails.
    fn apply(&mut self, write: &Write) {
        match write {
            Write::Register(entry) => self.insert((**entry).clone()),
            Write::Verify(id, generation, mode) => {
                if let Some(entry) = self.current(*id, *generation) {
                    (entry.verified, entry.mode) = (true, *mode);
                }
            }
            Write::Lapse(id, generation) => {
                if let Some(entry) = self.current(*id, *generation) {
                    (entry.verified, entry.mode) = (false, Mode::default());
                }
            }
            Write::Refresh(id, generation, expires_at) => {
                if let Some(entry) = self.current(*id, *generation) {
                    entry.expires_at = *expires_at;
                }
            }
            Write::Subscribe(id, generation, channel) => self.subscribe(*id, *generation, channel),
            Write::Unsubscribe(id, generation, channel) => self.unsubscribe(*id, *generation, channel),
            Write::Remove(id, generation) => {
                if self.current(*id, *generation).is_some() {
                    self.remove(*id);
                }
            }
        }
    }

    /// The entry, if it is of this generation.
    fn current(&mut self, id: ConnectionId, generation: Generation) -> Option<&mut Entry> {
        self.entries.get_mut(&id).filter(|entry| entry.generation == generation)
    }

    fn insert(&mut self, entry: Entry) {
        self.remove(entry.id);
        self.by_node.entry(entry.node).or_default().insert(entry.id);
        if let Some(principal) = &entry.principal {
            self.by_principal.entry(principal.clone()).or_default().insert(entry.id);
        }
        for channel in &entry.subscriptions {
            self.by_channel.entry(channel.clone()).or_default().insert(entry.id);
        }
        self.entries.insert(entry.id, entry);
    }

    fn remove(&mut self, id: ConnectionId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        if let Some(ids) = self.by_node.get_mut(&entry.node) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_node.remove(&entry.node);
            }
        }
        if let Some(principal) = &entry.principal {
            leave(&mut self.by_principal, principal, id);
        }
        for channel in &entry.subscriptions {
            leave(&mut self.by_channel, channel, id);
        }
    }

    fn subscribe(&mut self, id: ConnectionId, generation: Generation, channel: &ChannelName) {
        let Some(entry) = self.current(id, generation) else { return };
        if !entry.subscriptions.contains(channel) {
            entry.subscriptions.push(channel.clone());
            self.by_channel.entry(channel.clone()).or_default().insert(id);
        }
    }

    fn unsubscribe(&mut self, id: ConnectionId, generation: Generation, channel: &ChannelName) {
        let Some(entry) = self.current(id, generation) else { return };
        entry.subscriptions.retain(|held| held != channel);
        leave(&mut self.by_channel, channel, id);
    }

    fn is_alive(&self, node: NodeId, now: Instant) -> bool {
        self.leases.get(&node).is_some_and(|until| now < *until)
    }

    /// Identifiers in their own order, so that a page is stable while others come and go.
    fn page(&self, index: Option<&BTreeSet<ConnectionId>>, after: Option<ConnectionId>, limit: usize) -> Page {
        let now = Instant::now();
        let lives = |id: &&ConnectionId| self.entries.get(id).is_some_and(|entry| self.is_alive(entry.node, now));
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = index.into_iter().flat_map(|ids| ids.range((start, Bound::Unbounded))).filter(lives);
        let mut ids: Vec<ConnectionId> = rest.take(limit.saturating_add(1)).copied().collect();
        let more = ids.len() > limit;
        ids.truncate(limit);
        Page { next: if more { ids.last().copied() } else { None }, ids }
    }
}

/// Takes an identifier out of an index, and the key with its last one.
fn leave<K: std::hash::Hash + Eq>(index: &mut HashMap<K, BTreeSet<ConnectionId>>, key: &K, id: ConnectionId) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::registry::conformance;

    #[tokio::test(start_paused = true)]
    async fn memory_registry_conforms() {
        conformance::run(|| async { Arc::new(MemoryRegistry::new()) }, tokio::time::advance).await;
    }

    #[tokio::test]
    async fn indexes_are_empty_after_the_last_entry() {
        let registry = MemoryRegistry::new();
        let entry = conformance::entry(1, 1);
        let (id, generation) = (entry.id, entry.generation);
        let channel = ChannelName::new("c").unwrap();
        let writes =
            [Write::Register(Box::new(entry)), Write::Subscribe(id, generation, channel), Write::Remove(id, generation)];
        registry.apply(&writes).await.unwrap();
        let tables = registry.tables();
        assert!(tables.entries.is_empty() && tables.by_node.is_empty());
        assert!(tables.by_principal.is_empty() && tables.by_channel.is_empty());
    }
}
