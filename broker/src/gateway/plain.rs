//! The plain dialect: action frames, as clients of API Gateway send them, and the echo carrier of the challenge.
//!
//! Decoding is lenient: what a client adds is its own affair, and what is no action frame goes to `$default`.

use std::borrow::Cow;

use countersign_node_proto::{ChannelName, ConnectionId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::native::is_object;
use super::request::{ErrorCode, Failure, Request, Token, json};
use super::session::ChallengeFrame;
use crate::challenge::{self, EchoAnswer};
use crate::config::Builtin;

/// A message of a plain client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionFrame<'a> {
    /// The action as a route's key: a string as it is, a number or boolean as its text. None: it has none, or it is no
    /// such value, or the message is no JSON object.
    pub key: Option<Cow<'a, str>>,
    /// The action as it was sent (JSON); `null` where the message has none.
    pub action: &'a str,
    /// The whole message.
    pub body: &'a str,
}

impl<'a> ActionFrame<'a> {
    /// Reads a message. There is no text that it does not take.
    #[must_use]
    pub fn parse(body: &'a str) -> Self {
        #[derive(Deserialize)]
        struct Envelope<'a> {
            #[serde(borrow, default)]
            action: Option<&'a RawValue>,
        }
        // An action given twice is none: two parsers could choose differently.
        let envelope: Option<Envelope<'a>> = if is_object(body) { serde_json::from_str(body).ok() } else { None };
        let action = envelope.and_then(|envelope| envelope.action).map(RawValue::get);
        Self { key: action.and_then(key), action: action.unwrap_or("null"), body }
    }

    /// Reads the arguments of a built-in.
    ///
    /// # Errors
    /// What is wrong with them, the client's fault. An answer has no such error: a malformed one is an attempt too.
    pub fn request(&self, builtin: Builtin) -> Result<Request, Failure> {
        match builtin {
            Builtin::Ping => Ok(Request::Ping),
            Builtin::Subscribe => self.arguments().map(|Channel { channel }| Request::Subscribe(channel)),
            Builtin::Unsubscribe => self.arguments().map(|Channel { channel }| Request::Unsubscribe(channel)),
            Builtin::Publish => self.arguments().map(|Publish { channel, data, exclude }| Request::Publish {
                channel,
                data: data.get().to_owned(),
                exclude,
            }),
            Builtin::Answer => Ok(Request::Answer(self.answer())),
            Builtin::Refresh => self.arguments().map(|Refresh { token }| Request::Refresh { token: Token(token) }),
        }
    }

    /// Reads the members that a built-in asks for; others are not looked at.
    fn arguments<T: Deserialize<'a>>(&self) -> Result<T, Failure> {
        object(self.body).ok_or_else(|| ErrorCode::BadRequest.into())
    }

    /// Reads what the printed function returned. `index` and `token` are the client's to send and nobody's to believe.
    fn answer(&self) -> challenge::Answer {
        let returned = || object::<EchoAnswer>(object::<Answer<'a>>(self.body)?.msg.get());
        returned().map_or(challenge::Answer::Malformed, challenge::Answer::Echo)
    }
}

/// The key of an action that was sent as this JSON.
fn key(action: &str) -> Option<Cow<'_, str>> {
    match action.as_bytes().first()? {
        b'"' => {
            #[derive(Deserialize)]
            struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
            serde_json::from_str(action).ok().map(|Text(text)| text)
        }
        b'{' | b'[' | b'n' => None,
        _ => Some(Cow::Borrowed(action)),
    }
}

/// Reads an object; a derived struct alone would also take an array, member by member.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    if is_object(text) { serde_json::from_str(text).ok() } else { None }
}

#[derive(Deserialize)]
struct Channel {
    channel: ChannelName,
}

#[derive(Deserialize)]
struct Publish<'a> {
    channel: ChannelName,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default)]
    exclude: bool,
}

#[derive(Deserialize)]
struct Refresh {
    token: String,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    msg: &'a RawValue,
}

/// `{"action":<as sent>,"ok":…}`
#[must_use]
pub fn ok(action: &str, result: &impl Serialize) -> String {
    format!(r#"{{"action":{action},"ok":{}}}"#, json(result))
}

/// `{"action":<as sent>,"error":{"code":…,"message":…}}`
#[must_use]
pub fn error(action: &str, failure: &Failure) -> String {
    format!(r#"{{"action":{action},"error":{}}}"#, json(failure))
}

/// What the gateway itself says, in the words of API Gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// No route takes the message, or the channel that the handshake named is not for this connection.
    Forbidden,
    /// The channel that the handshake named is none, or one too many.
    BadRequest,
    /// A route failed.
    Internal,
}

/// `{"message":…,"connectionId":…,"requestId":…}`
///
/// The request id is the number of the client's message on this connection, 0 being the handshake.
#[must_use]
pub fn notice(notice: Notice, connection_id: ConnectionId, request: u64) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Frame {
        message: &'static str,
        connection_id: ConnectionId,
        request_id: String,
    }
    let message = match notice {
        Notice::Forbidden => "Forbidden",
        Notice::BadRequest => "Bad request",
        Notice::Internal => "Internal server error",
    };
    json(&Frame { message, connection_id, request_id: request.to_string() })
}

/// The echo carrier's first frame: the client takes what follows the first space.
#[must_use]
pub fn echo(connection_id: ConnectionId) -> String {
    format!("Echo: {connection_id}")
}

/// The echo carrier's second frame: the printed function. `token` and `index` are there because that client reads them;
/// what it sends back of them chooses nothing.
#[must_use]
pub fn executable(frame: &ChallengeFrame) -> String {
    #[derive(Serialize)]
    struct Executable<'a> {
        token: &'a str,
        func: &'a str,
        index: u8,
    }
    json(&Executable { token: &frame.decoy.token, func: &frame.program, index: frame.decoy.index })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::challenge::{Answer, Decoy, Lanes};

    #[test]
    fn an_action_becomes_a_key_as_api_gateway_makes_it() {
        let check = |body: &str, key: Option<&str>, action: &str| {
            let frame = ActionFrame::parse(body);
            assert_eq!((frame.key.as_deref(), frame.action), (key, action), "{body}");
        };
        check(r#"{"action":"PING"}"#, Some("PING"), r#""PING""#);
        check(r#" {"action":"a\u0062"}"#, Some("ab"), r#""a\u0062""#);
        check(r#"{"action":""}"#, Some(""), r#""""#);
        check(r#"{"action":1}"#, Some("1"), "1");
        check(r#"{"action":-1.50}"#, Some("-1.50"), "-1.50");
        check(r#"{"action":true}"#, Some("true"), "true");
        check(r#"{"action":null}"#, None, "null");
        check(r#"{"other":1}"#, None, "null");
        check(r#"{"action":{"a":1}}"#, None, r#"{"a":1}"#);
        check(r#"{"action":"a","action":"b"}"#, None, "null");
        check(r#"["PING"]"#, None, "null");
        check(r#""PING""#, None, "null");
        check(r#"{"action":"PING"} x"#, None, "null");
        check("PING", None, "null");
        check("", None, "null");
    }

    #[test]
    fn builtin_arguments_are_read_and_others_ignored() {
        let request = |body: &str, builtin| ActionFrame::parse(body).request(builtin);
        let channel = ChannelName::new("a").unwrap();
        assert_eq!(request("", Builtin::Ping), Ok(Request::Ping));
        assert_eq!(request(r#"{"channel":"a","x":1}"#, Builtin::Subscribe), Ok(Request::Subscribe(channel.clone())));
        assert_eq!(request(r#"{"channel":"a"}"#, Builtin::Unsubscribe), Ok(Request::Unsubscribe(channel.clone())));
        assert_eq!(
            request(r#"{"channel":"a","data":"hi","exclude":true}"#, Builtin::Publish),
            Ok(Request::Publish { channel, data: "\"hi\"".to_owned(), exclude: true })
        );
        assert_eq!(request(r#"{"token":"t"}"#, Builtin::Refresh), Ok(Request::Refresh { token: Token("t".to_owned()) }));
        for body in ["", "{}", r#"["a"]"#, r#"{"channel":1}"#, r#"{"channel":""}"#, r#"{"channel":"a","channel":"b"}"#] {
            assert_eq!(request(body, Builtin::Subscribe), Err(ErrorCode::BadRequest.into()), "{body}");
        }
    }

    #[test]
    fn absence_is_not_equality() {
        let answer = |msg: &str| {
            let body = format!(r#"{{"action":"OnMessage","msg":{msg},"token":"t"}}"#);
            match ActionFrame::parse(&body).request(Builtin::Answer) {
                Ok(Request::Answer(form)) => form,
                other => panic!("{other:?}"),
            }
        };
        let key = "0".repeat(64);
        let with = |members: &str| answer(&format!(r#"{{"key":"{key}"{members}}}"#));
        let echo = |domain: Option<&str>| {
            let (origin, domain) = ("o".to_owned(), domain.map(str::to_owned));
            Answer::Echo(EchoAnswer { origin, domain, lanes: Lanes::new([0; 8]) })
        };
        assert_eq!(with(r#","origin":"o","index":3"#), echo(None));
        assert_eq!(with(r#","origin":"o","domain":"d","index":"constructor","lanes":[1]"#), echo(Some("d")));
        for msg in ["null", "{}", r#"["d","k"]"#, r#""text""#, r#"{"origin":"o"}"#, r#"{"origin":"o","key":7}"#] {
            assert_eq!(answer(msg), Answer::Malformed, "{msg}");
        }
        for members in [
            "",
            r#","domain":"d""#,
            r#","origin":null"#,
            r#","origin":["o"]"#,
            r#","origin":"o","origin":"o""#,
            r#","origin":"o","domain":null"#,
            r#","__proto__":{"origin":"o"}"#,
        ] {
            assert_eq!(with(members), Answer::Malformed, "{members}");
        }
        assert_eq!(ActionFrame::parse("{}").request(Builtin::Answer), Ok(Request::Answer(Answer::Malformed)));
        let array = format!(r#"{{"msg":["o",null,"{key}"]}}"#);
        assert_eq!(ActionFrame::parse(&array).request(Builtin::Answer), Ok(Request::Answer(Answer::Malformed)));
    }

    #[test]
    fn frames_are_what_the_contract_says() {
        let id = ConnectionId::from_bytes([0; 16]);
        assert_eq!(ok("\"x\"", &serde_json::json!({})), r#"{"action":"x","ok":{}}"#);
        assert_eq!(
            error("7", &ErrorCode::Denied.into()),
            r#"{"action":7,"error":{"code":"denied","message":"not allowed on this connection"}}"#
        );
        assert_eq!(
            notice(Notice::Forbidden, id, 3),
            r#"{"message":"Forbidden","connectionId":"AAAAAAAAAAAAAAAAAAAAAA","requestId":"3"}"#
        );
        assert_eq!(echo(id), "Echo: AAAAAAAAAAAAAAAAAAAAAA");
        let frame = ChallengeFrame {
            challenge_id: [13; 16],
            epoch: 0,
            server_nonce: [0; 32],
            form: crate::config::ChallengeForm::Source,
            mode: crate::config::Mode::Bearer,
            work: None,
            file: None,
            program: "function(keys){}".into(),
            program_hash: None,
            signature: None,
            decoy: Decoy { index: 3, token: "decoy".into() },
        };
        assert_eq!(executable(&frame), r#"{"token":"decoy","func":"function(keys){}","index":3}"#);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_its_action_stays_json(body in "\\{?(\"action\":)?.{0,60}\\}?") {
            let frame = ActionFrame::parse(&body);
            prop_assert!(serde_json::from_str::<serde_json::Value>(frame.action).is_ok());
            for builtin in [Builtin::Ping, Builtin::Subscribe, Builtin::Publish, Builtin::Answer, Builtin::Refresh] {
                let _ = frame.request(builtin);
            }
        }
    }
}
