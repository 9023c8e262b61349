//! What the nodes of a Countersign cluster say to each other.
//!
//! Pure code: no I/O, no clock, no randomness and no actor runtime may be imported here, so that every byte that two nodes
//! of different versions exchange can be tested as data.
//!
//! - [`id`]: identifiers of nodes and connections, and the generation that tells two lives of one entry apart.
//! - [`channel`]: the name of a channel, validated once at the edge.
//! - [`ask`]: questions from one node to another, and their answers.
//! - [`message`]: what travels over the bus.
//! - [`wire`]: how it travels: envelope, numbering, encoding, and what becomes of kinds that this version does not know.
//! - [`layout`]: under which names it is kept and said in Redis.
//! - [`slot`]: where a Redis Cluster keeps such a name.

mod ask;
mod channel;
mod id;
mod layout;
mod message;
mod slot;
mod wire;

pub use ask::{
    Answer, Ask, ChallengeQuestion, ChallengeVerdict, ConnectionQuestion, Disconnected, OwnedConnection, ProgramQuestion,
    ProofQuestion, ProofVerdict, Question, Reply,
};
pub use channel::{ChannelName, ChannelNameError};
pub use id::{ConnectionId, Generation, IdError, NodeId};
pub use layout::{Layout, PrefixError, Topic};
pub use message::{Calls, Disconnect, Invalidate, NodeMessage, Payload, Post, PrincipalName, Publication};
pub use slot::{SLOTS, slot_of};
pub use wire::{DecodeError, Decoded, EncodeError, EncodedBody, Envelope, Message, VERSION, decode};
