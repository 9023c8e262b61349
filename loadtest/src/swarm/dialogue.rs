//! What a native client says from the opening handshake until it is verified and subscribed. Pure: messages in, messages out.

use std::borrow::Cow;
use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::challenge::{
    AnswerKey, ChallengeId, Lanes, Terms, Work, WorkBound, base64url, bind_message, hello_digest, program_digest,
};
use countersign::config::{ChallengeForm, Mode};
use countersign::page_key::PageKey;
use countersign_node_proto::ConnectionId;
use serde::Deserialize;
use serde_json::json;

use super::order::Shows;
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
    epoch: u32,
    #[serde(borrow)]
    nonce: Option<Cow<'a, str>>,
    #[serde(borrow)]
    mode: Option<Cow<'a, str>>,
    #[serde(borrow)]
    program: Option<Cow<'a, str>>,
    work: Option<Work>,
    ticket: Option<String>,
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
    /// As the handshake named it.
    host: String,
    /// The frame that said hello, once it did.
    hello: String,
    /// As the server named it.
    connection_id: Option<String>,
    /// What its REST calls would show.
    shows: Shows,
    /// As it was pushed first, if calls show tickets.
    ticket: Option<String>,
}

impl Dialogue {
    /// A conversation that has not begun.
    pub(crate) const fn new(nonce: [u8; 32], host: String, shows: Shows) -> Self {
        Self { nonce, host, hello: String::new(), connection_id: None, shows, ticket: None }
    }

    /// What its REST calls show, once it is ready.
    pub(crate) fn credential(&mut self) -> Option<String> {
        self.ticket.take().or_else(|| self.connection_id.take())
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
                if required { self.hello().map(Next::Say) } else { Ok(subscribe(channel)) }
            }
            Some("challenge") => self.answer(&message, origin).map(Next::Say),
            // A ticket follows.
            Some("verified") if self.shows == Shows::Ticket => Ok(Next::Wait),
            Some("verified") => Ok(subscribe(channel)),
            Some("ticket") if self.shows == Shows::Ticket && self.ticket.is_none() => {
                self.ticket = message.ticket;
                Ok(subscribe(channel))
            }
            None if message.id == Some(SUBSCRIBE) => Ok(Next::Ready),
            _ => Ok(Next::Wait),
        }
    }

    fn hello(&mut self) -> Result<String, String> {
        let (nonce, key) = (URL_SAFE_NO_PAD.encode(self.nonce), URL_SAFE_NO_PAD.encode(page_key()?.public_key()));
        let mode = match self.shows {
            Shows::Id => Mode::Bearer,
            Shows::Ticket => Mode::Ticket,
        };
        let forms = ["source"];
        self.hello =
            json!({"id": HELLO, "action": "hello", "forms": forms, "nonce": nonce, "key": key, "mode": mode}).to_string();
        Ok(self.hello.clone())
    }

    fn answer(&self, message: &Message<'_>, origin: &str) -> Result<String, String> {
        let lacks = || "a challenge that lacks something".to_owned();
        let program = message.program.as_deref().ok_or_else(lacks)?;
        let challenge = message.challenge.as_deref().and_then(ChallengeId::parse).ok_or_else(lacks)?;
        let id = self.connection_id.as_ref().ok_or_else(lacks)?;
        let key = page_key()?;
        let point = <[u8; 65]>::try_from(key.public_key().as_ref()).ok().and_then(PageKey::parse).ok_or_else(lacks)?;
        let digest = program_digest(program);
        let server_nonce = message.nonce.as_deref().and_then(base64url).ok_or_else(lacks)?;
        let work = message.work.map(Work::field);
        let transcript = Terms {
            form: ChallengeForm::Source,
            host: &self.host,
            connection: &ConnectionId::parse(id.as_bytes()).map_err(|_| lacks())?,
            challenge: &challenge,
            epoch: message.epoch,
            hello: &hello_digest(&self.hello),
            server_nonce: &server_nonce,
            program: &digest,
            origin,
            top_origin: None,
            thumbprint: point.thumbprint(),
            mode: message.mode.as_deref().and_then(Mode::parse).ok_or_else(lacks)?,
            work: work.as_ref().map(<[u8; 2]>::as_slice),
            file: None,
        }
        .transcript();
        let mac = AnswerKey::derive(&digest, &Lanes::new(solver::solve(program, origin)?)).mac(&transcript);
        let signature = key.sign(&SystemRandom::new(), &bind_message(&transcript, &mac)).map_err(|_| "no signature")?;
        let (mac, signature) = (URL_SAFE_NO_PAD.encode(mac), URL_SAFE_NO_PAD.encode(signature));
        let mut answer = json!({
            "id": ANSWER, "action": "answer", "challenge": challenge, "epoch": message.epoch, "origin": origin,
            "mac": mac, "signature": signature,
        });
        if let Some(work) = message.work {
            let bound = WorkBound { challenge: &challenge, server_nonce: &server_nonce, thumbprint: point.thumbprint() };
            let solved = (0..work.count).map(|place| (0..=u32::MAX).find(|solution| work.solves(bound, place, *solution)));
            answer["work"] = json!(solved.collect::<Option<Vec<u32>>>().ok_or("a puzzle without a solution")?);
        }
        Ok(answer.to_string())
    }
}

/// One key for all pages of this process: what keys cost the client is not what is measured.
fn page_key() -> Result<&'static EcdsaKeyPair, String> {
    static KEY: LazyLock<Option<EcdsaKeyPair>> =
        LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok());
    KEY.as_ref().ok_or_else(|| "no key".to_owned())
}

fn subscribe(channel: Option<&str>) -> Next {
    let ask = |channel| Next::Say(json!({"id": SUBSCRIBE, "action": "subscribe", "channel": channel}).to_string());
    channel.map_or(Next::Ready, ask)
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
        let mut dialogue = Dialogue::new([7; 32], "load.example".to_owned(), Shows::Id);
        let welcome = r#"{"event":"welcome","connectionId":"abc","challenge":"required","subject":null,"expiresAt":null}"#;
        assert_eq!(said(hear(&mut dialogue, welcome))["action"], "hello");
        assert_eq!(dialogue.connection_id.as_deref(), Some("abc"));
        assert_eq!(hear(&mut dialogue, r#"{"id":1,"ok":{}}"#), Ok(Next::Wait));
        assert_eq!(said(hear(&mut dialogue, r#"{"event":"verified","connectionId":"abc"}"#))["channel"], "load");
        assert_eq!(hear(&mut dialogue, r#"{"id":3,"ok":{}}"#), Ok(Next::Ready));
    }

    #[test]
    fn client_that_shows_tickets_waits_for_its_first() {
        let mut dialogue = Dialogue::new([7; 32], "load.example".to_owned(), Shows::Ticket);
        let welcome = r#"{"event":"welcome","connectionId":"abc","challenge":"required","subject":null,"expiresAt":null}"#;
        assert_eq!(said(hear(&mut dialogue, welcome))["mode"], "ticket");
        assert_eq!(hear(&mut dialogue, r#"{"event":"verified","connectionId":"abc"}"#), Ok(Next::Wait));
        let ticket = r#"{"event":"ticket","ticket":"def","nonce":"n","expiresInMs":15000}"#;
        assert_eq!(said(hear(&mut dialogue, ticket))["channel"], "load");
        assert_eq!(dialogue.credential().as_deref(), Some("def"));
    }

    #[test]
    fn client_that_is_not_challenged_subscribes_at_once() {
        let mut dialogue = Dialogue::new([7; 32], "load.example".to_owned(), Shows::Id);
        assert_eq!(said(hear(&mut dialogue, r#"{"event":"welcome","connectionId":"abc","challenge":"off"}"#))["id"], 3);
    }

    #[test]
    fn refusal_and_nonsense_are_faults() {
        let mut dialogue = Dialogue::new([7; 32], "load.example".to_owned(), Shows::Id);
        assert!(hear(&mut dialogue, r#"{"id":3,"error":{"code":"denied","message":"no"}}"#).is_err());
        assert!(hear(&mut dialogue, "Echo: abc").is_err());
        assert!(hear(&mut dialogue, r#"{"event":"challenge","challenge":"c","epoch":0}"#).is_err());
    }
}
