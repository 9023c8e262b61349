//! The native dialect: subprotocol `countersign.v1`, one JSON object per text frame.
//!
//! Decoding is strict: a member that is unknown, given twice, missing or of another kind is refused, so that no two
//! parsers can read one frame differently.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_node_proto::{ChannelName, ConnectionId};
use serde::de::{self, Deserializer, IgnoredAny, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::request::{ErrorCode, Failure, OfferedForms, Request, Token, json};
use super::session::ChallengeFrame;
use crate::challenge::{
    Answer, AnswerMac, AnswerSignature, ChallengeId, FileQuestion, Hello, NativeAnswer, Work, base64url, hello_digest, present,
};
use crate::config::{ChallengeForm, Mode};
use crate::page_key::PageKey;

/// The client's name for a request: an unsigned integer, or a string of at most 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum RequestId {
    /// A number.
    Number(u64),
    /// A text.
    Text(Box<str>),
}

impl RequestId {
    /// Bytes of the longest text.
    pub const TEXT_MAX: usize = 64;
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl Visitor<'_> for IdVisitor {
            type Value = RequestId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an unsigned integer or a string of at most 64 bytes")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<RequestId, E> {
                Ok(RequestId::Number(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RequestId, E> {
                if text.len() > RequestId::TEXT_MAX {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(RequestId::Text(text.into()))
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}

/// One request of a native client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeRequest {
    /// Its id; the reply carries it.
    pub id: RequestId,
    /// What is asked for.
    pub act: Act,
}

/// What a native client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Something that the node does by itself.
    Request(Request),
    /// An action that only the `routes` table can know; the whole frame is its message.
    Route {
        /// Its name.
        action: String,
    },
}

/// Why a frame is no request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// No JSON object with an id and an action: there is nothing to reply to. Closes with 4400.
    Fatal,
    /// Answered with an error.
    Reply(RequestId, Failure),
}

/// Decodes one text frame.
///
/// # Errors
/// [`Refused`], always the client's fault.
pub fn parse(text: &str) -> Result<NativeRequest, Refused> {
    // A derived struct would also take a JSON array, member by member.
    if !is_object(text) {
        return Err(Refused::Fatal);
    }
    let Ok(Envelope { id, action }) = serde_json::from_str(text) else { return Err(Refused::Fatal) };
    match act(&action, text) {
        Some(act) => Ok(NativeRequest { id, act }),
        None => Err(Refused::Reply(id, ErrorCode::BadRequest.into())),
    }
}

/// Is the first thing of this text an object's brace?
pub(super) fn is_object(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{')
}

/// What every request has; the rest is read once the action is known.
#[derive(Deserialize)]
struct Envelope<'a> {
    id: RequestId,
    #[serde(borrow)]
    action: Cow<'a, str>,
}

/// Reads the arguments of an action.
fn act(action: &str, text: &str) -> Option<Act> {
    let request = match action {
        "hello" => hello(text)?,
        "answer" => Request::Answer(answer(text)),
        "ping" => arguments::<NoArguments>(text).map(|_| Request::Ping)?,
        "subscribe" => Request::Subscribe(arguments::<ChannelArguments>(text)?.channel),
        "unsubscribe" => Request::Unsubscribe(arguments::<ChannelArguments>(text)?.channel),
        "publish" => {
            let PublishArguments { channel, data, exclude, .. } = arguments(text)?;
            Request::Publish { channel, data: data.get().to_owned(), exclude }
        }
        "refresh" => Request::Refresh { token: Token(arguments::<RefreshArguments>(text)?.token) },
        _ => return Some(Act::Route { action: action.to_owned() }),
    };
    Some(Act::Request(request))
}

/// Reads all of a frame as the arguments of one action.
fn arguments<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok()
}

/// Declares the members of a request beside its id and action, which the envelope holds already.
macro_rules! arguments {
    ($name:ident { $($(#[$meta:meta])* $member:ident: $kind:ty),* }) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name<'a> {
            #[serde(rename = "id")]
            _id: IgnoredAny,
            #[serde(rename = "action")]
            _action: IgnoredAny,
            #[serde(skip)]
            _frame: std::marker::PhantomData<&'a str>,
            $($(#[$meta])* $member: $kind,)*
        }
    };
}

arguments!(NoArguments {});
arguments!(ChannelArguments { channel: ChannelName });
arguments!(RefreshArguments { token: String });
arguments!(PublishArguments {
    channel: ChannelName,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default)]
    exclude: bool
});
arguments!(HelloArguments {
    #[serde(borrow)]
    forms: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    nonce: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(default)]
    mode: Mode
});
arguments!(AnswerArguments {
    challenge: ChallengeId,
    epoch: u32,
    origin: String,
    #[serde(default, rename = "topOrigin", deserialize_with = "present")]
    top_origin: Option<String>,
    mac: AnswerMac,
    signature: AnswerSignature,
    #[serde(default, deserialize_with = "present")]
    work: Option<Vec<u32>>
});

/// Reads a hello. Forms that this node does not know are a newer client's; a mode that it does not know is one that it
/// cannot hold to.
fn hello(text: &str) -> Option<Request> {
    let HelloArguments { forms, nonce, key, mode, .. } = arguments(text)?;
    let has = |form: ChallengeForm| forms.iter().any(|offered| offered == form.name());
    let [vm, source, frame] = [ChallengeForm::Vm, ChallengeForm::Source, ChallengeForm::Frame].map(has);
    let offered = OfferedForms { vm, source, frame };
    let key = PageKey::parse(base64url(&key)?)?;
    let hello = Hello { nonce: base64url(&nonce)?, digest: hello_digest(text), key, wish: mode, mode };
    Some(Request::Hello { offered, hello })
}

/// Reads an answer. A malformed one is an attempt too.
fn answer(text: &str) -> Answer {
    arguments(text).map_or(
        Answer::Malformed,
        |AnswerArguments { challenge, epoch, origin, top_origin, mac, signature, work, .. }| {
            Answer::Native(NativeAnswer { challenge, epoch, origin, top_origin, mac, signature, work })
        },
    )
}

/// `{"id":…,"ok":…}`
#[must_use]
pub fn ok(id: &RequestId, result: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Reply<'a, T> {
        id: &'a RequestId,
        ok: &'a T,
    }
    json(&Reply { id, ok: result })
}

/// `{"id":…,"error":{"code":…,"message":…}}`
#[must_use]
pub fn error(id: &RequestId, failure: &Failure) -> String {
    #[derive(Serialize)]
    struct Reply<'a> {
        id: &'a RequestId,
        error: &'a Failure,
    }
    json(&Reply { id, error: failure })
}

/// What a text is to native clients: the JSON that it holds, else itself as a JSON string.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Data<'a> {
    /// Valid JSON.
    Json(&'a RawValue),
    /// Any other text.
    Text(&'a str),
}

impl<'a> From<&'a str> for Data<'a> {
    fn from(text: &'a str) -> Self {
        serde_json::from_str(text).map_or(Self::Text(text), Self::Json)
    }
}

/// What the node pushes; the tag is `event`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Push<'a> {
    /// The first frame of a connection.
    Welcome {
        /// Its id.
        connection_id: ConnectionId,
        /// `required`, or `off` where none will come.
        challenge: &'static str,
        /// Whom its token names.
        subject: Option<&'a str>,
        /// When its token expires, in seconds since the Unix epoch.
        expires_at: Option<u64>,
    },
    /// The program to run.
    Challenge {
        /// The challenge's id, base64url.
        challenge: String,
        /// Its epoch.
        epoch: u32,
        /// `vm` or `source`.
        form: &'static str,
        /// The server's nonce, base64url.
        nonce: String,
        /// Bytecode in base64url, the printed function, or the handle by which a frame fetches its bytecode.
        program: &'a str,
        /// SHA-256 of what the frame will fetch, base64url: the page has not got it.
        #[serde(skip_serializing_if = "Option::is_none")]
        program_hash: Option<String>,
        /// Milliseconds that the answer may take.
        answer_ms: u64,
        /// The least that REST calls in the connection's name must show.
        mode: &'static str,
        /// The name of the key that signed all of this, where the form is signed.
        #[serde(skip_serializing_if = "Option::is_none")]
        signer: Option<&'a str>,
        /// Its signature, base64url.
        #[serde(skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
        /// Puzzles to solve too.
        #[serde(skip_serializing_if = "Option::is_none")]
        work: Option<Work>,
        /// The part of a file to read.
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<&'a FileQuestion>,
    },
    /// The answer was right.
    Verified {
        /// What the connection's REST calls carry from now on.
        connection_id: ConnectionId,
    },
    /// What the page's REST calls show from now on, until the next.
    Ticket {
        /// The ticket.
        ticket: &'a str,
        /// The nonce for proofs, base64url.
        nonce: &'a str,
        /// Milliseconds from now until the ticket expires.
        expires_in_ms: u64,
    },
    /// The answer was wrong or late, and the connection stays open and unverified.
    ChallengeFailed {
        /// The subscriptions that ended with it: those that need a verified connection.
        #[serde(skip_serializing_if = "<[ChannelName]>::is_empty")]
        unsubscribed: &'a [ChannelName],
    },
    /// The channel that the handshake named was refused; the connection stays open without it.
    SubscribeRefused {
        /// The channel as the handshake named it.
        channel: &'a str,
        /// Why.
        error: Failure,
    },
    /// A message to this connection alone.
    Message {
        /// What it says.
        data: Data<'a>,
    },
}

impl<'a> Push<'a> {
    /// The challenge of a native client.
    #[must_use]
    pub fn challenge(frame: &'a ChallengeFrame, answer_ms: u64) -> Self {
        Self::Challenge {
            challenge: URL_SAFE_NO_PAD.encode(frame.challenge_id),
            epoch: frame.epoch,
            form: frame.form.name(),
            nonce: URL_SAFE_NO_PAD.encode(frame.server_nonce),
            program: &frame.program,
            program_hash: frame.program_hash.map(|hash| URL_SAFE_NO_PAD.encode(hash)),
            answer_ms,
            mode: frame.mode.name(),
            signer: frame.signature.as_ref().map(|signed| signed.signer.as_str()),
            signature: frame.signature.as_ref().map(|signed| URL_SAFE_NO_PAD.encode(signed.signature)),
            work: frame.work,
            file: frame.file.as_ref(),
        }
    }

    /// Its text frame.
    #[must_use]
    pub fn encode(&self) -> String {
        json(self)
    }
}

#[cfg(test)]
#[path = "native_tests.rs"]
mod tests;
