//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::scenario::{Authorize, Challenges, Churn, Connects, Fanout, Floods, Idle, Pages, Refill, Revocation, Tickets};

/// Measures a Countersign node beside the limits of the same machine, in the same run.
///
/// What counts is the ratio: of the node's work per second of its own processor time to that of a bare server or a raw
/// write loop. Build with `cargo build --release -p countersign -p countersign-loadtest` first.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
pub(crate) struct Cli {
    /// What to do
    #[command(subcommand)]
    pub task: Task,
    /// The node's binary. Default: `countersign` beside this one
    #[arg(long, global = true)]
    pub server: Option<PathBuf>,
    /// Print the reports as one line of JSON instead of tables
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// All scenarios, in less than three minutes
    Quick(Quick),
    /// Connects with a token and an answered challenge, per second of the server's processor time
    Connect(Connects),
    /// Resident memory of a verified, subscribed connection
    Idle(Idle),
    /// Deliveries on one channel, per second of the server's processor time
    Fanout(Fanout),
    /// Decisions of the authorizer, per second of the server's processor time
    Authorize(Authorize),
    /// What a challenge costs one core, beside the cryptography in it
    Challenge(Challenges),
    /// What it costs one core to check tickets and proofs, beside the cryptography in them
    Tickets(Tickets),
    /// From the close of a socket to its denial on another node, beside the publish round trip of their Redis
    Revocation(Revocation),
    /// What is left in a cluster of sockets that came and went: memory, keys, descriptors, subscriptions
    Churn(Churn),
    /// Floods of clients that mean ill: what they cost a node, and what they leave to honest clients
    Floods(Floods),
    /// From open to verified in a real Chromium, beside a bare echo; needs what `tests/run` installs
    Page(Pages),
    /// Resident memory of a connection on a fresh node, and after all sockets came and went again some times
    Refill(Refill),
    /// A process that a scenario starts
    #[command(hide = true, subcommand)]
    Role(Role),
}

/// Options of `quick`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Quick {
    /// Write loadtest/RESULTS.md of the working directory
    #[arg(long)]
    pub write: bool,
}

/// A process that a scenario starts.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Client sockets
    Sockets,
    /// Clients that mean ill
    Flood,
    /// Callers of the authorizer
    Requests,
    /// The raw write loop
    Raw {
        /// Payload bytes of its frames
        payload_len: usize,
    },
    /// The bare actix-web-actors server
    Echo {
        /// Worker threads
        workers: usize,
    },
    /// Two nodes that share registry and bus
    Pair,
    /// The bare handler
    Header {
        /// Worker threads
        workers: usize,
    },
}
