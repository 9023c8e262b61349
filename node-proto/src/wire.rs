//! The envelope, and the encoding of everything that travels over the bus.
//!
//! A frame is one MessagePack map with named fields (<https://github.com/msgpack/msgpack/blob/master/spec.md>):
//! `v` version, `n` sender, `s` sequence, `t` sent at, `k` kind, `b` the encoded body. What is added later is skipped by
//! nodes that do not know it; a field that changes its meaning asks for a new kind or a new [`VERSION`].

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ask::Enclosed;
use crate::{Calls, Disconnect, Invalidate, NodeId, NodeMessage, Post, Publication};

/// The version that this code speaks. The map of the envelope stays readable for every later one.
pub const VERSION: u16 = 1;

/// Levels of nesting in a frame or a body; ours have three.
const DEPTH_MAX: usize = 16;

/// Bytes of an unknown kind's name that are kept.
const KIND_LEN_MAX: usize = 32;

/// Who said something, when, and as which in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The sender's life: a node that starts again is another sender.
    pub from: NodeId,
    /// Number within the sender's stream, counted from 1 without holes; 0: not numbered.
    ///
    /// Broadcasts are one stream, messages to one node another. Publications are not numbered: a table of numbers by
    /// channel would grow with what clients name.
    pub sequence: u64,
    /// Milliseconds since the Unix epoch by the sender's clock. For people and histograms, never for decisions.
    pub sent_at_ms: u64,
}

/// Everything that travels: what the broker's rooms tell each other, and what the bus tells itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Handed to the listener.
    Node(NodeMessage),
    /// To all, about once a second: the sender lives, and its broadcasts up to this one's number were sent.
    Heartbeat {
        /// Counts up with the sender's life.
        beat: u64,
    },
    /// To the sender itself, which must hear it: proof that the link is not deaf.
    Probe {
        /// The heartbeat that it was sent after.
        beat: u64,
    },
}

/// A body that can be sealed under any envelope: encoded once, however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedBody {
    kind: &'static str,
    bytes: Bytes,
}

/// What a frame turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// Known.
    Message(Envelope, Message),
    /// Of a newer node: to be counted and skipped. Its number counts like any other's.
    Unknown {
        /// As far as this version understands it.
        envelope: Envelope,
        /// The version that the sender speaks.
        version: u16,
        /// At most 32 bytes of the kind's name.
        kind: String,
    },
}

/// A message cannot be encoded: a fault of this code, since every message can.
#[derive(Debug, thiserror::Error)]
#[error("message cannot be encoded: {0}")]
pub struct EncodeError(#[from] rmp_serde::encode::Error);

/// A frame is none: a foreign publisher on our channel, or a damaged store. Never worth more than a count.
#[derive(Debug, thiserror::Error)]
#[error("frame cannot be decoded: {0}")]
pub struct DecodeError(#[from] rmp_serde::decode::Error);

/// The map, as it is written.
#[derive(Serialize)]
struct FrameOut<'a> {
    v: u16,
    n: NodeId,
    s: u64,
    t: u64,
    k: &'a str,
    b: &'a Bytes,
}

/// The map, as it is read.
#[derive(Deserialize)]
struct FrameIn<'a> {
    v: u16,
    n: NodeId,
    #[serde(default)]
    s: u64,
    #[serde(default)]
    t: u64,
    #[serde(borrow)]
    k: &'a str,
    #[serde(borrow, default)]
    b: &'a [u8],
}

/// The body of heartbeats and probes.
#[derive(Serialize, Deserialize)]
struct Beat {
    beat: u64,
}

impl Decoded {
    /// A newer node told in words of its own what to forget: whoever remembers decisions must doubt all of them.
    #[must_use]
    pub fn may_invalidate(&self) -> bool {
        matches!(self, Self::Unknown { kind, .. } if kind == kind::INVALIDATE)
    }
}

impl Message {
    /// Encodes the body.
    ///
    /// # Errors
    /// [`EncodeError`], which no message of this crate meets.
    pub fn encode(&self) -> Result<EncodedBody, EncodeError> {
        let (kind, bytes) = match self {
            Self::Node(NodeMessage::Publication(body)) => (kind::PUBLICATION, rmp_serde::to_vec_named(body)),
            Self::Node(NodeMessage::Post(body)) => (kind::POST, rmp_serde::to_vec_named(body)),
            Self::Node(NodeMessage::Disconnect(body)) => (kind::DISCONNECT, rmp_serde::to_vec_named(body)),
            Self::Node(NodeMessage::Invalidate(body)) => (kind::INVALIDATE, rmp_serde::to_vec_named(body)),
            Self::Node(NodeMessage::Calls(body)) => (kind::CALLS, rmp_serde::to_vec_named(body)),
            Self::Node(NodeMessage::Ask(body)) => (kind::ASK, rmp_serde::to_vec_named(&body.enclose()?)),
            Self::Node(NodeMessage::Answer(body)) => (kind::ANSWER, rmp_serde::to_vec_named(&body.enclose()?)),
            Self::Heartbeat { beat } => (kind::HEARTBEAT, rmp_serde::to_vec_named(&Beat { beat: *beat })),
            Self::Probe { beat } => (kind::PROBE, rmp_serde::to_vec_named(&Beat { beat: *beat })),
        };
        Ok(EncodedBody { kind, bytes: bytes?.into() })
    }
}

impl EncodedBody {
    /// The whole frame.
    ///
    /// # Errors
    /// [`EncodeError`], which no body of this crate meets.
    pub fn seal(&self, envelope: &Envelope) -> Result<Vec<u8>, EncodeError> {
        let Envelope { from, sequence, sent_at_ms } = *envelope;
        let frame = FrameOut { v: VERSION, n: from, s: sequence, t: sent_at_ms, k: self.kind, b: &self.bytes };
        let mut bytes = Vec::with_capacity(self.bytes.len() + 64);
        rmp_serde::encode::write_named(&mut bytes, &frame)?;
        Ok(bytes)
    }

    /// Bytes of the body alone, for budgets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: every body is a map.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Reads a frame. Never panics; unknown fields are skipped, unknown kinds and newer versions are data.
///
/// # Errors
/// [`DecodeError`] if the bytes are no frame, or a known kind's body is none.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let frame: FrameIn<'_> = read(bytes)?;
    let envelope = Envelope { from: frame.n, sequence: frame.s, sent_at_ms: frame.t };
    let message = if frame.v > VERSION { None } else { body(frame.k, frame.b)? };
    Ok(match message {
        Some(message) => Decoded::Message(envelope, message),
        None => Decoded::Unknown { envelope, version: frame.v, kind: shortened(frame.k) },
    })
}

/// The names of the kinds on the wire; never reused.
mod kind {
    pub(super) const PUBLICATION: &str = "publication";
    pub(super) const POST: &str = "post";
    pub(super) const DISCONNECT: &str = "disconnect";
    pub(super) const INVALIDATE: &str = "invalidate";
    pub(super) const CALLS: &str = "calls";
    pub(super) const ASK: &str = "ask";
    pub(super) const ANSWER: &str = "answer";
    pub(super) const HEARTBEAT: &str = "heartbeat";
    pub(super) const PROBE: &str = "probe";
}

/// The body of a known kind.
fn body(kind: &str, bytes: &[u8]) -> Result<Option<Message>, DecodeError> {
    Ok(Some(match kind {
        kind::PUBLICATION => Message::Node(NodeMessage::Publication(read::<Publication>(bytes)?)),
        kind::POST => Message::Node(NodeMessage::Post(read::<Post>(bytes)?)),
        kind::DISCONNECT => Message::Node(NodeMessage::Disconnect(read::<Disconnect>(bytes)?)),
        kind::INVALIDATE => Message::Node(NodeMessage::Invalidate(read::<Invalidate>(bytes)?)),
        kind::CALLS => Message::Node(NodeMessage::Calls(read::<Calls>(bytes)?)),
        kind::ASK => Message::Node(NodeMessage::Ask(read::<Enclosed>(bytes)?.ask()?)),
        kind::ANSWER => Message::Node(NodeMessage::Answer(read::<Enclosed>(bytes)?.answer()?)),
        kind::HEARTBEAT => Message::Heartbeat { beat: read::<Beat>(bytes)?.beat },
        kind::PROBE => Message::Probe { beat: read::<Beat>(bytes)?.beat },
        _ => return Ok(None),
    }))
}

/// Reads a value. The depth is bounded: skipping an unknown field recurses, and the default of 1,024 levels can end the stack.
pub(crate) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, rmp_serde::decode::Error> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut deserializer)
}

/// A foreign name, cut at a character.
fn shortened(kind: &str) -> String {
    let mut end = kind.len().min(KIND_LEN_MAX);
    while !kind.is_char_boundary(end) {
        end -= 1;
    }
    kind[..end].to_owned()
}

#[cfg(test)]
mod tests;
