use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{CliError, Console, KeysArgs, KeysCommand};
use crate::config::Settings;
use crate::identity::{Clock, IdentityError, KeyRecord, ProgramKeys, open_keys};

/// Does what `countersign keys` was asked to.
///
/// # Errors
/// What could not be done, with its exit code.
pub(super) fn run(args: &KeysArgs, settings: &Settings, console: &mut Console<'_>) -> Result<(), CliError> {
    match args.command {
        KeysCommand::List { json } => {
            let keys = open_keys(settings)?;
            list(&keys.records(), keys.signing_kid().as_deref(), json, console)
        }
        KeysCommand::Rotate { algorithm } => {
            let record = open_keys(settings)?.rotate(algorithm)?;
            let wait = Duration::from_secs(record.active_from).saturating_sub(since_epoch());
            Ok(writeln!(console.output, "created {}, signs in {} s", record.kid, wait.as_secs())?)
        }
        KeysCommand::Pins { json } => print_pins(&program_keys(settings)?, json, console),
        KeysCommand::RotatePrograms { now } => {
            let keys = program_keys(settings)?;
            keys.rotate(now)?;
            print_pins(&keys, false, console)
        }
    }
}

fn program_keys(settings: &Settings) -> Result<ProgramKeys, IdentityError> {
    ProgramKeys::open(settings, Clock::system())
}

fn print_pins(keys: &ProgramKeys, as_json: bool, console: &mut Console<'_>) -> Result<(), CliError> {
    let pins = keys.pins();
    if as_json {
        return Ok(writeln!(console.output, "{}", json!(pins))?);
    }
    for pin in pins {
        writeln!(console.output, "{pin}")?;
    }
    Ok(())
}

fn list(records: &[KeyRecord], signing: Option<&str>, as_json: bool, console: &mut Console<'_>) -> Result<(), CliError> {
    let now = since_epoch().as_secs();
    let state = |record: &KeyRecord| match record {
        record if signing == Some(record.kid.as_str()) => "signs",
        record if record.active_from > now => "published",
        _ => "verifies",
    };
    if as_json {
        let records = records.iter().map(|record| {
            let mut members = serde_json::to_value(record).unwrap_or(Value::Null);
            members["state"] = json!(state(record));
            members
        });
        return Ok(writeln!(console.output, "{}", Value::Array(records.collect()))?);
    }
    for record in records {
        let age_hours = now.saturating_sub(record.created) / 3_600;
        let algorithm = serde_json::to_value(record.algorithm).unwrap_or(Value::Null);
        let algorithm = algorithm.as_str().unwrap_or_default();
        writeln!(console.output, "{}  {algorithm}  {:9}  {age_hours} h old", record.kid, state(record))?;
    }
    Ok(())
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl From<IdentityError> for CliError {
    /// A folder, a file or a key.
    fn from(error: IdentityError) -> Self {
        Self::failure(error.to_string())
    }
}
