use std::fmt;

/// What is wrong with one setting, found when it was compiled at start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CompileFault {
    /// Where: `routes.GREETING.publish.template`, `channels[0].pattern`.
    pub path: String,
    /// What, and what helps.
    pub message: String,
}

impl CompileFault {
    /// A fault of the setting at `path`.
    pub(super) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for CompileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}
