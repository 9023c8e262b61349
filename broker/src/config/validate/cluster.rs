use countersign_node_proto::Layout;

use super::Findings;
use crate::config::{ClusterSettings, RedisUrl, Settings};
use crate::link::{Route, To};

/// What nodes share.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    let cluster = &settings.cluster;
    if let Some(url) = &cluster.redis {
        check_url(url, cluster, findings);
    }
    for (key, username) in [("cluster.username", &cluster.username), ("cluster.sentinel_username", &cluster.sentinel_username)]
    {
        if let Some(username) = username {
            findings.text(key, username);
        }
    }
    let files = [
        ("cluster.password_file", &cluster.password_file),
        ("cluster.sentinel_password_file", &cluster.sentinel_password_file),
        ("cluster.ca_file", &cluster.ca_file),
        ("cluster.cert_file", &cluster.cert_file),
        ("cluster.key_file", &cluster.key_file),
    ];
    for (key, file) in files {
        if let Some(file) = file {
            findings.file(key, file, 1);
        }
    }
    if cluster.cert_file.is_some() != cluster.key_file.is_some() {
        let (key, missing) = match cluster.key_file {
            None => ("cluster.cert_file", "cluster.key_file"),
            Some(_) => ("cluster.key_file", "cluster.cert_file"),
        };
        findings.add(key, "a certificate and its key go together", format!("set {missing} too, or leave both out"));
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

/// The URL, and what must fit it.
fn check_url(url: &RedisUrl, cluster: &ClusterSettings, findings: &mut Findings) {
    let Ok(route) = Route::parse(&url.0) else {
        // What is wrong is not repeated: it may hold a password.
        let remedy = "write redis://host:port, rediss://host:port or unix:///path, with an optional database after it, \
                      redis+sentinel://host:port,host:port/master or redis+cluster://host:port,host:port";
        return findings.add("cluster.redis", "this is no URL of a Redis", remedy);
    };
    for (key, file) in [("cluster.ca_file", &cluster.ca_file), ("cluster.cert_file", &cluster.cert_file)] {
        if file.is_some() && !route.tls {
            findings.add(key, "cluster.redis does not use TLS", "write rediss there, or leave this out");
        }
    }
    let sentinel = [
        ("cluster.sentinel_username", cluster.sentinel_username.is_some()),
        ("cluster.sentinel_password_file", cluster.sentinel_password_file.is_some()),
    ];
    for (key, is_set) in sentinel {
        if is_set && !matches!(route.to, To::Sentinel { .. }) {
            findings.add(key, "cluster.redis names no sentinels", "write redis+sentinel:// there, or leave this out");
        }
    }
}
