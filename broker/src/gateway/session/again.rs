use countersign_node_proto::ChannelName;

use super::turn::Turn;
use super::{Effects, Proof};
use crate::challenge::Answer;
use crate::close::CloseReason;
use crate::config::OnFailure;
use crate::gateway::native::Push;
use crate::gateway::request::{ErrorCode, ReplyTo};
use crate::telemetry::{AgainCause, VerdictLabel};

/// Where a further challenge of a verified connection is. The connection stays verified meanwhile.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// There is none.
    None,
    /// A program is being made.
    Issuing,
    /// Waiting for the answer.
    Pending,
    /// The answer is being judged; its outcome goes here.
    Judging(ReplyTo),
}

impl<E: Effects> Turn<'_, E> {
    /// Challenges a verified native client again, one challenge at a time.
    pub(super) fn challenge_again(&mut self, cause: AgainCause) {
        if self.state.proof != Proof::Verified || self.state.again != Again::None {
            return;
        }
        // Clients of other dialects said no hello: a second frame would be news to them.
        let (Some(form), Some(epoch)) = (self.state.form, self.state.epoch.checked_add(1)) else { return };
        self.state.epoch = epoch;
        self.state.again = Again::Issuing;
        self.effects.issue_again(form, epoch, cause);
    }

    /// An answer of a verified client: the one to the further challenge, if there is one.
    pub(super) fn answer_again(&mut self, answer: Answer, to: ReplyTo) {
        match self.state.again {
            Again::Pending => {
                self.state.again = Again::Judging(to);
                self.effects.judge(answer);
            }
            Again::Judging(_) => self.close(CloseReason::ChallengeFailed),
            Again::None | Again::Issuing => {
                self.fail_request(&to, ErrorCode::Denied.because("already answered, the connection is verified"));
            }
        }
    }

    /// The further challenge has ended.
    pub(super) fn judged_again(&mut self, verdict: VerdictLabel) {
        if matches!(self.state.again, Again::None | Again::Issuing) {
            return;
        }
        match verdict {
            VerdictLabel::Verified => self.verified_again(),
            VerdictLabel::WrongAnswer | VerdictLabel::BadSignature | VerdictLabel::OriginMismatch => {
                self.lapse(CloseReason::ChallengeFailed);
            }
            VerdictLabel::Late => self.lapse(CloseReason::ChallengeDeadline),
            VerdictLabel::Internal => self.close(CloseReason::Internal),
            // The socket closed first, and its own event follows.
            VerdictLabel::Abandoned => {}
        }
    }

    /// The answer was right. A verdict without an answer is a fault, and fails closed.
    fn verified_again(&mut self) {
        let Again::Judging(to) = std::mem::replace(&mut self.state.again, Again::None) else {
            return self.close(CloseReason::Internal);
        };
        if !self.effects.still_verified(self.state.epoch) {
            self.state.life = super::Life::Closing;
            return;
        }
        self.reply_done(&to);
        self.effects.send_text(Push::Verified { connection_id: self.state.facts.id }.encode());
        // The next tickets are of this epoch; those before it end by themselves.
        self.effects.start_tickets();
    }

    /// The answer was wrong or is late: the connection is verified no more, before anybody is told.
    fn lapse(&mut self, reason: CloseReason) {
        let again = std::mem::replace(&mut self.state.again, Again::None);
        self.state.proof = Proof::Failed;
        if self.config.challenge.on_failure == OnFailure::Close {
            return self.close(reason);
        }
        self.effects.mark_lapsed();
        let unsubscribed = self.unsubscribe_denied();
        if let Again::Judging(to) = again {
            self.fail_request(&to, ErrorCode::Denied.because("challenge failed"));
        }
        self.effects.send_text(Push::ChallengeFailed { unsubscribed: &unsubscribed }.encode());
    }

    /// Ends the subscriptions that need more than the connection has shown now; which they were.
    fn unsubscribe_denied(&mut self) -> Vec<ChannelName> {
        let mut denied = self.effects.subscriptions();
        denied.retain(|channel| !self.config.rules.may_subscribe(channel, &self.state.standing()));
        denied.retain(|channel| self.unsubscribe(channel).is_ok());
        denied
    }
}
