use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::lanes::Lanes;

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

/// The members of a native `answer`, beside `id` and `action`. All are required, others are refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NativeAnswer {
    /// Which challenge.
    pub challenge: ChallengeId,
    /// Which of this connection's.
    pub epoch: u32,
    /// The page's, as the function returned it.
    pub origin: String,
    /// As the function returned them: eight integers of 32 bits.
    #[serde(deserialize_with = "lanes_from_integers")]
    pub lanes: Lanes,
}

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
        let mut bytes = [0; 16];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(16) => Some(Self(bytes)),
            _ => None,
        }
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

fn lanes_from_integers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Lanes, D::Error> {
    <[i32; Lanes::COUNT]>::deserialize(deserializer).map(Lanes::new)
}

fn lanes_from_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Lanes, D::Error> {
    let text = String::deserialize(deserializer)?;
    Lanes::from_key(&text).ok_or_else(|| D::Error::custom("not the lanes"))
}

/// A member that is there: `null` is a value of another type, not absence.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn native(change: impl FnOnce(&mut Value)) -> Answer {
        let mut request = json!({
            "id": 1, "action": "answer", "challenge": ChallengeId::from_bytes([1; 16]), "epoch": 0,
            "origin": "https://app.example", "lanes": [1, -2, 3, 4, 5, 6, i32::MIN, i32::MAX],
        });
        change(&mut request);
        Answer::native(&request)
    }

    #[test]
    fn native_answer_is_read_strictly() {
        let Answer::Native(answer) = native(|_| ()) else { panic!("refused") };
        assert_eq!(answer.lanes.values(), &[1, -2, 3, 4, 5, 6, i32::MIN, i32::MAX]);
        for member in ["challenge", "epoch", "origin", "lanes"] {
            for wrong in [json!(null), json!({}), json!([]), json!(true), json!(1.5), json!("constructor")] {
                if member != "origin" || !wrong.is_string() {
                    assert_eq!(native(|request| request[member] = wrong.clone()), Answer::Malformed, "{member} {wrong}");
                }
            }
            let without = native(|request| drop(request.as_object_mut().unwrap().remove(member)));
            assert_eq!(without, Answer::Malformed);
        }
        for lanes in [json!([1, 2, 3, 4, 5, 6, 7]), json!([1, 2, 3, 4, 5, 6, 7, 8, 9]), json!([1, 2, 3, 4, 5, 6, 7, 8.0])] {
            assert_eq!(native(|request| request["lanes"] = lanes), Answer::Malformed);
        }
        assert_eq!(native(|request| request["lanes"][0] = json!(2_147_483_648_u32)), Answer::Malformed);
        assert_eq!(native(|request| request["epoch"] = json!(-1)), Answer::Malformed);
        assert_eq!(native(|request| request["index"] = json!(1)), Answer::Malformed);
        assert_eq!(native(|request| request["challenge"] = json!("AAAAAAAAAAAAAAAAAAAAAB")), Answer::Malformed);
    }

    fn arbitrary_json() -> impl Strategy<Value = Value> {
        let name = prop::sample::select(vec!["origin", "domain", "key", "lanes", "challenge", "epoch", "__proto__"]);
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
