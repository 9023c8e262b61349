//! What every HTTP endpoint of a node shares: origins and CORS, the shape of an error, the client's address.

mod address;
mod cors;
mod error;
mod origin;
mod socket;

pub use address::ClientAddress;
pub use cors::Cors;
pub use error::{Refusal, refuse};
pub use origin::{Origin, OriginError, OriginList, OriginVerdict};
pub use socket::{Socket, SocketControl};
