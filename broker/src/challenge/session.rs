use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext as _, Addr, AsyncContext as _, Context, Handler, Message, Recipient};

use super::answer::Answer;
use super::held::HeldProgram;
use super::permits::PendingPermit;
use super::verdict::{Pending, Verdict};
use crate::telemetry::{Metrics, VerdictLabel};

/// How long after the deadline a session waits for an answer that was received before it.
pub const GRACE: Duration = Duration::from_millis(250);

/// The challenge of one connection: its child, on its thread, alive until there is a verdict.
///
/// The rules are [`Pending`]'s; the actor brings it the answer or the end of time, whichever is first, and tells the
/// connection once. A session that is dropped before that counts as abandoned, which is charged as a part of a failure; one that panics reports
/// [`Verdict::Internal`], so that a connection never waits for ever and never passes by a fault.
#[derive(Debug)]
pub struct ChallengeSession {
    open: Option<Open>,
}

/// The connection's end of a session. Dropping it abandons the challenge.
#[derive(Debug)]
pub struct SessionHandle {
    session: Addr<ChallengeSession>,
}

/// The verdict, sent once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Concluded {
    /// Which of the connection's challenges.
    pub epoch: u32,
    /// How it ended.
    pub verdict: Verdict,
}

/// The one answer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Submit {
    answer: Answer,
    received_at: Instant,
}

/// The connection is gone.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Abandon;

/// A challenge and the duty to report on it; they leave the actor together.
#[derive(Debug)]
struct Open {
    pending: Pending,
    report: Report,
    /// The program, as long as a frame may fetch it.
    _held: Option<HeldProgram>,
}

/// The duty to count a challenge's end, and to tell the connection of it.
#[derive(Debug)]
struct Report {
    epoch: u32,
    verdict: Option<Verdict>,
    to: Recipient<Concluded>,
    metrics: Arc<Metrics>,
    /// Room among the pending challenges, given back with the verdict.
    permit: PendingPermit,
}

impl ChallengeSession {
    /// Starts a session on the current thread, which must run a local task set. `held` is its program, in the form `frame`.
    #[must_use]
    pub fn open(
        pending: Pending,
        permit: PendingPermit,
        held: Option<HeldProgram>,
        to: Recipient<Concluded>,
        metrics: Arc<Metrics>,
    ) -> SessionHandle {
        metrics.challenges_pending.inc();
        let report = Report { epoch: pending.epoch, verdict: None, to, metrics, permit };
        SessionHandle { session: Self { open: Some(Open { pending, report, _held: held }) }.start() }
    }

    /// Nothing came in time.
    fn expire(&mut self, ctx: &mut Context<Self>) {
        if let Some(open) = self.open.take() {
            open.report.conclude(Verdict::Late);
        }
        ctx.stop();
    }
}

impl SessionHandle {
    /// Brings the answer, with the socket's stamp on its frame. There is one: the handle is spent.
    pub fn submit(self, answer: Answer, received_at: Instant) {
        // The mailbox grows by this message and by the handle's last, no more. A session that has ended told its verdict.
        self.session.do_send(Submit { answer, received_at });
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        // After a submitted answer this comes second, and finds the session ended.
        self.session.do_send(Abandon);
    }
}

impl Actor for ChallengeSession {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(open) = &self.open else { return ctx.stop() };
        // The runtime's clock, which tests can stop; it is the system's otherwise.
        let now = tokio::time::Instant::now().into_std();
        let left = (open.pending.deadline + GRACE).saturating_duration_since(now);
        ctx.run_later(left, Self::expire);
    }
}

impl Handler<Submit> for ChallengeSession {
    type Result = ();

    fn handle(&mut self, submit: Submit, ctx: &mut Self::Context) {
        if let Some(Open { pending, report, _held }) = self.open.take() {
            let took = submit.received_at.saturating_duration_since(pending.sent_at);
            report.metrics.challenge_seconds.observe(took.as_secs_f64());
            let connection = pending.connection;
            let verdict = pending.judge(&submit.answer, submit.received_at);
            if verdict == Verdict::OriginMismatch {
                tracing::warn!(?connection, "answer claims another origin than the handshake");
            }
            report.conclude(verdict);
        }
        ctx.stop();
    }
}

impl Handler<Abandon> for ChallengeSession {
    type Result = ();

    fn handle(&mut self, _: Abandon, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Report {
    /// Tells the verdict, by dropping the duty with it.
    fn conclude(mut self, verdict: Verdict) {
        self.verdict = Some(verdict);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let panicked = std::thread::panicking().then_some(Verdict::Internal);
        let verdict = self.verdict.or(panicked);
        self.metrics.challenges_pending.dec();
        let label = verdict.map_or(VerdictLabel::Abandoned, Verdict::label);
        self.metrics.challenge_verdicts.of(label).inc();
        let now = || tokio::time::Instant::now().into_std();
        let Some(verdict) = verdict else { return self.permit.abandoned(now()) };
        if verdict.is_failure() {
            self.permit.failed(now());
        }
        // One message in the life of a session; a connection that is gone needs none.
        self.to.do_send(Concluded { epoch: self.epoch, verdict });
    }
}

#[cfg(test)]
mod tests;
