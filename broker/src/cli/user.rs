use super::{CliError, Console, UserArgs};
use crate::config::Settings;

/// Does what `countersign user` was asked to.
///
/// # Errors
/// What could not be done, with its exit code.
pub(super) fn run(_args: &UserArgs, _settings: &Settings, _console: &mut Console<'_>) -> Result<(), CliError> {
    Err(CliError::failure("`countersign user` is not in this build"))
}
