use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The wall clock that token times are compared with; tests pass their own.
///
/// Tokens carry wall-clock times, so this is one of the few places where the wall clock belongs.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(SystemTime::now))
    }

    /// A clock that says what the function says.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Since the Unix epoch; zero before it.
    fn since_epoch(&self) -> Duration {
        (self.0)().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.since_epoch().as_secs()
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn millis(&self) -> u64 {
        u64::try_from(self.since_epoch().as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// A clock that tests move by hand.
#[cfg(test)]
#[derive(Clone)]
pub(crate) struct ManualClock(Arc<std::sync::atomic::AtomicU64>);

#[cfg(test)]
impl ManualClock {
    /// Stands at the beginning of the present second, so that it agrees with what goes by the system's clock.
    pub(crate) fn new() -> Self {
        Self(Arc::new(std::sync::atomic::AtomicU64::new(Clock::system().seconds() * 1_000)))
    }

    /// The clock to hand out.
    pub(crate) fn clock(&self) -> Clock {
        let millis = Arc::clone(&self.0);
        Clock::new(move || UNIX_EPOCH + Duration::from_millis(millis.load(std::sync::atomic::Ordering::SeqCst)))
    }

    /// Moves on.
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, std::sync::atomic::Ordering::SeqCst);
    }

    /// Seconds since the Unix epoch.
    pub(crate) fn seconds(&self) -> u64 {
        self.clock().seconds()
    }
}
