//! Each adversary does as is expected of it: also those that succeed by the nature of things, so that nobody hears otherwise.

use countersign_tests::adversary::{Adversary, Target};

/// Few: `cargo run -p countersign-tests --bin adversary` makes more, and says what they cost.
const ATTEMPTS: u32 = 20;

#[tokio::test]
async fn adversaries_succeed_where_nothing_can_be_done_and_nowhere_else() {
    let target = Target::start().await;
    for adversary in Adversary::ALL {
        let outcome = adversary.attack(&target, adversary.attempts(ATTEMPTS)).await;
        eprintln!("{adversary:?}: {} of {}", outcome.successes, outcome.attempts);
        assert!(outcome.is(adversary.expected()), "{adversary:?}: {outcome:?}");
    }
}
