use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::units::{Millis, Seconds};

/// What nodes share. Without a Redis a node is alone and needs nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterSettings {
    /// Redis 7 or newer. One server: `redis://`, `rediss://` (TLS) or `unix://`. The master that sentinels name:
    /// `redis+sentinel://host,host,host/<master>`. A Redis Cluster, found from any of its servers: `redis+cluster://host,host`.
    /// Both with TLS as `rediss+…`. Unset: this node is alone.
    pub redis: Option<RedisUrl>,
    /// User of an ACL. Stands above the one in the URL.
    pub username: Option<String>,
    /// File with the password, without one line break at its end. Stands above the one in the URL.
    pub password_file: Option<PathBuf>,
    /// User of the sentinels, where they ask for one: they know none of those of Redis.
    pub sentinel_username: Option<String>,
    /// File with the password of the sentinels, likewise.
    pub sentinel_password_file: Option<PathBuf>,
    /// PEM file with the authorities that a `rediss://` server is checked against. Unset: those of the web.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the certificate that this node shows to a `rediss://` server, and those between it and an authority.
    pub cert_file: Option<PathBuf>,
    /// PEM file with its key.
    pub key_file: Option<PathBuf>,
    /// Begins every key and channel: two clusters may share one Redis.
    pub prefix: String,
    /// Longest wait for a connection, greeting included.
    pub connect_timeout_ms: Millis,
    /// Longest wait for an answer of Redis.
    pub command_timeout_ms: Millis,
    /// The connections of a killed node count for at most this long.
    pub lease_seconds: Seconds,
    /// Nodes tell each other that they live, and prove that they hear, at this interval.
    pub heartbeat_ms: Millis,
    /// A link on which nothing sent is heard for this long is built anew.
    pub deaf_after_ms: Millis,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            redis: None,
            username: None,
            password_file: None,
            sentinel_username: None,
            sentinel_password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            prefix: "countersign".to_owned(),
            connect_timeout_ms: Millis(1_000),
            command_timeout_ms: Millis(1_000),
            lease_seconds: Seconds(6),
            heartbeat_ms: Millis(1_000),
            deaf_after_ms: Millis(3_000),
        }
    }
}

/// The URL of a Redis, which may hold a password: `Debug` hides everything before the host.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RedisUrl(pub String);

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        // A unix URL may carry its password in the query.
        let host = host.split_once('?').map_or(host, |(host, _)| host);
        write!(f, "{scheme}://{host}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_debug_form_of_a_url_has_no_secret() {
        for (url, shown) in [
            ("redis://ada:s3cret@redis.example:6379/1", "redis://redis.example:6379/1"),
            ("rediss://:p@ss@redis.example", "rediss://redis.example"),
            ("unix:///run/redis.sock?pass=s3cret", "unix:///run/redis.sock"),
            ("redis+sentinel://ada:p@ss@a:1,b:2/main", "redis+sentinel://a:1,b:2/main"),
            ("nonsense", "://nonsense"),
        ] {
            assert_eq!(format!("{:?}", RedisUrl(url.to_owned())), shown);
        }
    }
}
