//! A node: starts, watches and drains everything else. Nothing below knows how it is started.
//!
//! - [`Node`]: the supervision tree, from bound listeners to the last entry taken out of the registry.
//! - [`Backplane`]: what nodes share.
//! - [`supervisor`]: starts actors again.
//! - [`serve`]: a node for the command line, with its announcement and its signals.

mod apps;
mod backplane;
mod hearing;
mod running;
mod signals;
pub mod supervisor;

use std::io::Write as _;
use std::net::SocketAddr;

pub use backplane::Backplane;
pub use running::Node;

use crate::config::Fault;
use crate::config::Settings;
use crate::edge::TlsError;
use crate::identity::IdentityError;
use signals::Signals;

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A listener cannot be had.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Users, tokens or keys cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Routes or rules are wrong; the command line reports them all before it starts a node.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Compile(Vec<Fault>),
    /// The API keys cannot be had.
    #[error(transparent)]
    ApiKeys(#[from] crate::management::ApiKeyError),
    /// Challenges cannot be made.
    #[error(transparent)]
    Challenge(#[from] crate::challenge::IssueError),
    /// The files that challenges ask about cannot be used.
    #[error(transparent)]
    Files(#[from] crate::challenge::FilesError),
    /// The system's generator failed.
    #[error("no randomness to be had: {0}")]
    Randomness(#[from] getrandom::Error),
    /// No key for tickets can be made.
    #[error(transparent)]
    TicketKey(#[from] crate::ticket::NewKeyError),
    /// The settings do not lead to a Redis.
    #[error(transparent)]
    Cluster(#[from] crate::link::TargetError),
    /// The process cannot hear signals or tell its addresses.
    #[error("process: {0}")]
    Process(#[source] std::io::Error),
    /// It ran, and a second signal cut its drain short.
    #[error("a second signal, {0}, ended the node before it was drained")]
    CutShort(&'static str),
}

/// Runs a node of its own until a signal ends it; the first drains, a second ends at once.
///
/// # Errors
/// [`NodeError`] if it cannot start, or if it was not let drain.
pub async fn serve(settings: Settings) -> Result<(), NodeError> {
    let mut signals = Signals::listen().map_err(NodeError::Process)?;
    let backplane = Backplane::of(&settings.cluster)?;
    let node = Node::start(settings, &backplane).await?;
    node.log_start();
    announce(&node).map_err(NodeError::Process)?;
    let signal = signals.next().await;
    tracing::info!(signal, "draining");
    tokio::select! {
        () = node.drain() => tracing::info!("drained"),
        signal = signals.next() => {
            tracing::warn!(signal, "second signal, ending at once");
            return Err(NodeError::CutShort(signal));
        }
    }
    Ok(())
}

/// Prints where the node listens: to people, and to whoever started it on port 0.
fn announce(node: &Node) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "gateway  {}", node.gateway_url())?;
    writeln!(output, "admin    {}", node.admin_url())?;
    output.flush()
}
