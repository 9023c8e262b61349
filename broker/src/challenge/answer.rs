use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::lanes::Lanes;
use crate::page_key::PageKey;

/// One challenge: 128 random bits.
///
/// Text form: 22 characters, base64url without padding, canonical.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChallengeId([u8; 16]);

/// What a client says is the result of its program.
///
/// A message that is no answer is [`Answer::Malformed`] rather than an error: it was the one attempt all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Of a native client.
    Native(NativeAnswer),
    /// Of a client of the echo carrier.
    Echo(EchoAnswer),
    /// Neither: a member missing, null, of another type, out of range, or too long.
    Malformed,
}

/// The members of a native `answer`, beside `id` and `action`. Others are refused, and all but `topOrigin` are required.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NativeAnswer {
    /// Which challenge.
    pub challenge: ChallengeId,
    /// Which of this connection's.
    pub epoch: u32,
    /// The page's, as it reads it.
    pub origin: String,
    /// The top-level page's, where it can be told; may be absent, but not null.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub top_origin: Option<String>,
    /// The transcript's MAC under what the program computed.
    pub mac: AnswerMac,
    /// The page's signature of transcript and MAC.
    pub signature: AnswerSignature,
    /// Solutions of the puzzles, where some were asked for; may be absent, but not null.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub work: Option<Vec<u32>>,
}

/// 32 bytes, as canonical base64url without padding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AnswerMac(pub [u8; 32]);

/// 64 bytes, r and s, as canonical base64url without padding.
///
/// There is a second valid one, (r, n - s), which anybody can compute: signatures are never told apart by their bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AnswerSignature(pub [u8; PageKey::SIGNATURE_BYTES]);

/// What is read of the echo carrier's `msg`: the object that the function returned. Other members, such as `index` and
/// the lanes, may be there and are never read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct EchoAnswer {
    /// The page's origin.
    pub origin: String,
    /// The page's host; may be absent, but not null.
    #[serde(default, deserialize_with = "present")]
    pub domain: Option<String>,
    /// 64 hexadecimal digits.
    #[serde(rename = "key", deserialize_with = "lanes_from_key")]
    pub lanes: Lanes,
}

impl Answer {
    /// Reads a native request's object; its `id` and `action` are the caller's matter and left out here.
    #[must_use]
    pub fn native(request: &Value) -> Self {
        let Value::Object(members) = request else { return Self::Malformed };
        let own = members.iter().filter(|(name, _)| *name != "id" && *name != "action");
        let own: serde_json::Map<_, _> = own.map(|(name, value)| (name.clone(), value.clone())).collect();
        NativeAnswer::deserialize(Value::Object(own)).map_or(Self::Malformed, Self::Native)
    }

    /// Reads the `msg` of the echo carrier's answer.
    #[must_use]
    pub fn echo(msg: &Value) -> Self {
        // A derived reader takes arrays for objects.
        if !msg.is_object() {
            return Self::Malformed;
        }
        EchoAnswer::deserialize(msg).map_or(Self::Malformed, Self::Echo)
    }
}

impl ChallengeId {
    /// Wraps raw bytes; the caller owns their randomness.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The text form.
    #[must_use]
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Reads the text form; nothing if it is not canonical.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        base64url(text).map(Self)
    }
}

impl fmt::Debug for ChallengeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", &self.encode()[..6])
    }
}

impl Serialize for ChallengeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encode())
    }
}

impl<'de> Deserialize<'de> for ChallengeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not a challenge id"))
    }
}

/// Neither value belongs in a log.
macro_rules! base64url_bytes {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                base64url(&text).map(Self).ok_or_else(|| D::Error::custom("not these bytes in base64url"))
            }
        }
    };
}

base64url_bytes!(AnswerMac);
base64url_bytes!(AnswerSignature);

/// Exactly `N` bytes, in canonical base64url without padding.
#[must_use]
pub fn base64url<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0_u8; N];
    // The engine refuses trailing bits, padding and whatever does not fit; a shorter text is refused here.
    match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
        Ok(len) if len == N => Some(bytes),
        _ => None,
    }
}

fn lanes_from_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Lanes, D::Error> {
    let text = String::deserialize(deserializer)?;
    Lanes::from_key(&text).ok_or_else(|| D::Error::custom("not the lanes"))
}

/// A member that is there: `null` is a value of another type, not absence.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn native(change: impl FnOnce(&mut Value)) -> Answer {
        let mut request = json!({
            "id": 1, "action": "answer", "challenge": ChallengeId::from_bytes([1; 16]), "epoch": 0,
            "origin": "https://app.example", "topOrigin": "https://top.example",
            "mac": AnswerMac([2; 32]), "signature": AnswerSignature([3; 64]),
        });
        change(&mut request);
        Answer::native(&request)
    }

    #[test]
    fn native_answer_is_read_strictly() {
        let Answer::Native(answer) = native(|_| ()) else { panic!("refused") };
        assert_eq!((answer.mac.0, answer.signature.0), ([2; 32], [3; 64]));
        assert_eq!(answer.top_origin.as_deref(), Some("https://top.example"));
        let without = |name: &str| native(|request| drop(request.as_object_mut().unwrap().remove(name)));
        assert!(matches!(without("topOrigin"), Answer::Native(NativeAnswer { top_origin: None, .. })));
        for member in ["challenge", "epoch", "origin", "topOrigin", "mac", "signature"] {
            for wrong in [json!(null), json!({}), json!([]), json!(true), json!(1.5), json!("constructor")] {
                if !member.to_lowercase().ends_with("origin") || !wrong.is_string() {
                    assert_eq!(native(|request| request[member] = wrong.clone()), Answer::Malformed, "{member} {wrong}");
                }
            }
            assert!(member == "topOrigin" || without(member) == Answer::Malformed, "{member}");
        }
        for (member, length) in [("mac", 43), ("signature", 86)] {
            let good = "A".repeat(length);
            // Shorter, longer, padded, not canonical, of the other alphabet.
            for wrong in
                [&good[1..], &format!("{good}A"), &format!("{good}="), &format!("{}B", &good[1..]), &good.replacen('A', "+", 1)]
            {
                assert_eq!(native(|request| request[member] = json!(wrong)), Answer::Malformed, "{member} {wrong}");
            }
        }
        assert_eq!(native(|request| request["epoch"] = json!(-1)), Answer::Malformed);
        // What the program computed is no answer any more, nor something beside one.
        assert_eq!(native(|request| request["lanes"] = json!([1, 2, 3, 4, 5, 6, 7, 8])), Answer::Malformed);
        assert_eq!(native(|request| request["index"] = json!(1)), Answer::Malformed);
        assert_eq!(native(|request| request["challenge"] = json!("AAAAAAAAAAAAAAAAAAAAAB")), Answer::Malformed);
    }

    #[test]
    fn nothing_of_an_answer_shows_in_a_log() {
        let printed = format!("{:?}", native(|_| ()));
        assert!(printed.contains("AnswerMac(…)") && printed.contains("AnswerSignature(…)"), "{printed}");
    }

    fn arbitrary_json() -> impl Strategy<Value = Value> {
        let name = prop::sample::select(vec![
            "origin",
            "topOrigin",
            "domain",
            "key",
            "mac",
            "signature",
            "challenge",
            "epoch",
            "__proto__",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,70}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 32, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..9).prop_map(Value::from),
                prop::collection::vec((name.clone(), inner), 0..7)
                    .prop_map(|members| members.into_iter().map(|(n, v)| (n.to_owned(), v)).collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn reading_an_answer_never_panics(value in arbitrary_json()) {
            let _ = (Answer::native(&value), Answer::echo(&value));
        }

        #[test]
        fn challenge_id_round_trips(bytes: [u8; 16]) {
            let id = ChallengeId::from_bytes(bytes);
            prop_assert_eq!(ChallengeId::parse(&id.encode()), Some(id));
        }
    }
}
