use std::sync::Arc;
use std::time::Instant;

use countersign_node_proto::ConnectionId;

use super::answer::{Answer, ChallengeId, EchoAnswer, NativeAnswer};
use super::binding::{Binding, Terms, bind_message};
use super::files::FileQuestion;
use super::issue::Issued;
use super::lanes::Lanes;
use super::mac::AnswerKey;
use super::page::PageOrigin;
use super::work::{Work, WorkBound};
use crate::config::ChallengeForm;
use crate::telemetry::VerdictLabel;

/// What the right answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Where the program runs.
    pub page: PageOrigin,
    /// What shows that it ran.
    pub proof: ExpectedProof,
}

/// What shows that a program ran, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedProof {
    /// Of a client of the echo carrier: what the program computes.
    Lanes(Lanes),
    /// Of a native client: MAC and signature, never the bare lanes.
    Bound(BoundProof),
}

/// K, and the part of T that this challenge alone has; the rest is shared with the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundProof {
    /// K.
    pub key: AnswerKey,
    /// What `hello` and handshake bind.
    pub binding: Arc<Binding>,
    /// How the program was delivered.
    pub form: ChallengeForm,
    /// The node's nonce.
    pub server_nonce: [u8; 32],
    /// The digest of the program as delivered.
    pub program: [u8; 32],
    /// What is asked for beside the program.
    pub work: Option<Work>,
    /// The part of a file that the program reads.
    pub file: Option<Box<FileQuestion>>,
}

/// A challenge that waits for its answer.
#[derive(Debug)]
pub struct Pending {
    /// The socket that it was sent on.
    pub connection: ConnectionId,
    /// Which challenge.
    pub challenge_id: ChallengeId,
    /// Which of this connection's.
    pub epoch: u32,
    /// What is expected.
    pub expected: Expected,
    /// When it was sent.
    pub sent_at: Instant,
    /// An answer received after this is late.
    pub deadline: Instant,
}

/// How a challenge ended. On the wire all failures but lateness look alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Right, in time, from the page of the handshake.
    Verified,
    /// Not the answer to this challenge.
    WrongAnswer,
    /// The program's result is right, but the key that `hello` named did not sign it: audited apart.
    BadSignature,
    /// Claims another origin than the handshake's: audited apart.
    OriginMismatch,
    /// After the deadline, or never.
    Late,
    /// The node could not judge.
    Internal,
}

impl Verdict {
    /// Is the client, or whoever is in its place, to blame?
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::WrongAnswer | Self::BadSignature | Self::OriginMismatch | Self::Late)
    }

    /// The verdict in metrics.
    #[must_use]
    pub const fn label(self) -> VerdictLabel {
        match self {
            Self::Verified => VerdictLabel::Verified,
            Self::WrongAnswer => VerdictLabel::WrongAnswer,
            Self::BadSignature => VerdictLabel::BadSignature,
            Self::OriginMismatch => VerdictLabel::OriginMismatch,
            Self::Late => VerdictLabel::Late,
            Self::Internal => VerdictLabel::Internal,
        }
    }
}

impl Pending {
    /// A challenge sent to this connection at `sent_at`.
    #[must_use]
    pub fn new(connection: ConnectionId, issued: &Issued, sent_at: Instant, deadline: Instant) -> Self {
        Self {
            connection,
            challenge_id: issued.challenge_id,
            epoch: issued.epoch,
            expected: issued.expected.clone(),
            sent_at,
            deadline,
        }
    }

    /// Judges the one answer: shape, deadline, challenge, origin, MAC or lanes, work, signature, in this order. It takes the
    /// challenge with it, so that there is no second attempt; a wrong answer costs the node one MAC at most.
    ///
    /// `received_at` is the stamp of the socket on the complete frame, so that a busy node makes nobody late.
    #[must_use]
    pub fn judge(self, answer: &Answer, received_at: Instant) -> Verdict {
        if *answer == Answer::Malformed {
            return Verdict::WrongAnswer;
        }
        if received_at > self.deadline {
            return Verdict::Late;
        }
        match (answer, &self.expected.proof) {
            (Answer::Native(answer), ExpectedProof::Bound(proof)) => self.judge_bound(answer, proof),
            (Answer::Echo(answer), ExpectedProof::Lanes(lanes)) => self.judge_lanes(answer, lanes),
            // In the words of the other dialect, which would leave out what this one asks for.
            _ => Verdict::WrongAnswer,
        }
    }

    /// Of a native client.
    fn judge_bound(&self, answer: &NativeAnswer, proof: &BoundProof) -> Verdict {
        if answer.challenge != self.challenge_id || answer.epoch != self.epoch {
            return Verdict::WrongAnswer;
        }
        if !self.expected.page.admits_origin(&answer.origin) {
            return Verdict::OriginMismatch;
        }
        let work = proof.work.map(Work::field);
        let file = proof.file.as_ref().map(|question| question.field());
        let asked = (work.as_ref().map(<[u8; 2]>::as_slice), file.as_deref());
        let transcript = Terms { work: asked.0, file: asked.1, ..self.terms(proof, answer.top_origin.as_deref()) }.transcript();
        if !proof.key.verifies(&transcript, &answer.mac.0) || !self.work_is_done(proof, answer.work.as_deref()) {
            return Verdict::WrongAnswer;
        }
        let signed = bind_message(&transcript, &answer.mac.0);
        if !proof.binding.hello.key.verifies(&signed, &answer.signature.0) {
            return Verdict::BadSignature;
        }
        Verdict::Verified
    }

    /// Is what was asked for done? What was not asked for is not looked at, and refused.
    fn work_is_done(&self, proof: &BoundProof, solutions: Option<&[u32]>) -> bool {
        let BoundProof { binding, server_nonce, work, .. } = proof;
        let bound = WorkBound { challenge: &self.challenge_id, server_nonce, thumbprint: binding.hello.key.thumbprint() };
        match (work, solutions) {
            (Some(work), Some(solutions)) => work.is_done(bound, solutions),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Of a client of the echo carrier.
    fn judge_lanes(&self, answer: &EchoAnswer, lanes: &Lanes) -> Verdict {
        let page = &self.expected.page;
        let domain_holds = answer.domain.as_deref().is_none_or(|domain| page.admits_domain(domain));
        if !domain_holds || !page.admits_origin(&answer.origin) {
            return Verdict::OriginMismatch;
        }
        if lanes.matches(&answer.lanes) { Verdict::Verified } else { Verdict::WrongAnswer }
    }

    /// T's fields, from the node's own state but for the origin of the top-level page.
    fn terms<'a>(&'a self, proof: &'a BoundProof, top_origin: Option<&'a str>) -> Terms<'a> {
        let Binding { hello, host } = &*proof.binding;
        Terms {
            form: proof.form,
            host,
            connection: &self.connection,
            challenge: &self.challenge_id,
            epoch: self.epoch,
            hello: &hello.digest,
            server_nonce: &proof.server_nonce,
            program: &proof.program,
            origin: self.expected.page.tape(),
            top_origin,
            thumbprint: hello.key.thumbprint(),
            mode: hello.mode,
            // Both are the caller's, who keeps their bytes.
            work: None,
            file: None,
        }
    }
}
