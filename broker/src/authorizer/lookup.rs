//! What is found out about a connection of another node: the registry's word, and its owner's where the registry may be behind.

use std::sync::Arc;
use std::time::Duration;

use countersign_node_proto::{ConnectionId, ConnectionQuestion, NodeId, OwnedConnection, Question, Reply};
use tokio::sync::Semaphore;

use super::cache::{Found, Known};
use super::suspects::Suspects;
use crate::cluster::Asker;
use crate::config::Mode;
use crate::edge::IdentityHeaders;
use crate::registry::{Registry, RegistryUnavailable};
use crate::ticket::TicketOffice;

/// Owners that are asked at once: what is above that has the registry's word alone, and leaves room for questions about proofs.
const ASKING_MAX: usize = 1_024;

/// Asks the registry, and the owner.
///
/// The registry is behind its writers: a page calls as soon as it is told that it is verified, a server that took over may have
/// lost what is written again only now, and one that refuses writes does not hear of ends at all. The owner alone is never
/// behind. It is asked where the registry denies, and where something was heard against the connection lately; whoever does not
/// answer leaves the registry's word. Both words are remembered by the cache, so that a denial costs a question a second at most.
pub(super) struct LookUp {
    node: NodeId,
    registry: Arc<dyn Registry>,
    registry_timeout: Duration,
    asker: Arc<Asker>,
    suspects: Arc<Suspects>,
    /// Tells the time of what was heard.
    tickets: Arc<TicketOffice>,
    room: Semaphore,
}

impl LookUp {
    pub(super) fn new(
        node: NodeId,
        (registry, registry_timeout): (Arc<dyn Registry>, Duration),
        asker: Arc<Asker>,
        suspects: Arc<Suspects>,
        tickets: Arc<TicketOffice>,
    ) -> Arc<Self> {
        Arc::new(Self { node, registry, registry_timeout, asker, suspects, tickets, room: Semaphore::new(ASKING_MAX) })
    }

    /// `owner`: who is said to own it, if the registry does not tell.
    pub(super) async fn find(self: Arc<Self>, id: ConnectionId, owner: Option<NodeId>) -> Result<Found, RegistryUnavailable> {
        let found = tokio::time::timeout(self.registry_timeout, self.registry.find(id)).await;
        let found = found.unwrap_or_else(|_| Err(RegistryUnavailable("timed out".to_owned())))?;
        // An entry of this node whose connection is not live is one whose removal is still on its way.
        let found = found.filter(|entry| entry.node != self.node);
        let denied = found.as_ref().is_none_or(|entry| !entry.verified);
        let subject = found.as_ref().and_then(|entry| entry.principal.as_deref());
        let named = self.suspects.names(id, subject, self.tickets.now_ms());
        let owner = found.as_ref().map(|entry| entry.node).or(owner).filter(|owner| *owner != self.node);
        if let (true, Some(owner)) = (denied || named, owner) {
            return Ok(match self.ask(owner, id).await {
                Some(word) => Found { known: word.map(|word| known(owner, word)), doubtful: false },
                None => Found { doubtful: named, ..Found::from(found) },
            });
        }
        Ok(Found::from(found))
    }

    /// The owner's word, if it can be had: how the connection stands, if it is open there.
    async fn ask(&self, owner: NodeId, connection: ConnectionId) -> Option<Option<OwnedConnection>> {
        let _room = self.room.try_acquire().ok()?;
        match self.asker.ask(owner, Question::Connection(ConnectionQuestion { connection })).await {
            Ok(Reply::Connection(word)) => Some(word),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(?owner, %error, "a connection is judged by the registry alone");
                None
            }
        }
    }
}

/// What an owner says of its connection, as it is remembered. A mode of a newer node is the strictest.
fn known(node: NodeId, word: OwnedConnection) -> Known {
    let OwnedConnection { verified, mode, expires_at, subject, issuer, origin } = word;
    let headers = Arc::new(IdentityHeaders::new(subject.as_deref(), issuer.as_deref(), origin.as_deref()));
    Known { node, subject, issuer, verified, mode: Mode::parse(&mode).unwrap_or(Mode::Proof), expires_at, headers }
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
