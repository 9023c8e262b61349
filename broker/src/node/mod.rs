//! The supervision tree: starts, watches and drains everything else.

pub mod supervisor;

use crate::config::Settings;

/// Why a node could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A part of it could not be started.
    #[error("the node cannot start: {0}")]
    Start(String),
}

/// Runs a node until it is told to end.
///
/// # Errors
/// [`NodeError`] if it cannot start.
#[allow(clippy::unused_async, reason = "the tree that is awaited here is not in this build")]
pub async fn serve(_settings: Settings) -> Result<(), NodeError> {
    Err(NodeError::Start("the supervision tree is not in this build".to_owned()))
}
