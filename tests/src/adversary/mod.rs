//! Adversaries: programs that do what attackers do, and a measure of how often they succeed and at what cost.
//!
//! Some succeed by the nature of things: whoever can run a browser, or write one, can run what a browser runs. They are here so
//! that nobody has to guess which those are. Each says what is expected of it, and the suite holds it to that.
//!
//! - [`cost`]: the time that an adversary's own processes took of the processors.
//! - [`programs`]: clients that are no browser: an emulator of a JavaScript runtime, a port of the interpreter, guessers.
//! - [`pages`]: a headless browser; a look-alike site behind a proxy that rewrites `Origin`, with the SDK as it is and patched.
//! - [`pool`]: answers that are kept for later, for other sockets, or for a second time.
//! - [`thief`]: what stolen ids, tickets and proofs are good for.

pub mod cost;
pub mod pages;
pub mod pool;
pub mod programs;
pub mod thief;

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::browser::Browser;
use crate::pages::{Page, Port};
use crate::socket::{Incoming, Socket};
use crate::{Node, http};

/// What is attacked: a node, and the one page that it lets in.
#[derive(Debug)]
pub struct Target {
    /// It asks for connection ids only, but for two of its three protected resources.
    pub node: Node,
    /// The site of the honest page.
    pub page: Page,
    /// The browser of those that use one.
    pub browser: Browser,
}

/// An adversary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adversary {
    /// Node.js with a `location` of its own making evaluates the printed program; the client writes any `Origin`.
    RuntimeEmulator,
    /// The interpreter, written again in Rust; the client writes any `Origin`.
    InterpreterPort,
    /// Chromium without a window opens the honest page.
    HeadlessBrowser,
    /// A look-alike site behind a proxy that rewrites `Origin` and `Host`, with the SDK as it is.
    RewritingProxy,
    /// The same, with an SDK that claims the honest page's origin and the node's host.
    PatchingProxy,
    /// Solves challenges and answers each on another socket than its own.
    PoolForOtherSockets,
    /// Solves challenges, leaves, and answers on sockets that it opens later.
    PoolForLater,
    /// Solves challenges and keeps each of their sockets open.
    PoolOfSockets,
    /// Says what another client has just said, word for word, on a socket of its own.
    AnswerReplayer,
    /// Tries connection ids.
    IdGuesser,
    /// Shows a stolen connection id where that is all that is asked for; until its socket closes.
    IdThief,
    /// Shows a stolen connection id of a page that has tickets.
    IdThiefAmongTickets,
    /// Shows a stolen ticket where tickets are asked for; until it expires, 15 s, or its socket closes.
    TicketThief,
    /// Shows a stolen ticket where proofs are asked for, with proofs by a key of its own.
    TicketThiefAmongProofs,
    /// Shows proofs that it saw, again and for other calls.
    ProofReplayer,
}

/// What is expected of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Every attempt succeeds, by the nature of things.
    Succeeds,
    /// No attempt does.
    Fails,
}

/// What became of it.
#[derive(Debug)]
pub struct Outcome {
    /// Attempts made.
    pub attempts: u32,
    /// Of them, those that ended with a verified connection, or with a call that was allowed.
    pub successes: u32,
    /// Processor time of the adversary's processes, without the node's.
    pub processor: Duration,
    /// Time that passed.
    pub took: Duration,
}

impl Adversary {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::RuntimeEmulator,
        Self::InterpreterPort,
        Self::HeadlessBrowser,
        Self::RewritingProxy,
        Self::PatchingProxy,
        Self::PoolForOtherSockets,
        Self::PoolForLater,
        Self::PoolOfSockets,
        Self::AnswerReplayer,
        Self::IdGuesser,
        Self::IdThief,
        Self::IdThiefAmongTickets,
        Self::TicketThief,
        Self::TicketThiefAmongProofs,
        Self::ProofReplayer,
    ];

    /// What is expected of it.
    #[must_use]
    pub const fn expected(self) -> Expected {
        match self {
            Self::RuntimeEmulator
            | Self::InterpreterPort
            | Self::HeadlessBrowser
            | Self::PatchingProxy
            | Self::PoolOfSockets
            | Self::IdThief
            | Self::TicketThief => Expected::Succeeds,
            Self::RewritingProxy
            | Self::PoolForOtherSockets
            | Self::PoolForLater
            | Self::AnswerReplayer
            | Self::IdGuesser
            | Self::IdThiefAmongTickets
            | Self::TicketThiefAmongProofs
            | Self::ProofReplayer => Expected::Fails,
        }
    }

    /// Attempts that are worth their time, of `wanted`: a browser's are dear.
    #[must_use]
    pub fn attempts(self, wanted: u32) -> u32 {
        match self {
            Self::HeadlessBrowser | Self::RewritingProxy | Self::PatchingProxy => wanted.div_ceil(10),
            _ => wanted,
        }
    }

    /// Attacks.
    ///
    /// # Panics
    /// If the target is gone.
    pub async fn attack(self, target: &Target, attempts: u32) -> Outcome {
        let (started, before) = (Instant::now(), cost::without(target.node.process()));
        let successes = match self {
            Self::RuntimeEmulator => programs::emulate(target, attempts).await,
            Self::InterpreterPort => programs::interpret(target, attempts).await,
            Self::HeadlessBrowser => pages::browse(target, attempts).await,
            Self::RewritingProxy => pages::look_alike(target, attempts, false).await,
            Self::PatchingProxy => pages::look_alike(target, attempts, true).await,
            Self::PoolForOtherSockets => pool::crosswise(target, attempts).await,
            Self::PoolForLater => pool::later(target, attempts).await,
            Self::PoolOfSockets => pool::held(target, attempts).await,
            Self::AnswerReplayer => pool::replayed(target, attempts).await,
            Self::IdGuesser => programs::guess(target, attempts).await,
            Self::IdThief => thief::id_for_bearer(target, attempts).await,
            Self::IdThiefAmongTickets => thief::id_for_tickets(target, attempts).await,
            Self::TicketThief => thief::ticket_for_tickets(target, attempts).await,
            Self::TicketThiefAmongProofs => thief::ticket_for_proofs(target, attempts).await,
            Self::ProofReplayer => thief::proof_again(target, attempts).await,
        };
        let processor = cost::without(target.node.process()).saturating_sub(before);
        Outcome { attempts, successes, processor, took: started.elapsed() }
    }
}

impl Outcome {
    /// Whether this is what was expected.
    #[must_use]
    pub fn is(&self, expected: Expected) -> bool {
        let right = match expected {
            Expected::Succeeds => self.attempts,
            Expected::Fails => 0,
        };
        self.attempts > 0 && self.successes == right
    }
}

impl Target {
    /// Starts a node, the site that it lets in, and a browser.
    ///
    /// # Panics
    /// If one of them does not start.
    pub async fn start() -> Self {
        let port = Port::reserve();
        let origin = port.origin();
        let gateway =
            format!("[authorizer]\nmode = \"bearer\"\n[gateway]\nallow_own_origin = false\nallowed_origins = [\"{origin}\"]\n");
        let node = Node::start(&(gateway + &thief::settings()));
        let html = pages::html(&sdk(&node).await, &format!("{}/ws", node.origin().replace("http", "ws")));
        Self { node, page: Page::serve(port, html), browser: Browser::start().await }
    }
}

/// The SDK's classic script, as every page gets it.
async fn sdk(node: &Node) -> String {
    http::get(&node.url("/sdk/countersign.global.js")).send().await.text()
}

/// Whether the answer that was just sent verified the socket.
async fn verdict(socket: &mut Socket) -> bool {
    loop {
        match socket.next().await {
            Incoming::Text(text) => {
                let message: Value = serde_json::from_str(&text).unwrap_or_default();
                if message["event"] == "verified" {
                    return true;
                }
            }
            Incoming::Binary(_) => {}
            Incoming::Closed(..) | Incoming::Gone => return false,
        }
    }
}

/// How many of these are true.
fn count(successes: impl IntoIterator<Item = bool>) -> u32 {
    successes.into_iter().map(u32::from).sum()
}
