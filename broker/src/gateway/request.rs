use countersign_node_proto::ChannelName;
use serde::Serialize;

use super::native::RequestId;
use super::{native, plain};
use crate::challenge::{Answer, Hello};
use crate::config::ChallengeForm;

/// What a client asks the node itself to do, in whichever dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A native client is ready for its challenge.
    Hello {
        /// The forms of a program that it can run.
        offered: OfferedForms,
        /// What its challenges are bound to.
        hello: Hello,
    },
    /// The answer to the challenge.
    Answer(Answer),
    /// A sign of life.
    Ping,
    /// Subscribe to a channel.
    Subscribe(ChannelName),
    /// End a subscription.
    Unsubscribe(ChannelName),
    /// Publish.
    Publish {
        /// Where.
        channel: ChannelName,
        /// What: a JSON value, as the client wrote it.
        data: String,
        /// The sender does not want its own publication.
        exclude: bool,
    },
    /// Replace the connection's token by this one.
    Refresh {
        /// A token, unverified. Never logged.
        token: Token,
    },
}

/// Which forms a client can run; those that this node does not know are a newer client's and not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OfferedForms {
    /// Bytecode.
    pub vm: bool,
    /// A printed function.
    pub source: bool,
    /// Bytecode in a frame of the node's.
    pub frame: bool,
}

impl OfferedForms {
    /// Is this form among them?
    #[must_use]
    pub const fn has(self, form: ChallengeForm) -> bool {
        match form {
            ChallengeForm::Vm => self.vm,
            ChallengeForm::Source => self.source,
            ChallengeForm::Frame => self.frame,
        }
    }
}

/// A token on its way to verification; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why a request was not done: the closed set that programs branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request does not say what it must.
    BadRequest,
    /// No such action.
    UnknownAction,
    /// The rules do not let this connection do it now.
    Denied,
    /// A limit of this connection.
    Limit,
    /// Subscribed before.
    AlreadySubscribed,
    /// Not subscribed.
    NotSubscribed,
    /// Not on this connection, or not now.
    NotAvailable,
    /// The token does not verify, or names somebody else.
    TokenInvalid,
    /// The node has too much to do; try again later.
    Overloaded,
    /// A fault of the node.
    Internal,
}

impl ErrorCode {
    /// What people read where nothing more exact is known.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::BadRequest => "a member is missing, unknown, given twice or not of its kind",
            Self::UnknownAction => "no such action",
            Self::Denied => "not allowed on this connection",
            Self::Limit => "a limit of this connection is reached",
            Self::AlreadySubscribed => "already subscribed to this channel",
            Self::NotSubscribed => "not subscribed to this channel",
            Self::NotAvailable => "not available on this connection",
            Self::TokenInvalid => "token is not valid for this connection",
            Self::Overloaded => "too much to do, try again later",
            Self::Internal => "internal error",
        }
    }

    /// This code with a sentence of its own.
    #[must_use]
    pub const fn because(self, message: &'static str) -> Failure {
        Failure { code: self, message }
    }
}

/// Why a request was not done, for programs and for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// For programs.
    pub code: ErrorCode,
    /// For people: never a secret, never another client's text.
    pub message: &'static str,
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        code.because(code.message())
    }
}

/// Where the outcome of a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyTo {
    /// To the native request with this id.
    Native(RequestId),
    /// To a plain client, with the action as it sent it (JSON).
    Plain(Box<str>),
}

impl ReplyTo {
    /// The frame that says it was done.
    #[must_use]
    pub fn ok(&self, result: &impl Serialize) -> String {
        match self {
            Self::Native(id) => native::ok(id, result),
            Self::Plain(action) => plain::ok(action, result),
        }
    }

    /// The frame that says why it was not.
    #[must_use]
    pub fn error(&self, failure: &Failure) -> String {
        match self {
            Self::Native(id) => native::error(id, failure),
            Self::Plain(action) => plain::error(action, failure),
        }
    }
}

/// A frame's JSON text.
pub(super) fn json(frame: &impl Serialize) -> String {
    // Serializing fails for maps whose keys are no strings and for writers that fail: frames have neither.
    serde_json::to_string(frame).unwrap_or_default()
}
