use std::sync::Arc;

use bytes::Bytes;
use countersign_node_proto::{ChannelName, Publication};

use crate::challenge::{Answer, Hello};
use crate::close::CloseReason;
use crate::config::ChallengeForm;
use crate::gateway::request::Token;
use crate::gateway::template::TemplateError;
use crate::identity::Principal;
use crate::telemetry::{AgainCause, LimitHit};

/// Why a subscription did not come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// There is one.
    #[error("already subscribed")]
    Already,
    /// The hub takes no more now.
    #[error("hub overloaded")]
    Overloaded,
}

/// Why a publication was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Too many bytes wait for a worker thread.
    #[error("hub overloaded")]
    Overloaded,
}

/// What a session can make happen. Nothing here waits; what takes time comes back as an event.
pub trait Effects {
    /// Queues a text frame for the client. A full queue is the queue's affair: it closes the connection.
    fn send_text(&mut self, text: String);
    /// Queues a binary frame for the client.
    fn send_binary(&mut self, payload: Bytes);

    /// Subscribes the connection.
    ///
    /// # Errors
    /// [`SubscribeError`]; the connection is not newly subscribed then.
    fn subscribe(&mut self, channel: &ChannelName) -> Result<(), SubscribeError>;
    /// Ends a subscription; tells whether there was one.
    fn unsubscribe(&mut self, channel: &ChannelName) -> bool;
    /// The channels that the connection is subscribed to.
    fn subscriptions(&self) -> Vec<ChannelName>;
    /// Hands a publication to the hub and the bus.
    ///
    /// # Errors
    /// [`PublishError`]; nobody gets it then.
    fn publish(&mut self, publication: Publication) -> Result<(), PublishError>;

    /// Starts the time that `hello` may take: `HelloDeadline` follows unless a challenge is asked for before.
    fn arm_hello_deadline(&mut self);
    /// Binds the connection to what a native client said, and asks for a challenge in this form: `Issued` or `IssueFailed`
    /// follows.
    fn issue_challenge(&mut self, form: ChallengeForm, hello: Option<Hello>);
    /// The challenge is on its way to the client: the live state and the gauge move on.
    fn mark_challenged(&mut self);
    /// Hands the one answer to the judge: `Verdict` follows.
    fn judge(&mut self, answer: Answer);
    /// The connection is verified: in the live state, the registry and the gauge. False: it closed meanwhile, on another
    /// thread, and is not.
    fn mark_verified(&mut self) -> bool;
    /// Asks for a further challenge of a verified client: `Issued` or `IssueFailed` follows.
    fn issue_again(&mut self, form: ChallengeForm, epoch: u32, cause: AgainCause);
    /// The connection, which was verified, is so by the challenge of this epoch now, which its next tickets carry. False: it
    /// closed meanwhile, on another thread.
    fn still_verified(&mut self, epoch: u32) -> bool;
    /// The connection is verified no more: in the live state at once, then in the registry, and all nodes look it up
    /// again.
    fn mark_lapsed(&mut self);
    /// Pushes the page its first ticket, and the next before each expires, where its calls must show one.
    fn start_tickets(&mut self);
    /// The smaller bound on messages ends: the client is verified, or is never challenged.
    fn raise_limits(&mut self);

    /// Verifies a new token: `TokenVerified`, `TokenRefused` or `TokenUnjudged` follows.
    fn verify_token(&mut self, token: Token);
    /// The connection's token was replaced: in the live state and the registry.
    fn replace_principal(&mut self, principal: &Arc<Principal>);
    /// The connection closes with 4401 at this time (seconds since the Unix epoch), instead of at any before.
    fn arm_expiry(&mut self, expires_at: u64);

    /// A limit refused something: for the counter.
    fn limit_hit(&mut self, limit: LimitHit);
    /// A route's template failed on a message: for the log.
    fn route_failed(&mut self, route: &str, error: &TemplateError);
    /// Starts the closing handshake, behind everything that was sent. The last effect but a `$disconnect` publication.
    fn close(&mut self, reason: CloseReason);
}
