//! The scenarios. Each starts its servers and clients, measures them by turns, and reports.

mod authorize;
mod census;
mod challenge;
mod churn;
mod connect;
mod fanout;
mod floods;
mod idle;
mod page;
mod publisher;
mod refill;
mod revocation;
mod tickets;
mod usage;

use std::path::PathBuf;

pub(crate) use authorize::{Authorize, run as authorize};
pub(crate) use challenge::{Challenges, run as challenge};
pub(crate) use churn::{Churn, run as churn};
pub(crate) use connect::{Connects, run as connect};
pub(crate) use fanout::{Fanout, run as fanout};
pub(crate) use floods::{Floods, run as floods};
pub(crate) use idle::{Idle, run as idle};
pub(crate) use page::{Pages, run as page};
pub(crate) use refill::{Refill, run as refill};
pub(crate) use revocation::{Revocation, run as revocation};
pub(crate) use tickets::{Tickets, run as tickets};

use crate::Outcome;
use crate::swarm::{Approach, Connect, Order, Remote};

/// Sockets on their way to "ready" at once: enough to keep both cores busy, below every server's backlog.
const DIALS_IN_FLIGHT: usize = 256;

/// What all scenarios share.
#[derive(Debug, Clone)]
pub(crate) struct Bench {
    /// The node's binary.
    pub server: PathBuf,
    /// Worker threads of the peers: as many as the node has by default.
    pub workers: usize,
}

impl Bench {
    /// A bench around the binary at `server`.
    pub(crate) fn new(server: PathBuf) -> Self {
        Self { server, workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get) }
    }
}

/// The order to open `sockets` more sockets.
fn dial(server: std::net::SocketAddr, sockets: usize, approach: Approach) -> Order {
    Order::Connect(Connect { server, sockets, concurrency: DIALS_IN_FLIGHT, sources: 1, approach })
}

/// A client process with `sockets` ready sockets.
fn swarm(server: std::net::SocketAddr, sockets: usize, approach: Approach) -> Outcome<Remote> {
    let mut swarm = Remote::start("sockets")?;
    swarm.do_all(&dial(server, sockets, approach))?;
    Ok(swarm)
}

/// The way of a client to an open socket of the bare server.
fn bare_approach() -> Approach {
    Approach::Upgrade { path: crate::node::SOCKET_PATH.to_owned() }
}
