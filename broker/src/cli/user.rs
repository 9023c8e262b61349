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
    let widest = |column: fn(&User) -> &str, title: &str| {
        users.iter().map(|user| column(user).chars().count()).chain([title.len()]).max().unwrap_or(0)
    };
    let (name, subject) = (widest(|user| &user.username, "NAME"), widest(|user| &user.sub, "SUBJECT"));
    writeln!(console.output, "{:name$}  {:subject$}  {:21}  EMAIL", "NAME", "SUBJECT", "STATUS")?;
    for user in users {
        let email = user.email.as_deref().unwrap_or("-");
        writeln!(console.output, "{:name$}  {:subject$}  {:21}  {email}", user.username, user.sub, status(user))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::UserNameArgs;

    /// Settings with cheap hashes, in a data folder that does not exist yet.
    fn settings(folder: &tempfile::TempDir) -> Settings {
        let mut settings = Settings::default();
        settings.server.data_dir = folder.path().join("a/b");
        settings.identity.pool.argon2_memory_kib = 8;
        settings.identity.pool.argon2_iterations = 1;
        settings
    }

    fn check(settings: &Settings, command: UserCommand, input: &str) -> Result<String, CliError> {
        let mut output = Vec::new();
        let mut console = Console { input: &mut input.as_bytes(), output: &mut output };
        run(&UserArgs { command }, settings, &mut console)?;
        Ok(String::from_utf8(output).unwrap())
    }

    fn add(name: &str, password: PasswordArgs) -> UserCommand {
        UserCommand::Add(UserAddArgs { name: name.to_owned(), email: None, password })
    }

    const GIVEN: PasswordArgs = PasswordArgs { password_stdin: true, permanent: true };
    const GENERATED: PasswordArgs = PasswordArgs { password_stdin: false, permanent: false };

    fn named(name: &str) -> UserNameArgs {
        UserNameArgs { name: name.to_owned() }
    }

    #[test]
    fn a_user_is_kept_from_first_to_last() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        let check = |command, input| check(&settings, command, input);
        assert_eq!(check(add("Ada", GIVEN), "violets are blue\n").unwrap(), "created Ada\n");
        assert!(check(add("bob", GENERATED), "").unwrap().contains("temporary password: "));
        assert!(check(add(" ADA", GENERATED), "").unwrap_err().message.contains("exists"));
        assert!(check(add("eve", GIVEN), "short").unwrap_err().message.contains("at least 8"));
        check(UserCommand::Disable(named("ada")), "").unwrap();
        let users = check(UserCommand::List { json: true }, "").unwrap();
        let users: serde_json::Value = serde_json::from_str(&users).unwrap();
        assert_eq!((&users[0]["username"], &users[0]["status"]), (&json!("Ada"), &json!("disabled")));
        assert_eq!((&users[1]["username"], &users[1]["status"]), (&json!("bob"), &json!("force_change_password")));
        check(UserCommand::Enable(named("ada")), "").unwrap();
        let passwd = UserPasswdArgs { name: "ada".to_owned(), password: GIVEN };
        check(UserCommand::Passwd(passwd), "roses are red").unwrap();
        check(UserCommand::Delete(named("bob")), "").unwrap();
        assert!(check(UserCommand::Delete(named("bob")), "").unwrap_err().message.contains("no user"));
        let table = check(UserCommand::List { json: false }, "").unwrap();
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!((lines.len(), &lines[0][..]), (2, &["NAME", "SUBJECT", "STATUS", "EMAIL"][..]));
        assert_eq!((lines[1][0], lines[1][2]), ("Ada", "confirmed"));
    }

    #[test]
    fn names_that_would_not_survive_a_shell_or_an_address_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        let long = "x".repeat(129);
        for name in ["ada lovelace", "a\tb", "a\u{7}b", "a/b", "", " ", long.as_str()] {
            let refused = check(&settings, add(name, GENERATED), "").unwrap_err();
            assert!(refused.message.contains("1 to 128 bytes"), "{name:?}: {}", refused.message);
        }
        assert!(check(&settings, add(&long[1..], GENERATED), "").is_ok());
    }

    #[test]
    fn a_data_folder_that_cannot_be_used_is_named_with_its_flag() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(&folder);
        settings.server.data_dir = folder.path().join("file");
        std::fs::write(&settings.server.data_dir, "").unwrap();
        let refused = check(&settings, UserCommand::List { json: false }, "").unwrap_err().message;
        assert!(refused.starts_with("data folder /") && refused.contains("--data-dir"), "{refused}");
    }

    #[test]
    fn one_line_break_at_the_end_is_no_part_of_a_password() {
        let read = |input: &str| {
            let mut output = Vec::new();
            let mut console = Console { input: &mut input.as_bytes(), output: &mut output };
            match given_password(GIVEN, &mut console).unwrap() {
                GivenPassword::Permanent(password) => password.to_string(),
                _ => panic!("not permanent"),
            }
        };
        assert_eq!(read(" a b \r\n"), " a b ");
        assert_eq!(read("a\n\n"), "a\n");
        assert_eq!(read("a"), "a");
    }
}
