/// A counter was seen, or lies so far back that nobody remembers whether it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("counter was used before, or is too old to tell")]
pub struct Replayed;

/// Which counters of one page were seen: the highest, and which of the 1,024 up to it (RFC 4303, section 3.4.3).
///
/// Memory: 136 bytes, whatever the page sends. What is below the window cannot be told apart, and is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayWindow {
    /// The highest counter seen; 0: none.
    highest: u64,
    /// Bit `n`, counted from the lowest of the first word: `highest - n` was seen.
    seen: [u64; Self::WORDS],
}

impl ReplayWindow {
    /// Counters that are remembered.
    pub const SIZE: u64 = 1_024;
    const WORDS: usize = 16;

    /// Takes a counter, once. Only after everything else of its proof was found right: a forger must not move the window.
    ///
    /// # Errors
    /// [`Replayed`]; nothing changes then. Counters begin at 1.
    pub fn take(&mut self, counter: u64) -> Result<(), Replayed> {
        if counter > self.highest {
            self.shift(counter - self.highest);
            self.highest = counter;
        }
        let age = self.highest - counter;
        if counter == 0 || age >= Self::SIZE {
            return Err(Replayed);
        }
        // Below 1,024, so the word is below 16.
        let (word, bit) = ((age / 64) as usize, 1_u64 << (age % 64));
        if self.seen[word] & bit != 0 {
            return Err(Replayed);
        }
        self.seen[word] |= bit;
        Ok(())
    }

    /// Makes every counter older by `by`.
    fn shift(&mut self, by: u64) {
        if by >= Self::SIZE {
            self.seen = [0; Self::WORDS];
            return;
        }
        let (words, bits) = ((by / 64) as usize, (by % 64) as u32);
        for word in (0..Self::WORDS).rev() {
            let at = |back: usize| word.checked_sub(back).map_or(0, |from| self.seen[from]);
            let carried = if bits == 0 { 0 } else { at(words + 1) >> (64 - bits) };
            self.seen[word] = at(words) << bits | carried;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_counter_counts_once_in_any_order_within_the_window() {
        let mut window = ReplayWindow::default();
        for counter in [1, 2, 5, 3, 1_024, 4, 1_025, 100] {
            assert_eq!(window.take(counter), Ok(()), "{counter}");
            assert_eq!(window.take(counter), Err(Replayed), "{counter} again");
        }
        assert_eq!(window.take(0), Err(Replayed), "counters begin at 1");
    }

    #[test]
    fn what_fell_out_of_the_window_is_refused_also_when_it_was_never_seen() {
        let mut window = ReplayWindow::default();
        window.take(2_000).unwrap();
        assert_eq!(window.take(2_000 - 1_024), Err(Replayed));
        assert_eq!(window.take(2_000 - 1_023), Ok(()), "the oldest that is remembered");
        assert_eq!(window.take(2_001), Ok(()));
        assert_eq!(window.take(2_000 - 1_023), Err(Replayed));
    }

    #[test]
    fn a_jump_of_the_counter_forgets_no_replay() {
        let mut window = ReplayWindow::default();
        window.take(7).unwrap();
        window.take(u64::MAX).unwrap();
        for counter in [7, 8, u64::MAX, u64::MAX - 1_024] {
            assert_eq!(window.take(counter), Err(Replayed), "{counter}");
        }
        assert_eq!(window.take(u64::MAX - 1), Ok(()));
    }

    proptest! {
        /// Against a set that never forgets: what it knows is refused here, and what is new passes unless it is too old.
        #[test]
        fn agrees_with_a_perfect_memory(steps in prop::collection::vec(0..3_000_u64, 0..400)) {
            let (mut window, mut all, mut highest) = (ReplayWindow::default(), HashSet::new(), 0);
            for counter in steps {
                let fresh = counter > 0 && !all.contains(&counter) && (counter > highest || highest - counter < ReplayWindow::SIZE);
                prop_assert_eq!(window.take(counter).is_ok(), fresh, "{}", counter);
                if fresh {
                    all.insert(counter);
                    highest = highest.max(counter);
                }
            }
        }
    }
}
