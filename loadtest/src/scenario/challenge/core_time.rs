use rustix::time::{ClockId, clock_gettime};

use crate::stats::{count, ratio};

/// Processor time of this thread so far, in seconds: what others do on a shared machine is not in it.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds of one second fit by far")]
fn thread_seconds() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Does something `units` times; the processor seconds that each took, and what came of it.
pub(crate) fn each<T>(units: usize, work: impl FnOnce() -> T) -> (f64, T) {
    let started = thread_seconds();
    let outcome = work();
    (ratio(thread_seconds() - started, count(units as u64)), outcome)
}
