//! Whether a call may pass: the decision, its cache, and the endpoints that answer with it.
//!
//! - [`Authorizer`]: decides. A connection of this node from its live state, another node's from what is remembered of it,
//!   else from the registry.
//! - [`cache`]: what is remembered of connections of other nodes. Never a decision: what a path requires is judged on each
//!   call, so that one path's answer is never another's.
//! - [`lookup`]: what is found out about them, from the registry and from their owners.
//! - [`decision`]: the rules, as pure functions, and every way to be refused.
//! - [`demand`]: what a path asks a call to show, and how a question raises it.
//! - [`tickets`]: calls that show a ticket, with or without a proof; [`suspects`]: which tickets may not be taken at their word.
//! - [`call`]: which call a decision is about.
//! - [`calls`]: the calls that were allowed without asking the owner, which is told how many.
//! - [`http`]: the endpoint that a reverse proxy asks, and the resources that the node protects itself.

pub mod cache;
pub mod call;
mod calls;
pub mod decision;
pub mod demand;
pub mod http;
mod judge;
mod lookup;
mod suspects;
mod tickets;

pub use cache::{CacheSettings, ConnectionCache, Known, LoadError};
pub use calls::ForeignCalls;
#[cfg(test)]
pub(crate) use judge::tests;

pub use call::{Asked, CallText};
pub use decision::{Identity, Refused, Shown};
pub use demand::Demand;
pub use http::AuthorizeEndpoint;
pub use judge::{Authorizer, AuthorizerParts, Decision, TokenCheck, TokenProblem};
