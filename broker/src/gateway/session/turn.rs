use std::sync::Arc;

use bytes::Bytes;
use countersign_node_proto::ChannelName;

use super::again::Again;
use super::{ChallengeFrame, Effects, Event, Life, Proof, SessionConfig, State};
use crate::challenge::{Answer, Hello};
use crate::close::CloseReason;
use crate::config::{ChallengeForm, OnFailure};
use crate::gateway::native::{self, Act, NativeRequest, Push, Refused};
use crate::gateway::plain::{self, ActionFrame, Notice};
use crate::gateway::request::{ErrorCode, Failure, OfferedForms, ReplyTo};
use crate::gateway::routes::Route;
use crate::hub::Dialect;
use crate::identity::Principal;
use crate::telemetry::VerdictLabel;

/// One event being handled.
pub(super) struct Turn<'a, E> {
    pub(super) config: &'a SessionConfig,
    pub(super) state: &'a mut State,
    pub(super) effects: &'a mut E,
}

impl<E: Effects> Turn<'_, E> {
    /// Handles the event, where the connection's life still has room for it.
    pub(super) fn take(mut self, event: Event<'_>) {
        match (self.state.life, event) {
            (Life::New, Event::Opened) => self.opened(),
            (Life::New, Event::Closed) => self.state.life = Life::Closed,
            (Life::Open | Life::Closing, Event::Closed) => self.closed(),
            (Life::Open, event) => self.happened(event),
            (Life::New | Life::Closing | Life::Closed, _) => {}
        }
    }

    /// An event of an open connection.
    fn happened(&mut self, event: Event<'_>) {
        match event {
            Event::Text(text) => self.text(text),
            Event::Binary(payload) => self.binary(payload),
            Event::Issued(frame) => self.issued(&frame),
            Event::IssueFailed => self.issue_failed(),
            Event::Verdict { epoch, verdict } => self.judged(epoch, verdict),
            Event::ChallengeAgain(cause) => self.challenge_again(cause),
            Event::HelloDeadline => self.hello_is_late(),
            Event::TokenVerified(principal) => self.token_verified(principal),
            Event::TokenRefused => self.token_refused(ErrorCode::TokenInvalid),
            Event::TokenUnjudged => self.token_refused(ErrorCode::NotAvailable),
            // `Opened` comes once, and `Closed` was taken before.
            Event::Opened | Event::Closed => {}
        }
    }

    /// Greets, then does what the handshake and `$connect` ask for, then starts the challenge.
    fn opened(&mut self) {
        self.state.life = Life::Open;
        let dialect = self.state.facts.dialect;
        let due = self.config.challenges(dialect);
        if !due {
            self.effects.raise_limits();
        }
        if let (true, Some(principal)) = (self.config.expiry_ends_connection, &self.state.facts.principal) {
            self.effects.arm_expiry(principal.expires_at);
        }
        match dialect {
            Dialect::Native => self.welcome(due),
            Dialect::Plain if due => self.effects.send_text(plain::echo(self.state.facts.id)),
            Dialect::Plain => {}
        }
        self.subscribe_from_handshake();
        self.connect_route();
        match dialect {
            Dialect::Native if due => {
                self.state.proof = Proof::AwaitingHello;
                self.effects.arm_hello_deadline();
            }
            Dialect::Plain if due => {
                self.state.proof = Proof::Issuing;
                self.effects.issue_challenge(ChallengeForm::Source, None);
            }
            Dialect::Native | Dialect::Plain => {}
        }
    }

    /// The first frame of a native connection.
    fn welcome(&mut self, due: bool) {
        let facts = &self.state.facts;
        let welcome = Push::Welcome {
            connection_id: facts.id,
            challenge: if due { "required" } else { "off" },
            subject: facts.principal.as_ref().map(|principal| principal.subject.as_str()),
            expires_at: facts.principal.as_ref().map(|principal| principal.expires_at),
        };
        self.effects.send_text(welcome.encode());
    }

    /// Subscribes to the channel that the handshake names, by the same rules as any subscription. One that is refused is
    /// reported and leaves the connection open: the client may do without it.
    fn subscribe_from_handshake(&mut self) {
        let Some(named) = self.state.facts.subscribe.take() else { return };
        let outcome = match ChannelName::new(&named) {
            Ok(channel) => self.subscribe(&channel),
            Err(_) => Err(ErrorCode::BadRequest.because("no channel can have this name")),
        };
        if let Err(error) = outcome {
            let frame = match self.state.facts.dialect {
                Dialect::Native => Push::SubscribeRefused { channel: &named, error }.encode(),
                Dialect::Plain => plain::notice(notice_of(error), self.state.facts.id, self.state.messages),
            };
            self.effects.send_text(frame);
        }
    }

    /// The socket is gone: `$disconnect`, once.
    fn closed(&mut self) {
        self.state.life = Life::Closed;
        self.disconnect_route();
    }

    /// A text message.
    fn text(&mut self, text: &str) {
        self.state.messages += 1;
        match self.state.facts.dialect {
            Dialect::Native => self.native_text(text),
            Dialect::Plain => self.plain_text(text),
        }
    }

    /// A request of a native client.
    fn native_text(&mut self, text: &str) {
        match native::parse(text) {
            Ok(NativeRequest { id, act: Act::Request(request) }) => self.perform(request, ReplyTo::Native(id)),
            Ok(NativeRequest { id, act: Act::Route { action } }) => self.native_route(&action, text, id),
            Err(Refused::Reply(id, failure)) => self.fail_request(&ReplyTo::Native(id), failure),
            Err(Refused::Fatal) => self.close(CloseReason::BadRequest),
        }
    }

    /// An action frame, or whatever else a plain client sent.
    fn plain_text(&mut self, text: &str) {
        let frame = ActionFrame::parse(text);
        let key = frame.key.as_deref();
        match self.config.routes.resolve(key) {
            Some(Route::Builtin(builtin)) => {
                let to = ReplyTo::Plain(frame.action.into());
                match frame.request(*builtin) {
                    Ok(request) => self.perform(request, to),
                    Err(failure) => self.fail_request(&to, failure),
                }
            }
            Some(route) => self.plain_route(key.unwrap_or("$default"), route, &frame),
            None => self.notice(Notice::Forbidden),
        }
    }

    /// A binary message: nothing but an echo takes one.
    fn binary(&mut self, payload: Bytes) {
        self.state.messages += 1;
        match (self.state.facts.dialect, self.config.routes.default_route()) {
            (Dialect::Plain, Some(Route::Echo)) => self.effects.send_binary(payload),
            _ => self.close(CloseReason::Unsupported),
        }
    }

    /// A native client says that it is ready, once.
    pub(super) fn hello(&mut self, offered: OfferedForms, hello: Hello, to: &ReplyTo) {
        // The node's order decides, so that a client cannot ask for less than it can do.
        let chosen = self.config.challenge.forms.iter().copied().find(|form| offered.has(*form));
        match (&self.state.proof, chosen) {
            (Proof::AwaitingHello, Some(form)) => {
                self.state.proof = Proof::Issuing;
                self.state.form = Some(form);
                self.reply_done(to);
                // A client may ask for more than the node does, never for less.
                let mode = hello.mode.max(self.config.mode);
                self.effects.issue_challenge(form, Some(Hello { mode, ..hello }));
            }
            (Proof::AwaitingHello, None) => {
                self.fail_request(to, ErrorCode::NotAvailable.because("none of these forms is offered here"));
            }
            (Proof::NotDue, _) => self.fail_request(to, ErrorCode::NotAvailable.because("no challenge is due here")),
            _ => self.fail_request(to, ErrorCode::BadRequest.because("hello was said before")),
        }
    }

    /// The program is there: off it goes.
    fn issued(&mut self, frame: &ChallengeFrame) {
        match (&self.state.proof, &self.state.again) {
            (Proof::Issuing, _) => self.state.proof = Proof::Pending,
            (Proof::Verified, Again::Issuing) => self.state.again = Again::Pending,
            _ => return,
        }
        self.effects.mark_challenged();
        let text = match self.state.facts.dialect {
            Dialect::Native => Push::challenge(frame, self.config.challenge.answer_timeout_ms.0).encode(),
            Dialect::Plain => plain::executable(frame),
        };
        self.effects.send_text(text);
    }

    /// There is no program: a fault of the node, whose client stays unverified and must come again.
    fn issue_failed(&mut self) {
        if self.state.proof == Proof::Issuing || self.state.again == Again::Issuing {
            self.close(CloseReason::Internal);
        }
    }

    /// The answer, once, and after the challenge: anything else is an attack or a bug, and ends the connection. One that
    /// comes after the verdict, as from a client that sends it twice, is refused and changes nothing.
    pub(super) fn answer(&mut self, answer: Answer, to: ReplyTo) {
        match self.state.proof {
            Proof::Pending => {
                self.state.proof = Proof::Judging(to);
                self.effects.judge(answer);
            }
            Proof::NotDue => self.fail_request(&to, ErrorCode::NotAvailable.because("no challenge is due here")),
            Proof::Verified => self.answer_again(answer, to),
            Proof::AwaitingHello | Proof::Issuing | Proof::Judging(_) | Proof::Failed => {
                self.close(CloseReason::ChallengeFailed);
            }
        }
    }

    /// The challenge has ended.
    fn judged(&mut self, epoch: u32, verdict: VerdictLabel) {
        if epoch != self.state.epoch {
            return;
        }
        if self.state.proof == Proof::Verified {
            return self.judged_again(verdict);
        }
        if matches!(self.state.proof, Proof::NotDue | Proof::AwaitingHello | Proof::Failed) {
            return;
        }
        match verdict {
            VerdictLabel::Verified => self.verified(),
            VerdictLabel::WrongAnswer | VerdictLabel::BadSignature | VerdictLabel::OriginMismatch => {
                self.challenge_failed(CloseReason::ChallengeFailed);
            }
            VerdictLabel::Late => self.challenge_failed(CloseReason::ChallengeDeadline),
            VerdictLabel::Internal => self.close(CloseReason::Internal),
            // The socket closed first, and its own event follows.
            VerdictLabel::Abandoned => {}
        }
    }

    /// The answer was right. A verdict without an answer is a fault, and fails closed.
    fn verified(&mut self) {
        let Proof::Judging(to) = std::mem::replace(&mut self.state.proof, Proof::Failed) else {
            return self.close(CloseReason::Internal);
        };
        if !self.effects.mark_verified() {
            // Another thread has closed the connection; its verdict comes too late to mean anything.
            self.state.life = Life::Closing;
            return;
        }
        self.state.proof = Proof::Verified;
        self.effects.raise_limits();
        // The echo carrier's client expects silence.
        if self.state.facts.dialect == Dialect::Native {
            self.reply_done(&to);
            self.effects.send_text(Push::Verified { connection_id: self.state.facts.id }.encode());
            self.effects.start_tickets();
        }
    }

    /// The answer was wrong or is late.
    fn challenge_failed(&mut self, reason: CloseReason) {
        let proof = std::mem::replace(&mut self.state.proof, Proof::Failed);
        if self.config.challenge.on_failure == OnFailure::Close {
            return self.close(reason);
        }
        if self.state.facts.dialect == Dialect::Native {
            if let Proof::Judging(to) = proof {
                self.fail_request(&to, ErrorCode::Denied.because("challenge failed"));
            }
            self.effects.send_text(Push::ChallengeFailed { unsubscribed: &[] }.encode());
        }
    }

    /// No `hello` in time.
    fn hello_is_late(&mut self) {
        if self.state.proof == Proof::AwaitingHello {
            self.challenge_failed(CloseReason::ChallengeDeadline);
        }
    }

    /// The new token verifies; it must be the same principal's.
    fn token_verified(&mut self, principal: Arc<Principal>) {
        let Some(to) = self.state.refresh.take() else { return };
        let same = |now: &Arc<Principal>| now.subject == principal.subject && now.issuer == principal.issuer;
        if !self.state.facts.principal.as_ref().is_some_and(same) {
            return self.fail_request(&to, ErrorCode::TokenInvalid.into());
        }
        self.effects.replace_principal(&principal);
        if self.config.expiry_ends_connection {
            self.effects.arm_expiry(principal.expires_at);
        }
        self.reply(&to, &serde_json::json!({ "expiresAt": principal.expires_at }));
        self.state.facts.principal = Some(principal);
    }

    /// The new token does not verify, or nobody can say.
    fn token_refused(&mut self, code: ErrorCode) {
        if let Some(to) = self.state.refresh.take() {
            self.fail_request(&to, code.into());
        }
    }

    /// Orders the close; nothing more is heard.
    pub(super) fn close(&mut self, reason: CloseReason) {
        self.state.life = Life::Closing;
        self.effects.close(reason);
    }

    /// Says, in API Gateway's words, what became of the latest message.
    pub(super) fn notice(&mut self, notice: Notice) {
        self.effects.send_text(plain::notice(notice, self.state.facts.id, self.state.messages));
    }

    /// Replies that a request was not done.
    pub(super) fn fail_request(&mut self, to: &ReplyTo, failure: Failure) {
        self.effects.send_text(to.error(&failure));
    }
}

/// The notice for a refused channel of the handshake.
fn notice_of(failure: Failure) -> Notice {
    match failure.code {
        ErrorCode::Denied => Notice::Forbidden,
        ErrorCode::Overloaded | ErrorCode::Internal => Notice::Internal,
        _ => Notice::BadRequest,
    }
}
