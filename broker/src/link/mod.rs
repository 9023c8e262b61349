//! How a node reaches Redis: two links, each under supervision of its own.
//!
//! - [`Route`]: what `cluster.redis` says; [`RedisTarget`]: where that leads at the moment, and how to get in.
//! - [`CommandLink`]: the one connection for commands; every call has a deadline, and fails at once while there is no link.
//! - [`keep`]: runs a task for ever, again after a panic.
//!
//! The subscription link is the bus's own: see `cluster/redis.rs`. Nothing here gives up: a link is tried again, with back-off and
//! jitter, for as long as the node lives.

mod commands;
mod route;
mod sentinel;
mod slots;
mod target;
mod task;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub(crate) use commands::UpGuard;
pub use commands::{CommandLink, Connected, LinkError};
pub use route::RouteError;
pub(crate) use route::{Place, Route, To};
pub(crate) use slots::SlotMap;
pub(crate) use target::Reached;
pub use target::{RedisTarget, TargetError};
pub(crate) use task::{Task, keep};
