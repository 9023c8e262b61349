use std::sync::Arc;

use super::IdentityError;
use super::clock::Clock;
use super::hasher::{Compared, HashUnavailable, Hasher, Password};
use super::issue::{SessionFacts, TokenIssuer, TokenKind};
use super::passwords::{WeakPassword, check_password, normalise, normalise_new};
use super::revocation::RevocationFeed;
use super::store::{
    Admission, LockoutRules, NewUser, PasswordState, Redeemed, RefreshRules, RefreshToken, StoreError, User, UserStore,
};
use crate::config::{PasswordPolicy, PoolSettings};

/// What a client holds after signing in or refreshing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The id token.
    pub id_token: String,
    /// The access token.
    pub access_token: String,
    /// The refresh token to use next.
    pub refresh_token: String,
    /// The user's name as it was first written.
    pub username: String,
    /// Life of both tokens in seconds.
    pub expires_in: u64,
}

/// Why a client gets no session.
#[derive(Debug, thiserror::Error)]
pub enum AuthRefusal {
    /// Unknown user, wrong password, disabled, expired: the client is not told which.
    #[error("credentials refused")]
    Refused,
    /// Too many failures before; the client is told the same as in [`AuthRefusal::Refused`].
    #[error("locked")]
    Locked,
    /// The password is right and temporary.
    #[error("password must be changed")]
    ChangeRequired,
    /// A replaced refresh token came again: its family has ended.
    #[error("refresh token used twice")]
    Reused,
    /// The password to be set is not accepted.
    #[error(transparent)]
    Weak(#[from] WeakPassword),
    /// The name to be taken is no name.
    #[error("user name must have 1 to 128 bytes and no control characters")]
    BadName,
    /// The name to be taken is taken.
    #[error("user name is taken")]
    Taken,
    /// Too many hashes wait. The client's attempt counted for nothing and may be repeated.
    #[error(transparent)]
    Busy(#[from] HashUnavailableNow),
    /// The store or the keys failed. Nothing has been decided; the client may try again.
    #[error("user pool unavailable: {0}")]
    Unavailable(String),
}

/// No hash could be computed at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many sign-ins wait for a password hash")]
pub struct HashUnavailableNow;

impl From<HashUnavailable> for AuthRefusal {
    fn from(error: HashUnavailable) -> Self {
        match error {
            HashUnavailable::QueueFull => Self::Busy(HashUnavailableNow),
            HashUnavailable::Failed => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<StoreError> for AuthRefusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::UserExists => Self::Taken,
            // Deleted, or its password changed, while this one was being checked.
            StoreError::NoSuchUser => Self::Refused,
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<IdentityError> for AuthRefusal {
    fn from(error: IdentityError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// The node's own user pool. Its calls are safe on threads that serve sockets: what blocks runs elsewhere.
#[derive(Debug, Clone)]
pub struct UserPool(Arc<Core>);

#[derive(Debug)]
struct Core {
    store: Box<dyn UserStore>,
    hasher: Hasher,
    issuer: TokenIssuer,
    feed: Arc<RevocationFeed>,
    policy: PasswordPolicy,
    lockout: LockoutRules,
    refresh: RefreshRules,
    clock: Clock,
}

impl LockoutRules {
    pub(super) fn of(settings: &PoolSettings) -> Self {
        let millis = |seconds: u64| seconds.saturating_mul(1_000);
        let (base_ms, max_ms) = (millis(settings.lockout_base_seconds.0), millis(settings.lockout_max_seconds.0));
        Self { threshold: settings.lockout_threshold, base_ms, max_ms }
    }
}

impl RefreshRules {
    pub(super) fn of(settings: &PoolSettings) -> Self {
        let millis = |seconds: u64| seconds.saturating_mul(1_000);
        Self {
            rotate: settings.rotate_refresh_tokens,
            grace_ms: settings.rotation_grace_ms.0,
            idle_ms: millis(settings.refresh_idle_seconds.0),
            lifetime_ms: millis(settings.refresh_lifetime_seconds.0),
        }
    }
}

impl UserPool {
    pub(super) fn new(
        settings: &PoolSettings,
        store: Box<dyn UserStore>,
        hasher: Hasher,
        issuer: TokenIssuer,
        feed: Arc<RevocationFeed>,
    ) -> Self {
        let clock = issuer.clock.clone();
        let (lockout, refresh) = (LockoutRules::of(settings), RefreshRules::of(settings));
        Self(Arc::new(Core { store, hasher, issuer, feed, policy: settings.password_policy, lockout, refresh, clock }))
    }

    /// Signs a user in.
    ///
    /// # Errors
    /// [`AuthRefusal`].
    pub async fn sign_in(&self, name: &str, password: Password) -> Result<Session, AuthRefusal> {
        let user = self.authenticate(name, password).await?;
        match user.password_state {
            PasswordState::Permanent => self.blocking(move |core| core.begin(&user)).await,
            PasswordState::TemporaryUntil(_) => Err(AuthRefusal::ChangeRequired),
        }
    }

    /// Replaces a temporary or current password, ends the sessions begun with it, and signs in.
    ///
    /// # Errors
    /// [`AuthRefusal`].
    pub async fn change_password(&self, name: &str, password: Password, new: Password) -> Result<Session, AuthRefusal> {
        let normalised = normalise(name).unwrap_or_default();
        check_password(self.0.policy, &normalised, &new)?;
        // The sample that the compatible profile stands for sends the same password twice.
        if self.0.policy == PasswordPolicy::Modern && *password == *new {
            return Err(WeakPassword::Unchanged.into());
        }
        let user = self.authenticate(name, password).await?;
        let hash = self.0.hasher.hash(new).await?;
        self.blocking(move |core| {
            let now = core.clock.millis();
            let user = core.store.set_password(&user.name, &hash, PasswordState::Permanent, Some(&user.password), now)?;
            core.announce();
            core.begin(&user)
        })
        .await
    }

    /// Creates a user who chose the password, and signs in. The caller has checked that this is allowed.
    ///
    /// # Errors
    /// [`AuthRefusal`].
    pub async fn sign_up(&self, name: &str, password: Password, email: Option<String>) -> Result<Session, AuthRefusal> {
        let normalised = normalise_new(name).ok_or(AuthRefusal::BadName)?;
        check_password(self.0.policy, &normalised, &password)?;
        let hash = self.0.hasher.hash(password).await?;
        let username = name.trim().to_owned();
        self.blocking(move |core| {
            let (name, email, state) = (normalised.as_str(), email.as_deref(), PasswordState::Permanent);
            let new = NewUser { name, username: &username, email, password: &hash, state };
            core.store.add_user(&new, core.clock.millis())?;
            let user = core.store.find_user(name)?.ok_or(AuthRefusal::Refused)?;
            core.begin(&user)
        })
        .await
    }

    /// Goes on with a session. `name`, if given, must be the session's user.
    ///
    /// # Errors
    /// [`AuthRefusal`]; a failure of the store is never taken for a reuse.
    pub async fn refresh(&self, name: Option<&str>, token: &str) -> Result<Session, AuthRefusal> {
        let token = RefreshToken::parse(token).ok_or(AuthRefusal::Refused)?;
        let name = match name {
            Some(name) => Some(normalise(name).ok_or(AuthRefusal::Refused)?),
            None => None,
        };
        self.blocking(move |core| core.redeem(name.as_deref(), &token)).await
    }

    /// Ends the session of a refresh token, and with it the user's sockets. An unknown token is none to end.
    ///
    /// # Errors
    /// [`AuthRefusal::Unavailable`].
    pub async fn revoke(&self, token: &str) -> Result<(), AuthRefusal> {
        let Some(token) = RefreshToken::parse(token) else { return Ok(()) };
        self.blocking(move |core| {
            if core.store.revoke_session(&token, core.clock.millis())? {
                core.announce();
            }
            Ok(())
        })
        .await
    }

    /// The user whose password this is. Counts the attempt before the password is looked at.
    async fn authenticate(&self, name: &str, password: Password) -> Result<User, AuthRefusal> {
        let Some(name) = normalise(name) else {
            self.0.hasher.compare(password, None).await?;
            return Err(AuthRefusal::Refused);
        };
        let asked = name.clone();
        let user = self.blocking(move |core| core.admit(&asked)).await?;
        let stored = user.as_ref().map(|user| user.password.clone());
        let compared = match self.0.hasher.compare(password, stored).await {
            Ok(compared) => compared,
            Err(unavailable) => {
                self.blocking(move |core| Ok(core.store.withdraw(&name, core.clock.millis())?)).await?;
                return Err(unavailable.into());
            }
        };
        let user = user.filter(|_| compared.right).ok_or(AuthRefusal::Refused)?;
        self.blocking(move |core| core.accept(user, compared)).await
    }

    /// Runs what blocks on a thread that may.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Core) -> Result<T, AuthRefusal> + Send + 'static,
    ) -> Result<T, AuthRefusal> {
        let core = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&core)).await;
        done.unwrap_or_else(|error| Err(AuthRefusal::Unavailable(error.to_string())))
    }
}

impl Core {
    fn admit(&self, name: &str) -> Result<Option<User>, AuthRefusal> {
        match self.store.admit(name, &self.lockout, self.clock.millis())? {
            Admission::Admitted => Ok(self.store.find_user(name)?),
            Admission::LockedUntil(_) => Err(AuthRefusal::Locked),
        }
    }

    /// The password was right: the rest of what must hold.
    fn accept(&self, mut user: User, compared: Compared) -> Result<User, AuthRefusal> {
        let expired = match user.password_state {
            PasswordState::Permanent => false,
            PasswordState::TemporaryUntil(time) => time <= self.clock.millis(),
        };
        if user.disabled || expired {
            return Err(AuthRefusal::Refused);
        }
        self.store.absolve(&user.name)?;
        if let Some(stronger) = compared.stronger {
            self.store.rehash(&user.name, &user.password, &stronger)?;
            user.password = stronger;
        }
        Ok(user)
    }

    fn begin(&self, user: &User) -> Result<Session, AuthRefusal> {
        let facts = SessionFacts::begin(&self.clock)?;
        let token = self.store.begin_family(user, &facts.origin_jti, &self.refresh, self.clock.millis())?;
        self.session(user, &facts, &token.ok_or(AuthRefusal::Refused)?)
    }

    fn redeem(&self, name: Option<&str>, token: &RefreshToken) -> Result<Session, AuthRefusal> {
        match self.store.redeem(name, token, &self.refresh, self.clock.millis())? {
            Redeemed::Session { user, token, origin_jti, auth_time_ms } => {
                self.session(&user, &SessionFacts { origin_jti, auth_time: auth_time_ms / 1_000 }, &token)
            }
            Redeemed::Refused => Err(AuthRefusal::Refused),
            Redeemed::Reused => {
                self.announce();
                Err(AuthRefusal::Reused)
            }
        }
    }

    fn session(&self, user: &User, facts: &SessionFacts, token: &RefreshToken) -> Result<Session, AuthRefusal> {
        Ok(Session {
            id_token: self.issuer.issue(user, TokenKind::Id, facts)?,
            access_token: self.issuer.issue(user, TokenKind::Access, facts)?,
            refresh_token: token.text(),
            username: user.username.clone(),
            expires_in: self.issuer.lifetime,
        })
    }

    /// Lets a revocation take effect before its cause is answered. If that fails, the watch repeats it within 100 ms.
    fn announce(&self) {
        if let Err(error) = self.feed.catch_up() {
            tracing::warn!(%error, "revocation not announced yet");
        }
    }
}
