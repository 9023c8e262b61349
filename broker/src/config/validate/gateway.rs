use actix_web::http::header::HeaderName;

use url::Url;

use super::{Findings, MILLIS_MAX, SECONDS_MAX};
use crate::challenge::Work;
use crate::config::{Carrier, ChallengeForm, ChallengeSettings, GatewaySettings, LimitSettings, Mode, OriginPolicy, Settings};
use crate::edge::{CREDENTIAL_HEADERS, Origin, url_host};
use crate::ticket::{TTL_MS_MAX, TTL_MS_MIN};

/// Largest message that can be configured: 256 MiB. A bound in bytes that no machine could hold bounds nothing.
const MESSAGE_MAX: usize = 1 << 28;
/// Largest count that can be configured.
const COUNT_MAX: usize = 1 << 30;

/// The WebSocket endpoint, the challenge and the authorizer.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    check_origins(&settings.gateway, findings);
    check_hosts(&settings.gateway, findings);
    check_token(&settings.gateway, findings);
    check_sizes(&settings.gateway.limits, findings);
    check_times(&settings.gateway.limits, findings);
    check_challenge(settings, findings);
    check_authorizer(settings, findings);
}

fn check_origins(gateway: &GatewaySettings, findings: &mut Findings) {
    for (index, origin) in gateway.allowed_origins.iter().enumerate() {
        let key = super::Key::from("gateway.allowed_origins").index(index);
        match Origin::parse(origin) {
            Err(error) => findings.add(key, error.to_string(), "write the origin as the browser sends it"),
            Ok(_) if gateway.allowed_origins[..index].contains(origin) => {
                findings.add(key, format!("`{origin}` is on the list twice"), "remove one");
            }
            Ok(_) => {}
        }
    }
    let refuses = |policy| policy == OriginPolicy::Refuse;
    let special = refuses(gateway.missing_origin) && refuses(gateway.null_origin);
    if gateway.allowed_origins.is_empty() && !gateway.allow_own_origin && special {
        findings.add("gateway.allowed_origins", "no handshake can pass", "list the origins of your pages");
    }
}

fn check_hosts(gateway: &GatewaySettings, findings: &mut Findings) {
    for (index, host) in gateway.hosts.iter().enumerate() {
        let key = super::Key::from("gateway.hosts").index(index);
        // A proxy may end TLS, so either default port is one that clients leave out.
        let canonical = url_host(host, true).and_then(|host| url_host(&host, false));
        match canonical {
            None => findings.add(key, format!("`{host}` is no host"), "write a name, with a port if clients dial one"),
            Some(canonical) if canonical != *host => {
                findings.add(
                    key,
                    format!("`{host}` is not what clients see as their URL.host"),
                    format!("write `{canonical}`"),
                );
            }
            Some(_) if gateway.hosts[..index].contains(host) => {
                findings.add(key, format!("`{host}` is on the list twice"), "remove one");
            }
            Some(_) => {}
        }
    }
}

fn check_token(gateway: &GatewaySettings, findings: &mut Findings) {
    let token = &gateway.token;
    let parameter = "it is no name of a query parameter";
    let fits = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
    for (key, name) in
        [("gateway.token.from_query", &token.from_query), ("gateway.subscribe_parameter", &gateway.subscribe_parameter)]
    {
        if name.as_deref().is_some_and(|name| !fits(name)) {
            findings.add(key, parameter, "write letters, digits, `-`, `.`, `_` or `~`");
        }
    }
    if token.from_query.is_some() && token.from_query == gateway.subscribe_parameter {
        findings.add("gateway.subscribe_parameter", "the same parameter carries the token", "give each a name of its own");
    }
    // RFC 6455, 4.1: an entry of Sec-WebSocket-Protocol is a token of RFC 9110, 5.6.2.
    let tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if token.from_subprotocol_prefix.as_deref().is_some_and(|prefix| prefix.is_empty() || !prefix.bytes().all(tchar)) {
        findings.add(
            "gateway.token.from_subprotocol_prefix",
            "it cannot stand in Sec-WebSocket-Protocol",
            "write letters, digits and `.`, such as `countersign.token.`",
        );
    }
    if token.required && !token.from_authorization && token.from_query.is_none() && token.from_subprotocol_prefix.is_none() {
        let remedy = "set from_authorization, from_query or from_subprotocol_prefix";
        findings.add("gateway.token.required", "a token is required and taken from nowhere", remedy);
    }
}

fn check_sizes(limits: &LimitSettings, findings: &mut Findings) {
    let key = |name: &str| super::Key::from("gateway.limits").name(name);
    for (name, value) in [
        ("connections_max", limits.connections_max),
        ("handshakes_in_flight_max", limits.handshakes_in_flight_max),
        ("subscriptions_max", limits.subscriptions_max),
    ] {
        findings.range(key(name), value, 1..=COUNT_MAX);
    }
    findings.range(key("control_frames_per_second"), limits.control_frames_per_second, 1..=u32::MAX);
    findings.range(key("messages_per_second"), limits.messages_per_second, 1..=u32::MAX);
    // Every control frame must fit (RFC 6455, 5.5), and an answer to a challenge.
    findings.range(key("frame_max_bytes"), limits.frame_max_bytes, 125..=MESSAGE_MAX);
    findings.range(key("message_max_bytes"), limits.message_max_bytes, 125..=MESSAGE_MAX);
    findings.range(key("unverified_message_max_bytes"), limits.unverified_message_max_bytes, 512..=MESSAGE_MAX);
    let (message_key, message) = ("gateway.limits.message_max_bytes", limits.message_max_bytes);
    findings.at_most("gateway.limits.frame_max_bytes", limits.frame_max_bytes, message_key, message);
    let unverified = limits.unverified_message_max_bytes;
    findings.at_most("gateway.limits.unverified_message_max_bytes", unverified, message_key, message);
    // A queue that cannot hold one message would make a slow consumer of everybody.
    for (name, value) in
        [("outbound_queue_max_bytes", limits.outbound_queue_max_bytes), ("hub_queue_max_bytes", limits.hub_queue_max_bytes)]
    {
        if value < message {
            findings.add(key(name), format!("{value} is below {message_key}, which is {message}"), "raise this or lower that");
        }
    }
}

fn check_times(limits: &LimitSettings, findings: &mut Findings) {
    findings.millis("gateway.limits.write_stall_timeout_ms", limits.write_stall_timeout_ms, 1..=MILLIS_MAX);
    findings.millis("gateway.limits.message_assembly_timeout_ms", limits.message_assembly_timeout_ms, 1..=MILLIS_MAX);
    findings.millis("gateway.limits.close_timeout_ms", limits.close_timeout_ms, 1..=MILLIS_MAX);
    findings.seconds("gateway.limits.ping_interval_seconds", limits.ping_interval_seconds, 0..=SECONDS_MAX);
    let pong_min = u64::from(limits.ping_interval_seconds.0 > 0);
    findings.seconds("gateway.limits.pong_timeout_seconds", limits.pong_timeout_seconds, pong_min..=SECONDS_MAX);
    findings.seconds("gateway.limits.idle_timeout_seconds", limits.idle_timeout_seconds, 0..=SECONDS_MAX);
    findings.seconds("gateway.limits.connection_age_max_seconds", limits.connection_age_max_seconds, 0..=SECONDS_MAX);
}

fn check_challenge(settings: &Settings, findings: &mut Findings) {
    let challenge = &settings.challenge;
    findings.millis("challenge.hello_timeout_ms", challenge.hello_timeout_ms, 1..=60_000);
    findings.millis("challenge.answer_timeout_ms", challenge.answer_timeout_ms, 2_000..=30_000);
    findings.range("challenge.program_operations", challenge.program_operations, 32..=1_024);
    findings.range("challenge.pending_max", challenge.pending_max, 1..=COUNT_MAX);
    findings.range("challenge.pending_per_network_max", challenge.pending_per_network_max, 0..=COUNT_MAX);
    findings.range("challenge.pending_per_origin_max", challenge.pending_per_origin_max, 0..=COUNT_MAX);
    findings.seconds("challenge.again.every_seconds", challenge.again.every_seconds, 0..=SECONDS_MAX);
    if (1..60).contains(&challenge.again.every_seconds.0) {
        let message = "a challenge would hardly be over before the next".to_owned();
        findings.add("challenge.again.every_seconds", message, "write 60 or more, or 0 for never");
    }
    check_work(challenge, findings);
    check_files(challenge, findings);
    let ahead = challenge.signing_key_publish_ahead_seconds;
    findings.seconds("challenge.signing_key_publish_ahead_seconds", ahead, 0..=SECONDS_MAX);
    if let Some(folder) = &challenge.signing_keys_dir {
        findings.folder("challenge.signing_keys_dir", folder);
    }
    let forms = &challenge.forms;
    let twice = (1..forms.len()).find(|place| forms[..*place].contains(&forms[*place]));
    if let Some(place) = twice {
        let message = format!("`{}` stands there twice", forms[place].name());
        findings.add("challenge.forms", message, "name each form once, the preferred first");
    } else if forms.is_empty() && challenge.enabled {
        let message = "no native client could get a challenge".to_owned();
        findings.add("challenge.forms", message, "write `forms = [\"vm\"]`, or `enabled = false`");
    }
}

/// The folder itself is read when the node starts.
fn check_files(challenge: &ChallengeSettings, findings: &mut Findings) {
    let prefix = &challenge.files_url_prefix;
    let parsed = Url::parse("http://h").and_then(|base| base.join(prefix));
    let is_path = prefix.starts_with('/')
        && prefix.ends_with('/')
        && parsed.is_ok_and(|url| url.path() == prefix && url.host_str() == Some("h"));
    if !is_path {
        let message = format!("`{prefix}` is no path of a folder");
        findings.add("challenge.files_url_prefix", message, "write one that begins and ends with `/`, such as `/assets/`");
    }
    for (index, origin) in challenge.files_origins.iter().enumerate() {
        if let Err(error) = Origin::parse(origin) {
            let key = super::Key::from("challenge.files_origins").index(index);
            findings.add(key, error.to_string(), "write the origin as the browser sends it");
        }
    }
    if challenge.files_dir.is_some() && challenge.enabled && !challenge.forms.contains(&ChallengeForm::Vm) {
        let message = "files are asked about in the form `vm` only, which challenge.forms does not have";
        findings.add("challenge.files_dir", message, "add \"vm\" to challenge.forms, or leave the folder out");
    }
}

/// An honest page must be able to finish within half of the time: the sum of some puzzles seldom takes twice its mean.
fn check_work(challenge: &ChallengeSettings, findings: &mut Findings) {
    let work = &challenge.work;
    findings.range("challenge.work.from_percent", work.from_percent, 0..=100);
    findings.range("challenge.work.bits", work.bits, 1..=Work::BITS_MAX);
    findings.range("challenge.work.bits_max", work.bits_max, 1..=Work::BITS_MAX);
    findings.range("challenge.work.count", work.count, 1..=Work::COUNT_MAX);
    findings.at_most("challenge.work.bits", work.bits, "challenge.work.bits_max", work.bits_max);
    let most = Work { bits: work.bits_max.min(Work::BITS_MAX), count: work.count };
    let slow_page_ms = most.digests() / Work::SLOW_PAGE_PER_MS;
    if work.enabled && slow_page_ms > challenge.answer_timeout_ms.0 / 2 {
        let message = format!("a slow page would take {slow_page_ms} ms, more than half of challenge.answer_timeout_ms");
        findings.add("challenge.work.bits_max", message, "lower it, or count, or raise that");
    }
}

fn check_authorizer(settings: &Settings, findings: &mut Findings) {
    let authorizer = &settings.authorizer;
    if HeaderName::from_bytes(authorizer.header.as_bytes()).is_err() {
        findings.add(
            "authorizer.header",
            format!("`{}` is no header name", authorizer.header),
            "write one, such as `connectionId`",
        );
    } else if ["authorization", "origin", "host", "connection", "upgrade", "cookie", "content-length", "transfer-encoding"]
        .into_iter()
        .chain(CREDENTIAL_HEADERS)
        .collect::<Vec<_>>()
        .contains(&authorizer.header.to_ascii_lowercase().as_str())
    {
        let message = format!("`{}` has a meaning of its own", authorizer.header);
        findings.add("authorizer.header", message, "choose another, such as `connectionId`");
    }
    let carried = settings.challenge.enabled && settings.challenge.carrier == Carrier::EchoFunction;
    if carried && authorizer.mode > Mode::Bearer {
        let message =
            format!("clients of challenge.carrier = \"echo_function\" have no key, and so no {}", authorizer.mode.name());
        findings.add("authorizer.mode", message, "write `mode = \"bearer\"`, or `carrier = \"none\"`");
    }
    findings.millis("authorizer.ticket.ttl_ms", authorizer.ticket.ttl_ms, TTL_MS_MIN..=TTL_MS_MAX);
    findings.seconds("authorizer.cache_ttl_seconds", authorizer.cache_ttl_seconds, 0..=86_400);
    findings.millis("authorizer.cache_denial_ttl_ms", authorizer.cache_denial_ttl_ms, 0..=60_000);
    findings.range("authorizer.cache_capacity", authorizer.cache_capacity, 1..=COUNT_MAX);
    findings.millis("authorizer.stale_limit_ms", authorizer.stale_limit_ms, 1..=MILLIS_MAX);
    findings.seconds("authorizer.allow_max_age_seconds", authorizer.allow_max_age_seconds, 0..=86_400);
    findings.millis("authorizer.registry_timeout_ms", authorizer.registry_timeout_ms, 1..=60_000);
}
