use std::net::SocketAddr;

use super::{Findings, MILLIS_MAX};
use crate::config::{Settings, TlsSettings};

/// Listeners, data, drain, logs, the server API.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    let server = &settings.server;
    if collide(server.listen, server.admin_listen) {
        let message = format!("{} collides with server.listen, {}", server.admin_listen, server.listen);
        findings.add("server.admin_listen", message, "give each listener a port of its own");
    }
    if server.data_dir.as_os_str().is_empty() {
        findings.add("server.data_dir", "the path is empty", "name a folder");
    }
    findings.range("server.workers", server.workers, 0..=1_024);
    findings.millis("server.request_head_timeout_ms", server.request_head_timeout_ms, 1..=MILLIS_MAX);
    findings.range("server.request_body_max_bytes", server.request_body_max_bytes, 1..=1 << 30);
    for (key, tls) in [("server.tls", &server.tls), ("server.admin_tls", &server.admin_tls)] {
        if let Some(tls) = tls {
            check_tls(key, tls, findings);
        }
    }
    let drain = &server.drain;
    findings.millis("server.drain.notice_ms", drain.notice_ms, 0..=MILLIS_MAX);
    findings.millis("server.drain.window_ms", drain.window_ms, 0..=MILLIS_MAX);
    findings.millis("server.drain.grace_ms", drain.grace_ms, 0..=MILLIS_MAX);
    findings.seconds("server.drain.retry_hint_max_seconds", drain.retry_hint_max_seconds, 0..=3_600);
    if let Some(file) = &settings.management.api_keys_file {
        findings.file("management.api_keys_file", file, 1);
    }
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&settings.telemetry.log_filter) {
        findings.add("telemetry.log_filter", error.to_string(), "write a filter such as `info` or `info,countersign=debug`");
    }
}

/// Would the second listener find its port taken?
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_port = a.port() == b.port() && a.port() != 0;
    same_port && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn check_tls(key: &str, tls: &TlsSettings, findings: &mut Findings) {
    findings.file(format!("{key}.cert_file").as_str(), &tls.cert_file, 1);
    findings.file(format!("{key}.key_file").as_str(), &tls.key_file, 1);
}
