use std::path::Path;

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::environment::{CONFIG, Environment};
use super::fault::{ConfigFaults, Fault, Place};
use super::key::{Key, Step};
use super::tree::Node;
use super::{Settings, shape};

/// A setting given as a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// As it is written, such as `--listen`.
    pub name: &'static str,
    /// What it sets, such as `server.listen`.
    pub key: &'static str,
    /// The value as text.
    pub value: String,
}

/// A check that another module makes of the settings it understands, such as the templates of routes.
///
/// Returns what is wrong; the loader adds who set it.
pub type Check = fn(&Settings) -> Vec<Fault>;

/// Reads the configuration: file < environment < flags. Without a file the settings are those of [`Settings::trial`].
///
/// `file` stands above the file that `COUNTERSIGN_CONFIG` names. Nothing is bound and nothing is written.
///
/// # Errors
/// Every fault of every source at once, those of shape (unknown keys, wrong types) and those of sense
/// ([`Settings::validate`] and `checks`).
pub fn load(
    file: Option<&Path>,
    environment: &Environment,
    flags: &[Flag],
    checks: &[Check],
) -> Result<Settings, ConfigFaults> {
    let mut faults = Vec::new();
    let file = file.map(Path::to_path_buf).or_else(|| environment.config_file());
    let mut tree = file.as_deref().map_or_else(Node::empty, |path| file_tree(path, &mut faults));
    tree.overlay(environment.tree(&mut faults));
    for flag in flags {
        let node = Node::new(Value::String(flag.value.clone()), &Place::Flag(flag.name));
        if let Err(place) = tree.set(Key::from(flag.key).steps(), node) {
            let message = format!("{place} sets a single value where a table belongs");
            faults.push(Fault::new(flag.key, message, "remove it").at(Place::Flag(flag.name)));
        }
    }
    let mut settings = shape::read(&mut tree, &mut faults);
    if file.is_none() {
        settings.fill_for_trial(|key| tree.trace(&Key::from(key)).depth == Key::from(key).steps().len());
    }
    faults.extend(faults_of_sense(&settings, &tree, &faults, checks));
    ConfigFaults::none(faults).map(|()| settings)
}

/// The semantic faults, each with its place; those that only follow from a fault of shape are left out.
fn faults_of_sense(settings: &Settings, tree: &Node, known: &[Fault], checks: &[Check]) -> Vec<Fault> {
    let own: Vec<Fault> = settings.validate().err().iter().flat_map(ConfigFaults::iter).cloned().collect();
    // Who compiles a setting stumbles over what is wrong with it anyway: one fault, told once.
    let news = |fault: &Fault| !own.iter().any(|told| told.key.touches(&fault.key));
    let others: Vec<Fault> = checks.iter().flat_map(|check| check(settings)).filter(news).collect();
    let found = own.into_iter().chain(others);
    let placed = found.map(|fault| {
        let trace = tree.trace(&fault.key);
        let steps = fault.key.steps();
        // A member that is missing from an array's element is best looked for at the element.
        let found = trace.depth == steps.len() || steps[..trace.depth].iter().any(|step| matches!(step, Step::Index(_)));
        let place = if found { trace.place } else { Place::Default };
        Fault { key: trace.written, place, ..fault }
    });
    placed.filter(|fault| !known.iter().any(|shape| !shape.key.steps().is_empty() && shape.key.touches(&fault.key))).collect()
}

/// Reads and parses the file; every fault of syntax is told.
fn file_tree(path: &Path, faults: &mut Vec<Fault>) -> Node {
    let whole = Place::File { path: path.to_path_buf(), line: None };
    let text = match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => {
            faults.push(Fault::new(Key::default(), "the file is not UTF-8", "save it as UTF-8 text").at(whole));
            return Node::empty();
        }
        Err(error) => {
            let remedy = format!("name a readable file with --config or {CONFIG}");
            faults.push(Fault::new(Key::default(), format!("the file cannot be read: {error}"), remedy).at(whole));
            return Node::empty();
        }
    };
    let locate = |offset: Option<usize>| {
        let line = offset.and_then(|at| text.get(..at)).map(|before| before.matches('\n').count() + 1);
        Place::File { path: path.to_path_buf(), line }
    };
    let (spans, syntax) = DeTable::parse_recoverable(&text);
    match text.parse::<toml::Table>() {
        Ok(table) if syntax.is_empty() => {
            let (span, spans) = (spans.span(), spans.into_inner());
            Node::build(Value::Table(table), Some(&toml::Spanned::new(span, DeValue::Table(spans))), &locate)
        }
        parsed => {
            let found = if syntax.is_empty() { parsed.err().into_iter().collect() } else { syntax };
            let place = |error: &toml::de::Error| locate(error.span().map(|span| span.start));
            faults.extend(found.iter().map(|error| {
                let message = error.message().lines().collect::<Vec<_>>().join(", ");
                Fault::new(Key::default(), message, "write it as TOML 1.0").at(place(error))
            }));
            Node::empty()
        }
    }
}
