//! A WebSocket client over an independent library, with the words of the native protocol.

use std::collections::VecDeque;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::Node;
use crate::binding::{PageKey, View};
use crate::http::Response;
use crate::poll::{PATIENCE, within};

/// Subprotocol of native clients.
pub const NATIVE: &str = "countersign.v1";

/// A handshake to be made.
#[derive(Debug, Clone)]
pub struct Dial {
    authority: String,
    target: String,
    headers: Vec<(String, String)>,
    origin: Option<String>,
    protocols: Vec<String>,
}

/// What a client receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A close frame, with its code if it had one.
    Closed(Option<u16>, String),
    /// The stream ended without a close frame.
    Gone,
}

/// An open socket.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    origin: String,
    pushed: VecDeque<Value>,
    asked: u64,
    host: String,
    hello: String,
    /// The page's key.
    pub key: PageKey,
    /// The subprotocol that the node chose.
    pub protocol: Option<String>,
    /// The connection id, once a welcome named it.
    pub id: String,
}

impl Dial {
    /// A handshake on `/ws`, without an `Origin`.
    #[must_use]
    pub fn to(node: &Node) -> Self {
        Self::at(node.gateway)
    }

    /// A handshake on `/ws` at any address, without an `Origin`.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self {
            authority: address.to_string(),
            target: "/ws".to_owned(),
            headers: Vec::new(),
            origin: None,
            protocols: Vec::new(),
        }
    }

    /// A native client on the node's own page.
    #[must_use]
    pub fn page(node: &Node) -> Self {
        Self::to(node).origin(&node.origin()).protocol(NATIVE)
    }

    /// Sets the `Origin`.
    #[must_use]
    pub fn origin(mut self, origin: &str) -> Self {
        self.origin = Some(origin.to_owned());
        self
    }

    /// Offers a subprotocol.
    #[must_use]
    pub fn protocol(mut self, protocol: &str) -> Self {
        self.protocols.push(protocol.to_owned());
        self
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Presents a token as browsers cannot.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Adds a query parameter; name and value need no escape.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let separator = if self.target.contains('?') { '&' } else { '?' };
        self.target.push_str(&format!("{separator}{name}={value}"));
        self
    }

    /// Opens the socket.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn open(self) -> Socket {
        match self.try_open().await {
            Ok(socket) => socket,
            Err(refusal) => panic!("refused: {} {}", refusal.status, refusal.text()),
        }
    }

    /// Opens the socket of a native client and reads its welcome.
    ///
    /// # Panics
    /// If it is refused or not welcomed.
    pub async fn welcomed(self) -> Socket {
        let mut socket = self.open().await;
        let welcome = socket.event("welcome").await;
        socket.id = welcome["connectionId"].as_str().expect("a connection id").to_owned();
        socket
    }

    /// Opens the socket of a native client and answers its challenge.
    pub async fn verified(self) -> Socket {
        let mut socket = self.welcomed().await;
        socket.verify().await;
        socket
    }

    /// Opens the socket.
    ///
    /// # Errors
    /// The refusal.
    ///
    /// # Panics
    /// If there is no answer at all.
    pub async fn try_open(self) -> Result<Socket, Response> {
        let url = format!("ws://{}{}", self.authority, self.target);
        let mut request = url.into_client_request().expect("a URL");
        let mut fields = self.headers.clone();
        fields.extend(self.origin.clone().map(|origin| ("origin".to_owned(), origin)));
        if !self.protocols.is_empty() {
            fields.push(("sec-websocket-protocol".to_owned(), self.protocols.join(", ")));
        }
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            request.headers_mut().insert(name, HeaderValue::from_str(&value).expect("a header value"));
        }
        let tcp = TcpStream::connect(&self.authority).await.expect("the node listens");
        tcp.set_nodelay(true).expect("no delay");
        match within(PATIENCE, "handshake", client_async(request, tcp)).await {
            Ok((stream, response)) => Ok(Socket {
                stream,
                origin: self.origin.unwrap_or_default(),
                pushed: VecDeque::new(),
                asked: 0,
                host: self.authority,
                hello: String::new(),
                key: PageKey::new(),
                protocol: text_of(response.headers().get("sec-websocket-protocol")),
                id: String::new(),
            }),
            Err(tungstenite::Error::Http(response)) => Err(refusal(&response)),
            Err(error) => panic!("handshake: {error}"),
        }
    }
}

/// A refused handshake as a response.
fn refusal(response: &tungstenite::http::Response<Option<Vec<u8>>>) -> Response {
    let field = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), text_of(Some(value)).unwrap_or_default());
    Response {
        status: response.status().as_u16(),
        headers: response.headers().iter().map(field).collect(),
        body: response.body().clone().unwrap_or_default(),
    }
}

/// A header field's value as text.
fn text_of(value: Option<&HeaderValue>) -> Option<String> {
    value.and_then(|value| value.to_str().ok()).map(str::to_owned)
}

impl Socket {
    /// Sends a text message.
    ///
    /// # Panics
    /// If the socket is closed.
    pub async fn text(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.expect("the socket is open");
    }

    /// Sends a binary message.
    ///
    /// # Panics
    /// If the socket is closed.
    pub async fn binary(&mut self, bytes: Vec<u8>) {
        self.stream.send(Message::binary(bytes)).await.expect("the socket is open");
    }

    /// Sends JSON as text.
    pub async fn json(&mut self, value: &Value) {
        self.text(&value.to_string()).await;
    }

    /// The next message, or how the socket ended. Pings are answered and skipped.
    pub async fn next(&mut self) -> Incoming {
        within(PATIENCE, "a message", self.wait()).await
    }

    /// The same, however long it takes.
    pub async fn wait(&mut self) -> Incoming {
        loop {
            return match self.stream.next().await {
                Some(Ok(Message::Text(text))) => Incoming::Text(text.to_string()),
                Some(Ok(Message::Binary(bytes))) => Incoming::Binary(bytes.to_vec()),
                Some(Ok(Message::Close(frame))) => closed(frame),
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => Incoming::Gone,
            };
        }
    }

    /// The next message as text.
    ///
    /// # Panics
    /// If something else comes.
    pub async fn next_text(&mut self) -> String {
        match self.next().await {
            Incoming::Text(text) => text,
            other => panic!("expected text: {other:?}"),
        }
    }

    /// The next message as JSON.
    ///
    /// # Panics
    /// If something else comes.
    pub async fn next_json(&mut self) -> Value {
        let text = self.next_text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"))
    }

    /// Reads on until the socket ends; the close code.
    ///
    /// # Panics
    /// If it ends without one.
    pub async fn close_code(&mut self) -> u16 {
        match self.end().await {
            Incoming::Closed(Some(code), _) => code,
            other => panic!("expected a close code: {other:?}"),
        }
    }

    /// Reads on until the socket ends; how it did.
    pub async fn end(&mut self) -> Incoming {
        loop {
            match self.next().await {
                end @ (Incoming::Closed(..) | Incoming::Gone) => return end,
                Incoming::Text(_) | Incoming::Binary(_) => {}
            }
        }
    }

    /// Closes normally and waits for the node's close frame.
    pub async fn close(mut self) -> Incoming {
        // It may be closed already.
        let _ = self.stream.close(None).await;
        self.end().await
    }

    /// Sends a native request; the reply with its id. Events that come before are kept.
    ///
    /// # Panics
    /// If the socket ends instead.
    pub async fn ask(&mut self, action: &str, members: Value) -> Value {
        self.ask_and_forget(action, members).await;
        loop {
            let message = self.next_json().await;
            if message["id"] == self.asked {
                return message;
            }
            self.pushed.push_back(message);
        }
    }

    /// Sends a native request and waits for nothing: what follows may be the end of the socket.
    ///
    /// # Panics
    /// If the socket is closed already.
    pub async fn ask_and_forget(&mut self, action: &str, members: Value) {
        self.asked += 1;
        let mut request = json!({ "id": self.asked, "action": action });
        for (key, value) in members.as_object().expect("members").clone() {
            request[key] = value;
        }
        let text = request.to_string();
        self.text(&text).await;
        if action == "hello" {
            self.hello = text;
        }
    }

    /// Sends a native request that must succeed; its `ok`.
    ///
    /// # Panics
    /// If it fails.
    pub async fn ok(&mut self, action: &str, members: Value) -> Value {
        let reply = self.ask(action, members).await;
        assert!(reply["ok"].is_object(), "{action}: {reply}");
        reply["ok"].clone()
    }

    /// Sends a native request that must fail; its error code.
    ///
    /// # Panics
    /// If it succeeds.
    pub async fn error(&mut self, action: &str, members: Value) -> String {
        let reply = self.ask(action, members).await;
        assert!(reply["error"]["message"].is_string(), "{action}: {reply}");
        reply["error"]["code"].as_str().unwrap_or_else(|| panic!("{action}: {reply}")).to_owned()
    }

    /// The next event of that name; others before it are dropped.
    pub async fn event(&mut self, name: &str) -> Value {
        loop {
            let message = match self.pushed.pop_front() {
                Some(message) => message,
                None => self.next_json().await,
            };
            if message["event"] == name {
                return message;
            }
        }
    }

    /// What this page says in its hello.
    ///
    /// # Panics
    /// If there is no randomness.
    #[must_use]
    pub fn hello(&self) -> Value {
        let mut nonce = [0_u8; 32];
        getrandom::fill(&mut nonce).expect("randomness");
        json!({ "forms": ["source"], "nonce": URL_SAFE_NO_PAD.encode(nonce), "key": self.key.point() })
    }

    /// Says hello; the challenge.
    pub async fn challenge(&mut self) -> Value {
        self.ok("hello", self.hello()).await;
        self.event("challenge").await
    }

    /// What this page knows of the conversation since its hello.
    #[must_use]
    pub fn view(&self) -> View {
        View::new(&self.host, &self.id, &self.hello, &self.origin)
    }

    /// The right answer of this page to its challenge, without `id` and `action`.
    #[must_use]
    pub fn answer(&self, challenge: &Value) -> Value {
        self.view().answer(challenge, &self.key)
    }

    /// Says hello, answers the challenge, and waits for the verdict.
    ///
    /// # Panics
    /// If the verdict names another connection.
    pub async fn verify(&mut self) {
        let challenge = self.challenge().await;
        self.ok("answer", self.answer(&challenge)).await;
        let verified = self.event("verified").await;
        assert_eq!(verified["connectionId"], self.id);
    }
}

/// A close frame's parts.
fn closed(frame: Option<CloseFrame>) -> Incoming {
    match frame {
        Some(frame) => Incoming::Closed(Some(u16::from(frame.code)), frame.reason.to_string()),
        None => Incoming::Closed(None, String::new()),
    }
}
