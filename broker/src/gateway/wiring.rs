use std::future::Future as _;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix::{ActorFutureExt as _, AsyncContext as _};
use actix_web_actors::ws::WebsocketContext;
use bytes::Bytes;
use countersign_node_proto::{ChannelName, Publication};

use super::connection::{Connection, Followup, Ground, received_at};
use super::request::Token;
use super::session::{ChallengeFrame, Effects, Event, PublishError, SubscribeError};
use super::shared::Gateway;
use super::template::TemplateError;
use super::tickets::TicketPushes;
use crate::backoff::Backoff;
use crate::challenge::{
    Answer, Binding, ChallengeSession, Claimant, HeldProgram, Hello, IssueError, Issued, Pending, ProgramHandle, Work,
    program_digest,
};
use crate::close::CloseReason;
use crate::config::{ChallengeForm, Mode};
use crate::hub;
use crate::identity::{Principal, TokenRefusal};
use crate::registry::{Bound, ConnectionState, Entry, LiveConnection};
use crate::telemetry::{AgainCause, ConnectionStateLabel, LimitHit};

/// The effects of a session, made real.
pub(super) struct Wiring<'a> {
    pub(super) ground: &'a mut Ground,
    pub(super) ctx: &'a mut WebsocketContext<Connection>,
}

impl Effects for Wiring<'_> {
    fn send_text(&mut self, text: String) {
        // A full queue has closed the connection by itself.
        let _ = self.ground.vitals.outbox().push_text(&text);
    }

    fn send_binary(&mut self, payload: Bytes) {
        let _ = self.ground.vitals.outbox().push_binary(&payload);
    }

    fn subscribe(&mut self, channel: &ChannelName) -> Result<(), SubscribeError> {
        let Ground { worker, vitals, live, .. } = &*self.ground;
        worker.shard.subscribe(channel, Rc::clone(vitals.outbox())).map_err(|_| SubscribeError::Already)?;
        worker.gateway.keeper.subscribe(live.id, live.generation, channel.clone());
        Ok(())
    }

    fn unsubscribe(&mut self, channel: &ChannelName) -> bool {
        let Ground { worker, live, .. } = &*self.ground;
        let ended = worker.shard.unsubscribe(channel, live.id).is_ok();
        if ended {
            worker.gateway.keeper.unsubscribe(live.id, live.generation, channel.clone());
        }
        ended
    }

    fn subscriptions(&self) -> Vec<ChannelName> {
        self.ground.worker.shard.channels(self.ground.live.id)
    }

    fn publish(&mut self, publication: Publication) -> Result<(), PublishError> {
        let publisher = self.ground.worker.gateway.publisher.clone();
        let mut publishing = Box::pin(async move { publisher.publish(publication).await });
        // The local part is done by the first poll, so one connection's publications keep their order.
        match publishing.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(hub::PublishError::Overloaded(_))) => Err(PublishError::Overloaded),
            Poll::Ready(Err(error @ hub::PublishError::ThisNodeOnly(_))) => {
                tracing::warn!(%error, "publication did not leave this node");
                Ok(())
            }
            Poll::Ready(Ok(_)) => Ok(()),
            Poll::Pending => {
                // On its own: the connection may end before the bus has answered.
                actix_rt::spawn(async move {
                    if let Err(error) = publishing.await {
                        tracing::warn!(%error, "publication did not leave this node");
                    }
                });
                Ok(())
            }
        }
    }

    fn arm_hello_deadline(&mut self) {
        let timeout = self.ground.worker.gateway.session.challenge.hello_timeout_ms.duration();
        let late = |connection: &mut Connection, ctx: &mut WebsocketContext<Connection>| {
            connection.happen(Event::HelloDeadline, ctx);
            connection.hello_never_came();
        };
        self.ground.hello_timer = Some(self.ctx.run_later(timeout, late));
    }

    fn issue_challenge(&mut self, form: ChallengeForm, hello: Option<Hello>) {
        if let Some(timer) = self.ground.hello_timer.take() {
            self.ctx.cancel_future(timer);
        }
        let Ground { live, host, .. } = &*self.ground;
        let binding = hello.map(|hello| Arc::new(Binding { hello, host: Arc::clone(host) }));
        if let Some(Binding { hello, .. }) = binding.as_deref() {
            // A session asks once, so this is the first binding.
            live.bind(Bound { key: hello.key.clone(), mode: hello.wish });
        }
        self.ground.binding = binding;
        self.make_challenge(form, 0);
    }

    fn issue_again(&mut self, form: ChallengeForm, epoch: u32, cause: AgainCause) {
        let Ground { worker, live, .. } = &*self.ground;
        let claimant = Claimant::new(live.address, live.origin.as_deref());
        let permit = worker.gateway.permits.again(claimant);
        worker.gateway.metrics.challenges_again.of(cause).inc();
        tracing::debug!(connection = ?live.id, ?cause, epoch, "challenged again");
        self.ground.permit = Some(permit);
        self.make_challenge(form, epoch);
    }

    fn mark_challenged(&mut self) {
        let (Some(issued), Some(permit)) = (self.ground.issued.take(), self.ground.permit.take()) else { return };
        let gateway = Arc::clone(&self.ground.worker.gateway);
        let sent_at = received_at();
        let deadline = sent_at + gateway.session.challenge.answer_timeout_ms.duration();
        let pending = Pending::new(self.ground.live.id, &issued, sent_at, deadline);
        let (held, to) = (self.ground.held.take(), self.ctx.address().recipient());
        self.ground.challenge = Some(ChallengeSession::open(pending, permit, held, to, Arc::clone(&gateway.metrics)));
        // A connection that is challenged again stays what it is.
        if self.ground.live.advance(ConnectionState::Challenged) {
            self.ground.count_as(ConnectionStateLabel::Challenged);
        }
    }

    fn judge(&mut self, answer: Answer) {
        if let Some(challenge) = self.ground.challenge.take() {
            challenge.submit(answer, received_at());
        }
    }

    fn mark_verified(&mut self) -> bool {
        let verified = self.ground.live.advance(ConnectionState::Verified);
        if verified {
            let live = &self.ground.live;
            let mode = live.bound().map(|bound| bound.mode).unwrap_or_default();
            self.ground.worker.gateway.keeper.verify(live.id, live.generation, mode);
            self.ground.count_as(ConnectionStateLabel::Verified);
            challenge_in_time(self.ground.worker.gateway.session.challenge.again.every_seconds.duration(), self.ctx);
        }
        verified
    }

    fn still_verified(&mut self, epoch: u32) -> bool {
        self.ground.live.epoch.store(epoch, Ordering::Release);
        self.ground.live.state() == ConnectionState::Verified
    }

    fn mark_lapsed(&mut self) {
        let Ground { worker, live, vitals, .. } = &*self.ground;
        // This node's decisions end here; then the entry says so, which every other node is told of. It stays, for who
        // wants to end the connection from there.
        live.advance(ConnectionState::Lapsed);
        worker.gateway.keeper.lapse(live.id, live.generation);
        let limits = &worker.gateway.settings.limits;
        let first = limits.unverified_message_max_bytes;
        vitals.inbound().set_limits(first.min(limits.frame_max_bytes), first.min(limits.message_max_bytes));
        self.ground.count_as(ConnectionStateLabel::Lapsed);
    }

    fn start_tickets(&mut self) {
        let Ground { worker, vitals, live, .. } = &*self.ground;
        if worker.gateway.tickets.serves(live) {
            let pushes = TicketPushes::new(Arc::clone(live), Arc::clone(&worker.gateway.tickets));
            worker.watchdog.start_tickets(vitals, pushes);
        }
    }

    fn raise_limits(&mut self) {
        let limits = &self.ground.worker.gateway.settings.limits;
        self.ground.vitals.inbound().set_limits(limits.frame_max_bytes, limits.message_max_bytes);
    }

    fn verify_token(&mut self, token: Token) {
        let verifier = Arc::clone(&self.ground.worker.gateway.verifier);
        let verifying = async move { verifier.verify(&token.0).await };
        let judged = actix::fut::wrap_future::<_, Connection>(verifying).map(|outcome, connection, ctx| {
            let event = match outcome {
                Ok(principal) => Event::TokenVerified(principal),
                Err(TokenRefusal::Unavailable) => Event::TokenUnjudged,
                Err(_) => Event::TokenRefused,
            };
            connection.happen(event, ctx);
        });
        self.ctx.spawn(judged);
    }

    fn replace_principal(&mut self, principal: &Arc<Principal>) {
        let live = &self.ground.live;
        live.set_principal(Arc::clone(principal));
        let gateway = &self.ground.worker.gateway;
        let expires_at = gateway.session.expiry_ends_connection.then_some(principal.expires_at);
        gateway.keeper.refresh(live.id, live.generation, expires_at);
    }

    fn arm_expiry(&mut self, expires_at: u64) {
        let left =
            Duration::from_secs(expires_at).saturating_sub(Duration::from_millis(self.ground.worker.gateway.clock.millis()));
        // Beyond what the clock can count, a token never expires.
        self.ground.vitals.set_token_expiry(tokio::time::Instant::now().checked_add(left));
    }

    fn limit_hit(&mut self, limit: LimitHit) {
        self.ground.worker.gateway.metrics.limits.of(limit).inc();
    }

    fn route_failed(&mut self, route: &str, error: &TemplateError) {
        // A client chooses how often: its first failure is worth an operator's attention, the rest are not.
        if self.ground.route_failures == 0 {
            tracing::warn!(connection = ?self.ground.live.id, route, %error, "route failed on a message");
        }
        self.ground.route_failures = self.ground.route_failures.saturating_add(1);
    }

    fn close(&mut self, reason: CloseReason) {
        self.ground.vitals.close(reason);
    }
}

impl Wiring<'_> {
    /// Makes a challenge over what is bound to the connection: `Issued` or `IssueFailed` follows.
    fn make_challenge(&mut self, form: ChallengeForm, epoch: u32) {
        let Ground { worker, live, binding, permit, .. } = &*self.ground;
        let mode = binding.as_ref().map_or(Mode::Bearer, |binding| binding.hello.mode);
        let work = permit.as_ref().and_then(|permit| Work::under(permit.load(), &worker.gateway.session.challenge.work));
        let issued = worker.gateway.issuer.issue_asking(live.id, epoch, live.origin.as_deref(), form, binding.as_ref(), work);
        let issued = issued.and_then(|issued| {
            let held = hold(&worker.gateway, &issued)?;
            Ok((challenge_frame(&issued, mode, held.as_ref()), issued, held))
        });
        let followup = match issued {
            Ok((frame, issued, held)) => {
                (self.ground.issued, self.ground.held) = (Some(issued), held);
                Followup::Issued(Box::new(frame))
            }
            Err(error) => {
                tracing::error!(connection = ?live.id, %error, "challenge could not be made");
                Followup::IssueFailed
            }
        };
        self.ground.followups.push_back(followup);
    }
}

/// Challenges the connection again once in so long, for as long as it lives. Zero: never.
fn challenge_in_time(every: Duration, ctx: &mut WebsocketContext<Connection>) {
    if every.is_zero() {
        return;
    }
    // Spread, so that connections which came together are not challenged together.
    let pause = Backoff::new(every, every).pause();
    ctx.run_later(pause, move |connection, ctx| {
        connection.happen(Event::ChallengeAgain(AgainCause::Time), ctx);
        challenge_in_time(every, ctx);
    });
}

/// Keeps the program of the form `frame` to be fetched.
fn hold(gateway: &Gateway, issued: &Issued) -> Result<Option<HeldProgram>, IssueError> {
    if issued.form != ChallengeForm::Frame {
        return Ok(None);
    }
    let handle = ProgramHandle::draw(gateway.node)?;
    Ok(Some(gateway.held.hold(handle, issued.program.clone())))
}

/// A challenge as it goes to the client.
fn challenge_frame(issued: &Issued, mode: Mode, held: Option<&HeldProgram>) -> ChallengeFrame {
    ChallengeFrame {
        challenge_id: *issued.challenge_id.as_bytes(),
        epoch: issued.epoch,
        server_nonce: issued.server_nonce,
        form: issued.form,
        program: held.map_or_else(|| issued.program.clone(), |held| held.handle().encode()),
        program_hash: held.map(|_| program_digest(&issued.program)),
        mode,
        signature: issued.signature.clone(),
        work: issued.work(),
        file: issued.file().cloned(),
        decoy: issued.decoy.clone(),
    }
}

/// The registry's entry of a connection that just opened.
pub(super) fn entry(gateway: &Gateway, live: &LiveConnection) -> Entry {
    let principal = live.principal();
    let expires = gateway.session.expiry_ends_connection;
    Entry {
        id: live.id,
        node: gateway.node,
        generation: live.generation,
        expires_at: principal.as_ref().filter(|_| expires).map(|principal| principal.expires_at),
        issuer: principal.as_ref().map(|principal| principal.issuer.clone()),
        principal: principal.map(|principal| principal.subject.clone()),
        origin: live.origin.clone(),
        verified: false,
        mode: Mode::default(),
        connected_at_ms: live.connected_at_ms,
        last_active_ms: live.connected_at_ms,
        subscriptions: Vec::new(),
    }
}
