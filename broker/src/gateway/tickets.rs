use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::native::Push;
use crate::hub::Outbox;
use crate::registry::LiveConnection;
use crate::ticket::{Issued, TicketOffice};

/// Until the next attempt when there was no ticket to be had: the cluster's keys are not known yet, or the connection is
/// about to end.
const RETRY: Duration = Duration::from_secs(1);

/// The tickets of one verified page: when the next is due. The watchdog looks, and has it pushed.
///
/// Idle cost: three words, for pages that get tickets.
pub(super) struct TicketPushes {
    connection: Arc<LiveConnection>,
    office: Arc<TicketOffice>,
    due: Cell<Option<Instant>>,
}

impl TicketPushes {
    pub(super) fn new(connection: Arc<LiveConnection>, office: Arc<TicketOffice>) -> Self {
        Self { connection, office, due: Cell::new(None) }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.get().is_some_and(|due| due <= now)
    }

    pub(super) fn set_due(&self, due: Instant) {
        self.due.set(Some(due));
    }

    /// Queues a ticket for the client, of the state of now; within how long the next should follow.
    pub(super) fn push(&self, outbox: &Outbox) -> Duration {
        let Some(Issued { ticket, nonce, expires_in_ms, renew_in }) = self.office.issue(&self.connection) else { return RETRY };
        // A full queue has closed the connection by itself.
        let _ = outbox.push_text(&Push::Ticket { ticket: &ticket, nonce: &nonce, expires_in_ms }.encode());
        renew_in
    }
}
