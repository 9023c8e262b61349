use url::{Host, Url};

use super::{Findings, SECONDS_MAX};
use crate::config::key::Key;
use crate::config::{IdentitySettings, IssuerSettings, PoolSettings, PoolStore, Settings};

/// Algorithms that sign with a shared secret.
const HMAC: &[&str] = &["HS256", "HS384", "HS512"];
/// Algorithms that sign with a private key.
const ASYMMETRIC: &[&str] = &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];
/// An HMAC secret is as long as its hash, at least (RFC 7518, 3.2).
const SECRET_BYTES_MIN: u64 = 32;

/// Tokens, issuers and the user pool.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    let identity = &settings.identity;
    findings.seconds("identity.leeway_seconds", identity.leeway_seconds, 0..=60);
    findings.range("identity.token_max_bytes", identity.token_max_bytes, 256..=1 << 20);
    for (index, issuer) in identity.issuers.iter().enumerate() {
        check_issuer(&Key::from("identity.issuers").index(index), issuer, findings);
        check_unique(identity, index, findings);
    }
    if identity.pool.enabled {
        check_store(settings, findings);
        check_pool(&identity.pool, findings);
        check_lockout(&identity.pool, findings);
    }
}

fn check_issuer(key: &Key, issuer: &IssuerSettings, findings: &mut Findings) {
    findings.text(key.clone().name("name"), &issuer.name);
    findings.text(key.clone().name("issuer"), &issuer.issuer);
    if issuer.audiences.iter().all(String::is_empty) {
        findings.add(key.clone().name("audiences"), "no audience is named", "name the client ids that tokens are for");
    }
    check_sources(key, issuer, findings);
    check_algorithms(key, issuer, findings);
    if let Some(file) = &issuer.hmac_secret_file {
        findings.file(key.clone().name("hmac_secret_file"), file, SECRET_BYTES_MIN);
    }
    if let Some(file) = &issuer.public_key_file {
        findings.file(key.clone().name("public_key_file"), file, 1);
    }
    if let Some(fault) = issuer.jwks_url.as_deref().and_then(fault_of_jwks_url) {
        findings.add(key.clone().name("jwks_url"), fault, "write an https URL, or http with a loopback address");
    }
}

fn check_sources(key: &Key, issuer: &IssuerSettings, findings: &mut Findings) {
    let sources = [
        ("hmac_secret_file", issuer.hmac_secret_file.is_some()),
        ("public_key_file", issuer.public_key_file.is_some()),
        ("jwks_url", issuer.jwks_url.is_some()),
    ];
    let set: Vec<&str> = sources.into_iter().filter_map(|(name, is_set)| is_set.then_some(name)).collect();
    let message = match set.len() {
        1 => return,
        0 => "no key is named".to_owned(),
        _ => format!("{} exclude each other", set.join(" and ")),
    };
    findings.add(key.clone(), message, "set exactly one of hmac_secret_file, public_key_file and jwks_url");
}

/// An algorithm must fit the kind of key: a public key read as an HMAC secret would let anyone sign.
fn check_algorithms(key: &Key, issuer: &IssuerSettings, findings: &mut Findings) {
    let fitting = if issuer.hmac_secret_file.is_some() { HMAC } else { ASYMMETRIC };
    if issuer.algorithms.is_empty() {
        findings.add(key.clone().name("algorithms"), "no algorithm is named", format!("name some of {}", fitting.join(", ")));
    }
    for (index, algorithm) in issuer.algorithms.iter().enumerate() {
        let name = algorithm.as_str();
        let message = match () {
            () if fitting.contains(&name) => continue,
            () if HMAC.contains(&name) || ASYMMETRIC.contains(&name) => format!("{name} does not fit the kind of key"),
            () if name.eq_ignore_ascii_case("none") => "unsigned tokens are never accepted".to_owned(),
            () => format!("`{name}` is no algorithm that is known here"),
        };
        let key = key.clone().name("algorithms").index(index);
        findings.add(key, message, format!("write one of {}", fitting.join(", ")));
    }
}

/// A token is matched to its issuer by `iss`, a log line by the name.
fn check_unique(identity: &IdentitySettings, index: usize, findings: &mut Findings) {
    let key = Key::from("identity.issuers").index(index);
    let issuer = &identity.issuers[index];
    let earlier = &identity.issuers[..index];
    if issuer.name == "pool" || earlier.iter().any(|other| other.name == issuer.name) {
        let message = format!("`{}` is taken", issuer.name);
        findings.add(key.clone().name("name"), message, "names are unique, and `pool` is the node's own");
    }
    let own = identity.pool.enabled && identity.pool.issuer.as_ref() == Some(&issuer.issuer);
    if own || earlier.iter().any(|other| other.issuer == issuer.issuer) {
        let message = format!("`{}` is another issuer's value too", issuer.issuer);
        findings.add(key.name("issuer"), message, "keep one entry per value of `iss`");
    }
}

/// What is wrong with the URL of a key set.
fn fault_of_jwks_url(text: &str) -> Option<String> {
    let Ok(url) = Url::parse(text) else { return Some(format!("`{text}` is no URL")) };
    if !url.username().is_empty() || url.password().is_some() {
        // The URL is in every log line about its keys, so its credentials must not be.
        return Some("the URL carries credentials".to_owned());
    }
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => None,
        "http" if loopback => None,
        "http" => Some("keys must not travel over plain http".to_owned()),
        other => Some(format!("`{other}` is no scheme that keys can be fetched with")),
    }
}

/// Users that nodes share are worth something only if each node accepts the others' tokens.
fn check_store(settings: &Settings, findings: &mut Findings) {
    let pool = &settings.identity.pool;
    if pool.store == PoolStore::Redis {
        if settings.cluster.redis.is_none() {
            let remedy = "name one in cluster.redis, or write \"embedded\" here";
            findings.add("identity.pool.store", "users are to be kept in Redis, and there is none", remedy);
        }
        if pool.issuer.is_none() {
            let message = "nodes that share users must issue tokens under one name";
            findings.add("identity.pool.issuer", message, "write the URL under which clients reach the cluster");
        }
    }
    if let Some(folder) = &pool.keys_dir {
        findings.folder("identity.pool.keys_dir", folder);
    }
}

fn check_pool(pool: &PoolSettings, findings: &mut Findings) {
    if let Some(issuer) = &pool.issuer {
        let web = Url::parse(issuer)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none());
        if !web {
            let message = format!("`{issuer}` is no http(s) URL without query and fragment");
            findings.add("identity.pool.issuer", message, "write the URL under which clients reach this node");
        }
    }
    findings.text("identity.pool.client_id", &pool.client_id);
    if pool.token_use.is_empty() {
        findings.add("identity.pool.token_use", "no kind of token is accepted", "write `id`, `access` or both");
    }
    for (index, token_use) in pool.token_use.iter().enumerate() {
        if !["id", "access"].contains(&token_use.as_str()) {
            let key = Key::from("identity.pool.token_use").index(index);
            findings.add(key, format!("the pool issues no `{token_use}` tokens"), "write `id` or `access`");
        }
    }
    findings.seconds("identity.pool.token_lifetime_seconds", pool.token_lifetime_seconds, 1..=SECONDS_MAX);
    findings.seconds("identity.pool.refresh_lifetime_seconds", pool.refresh_lifetime_seconds, 1..=SECONDS_MAX);
    findings.seconds("identity.pool.refresh_idle_seconds", pool.refresh_idle_seconds, 1..=SECONDS_MAX);
    findings.at_most(
        "identity.pool.refresh_idle_seconds",
        pool.refresh_idle_seconds.0,
        "identity.pool.refresh_lifetime_seconds",
        pool.refresh_lifetime_seconds.0,
    );
    // Longer, and a stolen token that was rotated away stays useful.
    findings.millis("identity.pool.rotation_grace_ms", pool.rotation_grace_ms, 0..=5_000);
    let temporary = pool.temporary_password_lifetime_seconds;
    findings.seconds("identity.pool.temporary_password_lifetime_seconds", temporary, 1..=SECONDS_MAX);
    findings.seconds("identity.pool.key_publish_ahead_seconds", pool.key_publish_ahead_seconds, 0..=SECONDS_MAX);
}

fn check_lockout(pool: &PoolSettings, findings: &mut Findings) {
    findings.range("identity.pool.lockout_threshold", pool.lockout_threshold, 1..=10_000);
    findings.seconds("identity.pool.lockout_base_seconds", pool.lockout_base_seconds, 1..=SECONDS_MAX);
    findings.at_most(
        "identity.pool.lockout_base_seconds",
        pool.lockout_base_seconds.0,
        "identity.pool.lockout_max_seconds",
        pool.lockout_max_seconds.0,
    );
    findings.seconds("identity.pool.lockout_max_seconds", pool.lockout_max_seconds, 1..=SECONDS_MAX);
    // Argon2 needs 8 KiB a lane (RFC 9106, 3.1); above 1 GiB a handful of sign-ins ends the node.
    findings.range("identity.pool.argon2_memory_kib", pool.argon2_memory_kib, 8..=1_048_576);
    findings.range("identity.pool.argon2_iterations", pool.argon2_iterations, 1..=100);
    findings.range("identity.pool.hash_concurrency", pool.hash_concurrency, 0..=1_024);
    findings.range("identity.pool.hash_queue_max", pool.hash_queue_max, 1..=1_000_000);
}
