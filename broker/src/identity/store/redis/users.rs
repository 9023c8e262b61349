use std::collections::HashMap;

use super::{PAGE, RedisStore, script};
use crate::identity::random::random_uuid;
use crate::identity::store::{NewUser, PasswordState, StoreError, User, Users};

/// The fields of a user as Redis has them; empty if there is no such user.
pub(super) type Fields = HashMap<String, String>;

impl Users for RedisStore {
    fn add_user(&self, user: &NewUser<'_>, now: u64) -> Result<String, StoreError> {
        let sub = random_uuid()?;
        let (temporary, until) = texts_of(user.state);
        let (email, password) = (user.email.unwrap_or_default(), user.password);
        let mut arguments = [user.name, user.username, &sub, email, password].map(str::to_owned).to_vec();
        arguments.extend([temporary, until, now.to_string()]);
        if self.found(&script::ADD_USER, arguments)? { Ok(sub) } else { Err(StoreError::UserExists) }
    }

    fn find_user(&self, name: &str) -> Result<Option<User>, StoreError> {
        read_user(self.run(&script::FIND_USER, vec![name.to_owned()])?)
    }

    fn users(&self) -> Result<Vec<User>, StoreError> {
        let mut users: Vec<User> = Vec::new();
        loop {
            // A name has a character at least, so that `-` and `(<name>` both begin before the next one.
            let after = users.last().map_or_else(|| "-".to_owned(), |user| format!("({}", user.name));
            let page: Vec<Fields> = self.run(&script::LIST_USERS, vec![after, PAGE.to_string()])?;
            let last = page.len() < PAGE;
            for fields in page {
                users.extend(read_user(fields)?);
            }
            if last {
                return Ok(users);
            }
        }
    }

    fn set_password(
        &self,
        name: &str,
        password: &str,
        state: PasswordState,
        replaces: Option<&str>,
        now: u64,
    ) -> Result<User, StoreError> {
        let (temporary, until) = texts_of(state);
        let (name, password, replaces) = (name.to_owned(), password.to_owned(), replaces.unwrap_or_default().to_owned());
        let arguments = vec![name, password, temporary, until, replaces, now.to_string()];
        read_user(self.run(&script::SET_PASSWORD, arguments)?)?.ok_or(StoreError::NoSuchUser)
    }

    fn rehash(&self, name: &str, old: &str, new: &str) -> Result<(), StoreError> {
        self.found(&script::REHASH, [name, old, new].map(str::to_owned).to_vec()).map(drop)
    }

    fn set_disabled(&self, name: &str, disabled: bool, now: u64) -> Result<(), StoreError> {
        let arguments = vec![name.to_owned(), u8::from(disabled).to_string(), now.to_string()];
        if self.found(&script::SET_DISABLED, arguments)? { Ok(()) } else { Err(StoreError::NoSuchUser) }
    }

    fn delete_user(&self, name: &str, now: u64) -> Result<(), StoreError> {
        let found = self.found(&script::DELETE_USER, vec![name.to_owned(), now.to_string()])?;
        if found { Ok(()) } else { Err(StoreError::NoSuchUser) }
    }
}

fn texts_of(state: PasswordState) -> (String, String) {
    match state {
        PasswordState::Permanent => ("0".to_owned(), "0".to_owned()),
        PasswordState::TemporaryUntil(until) => ("1".to_owned(), until.to_string()),
    }
}

/// None if there are no fields.
pub(super) fn read_user(mut fields: Fields) -> Result<Option<User>, StoreError> {
    if fields.is_empty() {
        return Ok(None);
    }
    let mut text = |field: &str| fields.remove(field).ok_or(StoreError::Spoiled("a user"));
    let number = |text: String| text.parse::<u64>().map_err(|_| StoreError::Spoiled("a user"));
    let (temporary, until) = (text("temporary")? == "1", number(text("until")?)?);
    Ok(Some(User {
        name: text("name")?,
        username: text("username")?,
        sub: text("sub")?,
        password: text("password")?,
        password_state: if temporary { PasswordState::TemporaryUntil(until) } else { PasswordState::Permanent },
        disabled: text("disabled")? != "0",
        generation: number(text("generation")?)?,
        created_ms: number(text("created")?)?,
        updated_ms: number(text("updated")?)?,
        email: fields.remove("email"),
    }))
}
