//! Waiting for a condition instead of for a time.

use std::future::Future;
use std::time::{Duration, Instant};

/// Longest wait for anything that should happen at once; long, because the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks at `condition` until it gives a value; its last word, or nothing, when patience ends.
///
/// # Panics
/// If the condition does not come true in time; `what` says which.
pub async fn eventually<T, F, Fut>(what: &str, mut condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// [`eventually`] for a condition that says what is missing: its last word is in the panic.
///
/// # Panics
/// If the condition does not come true in time.
pub async fn eventually_ok<T, F, Fut>(what: &str, mut condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let start = Instant::now();
    loop {
        match condition().await {
            Ok(value) => return value,
            Err(missing) => assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}: {missing}"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Awaits a future, but not for ever.
///
/// # Panics
/// If it does not end in time.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}
