//! Bounds per key – of addresses, principals, networks, origins – and per minute.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Places per key; a key without a place taken costs nothing, so the table is as large as what is held, and no larger.
#[derive(Debug)]
pub struct Quota<K> {
    max: usize,
    taken: Mutex<HashMap<K, usize>>,
}

impl<K: Eq + Hash> Quota<K> {
    /// `max` places per key; 0: no bound, and nothing is counted.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, taken: Mutex::default() }
    }

    /// Takes a place, if there is one.
    pub fn take(&self, key: &K) -> bool
    where
        K: Clone,
    {
        if self.max == 0 {
            return true;
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(key.clone()).or_default();
        let free = *count < self.max;
        *count += usize::from(free);
        free
    }

    /// Gives a place back.
    pub fn give_back(&self, key: &K) {
        if self.max == 0 {
            return;
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(key);
            }
        }
    }

    /// How many places of this key are taken, and how many there are; nothing where there is no bound.
    #[must_use]
    pub fn used(&self, key: &K) -> Option<(usize, usize)> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        (self.max > 0).then(|| (taken.get(key).copied().unwrap_or_default(), self.max))
    }

    /// No place is taken, of any key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// Counts within a minute, and tells once when there are more than so many.
#[derive(Debug, Default)]
pub struct PerMinute {
    limit: u32,
    /// The minute above, the count below.
    seen: AtomicU64,
}

impl PerMinute {
    /// Tells at the first one above the limit; 0: never, and nothing is counted.
    #[must_use]
    pub const fn new(limit: u32) -> Self {
        Self { limit, seen: AtomicU64::new(0) }
    }

    /// Counts one more. True for exactly one of a minute: the first above the limit.
    ///
    /// `minute` is asked for only where there is a limit; minutes count from anywhere, and their lower 32 bits tell them apart.
    pub fn passes(&self, minute: impl FnOnce() -> u64) -> bool {
        self.passes_by(1, minute)
    }

    /// Counts so many more at once. True for exactly one step of a minute: the first that ends above the limit.
    pub fn passes_by(&self, more: u32, minute: impl FnOnce() -> u64) -> bool {
        if self.limit == 0 {
            return false;
        }
        let minute = minute() << 32;
        let count = |seen: u64| if seen & !u64::from(u32::MAX) == minute { seen & u64::from(u32::MAX) } else { 0 };
        let next = |count: u64| (count + u64::from(more)).min(u32::MAX.into());
        let step = |seen: u64| Some(minute | next(count(seen)));
        let before = self.seen.fetch_update(Ordering::AcqRel, Ordering::Acquire, step).map(count);
        let limit = u64::from(self.limit);
        before.is_ok_and(|count| count <= limit && next(count) > limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_key_and_a_key_without_one_is_forgotten() {
        let quota = Quota::new(2);
        assert!(quota.take(&"a") && quota.take(&"a") && !quota.take(&"a") && quota.take(&"b"));
        assert_eq!((quota.used(&"a"), quota.used(&"c")), (Some((2, 2)), Some((0, 2))));
        quota.give_back(&"a");
        assert!(quota.take(&"a"));
        for key in ["a", "a", "b"] {
            quota.give_back(&key);
        }
        assert!(quota.is_empty());
    }

    #[test]
    fn the_first_above_the_limit_is_told_once_a_minute() {
        let busy = PerMinute::new(2);
        let told = |minute| (0..5).map(|_| busy.passes(|| minute)).collect::<Vec<_>>();
        assert_eq!(told(7), [false, false, true, false, false]);
        assert_eq!(told(8), [false, false, true, false, false]);
        assert!(!busy.passes(|| 9) && !busy.passes(|| 9) && !busy.passes(|| 10));
        assert!(!PerMinute::new(0).passes(|| panic!("no clock is read without a limit")));
    }

    #[test]
    fn a_step_that_crosses_the_limit_is_told_once_a_minute() {
        let busy = PerMinute::new(10);
        let told = |minute, steps: &[u32]| steps.iter().map(|more| busy.passes_by(*more, || minute)).collect::<Vec<_>>();
        assert_eq!(told(7, &[4, 6, 0, 5, 5]), [false, false, false, true, false]);
        assert_eq!(told(8, &[u32::MAX, u32::MAX, 1]), [true, false, false]);
        assert_eq!(told(9, &[10]), [false]);
        assert!(busy.passes(|| 9), "single ones count with them");
    }

    #[test]
    fn without_a_bound_nothing_is_counted() {
        let quota = Quota::new(0);
        assert!((0..1_000).all(|key| quota.take(&key)) && quota.is_empty());
        assert_eq!(quota.used(&1), None);
    }
}
