use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::permits::Claimant;

/// Rows of the table; each failure raises one slot in each.
const ROWS: usize = 2;
/// Slots of one row. A power of two, since bits of a hash choose.
const SLOTS: usize = 1 << 16;
/// Bits of a slot that count; the minute is above them.
const COUNT_BITS: u32 = 32;
/// What a failure weighs; counts are of this weight's parts.
const FAILED: u64 = 4;
/// What leaving before the answer weighs, with the challenge in hand: a quarter of a failure. Nothing, and whoever looks
/// for an easy program could draw as many as he likes; a whole failure, and pages that are reloaded before they have answered
/// would lock out all who share their network. So an office may leave four times as many challenges as it may fail.
const ABANDONED: u64 = 1;
/// Failures of one network that are borne while its origin is over its limit, as a part of the network's own limit.
const STRICT_PART: u64 = 10;

/// Failed challenges per network prefix and minute, and per origin and minute; abandoned ones in part.
///
/// The table is a count-min sketch under a random key: 1 MiB, however many networks fail. Nothing is ever evicted from it,
/// so nobody can push out his own count, or anybody's, by failing from many networks. The price is that strangers may share
/// a slot, and a count is never too low but may be too high: the smaller of two slots counts, and whoever wants to
/// lock out strangers must raise all slots to the limit, 65,536 times the limit in failures within one minute (20
/// million at the default), which no node could even hear. Aiming at one stranger's slots would take the key.
///
/// An origin is no network: a program forges it, so a limit that closed an origin would be a switch for everybody to
/// turn. An origin over its limit is therefore not closed: networks that failed themselves are borne less (a tenth of their
/// limit), and those that did not are let in as before. What remains: an attacker can lock out its own
/// neighbours in one prefix (behind a proxy that is not in `server.trusted_proxies`, that is everybody), and one with a new
/// prefix for each few failures is not held here but by the bounds on what is pending.
#[derive(Debug)]
pub struct FailureRates {
    /// As weights.
    per_network: u64,
    per_origin: u64,
    slots: Box<[AtomicU64]>,
    key: RandomState,
    started: Instant,
}

/// Too many failures lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyFailures {
    /// Whose they are.
    pub of: FailuresOf,
    /// Seconds until the counts begin anew: 1 to 60.
    pub retry_after_seconds: u64,
}

/// Whose failures are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailuresOf {
    /// The client's network.
    Network,
    /// The origin's; the client's network has some too.
    Origin,
}

/// What failures are counted by.
#[derive(Hash)]
enum Key<'a> {
    Network(Option<IpAddr>),
    Origin(&'a str),
}

impl FailureRates {
    /// Bears this many failures per minute; 0: any number. Counts begin at `started`.
    #[must_use]
    pub fn new(per_network: u32, per_origin: u32, started: Instant) -> Self {
        let slots = if per_network == 0 && per_origin == 0 { 0 } else { ROWS * SLOTS };
        let slots = (0..slots).map(|_| AtomicU64::new(0)).collect();
        let [per_network, per_origin] = [per_network, per_origin].map(|failures| u64::from(failures) * FAILED);
        Self { per_network, per_origin, slots, key: RandomState::new(), started }
    }

    /// Counts a failure.
    pub fn count(&self, claimant: &Claimant, now: Instant) {
        self.add(FAILED, claimant, now);
    }

    /// Counts a challenge whose client left before it answered: four are one failure.
    pub fn count_abandoned(&self, claimant: &Claimant, now: Instant) {
        self.add(ABANDONED, claimant, now);
    }

    fn add(&self, weight: u64, claimant: &Claimant, now: Instant) {
        if self.slots.is_empty() {
            return;
        }
        let minute = self.minute(now);
        for key in [Key::Network(claimant.network), Key::Origin(&claimant.origin)] {
            for slot in self.slots_of(&key) {
                let next = |seen: u64| Some((minute << COUNT_BITS) | (failures(seen, minute) + weight).min(u32::MAX.into()));
                // The closure always gives a value.
                let _ = slot.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
            }
        }
    }

    /// May this claimant be challenged?
    ///
    /// # Errors
    /// [`TooManyFailures`]: not before the minute is over.
    pub fn judge(&self, claimant: &Claimant, now: Instant) -> Result<(), TooManyFailures> {
        if self.slots.is_empty() {
            return Ok(());
        }
        let of_network = self.failures(&Key::Network(claimant.network), now);
        let refused = |of| {
            let elapsed = now.saturating_duration_since(self.started).as_secs();
            Err(TooManyFailures { of, retry_after_seconds: 60 - elapsed % 60 })
        };
        if self.per_network > 0 && of_network >= self.per_network {
            return refused(FailuresOf::Network);
        }
        let strict = (self.per_network / STRICT_PART).max(FAILED);
        if self.per_origin > 0 && of_network >= strict {
            let of_origin = self.failures(&Key::Origin(&claimant.origin), now);
            if of_origin >= self.per_origin {
                return refused(FailuresOf::Origin);
            }
        }
        Ok(())
    }

    /// What failures of this minute weigh.
    fn failures(&self, key: &Key<'_>, now: Instant) -> u64 {
        let minute = self.minute(now);
        self.slots_of(key).map(|slot| failures(slot.load(Ordering::Acquire), minute)).min().unwrap_or_default()
    }

    /// A key's slot in each row.
    fn slots_of(&self, key: &Key<'_>) -> impl Iterator<Item = &AtomicU64> {
        let hash = self.key.hash_one(key);
        self.slots.chunks(SLOTS).zip([hash, hash >> 32]).filter_map(|(row, hash)| row.get(hash as usize % SLOTS))
    }

    /// Minutes since the start, from 1: a slot that was never touched is of minute 0.
    fn minute(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs() / 60 + 1
    }
}

/// What failures weigh in this minute, as a slot has it.
const fn failures(slot: u64, minute: u64) -> u64 {
    if slot >> COUNT_BITS == minute { slot & ((1 << COUNT_BITS) - 1) } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn claimant(address: &str, origin: &str) -> Claimant {
        Claimant::new(Some(address.parse().unwrap()), Some(origin))
    }

    fn seconds(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_network_that_failed_too_often_waits_for_the_next_minute() {
        let start = Instant::now();
        let rates = FailureRates::new(2, 0, start);
        let (bad, neighbour) = (claimant("192.0.2.1", "https://a"), claimant("::ffff:192.0.2.9", "https://b"));
        rates.count(&bad, start);
        assert_eq!(rates.judge(&bad, start), Ok(()));
        rates.count(&neighbour, seconds(start, 14));
        let refused = Err(TooManyFailures { of: FailuresOf::Network, retry_after_seconds: 45 });
        assert_eq!(rates.judge(&bad, seconds(start, 15)), refused);
        assert_eq!(rates.judge(&neighbour, seconds(start, 15)), refused);
        assert_eq!(rates.judge(&claimant("192.0.3.1", "https://a"), seconds(start, 15)), Ok(()));
        assert_eq!(rates.judge(&bad, seconds(start, 60)), Ok(()));
    }

    #[test]
    fn four_abandoned_challenges_weigh_as_one_failure() {
        let start = Instant::now();
        let rates = FailureRates::new(2, 0, start);
        let client = claimant("192.0.2.1", "https://a");
        (0..7).for_each(|_| rates.count_abandoned(&client, start));
        assert_eq!(rates.judge(&client, start), Ok(()), "a page that is reloaded");
        rates.count_abandoned(&client, start);
        assert!(rates.judge(&client, start).is_err(), "one that collects challenges");
        assert_eq!(rates.judge(&client, seconds(start, 60)), Ok(()));
        let origin = FailureRates::new(0, 1, start);
        (0..3).for_each(|_| origin.count_abandoned(&client, start));
        assert_eq!(origin.judge(&client, start), Ok(()));
        origin.count_abandoned(&client, start);
        assert!(origin.judge(&client, start).is_err());
    }

    #[test]
    fn an_origin_under_attack_stays_open_to_networks_that_did_not_fail() {
        let start = Instant::now();
        let rates = FailureRates::new(10, 20, start);
        for host in 0..20 {
            rates.count(&claimant(&format!("192.0.{host}.1"), "https://a"), start);
        }
        let origin = |retry_after_seconds| Err(TooManyFailures { of: FailuresOf::Origin, retry_after_seconds });
        assert_eq!(rates.judge(&claimant("192.0.7.2", "https://a"), start), origin(60));
        assert_eq!(rates.judge(&claimant("198.51.100.1", "https://a"), start), Ok(()), "an honest network");
        assert_eq!(rates.judge(&claimant("192.0.7.2", "https://b"), start), Ok(()), "another tenant");
        assert_eq!(rates.judge(&claimant("192.0.7.2", "https://a"), seconds(start, 61)), Ok(()));
    }

    #[test]
    fn a_flood_from_many_networks_neither_clears_a_count_nor_locks_strangers_out() {
        let start = Instant::now();
        // One or two of the flood's failures stand in a slot: that some slot holds a tenth of the limit by chance is out of the question.
        let rates = FailureRates::new(200, 1_000, start);
        let bad = claimant("192.0.2.1", "https://a");
        (0..200).for_each(|_| rates.count(&bad, start));
        for network in 0..100_000_u32 {
            let address = std::net::Ipv4Addr::from_bits(0x0A00_0000 + (network << 8));
            rates.count(&Claimant::new(Some(address.into()), Some("https://a")), start);
        }
        assert!(rates.judge(&bad, start).is_err(), "what it failed is remembered");
        let refused = (0..1_000_u128)
            .map(|network| std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) + (network << 64)))
            .filter(|address| rates.judge(&Claimant::new(Some((*address).into()), Some("https://a")), start).is_err())
            .count();
        assert_eq!(refused, 0, "strangers who never failed, though the origin is over its limit");
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let start = Instant::now();
        let rates = FailureRates::new(0, 0, start);
        let bad = claimant("192.0.2.1", "https://a");
        (0..1_000).for_each(|_| rates.count(&bad, start));
        assert!(rates.judge(&bad, start).is_ok() && rates.slots.is_empty());
    }
}
