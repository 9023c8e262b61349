//! Tokens: verifying them, and the node's own user pool that issues them.
//!
//! - [`TokenVerifier`]: is this token good, and whom does it name? `issuers` says whose tokens are accepted, `token`
//!   takes one apart, `key_table` and `jwks` have the keys, `claims` the rules.
//! - [`UserPool`]: sign-in, refresh, sign-out. `store` keeps it, in a file or in Redis, `passwords` and `hasher` judge it, `issue` and
//!   [`SigningKeys`] make its tokens, `http` is its door for clients and [`UserAdmin`] the one for administrators.
//! - [`ProgramKeys`]: the keys that sign programs. They say who this node is to pages, as [`SigningKeys`] do to services.
//! - [`Revocation`]: what ends tokens early. `revocation` carries it from the store to whoever must act on it.
//!
//! Invariants: nothing of a token is believed before its signature; a key's algorithms never come from a token; no
//! password, token or key is logged, and the store holds hashes only; unknown and known users get the same answers.

mod address_rate;
mod admin;
mod claims;
mod clock;
mod hasher;
mod http;
mod issue;
mod issuers;
mod json;
mod jwks;
mod key_files;
mod key_table;
mod keys;
mod passwords;
mod pool;
mod principal;
mod program_keys;
mod random;
mod refusal;
mod revocation;
mod store;
#[cfg(test)]
mod tests;
mod token;
mod verifier;
mod watch;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use actix_web::web::ServiceConfig;

pub use admin::{AdminError, GivenPassword, UserAdmin, mint, open_keys};
pub use clock::Clock;
pub use key_files::make_data_folder;
pub use keys::{KeyRecord, SigningKeys};
pub use passwords::WeakPassword;
pub use pool::{AuthRefusal, HashUnavailableNow, Session, UserPool};
pub use principal::Principal;
pub use program_keys::{ProgramKeyRecord, ProgramKeys};
pub use refusal::TokenRefusal;
pub use revocation::Revocation;
pub use store::{PasswordState, StoreError, User};
pub use verifier::TokenVerifier;

use crate::config::{IdentitySettings, PoolStore, Settings};
use crate::edge::ClientAddress;
use crate::telemetry::Metrics;
use address_rate::AddressRate;
use hasher::Hasher;
use http::Endpoints;
use issue::{TokenIssuer, pool_issuer, token_life_max};
use issuers::Issuer;
pub use issuers::issuer_names;
use jwks::{Fetcher, JwksTiming, RemoteKeys};
use revocation::{RevocationFeed, RevocationListener, RevokedGenerations};
use store::RefreshRules;
use verifier::{Epoch, VerifierParts};
use watch::Watch;

/// Why a node cannot verify or issue tokens. The operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file or folder cannot be used.
    #[error("{path}: {source}", path = .0.display(), source = .1)]
    Io(PathBuf, #[source] std::io::Error),
    /// The data folder cannot be made, or nothing can be written in it.
    #[error(
        "data folder {path} cannot be used: {source}; name another with --data-dir or server.data_dir",
        path = .0.display(), source = .1
    )]
    DataFolder(PathBuf, #[source] std::io::Error),
    /// The user store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A signing key cannot be made, read or used.
    #[error("signing key: {0}")]
    Key(String),
    /// The folder of keys is empty.
    #[error("no signing key left")]
    NoSigningKey,
    /// The folder of program keys has not two of them.
    #[error("program keys are missing from their folder")]
    NoProgramKeys,
    /// Pages may not pin the next program key yet.
    #[error(
        "the next key must be published for {left} s more, or pages that do not pin it yet break; --now rotates all the same"
    )]
    NextKeyYoung {
        /// Seconds.
        left: u64,
    },
    /// A claim was given that tokens have anyway.
    #[error("claim `{0}` is set by the pool itself")]
    ReservedClaim(String),
    /// The hash parameters are out of range.
    #[error("password hash: {0}")]
    Argon2(String),
    /// An issuer is configured wrongly.
    #[error("issuer `{name}`: {reason}")]
    Issuer {
        /// Its configured name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A thread or its runtime cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// Everything that a node knows about identity. Dropping it ends its threads.
#[derive(Debug)]
pub struct Identity {
    verifier: Arc<TokenVerifier>,
    endpoints: Option<Arc<Endpoints>>,
    _watch: Option<Watch>,
    _fetcher: Option<Fetcher>,
}

impl Identity {
    /// Opens the pool, if it is enabled, and starts to follow key sets and revocations.
    ///
    /// `listen` is the address that the public listener is bound to; without a configured issuer it names the pool.
    /// `listener` hears of every revocation, decided by this or another process, on a thread that serves no socket; it
    /// must be quick and must not call back.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn start(
        settings: &Settings,
        metrics: Arc<Metrics>,
        listen: SocketAddr,
        listener: impl Fn(&Revocation) + Send + Sync + 'static,
    ) -> Result<Self, IdentityError> {
        Self::start_at(settings, metrics, listen, Clock::system(), listener)
    }

    /// As [`Identity::start`], by another clock.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn start_at(
        settings: &Settings,
        metrics: Arc<Metrics>,
        listen: SocketAddr,
        clock: Clock,
        listener: impl Fn(&Revocation) + Send + Sync + 'static,
    ) -> Result<Self, IdentityError> {
        let parts = VerifierParts {
            revoked: Arc::<RevokedGenerations>::default(),
            epoch: Arc::<Epoch>::default(),
            leeway: settings.identity.leeway_seconds.0,
            token_max_bytes: settings.identity.token_max_bytes,
            clock,
            metrics,
        };
        let (mut issuers, sources) = external_issuers(&settings.identity, &parts.epoch)?;
        let mut endpoints = None;
        let mut watch = None;
        if settings.identity.pool.enabled {
            let pool = open_pool(settings, &parts, listen, Box::new(listener))?;
            issuers.push(pool.issuer);
            endpoints = Some(Arc::new(pool.endpoints));
            watch = Some(pool.watch);
        }
        check_distinct(&issuers)?;
        let fetcher = if sources.is_empty() { None } else { Some(Fetcher::start(sources)?) };
        let verifier = Arc::new(TokenVerifier::new(issuers, parts));
        Ok(Self { verifier, endpoints, _watch: watch, _fetcher: fetcher })
    }

    /// Verifies tokens; shared by every thread.
    #[must_use]
    pub fn verifier(&self) -> Arc<TokenVerifier> {
        Arc::clone(&self.verifier)
    }

    /// The user pool, if it is enabled.
    #[must_use]
    pub fn pool(&self) -> Option<UserPool> {
        self.endpoints.as_ref().map(|endpoints| endpoints.pool.clone())
    }

    /// Adds sign-in and the key set to the public application. Answers are open to the origins of the
    /// `web::Data<Cors>` that the application has.
    pub fn configure(&self, config: &mut ServiceConfig) {
        if let Some(endpoints) = &self.endpoints {
            http::configure(endpoints, config);
        }
    }
}

/// Where the signing keys are.
fn keys_folder(settings: &Settings) -> PathBuf {
    settings.identity.pool.keys_dir.clone().unwrap_or_else(|| settings.server.data_dir.join("keys"))
}

/// How long a replaced key and a revocation still matter, in seconds: as long as any token can be older than they are.
fn retention(settings: &IdentitySettings) -> u64 {
    // The minute covers nodes that take a moment to see that a key has been replaced.
    token_life_max(&settings.pool).saturating_add(settings.leeway_seconds.0).saturating_add(60)
}

type IssuersAndSources = (Vec<Issuer>, Vec<Arc<RemoteKeys>>);

fn external_issuers(settings: &IdentitySettings, epoch: &Arc<Epoch>) -> Result<IssuersAndSources, IdentityError> {
    let mut sources = Vec::new();
    let mut issuers = Vec::new();
    for issuer in &settings.issuers {
        issuers.push(Issuer::external(issuer, |url, algorithms| {
            let source = RemoteKeys::new(url, algorithms, JwksTiming::default(), Arc::clone(epoch));
            sources.push(Arc::clone(&source));
            source
        })?);
    }
    Ok((issuers, sources))
}

/// Two issuers of one `iss` could not be told apart.
fn check_distinct(issuers: &[Issuer]) -> Result<(), IdentityError> {
    let mut seen = HashSet::new();
    match issuers.iter().find(|issuer| !seen.insert(issuer.iss.as_str())) {
        None => Ok(()),
        Some(twice) => {
            let reason = format!("another issuer has the same `iss` {}", twice.iss);
            Err(IdentityError::Issuer { name: twice.rules.name.clone(), reason })
        }
    }
}

struct OpenedPool {
    issuer: Issuer,
    endpoints: Endpoints,
    watch: Watch,
}

fn open_pool(
    settings: &Settings,
    parts: &VerifierParts,
    listen: SocketAddr,
    listener: RevocationListener,
) -> Result<OpenedPool, IdentityError> {
    let pool = &settings.identity.pool;
    let (clock, retention) = (parts.clock.clone(), retention(&settings.identity));
    make_data_folder(&settings.server.data_dir)?;
    if pool.store == PoolStore::Redis && pool.keys_dir.is_none() {
        tracing::warn!("nodes share their users and not their signing keys: name a shared folder in identity.pool.keys_dir");
    }
    let epoch = || Arc::clone(&parts.epoch);
    let keys = Arc::new(SigningKeys::open(keys_folder(settings), pool, retention, clock.clone(), epoch())?);
    let store = store::open(settings, &parts.metrics)?;
    let feed = Arc::new(RevocationFeed::start(store.reopen()?, Arc::clone(&parts.revoked), epoch(), listener)?);
    let iss = pool_issuer(settings, listen);
    let issuer = TokenIssuer {
        keys: Arc::clone(&keys),
        iss: iss.clone(),
        client_id: pool.client_id.clone(),
        lifetime: pool.token_lifetime_seconds.0,
        clock: clock.clone(),
    };
    let housekeeping = watch::Housekeeping {
        feed: Arc::clone(&feed),
        keys: Arc::clone(&keys),
        store: store.reopen()?,
        refresh: RefreshRules::of(pool),
        lockout_max_ms: pool.lockout_max_seconds.0.saturating_mul(1_000),
        revocations_ms: retention.saturating_mul(1_000),
        clock: clock.clone(),
    };
    let endpoints = Endpoints {
        pool: UserPool::new(pool, store, Hasher::new(pool, Arc::clone(&parts.metrics))?, issuer, feed),
        keys: Arc::clone(&keys),
        iss: iss.clone(),
        auth_path: pool.auth_path.clone(),
        self_sign_up: pool.self_sign_up,
        body_bytes_max: settings.server.request_body_max_bytes,
        // Half, so that whoever cached the set just before a rotation has the new key well before it signs.
        key_set_max_age: (pool.key_publish_ahead_seconds.0 / 2).min(3_600),
        addresses: ClientAddress::new(settings.server.trusted_proxies.clone()),
        rate: AddressRate::new(pool.attempts_per_address_per_minute, clock),
        metrics: Arc::clone(&parts.metrics),
    };
    Ok(OpenedPool { issuer: Issuer::pool(pool, iss, keys), endpoints, watch: Watch::start(housekeeping)? })
}
