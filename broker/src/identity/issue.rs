use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::IdentityError;
use super::claims::GENERATION_CLAIM;
use super::clock::Clock;
use super::keys::SigningKeys;
use super::random::random_uuid;
use super::store::User;
use crate::config::{PoolSettings, Settings};

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// Who the user is.
    Id,
    /// What the user's client may do.
    Access,
}

/// What all tokens of one session share, refreshed ones included.
#[derive(Debug, Clone)]
pub(crate) struct SessionFacts {
    /// `jti` of the session's beginning.
    pub(crate) origin_jti: String,
    /// Sign-in, in seconds since the Unix epoch.
    pub(crate) auth_time: u64,
}

impl SessionFacts {
    /// A session that begins now.
    pub(crate) fn begin(clock: &Clock) -> Result<Self, IdentityError> {
        let origin_jti = random_uuid().map_err(|error| IdentityError::Key(error.to_string()))?;
        Ok(Self { origin_jti, auth_time: clock.seconds() })
    }
}

/// Longest life in seconds that any of the pool's tokens may have: keys and revocations are kept that long.
pub(crate) fn token_life_max(pool: &PoolSettings) -> u64 {
    pool.token_lifetime_seconds.0.max(86_400)
}

/// The value of `iss` in the pool's tokens: as configured, else the address under which the node is reached.
pub(super) fn pool_issuer(settings: &Settings, listen: SocketAddr) -> String {
    let scheme = if settings.server.tls.is_some() { "https" } else { "http" };
    settings.identity.pool.issuer.clone().unwrap_or_else(|| format!("{scheme}://{listen}"))
}

/// Makes the pool's id and access tokens, shaped as Cognito's are.
#[derive(Debug)]
pub(crate) struct TokenIssuer {
    pub(super) keys: Arc<SigningKeys>,
    pub(super) iss: String,
    pub(super) client_id: String,
    pub(super) lifetime: u64,
    pub(super) clock: Clock,
}

impl TokenIssuer {
    /// Signs a token of the usual life.
    pub(super) fn issue(&self, user: &User, kind: TokenKind, session: &SessionFacts) -> Result<String, IdentityError> {
        self.issue_with(user, kind, session, self.lifetime, Map::new())
    }

    /// Signs a token of this life in seconds, with further claims that must not be among its own.
    pub(crate) fn issue_with(
        &self,
        user: &User,
        kind: TokenKind,
        session: &SessionFacts,
        lifetime: u64,
        further: Map<String, Value>,
    ) -> Result<String, IdentityError> {
        let now = self.clock.seconds();
        let jti = random_uuid().map_err(|error| IdentityError::Key(error.to_string()))?;
        let mut claims = further;
        let own = [
            ("sub", json!(user.sub)),
            ("iss", json!(self.iss)),
            ("iat", json!(now)),
            ("exp", json!(now.saturating_add(lifetime))),
            ("auth_time", json!(session.auth_time)),
            ("jti", json!(jti)),
            ("origin_jti", json!(session.origin_jti)),
            (GENERATION_CLAIM, json!(user.generation)),
        ];
        let of_kind = match kind {
            TokenKind::Id => self.id_claims(user),
            TokenKind::Access => self.access_claims(user),
        };
        for (name, value) in own.into_iter().chain(of_kind) {
            if claims.insert(name.to_owned(), value).is_some() {
                return Err(IdentityError::ReservedClaim(name.to_owned()));
            }
        }
        self.keys.sign(&claims)
    }

    fn id_claims(&self, user: &User) -> Vec<(&'static str, Value)> {
        let mut claims =
            vec![("token_use", json!("id")), ("aud", json!(self.client_id)), ("cognito:username", json!(user.username))];
        if let Some(email) = &user.email {
            claims.extend([("email", json!(email)), ("email_verified", json!(false))]);
        }
        claims
    }

    fn access_claims(&self, user: &User) -> Vec<(&'static str, Value)> {
        let (client, username) = (json!(self.client_id), json!(user.username));
        vec![("token_use", json!("access")), ("client_id", client), ("scope", json!("openid")), ("username", username)]
    }
}
