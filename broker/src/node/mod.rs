//! The supervision tree.

pub mod listener;
pub mod supervisor;

pub use listener::NodeListener;
