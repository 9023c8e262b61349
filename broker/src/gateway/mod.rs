//! The socket: handshake, Connection actor, limits, dialects, routes.
//!
//! What a connection says and is told is pure code here, with no actor runtime, no I/O and no clock:
//! - [`ChannelRules`]: who may subscribe to and publish on which channel.
//! - [`Routes`] and [`Template`]: what a client's `action` does.
//! - [`native`] and [`plain`]: the two dialects, decoded and encoded.
//! - [`Session`]: the state machine that decides all that a connection does, through [`Effects`].

mod assembly;
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
mod template;
mod vitals;
mod watchdog;

pub use assembly::{Assembled, Assembler};
pub use frame_guard::{FrameGuard, InboundRates};
pub use handshake::{HandshakeRefusal, HandshakeRequest, NATIVE_SUBPROTOCOL, check_handshake, switch_protocols};
pub use inbound::{Inbound, Verdict, close_reason_for};
pub use outbound::OutboundBody;
pub use rate::RateLimit;
pub use request::{ErrorCode, Failure, ReplyTo, Request, Token};
pub use routes::{PublishTemplates, Route, Routes};
pub use rules::{ChannelRules, Standing};
pub use session::{ChallengeFrame, Effects, Event, Facts, PublishError, Session, SessionConfig, SubscribeError};
pub use template::{Scope, Template, TemplateError};
pub use vitals::Vitals;
pub use watchdog::{Watchdog, WatchdogSettings};
