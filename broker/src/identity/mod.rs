//! Tokens: verifying them, and the node's own user pool that issues them.

mod principal;

pub use principal::Principal;
