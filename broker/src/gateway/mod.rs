//! The socket: handshake, Connection actor, limits, dialects, routes.
//!
//! What a connection says and is told is pure code here, with no actor runtime, no I/O and no clock:
//! - [`ChannelRules`]: who may subscribe to and publish on which channel.
//! - [`Routes`] and [`Template`]: what a client's `action` does.
//! - [`native`] and [`plain`]: the two dialects, decoded and encoded.
//! - [`Session`]: the state machine that decides all that a connection does, through [`Effects`].

mod fault;
pub mod native;
pub mod plain;
mod request;
mod routes;
mod rules;
mod session;
mod template;

pub use fault::CompileFault;
pub use request::{AnswerForm, ErrorCode, Failure, ReplyTo, Request, Token};
pub use routes::{PublishTemplates, Route, Routes};
pub use rules::{ChannelRules, Standing};
pub use session::{ChallengeFrame, Dialect, Effects, Event, Facts, PublishError, Session, SessionConfig, SubscribeError};
pub use template::{Scope, Template, TemplateError};
