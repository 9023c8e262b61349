//! The socket: handshake, Connection actor, limits, dialects, routes.

mod frame_guard;
mod inbound;
mod outbound;
mod rate;
mod vitals;

pub use frame_guard::{FrameGuard, InboundRates};
pub use inbound::{Inbound, Verdict, close_reason_for};
pub use outbound::OutboundBody;
pub use rate::RateLimit;
pub use vitals::Vitals;
