use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::IdentityError;
use super::clock::Clock;
use super::keys::SigningKeys;
use super::revocation::RevocationFeed;
use super::store::{RefreshRules, UserStore};

/// How often the store is asked whether another process has written. Asking costs microseconds of SQLite and one round
/// trip of Redis, and it bounds how long a user that another node revoked keeps sockets here.
const TICK: Duration = Duration::from_millis(100);

/// Ticks between looks at the folder of keys.
const TICKS_PER_KEY_CHECK: u64 = 10;

/// Ticks between prunings: ten minutes.
const TICKS_PER_PRUNING: u64 = 6_000;

/// What is done again and again.
pub(super) struct Housekeeping {
    pub(super) feed: Arc<RevocationFeed>,
    pub(super) keys: Arc<SigningKeys>,
    pub(super) store: Box<dyn UserStore>,
    pub(super) refresh: RefreshRules,
    pub(super) lockout_max_ms: u64,
    /// How long a revocation matters.
    pub(super) revocations_ms: u64,
    pub(super) clock: Clock,
}

/// The thread that follows what other processes do to the store and the keys. Ends when dropped.
#[derive(Debug)]
pub(super) struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts to follow.
    pub(super) fn start(work: Housekeeping) -> Result<Self, IdentityError> {
        let (stop, stopped) = channel();
        let follow = move || {
            let mut tick = 0_u64;
            let mut silent = false;
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                tick += 1;
                work.follow(&mut silent);
                work.tick(tick);
            }
        };
        let thread = std::thread::Builder::new().name("identity".to_owned()).spawn(follow).map_err(IdentityError::Thread)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Housekeeping {
    /// Hands out revocations. A failure is tried again at the next tick, and told once: an outage has many ticks.
    fn follow(&self, silent: &mut bool) {
        let heard = self.feed.catch_up();
        let was_silent = std::mem::replace(silent, heard.is_err());
        match heard {
            Err(error) if !was_silent => tracing::warn!(%error, "revocations not read, trying on"),
            Ok(()) if was_silent => tracing::info!("revocations are read again"),
            _ => {}
        }
    }

    /// A failure is told and tried again: the files may come back, and sockets are none of its business.
    fn tick(&self, tick: u64) {
        if tick.is_multiple_of(TICKS_PER_KEY_CHECK)
            && let Err(error) = self.keys.reload()
        {
            tracing::warn!(%error, "signing keys not read");
        }
        if tick.is_multiple_of(TICKS_PER_PRUNING) {
            let now = self.clock.millis();
            let revoked_before = now.saturating_sub(self.revocations_ms);
            if let Err(error) = self.store.prune(&self.refresh, self.lockout_max_ms, revoked_before, now) {
                tracing::warn!(%error, "user store not pruned");
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Dropping the sender ends the thread's wait at once.
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported by the panic hook; there is nothing left to do about it here.
            let _ = thread.join();
        }
    }
}
