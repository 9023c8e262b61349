//! Where users, refresh tokens, lock-outs and revocations are kept.
//!
//! - [`EmbeddedStore`]: one SQLite file, for a node alone and the command line beside it. The default.
//! - [`RedisStore`]: the Redis that the nodes of a cluster share; what one node decides holds on all of them.
//!
//! [`conformance`] holds both to the same promises. Their calls block: never on a thread that serves sockets. All times
//! are milliseconds since the Unix epoch and come from the caller, so the clocks of nodes that share a store must agree
//! to well within the rotation grace.

#[cfg(test)]
mod conformance;
mod embedded;
mod redis;
mod refresh_token;
mod user;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use countersign_node_proto::PrefixError;
pub(super) use embedded::EmbeddedStore;
pub(super) use redis::RedisStore;
pub(super) use refresh_token::RefreshToken;
pub(super) use user::NewUser;
pub use user::{PasswordState, User};

use super::revocation::Revocation;
use crate::config::{PoolStore, Settings};
use crate::link::{LinkError, TargetError};
use crate::telemetry::Metrics;

/// Why the store did not do what it was asked to. None of these is the client's fault, and none counts as a refusal.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite said no.
    #[error("user store: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file could not be made.
    #[error("user store {path}: {source}", path = .0.display(), source = .1)]
    Io(PathBuf, #[source] std::io::Error),
    /// The file was written by a newer version.
    #[error("user store has layout {0}, and this version knows {known} at most", known = embedded::SCHEMA_VERSION)]
    TooNew(i64),
    /// Redis cannot be reached or said no. After a lost answer it may have been done.
    #[error("user store: {0}")]
    Redis(#[from] LinkError),
    /// The settings do not lead to a Redis.
    #[error("user store: {0}")]
    Target(#[from] TargetError),
    /// Redis holds what this store did not write.
    #[error("user store: {0} is not as it was written")]
    Spoiled(&'static str),
    /// The settings do not give names in it.
    #[error("user store: {0}")]
    Prefix(#[from] PrefixError),
    /// A thread cannot be started.
    #[error("user store: cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    /// No randomness for identifiers and tokens.
    #[error("no randomness: {0}")]
    Random(#[from] getrandom::Error),
    /// There is a user of this name.
    #[error("a user of this name exists")]
    UserExists,
    /// There is none.
    #[error("no user of this name")]
    NoSuchUser,
}

/// How long refresh tokens live, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct RefreshRules {
    /// Replace a token when it is used.
    pub(super) rotate: bool,
    /// A replaced token gets the same successor again for this long.
    pub(super) grace_ms: u64,
    /// A family unused for this long ends.
    pub(super) idle_ms: u64,
    /// A family ends this long after sign-in.
    pub(super) lifetime_ms: u64,
}

/// What a refresh token was worth.
pub(super) enum Redeemed {
    /// A session goes on.
    Session {
        /// The user as of now.
        user: Box<User>,
        /// The token to use from now on.
        token: RefreshToken,
        /// `jti` of the session's first token.
        origin_jti: String,
        /// When the session began, milliseconds since the Unix epoch.
        auth_time_ms: u64,
    },
    /// Unknown, expired, idle, revoked, or of another or disabled user.
    Refused,
    /// A replaced token came again after its grace: somebody else has a copy. The family has ended, and with it every
    /// token of the user.
    Reused,
}

/// Tokens that are kept of one family, the replaced ones included: whoever refreshes without end must not fill the store.
/// A token replaced more often ago than this is unknown then: refused, but no longer a sign of theft.
const TOKENS_OF_FAMILY_MAX: u64 = 1_000;

/// When failures delay the next attempt, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct LockoutRules {
    /// Failures before the first delay; 0: no lock-out.
    pub(super) threshold: u32,
    /// First delay; it doubles with each further failure.
    pub(super) base_ms: u64,
    /// Longest delay; and a name not tried for this long after its delay starts anew.
    pub(super) max_ms: u64,
}

/// Most names whose failures are counted; the least recently tried go first.
const LOCKOUT_NAMES_MAX: u64 = 100_000;

/// May this attempt be judged?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Yes, and it has been counted as failed until it succeeds.
    Admitted,
    /// No; the name is locked until then. The attempt counts for nothing and extends nothing.
    LockedUntil(u64),
}

/// How far a reader of the revocations has come. The default is before the first one.
#[derive(Debug, Default)]
pub(super) struct Mark {
    /// What the implementation tells by that there is nothing new, or that it must begin again.
    version: Option<i64>,
    /// The last one read.
    last_id: i64,
}

/// The users of the pool.
pub(super) trait Users {
    /// Creates a user and returns the new `sub`.
    ///
    /// # Errors
    /// [`StoreError::UserExists`], or the store's own.
    fn add_user(&self, user: &NewUser<'_>, now: u64) -> Result<String, StoreError>;

    /// The user of this normalised name.
    fn find_user(&self, name: &str) -> Result<Option<User>, StoreError>;

    /// All users by name.
    fn users(&self) -> Result<Vec<User>, StoreError>;

    /// Replaces a password, ends the user's refresh tokens and revokes all tokens.
    ///
    /// With `replaces`, only if that is still the password's hash: of two changes at once, one wins and the other is told.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUser`], or the store's own.
    fn set_password(
        &self,
        name: &str,
        password: &str,
        state: PasswordState,
        replaces: Option<&str>,
        now: u64,
    ) -> Result<User, StoreError>;

    /// Stores the same password under a stronger hash. Not if it was changed meanwhile.
    fn rehash(&self, name: &str, old: &str, new: &str) -> Result<(), StoreError>;

    /// Disables a user, which ends everything the user holds, or enables one.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUser`], or the store's own.
    fn set_disabled(&self, name: &str, disabled: bool, now: u64) -> Result<(), StoreError>;

    /// Removes a user for good. A user of the same name created later is another subject.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUser`], or the store's own.
    fn delete_user(&self, name: &str, now: u64) -> Result<(), StoreError>;
}

/// Refresh tokens: a family for each sign-in, of which one token at a time is good.
pub(super) trait Sessions {
    /// Begins a session: a new family and its first token.
    ///
    /// None if the user was revoked, disabled or deleted since it was read: a password that was being checked while it
    /// was replaced opens nothing.
    fn begin_family(
        &self,
        user: &User,
        origin_jti: &str,
        rules: &RefreshRules,
        now: u64,
    ) -> Result<Option<RefreshToken>, StoreError>;

    /// Uses a refresh token of the user of this normalised name, if one is given.
    ///
    /// Decides and writes in one step, so that of two uses at once, wherever, one rotates and the other meets the grace.
    ///
    /// # Errors
    /// The store's own; the token may be used again then, whether or not the store has replaced it.
    fn redeem(&self, name: Option<&str>, token: &RefreshToken, rules: &RefreshRules, now: u64) -> Result<Redeemed, StoreError>;

    /// Ends the session that a refresh token belongs to, and with it every token of the user. Tells whether there was one.
    fn revoke_session(&self, token: &RefreshToken, now: u64) -> Result<bool, StoreError>;
}

/// Failed sign-ins by name.
pub(super) trait Lockouts {
    /// Counts an attempt before it is judged: of any number at once, no more are judged than the threshold lets through.
    ///
    /// Names of users that do not exist count the same, so that a delay tells nothing.
    fn admit(&self, name: &str, rules: &LockoutRules, now: u64) -> Result<Admission, StoreError>;

    /// Takes an admitted attempt back that was never judged, for want of a free hash.
    fn withdraw(&self, name: &str, now: u64) -> Result<(), StoreError>;

    /// Forgets a name's failures: its password was right.
    fn absolve(&self, name: &str) -> Result<(), StoreError>;
}

/// One handle on a store.
pub(super) trait UserStore: Users + Sessions + Lockouts + Debug + Send + Sync {
    /// A further handle, for one reader of the revocations more.
    fn reopen(&self) -> Result<Box<dyn UserStore>, StoreError>;

    /// Can the store be asked now?
    ///
    /// # Errors
    /// Why not.
    fn reach(&self) -> Result<(), StoreError>;

    /// The revocations that this reader has not seen, in order, whichever process decided them; moves the mark behind
    /// them. For each subject there is at most one, its last. Some may come again. Cheap when there is nothing new.
    ///
    /// The reader has the handle for itself: SQLite tells a connection of others' writes only.
    fn revocations_since(&self, mark: &mut Mark) -> Result<Vec<Revocation>, StoreError>;

    /// Drops what no longer matters: ended families, old lock-outs, revocations from before `revoked_before`.
    fn prune(&self, rules: &RefreshRules, lockout_max_ms: u64, revoked_before: u64, now: u64) -> Result<(), StoreError>;
}

/// Opens the configured store.
///
/// # Errors
/// [`StoreError`]. A Redis that is away is none: see [`UserStore::reach`].
pub(super) fn open(settings: &Settings, metrics: &Arc<Metrics>) -> Result<Box<dyn UserStore>, StoreError> {
    match settings.identity.pool.store {
        PoolStore::Embedded => Ok(Box::new(EmbeddedStore::open(&settings.server.data_dir.join("pool.db"))?)),
        PoolStore::Redis => Ok(Box::new(RedisStore::open(&settings.cluster, Arc::clone(metrics))?)),
    }
}
