//! Bounds per key: of addresses, principals, networks, origins.

use std::collections::HashMap;
use std::hash::Hash;
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
    fn without_a_bound_nothing_is_counted() {
        let quota = Quota::new(0);
        assert!((0..1_000).all(|key| quota.take(&key)) && quota.is_empty());
        assert_eq!(quota.used(&1), None);
    }
}
