use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a channel name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelNameError {
    /// Empty, or above [`ChannelName::LEN_MAX`].
    #[error("a channel name has 1 to 255 bytes")]
    Length,
    /// White space or a control character.
    #[error("a channel name has no white space and no control characters")]
    Character,
}

/// The name of a channel: 1 to 255 bytes of UTF-8 without white space and control characters.
///
/// Cloning shares the text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// Bytes of the longest name.
    pub const LEN_MAX: usize = 255;

    /// Validates and wraps a name.
    ///
    /// # Errors
    /// [`ChannelNameError`] says which rule the text breaks.
    pub fn new(name: &str) -> Result<Self, ChannelNameError> {
        if name.is_empty() || name.len() > Self::LEN_MAX {
            return Err(ChannelNameError::Length);
        }
        if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(ChannelNameError::Character);
        }
        Ok(Self(Arc::from(name)))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for ChannelName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ChannelName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_printable() {
        assert!(ChannelName::new("greeting").is_ok());
        assert!(ChannelName::new("räume:a/b").is_ok());
        assert_eq!(ChannelName::new(""), Err(ChannelNameError::Length));
        assert_eq!(ChannelName::new(&"x".repeat(256)), Err(ChannelNameError::Length));
        assert_eq!(ChannelName::new("a b"), Err(ChannelNameError::Character));
        assert_eq!(ChannelName::new("a\u{0}b"), Err(ChannelNameError::Character));
    }
}
