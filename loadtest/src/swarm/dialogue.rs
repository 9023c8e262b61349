//! What a native client says from the opening handshake until it is verified and subscribed. Pure: messages in, messages out.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::json;

use crate::solver;

/// The parts of a server's message that the way to "subscribed" needs.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Message<'a> {
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    id: Option<u64>,
    connection_id: Option<String>,
    challenge: Option<String>,
    epoch: u64,
    #[serde(borrow)]
    program: Option<Cow<'a, str>>,
    error: Option<serde_json::Value>,
}

/// What follows from a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Wait for the next one.
    Wait,
    /// Say this.
    Say(String),
    /// Verified and subscribed.
    Ready,
}

/// Request ids, by which replies are told apart.
const HELLO: u64 = 1;
const ANSWER: u64 = 2;
const SUBSCRIBE: u64 = 3;

/// One client's side of the conversation.
#[derive(Debug)]
pub(crate) struct Dialogue {
    nonce: [u8; 32],
    /// As the server named it.
    pub connection_id: Option<String>,
}

impl Dialogue {
    /// A conversation that has not begun.
    pub(crate) const fn new(nonce: [u8; 32]) -> Self {
        Self { nonce, connection_id: None }
    }

    /// Takes a message of the server.
    ///
    /// # Errors
    /// If the server refused, or said what this client does not understand.
    pub(crate) fn hear(&mut self, text: &[u8], origin: &str, channel: Option<&str>) -> Result<Next, String> {
        let message: Message<'_> = serde_json::from_slice(text).map_err(|fault| format!("unreadable message: {fault}"))?;
        if let Some(error) = message.error {
            return Err(format!("request refused: {error}"));
        }
        match message.event.as_deref() {
            Some("welcome") => {
                self.connection_id = message.connection_id;
                let required = message.challenge.as_deref() == Some("required");
                if required { Ok(Next::Say(self.hello())) } else { Ok(subscribe(channel)) }
            }
            Some("challenge") => answer(&message, origin).map(Next::Say),
            Some("verified") => Ok(subscribe(channel)),
            None if message.id == Some(SUBSCRIBE) => Ok(Next::Ready),
            _ => Ok(Next::Wait),
        }
    }

    fn hello(&self) -> String {
        let nonce = URL_SAFE_NO_PAD.encode(self.nonce);
        json!({"id": HELLO, "action": "hello", "forms": ["source"], "nonce": nonce}).to_string()
    }
}

fn subscribe(channel: Option<&str>) -> Next {
    let ask = |channel| Next::Say(json!({"id": SUBSCRIBE, "action": "subscribe", "channel": channel}).to_string());
    channel.map_or(Next::Ready, ask)
}

fn answer(message: &Message<'_>, origin: &str) -> Result<String, String> {
    let (Some(challenge), Some(program)) = (&message.challenge, &message.program) else {
        return Err("a challenge without id or program".to_owned());
    };
    let lanes = solver::solve(program, origin)?;
    let answer = json!({"id": ANSWER, "action": "answer", "challenge": challenge, "epoch": message.epoch, "origin": origin, "lanes": lanes});
    Ok(answer.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(dialogue: &mut Dialogue, text: &str) -> Result<Next, String> {
        dialogue.hear(text.as_bytes(), "https://load.example", Some("load"))
    }

    fn said(next: Result<Next, String>) -> serde_json::Value {
        match next {
            Ok(Next::Say(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("said nothing: {other:?}"),
        }
    }

    #[test]
    fn challenged_client_says_hello_and_subscribes_once_verified() {
        let mut dialogue = Dialogue::new([7; 32]);
        let welcome = r#"{"event":"welcome","connectionId":"abc","challenge":"required","subject":null,"expiresAt":null}"#;
        assert_eq!(said(hear(&mut dialogue, welcome))["action"], "hello");
        assert_eq!(dialogue.connection_id.as_deref(), Some("abc"));
        assert_eq!(hear(&mut dialogue, r#"{"id":1,"ok":{}}"#), Ok(Next::Wait));
        assert_eq!(said(hear(&mut dialogue, r#"{"event":"verified","connectionId":"abc"}"#))["channel"], "load");
        assert_eq!(hear(&mut dialogue, r#"{"id":3,"ok":{}}"#), Ok(Next::Ready));
    }

    #[test]
    fn client_that_is_not_challenged_subscribes_at_once() {
        let mut dialogue = Dialogue::new([7; 32]);
        assert_eq!(said(hear(&mut dialogue, r#"{"event":"welcome","connectionId":"abc","challenge":"off"}"#))["id"], 3);
    }

    #[test]
    fn refusal_and_nonsense_are_faults() {
        let mut dialogue = Dialogue::new([7; 32]);
        assert!(hear(&mut dialogue, r#"{"id":3,"error":{"code":"denied","message":"no"}}"#).is_err());
        assert!(hear(&mut dialogue, "Echo: abc").is_err());
        assert!(hear(&mut dialogue, r#"{"event":"challenge","challenge":"c","epoch":0}"#).is_err());
    }
}
