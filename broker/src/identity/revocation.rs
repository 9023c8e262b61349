use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::Principal;
use super::claims::generation;
use super::issuers::POOL_NAME;
use super::store::{Mark, StoreError, UserStore};
use super::verifier::Epoch;

/// A user of the pool lost every token issued so far: signed out, disabled, deleted, or with a new password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The user's `sub`.
    pub subject: String,
    /// Tokens of this generation and above are good again.
    pub generation: u64,
    /// When it was decided, in milliseconds since the Unix epoch.
    pub not_before_ms: u64,
}

impl Revocation {
    /// Does it end what this principal opened? False for other issuers' principals, and for tokens issued after it.
    #[must_use]
    pub fn covers(&self, principal: &Principal) -> bool {
        principal.issuer == POOL_NAME
            && principal.subject == self.subject
            && generation(&principal.claims).is_none_or(|issued| issued < self.generation)
    }
}

/// Who hears of revocations, whichever process decided them. Called on a thread that may block but must not be kept;
/// it must not call back into the pool.
pub(super) type RevocationListener = Box<dyn Fn(&Revocation) + Send + Sync>;

/// The generation below which a subject's tokens are refused.
#[derive(Debug, Default)]
pub(super) struct RevokedGenerations {
    table: RwLock<HashMap<String, u64>>,
    /// The store has been read once. Before, nothing can be said of any token.
    known: AtomicBool,
}

impl RevokedGenerations {
    /// Can [`RevokedGenerations::covers`] be believed?
    pub(super) fn are_known(&self) -> bool {
        self.known.load(Ordering::SeqCst)
    }

    /// Is a token of this generation revoked?
    pub(super) fn covers(&self, subject: &str, generation: u64) -> bool {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.get(subject).is_some_and(|valid_from| generation < *valid_from)
    }

    /// Tells whether this was news.
    fn raise(&self, revocation: &Revocation) -> bool {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let valid_from = table.entry(revocation.subject.clone()).or_default();
        let news = revocation.generation > *valid_from;
        *valid_from = (*valid_from).max(revocation.generation);
        news
    }
}

/// Takes revocations from the store and gives them to the verifier and the listener, each once and in order.
///
/// Lock order: `progress`, then the store's own, then the table.
pub(super) struct RevocationFeed {
    store: Box<dyn UserStore>,
    revoked: Arc<RevokedGenerations>,
    epoch: Arc<Epoch>,
    listener: RevocationListener,
    progress: Mutex<Mark>,
}

impl RevocationFeed {
    /// Takes a handle of its own, so that the store tells it of everybody else's writes, and loads the past ones without
    /// announcing them: there is no socket yet that they could end.
    pub(super) fn start(
        store: Box<dyn UserStore>,
        revoked: Arc<RevokedGenerations>,
        epoch: Arc<Epoch>,
        listener: RevocationListener,
    ) -> Result<Self, StoreError> {
        let mut mark = Mark::default();
        match store.revocations_since(&mut mark) {
            Ok(past) => {
                for revocation in &past {
                    revoked.raise(revocation);
                }
                revoked.known.store(true, Ordering::SeqCst);
            }
            // It may come back. Until then no token of the pool is judged.
            Err(error @ StoreError::Redis(_)) => tracing::warn!(%error, "revocations cannot be read yet"),
            Err(error) => return Err(error),
        }
        Ok(Self { store, revoked, epoch, listener, progress: Mutex::new(mark) })
    }

    /// Hands out what has been written since the last call, by whichever process. Cheap when there is nothing.
    pub(super) fn catch_up(&self) -> Result<(), StoreError> {
        let mut mark = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        for revocation in self.store.revocations_since(&mut mark)? {
            // After an outage the store tells all it has: what is known has been handed out.
            if self.revoked.raise(&revocation) {
                self.epoch.advance();
                (self.listener)(&revocation);
            }
        }
        self.revoked.known.store(true, Ordering::SeqCst);
        Ok(())
    }
}

impl fmt::Debug for RevocationFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationFeed").finish_non_exhaustive()
    }
}
