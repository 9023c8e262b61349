//! What the scenario tells a client process, and what it answers: one JSON object a line.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What a client process should do next. It does one thing at a time and answers each order once:
/// when it is done, or when it cannot be done any more.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Open sockets until all are ready.
    Connect(Connect),
    /// Answer when this many messages have come in altogether since the start.
    Await {
        /// The count, over all sockets.
        messages: u64,
    },
    /// Name the connection ids that the server gave, or the first ticket of each where calls show tickets.
    Ids,
    /// End every socket: a third of them with a closing handshake, a third by going, a third by a reset.
    Leave,
}

/// Opens sockets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Connect {
    /// Where.
    pub server: SocketAddr,
    /// How many.
    pub sockets: usize,
    /// How many may be on their way at once.
    pub concurrency: usize,
    /// Addresses to connect from, 127.0.0.1 and upward, in turn: a closed socket's port rests for a minute, and each address
    /// has ports of its own.
    pub sources: u8,
    /// What each does until it is ready.
    pub approach: Approach,
}

/// What a socket does until it is ready.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Approach {
    /// Nothing: the TCP connection suffices.
    Tcp,
    /// The opening handshake at this path.
    Upgrade {
        /// Path and query.
        path: String,
    },
    /// The whole of it: token, opening handshake, challenge answered, one subscription.
    Verified(Verified),
}

/// The way to a verified, subscribed connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Verified {
    /// Path of the endpoint.
    pub path: String,
    /// The page's origin.
    pub origin: String,
    /// The issuer's HMAC secret: every socket gets a token of its own.
    pub secret: String,
    /// `iss` of the tokens.
    pub issuer: String,
    /// `aud` of the tokens.
    pub audience: String,
    /// Channel to subscribe to, if any.
    pub channel: Option<String>,
    /// What its REST calls would show.
    pub shows: Shows,
}

/// What the REST calls of a client show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shows {
    /// Its connection id.
    Id,
    /// The ticket that it is pushed.
    Ticket,
}

/// Where a client process stands.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// Sockets that are ready.
    pub ready: usize,
    /// Sockets that never became ready.
    pub failed: usize,
    /// Sockets that were ready and are gone.
    pub lost: usize,
    /// Messages that came in since the start.
    pub messages: u64,
    /// Why the first failed or lost socket did.
    pub fault: Option<String>,
    /// Connection ids, if they were asked for.
    #[serde(default)]
    pub ids: Vec<String>,
}

/// Requests to send: each of `connections` sends its next one when the last was answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RequestOrder {
    /// Where.
    pub server: SocketAddr,
    /// Path.
    pub path: String,
    /// Name of the header that carries a connection id.
    pub header: String,
    /// The ids, taken in turn.
    pub ids: Vec<String>,
    /// Sockets, each with one request on its way.
    pub connections: usize,
    /// Requests to be answered altogether.
    pub requests: u64,
}

/// What came of the requests.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct RequestReply {
    /// Answers with status 200.
    pub allowed: u64,
    /// All other answers.
    pub refused: u64,
    /// Why a socket broke, if one did.
    pub fault: Option<String>,
    /// From the first request to the last answer.
    pub elapsed_seconds: f64,
}
