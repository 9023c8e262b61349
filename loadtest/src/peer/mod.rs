//! The limits and peers that are measured in the same run, each as a server process of its own.
//!
//! A peer prints its addresses as one JSON line and ends when its standard input does.

mod echo;
mod header;
mod pair;
mod raw;
mod remote;

use std::io::Read as _;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub(crate) use echo::run as run_echo;
pub(crate) use header::run as run_header;
pub(crate) use pair::run as run_pair;
pub(crate) use raw::run as run_raw;
pub(crate) use remote::Peer;

/// Where a peer listens.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Addresses {
    /// For clients.
    pub public: SocketAddr,
    /// For who publishes, or asks for decisions.
    pub inner: SocketAddr,
}

/// Returns when standard input ends: the scenario that started this process is gone.
fn wait_for_end_of_input() {
    // A fault of the input is its end as well.
    std::io::stdin().lock().read_to_end(&mut Vec::new()).ok();
}
