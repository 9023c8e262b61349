use countersign_node_proto::Layout;
use redis::IntoConnectionInfo as _;

use super::Findings;
use crate::config::Settings;

/// What nodes share.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    let cluster = &settings.cluster;
    if let Some(url) = &cluster.redis {
        let tls = url.0.starts_with("rediss://");
        if url.0.as_str().into_connection_info().is_err() {
            // What is wrong is not repeated: it may hold a password.
            let remedy = "write redis://host:port, rediss://host:port or unix:///path, with an optional database after it";
            findings.add("cluster.redis", "this is no URL of a Redis", remedy);
        } else if cluster.ca_file.is_some() && !tls {
            findings.add("cluster.ca_file", "cluster.redis does not use TLS", "write rediss:// there, or leave this out");
        }
    }
    if let Some(username) = &cluster.username {
        findings.text("cluster.username", username);
    }
    for (key, file) in [("cluster.password_file", &cluster.password_file), ("cluster.ca_file", &cluster.ca_file)] {
        if let Some(file) = file {
            findings.file(key, file, 1);
        }
    }
    if let Err(error) = Layout::new(&cluster.prefix) {
        findings.add("cluster.prefix", format!("`{}` cannot be used", cluster.prefix), error.to_string());
    }
    findings.millis("cluster.connect_timeout_ms", cluster.connect_timeout_ms, 10..=60_000);
    findings.millis("cluster.command_timeout_ms", cluster.command_timeout_ms, 10..=60_000);
    findings.seconds("cluster.lease_seconds", cluster.lease_seconds, 2..=300);
    findings.millis("cluster.heartbeat_ms", cluster.heartbeat_ms, 50..=10_000);
    findings.millis("cluster.deaf_after_ms", cluster.deaf_after_ms, 200..=60_000);
    let lease_ms = cluster.lease_seconds.0.saturating_mul(1_000);
    findings.at_most("cluster.heartbeat_ms", cluster.heartbeat_ms.0, "a third of cluster.lease_seconds", lease_ms / 3);
    let heartbeats = cluster.deaf_after_ms.0 / 2;
    findings.at_most("cluster.heartbeat_ms", cluster.heartbeat_ms.0, "half of cluster.deaf_after_ms", heartbeats);
}
