//! Local subscriptions and fan-out, one shard per worker thread.
//!
//! - [`Outbox`]: bytes on their way to one client.
//! - [`Shard`]: the subscriptions of one thread; [`HubShard`], its actor, delivers to them.
//! - [`Hub`]: which shards have subscribers of a channel. A publication crosses to each of those threads once.
//! - [`Publisher`]: to the local subscribers and to the other nodes.

mod encode;
mod fanout;
mod frame;
mod outbox;
mod publisher;
mod shard;
mod table;

pub use encode::{encode_post, encode_publication};
pub use fanout::{Hub, HubOverloaded};
pub use frame::{CONTROL_PAYLOAD_MAX, FrameKind, encode_close, encode_frame};
pub use outbox::{Dialect, Outbox};
pub use publisher::{PublishError, Publisher, Receipt};
pub use shard::{Deliver, HubShard, Shard};
pub use table::{AlreadySubscribed, NotSubscribed};
