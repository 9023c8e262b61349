use std::time::Instant;

use countersign_node_proto::ConnectionId;

use super::answer::{Answer, ChallengeId};
use super::issue::Issued;
use super::lanes::Lanes;
use super::page::PageOrigin;
use crate::telemetry::VerdictLabel;

/// What the right answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// What the program computes.
    pub lanes: Lanes,
    /// Where it runs.
    pub page: PageOrigin,
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
        matches!(self, Self::WrongAnswer | Self::OriginMismatch | Self::Late)
    }

    /// The verdict in metrics.
    #[must_use]
    pub const fn label(self) -> VerdictLabel {
        match self {
            Self::Verified => VerdictLabel::Verified,
            Self::WrongAnswer => VerdictLabel::WrongAnswer,
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

    /// Judges the one answer: deadline, challenge, origin, lanes, in this order. It takes the challenge with it, so that
    /// there is no second attempt.
    ///
    /// `received_at` is the stamp of the socket on the complete frame, so that a busy node makes nobody late.
    #[must_use]
    pub fn judge(self, answer: &Answer, received_at: Instant) -> Verdict {
        if received_at > self.deadline {
            return Verdict::Late;
        }
        let page = &self.expected.page;
        let (origin_holds, lanes) = match answer {
            Answer::Malformed => return Verdict::WrongAnswer,
            Answer::Native(answer) => {
                if answer.challenge != self.challenge_id || answer.epoch != self.epoch {
                    return Verdict::WrongAnswer;
                }
                (page.admits_origin(&answer.origin), &answer.lanes)
            }
            Answer::Echo(answer) => {
                let domain_holds = answer.domain.as_deref().is_none_or(|domain| page.admits_domain(domain));
                (domain_holds && page.admits_origin(&answer.origin), &answer.lanes)
            }
        };
        if !origin_holds {
            return Verdict::OriginMismatch;
        }
        if self.expected.lanes.matches(lanes) { Verdict::Verified } else { Verdict::WrongAnswer }
    }
}
