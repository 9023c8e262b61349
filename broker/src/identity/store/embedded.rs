//! The embedded store: one SQLite file.
//!
//! Several processes may have it open at once, which is how the command line works beside a running node. Every change
//! that reads before it writes is one immediate transaction, so that two of them never see the same "before".

mod lockouts;
mod refresh;
mod users;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{Mark, RefreshRules, StoreError, UserStore};
use crate::identity::revocation::Revocation;

/// Layout of the file; a higher number in a file means that a newer version wrote it.
pub(super) const SCHEMA_VERSION: i64 = 1;

/// How long a write waits for another process's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
CREATE TABLE users (
    name TEXT PRIMARY KEY,
    username TEXT NOT NULL,
    sub TEXT NOT NULL UNIQUE,
    email TEXT,
    password TEXT NOT NULL,
    temporary INTEGER NOT NULL,
    temporary_until INTEGER NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0,
    generation INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL
) STRICT;
CREATE TABLE families (
    id BLOB PRIMARY KEY,
    sub TEXT NOT NULL,
    origin_jti TEXT NOT NULL,
    created INTEGER NOT NULL,
    last_used INTEGER NOT NULL,
    revoked INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX families_sub ON families (sub);
CREATE TABLE refresh_tokens (
    hash BLOB PRIMARY KEY,
    family BLOB NOT NULL REFERENCES families (id) ON DELETE CASCADE,
    replaced INTEGER,
    sealed_successor BLOB
) STRICT;
CREATE INDEX refresh_tokens_family ON refresh_tokens (family);
CREATE TABLE lockouts (
    name TEXT PRIMARY KEY,
    failures INTEGER NOT NULL,
    locked_until INTEGER NOT NULL,
    updated INTEGER NOT NULL
) STRICT;
CREATE INDEX lockouts_updated ON lockouts (updated);
CREATE TABLE revocations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sub TEXT NOT NULL UNIQUE,
    generation INTEGER NOT NULL,
    not_before INTEGER NOT NULL
) STRICT;
";

/// One connection to the file.
#[derive(Debug)]
pub(in crate::identity) struct EmbeddedStore {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl EmbeddedStore {
    /// Opens the file, or makes it, readable for its owner only.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be opened or was written by a newer version.
    pub(in crate::identity) fn open(path: &Path) -> Result<Self, StoreError> {
        create_private(path).map_err(|error| StoreError::Io(path.to_owned(), error))?;
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        let setup = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 = setup.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match version {
            0 => {
                setup.execute_batch(SCHEMA)?;
                setup.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            }
            known if known <= SCHEMA_VERSION => {}
            newer => return Err(StoreError::TooNew(newer)),
        }
        setup.commit()?;
        Ok(Self { connection: Mutex::new(connection), path: path.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A transaction that was cut short by a panic has been rolled back when it was dropped.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one immediate transaction: no other writer, in whichever process, comes between its statements.
    fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }
}

impl UserStore for EmbeddedStore {
    fn reopen(&self) -> Result<Box<dyn UserStore>, StoreError> {
        Ok(Box::new(Self::open(&self.path)?))
    }

    /// An open file is there.
    fn reach(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn revocations_since(&self, mark: &mut Mark) -> Result<Vec<Revocation>, StoreError> {
        let connection = self.lock();
        // Changes when another connection, in whichever process, has committed a write; asking costs microseconds.
        let version: i64 = connection.query_row("PRAGMA data_version", [], |row| row.get(0))?;
        if mark.version == Some(version) {
            return Ok(Vec::new());
        }
        let mut statement =
            connection.prepare_cached("SELECT id, sub, generation, not_before FROM revocations WHERE id > ?1 ORDER BY id")?;
        let rows = statement.query_map([mark.last_id], |row| {
            let (subject, generation, not_before) = (row.get(1)?, unsigned(row, 2)?, unsigned(row, 3)?);
            Ok((row.get(0)?, Revocation { subject, generation, not_before_ms: not_before }))
        })?;
        let rows = rows.collect::<Result<Vec<(i64, _)>, _>>()?;
        *mark = Mark { version: Some(version), last_id: rows.last().map_or(mark.last_id, |(id, _)| *id) };
        Ok(rows.into_iter().map(|(_, revocation)| revocation).collect())
    }

    fn prune(&self, rules: &RefreshRules, lockout_max_ms: u64, revoked_before: u64, now: u64) -> Result<(), StoreError> {
        self.write(|transaction| {
            refresh::prune(transaction, rules, now)?;
            lockouts::prune(transaction, lockout_max_ms, now)?;
            transaction.execute("DELETE FROM revocations WHERE not_before < ?1", [signed(revoked_before)])?;
            Ok(())
        })
    }
}

/// Raises the generation of a user whose row stays, and writes the revocation that everybody watches for.
fn revoke_subject(transaction: &Transaction<'_>, sub: &str, now: u64) -> Result<(), StoreError> {
    let generation: i64 = transaction.query_row(
        "UPDATE users SET generation = generation + 1, not_before = ?2, updated = ?2 WHERE sub = ?1 RETURNING generation",
        (sub, signed(now)),
        |row| row.get(0),
    )?;
    announce(transaction, sub, generation, now)
}

fn announce(transaction: &Transaction<'_>, sub: &str, generation: i64, now: u64) -> Result<(), StoreError> {
    transaction.execute(
        "INSERT OR REPLACE INTO revocations (sub, generation, not_before) VALUES (?1, ?2, ?3)",
        (sub, generation, signed(now)),
    )?;
    Ok(())
}

/// SQLite's integers are signed; times and counters here stay far below the sign.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(index)?).unwrap_or(0))
}

/// Makes an empty file that only its owner may read; SQLite gives its side files the same mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}
