//! The socket: handshake, Connection actor, limits, dialects, routes.

mod assembly;
mod frame_guard;
mod handshake;
mod inbound;
mod outbound;
mod rate;
mod vitals;
mod watchdog;

pub use assembly::{Assembled, Assembler};
pub use frame_guard::{FrameGuard, InboundRates};
pub use handshake::{HandshakeRefusal, HandshakeRequest, NATIVE_SUBPROTOCOL, check_handshake, switch_protocols};
pub use inbound::{Inbound, Verdict, close_reason_for};
pub use outbound::OutboundBody;
pub use rate::RateLimit;
pub use vitals::Vitals;
pub use watchdog::{Watchdog, WatchdogSettings};
