use redis::Value;

use super::users::{Fields, read_user};
use super::{RedisStore, SLACK_MS, read, script};
use crate::identity::random::{base64url, from_base64url, random_bytes};
use crate::identity::store::{Redeemed, RefreshRules, RefreshToken, Sessions, StoreError, TOKENS_OF_FAMILY_MAX, User};

impl Sessions for RedisStore {
    fn begin_family(
        &self,
        user: &User,
        origin_jti: &str,
        rules: &RefreshRules,
        now: u64,
    ) -> Result<Option<RefreshToken>, StoreError> {
        let (id, token) = (random_bytes::<16>()?, RefreshToken::random()?);
        let lives = |span: u64| span.saturating_add(SLACK_MS).to_string();
        let arguments = vec![
            user.sub.clone(),
            user.generation.to_string(),
            base64url(&id),
            name_of(&token),
            origin_jti.to_owned(),
            now.to_string(),
            lives(rules.idle_ms.min(rules.lifetime_ms)),
            lives(rules.lifetime_ms),
        ];
        Ok(self.found(&script::BEGIN_FAMILY, arguments)?.then_some(token))
    }

    fn redeem(&self, name: Option<&str>, token: &RefreshToken, rules: &RefreshRules, now: u64) -> Result<Redeemed, StoreError> {
        let successor = RefreshToken::random()?;
        let mut arguments = vec![name_of(token), name.unwrap_or_default().to_owned()];
        arguments.extend([name_of(&successor), base64url(&token.seal(&successor)), u8::from(rules.rotate).to_string()]);
        arguments.extend(
            [rules.grace_ms, rules.idle_ms, rules.lifetime_ms, now, SLACK_MS, TOKENS_OF_FAMILY_MAX]
                .map(|number| number.to_string()),
        );
        let answer: Vec<Value> = self.run(&script::REDEEM, arguments)?;
        let mut answer = answer.into_iter();
        let mut next = || answer.next().ok_or(StoreError::Spoiled("an answer"));
        match read::<String>(next()?)?.as_str() {
            "reused" => return Ok(Redeemed::Reused),
            "session" => {}
            _ => return Ok(Redeemed::Refused),
        }
        let (sealed, confirmed): (String, String) = (read(next()?)?, read(next()?)?);
        let (origin_jti, auth_time_ms) = (read(next()?)?, read(next()?)?);
        let user = Box::new(read_user(read::<Fields>(next()?)?)?.ok_or(StoreError::Spoiled("a user"))?);
        let next = if sealed.is_empty() { token.again() } else { token.unseal(&bytes_of(&sealed)?) };
        if !sealed.is_empty() && confirmed.is_empty() {
            self.confirm(token);
        }
        Ok(Redeemed::Session { user, token: next, origin_jti, auth_time_ms })
    }

    fn revoke_session(&self, token: &RefreshToken, now: u64) -> Result<bool, StoreError> {
        self.found(&script::REVOKE_SESSION, vec![name_of(token), now.to_string()])
    }
}

impl RedisStore {
    /// From now on this token is known to have been replaced by one that somebody holds. If that cannot be said now, the
    /// first use of the successor says it.
    fn confirm(&self, token: &RefreshToken) {
        if let Err(error) = self.found(&script::CONFIRM, vec![name_of(token)]) {
            tracing::debug!(%error, "replacement of a refresh token not confirmed");
        }
    }
}

/// Under which a token is kept.
fn name_of(token: &RefreshToken) -> String {
    base64url(&token.hash())
}

fn bytes_of(sealed: &str) -> Result<[u8; 32], StoreError> {
    from_base64url(sealed).and_then(|bytes| bytes.try_into().ok()).ok_or(StoreError::Spoiled("a refresh token"))
}
