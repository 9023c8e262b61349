//! The socket: handshake, Connection actor, limits, dialects, routes.
//!
//! What a connection says and is told is pure code, with no actor runtime, no I/O and no clock:
//! - [`ChannelRules`]: who may subscribe to and publish on which channel.
//! - [`Routes`] and [`Template`]: what a client's `action` does.
//! - [`native`] and [`plain`]: the two dialects, decoded and encoded.
//! - [`Session`]: the state machine that decides all that a connection does, through [`Effects`].
//!
//! Around it is what makes it real:
//! - [`check_handshake`], [`configure`]: everything before the 101, and the endpoint.
//! - `connection`, `wiring`: the actor that translates, and the session's effects made real.
//! - [`FrameGuard`], [`Assembler`], [`OutboundBody`]: bytes in, bounded before they are buffered; bytes out.
//! - [`Watchdog`], [`Vitals`]: what must be seen of a socket from outside its task.
//! - `tickets`: what verified pages are pushed for their REST calls.
//! - [`ConnectionSupervisor`]: lets connections in, knows the live ones, drains them.

mod assembly;
mod connection;
mod endpoint;
mod frame_guard;
mod handshake;
mod inbound;
pub mod native;
mod outbound;
pub mod plain;
mod rate;
mod request;
mod routes;
mod rules;
mod session;
mod shared;
mod supervisor;
mod template;
mod tickets;
mod vitals;
mod watchdog;
mod wiring;

pub use assembly::{Assembled, Assembler};
pub use endpoint::configure;
pub use frame_guard::{FrameGuard, InboundRates};
pub use handshake::{HandshakeRefusal, HandshakeRequest, NATIVE_SUBPROTOCOL, check_handshake, switch_protocols};
pub use inbound::{Inbound, Verdict, close_reason_for};
pub use outbound::OutboundBody;
pub use rate::RateLimit;
pub use request::{ErrorCode, Failure, ReplyTo, Request, Token};
pub use routes::{PublishTemplates, Route, Routes};
pub use rules::{ChannelRules, Standing};
pub use session::{ChallengeFrame, Effects, Event, Facts, PublishError, Session, SessionConfig, SubscribeError};
pub use shared::{Gateway, Worker};
pub use supervisor::{Admission, AdmissionRefused, ConnectionSupervisor};
pub use template::{Scope, Template, TemplateError};
pub use vitals::Vitals;
pub use watchdog::{Watchdog, WatchdogSettings};

#[cfg(test)]
mod transport_tests;
