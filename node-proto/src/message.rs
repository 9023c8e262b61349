use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Answer, Ask, ChannelName, ConnectionId};

/// What a frame carries to a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// Valid UTF-8, delivered as a text frame.
    Text(String),
    /// Delivered as a binary frame.
    Binary(Bytes),
}

/// One message to all subscribers of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// Where it goes.
    pub channel: ChannelName,
    /// What it carries; for native clients a text payload is the JSON value of `data`.
    pub payload: Payload,
    /// A connection that must not get it: the sender, where the route says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude: Option<ConnectionId>,
}

/// One message to one connection, sent to the node that owns it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// The receiver.
    pub connection: ConnectionId,
    /// What it gets.
    pub payload: Payload,
}

/// Whom connections belong to. A subject is unique within its issuer only.
///
/// On the wire the subject alone where no issuer is named, as it was before issuers were; else a map of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PrincipalForm", into = "PrincipalForm")]
pub struct PrincipalName {
    /// `sub` of the tokens.
    pub subject: String,
    /// The issuer, as nodes name it in their configuration; `pool` for the nodes' own. None: whichever.
    pub issuer: Option<String>,
}

impl PrincipalName {
    /// Is this the subject of that issuer? Of a connection whose issuer is not known, it may be.
    #[must_use]
    pub fn may_be(&self, issuer: Option<&str>, subject: &str) -> bool {
        let other_issuer = self.issuer.as_deref().zip(issuer).is_some_and(|(ours, theirs)| ours != theirs);
        self.subject == subject && !other_issuer
    }
}

impl From<&str> for PrincipalName {
    fn from(subject: &str) -> Self {
        Self { subject: subject.to_owned(), issuer: None }
    }
}

/// The two shapes of a principal on the wire.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum PrincipalForm {
    Anyones(String),
    Issuers { subject: String, issuer: String },
}

impl From<PrincipalForm> for PrincipalName {
    fn from(form: PrincipalForm) -> Self {
        match form {
            PrincipalForm::Anyones(subject) => Self { subject, issuer: None },
            PrincipalForm::Issuers { subject, issuer } => Self { subject, issuer: Some(issuer) },
        }
    }
}

impl From<PrincipalName> for PrincipalForm {
    fn from(name: PrincipalName) -> Self {
        match name.issuer {
            None => Self::Anyones(name.subject),
            Some(issuer) => Self::Issuers { subject: name.subject, issuer },
        }
    }
}

/// An order to close connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disconnect {
    /// One connection.
    Connection(ConnectionId),
    /// Every connection of a principal.
    Principal(PrincipalName),
}

/// Cached decisions to drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Invalidate {
    /// Of one connection: it closed, or became verified.
    Connection(ConnectionId),
    /// Of every connection of a principal.
    Principal(PrincipalName),
    /// Of all.
    All,
}

/// Calls that were allowed in the name of connections of the node that is told, which did not hear of them otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// How many for which connection, since this was last said. One that the receiver does not own is to be skipped.
    pub calls: Vec<(ConnectionId, u32)>,
}

/// Everything that nodes tell each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeMessage {
    /// To the subscribers of a channel.
    Publication(Publication),
    /// To one connection.
    Post(Post),
    /// Close.
    Disconnect(Disconnect),
    /// Forget decisions.
    Invalidate(Invalidate),
    /// Calls to be counted.
    Calls(Calls),
    /// A question to one node.
    Ask(Ask),
    /// The answer to a question.
    Answer(Answer),
}
