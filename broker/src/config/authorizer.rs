use serde::{Deserialize, Serialize};

use super::mode::Mode;
use super::units::{Millis, Seconds};

/// The endpoint that a reverse proxy asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthorizerSettings {
    /// Path of the endpoint; sub-paths answer too.
    pub path: String,
    /// Request header that carries the connection id.
    pub header: String,
    /// What a call must show where its path asks for nothing else.
    pub require: Require,
    /// What a call must at least show of its connection, where one is asked for.
    pub mode: Mode,
    /// Where the proxy says which call it asks about. Read from nowhere else.
    pub call_from: CallFrom,
    /// Tickets.
    pub ticket: TicketSettings,
    /// Life of a cached allow. A pushed invalidation ends it earlier.
    pub cache_ttl_seconds: Seconds,
    /// Life of a cached denial.
    pub cache_denial_ttl_ms: Millis,
    /// Entries of the cache.
    pub cache_capacity: usize,
    /// Remote allows are served from the cache only while the invalidation stream was heard within this.
    pub stale_limit_ms: Millis,
    /// `max-age` of an allow, for proxies that keep answers. 0: `no-store`.
    pub allow_max_age_seconds: Seconds,
    /// Longest wait for the registry, or for another node's answer; then 503.
    pub registry_timeout_ms: Millis,
}

impl Default for AuthorizerSettings {
    fn default() -> Self {
        Self {
            path: "/authorize".to_owned(),
            header: "connectionId".to_owned(),
            require: Require::Verified,
            mode: Mode::Ticket,
            call_from: CallFrom::XOriginal,
            ticket: TicketSettings::default(),
            cache_ttl_seconds: Seconds(300),
            cache_denial_ttl_ms: Millis(1_000),
            cache_capacity: 100_000,
            stale_limit_ms: Millis(5_000),
            allow_max_age_seconds: Seconds(0),
            registry_timeout_ms: Millis(1_000),
        }
    }
}

/// Where method, host, path and query of the original call stand in a proxy's question. A proof is for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallFrom {
    /// `X-Original-Method` and `X-Original-URL`, with the scheme: nginx.
    XOriginal,
    /// `X-Forwarded-Method`, `X-Forwarded-Host` and `X-Forwarded-Uri`: Traefik, Caddy, HAProxy.
    XForwarded,
    /// The question's own request line behind the endpoint's path, and its `Host`: Envoy, Gateway API.
    Request,
}

/// Tickets, which the node pushes to verified pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TicketSettings {
    /// Life of one. Range: 5,000 to 60,000.
    pub ttl_ms: Millis,
}

impl Default for TicketSettings {
    fn default() -> Self {
        Self { ttl_ms: Millis(15_000) }
    }
}

/// What a call must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Require {
    /// A valid token in `Authorization: Bearer`; no connection is asked for.
    Token,
    /// The id of a live, verified connection.
    Verified,
    /// Both, of one principal.
    Both,
}

/// A resource that the node itself protects and answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtectedResource {
    /// Exact path on the public listener.
    pub path: String,
    /// What a call must show. Unset: as the authorizer says.
    #[serde(default)]
    pub require: Option<Require>,
    /// What it must at least show of its connection. Unset: as the authorizer says.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// The JSON body of the answer.
    pub body: serde_json::Value,
}

/// The server API on the administrative listener and, behind the same key, on the public one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ManagementSettings {
    /// File whose lines are accepted API keys. Unset: a key is made at the first start, in the data folder.
    pub api_keys_file: Option<std::path::PathBuf>,
    /// Serve the API on the public listener too.
    pub on_public_listener: bool,
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// Filter, such as `info` or `countersign=debug`.
    pub log_filter: String,
    /// Shape of the log.
    pub log_format: LogFormat,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { log_filter: "info".to_owned(), log_format: LogFormat::Auto }
    }
}

/// Shape of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// Human.
    Human,
    /// One JSON object a line.
    Json,
}
