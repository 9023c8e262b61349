use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::telemetry::{LimitHit, Metrics};

/// The bound on challenges that wait for an answer on this node.
///
/// A handshake takes a permit before its 101 and is refused with 503 where there is none; a permit once given is never
/// taken back, so that a flood of newcomers cannot push out honest ones.
#[derive(Debug, Clone)]
pub struct PendingPermits {
    taken: Arc<AtomicUsize>,
    max: usize,
    metrics: Arc<Metrics>,
}

/// Room for one pending challenge; dropping it gives the room back.
#[derive(Debug)]
pub struct PendingPermit {
    taken: Arc<AtomicUsize>,
}

impl PendingPermits {
    /// A bound of `challenge.pending_max`. Zero admits none.
    #[must_use]
    pub fn new(max: usize, metrics: Arc<Metrics>) -> Self {
        Self { taken: Arc::default(), max, metrics }
    }

    /// Room for one more, or nothing at the limit, which is counted.
    #[must_use]
    pub fn try_acquire(&self) -> Option<PendingPermit> {
        let more = |taken| if taken < self.max { Some(taken + 1) } else { None };
        match self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) {
            Ok(_) => Some(PendingPermit { taken: Arc::clone(&self.taken) }),
            Err(_) => {
                self.metrics.limits.of(LimitHit::PendingChallenges).inc();
                None
            }
        }
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

impl Drop for PendingPermit {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_are_refused_at_the_limit_and_old_ones_stay() {
        let metrics = Arc::new(Metrics::new());
        let permits = PendingPermits::new(2, Arc::clone(&metrics));
        let first = permits.try_acquire().unwrap();
        let _second = permits.try_acquire().unwrap();
        assert!(permits.try_acquire().is_none());
        assert_eq!((permits.taken(), metrics.limits.of(LimitHit::PendingChallenges).get()), (2, 1));
        drop(first);
        assert!(permits.try_acquire().is_some());
        assert!(PendingPermits::new(0, metrics).try_acquire().is_none());
    }
}
