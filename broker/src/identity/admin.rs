use std::sync::Arc;

use zeroize::Zeroizing;

use super::clock::Clock;
use super::hasher::{Argon, Password};
use super::issue::{SessionFacts, TokenIssuer, TokenKind, pool_issuer, token_life_max};
use super::key_files::make_data_folder;
use super::keys::SigningKeys;
use super::passwords::{WeakPassword, check_password, normalise, normalise_new};
use super::random::{base64url, random_bytes};
use super::store::{self, NewUser, PasswordState, StoreError, User, UserStore};
use super::verifier::Epoch;
use super::{IdentityError, keys_folder, retention};
use crate::config::{PasswordPolicy, Settings};
use crate::telemetry::Metrics;

/// What an administrator could not do.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The store said no, or there is (or is not) such a user.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data folder, the keys or the configuration are at fault.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The password is not accepted.
    #[error(transparent)]
    Weak(#[from] WeakPassword),
    /// No user can have this name.
    #[error("a user name has 1 to 128 bytes, and no white space, control character or `/`")]
    BadName,
    /// No address.
    #[error("`{0}` is no email address")]
    BadEmail(String),
    /// Disabled users get no tokens.
    #[error("user is disabled")]
    Disabled,
    /// Keys and revocations are not kept that long.
    #[error("a token may live {0} seconds at most")]
    LifetimeTooLong(u64),
    /// The hash could not be computed.
    #[error("password hash failed")]
    Hash,
}

/// A password for a user, as an administrator gives it.
pub enum GivenPassword {
    /// It stands.
    Permanent(Password),
    /// It must be replaced at the first sign-in.
    Temporary(Password),
    /// One is made up; it is temporary.
    Generated,
}

/// The pool as the command line sees it: the same store, beside running nodes or without one.
///
/// A node that runs on it learns of each change by itself and ends what has to end. Its calls block.
#[derive(Debug)]
pub struct UserAdmin {
    store: Box<dyn UserStore>,
    argon: Argon,
    policy: PasswordPolicy,
    temporary_ms: u64,
    clock: Clock,
}

impl UserAdmin {
    /// Opens the configured pool; makes the data folder, and the store in it, if they are missing.
    ///
    /// # Errors
    /// [`AdminError`] if the folder or the store cannot be used.
    pub fn open(settings: &Settings) -> Result<Self, AdminError> {
        let pool = &settings.identity.pool;
        make_data_folder(&settings.server.data_dir)?;
        let store = store::open(settings, &Arc::new(Metrics::new()))?;
        store.reach()?;
        Ok(Self {
            store,
            argon: Argon::new(pool)?,
            policy: pool.password_policy,
            temporary_ms: pool.temporary_password_lifetime_seconds.0.saturating_mul(1_000),
            clock: Clock::system(),
        })
    }

    /// Creates a user. Returns the password if it was made up.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn add(&self, name: &str, email: Option<&str>, given: GivenPassword) -> Result<Option<Password>, AdminError> {
        let normalised = normalise_new(name).ok_or(AdminError::BadName)?;
        if let Some(email) = email.filter(|email| !looks_like_email(email)) {
            return Err(AdminError::BadEmail(email.to_owned()));
        }
        let (password, state, generated) = self.prepare(&normalised, given)?;
        let new = NewUser { name: &normalised, username: name.trim(), email, password: &password, state };
        self.store.add_user(&new, self.clock.millis())?;
        Ok(generated)
    }

    /// Replaces a user's password and ends everything that was opened with the old one. Returns the password if it was
    /// made up.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn set_password(&self, name: &str, given: GivenPassword) -> Result<Option<Password>, AdminError> {
        let user = self.find(name)?;
        let (password, state, generated) = self.prepare(&user.name, given)?;
        self.store.set_password(&user.name, &password, state, None, self.clock.millis())?;
        self.store.absolve(&user.name)?;
        Ok(generated)
    }

    /// All users by name.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn list(&self) -> Result<Vec<User>, AdminError> {
        Ok(self.store.users()?)
    }

    /// The user of this name.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn find(&self, name: &str) -> Result<User, AdminError> {
        let name = normalise(name).ok_or(AdminError::BadName)?;
        Ok(self.store.find_user(&name)?.ok_or(StoreError::NoSuchUser)?)
    }

    /// Disables a user, and ends everything the user holds; or enables one.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn set_disabled(&self, name: &str, disabled: bool) -> Result<(), AdminError> {
        let name = normalise(name).ok_or(AdminError::BadName)?;
        Ok(self.store.set_disabled(&name, disabled, self.clock.millis())?)
    }

    /// Removes a user for good.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn delete(&self, name: &str) -> Result<(), AdminError> {
        let name = normalise(name).ok_or(AdminError::BadName)?;
        Ok(self.store.delete_user(&name, self.clock.millis())?)
    }

    fn prepare(&self, name: &str, given: GivenPassword) -> Result<(String, PasswordState, Option<Password>), AdminError> {
        let temporary = PasswordState::TemporaryUntil(self.clock.millis().saturating_add(self.temporary_ms));
        let (password, state, generated) = match given {
            GivenPassword::Permanent(password) => (password, PasswordState::Permanent, None),
            GivenPassword::Temporary(password) => (password, temporary, None),
            GivenPassword::Generated => {
                let password = self.make_up(name)?;
                (password.clone(), temporary, Some(password))
            }
        };
        check_password(self.policy, name, &password)?;
        Ok((self.argon.hash(&password).map_err(|_| AdminError::Hash)?, state, generated))
    }

    /// 120 random bits. Nearly every one pleases every policy; those that do not are thrown away.
    fn make_up(&self, name: &str) -> Result<Password, AdminError> {
        loop {
            let password = Zeroizing::new(base64url(&random_bytes::<15>().map_err(StoreError::Random)?));
            // A leading dash looks like a flag to whoever pastes it.
            if !password.starts_with('-') && check_password(self.policy, name, &password).is_ok() {
                return Ok(password);
            }
        }
    }
}

fn looks_like_email(text: &str) -> bool {
    let parts = text.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
    parts && text.len() <= 254 && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Opens the signing keys in their configured folder, and makes a first one if there is none.
///
/// # Errors
/// [`IdentityError`] if the folder cannot be used.
pub fn open_keys(settings: &Settings) -> Result<SigningKeys, IdentityError> {
    let folder = keys_folder(settings);
    make_data_folder(&settings.server.data_dir)?;
    SigningKeys::open(folder, &settings.identity.pool, retention(&settings.identity), Clock::system(), Arc::<Epoch>::default())
}

/// Signs a token of a user without a password: whoever can read the data folder can do that anyway.
///
/// `access`: an access token instead of an id token. `lifetime` in seconds.
///
/// # Errors
/// [`AdminError`].
pub fn mint(
    settings: &Settings,
    name: &str,
    access: bool,
    lifetime: Option<u64>,
    further: serde_json::Map<String, serde_json::Value>,
) -> Result<String, AdminError> {
    let pool = &settings.identity.pool;
    let lifetime = lifetime.unwrap_or(pool.token_lifetime_seconds.0);
    if lifetime > token_life_max(pool) {
        return Err(AdminError::LifetimeTooLong(token_life_max(pool)));
    }
    let user = UserAdmin::open(settings)?.find(name)?;
    if user.disabled {
        return Err(AdminError::Disabled);
    }
    let issuer = TokenIssuer {
        keys: Arc::new(open_keys(settings)?),
        iss: pool_issuer(settings, settings.server.listen),
        client_id: pool.client_id.clone(),
        lifetime,
        clock: Clock::system(),
    };
    let kind = if access { TokenKind::Access } else { TokenKind::Id };
    Ok(issuer.issue_with(&user, kind, &SessionFacts::begin(&issuer.clock)?, lifetime, further)?)
}
