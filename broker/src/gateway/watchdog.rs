use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Vitals;
use super::tickets::TicketPushes;
use crate::close::CloseReason;
use crate::config::LimitSettings;
use crate::telemetry::{CutReason, LimitHit, Metrics};

/// How often the connections are looked at, and so how late a deadline may be.
const TICK: Duration = Duration::from_millis(250);

/// Deadlines of a connection; zero stands for none where the setting says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchdogSettings {
    /// Bytes queued and none taken for this long: cut.
    pub write_stall: Duration,
    /// A frame or message incomplete for this long: 1008.
    pub message_assembly: Duration,
    /// Between two pings; zero: none.
    pub ping_interval: Duration,
    /// Nothing heard for this long after a ping: cut.
    pub pong_timeout: Duration,
    /// No message for this long: 1001; zero: no bound.
    pub idle: Duration,
    /// A closing handshake that takes longer: cut.
    pub close: Duration,
    /// Oldest age, plus up to a tenth: 1012; zero: no bound.
    pub age_max: Duration,
}

impl From<&LimitSettings> for WatchdogSettings {
    fn from(limits: &LimitSettings) -> Self {
        Self {
            write_stall: limits.write_stall_timeout_ms.duration(),
            message_assembly: limits.message_assembly_timeout_ms.duration(),
            ping_interval: limits.ping_interval_seconds.duration(),
            pong_timeout: limits.pong_timeout_seconds.duration(),
            idle: limits.idle_timeout_seconds.duration(),
            close: limits.close_timeout_ms.duration(),
            age_max: limits.connection_age_max_seconds.duration(),
        }
    }
}

/// Of the connections of a thread, one in so many gets its next ticket at one look, and [`TICKETS_A_LOOK_MIN`] in any case;
/// the rest wait for the next. The shortest tickets are renewed every ten looks, and seldom all together.
const TICKETS_A_LOOK: usize = 8;
/// See [`TICKETS_A_LOOK`].
const TICKETS_A_LOOK_MIN: usize = 64;

/// Ends dead, slow and overdue connections of one worker thread, and keeps its verified pages in tickets.
///
/// It stands outside the sockets' tasks: while a client does not read, its task is not polled, and no timer in it fires.
/// Each tick looks at every connection: some ten nanoseconds each, so a hundred thousand of them cost about one percent
/// of a core. Tickets are pushed from here for the same reason that deadlines are watched from here: ten thousand sockets
/// with a timer each would be ten thousand timers, and whether a ticket is due is one comparison in a look that is taken
/// anyway. A look pushes to a bounded part of the connections, so that those that were verified together never are served
/// together.
#[derive(Clone)]
pub struct Watchdog(Rc<Watched>);

struct Watched {
    settings: WatchdogSettings,
    metrics: Arc<Metrics>,
    slots: RefCell<Vec<Slot>>,
    jitter: RefCell<Jitter>,
}

impl Watchdog {
    /// Starts to watch on this thread, for as long as the value or a clone of it lives. Needs a local task set.
    #[must_use]
    pub fn start(settings: WatchdogSettings, metrics: Arc<Metrics>) -> Self {
        let watched = Rc::new(Watched { settings, metrics, slots: RefCell::default(), jitter: RefCell::new(Jitter::new()) });
        actix_rt::spawn(tick(Rc::downgrade(&watched)));
        Self(watched)
    }

    /// Watches a connection until its socket is gone.
    pub fn watch(&self, vitals: Rc<Vitals>) {
        let slot = Slot::new(vitals, Instant::now(), &self.0.settings, &mut self.0.jitter.borrow_mut());
        self.0.slots.borrow_mut().push(slot);
    }

    /// Pushes a page its first ticket now, and the next before each expires.
    pub(super) fn start_tickets(&self, vitals: &Vitals, pushes: TicketPushes) {
        vitals.start_tickets(pushes);
        if let Some(tickets) = vitals.tickets() {
            let renew_in = tickets.push(vitals.outbox());
            // Anywhere in most of the time: pages that were verified together part at once.
            let first = renew_in / 4 + self.0.jitter.borrow_mut().up_to(renew_in / 4 * 3);
            tickets.set_due(Instant::now() + first);
        }
    }

    /// Connections that are watched.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.slots.borrow().len()
    }

    /// None is watched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Looks at the connections until the watchdog is dropped.
async fn tick(watched: Weak<Watched>) {
    let mut ticks = interval(TICK);
    // After a stall of the thread one look is enough: deadlines are instants, not counts of ticks.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = ticks.tick().await;
        let Some(watched) = watched.upgrade() else { return };
        watched.look(now);
    }
}

impl Watched {
    /// Looks at every connection once.
    fn look(&self, now: Instant) {
        // Taken out: what a close sets off may start to watch another connection.
        let mut slots = self.slots.take();
        let mut tickets_left = (slots.len() / TICKETS_A_LOOK).max(TICKETS_A_LOOK_MIN);
        slots.retain_mut(|slot| {
            let finding = slot.examine(now, &self.settings);
            if finding == Finding::Ticket {
                if tickets_left > 0 {
                    tickets_left -= 1;
                    self.renew_ticket(&slot.vitals, now);
                }
                return true;
            }
            self.act(slot, finding, now)
        });
        let mut added = self.slots.borrow_mut();
        slots.append(&mut added);
        *added = slots;
    }

    /// Pushes a page its next ticket.
    fn renew_ticket(&self, vitals: &Vitals, now: Instant) {
        let Some(tickets) = vitals.tickets() else { return };
        let renew_in = tickets.push(vitals.outbox());
        tickets.set_due(now + renew_in - self.jitter.borrow_mut().up_to(renew_in / 10));
    }

    /// Does what a finding asks for. Tells whether the connection stays watched.
    fn act(&self, slot: &mut Slot, finding: Finding, now: Instant) -> bool {
        let vitals = &slot.vitals;
        match finding {
            Finding::Fine | Finding::Ticket => {}
            Finding::Gone => return false,
            Finding::Ping => {
                // A refusal needs no answer: the queue overflowed, and the connection is closing by that.
                let _ = vitals.outbox().push_ping(&[]);
                slot.pinged_at = Some(now);
                slot.next_ping = Some(now + self.settings.ping_interval);
            }
            Finding::Close(reason) => {
                if reason == CloseReason::Policy {
                    self.metrics.limits.of(LimitHit::MessageAssembly).inc();
                }
                vitals.close(reason);
            }
            Finding::Cut(reason) => {
                self.metrics.cuts.of(reason).inc();
                vitals.control().cut();
            }
        }
        true
    }
}

/// What a look at one connection says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    Fine,
    Gone,
    Ping,
    Ticket,
    Close(CloseReason),
    Cut(CutReason),
}

/// A connection, and what was seen of it when last looked at.
struct Slot {
    vitals: Rc<Vitals>,
    slices_seen: u64,
    stalled_since: Option<Instant>,
    ending_since: Option<Instant>,
    next_ping: Option<Instant>,
    pinged_at: Option<Instant>,
    retires_at: Option<Instant>,
}

impl Slot {
    /// A connection that opens now. The first ping comes at a random point of the interval, so that connections that
    /// opened together do not ping together for ever.
    fn new(vitals: Rc<Vitals>, now: Instant, settings: &WatchdogSettings, jitter: &mut Jitter) -> Self {
        let some = |duration: Duration| (!duration.is_zero()).then_some(duration);
        let next_ping = some(settings.ping_interval).map(|interval| now + jitter.up_to(interval));
        let retires_at = some(settings.age_max).map(|age| now + age + jitter.up_to(age / 10));
        Self { vitals, slices_seen: 0, stalled_since: None, ending_since: None, next_ping, pinged_at: None, retires_at }
    }

    /// Looks at the connection: the gravest finding first.
    fn examine(&mut self, now: Instant, settings: &WatchdogSettings) -> Finding {
        let control = self.vitals.control();
        if control.is_gone() {
            return Finding::Gone;
        }
        if control.is_cut() {
            return Finding::Fine;
        }
        if self.stalls(now, settings.write_stall) {
            return Finding::Cut(CutReason::WriteStall);
        }
        if self.vitals.is_ending() {
            let since = *self.ending_since.get_or_insert(now);
            let overdue = now - since >= settings.close;
            return if overdue { Finding::Cut(CutReason::CloseTimeout) } else { Finding::Fine };
        }
        if let Some(reason) = self.overdue(now, settings) {
            return Finding::Close(reason);
        }
        match self.heartbeat(now, settings) {
            Finding::Fine if self.vitals.tickets().is_some_and(|tickets| tickets.is_due(now)) => Finding::Ticket,
            finding => finding,
        }
    }

    /// Nothing was taken of what is queued for too long.
    fn stalls(&mut self, now: Instant, write_stall: Duration) -> bool {
        let slices = self.vitals.slices();
        let moved = std::mem::replace(&mut self.slices_seen, slices) != slices;
        if moved || self.vitals.outbox().queued_bytes() == 0 {
            self.stalled_since = None;
            return false;
        }
        now - *self.stalled_since.get_or_insert(now) >= write_stall
    }

    /// The deadline that has passed, if one has.
    fn overdue(&self, now: Instant, settings: &WatchdogSettings) -> Option<CloseReason> {
        let inbound = self.vitals.inbound();
        if let Some(reason) = self.vitals.overdue(now) {
            return Some(reason);
        }
        if inbound.incomplete_since().is_some_and(|since| now.duration_since(since) >= settings.message_assembly) {
            return Some(CloseReason::Policy);
        }
        if !settings.idle.is_zero() && now.duration_since(inbound.message_at()) >= settings.idle {
            return Some(CloseReason::Idle);
        }
        self.retires_at.filter(|at| *at <= now).map(|_| CloseReason::Drain)
    }

    /// Whether a ping is due, or its answer overdue. Whatever the client sends answers.
    fn heartbeat(&mut self, now: Instant, settings: &WatchdogSettings) -> Finding {
        if self.pinged_at.is_some_and(|at| self.vitals.inbound().bytes_at() > at) {
            self.pinged_at = None;
        }
        match self.pinged_at {
            Some(at) if now - at >= settings.pong_timeout => Finding::Cut(CutReason::PongTimeout),
            None if self.next_ping.is_some_and(|at| at <= now) => Finding::Ping,
            _ => Finding::Fine,
        }
    }
}

/// Spreads what would otherwise happen at once. SplitMix64: nothing here is a secret.
struct Jitter(u64);

impl Jitter {
    fn new() -> Self {
        // Without randomness the spread is the same in each process, which is no harm.
        Self(getrandom::u64().unwrap_or(0x9E37_79B9_7F4A_7C15))
    }

    /// A duration from zero to `most`.
    fn up_to(&mut self, most: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        most.mul_f64((mixed >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

#[cfg(test)]
#[path = "watchdog_tests.rs"]
mod tests;
