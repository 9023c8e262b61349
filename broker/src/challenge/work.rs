use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::answer::ChallengeId;
use super::permits::Load;
use super::transcript::Transcript;
use crate::config::WorkSettings;

/// Puzzles that a client solves before its answer counts: `count` numbers, each of which gives a SHA-256 with `bits` leading zero
/// bits.
///
/// Several small puzzles instead of a large one make the time more even: its spread falls with the root of their number. It
/// is a rate limiter and nothing else: it slows down whoever opens many sockets, a native program far less than a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Leading zero bits of each: 1 to [`Work::BITS_MAX`].
    pub bits: u8,
    /// How many: 1 to [`Work::COUNT_MAX`].
    pub count: u8,
}

/// What makes the puzzles of one challenge and page different from all others.
#[derive(Debug, Clone, Copy)]
pub struct WorkBound<'a> {
    /// Which challenge.
    pub challenge: &'a ChallengeId,
    /// The node's nonce.
    pub server_nonce: &'a [u8; 32],
    /// SHA-256 of the page's key.
    pub thumbprint: &'a [u8; 32],
}

impl Work {
    /// Most bits of one puzzle. Pages count through 32 bits.
    pub const BITS_MAX: u8 = 20;
    /// Most puzzles: their solutions must fit into a small frame.
    pub const COUNT_MAX: u8 = 16;
    /// Digests that a slow page makes in a millisecond, so that what is asked for can be bounded by the deadline.
    pub const SLOW_PAGE_PER_MS: u64 = 20;

    /// What to ask for under this load; nothing below the first step.
    ///
    /// From `from_percent` of what may pend – of the node, the network or the origin, whichever is nearest to its bound – to all of it, the
    /// bits rise in even steps from `bits` to `bits_max`.
    #[must_use]
    pub fn under(load: Load, settings: &WorkSettings) -> Option<Self> {
        let (percent, from) = (u32::from(load.percent()), u32::from(settings.from_percent.min(100)));
        if !settings.enabled || percent < from {
            return None;
        }
        let steps = u32::from(settings.bits_max.saturating_sub(settings.bits)) + 1;
        let step = ((percent - from) * steps / (100 - from).max(1)).min(steps - 1);
        // A step is less than the difference of two small numbers.
        Some(Self { bits: settings.bits + step as u8, count: settings.count })
    }

    /// As T holds it.
    #[must_use]
    pub const fn field(self) -> [u8; 2] {
        [self.bits, self.count]
    }

    /// Digests that solving takes on average.
    #[must_use]
    pub const fn digests(self) -> u64 {
        (self.count as u64) << self.bits
    }

    /// Are these the solutions, each at its puzzle's place? Costs one digest each.
    #[must_use]
    pub fn is_done(self, bound: WorkBound<'_>, solutions: &[u32]) -> bool {
        solutions.len() == usize::from(self.count)
            && (0..).zip(solutions).all(|(place, solution)| self.solves(bound, place, *solution))
    }

    /// Does this solve the puzzle at `place`?
    ///
    /// Source: `countersign/work/v1`, held by a golden vector.
    #[must_use]
    pub fn solves(self, bound: WorkBound<'_>, place: u8, solution: u32) -> bool {
        let puzzle = Transcript::new("countersign/work/v1")
            .field(bound.challenge.as_bytes())
            .field(bound.server_nonce)
            .field(bound.thumbprint)
            .field(&[place])
            .field(&solution.to_be_bytes());
        let hash = digest(&SHA256, &puzzle.finish());
        let first = hash.as_ref().first_chunk().map_or(u32::MAX, |bytes| u32::from_be_bytes(*bytes));
        first.leading_zeros() >= self.bits.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: WorkBound<'_> =
        WorkBound { challenge: &ChallengeId::from_bytes([1; 16]), server_nonce: &[2; 32], thumbprint: &[3; 32] };

    /// The first solution of each puzzle.
    fn solve(work: Work, bound: WorkBound<'_>) -> Vec<u32> {
        (0..work.count).map(|place| (0..).find(|solution| work.solves(bound, place, *solution)).unwrap()).collect()
    }

    #[test]
    fn only_the_solutions_in_their_order_are_the_work() {
        let work = Work { bits: 8, count: 4 };
        let solutions = solve(work, BOUND);
        assert!(work.is_done(BOUND, &solutions));
        assert_eq!(solutions, [916, 832, 351, 289], "frozen");
        let turned: Vec<u32> = solutions.iter().rev().copied().collect();
        let more: Vec<u32> = [solutions.as_slice(), &solutions].concat();
        for wrong in [&turned[..], &solutions[1..], &more, &[], &[solutions[0]; 4]] {
            assert!(!work.is_done(BOUND, wrong), "{wrong:?}");
        }
        let harder = Work { bits: 20, count: 4 };
        assert!(!harder.is_done(BOUND, &solutions), "fewer bits");
    }

    #[test]
    fn work_for_one_challenge_or_page_is_none_for_another() {
        let work = Work { bits: 10, count: 2 };
        let solutions = solve(work, BOUND);
        let other = ChallengeId::from_bytes([9; 16]);
        assert!(!work.is_done(WorkBound { challenge: &other, ..BOUND }, &solutions));
        assert!(!work.is_done(WorkBound { server_nonce: &[9; 32], ..BOUND }, &solutions));
        assert!(!work.is_done(WorkBound { thumbprint: &[9; 32], ..BOUND }, &solutions));
    }

    #[test]
    fn work_rises_in_even_steps_with_the_load() {
        let settings = WorkSettings { enabled: true, from_percent: 50, bits: 8, bits_max: 12, count: 8 };
        let asked = |percent| Work::under(Load::of_percent(percent), &settings).map(|work| work.bits);
        for (percent, bits) in [
            (0, None),
            (49, None),
            (50, Some(8)),
            (59, Some(8)),
            (60, Some(9)),
            (69, Some(9)),
            (70, Some(10)),
            (80, Some(11)),
            (90, Some(12)),
            (100, Some(12)),
        ] {
            assert_eq!(asked(percent), bits, "at {percent} percent");
        }
        let always = WorkSettings { from_percent: 0, bits_max: 8, ..settings.clone() };
        assert_eq!(Work::under(Load::of_percent(0), &always), Some(Work { bits: 8, count: 8 }));
        assert_eq!(Work::under(Load::of_percent(100), &always), Some(Work { bits: 8, count: 8 }));
        let full = WorkSettings { from_percent: 100, ..settings.clone() };
        assert_eq!(Work::under(Load::of_percent(99), &full), None);
        assert_eq!(Work::under(Load::of_percent(100), &full).map(|work| work.bits), Some(8));
        assert_eq!(Work::under(Load::of_percent(100), &WorkSettings { enabled: false, ..settings }), None);
    }
}
