use super::Settings;
use super::environment::PREFIX;
use super::fault::{Fault, Place};
use super::key::Key;
use super::print;
use super::tree::{Node, Trace};

/// Reads the settings out of a tree. What is faulty is told, taken out, and the rest is read again, so that one run tells
/// everything that is wrong. Each round takes out at least one value, so that it ends.
pub(super) fn read(tree: &mut Node, faults: &mut Vec<Fault>) -> Settings {
    let mut removed: Vec<Key> = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize::<_, Settings>(tree.to_value()) {
            Ok(settings) => return settings,
            Err(error) => error,
        };
        let message = error.inner().message().trim();
        let complaint = Complaint::of(message);
        let mut key = Key::from(error.path());
        if let Complaint::UnknownField { name, .. } = &complaint
            && print::last_name(&key) != Some(*name)
        {
            key = key.name(*name);
        }
        let trace = tree.trace(&key);
        if complaint.wants_text() && tree.read_as_text(&key.steps()[..trace.depth]) {
            continue;
        }
        let fault = complaint.fault(&trace);
        // A required member that was taken out above is missing now: that is no second fault.
        if !removed.contains(&fault.key) {
            removed.push(fault.key.clone());
            faults.push(fault);
        }
        if !tree.remove(&key.steps()[..trace.depth]) {
            return Settings::default();
        }
    }
}

/// What serde complains of.
enum Complaint<'a> {
    /// A key that the table does not have, and those that it has.
    UnknownField { name: &'a str, known: Vec<&'a str> },
    /// A word that is none of a closed list, and the list.
    UnknownVariant { name: &'a str, known: Vec<&'a str> },
    /// A required key is not there.
    Missing { name: &'a str },
    /// Anything else: a wrong type or a value out of range.
    Other(&'a str),
}

impl<'a> Complaint<'a> {
    /// Reads serde's sentence; what it names stands between back quotes. Held by the tests of this module.
    fn of(message: &'a str) -> Self {
        let mut quoted = message.split('`').skip(1).step_by(2);
        let starts = |text: &str| message.starts_with(text);
        match quoted.next() {
            Some(name) if starts("unknown field") => Self::UnknownField { name, known: quoted.collect() },
            Some(name) if starts("unknown variant") => Self::UnknownVariant { name, known: quoted.collect() },
            Some(name) if starts("missing field") => Self::Missing { name },
            _ => Self::Other(message),
        }
    }

    /// Would text have been right?
    fn wants_text(&self) -> bool {
        matches!(self, Self::Other(message) if message.ends_with("expected a string")
            || message.ends_with("expected path string") || message.ends_with("expected a borrowed string"))
    }

    /// The fault, with the remedy as its place would write it.
    fn fault(&self, trace: &Trace) -> Fault {
        let key = trace.written.clone();
        let fault = match self {
            Self::UnknownField { name, known } => {
                let remedy = match &trace.place {
                    Place::Environment(variable) => suggest_variable(variable),
                    _ => suggest_key(name, known),
                };
                Fault::new(key, "unknown setting", remedy)
            }
            Self::UnknownVariant { name, known } => {
                let remedy = closest(name, known.iter().copied())
                    .map_or_else(|| one_of(known), |near| format!("did you mean `{near}`? {}", one_of(known)));
                Fault::new(key, format!("`{name}` is not known here"), remedy)
            }
            Self::Missing { name } => Fault::new(key.name(*name), "missing", "it has no default: set it"),
            Self::Other(message) => {
                let remedy = remedy_of_type(&key);
                Fault::new(key, in_words(message), remedy)
            }
        };
        fault.at(trace.place.clone())
    }
}

/// What an address of a listener looks like.
pub(crate) const ADDRESS_WANTED: &str = "an IP address with a port, such as 127.0.0.1:8080";

/// serde's sentence without the names of Rust's types. What is not known here stays as it is.
fn in_words(message: &str) -> String {
    if message == "invalid socket address syntax" {
        return format!("this is not {ADDRESS_WANTED}");
    }
    let stripped = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    let Some((given, wanted)) = stripped.and_then(|rest| rest.rsplit_once(", expected ")) else {
        return message.to_owned();
    };
    let given = match given {
        "map" => "a table",
        "sequence" => "a list",
        other => other,
    };
    let wanted = match wanted {
        "usize" | "u64" => "a whole number of at least 0",
        "u32" => "a whole number from 0 to 4294967295",
        "u16" => "a whole number from 0 to 65535",
        "u8" => "a whole number from 0 to 255",
        "i64" | "i32" | "isize" => "a whole number",
        "f64" | "f32" => "a number",
        "a boolean" => "true or false",
        "a string" | "a borrowed string" => "a text",
        "path string" => "a path",
        "a sequence" => "a list",
        "a map" => "a table",
        "socket address" => ADDRESS_WANTED,
        other if other.starts_with("struct ") => "a table",
        other if other.starts_with("enum ") || other == "variant identifier" => "one of the words that are known here",
        other => other,
    };
    format!("{given} is not {wanted}")
}

fn one_of(known: &[&str]) -> String {
    match known {
        [] => "nothing is known here: remove it".to_owned(),
        _ => format!("known here: {}", known.join(", ")),
    }
}

/// The likeliest key: a sibling, else one of the same name elsewhere.
fn suggest_key(name: &str, known: &[&str]) -> String {
    let elsewhere = || {
        let leaves = print::leaves();
        let same = leaves.iter().find(|(key, _)| print::last_name(key) == Some(name));
        same.map(|(key, _)| key.to_string())
    };
    match closest(name, known.iter().copied()).map(str::to_owned).or_else(elsewhere) {
        Some(near) => format!("did you mean `{near}`?"),
        None => one_of(known),
    }
}

/// The likeliest variable, compared as a whole but for the prefix: a missing underscore is the commonest slip.
fn suggest_variable(variable: &str) -> String {
    let names: Vec<String> = print::leaves().iter().map(|(key, _)| key.environment_name()).collect();
    let known = names.iter().filter_map(|name| name.strip_prefix(PREFIX));
    match closest(variable.strip_prefix(PREFIX).unwrap_or(variable), known) {
        Some(near) => format!("did you mean `{PREFIX}{near}`?"),
        None => "`countersign config env` lists the names".to_owned(),
    }
}

/// The closest of some words, if one is close.
fn closest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let scored = known.map(|word| (strsim::normalized_damerau_levenshtein(name, word), word));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= 0.6).then_some(best.1)
}

/// What to write instead of a value of the wrong type: the default shows its shape.
fn remedy_of_type(key: &Key) -> String {
    match print::leaves().into_iter().find(|(leaf, value)| leaf == key && value.is_some()) {
        Some((_, Some(default))) => format!("the default is `{}`", print::inline(&default)),
        _ => "`countersign config default` shows how it is written".to_owned(),
    }
}
