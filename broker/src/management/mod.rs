//! The server API: publish and disconnect, for programs with an API key.
//!
//! - [`ApiKeys`]: who may.
//! - [`Disconnector`]: ends connections wherever they are; identity uses it too when a user is revoked.
//! - [`Management`]: the HTTP endpoints.

mod api_keys;
mod disconnect;
mod http;

pub use api_keys::{ApiKeyError, ApiKeys};
pub use disconnect::{Closed, DisconnectError, Disconnector};
pub use http::Management;
