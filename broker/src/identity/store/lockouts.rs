use rusqlite::{OptionalExtension as _, Transaction};

use super::{Store, StoreError, signed, unsigned};

/// Most names that are counted; the least recently tried go first.
const NAMES_MAX: u64 = 100_000;

/// When failures delay the next attempt, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(in crate::identity) struct LockoutRules {
    /// Failures before the first delay; 0: no lock-out.
    pub(in crate::identity) threshold: u32,
    /// First delay; it doubles with each further failure.
    pub(in crate::identity) base_ms: u64,
    /// Longest delay; and a name not tried for this long after its delay starts anew.
    pub(in crate::identity) max_ms: u64,
}

/// May this attempt be judged?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::identity) enum Admission {
    /// Yes, and it has been counted as failed until it succeeds.
    Admitted,
    /// No; the name is locked until then. The attempt counts for nothing and extends nothing.
    LockedUntil(u64),
}

impl Store {
    /// Counts an attempt before it is judged: of any number at once, no more are judged than the threshold lets through.
    ///
    /// Names of users that do not exist count the same, so that a delay tells nothing.
    pub(in crate::identity) fn admit(&self, name: &str, rules: &LockoutRules, now: u64) -> Result<Admission, StoreError> {
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

    /// Takes an admitted attempt back that was never judged, for want of a free hash.
    pub(in crate::identity) fn withdraw(&self, name: &str, now: u64) -> Result<(), StoreError> {
        self.lock().execute(
            "UPDATE lockouts SET failures = max(failures - 1, 0), locked_until = min(locked_until, ?2) WHERE name = ?1",
            (name, signed(now)),
        )?;
        Ok(())
    }

    /// Forgets a name's failures: its password was right.
    pub(in crate::identity) fn absolve(&self, name: &str) -> Result<(), StoreError> {
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
        [signed(NAMES_MAX)],
    )?;
    Ok(())
}
