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

/// An order to close connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disconnect {
    /// One connection.
    Connection(ConnectionId),
    /// Every connection of a principal.
    Principal(String),
}

/// Cached decisions to drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Invalidate {
    /// Of one connection: it closed, or became verified.
    Connection(ConnectionId),
    /// Of every connection of a principal.
    Principal(String),
    /// Of all.
    All,
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
    /// A question to one node.
    Ask(Ask),
    /// The answer to a question.
    Answer(Answer),
}
