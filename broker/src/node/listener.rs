//! What this node does with what other nodes say.

use std::sync::Arc;

use countersign_node_proto::{NodeId, NodeMessage};

use crate::authorizer::Authorizer;
use crate::cluster::BusListener;
use crate::hub::Hub;
use crate::management::Disconnector;
use crate::registry::LiveConnections;

/// Hands each message of the bus to whom it concerns. Nothing here waits.
pub struct NodeListener {
    /// Gets publications.
    pub hub: Arc<Hub>,
    /// Get posts.
    pub live: Arc<LiveConnections>,
    /// Gets invalidations.
    pub authorizer: Arc<Authorizer>,
    /// Gets disconnects.
    pub disconnector: Arc<Disconnector>,
}

impl BusListener for NodeListener {
    fn heard(&self, from: NodeId, message: NodeMessage) {
        match message {
            NodeMessage::Publication(publication) => {
                if let Err(error) = self.hub.publish_local(publication) {
                    // Counted by the hub. The publisher is told of its own node only: it cannot wait for all others.
                    tracing::debug!(%from, %error, "publication of another node dropped");
                }
            }
            NodeMessage::Post(post) => {
                if let Some(connection) = self.live.get(post.connection) {
                    // Gone or too slow: its own node has dealt with both.
                    let _ = connection.mailbox.post(post.payload);
                }
            }
            NodeMessage::Disconnect(order) => {
                self.disconnector.disconnect_here(&order);
            }
            NodeMessage::Invalidate(what) => self.authorizer.invalidate(&what),
        }
    }

    fn gap(&self) {
        tracing::warn!("messages of other nodes may be lost, forgetting what was learned from them");
        self.authorizer.invalidate_all();
    }
}

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
