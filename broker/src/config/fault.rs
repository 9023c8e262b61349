use std::fmt;
use std::path::PathBuf;

use super::key::Key;

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// Line, counted from one, where it is known.
        line: Option<usize>,
    },
    /// This environment variable.
    Environment(String),
    /// This flag.
    Flag(&'static str),
}

impl Place {
    /// Where its faults stand in a report.
    fn rank(&self) -> (u8, usize) {
        match self {
            Self::File { line, .. } => (0, line.unwrap_or(0)),
            Self::Environment(_) => (1, 0),
            Self::Flag(_) => (2, 0),
            Self::Default => (3, 0),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The setting; the root for a source that cannot be read at all.
    pub key: Key,
    /// What is wrong.
    pub message: String,
    /// What helps.
    pub remedy: String,
    /// Who set it.
    pub place: Place,
}

impl Fault {
    /// A fault of a setting whose origin the loader fills in.
    pub fn new(key: impl Into<Key>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into(), remedy: remedy.into(), place: Place::Default }
    }

    /// The same fault, found here.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, message, remedy, place } = self;
        write!(f, "{place}: ")?;
        if !key.steps().is_empty() {
            write!(f, "{key}: ")?;
        }
        write!(f, "{message}; {remedy}")
    }
}

/// Everything that is wrong in the configuration; never empty. The operator's fault, and no retry helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFaults(Vec<Fault>);

impl ConfigFaults {
    /// Nothing if there is no fault.
    ///
    /// # Errors
    /// All of them, in the order of their places.
    pub fn none(mut faults: Vec<Fault>) -> Result<(), Self> {
        // Stable: faults of one place stay in the order in which they were found.
        faults.sort_by_key(|fault| fault.place.rank());
        if faults.is_empty() { Ok(()) } else { Err(Self(faults)) }
    }

    /// The faults: by line of the file, then variables, flags, and what nobody set.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the configuration has {count} fault{}:", if count == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for ConfigFaults {}
