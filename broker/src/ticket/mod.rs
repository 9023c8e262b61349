//! Tickets, server nonces and proofs: what a REST call shows instead of a bare connection id.
//!
//! In reading order:
//!
//! - [`claims`]: what a ticket says; its text is minted and checked here.
//! - [`nonce`]: what a proof must contain, so that it cannot have been signed before.
//! - [`proof`]: a page's signature over one call.
//! - [`replay`]: which calls of a page were seen.
//! - [`keys`]: the keys of the cluster, and which of them mints.
//! - [`store`]: where the keys of a cluster are kept, and how they are rotated.
//! - [`office`]: what a node does with all of it: mints for its live connections, judges proofs over them.
//!
//! Everything up to [`keys`] is pure: time, keys and randomness are passed in. A ticket is checked by any node with nothing
//! but its text, a key and a clock; a proof only by the node that owns the socket, since only there a call is seen once.

mod claims;
mod fields;
mod keys;
mod nonce;
mod office;
mod proof;
mod replay;
mod store;

pub use claims::{Claims, SKEW_MS, TEXT_LEN_MAX, TTL_MS_MAX, TTL_MS_MIN, TicketError};
pub use keys::{KeyRing, Kid, NewKeyError, TicketKey, TicketKeys};
pub use nonce::{NONCE_WINDOW_MS, Nonce};
pub use office::{Issued, TicketOffice};
pub use proof::{Call, Proof, ProofError};
pub use replay::{ReplayWindow, Replayed};
pub use store::RedisKeyStore;

#[cfg(test)]
mod vectors;
#[cfg(test)]
pub(crate) use proof::tests;
