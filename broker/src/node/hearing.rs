use std::sync::Arc;

use countersign_node_proto::{Ask, Disconnected, NodeId, NodeMessage, Question, Reply};

use crate::authorizer::Authorizer;
use crate::challenge::HeldPrograms;
use crate::cluster::{Asker, BusListener};
use crate::hub::Hub;
use crate::management::{Challenger, Disconnector};
use crate::registry::LiveConnections;

/// Does what other nodes ask of this one.
pub(super) struct Hearing {
    pub(super) hub: Arc<Hub>,
    pub(super) live: Arc<LiveConnections>,
    pub(super) authorizer: Arc<Authorizer>,
    pub(super) disconnector: Arc<Disconnector>,
    pub(super) challenger: Arc<Challenger>,
    pub(super) asker: Arc<Asker>,
    pub(super) held: Arc<HeldPrograms>,
}

impl BusListener for Hearing {
    fn heard(&self, from: NodeId, message: NodeMessage) {
        match message {
            NodeMessage::Publication(publication) => {
                if let Err(error) = self.hub.publish_local(publication) {
                    tracing::warn!(?from, %error, "publication of another node was not delivered here");
                }
            }
            NodeMessage::Post(post) => {
                let delivered = self.live.get(post.connection).map(|connection| connection.mailbox.post(post.payload));
                if !matches!(delivered, Some(Ok(()))) {
                    tracing::debug!(?from, connection = ?post.connection, "post of another node was not delivered here");
                }
            }
            NodeMessage::Disconnect(order) => {
                self.disconnector.disconnect_here(&order);
            }
            NodeMessage::Invalidate(what) => self.authorizer.invalidate(&what),
            NodeMessage::Calls(calls) => self.authorizer.count_calls(&calls),
            NodeMessage::Ask(Ask { number, question: Question::Connection(question) }) => {
                self.asker.reply(from, number, Reply::Connection(self.authorizer.own_connection(question.connection)));
            }
            NodeMessage::Ask(Ask { number, question }) => {
                let (authorizer, held) = (Arc::clone(&self.authorizer), Arc::clone(&self.held));
                let (challenger, disconnector) = (Arc::clone(&self.challenger), Arc::clone(&self.disconnector));
                self.asker.answer(from, number, move || match question {
                    Question::Connection(question) => Reply::Connection(authorizer.own_connection(question.connection)),
                    Question::Proof(proof) => Reply::Proof(authorizer.answer(&proof)),
                    Question::Program(program) => Reply::Program(held.take_by_text(&program.handle)),
                    Question::Challenge(order) => Reply::Challenge(challenger.order_here(order.connection)),
                    Question::Disconnect(order) => {
                        Reply::Disconnect(Disconnected { closed: disconnector.disconnect_here(&order) as u64 })
                    }
                    Question::Unknown => Reply::NotUnderstood,
                });
            }
            NodeMessage::Answer(answer) => self.asker.answered(from, answer),
        }
    }

    fn gap(&self) {
        tracing::warn!("messages of other nodes may have been lost, cached decisions are dropped");
        self.authorizer.invalidate_all();
    }
}

#[cfg(test)]
#[path = "hearing_tests.rs"]
mod tests;
