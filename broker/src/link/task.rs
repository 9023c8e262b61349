use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;

/// Pause before a task that panicked starts again: long enough to keep a panic that repeats from filling the log.
const AFTER_PANIC: Duration = Duration::from_millis(200);

/// A task that ends with its handle.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs what `make` makes, and makes it again if it ends or panics. Must be called within a tokio runtime.
///
/// State that must survive a panic lives outside the task.
pub(crate) fn keep<Made>(what: &'static str, make: impl Fn() -> Made + Send + 'static) -> Task
where
    Made: Future<Output = ()> + Send + 'static,
{
    Task(tokio::spawn(async move {
        loop {
            let panicked = AssertUnwindSafe(make()).catch_unwind().await.is_err();
            tracing::error!(what, panicked, "task ended, starting it again");
            tokio::time::sleep(AFTER_PANIC).await;
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_is_started_again_after_a_panic_and_ends_with_its_handle() {
        let starts = Arc::new(AtomicUsize::new(0));
        let task = keep("test", {
            let starts = Arc::clone(&starts);
            move || {
                let starts = Arc::clone(&starts);
                async move {
                    assert!(starts.fetch_add(1, Ordering::Relaxed) > 1, "the first two panic");
                    std::future::pending().await
                }
            }
        });
        tokio::time::sleep(AFTER_PANIC * 5).await;
        assert_eq!(starts.load(Ordering::Relaxed), 3);
        drop(task);
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&starts), 1);
    }
}
