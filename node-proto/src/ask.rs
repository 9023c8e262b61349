use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::read;
use crate::{ConnectionId, Disconnect};

/// A question from one node to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The asker's name for it; the answer carries it.
    pub number: u64,
    /// What is asked.
    pub question: Question,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The question's.
    pub number: u64,
    /// What is answered.
    pub reply: Reply,
}

/// What a node can be asked. To add a question: a kind below, a variant here, and one of [`Reply`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// How does a connection stand? To the node that owns it, whose live state is ahead of the registry.
    Connection(ConnectionQuestion),
    /// Is this proof of a call good? To the node that owns the connection of its ticket, where each counts once.
    Proof(ProofQuestion),
    /// The program of a frame, once. To the node that a handle names.
    Program(ProgramQuestion),
    /// Challenge a connection again. To the node that owns it.
    Challenge(ChallengeQuestion),
    /// Close connections, and say how many there were.
    Disconnect(Disconnect),
    /// One of a newer node, to be answered with [`Reply::NotUnderstood`].
    Unknown,
}

/// What a node answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To [`Question::Connection`]: how it stands, if it is open there.
    Connection(Option<OwnedConnection>),
    /// To [`Question::Proof`].
    Proof(ProofVerdict),
    /// To [`Question::Program`]: the program, if it is still there.
    Program(Option<String>),
    /// To [`Question::Challenge`].
    Challenge(ChallengeVerdict),
    /// To [`Question::Disconnect`].
    Disconnect(Disconnected),
    /// The node does not know such questions, or its answer is one that this node does not know.
    NotUnderstood,
}

/// Which connection is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionQuestion {
    /// Its id.
    pub connection: ConnectionId,
}

/// An open connection, as its owner knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedConnection {
    /// Its challenge was answered.
    pub verified: bool,
    /// The name of the least that calls in its name must show.
    pub mode: String,
    /// When its token ends it, in seconds since the Unix epoch.
    #[serde(default)]
    pub expires_at: Option<u64>,
    /// The token's subject.
    #[serde(default)]
    pub subject: Option<String>,
    /// The token's issuer.
    #[serde(default)]
    pub issuer: Option<String>,
    /// The origin of its page.
    #[serde(default)]
    pub origin: Option<String>,
}

/// A call and what was shown for it, word for word: the owner judges it as if it had come to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofQuestion {
    /// The ticket's text.
    pub ticket: String,
    /// The proof's text.
    pub proof: String,
    /// The call's method.
    pub method: String,
    /// Its host, path and query.
    pub target: String,
}

/// What a program is fetched by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramQuestion {
    /// The handle's text.
    pub handle: String,
}

/// Which connection a server wants challenged again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengeQuestion {
    /// Its id.
    pub connection: ConnectionId,
}

/// What became of an order to close connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disconnected {
    /// How many the node that was asked closed by it: those that were open and its own.
    pub closed: u64,
}

/// What became of an order to challenge a connection again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "&str")]
pub enum ChallengeVerdict {
    /// Its client is challenged, or was being challenged already.
    Ordered,
    /// No such connection is open on the node that was asked.
    ConnectionUnknown,
    /// It is open, and no verified one of a native client: others are not challenged again.
    NotPossible,
    /// A verdict of a newer node.
    Unknown,
}

impl ChallengeVerdict {
    /// Every verdict, with its name on the wire; never reused.
    const NAMES: [(Self, &'static str); 4] = [
        (Self::Ordered, "ordered"),
        (Self::ConnectionUnknown, "connection_unknown"),
        (Self::NotPossible, "not_possible"),
        (Self::Unknown, "unknown"),
    ];
}

impl From<String> for ChallengeVerdict {
    fn from(name: String) -> Self {
        Self::NAMES.iter().find(|(_, known)| *known == name).map_or(Self::Unknown, |(verdict, _)| *verdict)
    }
}

impl From<ChallengeVerdict> for &'static str {
    fn from(verdict: ChallengeVerdict) -> Self {
        ChallengeVerdict::NAMES.iter().find(|(known, _)| *known == verdict).map_or("unknown", |(_, name)| name)
    }
}

/// The owner's word on a proof. Every verdict but [`ProofVerdict::Good`] is a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "&str")]
pub enum ProofVerdict {
    /// It counts, and never will again.
    Good,
    /// The ticket does not count.
    TicketInvalid,
    /// The ticket's time is over.
    TicketExpired,
    /// The connection is closed.
    ConnectionUnknown,
    /// The connection's token expired.
    ConnectionExpired,
    /// The proof is not of this call, or not of the connection's page.
    ProofInvalid,
    /// The proof was used before.
    ProofReplayed,
    /// A verdict of a newer node.
    Unknown,
}

impl ProofVerdict {
    /// Every verdict, with its name on the wire; never reused.
    const NAMES: [(Self, &'static str); 8] = [
        (Self::Good, "good"),
        (Self::TicketInvalid, "ticket_invalid"),
        (Self::TicketExpired, "ticket_expired"),
        (Self::ConnectionUnknown, "connection_unknown"),
        (Self::ConnectionExpired, "connection_expired"),
        (Self::ProofInvalid, "proof_invalid"),
        (Self::ProofReplayed, "proof_replayed"),
        (Self::Unknown, "unknown"),
    ];
}

impl From<String> for ProofVerdict {
    fn from(name: String) -> Self {
        Self::NAMES.iter().find(|(_, known)| *known == name).map_or(Self::Unknown, |(verdict, _)| *verdict)
    }
}

impl From<ProofVerdict> for &'static str {
    fn from(verdict: ProofVerdict) -> Self {
        ProofVerdict::NAMES.iter().find(|(known, _)| *known == verdict).map_or("unknown", |(_, name)| name)
    }
}

/// How a question or an answer travels: its kind beside its encoded body, so that an unknown kind is data.
#[derive(Serialize, Deserialize)]
pub(crate) struct Enclosed {
    i: u64,
    k: String,
    b: Bytes,
}

/// The names of the kinds on the wire; never reused. A question and its answer share one.
mod kind {
    pub(super) const CONNECTION: &str = "connection";
    pub(super) const PROOF: &str = "proof";
    pub(super) const PROGRAM: &str = "program";
    pub(super) const CHALLENGE: &str = "challenge";
    pub(super) const DISCONNECT: &str = "disconnect";
    pub(super) const UNKNOWN: &str = "unknown";
}

type Encoded = Result<Enclosed, rmp_serde::encode::Error>;

impl Ask {
    pub(crate) fn enclose(&self) -> Encoded {
        match &self.question {
            Question::Connection(body) => enclosed(self.number, kind::CONNECTION, body),
            Question::Proof(body) => enclosed(self.number, kind::PROOF, body),
            Question::Program(body) => enclosed(self.number, kind::PROGRAM, body),
            Question::Challenge(body) => enclosed(self.number, kind::CHALLENGE, body),
            Question::Disconnect(body) => enclosed(self.number, kind::DISCONNECT, body),
            Question::Unknown => enclosed(self.number, kind::UNKNOWN, &()),
        }
    }
}

impl Answer {
    pub(crate) fn enclose(&self) -> Encoded {
        match &self.reply {
            Reply::Connection(body) => enclosed(self.number, kind::CONNECTION, body),
            Reply::Proof(body) => enclosed(self.number, kind::PROOF, body),
            Reply::Program(body) => enclosed(self.number, kind::PROGRAM, body),
            Reply::Challenge(body) => enclosed(self.number, kind::CHALLENGE, body),
            Reply::Disconnect(body) => enclosed(self.number, kind::DISCONNECT, body),
            Reply::NotUnderstood => enclosed(self.number, kind::UNKNOWN, &()),
        }
    }
}

impl Enclosed {
    pub(crate) fn ask(self) -> Result<Ask, rmp_serde::decode::Error> {
        let question = match self.k.as_str() {
            kind::CONNECTION => Question::Connection(read(&self.b)?),
            kind::PROOF => Question::Proof(read(&self.b)?),
            kind::PROGRAM => Question::Program(read(&self.b)?),
            kind::CHALLENGE => Question::Challenge(read(&self.b)?),
            kind::DISCONNECT => Question::Disconnect(read(&self.b)?),
            _ => Question::Unknown,
        };
        Ok(Ask { number: self.i, question })
    }

    pub(crate) fn answer(self) -> Result<Answer, rmp_serde::decode::Error> {
        let reply = match self.k.as_str() {
            kind::CONNECTION => Reply::Connection(read(&self.b)?),
            kind::PROOF => Reply::Proof(read(&self.b)?),
            kind::PROGRAM => Reply::Program(read(&self.b)?),
            kind::CHALLENGE => Reply::Challenge(read(&self.b)?),
            kind::DISCONNECT => Reply::Disconnect(read(&self.b)?),
            _ => Reply::NotUnderstood,
        };
        Ok(Answer { number: self.i, reply })
    }
}

fn enclosed(number: u64, kind: &str, body: &impl Serialize) -> Encoded {
    Ok(Enclosed { i: number, k: kind.to_owned(), b: rmp_serde::to_vec_named(body)?.into() })
}
