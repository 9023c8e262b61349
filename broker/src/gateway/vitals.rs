use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use tokio::time::Instant;

use super::Inbound;
use super::tickets::TicketPushes;
use crate::close::CloseReason;
use crate::edge::SocketControl;
use crate::hub::Outbox;

/// What the [`Watchdog`](super::Watchdog) must see of one connection without its task's help: both directions' progress,
/// the deadlines, and the two ways to end it.
pub struct Vitals {
    outbox: Rc<Outbox>,
    inbound: Rc<Inbound>,
    control: SocketControl,
    /// Counted, not timed: a clock would be read for each slice.
    slices: Cell<u64>,
    deadline: Cell<Option<(Instant, CloseReason)>>,
    token_expiry: Cell<Option<Instant>>,
    body_ended: Cell<bool>,
    /// Set when a page whose calls need tickets is verified.
    tickets: OnceCell<Box<TicketPushes>>,
}

impl Vitals {
    /// The vitals of a connection that is about to open.
    #[must_use]
    pub fn new(outbox: Rc<Outbox>, inbound: Rc<Inbound>, control: SocketControl) -> Rc<Self> {
        Rc::new(Self {
            outbox,
            inbound,
            control,
            slices: Cell::new(0),
            deadline: Cell::new(None),
            token_expiry: Cell::new(None),
            body_ended: Cell::new(false),
            tickets: OnceCell::new(),
        })
    }

    /// The outbound queue.
    #[must_use]
    pub fn outbox(&self) -> &Rc<Outbox> {
        &self.outbox
    }

    /// What the frame guard sees and obeys.
    #[must_use]
    pub fn inbound(&self) -> &Rc<Inbound> {
        &self.inbound
    }

    /// The kill switch.
    #[must_use]
    pub fn control(&self) -> &SocketControl {
        &self.control
    }

    /// Starts the closing handshake and tells the actor. Does nothing on a connection that is closing already.
    pub fn close(&self, reason: CloseReason) {
        self.close_with(reason, reason.row().text);
    }

    /// As [`Vitals::close`] with a text of the caller's, such as a hint when to reconnect.
    pub fn close_with(&self, reason: CloseReason, text: &str) {
        self.outbox.push_close_text(reason, text);
    }

    /// Closes with `reason` when `at` comes; replaces what was set before. Hello and challenge deadlines stand here.
    pub fn set_deadline(&self, at: Instant, reason: CloseReason) {
        self.deadline.set(Some((at, reason)));
    }

    /// The phase was completed in time.
    pub fn clear_deadline(&self) {
        self.deadline.set(None);
    }

    /// When the token expires, where that ends the connection; a refresh moves it.
    pub fn set_token_expiry(&self, at: Option<Instant>) {
        self.token_expiry.set(at);
    }

    /// From now on the page gets tickets. The first call counts.
    pub(super) fn start_tickets(&self, pushes: TicketPushes) {
        let _first_counts = self.tickets.set(Box::new(pushes));
    }

    /// The tickets that the page gets, if it gets any.
    pub(super) fn tickets(&self) -> Option<&TicketPushes> {
        self.tickets.get().map(Box::as_ref)
    }

    /// Slices that the socket took so far.
    #[must_use]
    pub fn slices(&self) -> u64 {
        self.slices.get()
    }

    /// The socket took a slice.
    pub(super) fn progressed(&self) {
        self.slices.set(self.slices.get() + 1);
    }

    /// The body was dropped: nothing more will be sent, only the socket may live on.
    pub(super) fn body_ended(&self) {
        self.body_ended.set(true);
        self.outbox.end();
        self.control.finish();
    }

    /// A close frame is queued or sent, the client went, or the body is gone.
    pub(super) fn is_ending(&self) -> bool {
        self.outbox.is_closing() || self.body_ended.get() || self.inbound.has_ended()
    }

    /// The first deadline that has passed.
    pub(super) fn overdue(&self, now: Instant) -> Option<CloseReason> {
        let expired = self.token_expiry.get().filter(|at| *at <= now).map(|_| CloseReason::Token);
        expired.or_else(|| self.deadline.get().filter(|(at, _)| *at <= now).map(|(_, reason)| reason))
    }
}
