//! What every HTTP endpoint of a node shares: origins and CORS, the shape of an error, the client's address;
//! and the listeners on which they stand.

mod address;
mod cors;
mod error;
mod host;
mod listener;
mod origin;
mod socket;
mod tls;
mod upgraded;
mod vouch;

pub use address::{ClientAddress, network, prefix};
pub use cors::{CREDENTIAL_HEADERS, Cors};
pub use error::{Refusal, refuse};
pub use host::{HostList, HostVerdict, UNLISTED_HOST, UNREADABLE_HOST, url_host};
pub use listener::{ListenerSpec, bind, serve, worker_count};
pub use origin::{Origin, OriginError, OriginList, OriginVerdict};
pub use socket::{Socket, SocketControl};
pub use tls::{Tls, TlsError};
pub use upgraded::{DirectWrite, DirectWriter};
pub use vouch::{IdentityHeaders, NO_VALUE, identity_value};
