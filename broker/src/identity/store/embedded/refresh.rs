use rusqlite::{OptionalExtension as _, Transaction};

use super::users::user_of_subject;
use super::{EmbeddedStore, revoke_subject, signed, unsigned};
use crate::identity::random::random_bytes;
use crate::identity::store::{Redeemed, RefreshRules, RefreshToken, Sessions, StoreError, TOKENS_OF_FAMILY_MAX, User};

struct Family {
    id: Vec<u8>,
    sub: String,
    origin_jti: String,
    created: u64,
    last_used: u64,
    revoked: bool,
    replaced: Option<u64>,
    sealed_successor: Option<[u8; 32]>,
}

impl Sessions for EmbeddedStore {
    fn begin_family(
        &self,
        user: &User,
        origin_jti: &str,
        _: &RefreshRules,
        now: u64,
    ) -> Result<Option<RefreshToken>, StoreError> {
        let (id, token) = (random_bytes::<16>()?, RefreshToken::random()?);
        self.write(|transaction| {
            let begun = transaction.execute(
                "INSERT INTO families (id, sub, origin_jti, created, last_used)
                 SELECT ?1, sub, ?3, ?4, ?4 FROM users WHERE sub = ?2 AND generation = ?5 AND disabled = 0",
                (id.as_slice(), &user.sub, origin_jti, signed(now), signed(user.generation)),
            )?;
            if begun == 0 {
                return Ok(None);
            }
            insert_token(transaction, &token, &id)?;
            Ok(Some(token))
        })
    }

    fn redeem(&self, name: Option<&str>, token: &RefreshToken, rules: &RefreshRules, now: u64) -> Result<Redeemed, StoreError> {
        self.write(|transaction| {
            let Some(family) = find_family(transaction, token)? else { return Ok(Redeemed::Refused) };
            if family.revoked || family.has_ended(rules, now) {
                return Ok(Redeemed::Refused);
            }
            let Some(user) = user_of_subject(transaction, &family.sub)? else { return Ok(Redeemed::Refused) };
            if user.disabled || name.is_some_and(|name| name != user.name) {
                return Ok(Redeemed::Refused);
            }
            let next = match (family.replaced, family.sealed_successor) {
                (None, _) if rules.rotate => replace(transaction, token, &family.id, now)?,
                (None, _) => token.again(),
                (Some(replaced), Some(sealed)) if now.saturating_sub(replaced) < rules.grace_ms => token.unseal(&sealed),
                (Some(_), _) => {
                    end_family(transaction, &family, now)?;
                    return Ok(Redeemed::Reused);
                }
            };
            transaction.execute("UPDATE families SET last_used = ?2 WHERE id = ?1", (&family.id, signed(now)))?;
            let (origin_jti, auth_time_ms) = (family.origin_jti, family.created);
            Ok(Redeemed::Session { user: Box::new(user), token: next, origin_jti, auth_time_ms })
        })
    }

    fn revoke_session(&self, token: &RefreshToken, now: u64) -> Result<bool, StoreError> {
        self.write(|transaction| match find_family(transaction, token)? {
            Some(family) if !family.revoked => end_family(transaction, &family, now).map(|()| true),
            _ => Ok(false),
        })
    }
}

impl Family {
    fn has_ended(&self, rules: &RefreshRules, now: u64) -> bool {
        now.saturating_sub(self.created) >= rules.lifetime_ms || now.saturating_sub(self.last_used) >= rules.idle_ms
    }
}

fn insert_token(transaction: &Transaction<'_>, token: &RefreshToken, family: &[u8]) -> Result<(), StoreError> {
    transaction.execute("INSERT INTO refresh_tokens (hash, family) VALUES (?1, ?2)", (token.hash().as_slice(), family))?;
    Ok(())
}

fn replace(transaction: &Transaction<'_>, token: &RefreshToken, family: &[u8], now: u64) -> Result<RefreshToken, StoreError> {
    let successor = RefreshToken::random()?;
    transaction.execute(
        "UPDATE refresh_tokens SET replaced = ?2, sealed_successor = ?3 WHERE hash = ?1",
        (token.hash().as_slice(), signed(now), token.seal(&successor).as_slice()),
    )?;
    insert_token(transaction, &successor, family)?;
    transaction.execute(
        "DELETE FROM refresh_tokens WHERE rowid IN
         (SELECT rowid FROM refresh_tokens WHERE family = ?1 ORDER BY rowid DESC LIMIT -1 OFFSET ?2)",
        (family, signed(TOKENS_OF_FAMILY_MAX)),
    )?;
    Ok(successor)
}

/// The family stays, marked: a second copy of an old token must not end the user's next sessions again.
fn end_family(transaction: &Transaction<'_>, family: &Family, now: u64) -> Result<(), StoreError> {
    transaction.execute("UPDATE families SET revoked = 1 WHERE id = ?1", [&family.id])?;
    revoke_subject(transaction, &family.sub, now)
}

fn find_family(transaction: &Transaction<'_>, token: &RefreshToken) -> Result<Option<Family>, StoreError> {
    let mut statement = transaction.prepare_cached(
        "SELECT f.id, f.sub, f.origin_jti, f.created, f.last_used, f.revoked, t.replaced, t.sealed_successor
         FROM refresh_tokens t JOIN families f ON f.id = t.family WHERE t.hash = ?1",
    )?;
    let found = statement.query_row([token.hash().as_slice()], |row| {
        Ok(Family {
            id: row.get(0)?,
            sub: row.get(1)?,
            origin_jti: row.get(2)?,
            created: unsigned(row, 3)?,
            last_used: unsigned(row, 4)?,
            revoked: row.get(5)?,
            replaced: row.get::<_, Option<i64>>(6)?.map(|time| u64::try_from(time).unwrap_or(0)),
            sealed_successor: row.get::<_, Option<[u8; 32]>>(7)?,
        })
    });
    Ok(found.optional()?)
}

/// Drops families that have ended. Their tokens go with them.
pub(super) fn prune(transaction: &Transaction<'_>, rules: &RefreshRules, now: u64) -> Result<(), StoreError> {
    transaction.execute(
        "DELETE FROM families WHERE created < ?1 OR last_used < ?2",
        (signed(now.saturating_sub(rules.lifetime_ms)), signed(now.saturating_sub(rules.idle_ms))),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::store::conformance::refresh_without_end;

    #[test]
    fn refreshing_without_end_keeps_a_bounded_number_of_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("pool.db")).unwrap();
        // What is tested is how much is written, not that it survives a loss of power.
        store.lock().pragma_update(None, "synchronous", false).unwrap();
        refresh_without_end(&store);
        let kept: i64 = store.lock().query_row("SELECT count(*) FROM refresh_tokens", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, signed(TOKENS_OF_FAMILY_MAX));
    }
}
