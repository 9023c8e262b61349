use std::time::Duration;

use tokio::time::Instant;

/// A token bucket: so many events a second, and a burst of as many.
///
/// Kept as the instant at which the bucket would be full again, so that it needs no timer and two words only.
#[derive(Debug, Clone)]
pub struct RateLimit {
    /// Time that one event takes from the bucket; zero: no bound.
    interval: Duration,
    full_at: Option<Instant>,
}

/// The time that a full bucket holds.
const BURST: Duration = Duration::from_secs(1);

impl RateLimit {
    /// `per_second` events; 0: no bound.
    #[must_use]
    pub fn per_second(per_second: u32) -> Self {
        let interval = if per_second == 0 { Duration::ZERO } else { BURST / per_second };
        Self { interval, full_at: None }
    }

    /// Takes one event at `now`; false if there are too many.
    pub fn admit(&mut self, now: Instant) -> bool {
        if self.interval.is_zero() {
            return true;
        }
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + self.interval;
        // A division that does not come out even must not cost the last event of a burst.
        let admitted = full_at.saturating_duration_since(now) <= BURST + Duration::from_nanos(1);
        if admitted {
            self.full_at = Some(full_at);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let start = Instant::now();
        for rate in [1, 3, 20, 100, 1_000] {
            let mut limit = RateLimit::per_second(rate);
            let burst = (0..2 * rate).filter(|_| limit.admit(start)).count();
            assert_eq!(burst, rate as usize, "{rate} a second");
            let half_later = start + Duration::from_millis(500);
            let refilled = (0..2 * rate).filter(|_| limit.admit(half_later)).count();
            assert_eq!(refilled, rate as usize / 2, "{rate} a second");
            let long_later = start + Duration::from_secs(60);
            assert_eq!((0..2 * rate).filter(|_| limit.admit(long_later)).count(), rate as usize);
        }
    }

    #[test]
    fn zero_is_no_bound() {
        let mut limit = RateLimit::per_second(0);
        assert!((0..10_000).all(|_| limit.admit(Instant::now())));
    }
}
