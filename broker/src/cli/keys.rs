use super::{CliError, Console, KeysArgs};
use crate::config::Settings;

/// Does what `countersign keys` was asked to.
///
/// # Errors
/// What could not be done, with its exit code.
pub(super) fn run(_args: &KeysArgs, _settings: &Settings, _console: &mut Console<'_>) -> Result<(), CliError> {
    Err(CliError::failure("`countersign keys` is not in this build"))
}
