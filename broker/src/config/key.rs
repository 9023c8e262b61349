use std::fmt;

/// The place of a setting in the tree, such as `gateway.limits.frame_max_bytes` or `channels[0].pattern`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Key(Vec<Step>);

/// One step of a [`Key`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into a table.
    Name(String),
    /// Into an array, counted from zero.
    Index(usize),
}

impl Key {
    /// One step further, into a table.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.0.push(Step::Name(name.into()));
        self
    }

    /// One step further, into an array.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.0.push(Step::Index(index));
        self
    }

    /// The steps from the root.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Is one of the two at or below the other?
    pub(crate) fn touches(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }

    /// The name of the environment variable that sets it: `COUNTERSIGN_` and the names joined with `__`, upper case.
    #[must_use]
    pub fn environment_name(&self) -> String {
        let names: Vec<String> = self.0.iter().map(|step| step.text().to_uppercase()).collect();
        format!("{}{}", super::environment::PREFIX, names.join("__"))
    }
}

impl Step {
    fn text(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Index(index) => index.to_string(),
        }
    }
}

impl From<&str> for Key {
    /// Splits at dots; for names without any.
    fn from(path: &str) -> Self {
        path.split('.').fold(Self::default(), |key, name| key.name(name))
    }
}

impl From<&serde_path_to_error::Path> for Key {
    /// As far as the path is known.
    fn from(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment;
        let mut key = Self::default();
        for segment in path {
            key = match segment {
                Segment::Seq { index } => key.index(*index),
                Segment::Map { key: name } | Segment::Enum { variant: name } => key.name(name),
                Segment::Unknown => return key,
            };
        }
        key
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Name(name) => {
                    f.write_str(if position == 0 { "" } else { "." })?;
                    if bare(name) { f.write_str(name)? } else { write!(f, "{name:?}")? }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_as_toml_writes_them() {
        let key = Key::from("identity.issuers").index(1).name("name");
        assert_eq!(key.to_string(), "identity.issuers[1].name");
        assert_eq!(Key::from("routes").name("$connect").name("reply").to_string(), r#"routes."$connect".reply"#);
        assert_eq!(Key::from("server.tls.key_file").environment_name(), "COUNTERSIGN_SERVER__TLS__KEY_FILE");
        assert!(key.touches(&Key::from("identity.issuers")) && Key::from("identity").touches(&key));
        assert!(!key.touches(&Key::from("identity.issuers").index(0)));
    }
}
