//! The native dialect: subprotocol `countersign.v1`, one JSON object per text frame.
//!
//! Decoding is strict: a member that is unknown, given twice, missing or of another kind is refused, so that no two
//! parsers can read one frame differently.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_node_proto::{ChannelName, ConnectionId};
use serde::de::{self, Deserializer, IgnoredAny, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::request::{ErrorCode, Failure, OfferedForms, Request, Token, json};
use super::session::ChallengeFrame;
use crate::challenge::{
    Answer, AnswerMac, AnswerSignature, ChallengeId, FileQuestion, Hello, NativeAnswer, Work, base64url, hello_digest, present,
};
use crate::config::{ChallengeForm, Mode};
use crate::page_key::PageKey;

/// The client's name for a request: an unsigned integer, or a string of at most 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum RequestId {
    /// A number.
    Number(u64),
    /// A text.
    Text(Box<str>),
}

impl RequestId {
    /// Bytes of the longest text.
    pub const TEXT_MAX: usize = 64;
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl Visitor<'_> for IdVisitor {
            type Value = RequestId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an unsigned integer or a string of at most 64 bytes")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<RequestId, E> {
                Ok(RequestId::Number(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RequestId, E> {
                if text.len() > RequestId::TEXT_MAX {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(RequestId::Text(text.into()))
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}

/// One request of a native client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeRequest {
    /// Its id; the reply carries it.
    pub id: RequestId,
    /// What is asked for.
    pub act: Act,
}

/// What a native client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Something that the node does by itself.
    Request(Request),
    /// An action that only the `routes` table can know; the whole frame is its message.
    Route {
        /// Its name.
        action: String,
    },
}

/// Why a frame is no request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// No JSON object with an id and an action: there is nothing to reply to. Closes with 4400.
    Fatal,
    /// Answered with an error.
    Reply(RequestId, Failure),
}

/// Decodes one text frame.
///
/// # Errors
/// [`Refused`], always the client's fault.
pub fn parse(text: &str) -> Result<NativeRequest, Refused> {
    // A derived struct would also take a JSON array, member by member.
    if !is_object(text) {
        return Err(Refused::Fatal);
    }
    let Ok(Envelope { id, action }) = serde_json::from_str(text) else { return Err(Refused::Fatal) };
    match act(&action, text) {
        Some(act) => Ok(NativeRequest { id, act }),
        None => Err(Refused::Reply(id, ErrorCode::BadRequest.into())),
    }
}

/// Is the first thing of this text an object's brace?
pub(super) fn is_object(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{')
}

/// What every request has; the rest is read once the action is known.
#[derive(Deserialize)]
struct Envelope<'a> {
    id: RequestId,
    #[serde(borrow)]
    action: Cow<'a, str>,
}

/// Reads the arguments of an action.
fn act(action: &str, text: &str) -> Option<Act> {
    let request = match action {
        "hello" => hello(text)?,
        "answer" => Request::Answer(answer(text)),
        "ping" => arguments::<NoArguments>(text).map(|_| Request::Ping)?,
        "subscribe" => Request::Subscribe(arguments::<ChannelArguments>(text)?.channel),
        "unsubscribe" => Request::Unsubscribe(arguments::<ChannelArguments>(text)?.channel),
        "publish" => {
            let PublishArguments { channel, data, exclude, .. } = arguments(text)?;
            Request::Publish { channel, data: data.get().to_owned(), exclude }
        }
        "refresh" => Request::Refresh { token: Token(arguments::<RefreshArguments>(text)?.token) },
        _ => return Some(Act::Route { action: action.to_owned() }),
    };
    Some(Act::Request(request))
}

/// Reads all of a frame as the arguments of one action.
fn arguments<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok()
}

/// Declares the members of a request beside its id and action, which the envelope holds already.
macro_rules! arguments {
    ($name:ident { $($(#[$meta:meta])* $member:ident: $kind:ty),* }) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name<'a> {
            #[serde(rename = "id")]
            _id: IgnoredAny,
            #[serde(rename = "action")]
            _action: IgnoredAny,
            #[serde(skip)]
            _frame: std::marker::PhantomData<&'a str>,
            $($(#[$meta])* $member: $kind,)*
        }
    };
}

arguments!(NoArguments {});
arguments!(ChannelArguments { channel: ChannelName });
arguments!(RefreshArguments { token: String });
arguments!(PublishArguments {
    channel: ChannelName,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default)]
    exclude: bool
});
arguments!(HelloArguments {
    #[serde(borrow)]
    forms: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    nonce: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(default)]
    mode: Mode
});
arguments!(AnswerArguments {
    challenge: ChallengeId,
    epoch: u32,
    origin: String,
    #[serde(default, rename = "topOrigin", deserialize_with = "present")]
    top_origin: Option<String>,
    mac: AnswerMac,
    signature: AnswerSignature,
    #[serde(default, deserialize_with = "present")]
    work: Option<Vec<u32>>
});

/// Reads a hello. Forms that this node does not know are a newer client's; a mode that it does not know is one that it
/// cannot hold to.
fn hello(text: &str) -> Option<Request> {
    let HelloArguments { forms, nonce, key, mode, .. } = arguments(text)?;
    let has = |form: ChallengeForm| forms.iter().any(|offered| offered == form.name());
    let [vm, source, frame] = [ChallengeForm::Vm, ChallengeForm::Source, ChallengeForm::Frame].map(has);
    let offered = OfferedForms { vm, source, frame };
    let key = PageKey::parse(base64url(&key)?)?;
    let hello = Hello { nonce: base64url(&nonce)?, digest: hello_digest(text), key, wish: mode, mode };
    Some(Request::Hello { offered, hello })
}

/// Reads an answer. A malformed one is an attempt too.
fn answer(text: &str) -> Answer {
    arguments(text).map_or(
        Answer::Malformed,
        |AnswerArguments { challenge, epoch, origin, top_origin, mac, signature, work, .. }| {
            Answer::Native(NativeAnswer { challenge, epoch, origin, top_origin, mac, signature, work })
        },
    )
}

/// `{"id":…,"ok":…}`
#[must_use]
pub fn ok(id: &RequestId, result: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Reply<'a, T> {
        id: &'a RequestId,
        ok: &'a T,
    }
    json(&Reply { id, ok: result })
}

/// `{"id":…,"error":{"code":…,"message":…}}`
#[must_use]
pub fn error(id: &RequestId, failure: &Failure) -> String {
    #[derive(Serialize)]
    struct Reply<'a> {
        id: &'a RequestId,
        error: &'a Failure,
    }
    json(&Reply { id, error: failure })
}

/// What a text is to native clients: the JSON that it holds, else itself as a JSON string.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Data<'a> {
    /// Valid JSON.
    Json(&'a RawValue),
    /// Any other text.
    Text(&'a str),
}

impl<'a> From<&'a str> for Data<'a> {
    fn from(text: &'a str) -> Self {
        serde_json::from_str(text).map_or(Self::Text(text), Self::Json)
    }
}

/// What the node pushes; the tag is `event`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Push<'a> {
    /// The first frame of a connection.
    Welcome {
        /// Its id.
        connection_id: ConnectionId,
        /// `required`, or `off` where none will come.
        challenge: &'static str,
        /// Whom its token names.
        subject: Option<&'a str>,
        /// When its token expires, in seconds since the Unix epoch.
        expires_at: Option<u64>,
    },
    /// The program to run.
    Challenge {
        /// The challenge's id, base64url.
        challenge: String,
        /// Its epoch.
        epoch: u32,
        /// `vm` or `source`.
        form: &'static str,
        /// The server's nonce, base64url.
        nonce: String,
        /// Bytecode in base64url, the printed function, or the handle by which a frame fetches its bytecode.
        program: &'a str,
        /// SHA-256 of what the frame will fetch, base64url: the page has not got it.
        #[serde(skip_serializing_if = "Option::is_none")]
        program_hash: Option<String>,
        /// Milliseconds that the answer may take.
        answer_ms: u64,
        /// The least that REST calls in the connection's name must show.
        mode: &'static str,
        /// The name of the key that signed all of this, where the form is signed.
        #[serde(skip_serializing_if = "Option::is_none")]
        signer: Option<&'a str>,
        /// Its signature, base64url.
        #[serde(skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
        /// Puzzles to solve too.
        #[serde(skip_serializing_if = "Option::is_none")]
        work: Option<Work>,
        /// The part of a file to read.
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<&'a FileQuestion>,
    },
    /// The answer was right.
    Verified {
        /// What the connection's REST calls carry from now on.
        connection_id: ConnectionId,
    },
    /// What the page's REST calls show from now on, until the next.
    Ticket {
        /// The ticket.
        ticket: &'a str,
        /// The nonce for proofs, base64url.
        nonce: &'a str,
        /// Milliseconds from now until the ticket expires.
        expires_in_ms: u64,
    },
    /// The answer was wrong or late, and the connection stays open and unverified.
    ChallengeFailed {
        /// The subscriptions that ended with it: those that need a verified connection.
        #[serde(skip_serializing_if = "<[ChannelName]>::is_empty")]
        unsubscribed: &'a [ChannelName],
    },
    /// The channel that the handshake named was refused; the connection stays open without it.
    SubscribeRefused {
        /// The channel as the handshake named it.
        channel: &'a str,
        /// Why.
        error: Failure,
    },
    /// A message to this connection alone.
    Message {
        /// What it says.
        data: Data<'a>,
    },
}

impl<'a> Push<'a> {
    /// The challenge of a native client.
    #[must_use]
    pub fn challenge(frame: &'a ChallengeFrame, answer_ms: u64) -> Self {
        Self::Challenge {
            challenge: URL_SAFE_NO_PAD.encode(frame.challenge_id),
            epoch: frame.epoch,
            form: frame.form.name(),
            nonce: URL_SAFE_NO_PAD.encode(frame.server_nonce),
            program: &frame.program,
            program_hash: frame.program_hash.map(|hash| URL_SAFE_NO_PAD.encode(hash)),
            answer_ms,
            mode: frame.mode.name(),
            signer: frame.signature.as_ref().map(|signed| signed.signer.as_str()),
            signature: frame.signature.as_ref().map(|signed| URL_SAFE_NO_PAD.encode(signed.signature)),
            work: frame.work,
            file: frame.file.as_ref(),
        }
    }

    /// Its text frame.
    #[must_use]
    pub fn encode(&self) -> String {
        json(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A point on the curve.
    const KEY: &str = "BNgN9yvWiAXGbBqI0ikK8aW3Wia91B-lAs0nfKQ8SVBQOYGGJDLo8zqHoGxTsO4PBU1CoTpu-wWKZV00TXlWGNI";

    fn request(text: &str) -> Request {
        match parse(text) {
            Ok(NativeRequest { act: Act::Request(request), .. }) => request,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::new(name).unwrap()
    }

    #[test]
    fn requests_are_read() {
        assert_eq!(request(r#"{"id":1,"action":"ping"}"#), Request::Ping);
        assert_eq!(request(r#" {"action":"subscribe","channel":"a","id":"x"}"#), Request::Subscribe(channel("a")));
        assert_eq!(request(r#"{"id":1,"action":"unsubscribe","channel":"a"}"#), Request::Unsubscribe(channel("a")));
        assert_eq!(
            request(r#"{"id":1,"action":"publish","channel":"a","data":{"b": [1, "x"]},"exclude":true}"#),
            Request::Publish { channel: channel("a"), data: r#"{"b": [1, "x"]}"#.to_owned(), exclude: true }
        );
        assert_eq!(
            request(r#"{"id":1,"action":"publish","channel":"a","data":null}"#),
            Request::Publish { channel: channel("a"), data: "null".to_owned(), exclude: false }
        );
        assert_eq!(request(r#"{"id":1,"action":"refresh","token":"t"}"#), Request::Refresh { token: Token("t".to_owned()) });
        let nonce = "A".repeat(43);
        let hello = |forms: &str, mode: &str| {
            let text = format!(r#" {{"id":1,"action":"hello","forms":[{forms}],"nonce":"{nonce}","key":"{KEY}"{mode}}}"#);
            match request(&text) {
                Request::Hello { offered, hello } => {
                    assert_eq!(hello.digest, hello_digest(&text));
                    assert_eq!((hello.nonce, hello.key.point()), ([0; 32], &base64url(KEY).unwrap()));
                    (offered, hello.mode)
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(hello(r#""vm","source""#, ""), (OfferedForms { vm: true, source: true, frame: false }, Mode::Bearer));
        assert_eq!(
            hello(r#""vm","hologram""#, r#","mode":"proof""#),
            (OfferedForms { vm: true, source: false, frame: false }, Mode::Proof)
        );
        assert_eq!(
            request(&format!(
                r#"{{"id":1,"action":"answer","challenge":"AAAAAAAAAAAAAAAAAAAAAA","epoch":0,"origin":"https://a","topOrigin":"https://b","mac":"{nonce}","signature":"{}"}}"#,
                "A".repeat(86)
            )),
            Request::Answer(Answer::Native(NativeAnswer {
                challenge: ChallengeId::from_bytes([0; 16]),
                epoch: 0,
                origin: "https://a".to_owned(),
                top_origin: Some("https://b".to_owned()),
                mac: AnswerMac([0; 32]),
                signature: AnswerSignature([0; 64]),
                work: None,
            }))
        );
        assert!(matches!(
            parse(r#"{"id":1,"action":"GREETING","anything":true}"#),
            Ok(NativeRequest { act: Act::Route { action }, .. }) if action == "GREETING"
        ));
    }

    #[test]
    fn a_frame_without_object_id_or_action_is_fatal() {
        for text in [
            "",
            "no json",
            "5",
            "null",
            r#"[1,"ping"]"#,
            r#"{"id":1}"#,
            r#"{"action":"ping"}"#,
            r#"{"id":null,"action":"ping"}"#,
            r#"{"id":-1,"action":"ping"}"#,
            r#"{"id":1.0,"action":"ping"}"#,
            r#"{"id":18446744073709551616,"action":"ping"}"#,
            r#"{"id":[1],"action":"ping"}"#,
            r#"{"id":1,"action":7}"#,
            r#"{"id":1,"id":1,"action":"ping"}"#,
            r#"{"id":1,"action":"ping","action":"ping"}"#,
            r#"{"id":1,"action":"ping"} trailing"#,
            r#"{"id":1,"action":"ping""#,
            &format!(r#"{{"id":"{}","action":"ping"}}"#, "x".repeat(65)),
        ] {
            assert_eq!(parse(text), Err(Refused::Fatal), "{text}");
        }
    }

    #[test]
    fn what_is_unknown_twice_missing_or_mistyped_is_refused_with_the_id() {
        let n43 = "A".repeat(43);
        for members in [
            r#""action":"ping","extra":1"#.to_owned(),
            r#""action":"subscribe""#.to_owned(),
            r#""action":"subscribe","channel":7"#.to_owned(),
            r#""action":"subscribe","channel":"a b""#.to_owned(),
            r#""action":"subscribe","channel":"a","channel":"b""#.to_owned(),
            r#""action":"publish","channel":"a""#.to_owned(),
            r#""action":"publish","channel":"a","data":1,"data":2"#.to_owned(),
            r#""action":"publish","channel":"a","data":1,"exclude":1"#.to_owned(),
            r#""action":"publish","channel":"a","data":1,"_frame":1"#.to_owned(),
            r#""action":"refresh","token":null"#.to_owned(),
            format!(r#""action":"hello","nonce":"{n43}","key":"{KEY}""#),
            format!(r#""action":"hello","forms":[],"nonce":"{n43}""#),
            format!(r#""action":"hello","forms":[],"nonce":"{n43}","key":null"#),
            format!(r#""action":"hello","forms":[],"nonce":"{n43}","key":"{}""#, &KEY[1..]),
            format!(r#""action":"hello","forms":[],"nonce":"{n43}","key":"{KEY}A""#),
            // Off the curve, and the same point compressed.
            format!(r#""action":"hello","forms":[],"nonce":"{n43}","key":"{}""#, KEY.replacen("BN", "BM", 1)),
            format!(r#""action":"hello","forms":[],"nonce":"{n43}","key":"{}""#, KEY.replacen('B', "A", 1)),
            format!(r#""action":"hello","forms":[],"nonce":"{n43}","key":"{KEY}","mode":"none""#),
            format!(r#""action":"hello","forms":[],"nonce":"{n43}","key":"{KEY}","mode":null"#),
            format!(r#""action":"hello","forms":[],"nonce":"{n43}","key":"{KEY}","key":"{KEY}""#),
            format!(r#""action":"hello","forms":"source","nonce":"{n43}","key":"{KEY}""#),
            format!(r#""action":"hello","forms":[],"nonce":"{n43}A","key":"{KEY}""#),
            format!(r#""action":"hello","forms":[],"nonce":"{n43}=","key":"{KEY}""#),
            format!(r#""action":"hello","forms":[],"nonce":"{}","key":"{KEY}""#, &n43[1..]),
            // Not canonical: trailing bits.
            format!(r#""action":"hello","forms":[],"nonce":"{}B","key":"{KEY}""#, &n43[1..]),
            // Not base64url.
            format!(r#""action":"hello","forms":[],"nonce":"+{}","key":"{KEY}""#, &n43[1..]),
        ] {
            let text = format!(r#"{{"id":"x",{members}}}"#);
            let refused = Refused::Reply(RequestId::Text("x".into()), ErrorCode::BadRequest.into());
            assert_eq!(parse(&text), Err(refused), "{text}");
        }
    }

    #[test]
    fn a_malformed_answer_is_an_attempt() {
        let (n22, n43, n86) = ("A".repeat(22), "A".repeat(43), "A".repeat(86));
        for members in [
            String::new(),
            format!(r#","challenge":"{n22}","epoch":0,"origin":"o","mac":"{n43}""#),
            format!(r#","challenge":"{n22}","epoch":0,"origin":"o","signature":"{n86}""#),
            format!(r#","challenge":"{n22}","epoch":0,"origin":"o","mac":"{n43}","signature":null"#),
            format!(r#","challenge":"{n22}","epoch":0,"origin":"o","mac":"{n43}A","signature":"{n86}""#),
            format!(r#","challenge":"{n22}","epoch":0,"origin":"o","mac":"{n43}","signature":"{}B""#, &n86[1..]),
            format!(r#","challenge":"{n22}","epoch":0,"origin":null,"mac":"{n43}","signature":"{n86}""#),
            format!(r#","challenge":"{n22}","epoch":-1,"origin":"o","mac":"{n43}","signature":"{n86}""#),
            format!(r#","challenge":"{}B","epoch":0,"origin":"o","mac":"{n43}","signature":"{n86}""#, &n22[1..]),
            format!(r#","challenge":"{n22}","epoch":0,"origin":"o","topOrigin":null,"mac":"{n43}","signature":"{n86}""#),
            format!(r#","challenge":"{n22}","epoch":0,"origin":"o","mac":"{n43}","signature":"{n86}","more":1"#),
            format!(
                r#","challenge":"{n22}","epoch":0,"origin":"o","mac":"{n43}","signature":"{n86}","lanes":[1,2,3,4,5,6,7,8]"#
            ),
            format!(r#","challenge":"{n22}","epoch":0,"epoch":0,"origin":"o","mac":"{n43}","signature":"{n86}""#),
            r#","error":"could not run the program""#.to_owned(),
        ] {
            let text = format!(r#"{{"id":1,"action":"answer"{members}}}"#);
            assert_eq!(request(&text), Request::Answer(Answer::Malformed), "{text}");
        }
    }

    #[test]
    fn frames_are_what_the_contract_says() {
        let id = RequestId::Text("a\"b".into());
        assert_eq!(ok(&id, &serde_json::json!({})), r#"{"id":"a\"b","ok":{}}"#);
        assert_eq!(
            error(&RequestId::Number(7), &ErrorCode::AlreadySubscribed.into()),
            r#"{"id":7,"error":{"code":"already_subscribed","message":"already subscribed to this channel"}}"#
        );
        let connection_id = ConnectionId::from_bytes([0; 16]);
        assert_eq!(
            Push::Welcome { connection_id, challenge: "off", subject: None, expires_at: Some(9) }.encode(),
            r#"{"event":"welcome","connectionId":"AAAAAAAAAAAAAAAAAAAAAA","challenge":"off","subject":null,"expiresAt":9}"#
        );
        for (form, name, program) in [(ChallengeForm::Source, "source", "function(){}"), (ChallengeForm::Vm, "vm", "AQ")] {
            let (id, nonce) = ("A".repeat(22), "A".repeat(43));
            let decoy = crate::challenge::Decoy { index: 0, token: String::new() };
            let mut frame = ChallengeFrame {
                challenge_id: [0; 16],
                epoch: 0,
                server_nonce: [0; 32],
                form,
                program: program.to_owned(),
                program_hash: None,
                mode: Mode::Proof,
                signature: None,
                work: None,
                file: None,
                decoy,
            };
            let text = format!(
                r#"{{"event":"challenge","challenge":"{id}","epoch":0,"form":"{name}","nonce":"{nonce}","program":"{}","answerMs":10000,"mode":"proof""#,
                frame.program
            );
            assert_eq!(Push::challenge(&frame, 10_000).encode(), format!("{text}}}"));
            frame.signature = Some(crate::challenge::FrameSignature { signer: "key".to_owned(), signature: [0; 64] });
            let signed = format!(r#"{text},"signer":"key","signature":"{}"}}"#, "A".repeat(86));
            assert_eq!(Push::challenge(&frame, 10_000).encode(), signed);
            frame.program_hash = Some([0; 32]);
            let told = format!(r#""program":"{}","programHash":"{nonce}","#, frame.program);
            assert!(Push::challenge(&frame, 10_000).encode().contains(&told));
        }
        assert_eq!(
            Push::Verified { connection_id }.encode(),
            r#"{"event":"verified","connectionId":"AAAAAAAAAAAAAAAAAAAAAA"}"#
        );
        assert_eq!(Push::ChallengeFailed { unsubscribed: &[] }.encode(), r#"{"event":"challenge_failed"}"#);
        assert_eq!(Push::Message { data: "[1, 2]".into() }.encode(), r#"{"event":"message","data":[1, 2]}"#);
        assert_eq!(Push::Message { data: "a\"".into() }.encode(), r#"{"event":"message","data":"a\""}"#);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn arbitrary_members_never_panic(
            action in prop::sample::select(vec!["hello", "answer", "ping", "subscribe", "publish", "refresh", "x"]),
            members in "[\\[\\]{}\",:a-z0-9 ]{0,60}",
        ) {
            let _ = parse(&format!(r#"{{"id":1,"action":"{action}",{members}}}"#));
        }

        #[test]
        fn an_id_comes_back_as_it_was_sent(number: u64, text in ".{0,16}") {
            for id in [RequestId::Number(number), RequestId::Text(text.into())] {
                let frame = format!(r#"{{"id":{},"action":"ping"}}"#, json(&id));
                let back = parse(&frame).map(|request| request.id);
                prop_assert_eq!(back, Ok(id));
            }
        }
    }
}
