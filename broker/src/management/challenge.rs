use std::sync::Arc;

use countersign_node_proto::{ChallengeQuestion, ChallengeVerdict, ConnectionId, NodeId, Question, Reply};

use crate::cluster::{AskError, Asker};
use crate::registry::{ConnectionState, LiveConnections, Registry, RegistryUnavailable};
use crate::telemetry::AgainCause;

/// Has connections challenged again, of this node and of others.
///
/// Only the owner knows whether that is possible, so it decides and says what came of it: an order that nobody confirmed counts
/// as no order.
pub struct Challenger {
    node: NodeId,
    live: Arc<LiveConnections>,
    registry: Arc<dyn Registry>,
    asker: Arc<Asker>,
}

/// Why nobody knows whether a connection is challenged again. The order may be repeated: one challenge at a time is under way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeOrderError {
    /// Nobody knows which node has the connection.
    #[error(transparent)]
    Registry(#[from] RegistryUnavailable),
    /// The node that has it is of a version that cannot be told.
    #[error("the node that owns the connection is of another version and cannot be told: ask it itself")]
    OtherVersion,
    /// The node that has it did not answer.
    #[error(transparent)]
    Asker(AskError),
}

impl From<AskError> for ChallengeOrderError {
    fn from(error: AskError) -> Self {
        if error == AskError::NotUnderstood { Self::OtherVersion } else { Self::Asker(error) }
    }
}

impl Challenger {
    /// A challenger over this node's connections and the cluster.
    #[must_use]
    pub fn new(node: NodeId, live: Arc<LiveConnections>, registry: Arc<dyn Registry>, asker: Arc<Asker>) -> Self {
        Self { node, live, registry, asker }
    }

    /// Challenges a connection again, wherever it is. Never answers [`ChallengeVerdict::Unknown`].
    ///
    /// # Errors
    /// [`ChallengeOrderError`]: it may have been ordered all the same.
    pub async fn order(&self, id: ConnectionId) -> Result<ChallengeVerdict, ChallengeOrderError> {
        let here = self.order_here(id);
        if here != ChallengeVerdict::ConnectionUnknown {
            return Ok(here);
        }
        // An entry of this node whose connection is not live is one whose removal is still on its way.
        let owner = self.registry.find(id).await?.map(|entry| entry.node).filter(|owner| *owner != self.node);
        let Some(owner) = owner else { return Ok(here) };
        match self.asker.ask(owner, Question::Challenge(ChallengeQuestion { connection: id })).await? {
            Reply::Challenge(verdict) if verdict != ChallengeVerdict::Unknown => Ok(verdict),
            _ => Err(ChallengeOrderError::OtherVersion),
        }
    }

    /// Challenges a connection of this node again, as a server or another node ordered. Never waits.
    #[must_use]
    pub fn order_here(&self, id: ConnectionId) -> ChallengeVerdict {
        let Some(connection) = self.live.get(id) else { return ChallengeVerdict::ConnectionUnknown };
        if connection.state() != ConnectionState::Verified || connection.bound().is_none() {
            return ChallengeVerdict::NotPossible;
        }
        connection.mailbox.challenge(AgainCause::Server);
        ChallengeVerdict::Ordered
    }
}
