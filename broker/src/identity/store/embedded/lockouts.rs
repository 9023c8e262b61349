use rusqlite::{OptionalExtension as _, Transaction};

use super::{EmbeddedStore, signed, unsigned};
use crate::identity::store::{Admission, LOCKOUT_NAMES_MAX, LockoutRules, Lockouts, StoreError};

impl Lockouts for EmbeddedStore {
    fn admit(&self, name: &str, rules: &LockoutRules, now: u64) -> Result<Admission, StoreError> {
        if rules.threshold == 0 {
            return Ok(Admission::Admitted);
        }
        self.write(|transaction| {
            let (failures, locked_until) = read(transaction, name, rules, now)?;
            if now < locked_until {
                return Ok(Admission::LockedUntil(locked_until));
            }
            let failures = failures.saturating_add(1);
            let locked_until = now.saturating_add(delay(failures, rules));
            transaction.execute(
                "INSERT OR REPLACE INTO lockouts (name, failures, locked_until, updated) VALUES (?1, ?2, ?3, ?4)",
                (name, i64::from(failures), signed(locked_until), signed(now)),
            )?;
            Ok(Admission::Admitted)
        })
    }

    fn withdraw(&self, name: &str, now: u64) -> Result<(), StoreError> {
        self.lock().execute(
            "UPDATE lockouts SET failures = max(failures - 1, 0), locked_until = min(locked_until, ?2) WHERE name = ?1",
            (name, signed(now)),
        )?;
        Ok(())
    }

    fn absolve(&self, name: &str) -> Result<(), StoreError> {
        self.lock().execute("DELETE FROM lockouts WHERE name = ?1", [name])?;
        Ok(())
    }
}

fn read(transaction: &Transaction<'_>, name: &str, rules: &LockoutRules, now: u64) -> Result<(u32, u64), StoreError> {
    let row = transaction
        .query_row("SELECT failures, locked_until FROM lockouts WHERE name = ?1", [name], |row| {
            Ok((row.get::<_, u32>(0)?, unsigned(row, 1)?))
        })
        .optional()?;
    let stale = |locked_until: u64| now >= locked_until.saturating_add(rules.max_ms);
    Ok(row.filter(|(_, locked_until)| !stale(*locked_until)).unwrap_or((0, 0)))
}

fn delay(failures: u32, rules: &LockoutRules) -> u64 {
    match failures.checked_sub(rules.threshold) {
        None => 0,
        Some(beyond) => rules.base_ms.saturating_mul(1_u64 << beyond.min(40)).min(rules.max_ms),
    }
}

/// Drops what is stale, and the oldest beyond the bound.
pub(super) fn prune(transaction: &Transaction<'_>, max_ms: u64, now: u64) -> Result<(), StoreError> {
    transaction.execute("DELETE FROM lockouts WHERE locked_until < ?1", [signed(now.saturating_sub(max_ms))])?;
    transaction.execute(
        "DELETE FROM lockouts WHERE name IN (SELECT name FROM lockouts ORDER BY updated DESC LIMIT -1 OFFSET ?1)",
        [signed(LOCKOUT_NAMES_MAX)],
    )?;
    Ok(())
}
