//! All that one connection decides, as a state machine without an actor: an [`Event`] in, [`Effects`] out.
//!
//! Invariants:
//! - A challenge moves forward only, and a connection becomes verified by one verdict on its one answer. A further
//!   challenge has an epoch of its own; while it is under way the connection stays verified, and it ends with a failure.
//! - After a close nothing more happens but `$disconnect`, once, when the socket is gone.
//! - Rules see the connection as it stands at each act, not as it stood when it opened.

mod acts;
mod again;
#[cfg(test)]
mod again_tests;
mod effects;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod tests;
mod turn;

use std::sync::Arc;

use bytes::Bytes;
use countersign_node_proto::ConnectionId;

pub use effects::{Effects, PublishError, SubscribeError};

use self::again::Again;
use self::turn::Turn;
use super::request::ReplyTo;
use super::routes::Routes;
use super::rules::{ChannelRules, Standing};
use crate::challenge::{Decoy, FileQuestion, FrameSignature, Work};
use crate::config::{Builtin, Carrier, ChallengeForm, ChallengeSettings, Fault, Mode, RouteSettings, Settings};
use crate::hub::Dialect;
use crate::identity::Principal;
use crate::telemetry::{AgainCause, VerdictLabel};

/// What all sessions of a node share.
#[derive(Debug)]
pub struct SessionConfig {
    /// What actions do.
    pub routes: Routes,
    /// Who may use which channel.
    pub rules: ChannelRules,
    /// The challenge.
    pub challenge: ChallengeSettings,
    /// Subscriptions of one connection.
    pub subscriptions_max: usize,
    /// A connection ends with its token.
    pub expiry_ends_connection: bool,
    /// The floor of what REST calls must show, which a client's `hello` can raise.
    pub mode: Mode,
}

impl SessionConfig {
    /// Compiles routes, templates and rules.
    ///
    /// # Errors
    /// Every fault of the configuration, not just the first.
    pub fn compile(settings: &Settings) -> Result<Self, Vec<Fault>> {
        let routes = Routes::compile(&settings.routes, settings.gateway.limits.message_max_bytes);
        let rules = ChannelRules::compile(&settings.channels);
        match (routes, rules, unanswerable(settings)) {
            (Ok(routes), Ok(rules), None) => Ok(Self {
                routes,
                rules,
                challenge: settings.challenge.clone(),
                subscriptions_max: settings.gateway.limits.subscriptions_max,
                expiry_ends_connection: settings.gateway.token.expiry_ends_connection,
                mode: settings.authorizer.mode,
            }),
            (routes, rules, unanswerable) => {
                let faults = [routes.err(), rules.err(), unanswerable.map(|fault| vec![fault])];
                Err(faults.into_iter().flatten().flatten().collect())
            }
        }
    }

    /// What [`SessionConfig::compile`] would find wrong: a [`crate::config::Check`].
    #[must_use]
    pub fn check(settings: &Settings) -> Vec<Fault> {
        Self::compile(settings).err().unwrap_or_default()
    }

    /// Is a client of this dialect challenged? Then its messages stay small until it is verified, and the handshake
    /// needs room among the pending challenges.
    #[must_use]
    pub fn challenges(&self, dialect: Dialect) -> bool {
        self.challenge.enabled && (dialect == Dialect::Native || self.challenge.carrier == Carrier::EchoFunction)
    }
}

/// A carrier whose clients could never answer.
fn unanswerable(settings: &Settings) -> Option<Fault> {
    let carried = settings.challenge.enabled && settings.challenge.carrier == Carrier::EchoFunction;
    let answerable = |route: &RouteSettings| route.builtin == Some(Builtin::Answer);
    let fault = carried && !settings.routes.is_empty() && !settings.routes.values().any(answerable);
    let message = "plain clients are challenged, but no route takes their answer";
    fault.then(|| Fault::new("challenge.carrier", message, "add a route with `builtin = \"answer\"`"))
}

/// What the handshake settled.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The connection.
    pub id: ConnectionId,
    /// What it speaks.
    pub dialect: Dialect,
    /// Its origin: none, `null`, or one of the list. Policy has judged it.
    pub origin: Option<String>,
    /// Whom its token names.
    pub principal: Option<Arc<Principal>>,
    /// The channel that the handshake names, where the configuration has a parameter for that.
    pub subscribe: Option<String>,
}

/// A challenge as it goes to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChallengeFrame {
    /// Its id.
    pub challenge_id: [u8; 16],
    /// Its epoch.
    pub epoch: u32,
    /// The server's nonce.
    pub server_nonce: [u8; 32],
    /// How the program is delivered.
    pub form: ChallengeForm,
    /// The program: bytecode in base64url, or a printed function; or the handle by which a frame fetches it.
    pub program: String,
    /// Where it is a handle: SHA-256 of the program.
    pub program_hash: Option<[u8; 32]>,
    /// The least that REST calls in the connection's name must show.
    pub mode: Mode,
    /// The node's signature over all of this, where the form is signed.
    pub signature: Option<FrameSignature>,
    /// Puzzles to solve too.
    pub work: Option<Work>,
    /// The part of a file to read.
    pub file: Option<FileQuestion>,
    /// Filling for the echo carrier; it chooses nothing.
    pub decoy: Decoy,
}

/// What happens to a connection.
#[derive(Debug)]
pub enum Event<'a> {
    /// The handshake was answered with 101. The first event, once.
    Opened,
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(Bytes),
    /// The challenge that was asked for.
    Issued(Box<ChallengeFrame>),
    /// There is none: a fault of the node.
    IssueFailed,
    /// How a challenge ended.
    Verdict {
        /// Which of the connection's.
        epoch: u32,
        /// How.
        verdict: VerdictLabel,
    },
    /// A verified client is to be challenged again.
    ChallengeAgain(AgainCause),
    /// The time for `hello` is over.
    HelloDeadline,
    /// The new token verifies.
    TokenVerified(Arc<Principal>),
    /// The new token does not.
    TokenRefused,
    /// Nobody can say: its issuer's keys cannot be had.
    TokenUnjudged,
    /// The socket is gone, whoever ended it. The last event, once.
    Closed,
}

/// Where the socket is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// `Opened` is still to come.
    New,
    /// Open.
    Open,
    /// This side has ordered the close.
    Closing,
    /// Gone.
    Closed,
}

/// Where the challenge is: forward only.
#[derive(Debug, PartialEq, Eq)]
enum Proof {
    /// None is due.
    NotDue,
    /// Waiting for a native client's `hello`.
    AwaitingHello,
    /// A program is being made.
    Issuing,
    /// Waiting for the answer.
    Pending,
    /// The answer is being judged; its outcome goes here.
    Judging(ReplyTo),
    /// Right.
    Verified,
    /// Wrong or late, and the configuration leaves the socket open.
    Failed,
}

/// What changes over a connection's life.
#[derive(Debug)]
struct State {
    facts: Facts,
    life: Life,
    proof: Proof,
    /// A further challenge, once verified.
    again: Again,
    /// Of the latest challenge.
    epoch: u32,
    /// What a native client's `hello` settled.
    form: Option<ChallengeForm>,
    subscriptions: usize,
    messages: u64,
    /// Where the outcome of the one refresh under way goes.
    refresh: Option<ReplyTo>,
}

impl State {
    /// What the connection has shown so far.
    fn standing(&self) -> Standing<'_> {
        Standing { verified: self.proof == Proof::Verified, principal: self.facts.principal.as_deref() }
    }
}

/// One connection's state machine.
#[derive(Debug)]
pub struct Session {
    config: Arc<SessionConfig>,
    state: State,
}

impl Session {
    /// A connection whose handshake has succeeded.
    #[must_use]
    pub fn new(config: Arc<SessionConfig>, facts: Facts) -> Self {
        let state = State {
            facts,
            life: Life::New,
            proof: Proof::NotDue,
            again: Again::None,
            epoch: 0,
            form: None,
            subscriptions: 0,
            messages: 0,
            refresh: None,
        };
        Self { config, state }
    }

    /// Handles one event; everything that follows from it goes through `effects`, in order.
    pub fn on<E: Effects>(&mut self, event: Event<'_>, effects: &mut E) {
        Turn { config: &self.config, state: &mut self.state, effects }.take(event);
    }

    /// What the handshake settled; the principal is the latest.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.state.facts
    }

    /// Has it answered its challenge?
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.state.proof == Proof::Verified
    }

    /// Has a close been ordered, or has the socket gone? Messages are not looked at any more.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        matches!(self.state.life, Life::Closing | Life::Closed)
    }
}
