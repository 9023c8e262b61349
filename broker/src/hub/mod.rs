//! Local subscriptions and fan-out, one shard per worker thread.

mod frame;
mod outbox;

pub use frame::{CONTROL_PAYLOAD_MAX, FrameKind, encode_close, encode_frame};
pub use outbox::{Dialect, Outbox};
