use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::IdentityError;
use super::random::random_bytes;
use crate::config::PoolSettings;
use crate::telemetry::Metrics;

/// A password on its way to its hash; wiped from memory when it is done with.
pub(super) type Password = Zeroizing<String>;

/// No hash can be computed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HashUnavailable {
    /// Too many wait already.
    #[error("too many sign-ins wait for a password hash")]
    QueueFull,
    /// The computation failed or was cut short.
    #[error("password hash failed")]
    Failed,
}

/// How a password compared.
#[derive(Debug)]
pub(super) struct Compared {
    /// It is the one.
    pub(super) right: bool,
    /// The same password under today's stronger parameters, where the stored hash has weaker ones.
    pub(super) stronger: Option<String>,
}

/// Argon2id with the configured parameters (RFC 9106).
#[derive(Debug, Clone)]
pub(super) struct Argon {
    memory_kib: u32,
    iterations: u32,
    argon2: Argon2<'static>,
}

impl Argon {
    pub(super) fn new(settings: &PoolSettings) -> Result<Self, IdentityError> {
        let (memory_kib, iterations) = (settings.argon2_memory_kib, settings.argon2_iterations);
        let params = Params::new(memory_kib, iterations, 1, None).map_err(|error| IdentityError::Argon2(error.to_string()))?;
        Ok(Self { memory_kib, iterations, argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params) })
    }

    /// Hashes a password into PHC form, with a salt of its own. Takes tens of milliseconds and the configured memory.
    pub(super) fn hash(&self, password: &Password) -> Result<String, HashUnavailable> {
        let salt = random_bytes::<16>().map_err(|_| HashUnavailable::Failed)?;
        let hash = self.argon2.hash_password_with_salt(password.as_bytes(), &salt).map_err(|_| HashUnavailable::Failed)?;
        Ok(hash.to_string())
    }

    fn compare(&self, password: &Password, stored: &str) -> Result<Compared, HashUnavailable> {
        let parsed = PasswordHash::new(stored).map_err(|_| HashUnavailable::Failed)?;
        let right = self.argon2.verify_password(password.as_bytes(), &parsed).is_ok();
        let stronger = if right && self.is_weaker(&parsed) { Some(self.hash(password)?) } else { None };
        Ok(Compared { right, stronger })
    }

    fn is_weaker(&self, stored: &PasswordHash) -> bool {
        Params::try_from(stored).is_ok_and(|params| params.m_cost() < self.memory_kib || params.t_cost() < self.iterations)
    }
}

/// Computes password hashes on blocking threads, a bounded number at once with a bounded queue before them.
///
/// A hash is made to be expensive: unbounded, sign-ins would take all cores and, at 19 MiB each, all memory.
#[derive(Debug)]
pub(super) struct Hasher {
    argon: Argon,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    /// Compared with when there is no such user, so that the answer takes as long.
    decoy: String,
    metrics: Arc<Metrics>,
}

impl Hasher {
    pub(super) fn new(settings: &PoolSettings, metrics: Arc<Metrics>) -> Result<Self, IdentityError> {
        let argon = Argon::new(settings)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let permits = if settings.hash_concurrency == 0 { cores } else { settings.hash_concurrency };
        let decoy = random_bytes::<16>().map_err(|error| IdentityError::Argon2(error.to_string()))?;
        let decoy = argon.hash(&Zeroizing::new(super::random::base64url(&decoy)));
        Ok(Self {
            permits: Arc::new(Semaphore::new(permits)),
            waiting: AtomicUsize::new(0),
            waiting_max: settings.hash_queue_max,
            decoy: decoy.map_err(|error| IdentityError::Argon2(error.to_string()))?,
            argon,
            metrics,
        })
    }

    /// Compares a password with a stored hash, or with a decoy that never fits.
    pub(super) async fn compare(&self, password: Password, stored: Option<String>) -> Result<Compared, HashUnavailable> {
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.decoy.clone());
        let compared = self.run(move |argon| argon.compare(&password, &stored)).await?;
        Ok(Compared { right: compared.right && known, stronger: compared.stronger })
    }

    /// Hashes a password that is to be stored.
    pub(super) async fn hash(&self, password: Password) -> Result<String, HashUnavailable> {
        self.run(move |argon| argon.hash(&password)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Argon) -> Result<T, HashUnavailable> + Send + 'static,
    ) -> Result<T, HashUnavailable> {
        let begun = Instant::now();
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _place = Place::take(&self.waiting, self.waiting_max).ok_or(HashUnavailable::QueueFull)?;
                Arc::clone(&self.permits).acquire_owned().await.map_err(|_| HashUnavailable::Failed)?
            }
        };
        let argon = self.argon.clone();
        let hashed = tokio::task::spawn_blocking(move || {
            let result = work(&argon);
            // The permit goes with the work, not with the caller: one who hangs up must not free it early.
            drop(permit);
            result
        });
        let result = hashed.await.unwrap_or(Err(HashUnavailable::Failed));
        self.metrics.password_hash_seconds.observe(begun.elapsed().as_secs_f64());
        result
    }
}

/// A place in the queue; given back when dropped, also by a caller that hangs up.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, max: usize) -> Option<Self> {
        let place = Self(waiting);
        // On failure `place` is dropped and gives back what was taken.
        (waiting.fetch_add(1, Ordering::SeqCst) < max).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn settings(memory_kib: u32) -> PoolSettings {
        PoolSettings {
            argon2_memory_kib: memory_kib,
            argon2_iterations: 1,
            hash_concurrency: 1,
            hash_queue_max: 1,
            ..PoolSettings::default()
        }
    }

    fn hasher(memory_kib: u32) -> Hasher {
        Hasher::new(&settings(memory_kib), Arc::new(Metrics::new())).unwrap()
    }

    fn password(text: &str) -> Password {
        Zeroizing::new(text.to_owned())
    }

    #[actix_web::test]
    async fn weaker_hashes_are_replaced_and_stronger_ones_kept() {
        let weak = hasher(8).hash(password("violets are blue")).await.unwrap();
        let compared = hasher(16).compare(password("violets are blue"), Some(weak.clone())).await.unwrap();
        let stronger = compared.stronger.unwrap();
        assert!(compared.right && stronger.contains("m=16"));
        let compared = hasher(8).compare(password("violets are blue"), Some(stronger)).await.unwrap();
        assert!(compared.right && compared.stronger.is_none());
        assert!(!hasher(8).compare(password("violets are red"), Some(weak)).await.unwrap().right);
    }

    #[actix_web::test]
    async fn an_unknown_user_costs_a_hash_and_never_fits() {
        let hasher = hasher(8);
        assert!(!hasher.compare(password("anything"), None).await.unwrap().right);
        assert_eq!(hasher.metrics.password_hash_seconds.get_sample_count(), 1);
    }

    #[actix_web::test]
    async fn a_full_queue_refuses_at_once() {
        let hasher = hasher(8);
        let held = Arc::clone(&hasher.permits).acquire_owned().await.unwrap();
        let first = hasher.hash(password("a"));
        let mut first = std::pin::pin!(first);
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        assert_eq!(hasher.hash(password("b")).await, Err(HashUnavailable::QueueFull));
        drop(held);
        assert!(first.await.is_ok());
        assert!(hasher.hash(password("c")).await.is_ok());
    }
}
