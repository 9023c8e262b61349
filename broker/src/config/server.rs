use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::units::{Millis, Seconds};

/// Where a node listens, keeps its data, and how it goes away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Sockets, sign-in, protected resources. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Decisions, metrics, health, administration: a server of its own, so that a full gateway never starves it.
    pub admin_listen: SocketAddr,
    /// Users, refresh tokens and signing keys. Made if it is missing.
    pub data_dir: PathBuf,
    /// Threads that serve sockets; 0 means one per core.
    pub workers: usize,
    /// Proxies whose `X-Forwarded-For` is believed, as CIDR blocks. Empty: none.
    pub trusted_proxies: Vec<IpNet>,
    /// Longest time from the first byte of a request to the end of its head.
    pub request_head_timeout_ms: Millis,
    /// Largest request body in bytes, on every HTTP endpoint.
    pub request_body_max_bytes: usize,
    /// Serve the page that shows the whole flow under `/`. On when a node starts without a configuration file.
    pub demo_page: bool,
    /// TLS on the public listener.
    pub tls: Option<TlsSettings>,
    /// TLS on the administrative listener.
    pub admin_tls: Option<TlsSettings>,
    /// What happens on SIGTERM.
    pub drain: DrainSettings,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            data_dir: PathBuf::from("data"),
            workers: 0,
            trusted_proxies: Vec::new(),
            request_head_timeout_ms: Millis(5_000),
            request_body_max_bytes: 131_072,
            demo_page: false,
            tls: None,
            admin_tls: None,
            drain: DrainSettings::default(),
        }
    }
}

/// A certificate and its key. Both files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// PEM file with the certificate chain, leaf first.
    pub cert_file: PathBuf,
    /// PEM file with the private key.
    pub key_file: PathBuf,
}

/// SIGTERM: unready, wait for the balancer, close sockets paced over the window, cut stragglers, exit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrainSettings {
    /// Between "not ready" and the first close: the time that a balancer needs to notice.
    pub notice_ms: Millis,
    /// The closes are spread evenly over this window.
    pub window_ms: Millis,
    /// Grace for closing handshakes after the window; then stragglers are cut.
    pub grace_ms: Millis,
    /// Upper end of the random reconnect delay that the close reason tells clients.
    pub retry_hint_max_seconds: Seconds,
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self { notice_ms: Millis(0), window_ms: Millis(5_000), grace_ms: Millis(2_000), retry_hint_max_seconds: Seconds(10) }
    }
}
