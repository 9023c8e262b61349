use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;

use super::clock::Clock;
use crate::edge::network;

/// Addresses that are counted at once; those seen least go first, and their count with them.
const ADDRESSES_MAX: usize = 10_000;

/// Bits of a window that count attempts; the minute is above them.
const COUNT_BITS: u32 = 24;

/// Attempts per client address and minute.
#[derive(Debug)]
pub(super) struct AddressRate {
    windows: Cache<IpAddr, Arc<AtomicU64>>,
    per_minute: u64,
    clock: Clock,
}

impl AddressRate {
    /// Allows this many; 0: any number.
    pub(super) fn new(per_minute: u32, clock: Clock) -> Self {
        Self { windows: Cache::new(ADDRESSES_MAX), per_minute: per_minute.into(), clock }
    }

    /// Counts an attempt. Tells, if it is one too many, after how many seconds the next one is welcome.
    pub(super) fn admit(&self, address: IpAddr) -> Result<(), u64> {
        if self.per_minute == 0 {
            return Ok(());
        }
        let address = network(address);
        let window = self.windows.get(&address).unwrap_or_else(|| {
            // Of two first attempts at once the later one's window stays: one attempt goes uncounted.
            let fresh = Arc::new(AtomicU64::new(0));
            self.windows.insert(address, Arc::clone(&fresh));
            fresh
        });
        let now = self.clock.seconds();
        let minute = (now / 60) << COUNT_BITS;
        let count = |seen: u64| if seen >> COUNT_BITS == now / 60 { seen & ((1 << COUNT_BITS) - 1) } else { 0 };
        let admitted = window.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |seen| {
            (count(seen) < self.per_minute).then(|| minute | (count(seen) + 1))
        });
        admitted.map(drop).map_err(|_| 60 - now % 60)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::clock::ManualClock;
    use super::*;

    #[test]
    fn attempts_are_counted_by_address_and_minute() {
        let clock = ManualClock::new();
        let rate = AddressRate::new(2, clock.clock());
        let admit = |address: &str| rate.admit(address.parse().unwrap());
        assert!(admit("192.0.2.1").is_ok() && admit("192.0.2.1").is_ok());
        assert_eq!(admit("192.0.2.1"), Err(60 - clock.seconds() % 60));
        assert!(admit("192.0.2.2").is_ok());
        assert!(admit("2001:db8::1").is_ok() && admit("2001:db8::2").is_ok() && admit("2001:db8::3").is_err());
        clock.advance(Duration::from_secs(60));
        assert!(admit("192.0.2.1").is_ok());
        assert!(AddressRate::new(0, clock.clock()).admit("192.0.2.1".parse().unwrap()).is_ok());
    }
}
