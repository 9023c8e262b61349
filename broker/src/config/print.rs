use std::fmt::Write as _;

use toml::Value;

use super::Settings;
use super::key::{Key, Step};

/// The default configuration as a commented TOML file: every setting with its comment.
///
/// Kept by hand beside the structs, and held equal to them by the tests of this module.
pub const DEFAULT_FILE: &str = include_str!("default.toml");

/// Settings inside tables that are unset by default; a listing of the defaults alone would not show them.
const INSIDE_UNSET: &[&str] =
    &["server.tls.cert_file", "server.tls.key_file", "server.admin_tls.cert_file", "server.admin_tls.key_file"];

/// Every name of the environment with its default, one a line.
#[must_use]
pub fn environment_listing() -> String {
    let mut listing = String::from(
        "# COUNTERSIGN_CONFIG names the configuration file. Values are TOML; what is none is taken as text.\n\
         # Tables with names of your own, such as routes, are best written whole: COUNTERSIGN_ROUTES='{ ping = { builtin = \"ping\" } }'\n",
    );
    for (key, value) in leaves() {
        let default = value.map_or_else(|| "(unset)".to_owned(), |value| inline(&value));
        // Writing to a String cannot fail.
        let _ = writeln!(listing, "{} = {default}", key.environment_name());
    }
    listing
}

/// Every setting that has a name of its own, with its default.
pub(super) fn leaves() -> Vec<(Key, Option<Value>)> {
    let mut leaves = Vec::new();
    // The defaults serialize: a test lists them.
    let defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
    collect(Key::default(), &defaults, &mut leaves);
    leaves.extend(INSIDE_UNSET.iter().map(|path| (Key::from(*path), None)));
    leaves
}

fn collect(key: Key, value: &serde_json::Value, leaves: &mut Vec<(Key, Option<Value>)>) {
    match value {
        serde_json::Value::Object(table) if !table.is_empty() => {
            for (name, value) in table {
                collect(key.clone().name(name.as_str()), value, leaves);
            }
        }
        // Null is the JSON of what is unset; TOML has no word for it.
        other => leaves.push((key, Value::try_from(other).ok())),
    }
}

/// A value on one line, as TOML writes it.
pub(super) fn inline(value: &Value) -> String {
    value.to_string()
}

/// The name of the last step, if it is one.
pub(super) fn last_name(key: &Key) -> Option<&str> {
    match key.steps().last() {
        Some(Step::Name(name)) => Some(name),
        _ => None,
    }
}
