use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use countersign_node_proto::{ChannelName, Payload, Publication};
use serde::de::IgnoredAny;

use super::frame::{FrameKind, encode_frame};
use super::outbox::Dialect;

/// The frame that subscribers of this dialect get.
///
/// Plain clients get the payload as it is, as text or binary. Native clients get
/// `{"event":"publication","channel":C,"data":D}`, where `D` is the text as a JSON value if it is one, else as a JSON
/// string; for binary, `"binary"` with standard base64 stands in place of `"data"`.
#[must_use]
pub fn encode_publication(dialect: Dialect, publication: &Publication) -> Bytes {
    match dialect {
        Dialect::Plain => verbatim(&publication.payload),
        Dialect::Native => event("publication", Some(&publication.channel), &publication.payload),
    }
}

/// The frame that one connection gets: verbatim, or `{"event":"message","data":D}` for a native client.
#[must_use]
pub fn encode_post(dialect: Dialect, payload: &Payload) -> Bytes {
    match dialect {
        Dialect::Plain => verbatim(payload),
        Dialect::Native => event("message", None, payload),
    }
}

fn verbatim(payload: &Payload) -> Bytes {
    match payload {
        Payload::Text(text) => encode_frame(FrameKind::Text, text.as_bytes()),
        Payload::Binary(bytes) => encode_frame(FrameKind::Binary, bytes),
    }
}

/// A pushed event as a text frame. `name` is a literal of this module and needs no escapes.
fn event(name: &str, channel: Option<&ChannelName>, payload: &Payload) -> Bytes {
    let payload_len = match payload {
        Payload::Text(text) => text.len(),
        Payload::Binary(bytes) => bytes.len() / 3 * 4 + 4,
    };
    let mut json = String::with_capacity(payload_len + 64 + channel.map_or(0, |channel| channel.as_str().len()));
    json.push_str(r#"{"event":""#);
    json.push_str(name);
    if let Some(channel) = channel {
        json.push_str(r#"","channel":"#);
        push_json_string(&mut json, channel.as_str());
        json.push(',');
    } else {
        json.push_str(r#"","#);
    }
    push_payload(&mut json, payload);
    json.push('}');
    encode_frame(FrameKind::Text, json.as_bytes())
}

fn push_payload(json: &mut String, payload: &Payload) {
    match payload {
        Payload::Binary(bytes) => {
            json.push_str(r#""binary":""#);
            STANDARD.encode_string(bytes, json);
            json.push('"');
        }
        Payload::Text(text) => {
            json.push_str(r#""data":"#);
            // Spliced in as it came: a JSON value keeps its numbers and the order of its members.
            if serde_json::from_str::<IgnoredAny>(text).is_ok() {
                json.push_str(text.trim());
            } else {
                push_json_string(json, text);
            }
        }
    }
}

/// Appends a text as a JSON string.
fn push_json_string(json: &mut String, text: &str) {
    json.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use actix_http::ws::{OpCode, Parser};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn publication(payload: Payload) -> Publication {
        Publication { channel: ChannelName::new("räume:\"1\"").unwrap(), payload, exclude: None }
    }

    fn read(frame: &[u8]) -> (OpCode, Vec<u8>) {
        let mut buffer = bytes::BytesMut::from(frame);
        let (_, opcode, payload) = Parser::parse(&mut buffer, false, usize::MAX / 2).unwrap().unwrap();
        (opcode, payload.map(|bytes| bytes.to_vec()).unwrap_or_default())
    }

    #[track_caller]
    fn check(payload: Payload, native: Value, plain: (OpCode, &[u8])) {
        let publication = publication(payload);
        let (opcode, text) = read(&encode_publication(Dialect::Native, &publication));
        assert_eq!(opcode, OpCode::Text);
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), native);
        assert_eq!(read(&encode_publication(Dialect::Plain, &publication)), (plain.0, plain.1.to_vec()));
    }

    #[test]
    fn each_dialect_gets_the_payload_in_its_own_form() {
        let native = |key: &str, value: Value| json!({"event": "publication", "channel": "räume:\"1\"", key: value});
        let text = |text: &str| Payload::Text(text.to_owned());
        check(text(r#" {"a":[1,2.50]} "#), native("data", json!({"a": [1, 2.50]})), (OpCode::Text, br#" {"a":[1,2.50]} "#));
        check(text("hello \"you\"\n"), native("data", json!("hello \"you\"\n")), (OpCode::Text, b"hello \"you\"\n"));
        check(text(""), native("data", json!("")), (OpCode::Text, b""));
        check(text("{} {}"), native("data", json!("{} {}")), (OpCode::Text, b"{} {}"));
        check(Payload::Binary(Bytes::from_static(&[0, 255])), native("binary", json!("AP8=")), (OpCode::Binary, &[0, 255]));
    }

    #[test]
    fn a_post_is_an_event_of_its_own() {
        let (_, text) = read(&encode_post(Dialect::Native, &Payload::Text("7".to_owned())));
        assert_eq!(text, br#"{"event":"message","data":7}"#);
        let (_, text) = read(&encode_post(Dialect::Plain, &Payload::Text("7".to_owned())));
        assert_eq!(text, b"7");
    }

    proptest! {
        #[test]
        fn a_native_frame_is_json_for_any_text(text in ".*") {
            let (_, json) = read(&encode_publication(Dialect::Native, &publication(Payload::Text(text.clone()))));
            let parsed: Value = serde_json::from_slice(&json).unwrap();
            let expected = serde_json::from_str::<Value>(&text).unwrap_or(Value::String(text));
            prop_assert_eq!(&parsed["data"], &expected);
        }
    }
}
