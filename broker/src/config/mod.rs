//! The configuration: typed settings, one struct per component, and the loader.
//!
//! File < environment < flags. Unknown keys are refused with a suggestion, and every fault is told at once. Environment and
//! flags come in as arguments; reading binds nothing and writes nothing.

mod authorizer;
mod challenge;
mod cluster;
mod environment;
mod fault;
mod gateway;
mod identity;
mod key;
mod load;
mod mode;
mod print;
mod routing;
mod server;
mod shape;
#[cfg(test)]
mod tests;
mod tree;
mod trial;
mod units;
mod validate;

use serde::{Deserialize, Serialize};

pub use authorizer::{
    AuthorizerSettings, CallFrom, LogFormat, ManagementSettings, ProtectedResource, Require, TelemetrySettings, TicketSettings,
};
pub use challenge::{AgainSettings, Carrier, ChallengeForm, ChallengeSettings, OnFailure, SignPrograms, WorkSettings};
pub use cluster::{ClusterSettings, RedisUrl};
pub use environment::Environment;
pub use fault::{ConfigFaults, Fault, Place};
pub use gateway::{GatewaySettings, LimitSettings, OriginPolicy, TokenAtHandshake};
pub use identity::{IdentitySettings, IssuerSettings, PasswordPolicy, PoolAlgorithm, PoolSettings, PoolStore};
pub use key::{Key, Step};
pub use load::{Check, Flag, load};
pub use mode::Mode;
pub use print::{DEFAULT_FILE, environment_listing};
pub use routing::{Builtin, ChannelRule, PublishRoute, Requirement, RouteSettings, RouteTable};
pub use server::{DrainSettings, ServerSettings, TlsSettings};
pub(crate) use shape::ADDRESS_WANTED;
pub use units::{Millis, Seconds};

/// Everything that a node can be told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Listeners, data, drain.
    pub server: ServerSettings,
    /// What nodes share.
    pub cluster: ClusterSettings,
    /// The WebSocket endpoint.
    pub gateway: GatewaySettings,
    /// The challenge.
    pub challenge: ChallengeSettings,
    /// Tokens and users.
    pub identity: IdentitySettings,
    /// The authorizer.
    pub authorizer: AuthorizerSettings,
    /// The server API.
    pub management: ManagementSettings,
    /// Logs.
    pub telemetry: TelemetrySettings,
    /// What a client's `action` does. Empty: the built-ins under their own names.
    pub routes: RouteTable,
    /// Who may use which channel; deny by default.
    pub channels: Vec<ChannelRule>,
    /// Resources that the node itself protects and answers.
    pub protected: Vec<ProtectedResource>,
}
