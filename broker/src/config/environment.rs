use std::ffi::OsString;
use std::path::PathBuf;

use toml::Value;

use super::fault::{Fault, Place};
use super::key::Key;
use super::tree::Node;

/// What every name of ours begins with.
pub(super) const PREFIX: &str = "COUNTERSIGN_";
/// Names the configuration file.
pub(super) const CONFIG: &str = "COUNTERSIGN_CONFIG";

/// The part of an environment that is meant for a node.
///
/// It comes in as an argument: nobody reads the process's environment in the middle of the code, and tests hand in a map.
#[derive(Debug, Clone, Default)]
pub struct Environment(Vec<(String, OsString)>);

impl Environment {
    /// Keeps the names that begin with `COUNTERSIGN_`.
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let named = variables.into_iter().map(|(name, value)| (name.to_string_lossy().into_owned(), value));
        let mut ours: Vec<_> = named.filter(|(name, _)| name.starts_with(PREFIX)).collect();
        // A whole table before its parts, and faults in an order that does not change from run to run.
        ours.sort();
        Self(ours)
    }

    /// The file that `COUNTERSIGN_CONFIG` names.
    pub(super) fn config_file(&self) -> Option<PathBuf> {
        self.0.iter().find(|(name, _)| name == CONFIG).map(|(_, value)| PathBuf::from(value))
    }

    /// The settings that it makes.
    pub(super) fn tree(&self, faults: &mut Vec<Fault>) -> Node {
        let mut tree = Node::empty();
        for (name, value) in self.0.iter().filter(|(name, _)| name != CONFIG) {
            if let Err(fault) = set(&mut tree, name, value) {
                faults.push(fault.at(Place::Environment(name.clone())));
            }
        }
        tree
    }
}

/// Sets what one variable says.
fn set(tree: &mut Node, name: &str, value: &OsString) -> Result<(), Fault> {
    let path = name.strip_prefix(PREFIX).unwrap_or(name);
    if path.bytes().any(|byte| byte.is_ascii_lowercase()) {
        let remedy = format!("write {}", name.to_ascii_uppercase());
        return Err(Fault::new(Key::default(), "names are upper case", remedy));
    }
    let path = path.to_ascii_lowercase();
    let key = path.split("__").fold(Key::default(), |key, part| key.name(part));
    let Some(text) = value.to_str() else {
        return Err(Fault::new(key, "the value is not UTF-8", "write it as UTF-8 text"));
    };
    let value = text.parse::<Value>().unwrap_or_else(|_| Value::String(text.to_owned()));
    let node = Node::from_environment(value, text, &Place::Environment(name.to_owned()));
    tree.set(key.steps(), node).map_err(|place| {
        Fault::new(key, format!("{place} sets a single value where this needs a table"), "remove one of the two")
    })
}
