use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not the length of an encoded identifier.
    #[error("an identifier has {expected} characters")]
    Length {
        /// Characters of the encoded form.
        expected: usize,
    },
    /// Not canonical base64url without padding (RFC 4648, section 5).
    #[error("an identifier is base64url without padding")]
    Encoding,
}

/// One connection: 128 bits from the operating system's generator, never reused.
///
/// It is a bearer secret wherever the authorizer runs in `bearer` mode, so `Debug` shows a prefix only; the full text is
/// had through [`ConnectionId::encode`] or `Display`, which belong on the wire and never in a log.
///
/// Text form: 22 characters, base64url without padding, canonical. Binary formats of serde get the 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId([u8; 16]);

/// One life of one node process: a new one at every start.
///
/// Text form: 11 characters, base64url without padding, of 8 random bytes. Binary formats of serde get the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId([u8; 8]);

/// Tells two lives of a registry entry apart: a conditional write names the generation that it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// Both identifiers share their text form; only their width differs.
macro_rules! text_identifier {
    ($name:ident, $bytes:literal, $chars:literal) => {
        impl $name {
            /// Characters of the text form.
            pub const TEXT_LEN: usize = $chars;

            /// Wraps raw bytes; the caller owns their randomness.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// The text form.
            #[must_use]
            pub fn encode(&self) -> String {
                URL_SAFE_NO_PAD.encode(self.0)
            }

            /// Parses the text form, from bytes as a header delivers them.
            ///
            /// # Errors
            /// [`IdError`] if the length or the alphabet is wrong, or the encoding is not canonical.
            pub fn parse(text: &[u8]) -> Result<Self, IdError> {
                if text.len() != $chars {
                    return Err(IdError::Length { expected: $chars });
                }
                let mut bytes = [0_u8; $bytes];
                match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
                    Ok($bytes) => Ok(Self(bytes)),
                    _ => Err(IdError::Encoding),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0_u8; $chars];
                match URL_SAFE_NO_PAD.encode_slice(self.0, &mut text) {
                    Ok(_) => f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?),
                    Err(_) => Err(fmt::Error),
                }
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text.as_bytes())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_bytes(&self.0) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                    Self::parse(text.as_bytes()).map_err(D::Error::custom)
                } else {
                    deserializer.deserialize_bytes(RawBytes).map(Self)
                }
            }
        }
    };
}

/// Reads the bytes of an identifier from a binary format.
struct RawBytes<const LEN: usize>;

impl<const LEN: usize> serde::de::Visitor<'_> for RawBytes<LEN> {
    type Value = [u8; LEN];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{LEN} bytes")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<[u8; LEN], E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

text_identifier!(ConnectionId, 16, 22);
text_identifier!(NodeId, 8, 11);

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.encode();
        write!(f, "{}…", &text[..6])
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_form_round_trips(bytes: [u8; 16]) {
            let id = ConnectionId::from_bytes(bytes);
            prop_assert_eq!(ConnectionId::parse(id.encode().as_bytes()), Ok(id));
            prop_assert_eq!(id.to_string(), id.encode());
        }

        #[test]
        fn parsing_never_panics_and_accepts_only_canonical_text(text in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(id) = ConnectionId::parse(&text) {
                prop_assert_eq!(id.encode().into_bytes(), text);
            }
        }
    }

    #[test]
    fn trailing_bits_must_be_zero() {
        assert_eq!(ConnectionId::parse(b"AAAAAAAAAAAAAAAAAAAAAB"), Err(IdError::Encoding));
        assert!(ConnectionId::parse(b"AAAAAAAAAAAAAAAAAAAAAA").is_ok());
    }

    #[test]
    fn debug_never_shows_a_whole_connection_id() {
        let id = ConnectionId::from_bytes([7; 16]);
        assert!(!format!("{id:?}").contains(&id.encode()));
    }
}
