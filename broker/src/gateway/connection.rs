use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use actix::{Actor, ActorContext as _, Addr, AsyncContext as _, Handler, Message, Running, SpawnHandle, StreamHandler};
use actix_http::ws::{self, ProtocolError};
use actix_web_actors::ws::WebsocketContext;
use countersign_node_proto::Payload;

use super::assembly::{Assembled, Assembler};
use super::inbound::close_reason_for;
use super::session::{ChallengeFrame, Event, Session};
use super::shared::Worker;
use super::supervisor::Admission;
use super::vitals::Vitals;
use super::wiring::Wiring;
use crate::challenge::{Binding, Concluded, HeldProgram, Issued, PendingPermit, SessionHandle};
use crate::close::CloseReason;
use crate::edge::SocketControl;
use crate::hub::encode_post;
use crate::quota::PerMinute;
use crate::registry::{ConnectionState, LiveConnection, Mailbox, PostError};
use crate::telemetry::{AgainCause, ConnectionStateLabel};

/// One socket.
///
/// The actor translates: frames into events for its [`Session`], which decides, and the session's effects into frames,
/// subscriptions and registry writes. Everything outbound goes through the Outbox, never through the actor's context.
pub(super) struct Connection {
    birth: Option<Birth>,
    open: Option<Open>,
}

/// What the handshake hands to a connection; it opens when its task is first polled, since only then it has an address.
pub(super) struct Birth {
    pub(super) worker: Rc<Worker>,
    pub(super) session: Session,
    pub(super) vitals: Rc<Vitals>,
    pub(super) permit: Option<PendingPermit>,
    pub(super) admission: Admission,
    pub(super) address: Option<std::net::IpAddr>,
    pub(super) host: Arc<str>,
}

/// An open connection.
struct Open {
    session: Session,
    assembler: Assembler,
    /// Messages since it was verified, for `challenge.again`.
    busy: PerMinute,
    ground: Ground,
}

/// What the session's effects act on.
pub(super) struct Ground {
    pub(super) worker: Rc<Worker>,
    pub(super) vitals: Rc<Vitals>,
    pub(super) live: Arc<LiveConnection>,
    /// The node's host as this client dialed it.
    pub(super) host: Arc<str>,
    /// What the gauge counts this connection as.
    pub(super) counted_as: ConnectionStateLabel,
    /// Events that effects brought forth; handled after the one that caused them.
    pub(super) followups: VecDeque<Followup>,
    pub(super) issued: Option<Issued>,
    /// Its program, where a frame is to fetch it.
    pub(super) held: Option<HeldProgram>,
    pub(super) permit: Option<PendingPermit>,
    /// What every challenge of a native client is bound to.
    pub(super) binding: Option<Arc<Binding>>,
    pub(super) challenge: Option<SessionHandle>,
    pub(super) hello_timer: Option<SpawnHandle>,
    /// Messages on which a route's template failed.
    pub(super) route_failures: u32,
    opened_at: tokio::time::Instant,
    /// The code of the client's close, if it sent one.
    client_code: Option<u16>,
    _admission: Admission,
}

/// An event that an effect brought forth.
pub(super) enum Followup {
    /// The challenge is made.
    Issued(Box<ChallengeFrame>),
    /// It could not be.
    IssueFailed,
}

impl Connection {
    /// The actor of a socket whose handshake was accepted.
    pub(super) fn new(birth: Birth) -> Self {
        Self { birth: Some(birth), open: None }
    }

    /// Lets the session handle an event, and whatever follows from it.
    pub(super) fn happen(&mut self, event: Event<'_>, ctx: &mut WebsocketContext<Self>) {
        let Some(open) = &mut self.open else { return };
        open.session.on(event, &mut Wiring { ground: &mut open.ground, ctx });
        while let Some(followup) = open.ground.followups.pop_front() {
            let event = match followup {
                Followup::Issued(frame) => Event::Issued(frame),
                Followup::IssueFailed => Event::IssueFailed,
            };
            open.session.on(event, &mut Wiring { ground: &mut open.ground, ctx });
        }
    }

    /// No challenge will be sent any more: its room is for others, also while this socket stays open, and the failure is
    /// charged.
    pub(super) fn hello_never_came(&mut self) {
        if let Some(permit) = self.open.as_mut().and_then(|open| open.ground.permit.take()) {
            permit.failed(received_at());
        }
    }

    /// A verified client that sends more than it should shows again what it is.
    fn challenge_if_busy(&mut self, ctx: &mut WebsocketContext<Self>) {
        let Some(open) = &self.open else { return };
        let minute = || open.ground.opened_at.elapsed().as_secs() / 60;
        if open.session.is_verified() && open.busy.passes(minute) {
            self.happen(Event::ChallengeAgain(AgainCause::Messages), ctx);
        }
    }

    /// A frame of the client. After our own close only the client's is waited for.
    fn frame(&mut self, message: ws::Message, ctx: &mut WebsocketContext<Self>) {
        let Some(open) = &mut self.open else { return };
        let vitals = Rc::clone(&open.ground.vitals);
        let outbox = vitals.outbox();
        if outbox.is_closing() && !matches!(message, ws::Message::Close(_)) {
            return;
        }
        match open.assembler.accept(message, vitals.inbound().message_max()) {
            Ok(Assembled::Text(text)) => {
                open.ground.heard();
                self.happen(Event::Text(&text), ctx);
                self.challenge_if_busy(ctx);
            }
            Ok(Assembled::Binary(bytes)) => {
                open.ground.heard();
                self.happen(Event::Binary(bytes), ctx);
            }
            // A full queue has closed the connection by itself.
            Ok(Assembled::Ping(payload)) => drop(outbox.push_pong(&payload)),
            Ok(Assembled::Close(code)) if code.is_none_or(may_be_sent) => {
                open.ground.client_code = code;
                outbox.push_close_echo(code);
                ctx.stop();
            }
            Ok(Assembled::Close(_)) => {
                outbox.push_close(CloseReason::Protocol);
                ctx.stop();
            }
            Ok(Assembled::Pong | Assembled::Incomplete) => {}
            Err(reason) => {
                outbox.push_close(reason);
                ctx.stop();
            }
        }
    }
}

impl Actor for Connection {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(birth) = self.birth.take() else { return ctx.stop() };
        let open = self.open.insert(Open::begin(birth, ctx));
        // A revocation ends the connections that it finds. One that came between the token's verification and this
        // connection's entry did not find it, so it is asked about here.
        if open.ground.is_revoked() {
            return open.ground.vitals.close(CloseReason::Disconnected);
        }
        self.happen(Event::Opened, ctx);
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        Running::Stop
    }

    /// Runs after a stop, the end of the stream, a dropped body and a panic alike: everything is given back here.
    fn stopped(&mut self, ctx: &mut Self::Context) {
        if let Some(open) = &mut self.open {
            open.ground.leave();
            // A second panic would abort the process; a session that panicked is not asked again.
            if std::thread::panicking() {
                open.ground.worker.gateway.metrics.connection_panics.inc();
            } else {
                self.happen(Event::Closed, ctx);
            }
        }
        self.open = None;
    }
}

impl StreamHandler<Result<ws::Message, ProtocolError>> for Connection {
    fn handle(&mut self, item: Result<ws::Message, ProtocolError>, ctx: &mut Self::Context) {
        match item {
            Ok(message) => self.frame(message, ctx),
            Err(error) => {
                // After some errors the parser would return the same one for ever: close, and stop.
                if let Some(open) = &self.open {
                    let vitals = &open.ground.vitals;
                    if let Some(reason) = close_reason_for(&error, vitals.inbound().verdict()) {
                        vitals.outbox().push_close(reason);
                    }
                }
                ctx.stop();
            }
        }
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Handler<Concluded> for Connection {
    type Result = ();

    fn handle(&mut self, concluded: Concluded, ctx: &mut Self::Context) {
        let Concluded { epoch, verdict } = concluded;
        self.happen(Event::Verdict { epoch, verdict: verdict.label() }, ctx);
    }
}

impl Open {
    /// Makes the connection known: to this node at once, to the registry without waiting.
    fn begin(birth: Birth, ctx: &mut WebsocketContext<Connection>) -> Self {
        let Birth { worker, session, vitals, permit, admission, address, host } = birth;
        let gateway = Arc::clone(&worker.gateway);
        let limits = &gateway.settings.limits;
        let mailbox = SocketMailbox {
            connection: ctx.address(),
            control: vitals.control().clone(),
            posted_bytes: Arc::default(),
            posted_bytes_max: limits.outbound_queue_max_bytes,
        };
        let facts = session.facts();
        let again = &gateway.session.challenge.again;
        let live = LiveConnection::new(
            facts.id,
            gateway.next_generation(),
            facts.origin.clone(),
            address,
            facts.principal.clone(),
            gateway.clock.millis(),
            Box::new(mailbox),
        );
        let live = Arc::new(live.challenged_after_calls(again.calls_per_minute));
        gateway.supervisor.live.insert(Arc::clone(&live));
        gateway.keeper.register(super::wiring::entry(&gateway, &live));
        gateway.metrics.connections.of(ConnectionStateLabel::Accepted).inc();
        // Watchdog and queue close on their own; decisions must end with the close, not with the socket.
        let (closing, keeper) = (Arc::clone(&live), gateway.keeper.clone());
        vitals.outbox().on_close(move |_| {
            closing.advance(ConnectionState::Closed);
            keeper.remove(closing.id, closing.generation);
        });
        worker.watchdog.watch(Rc::clone(&vitals));
        let address = live.address.map(tracing::field::display);
        tracing::info!(connection = ?live.id, origin = live.origin, address, "connection opened");
        let assembler = Assembler::default();
        let busy = PerMinute::new(again.messages_per_minute);
        let ground = Ground {
            worker,
            vitals,
            live,
            host,
            counted_as: ConnectionStateLabel::Accepted,
            followups: VecDeque::new(),
            issued: None,
            held: None,
            permit,
            binding: None,
            challenge: None,
            hello_timer: None,
            route_failures: 0,
            opened_at: tokio::time::Instant::now(),
            client_code: None,
            _admission: admission,
        };
        Self { session, assembler, busy, ground }
    }
}

impl Ground {
    /// The client sent a message; the frame guard has counted it.
    fn heard(&self) {
        self.live.last_active_ms.store(self.worker.gateway.clock.millis(), Ordering::Relaxed);
    }

    /// Was the token revoked after it had been verified?
    fn is_revoked(&self) -> bool {
        let verifier = &self.worker.gateway.verifier;
        self.live.principal().is_some_and(|principal| verifier.is_revoked(&principal))
    }

    /// Gives everything back: local entry first, then subscriptions, then the registry's entry. Nothing waits or panics.
    fn leave(&mut self) {
        let gateway = &self.worker.gateway;
        gateway.supervisor.live.remove(self.live.id, self.live.generation);
        self.worker.shard.drop_connection(self.live.id);
        gateway.keeper.remove(self.live.id, self.live.generation);
        self.challenge = None;
        gateway.metrics.connections.of(self.counted_as).dec();
        let code = self.vitals.outbox().close_reason().map(CloseReason::code);
        // After a close of ours the client's is its echo.
        let client_code = self.client_code.filter(|_| code.is_none());
        let duration_ms = u64::try_from(self.opened_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(connection = ?self.live.id, code, client_code, duration_ms, "connection closed");
    }

    /// Moves the gauge.
    pub(super) fn count_as(&mut self, state: ConnectionStateLabel) {
        let connections = &self.worker.gateway.metrics.connections;
        connections.of(self.counted_as).dec();
        connections.of(state).inc();
        self.counted_as = state;
    }
}

/// The way to a connection from other threads.
struct SocketMailbox {
    connection: Addr<Connection>,
    control: SocketControl,
    /// Posted and not yet handled: the actor's mailbox has no bound of its own.
    posted_bytes: Arc<AtomicUsize>,
    posted_bytes_max: usize,
}

/// A message for the client, from another thread.
#[derive(Message)]
#[rtype(result = "()")]
struct Posted {
    payload: Payload,
    _room: PostedRoom,
}

/// Room in the mailbox, given back when the message was handled or dropped.
struct PostedRoom {
    posted_bytes: Arc<AtomicUsize>,
    bytes: usize,
}

/// An order to challenge again.
#[derive(Message)]
#[rtype(result = "()")]
struct ChallengeNow(AgainCause);

/// An order to close.
#[derive(Message)]
#[rtype(result = "()")]
struct CloseNow(CloseReason);

impl Mailbox for SocketMailbox {
    fn post(&self, payload: Payload) -> Result<(), PostError> {
        if self.control.is_gone() || !self.connection.connected() {
            return Err(PostError::Gone);
        }
        let bytes = match &payload {
            Payload::Text(text) => text.len(),
            Payload::Binary(bytes) => bytes.len(),
        };
        let room = PostedRoom { posted_bytes: Arc::clone(&self.posted_bytes), bytes };
        if self.posted_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes > self.posted_bytes_max {
            return Err(PostError::SlowConsumer);
        }
        self.connection.do_send(Posted { payload, _room: room });
        Ok(())
    }

    fn challenge(&self, cause: AgainCause) {
        // Bounded by who calls: once a minute for its calls, and a server with an API key.
        self.connection.do_send(ChallengeNow(cause));
    }

    fn close(&self, reason: CloseReason) {
        // Bounded by who calls: an operator, a revocation, a drain. One that arrives after the end is dropped.
        self.connection.do_send(CloseNow(reason));
    }

    fn cut(&self) {
        self.control.cut();
    }
}

impl Drop for PostedRoom {
    fn drop(&mut self) {
        self.posted_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Handler<Posted> for Connection {
    type Result = ();

    fn handle(&mut self, posted: Posted, _: &mut Self::Context) {
        if let Some(open) = &self.open {
            let outbox = open.ground.vitals.outbox();
            // A full queue has closed the connection by itself.
            let _ = outbox.push_frame(encode_post(outbox.dialect(), &posted.payload));
        }
    }
}

impl Handler<ChallengeNow> for Connection {
    type Result = ();

    fn handle(&mut self, ChallengeNow(cause): ChallengeNow, ctx: &mut Self::Context) {
        self.happen(Event::ChallengeAgain(cause), ctx);
    }
}

impl Handler<CloseNow> for Connection {
    type Result = ();

    fn handle(&mut self, CloseNow(reason): CloseNow, _: &mut Self::Context) {
        let Some(open) = &self.open else { return };
        let ground = &open.ground;
        if reason == CloseReason::Drain {
            // The id's random bytes spread the clients; nothing else has to be drawn or kept.
            let window_ms = ground.worker.gateway.retry_hint_max.as_millis().max(1);
            let random = u128::from_be_bytes(*ground.live.id.as_bytes());
            let hint = format!("node restarts, reconnect in {} ms", random % window_ms);
            ground.vitals.close_with(reason, &hint);
        }
        ground.vitals.close(reason);
    }
}

/// When a message is handled, in the clock of challenge deadlines.
pub(super) fn received_at() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// May a client send this close code? Those below 1000, the reserved ones and those never sent may not.
///
/// Source: RFC 6455, section 7.4, and the registry of close codes.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::may_be_sent;

    #[test]
    fn only_legal_close_codes_are_echoed() {
        for code in [1000, 1001, 1003, 1007, 1014, 3000, 4999] {
            assert!(may_be_sent(code), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert!(!may_be_sent(code), "{code}");
        }
    }
}
