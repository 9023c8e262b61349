//! The server API: publish, disconnect and challenge again, for programs with an API key.
//!
//! - [`ApiKeys`]: who may.
//! - [`Challenger`]: has connections challenged again wherever they are.
//! - [`Disconnector`]: ends connections wherever they are; identity uses it too when a user is revoked.
//! - [`Management`]: the HTTP endpoints.

mod api_keys;
mod challenge;
mod disconnect;
mod http;

pub use api_keys::{ApiKeyError, ApiKeys};
pub use challenge::{ChallengeOrderError, Challenger};
pub use disconnect::{Closed, DisconnectError, Disconnector};
pub use http::Management;
