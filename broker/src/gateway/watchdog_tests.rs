use std::cell::Cell;
use std::task::{Context, Waker};

use bytes::Bytes;
use countersign_node_proto::{ConnectionId, Generation, NodeId};

use super::*;
use crate::authorizer::tests::{NoMailbox, office};
use crate::config::Mode;
use crate::gateway::{FrameGuard, Inbound, InboundRates, Verdict};
use crate::hub::{Dialect, Outbox};
use crate::identity::Clock;
use crate::registry::{Bound, ConnectionState, LiveConnection};
use crate::ticket::TicketOffice;
use crate::ticket::tests::Page;

/// Deadlines of whole seconds, each different, and nothing else.
const QUIET: WatchdogSettings = WatchdogSettings {
    write_stall: Duration::from_secs(10),
    message_assembly: Duration::from_secs(5),
    ping_interval: Duration::ZERO,
    pong_timeout: Duration::from_secs(3),
    idle: Duration::ZERO,
    close: Duration::from_secs(2),
    age_max: Duration::ZERO,
};

/// A watched connection without a socket, and what it was told.
struct Patient {
    watchdog: Watchdog,
    vitals: Rc<Vitals>,
    metrics: Arc<Metrics>,
    told: Rc<Cell<Option<CloseReason>>>,
}

impl Patient {
    fn new(settings: WatchdogSettings) -> Self {
        let metrics = Arc::new(Metrics::new());
        let outbox = Outbox::new(ConnectionId::from_bytes([9; 16]), Dialect::Plain, 1 << 20, Arc::clone(&metrics));
        let vitals = Vitals::new(outbox, Inbound::new(100, 100), crate::edge::SocketControl::default());
        let told = Rc::new(Cell::new(None));
        let hook = Rc::clone(&told);
        vitals.outbox().on_close(move |reason| hook.set(Some(reason)));
        let watchdog = Watchdog::start(settings, Arc::clone(&metrics));
        watchdog.watch(Rc::clone(&vitals));
        Self { watchdog, vitals, metrics, told }
    }

    /// The socket takes what is queued.
    fn drain(&self) -> Vec<u8> {
        let mut taken = Vec::new();
        let cx = &mut Context::from_waker(Waker::noop());
        while let std::task::Poll::Ready(slice) = self.vitals.outbox().poll_slice(cx, 8_192) {
            self.vitals.progressed();
            taken.extend_from_slice(&slice);
        }
        taken
    }

    /// The client sends these bytes.
    async fn sends(&self, bytes: &'static [u8]) {
        use futures_util::{StreamExt as _, stream};
        let rates = InboundRates { control_frames: 0, messages: 0 };
        let payload = stream::iter([Ok(Bytes::from_static(bytes))]).chain(stream::pending());
        let mut guard = FrameGuard::new(payload, Rc::clone(self.vitals.inbound()), rates, Arc::clone(&self.metrics));
        guard.next().await.unwrap().unwrap();
    }

    fn is_cut(&self, reason: CutReason) -> bool {
        assert_eq!(self.vitals.control().is_cut(), self.metrics.cuts.of(reason).get() == 1);
        self.vitals.control().is_cut()
    }
}

/// Lets this much time pass, and the watchdog see it.
async fn pass(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// Runs a test on a paused clock: time passes as fast as everybody waits.
fn paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

#[test]
fn a_client_that_takes_nothing_is_cut() {
    paused(async {
        let patient = Patient::new(QUIET);
        patient.vitals.outbox().push_text("a").unwrap();
        pass(9.5).await;
        assert!(!patient.is_cut(CutReason::WriteStall));
        patient.drain();
        patient.vitals.outbox().push_text("b").unwrap();
        pass(9.5).await;
        assert!(!patient.is_cut(CutReason::WriteStall), "progress starts the time again");
        pass(1.5).await;
        assert!(patient.is_cut(CutReason::WriteStall));
    });
}

#[test]
fn pings_go_out_and_any_byte_answers_them() {
    paused(async {
        let patient = Patient::new(WatchdogSettings { ping_interval: Duration::from_secs(10), ..QUIET });
        for _ in 0..5 {
            let mut waited = 0.0;
            while patient.vitals.outbox().queued_bytes() == 0 {
                pass(0.25).await;
                waited += 0.25;
                assert!(waited < 11.0, "a ping is due");
            }
            assert_eq!(patient.drain(), [0x89, 0]);
            pass(2.0).await;
            patient.sends(&[0x81, 0x85, 0]).await;
            patient.vitals.inbound().frame_done();
        }
        assert!(!patient.is_cut(CutReason::PongTimeout));
        pass(15.0).await;
        assert!(patient.is_cut(CutReason::PongTimeout), "queue {}", patient.vitals.outbox().queued_bytes());
    });
}

#[test]
fn first_pings_are_spread_over_the_interval() {
    let settings = WatchdogSettings { ping_interval: Duration::from_secs(10), ..QUIET };
    let (mut jitter, now) = (Jitter(1), Instant::now());
    let mut tenths = [0; 10];
    for _ in 0..1_000 {
        let outbox = Outbox::new(ConnectionId::from_bytes([0; 16]), Dialect::Plain, 1, Arc::new(Metrics::new()));
        let vitals = Vitals::new(outbox, Inbound::new(1, 1), crate::edge::SocketControl::default());
        let first = Slot::new(vitals, now, &settings, &mut jitter).next_ping.unwrap() - now;
        tenths[usize::try_from(first.as_millis() / 1_000).unwrap().min(9)] += 1;
    }
    assert!(tenths.iter().all(|count| (50..200).contains(count)), "{tenths:?}");
}

#[test]
fn an_incomplete_message_is_closed() {
    paused(async {
        let patient = Patient::new(QUIET);
        patient.sends(&[0x81, 0x85, 1, 2]).await;
        pass(4.5).await;
        assert_eq!(patient.told.get(), None);
        pass(1.0).await;
        assert_eq!(patient.told.get(), Some(CloseReason::Policy));
        assert_eq!(patient.metrics.limits.of(LimitHit::MessageAssembly).get(), 1);
        assert_eq!(patient.drain()[2..4], 1008_u16.to_be_bytes());
    });
}

#[test]
fn silence_ages_and_deadlines_close_with_their_codes() {
    let check = |settings: WatchdogSettings, set: fn(&Vitals), expected: CloseReason| {
        paused(async move {
            let patient = Patient::new(settings);
            set(&patient.vitals);
            pass(5.5).await;
            patient.sends(&[0x8A, 0x80, 0, 0, 0, 0]).await;
            assert_eq!(patient.told.get(), None, "{expected:?}");
            pass(2.0).await;
            assert_eq!(patient.told.get(), Some(expected));
            assert_eq!(patient.vitals.outbox().close_reason(), Some(expected));
            pass(2.5).await;
            assert!(patient.is_cut(CutReason::CloseTimeout), "the close was not answered");
        });
    };
    let six = Duration::from_secs(6);
    check(WatchdogSettings { idle: six, ..QUIET }, |_| {}, CloseReason::Idle);
    check(WatchdogSettings { age_max: six, ..QUIET }, |_| {}, CloseReason::Drain);
    check(QUIET, |vitals| vitals.set_token_expiry(Some(Instant::now() + Duration::from_secs(6))), CloseReason::Token);
    let deadline: fn(&Vitals) =
        |vitals| vitals.set_deadline(Instant::now() + Duration::from_secs(6), CloseReason::ChallengeDeadline);
    check(QUIET, deadline, CloseReason::ChallengeDeadline);
}

#[test]
fn what_was_done_in_time_closes_nothing() {
    paused(async {
        let patient = Patient::new(QUIET);
        let soon = Instant::now() + Duration::from_secs(1);
        patient.vitals.set_deadline(soon, CloseReason::ChallengeDeadline);
        patient.vitals.set_token_expiry(Some(soon));
        patient.vitals.clear_deadline();
        patient.vitals.set_token_expiry(Some(soon + Duration::from_secs(60)));
        pass(30.0).await;
        assert_eq!(patient.told.get(), None);
        assert!(!patient.vitals.control().is_cut());
    });
}

#[test]
fn a_client_that_left_or_an_ended_body_does_not_linger() {
    let check = |end: fn(&Vitals)| {
        paused(async move {
            let patient = Patient::new(QUIET);
            end(&patient.vitals);
            pass(1.5).await;
            assert!(!patient.is_cut(CutReason::CloseTimeout));
            pass(1.5).await;
            assert!(patient.is_cut(CutReason::CloseTimeout));
        });
    };
    check(|vitals| vitals.inbound().end(Verdict::PeerGone));
    check(Vitals::body_ended);
}

#[test]
fn a_socket_that_is_gone_is_forgotten() {
    paused(async {
        let patient = Patient::new(QUIET);
        assert_eq!(patient.watchdog.len(), 1);
        patient.vitals.control().mark_gone();
        pass(0.5).await;
        assert!(patient.watchdog.is_empty());
        assert_eq!(Rc::strong_count(&patient.vitals), 1);
    });
}

#[test]
fn the_task_ends_with_the_watchdog() {
    paused(async {
        let patient = Patient::new(QUIET);
        let watched = Rc::downgrade(&patient.watchdog.0);
        drop(patient);
        pass(0.5).await;
        assert!(watched.upgrade().is_none());
    });
}

/// Texts of the frames that were taken from a queue: pushes are short enough for the two-byte head and its 16-bit length.
fn texts(mut bytes: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let [0x81, length, rest @ ..] = bytes {
        let (length, rest) = match length {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            length => (usize::from(*length), rest),
        };
        texts.push(String::from_utf8(rest[..length].to_vec()).unwrap());
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "{bytes:?}");
    texts
}

/// A verified page that gets tickets, on a watchdog of many.
fn page(watchdog: &Watchdog, office: &Arc<TicketOffice>, number: u8) -> Rc<Vitals> {
    let id = ConnectionId::from_bytes([number; 16]);
    let outbox = Outbox::new(id, Dialect::Native, 1 << 20, Arc::new(Metrics::new()));
    let vitals = Vitals::new(outbox, Inbound::new(100, 100), crate::edge::SocketControl::default());
    let live = LiveConnection::new(id, Generation(1), None, None, None, 0, Box::new(NoMailbox));
    live.bind(Bound { key: Page::new().key, mode: Mode::Bearer });
    live.advance(ConnectionState::Verified);
    watchdog.watch(Rc::clone(&vitals));
    watchdog.start_tickets(&vitals, TicketPushes::new(Arc::new(live), Arc::clone(office)));
    vitals
}

fn taken(vitals: &Rc<Vitals>) -> usize {
    let mut taken = Vec::new();
    let cx = &mut Context::from_waker(Waker::noop());
    while let std::task::Poll::Ready(slice) = vitals.outbox().poll_slice(cx, 8_192) {
        vitals.progressed();
        taken.extend_from_slice(&slice);
    }
    let texts = texts(&taken);
    assert!(texts.iter().all(|text| text.starts_with(r#"{"event":"ticket","ticket":""#)), "{texts:?}");
    texts.len()
}

#[test]
fn a_page_gets_a_ticket_at_once_and_the_next_long_before_it_expires() {
    paused(async {
        let watchdog = Watchdog::start(QUIET, Arc::new(Metrics::new()));
        let office = office(NodeId::from_bytes([1; 8]), Clock::system());
        let page = page(&watchdog, &office, 1);
        assert_eq!(taken(&page), 1, "at once");
        let mut longest = 0;
        let mut since = 0;
        let mut count = 0;
        for _quarter_second in 0..4 * 120 {
            pass(0.25).await;
            since += 1;
            let tickets = taken(&page);
            if tickets > 0 {
                count += tickets;
                longest = longest.max(since);
                since = 0;
            }
        }
        assert!(longest <= 4 * 8, "never later than half of its life, and a look: {longest} quarters of a second");
        assert!((15..=20).contains(&count), "about every seven seconds: {count} in two minutes");
        page.close(CloseReason::Idle);
        let queued = page.outbox().queued_bytes();
        page.tickets().unwrap().set_due(Instant::now());
        pass(1.0).await;
        assert_eq!(page.outbox().queued_bytes(), queued, "none after a close");
    });
}

#[test]
fn pages_that_were_verified_together_are_not_served_together() {
    paused(async {
        let watchdog = Watchdog::start(QUIET, Arc::new(Metrics::new()));
        let office = office(NodeId::from_bytes([1; 8]), Clock::system());
        let pages: Vec<_> = (0..=255).map(|number| page(&watchdog, &office, number)).collect();
        assert_eq!(pages.iter().map(taken).sum::<usize>(), 256);
        let mut busiest = 0;
        for _look in 0..4 * 30 {
            pass(0.25).await;
            busiest = busiest.max(pages.iter().map(taken).sum::<usize>());
        }
        assert!(busiest <= TICKETS_A_LOOK_MIN, "{busiest} in one look");
        // After a stall all are due at once; a look still serves only a part.
        pages.iter().for_each(|page| page.tickets().unwrap().set_due(Instant::now()));
        pass(0.25).await;
        let first: usize = pages.iter().map(taken).sum();
        assert!(first <= 2 * TICKETS_A_LOOK_MIN, "{first}");
        pass(1.0).await;
        assert_eq!(first + pages.iter().map(taken).sum::<usize>(), 256, "and the others soon after");
    });
}
