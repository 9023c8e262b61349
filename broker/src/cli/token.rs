use super::{CliError, Console, TokenArgs};
use crate::config::Settings;

/// Does what `countersign token` was asked to.
///
/// # Errors
/// What could not be done, with its exit code.
pub(super) fn run(_args: &TokenArgs, _settings: &Settings, _console: &mut Console<'_>) -> Result<(), CliError> {
    Err(CliError::failure("`countersign token` is not in this build"))
}
