//! Pauses between attempts.

use std::time::Duration;

/// Pauses that double up to a bound, each drawn from its upper half.
///
/// The draw keeps nodes that lost the same peer at the same moment from coming back at the same moment.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    attempt: u32,
}

impl Backoff {
    /// Starts at `first` and never passes `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, attempt: 0 }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        self.pause_with(random_fraction())
    }

    /// The next pause with a given draw. Range of `fraction`: 0.0..=1.0.
    pub fn pause_with(&mut self, fraction: f64) -> Duration {
        let factor = 1_u32.checked_shl(self.attempt).unwrap_or(u32::MAX);
        let whole = self.first.saturating_mul(factor).min(self.longest);
        self.attempt = self.attempt.saturating_add(1).min(31);
        whole / 2 + (whole / 2).mul_f64(fraction.clamp(0.0, 1.0))
    }

    /// The last attempt succeeded: begin again at the first pause.
    pub const fn reset(&mut self) {
        self.attempt = 0;
    }
}

/// A number in 0.0..1.0. Without a generator the middle: jitter is no secret, and a pause must not fail.
fn random_fraction() -> f64 {
    getrandom::u32().map_or(0.5, |bits| f64::from(bits) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_bound_and_start_again_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let longest: Vec<u128> = (0..6).map(|_| backoff.pause_with(1.0).as_millis()).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1_000, 1_000]);
        for _ in 0..100 {
            assert!(backoff.pause() <= Duration::from_secs(1));
        }
        backoff.reset();
        assert_eq!(backoff.pause_with(0.0).as_millis(), 50);
    }
}
