use std::io::Read as _;

use serde_json::json;
use zeroize::Zeroizing;

use super::{CliError, Console, PasswordArgs, UserAddArgs, UserArgs, UserCommand, UserPasswdArgs};
use crate::config::Settings;
use crate::identity::{AdminError, GivenPassword, PasswordState, User, UserAdmin};

/// Longest password read from standard input, in bytes; a policy refuses far shorter ones.
const PASSWORD_BYTES_MAX: u64 = 4_096;

/// Does what `countersign user` was asked to.
///
/// # Errors
/// What could not be done, with its exit code.
pub(super) fn run(args: &UserArgs, settings: &Settings, console: &mut Console<'_>) -> Result<(), CliError> {
    let admin = UserAdmin::open(settings)?;
    match &args.command {
        UserCommand::Add(add) => run_add(&admin, add, console),
        UserCommand::List { json } => list(&admin.list()?, *json, console),
        UserCommand::Disable(user) => {
            admin.set_disabled(&user.name, true)?;
            Ok(writeln!(console.output, "disabled {}", user.name.trim())?)
        }
        UserCommand::Enable(user) => {
            admin.set_disabled(&user.name, false)?;
            Ok(writeln!(console.output, "enabled {}", user.name.trim())?)
        }
        UserCommand::Passwd(passwd) => run_passwd(&admin, passwd, console),
        UserCommand::Delete(user) => {
            admin.delete(&user.name)?;
            Ok(writeln!(console.output, "deleted {}", user.name.trim())?)
        }
    }
}

fn run_add(admin: &UserAdmin, args: &UserAddArgs, console: &mut Console<'_>) -> Result<(), CliError> {
    let given = given_password(args.password, console)?;
    let generated = admin.add(&args.name, args.email.as_deref(), given)?;
    writeln!(console.output, "created {}", args.name.trim())?;
    tell(generated, console)
}

fn run_passwd(admin: &UserAdmin, args: &UserPasswdArgs, console: &mut Console<'_>) -> Result<(), CliError> {
    let given = given_password(args.password, console)?;
    let generated = admin.set_password(&args.name, given)?;
    writeln!(console.output, "password set for {}", args.name.trim())?;
    tell(generated, console)
}

/// A made-up password is shown this once and kept nowhere in clear.
fn tell(generated: Option<Zeroizing<String>>, console: &mut Console<'_>) -> Result<(), CliError> {
    if let Some(password) = generated {
        writeln!(console.output, "temporary password: {}", password.as_str())?;
    }
    Ok(())
}

fn given_password(args: PasswordArgs, console: &mut Console<'_>) -> Result<GivenPassword, CliError> {
    if !args.password_stdin {
        return Ok(GivenPassword::Generated);
    }
    let mut text = Zeroizing::new(String::new());
    (&mut *console.input).take(PASSWORD_BYTES_MAX).read_to_string(&mut text)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(if args.permanent { GivenPassword::Permanent(text) } else { GivenPassword::Temporary(text) })
}

fn list(users: &[User], as_json: bool, console: &mut Console<'_>) -> Result<(), CliError> {
    if as_json {
        let users: Vec<_> = users
            .iter()
            .map(|user| {
                json!({
                    "username": user.username,
                    "sub": user.sub,
                    "email": user.email,
                    "status": status(user),
                    "created_ms": user.created_ms,
                    "updated_ms": user.updated_ms,
                })
            })
            .collect();
        return Ok(writeln!(console.output, "{}", serde_json::Value::Array(users))?);
    }
    let width = users.iter().map(|user| user.username.chars().count()).max().unwrap_or(0);
    for user in users {
        let email = user.email.as_deref().unwrap_or("-");
        writeln!(console.output, "{:width$}  {:21}  {}  {email}", user.username, status(user), user.sub)?;
    }
    Ok(())
}

fn status(user: &User) -> &'static str {
    match user.password_state {
        _ if user.disabled => "disabled",
        PasswordState::Permanent => "confirmed",
        PasswordState::TemporaryUntil(_) => "force_change_password",
    }
}

impl From<AdminError> for CliError {
    /// Nothing of it is the configuration's fault that `config check` would not have found.
    fn from(error: AdminError) -> Self {
        Self::failure(error.to_string())
    }
}
