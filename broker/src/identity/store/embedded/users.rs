use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::{EmbeddedStore, announce, revoke_subject, signed, unsigned};
use crate::identity::random::random_uuid;
use crate::identity::store::{NewUser, PasswordState, StoreError, User, Users};

const COLUMNS: &str =
    "name, username, sub, email, password, temporary, temporary_until, disabled, generation, created, updated";

impl Users for EmbeddedStore {
    fn add_user(&self, user: &NewUser<'_>, now: u64) -> Result<String, StoreError> {
        let sub = random_uuid()?;
        let (temporary, until) = columns_of(user.state);
        let added = self.lock().execute(
            "INSERT INTO users (name, username, sub, email, password, temporary, temporary_until, created, updated)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8) ON CONFLICT (name) DO NOTHING",
            (user.name, user.username, &sub, user.email, user.password, temporary, until, signed(now)),
        )?;
        if added == 0 { Err(StoreError::UserExists) } else { Ok(sub) }
    }

    fn find_user(&self, name: &str) -> Result<Option<User>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM users WHERE name = ?1"))?;
        Ok(statement.query_row([name], read_user).optional()?)
    }

    fn users(&self) -> Result<Vec<User>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM users ORDER BY name"))?;
        let users = statement.query_map([], read_user)?.collect::<Result<_, _>>()?;
        Ok(users)
    }

    fn set_password(
        &self,
        name: &str,
        password: &str,
        state: PasswordState,
        replaces: Option<&str>,
        now: u64,
    ) -> Result<User, StoreError> {
        let (temporary, until) = columns_of(state);
        self.write(|transaction| {
            let changed = transaction.execute(
                "UPDATE users SET password = ?2, temporary = ?3, temporary_until = ?4 WHERE name = ?1 AND password = coalesce(?5, password)",
                (name, password, temporary, until, replaces),
            )?;
            if changed == 0 {
                return Err(StoreError::NoSuchUser);
            }
            end_all(transaction, name, now)?;
            user_in(transaction, name)
        })
    }

    fn rehash(&self, name: &str, old: &str, new: &str) -> Result<(), StoreError> {
        self.lock().execute("UPDATE users SET password = ?3 WHERE name = ?1 AND password = ?2", (name, old, new))?;
        Ok(())
    }

    fn set_disabled(&self, name: &str, disabled: bool, now: u64) -> Result<(), StoreError> {
        self.write(|transaction| {
            let changed = transaction
                .execute("UPDATE users SET disabled = ?2, updated = ?3 WHERE name = ?1", (name, disabled, signed(now)))?;
            if changed == 0 {
                return Err(StoreError::NoSuchUser);
            }
            if disabled { end_all(transaction, name, now) } else { Ok(()) }
        })
    }

    fn delete_user(&self, name: &str, now: u64) -> Result<(), StoreError> {
        self.write(|transaction| {
            let user = user_in(transaction, name)?;
            transaction.execute("DELETE FROM families WHERE sub = ?1", [&user.sub])?;
            transaction.execute("DELETE FROM users WHERE name = ?1", [name])?;
            announce(transaction, &user.sub, signed(user.generation.saturating_add(1)), now)
        })
    }
}

/// Ends the refresh tokens of a user and revokes all tokens.
fn end_all(transaction: &Transaction<'_>, name: &str, now: u64) -> Result<(), StoreError> {
    let sub: String = transaction.query_row("SELECT sub FROM users WHERE name = ?1", [name], |row| row.get(0))?;
    transaction.execute("DELETE FROM families WHERE sub = ?1", [&sub])?;
    revoke_subject(transaction, &sub, now)
}

fn user_in(transaction: &Transaction<'_>, name: &str) -> Result<User, StoreError> {
    let found = transaction.query_row(&format!("SELECT {COLUMNS} FROM users WHERE name = ?1"), [name], read_user).optional()?;
    found.ok_or(StoreError::NoSuchUser)
}

/// The user whom a refresh-token family belongs to.
pub(super) fn user_of_subject(transaction: &Transaction<'_>, sub: &str) -> Result<Option<User>, StoreError> {
    Ok(transaction.query_row(&format!("SELECT {COLUMNS} FROM users WHERE sub = ?1"), [sub], read_user).optional()?)
}

fn columns_of(state: PasswordState) -> (bool, i64) {
    match state {
        PasswordState::Permanent => (false, 0),
        PasswordState::TemporaryUntil(until) => (true, signed(until)),
    }
}

fn read_user(row: &Row<'_>) -> rusqlite::Result<User> {
    let temporary: bool = row.get(5)?;
    let until = unsigned(row, 6)?;
    Ok(User {
        name: row.get(0)?,
        username: row.get(1)?,
        sub: row.get(2)?,
        email: row.get(3)?,
        password: row.get(4)?,
        password_state: if temporary { PasswordState::TemporaryUntil(until) } else { PasswordState::Permanent },
        disabled: row.get(7)?,
        generation: unsigned(row, 8)?,
        created_ms: unsigned(row, 9)?,
        updated_ms: unsigned(row, 10)?,
    })
}
