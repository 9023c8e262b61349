use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::failures::{FailureRates, FailuresOf, TooManyFailures};
use crate::config::ChallengeSettings;
use crate::edge::prefix;
use crate::quota::Quota;
use crate::telemetry::{LimitHit, Metrics};

/// The bounds on challenges that wait for an answer – of the node, of a network prefix, of an origin – and on those that
/// fail.
///
/// A handshake takes a permit before its 101 and is refused where there is none; a permit once given is never taken back,
/// so that a flood of newcomers cannot push out honest ones. An origin at its bound is not shut: anybody can claim an
/// origin, so that would be a way to shut out its honest pages. Half of what the node has beyond is kept for networks that
/// leave next to nothing pending; the other half is the other origins'.
#[derive(Debug, Clone)]
pub struct PendingPermits {
    quotas: Arc<Quotas>,
}

#[derive(Debug)]
struct Quotas {
    taken: AtomicUsize,
    max: usize,
    by_network: Quota<IpAddr>,
    /// Up to the end of what is kept for networks with little pending.
    by_origin: Quota<String>,
    /// From here on, that is asked for.
    origin_max: usize,
    failures: FailureRates,
    metrics: Arc<Metrics>,
}

/// A network with no more than this part of its bound pending, or one challenge, is let in where its origin's bound is reached.
const MODEST_SHARE: usize = 100;

/// On whose account a challenge goes. Addresses and origins serve quotas here, no decision of trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimant {
    /// The client's network prefix; none where no address is known, which is one network too.
    pub network: Option<IpAddr>,
    /// The handshake's origin, which is the tenant; empty where it has none. The allow-list bounds how many there are.
    pub origin: String,
}

/// Room for one pending challenge; dropping it gives the room back.
#[derive(Debug)]
pub struct PendingPermit {
    quotas: Arc<Quotas>,
    claimant: Claimant,
    room: Room,
}

/// What a permit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// A newcomer's place of node, network and origin.
    Newcomer,
    /// None: a verified connection is challenged again, one challenge at a time, so connections bound these.
    Again,
}

/// How near to its bound the fullest of node, network and origin is, with the challenge in question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load(u8);

impl Load {
    /// So many percent; more than 100 are 100.
    #[must_use]
    pub const fn of_percent(percent: u8) -> Self {
        if percent > 100 { Self(100) } else { Self(percent) }
    }

    /// The larger share of these.
    fn highest(shares: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let percent = |(taken, max): (usize, usize)| u8::try_from(taken.saturating_mul(100) / max.max(1)).unwrap_or(u8::MAX);
        Self::of_percent(shares.into_iter().map(percent).max().unwrap_or_default())
    }

    /// 0 to 100.
    #[must_use]
    pub const fn percent(self) -> u8 {
        self.0
    }
}

/// Whose room is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingFull {
    /// The node's.
    Node,
    /// The network's.
    Network,
    /// The origin's.
    Origin,
}

impl Claimant {
    /// The claimant of a handshake from this address and origin.
    #[must_use]
    pub fn new(address: Option<IpAddr>, origin: Option<&str>) -> Self {
        Self { network: address.map(prefix), origin: origin.unwrap_or_default().to_owned() }
    }
}

impl PendingPermits {
    /// The bounds of these settings. Failures are counted by the minute from `started`.
    #[must_use]
    pub fn new(settings: &ChallengeSettings, started: Instant, metrics: Arc<Metrics>) -> Self {
        let failures =
            FailureRates::new(settings.failures_per_network_per_minute, settings.failures_per_origin_per_minute, started);
        let quotas = Quotas {
            taken: AtomicUsize::new(0),
            max: settings.pending_max,
            by_network: Quota::new(settings.pending_per_network_max),
            by_origin: Quota::new(settings.origin_end()),
            origin_max: settings.pending_per_origin_max,
            failures,
            metrics,
        };
        Self { quotas: Arc::new(quotas) }
    }

    /// Has this claimant failed too often lately? A refusal is counted.
    ///
    /// # Errors
    /// [`TooManyFailures`] tells when to come again.
    pub fn judge(&self, claimant: &Claimant, now: Instant) -> Result<(), TooManyFailures> {
        self.quotas.failures.judge(claimant, now).inspect_err(|refused| {
            let limit = match refused.of {
                FailuresOf::Network => LimitHit::FailuresPerNetwork,
                FailuresOf::Origin => LimitHit::FailuresPerOrigin,
            };
            self.quotas.metrics.limits.of(limit).inc();
        })
    }

    /// Room for one more. A refusal is counted.
    ///
    /// # Errors
    /// [`PendingFull`] tells whose bound is reached; nothing is held then.
    pub fn try_acquire(&self, claimant: Claimant) -> Result<PendingPermit, PendingFull> {
        self.quotas.take(&claimant).inspect_err(|full| {
            let limit = match full {
                PendingFull::Node => LimitHit::PendingChallenges,
                PendingFull::Network => LimitHit::PendingPerNetwork,
                PendingFull::Origin => LimitHit::PendingPerOrigin,
            };
            self.quotas.metrics.limits.of(limit).inc();
        })?;
        Ok(PendingPermit { quotas: Arc::clone(&self.quotas), claimant, room: Room::Newcomer })
    }

    /// A further challenge of a verified connection. It needs no room: otherwise a client that keeps its network's or its
    /// origin's bound full would never be challenged again.
    #[must_use]
    pub fn again(&self, claimant: Claimant) -> PendingPermit {
        PendingPermit { quotas: Arc::clone(&self.quotas), claimant, room: Room::Again }
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.quotas.taken.load(Ordering::Acquire)
    }
}

impl Quotas {
    /// Takes a place of the node, of the network and of the origin, or none.
    fn take(&self, claimant: &Claimant) -> Result<(), PendingFull> {
        let more = |taken| if taken < self.max { Some(taken + 1) } else { None };
        if self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_err() {
            return Err(PendingFull::Node);
        }
        if claimant.network.is_some_and(|network| !self.by_network.take(&network)) {
            self.taken.fetch_sub(1, Ordering::AcqRel);
            return Err(PendingFull::Network);
        }
        if !self.by_origin.take(&claimant.origin) {
            self.give_back_network(claimant);
            self.taken.fetch_sub(1, Ordering::AcqRel);
            return Err(PendingFull::Origin);
        }
        if self.by_origin.used(&claimant.origin).is_some_and(|(taken, _)| taken > self.origin_max) && !self.is_modest(claimant)
        {
            self.give_back(claimant);
            return Err(PendingFull::Origin);
        }
        Ok(())
    }

    /// Does this claimant's network leave next to nothing pending? Of an unknown network, or an unbounded one, nobody can say so.
    fn is_modest(&self, claimant: &Claimant) -> bool {
        let used = claimant.network.and_then(|network| self.by_network.used(&network));
        used.is_some_and(|(taken, max)| taken <= (max / MODEST_SHARE).max(1))
    }

    fn give_back(&self, claimant: &Claimant) {
        self.by_origin.give_back(&claimant.origin);
        self.give_back_network(claimant);
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }

    fn give_back_network(&self, claimant: &Claimant) {
        if let Some(network) = &claimant.network {
            self.by_network.give_back(network);
        }
    }
}

impl PendingPermit {
    /// How much of what may pend is taken, this one included if it holds room.
    #[must_use]
    pub fn load(&self) -> Load {
        let Quotas { by_network, by_origin, origin_max, taken, max, .. } = &*self.quotas;
        let network = self.claimant.network.and_then(|network| by_network.used(&network));
        let node = (taken.load(Ordering::Acquire), *max);
        let origin = by_origin.used(&self.claimant.origin).map(|(taken, _)| (taken, *origin_max));
        Load::highest([Some(node), network, origin].into_iter().flatten())
    }

    /// The challenge failed: its claimant is charged with it.
    pub fn failed(&self, now: Instant) {
        self.quotas.failures.count(&self.claimant, now);
    }

    /// The client left with the challenge in hand: its claimant is charged with a part of a failure.
    pub fn abandoned(&self, now: Instant) {
        self.quotas.failures.count_abandoned(&self.claimant, now);
    }
}

impl Drop for PendingPermit {
    fn drop(&mut self) {
        if self.room == Room::Newcomer {
            self.quotas.give_back(&self.claimant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(settings: ChallengeSettings) -> (PendingPermits, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new());
        (PendingPermits::new(&settings, Instant::now(), Arc::clone(&metrics)), metrics)
    }

    fn claimant(address: &str, origin: &str) -> Claimant {
        Claimant::new(Some(address.parse().unwrap()), Some(origin))
    }

    #[test]
    fn newcomers_are_refused_at_the_limit_and_old_ones_stay() {
        let (permits, metrics) = permits(ChallengeSettings { pending_max: 2, ..ChallengeSettings::default() });
        let acquire = || permits.try_acquire(Claimant::new(None, None));
        let first = acquire().unwrap();
        let _second = acquire().unwrap();
        assert_eq!(acquire().err(), Some(PendingFull::Node));
        assert_eq!((permits.taken(), metrics.limits.of(LimitHit::PendingChallenges).get()), (2, 1));
        drop(first);
        assert!(acquire().is_ok());
    }

    #[test]
    fn a_network_has_so_much_room_and_mapped_addresses_are_of_it() {
        let settings = ChallengeSettings { pending_per_network_max: 2, ..ChallengeSettings::default() };
        let (permits, metrics) = permits(settings);
        let first = permits.try_acquire(claimant("192.0.2.1", "https://a")).unwrap();
        let _second = permits.try_acquire(claimant("::ffff:192.0.2.2", "https://b")).unwrap();
        assert_eq!(permits.try_acquire(claimant("192.0.2.3", "https://a")).err(), Some(PendingFull::Network));
        assert_eq!(metrics.limits.of(LimitHit::PendingPerNetwork).get(), 1);
        assert!(permits.try_acquire(claimant("192.0.3.1", "https://a")).is_ok());
        drop(first);
        assert!(permits.try_acquire(claimant("192.0.2.3", "https://a")).is_ok());
    }

    #[test]
    fn an_origin_has_so_much_room_and_leaves_the_rest_to_others() {
        let settings = ChallengeSettings { pending_per_origin_max: 10, pending_max: 30, ..ChallengeSettings::default() };
        let (permits, metrics) = permits(ChallengeSettings { pending_per_network_max: 15, ..settings });
        let acquire = |address: &str, origin: &str| permits.try_acquire(claimant(address, origin));
        let mut held: Vec<_> = (0..10).map(|host| acquire(&format!("192.0.2.{host}"), "https://a").unwrap()).collect();
        // Its bound is reached: not by who made it so, but by others.
        assert_eq!(acquire("192.0.2.99", "https://a").err(), Some(PendingFull::Origin));
        held.extend((0..10).map(|network| acquire(&format!("10.0.{network}.1"), "https://a").unwrap()));
        assert_eq!(acquire("10.0.0.2", "https://a").err(), Some(PendingFull::Origin), "one each");
        // The rest is other origins', however many networks there are.
        for network in 0..100 {
            assert_eq!(acquire(&format!("10.1.{network}.1"), "https://a").err(), Some(PendingFull::Origin));
        }
        assert_eq!((permits.taken(), metrics.limits.of(LimitHit::PendingPerOrigin).get()), (20, 102));
        assert!(acquire("192.0.2.1", "https://b").is_ok());
        assert!(permits.try_acquire(Claimant::new(None, None)).is_ok());
        drop(held);
        assert!(permits.quotas.by_network.is_empty() && permits.quotas.by_origin.is_empty() && permits.taken() == 0);
    }

    #[test]
    fn a_further_challenge_needs_no_room_where_newcomers_have_none() {
        let settings = ChallengeSettings {
            pending_max: 1,
            pending_per_network_max: 1,
            pending_per_origin_max: 1,
            failures_per_network_per_minute: 1,
            ..ChallengeSettings::default()
        };
        let (permits, _) = permits(settings);
        let client = claimant("192.0.2.1", "https://a");
        let first = permits.try_acquire(client.clone()).unwrap();
        let again = permits.again(client.clone());
        assert_eq!((permits.taken(), again.load().percent()), (1, 100));
        again.failed(Instant::now());
        drop(again);
        assert!(permits.judge(&client, Instant::now()).is_err(), "its failure counts like any");
        assert!(permits.try_acquire(client.clone()).is_err(), "it gave back what was not its own");
        drop(first);
        assert!(permits.taken() == 0 && permits.try_acquire(client).is_ok());
    }

    #[test]
    fn load_is_that_of_the_fullest() {
        let settings = ChallengeSettings {
            pending_max: 100,
            pending_per_network_max: 4,
            pending_per_origin_max: 10,
            ..ChallengeSettings::default()
        };
        let (permits, _) = permits(settings);
        let acquire = |address: &str, origin: &str| permits.try_acquire(claimant(address, origin)).unwrap();
        let first = acquire("192.0.2.1", "https://a");
        assert_eq!(first.load().percent(), 25, "one of four of its network");
        let others: Vec<_> = (3..9).map(|network| acquire(&format!("192.0.{network}.1"), "https://a")).collect();
        assert_eq!(first.load().percent(), 70, "seven of ten of its origin");
        assert_eq!(acquire("198.51.100.1", "https://b").load().percent(), 25);
        drop(others);
        assert_eq!(first.load().percent(), 25);
    }

    #[test]
    fn a_failure_is_charged_to_whom_the_permit_was_given() {
        let settings = ChallengeSettings { failures_per_network_per_minute: 1, ..ChallengeSettings::default() };
        let (permits, metrics) = permits(settings);
        let bad = claimant("192.0.2.1", "https://a");
        let now = Instant::now();
        permits.try_acquire(bad.clone()).unwrap().failed(now);
        assert!(permits.judge(&bad, now).is_err());
        assert_eq!(metrics.limits.of(LimitHit::FailuresPerNetwork).get(), 1);
        assert!(permits.judge(&claimant("198.51.100.1", "https://a"), now).is_ok());
    }
}
