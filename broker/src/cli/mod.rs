//! The command line: what it takes, and what each subcommand other than `serve` does.
//!
//! Nothing here prints by itself: input and output come in as a [`Console`], and what went wrong goes back as a [`CliError`],
//! so that tests call what `main` calls.

mod args;
mod config;
mod keys;
#[cfg(test)]
mod tests;
mod token;
mod user;

use std::ffi::OsString;
use std::io::{self, Read, Write};

use clap::Parser as _;
use clap::error::ErrorKind;

pub use args::{
    Arguments, ClaimArg, Command, ConfigCommand, KeysArgs, KeysCommand, Overrides, PasswordArgs, TokenArgs, TokenCommand,
    TokenMintArgs, TokenUse, UserAddArgs, UserArgs, UserCommand, UserNameArgs, UserPasswdArgs,
};

use crate::config::{Environment, Settings};

/// Standard input and output as a subcommand sees them.
pub struct Console<'a> {
    /// Read by `--password-stdin` and by `token inspect`.
    pub input: &'a mut dyn Read,
    /// Results. Logs and errors go to standard error instead.
    pub output: &'a mut dyn Write,
}

/// How the process ends when it did not do what it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// 1: it could not be done.
    Failure,
    /// 64: the command line or the configuration is wrong.
    ///
    /// Source: `EX_USAGE` of BSD's sysexits(3).
    Usage,
}

impl ExitStatus {
    /// The number that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Failure => 1,
            Self::Usage => 64,
        }
    }
}

/// Why a command ended early: for people, with the exit code that scripts see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    /// The exit code.
    pub exit: ExitStatus,
    /// What is wrong and what helps. Goes to standard error.
    pub message: String,
}

impl CliError {
    /// It could not be done: exit code 1.
    pub fn failure(message: impl Into<String>) -> Self {
        Self { exit: ExitStatus::Failure, message: message.into() }
    }

    /// The command line or the configuration is wrong: exit code 64.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: ExitStatus::Usage, message: message.into() }
    }
}

impl From<io::Error> for CliError {
    /// Standard input or output broke.
    fn from(error: io::Error) -> Self {
        Self::failure(format!("standard input or output: {error}"))
    }
}

/// What is left to do after the command line was read and, unless it says serve, done.
#[derive(Debug)]
pub enum Invocation {
    /// Run a node with these settings.
    Serve(Box<Settings>),
    /// Nothing.
    Done,
}

/// Reads a command line, whose first member is the program's name, and does what it says, except serving.
///
/// # Errors
/// Exit code 64 for a wrong command line or configuration, 1 for anything else that could not be done.
pub fn run(
    line: impl IntoIterator<Item = OsString>,
    environment: &Environment,
    console: &mut Console<'_>,
) -> Result<Invocation, CliError> {
    let arguments = match Arguments::try_parse_from(line) {
        Ok(arguments) => arguments,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            write!(console.output, "{error}")?;
            return Ok(Invocation::Done);
        }
        Err(error) => return Err(CliError::usage(error.to_string().trim_end())),
    };
    let overrides = &arguments.overrides;
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => return config::settings(overrides, environment).map(|read| Invocation::Serve(Box::new(read))),
        Command::Config(command) => config::run(command, overrides, environment, console)?,
        Command::User(args) => user::run(&args, &config::settings(overrides, environment)?, console)?,
        Command::Token(args) => token::run(&args, &config::settings(overrides, environment)?, console)?,
        Command::Keys(args) => keys::run(&args, &config::settings(overrides, environment)?, console)?,
    }
    Ok(Invocation::Done)
}
