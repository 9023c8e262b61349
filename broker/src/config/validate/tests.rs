use super::*;

/// The keys of the faults of a configuration.
fn keys(text: &str) -> Vec<String> {
    let settings: Settings = toml::from_str(text).unwrap();
    let faults = settings.validate().err();
    faults.iter().flat_map(ConfigFaults::iter).map(|fault| fault.key.to_string()).collect()
}

/// One fault, of this key.
fn check(text: &str, key: &str) {
    assert_eq!(keys(text), [key], "{text}");
}

/// An issuer with these lines beside its name.
fn issuer(lines: &str) -> String {
    format!("[[identity.issuers]]\nname = 'a'\nissuer = 'https://a.example'\n{lines}")
}

#[test]
fn the_default_and_the_trial_make_sense() {
    assert_eq!(Settings::default().validate(), Ok(()));
    assert_eq!(Settings::trial().validate(), Ok(()));
}

#[test]
fn origins_are_what_browsers_send() {
    check("gateway.allowed_origins = ['https://a.example', 'https://a.example/']", "gateway.allowed_origins[1]");
    check("gateway.allowed_origins = ['https://*.example']", "gateway.allowed_origins[0]");
    check("gateway.allowed_origins = ['http://a.example', 'http://a.example']", "gateway.allowed_origins[1]");
    check("gateway.allow_own_origin = false", "gateway.allowed_origins");
    check("gateway.hosts = ['a.example', 'https://b.example']", "gateway.hosts[1]");
    check("gateway.hosts = ['A.example']", "gateway.hosts[0]");
    check("gateway.hosts = ['a.example:443']", "gateway.hosts[0]");
    check("gateway.hosts = ['a.example', 'a.example']", "gateway.hosts[1]");
    assert!(keys("gateway = { allow_own_origin = false, missing_origin = 'allow' }").is_empty());
}

#[test]
fn paths_are_plain_and_do_not_clash() {
    check("gateway.path = 'ws'", "gateway.path");
    check("gateway.path = '/ws/'", "gateway.path");
    check("gateway.path = '/a//b'", "gateway.path");
    check("gateway.path = '/../ws'", "gateway.path");
    check("gateway.path = '/{id}'", "gateway.path");
    check("authorizer.path = '/ws'", "authorizer.path");
    check("authorizer.path = '/metrics'", "authorizer.path");
    check("identity.pool.auth_path = '/authorize/in'", "identity.pool.auth_path");
    check("[[protected]]\npath = '/a'\nrequire = 'token'\nmode = 'proof'\nbody = 1", "protected[0].mode");
    check("[[protected]]\npath = '/auth/refresh'\nbody = 1", "protected[0].path");
    check("[[protected]]\npath = '/a'\nbody = 1\n[[protected]]\npath = '/a'\nbody = 1", "protected[1].path");
    check("gateway.path = '/'\nserver.demo_page = true", "gateway.path");
    check("management.on_public_listener = true\ngateway.path = '/api/v1/ws'", "gateway.path");
    check("gateway.path = '/.well-known/jwks.json'", "gateway.path");
    check("gateway.path = '/sdk/socket'", "gateway.path");
    check("challenge.forms = ['frame']\ngateway.path = '/challenge/socket'", "gateway.path");
    assert!(keys("gateway.path = '/challenge/socket'").is_empty());
    assert!(keys("gateway.path = '/'").is_empty());
    assert!(keys("gateway.path = '/authorized'").is_empty());
    assert!(keys("gateway.path = '/sdks'").is_empty());
    assert!(keys("gateway.path = '/auth'\nidentity.pool.enabled = false").is_empty());
}

#[test]
fn listeners_have_ports_of_their_own() {
    check("server.listen = '0.0.0.0:9090'", "server.admin_listen");
    check("server.admin_listen = '127.0.0.1:8080'", "server.admin_listen");
    assert!(keys("server = { listen = '127.0.0.1:0', admin_listen = '127.0.0.1:0' }").is_empty());
    assert!(keys("server = { listen = '127.0.0.2:9090' }").is_empty());
}

#[test]
fn limits_bound_and_fit_each_other() {
    for name in [
        "connections_max",
        "handshakes_in_flight_max",
        "control_frames_per_second",
        "messages_per_second",
        "subscriptions_max",
        "write_stall_timeout_ms",
        "message_assembly_timeout_ms",
        "close_timeout_ms",
        "pong_timeout_seconds",
        "outbound_queue_max_bytes",
        "hub_queue_max_bytes",
        "frame_max_bytes",
        "unverified_message_max_bytes",
    ] {
        check(&format!("gateway.limits.{name} = 0"), &format!("gateway.limits.{name}"));
    }
    check("gateway.limits.frame_max_bytes = 131_073", "gateway.limits.frame_max_bytes");
    check("gateway.limits.unverified_message_max_bytes = 131_073", "gateway.limits.unverified_message_max_bytes");
    check("gateway.limits.outbound_queue_max_bytes = 131_071", "gateway.limits.outbound_queue_max_bytes");
    assert!(keys("gateway.limits = { ping_interval_seconds = 0, pong_timeout_seconds = 0 }").is_empty());
    check("server.request_body_max_bytes = 0", "server.request_body_max_bytes");
    check("server.request_head_timeout_ms = 0", "server.request_head_timeout_ms");
}

#[test]
fn challenges_stay_within_their_range() {
    for (name, wrong) in [
        ("answer_timeout_ms", "1_999"),
        ("answer_timeout_ms", "30_001"),
        ("program_operations", "31"),
        ("program_operations", "1_025"),
        ("pending_max", "0"),
        ("again.every_seconds", "59"),
        ("files_url_prefix", "'assets/'"),
        ("files_url_prefix", "'/assets'"),
        ("files_url_prefix", "'/a b/'"),
        ("files_url_prefix", "'//other.example/'"),
        ("files_url_prefix", "'/../'"),
        ("files_url_prefix", "'/?/'"),
        ("work.from_percent", "101"),
        ("work.bits", "0"),
        ("work.bits", "13"),
        ("work.bits_max", "21"),
        ("work.count", "0"),
        ("work.count", "17"),
        ("pending_per_network_max", "1_073_741_825"),
        ("pending_per_origin_max", "1_073_741_825"),
        ("hello_timeout_ms", "0"),
        ("signing_key_publish_ahead_seconds", "315_360_001"),
        ("signing_keys_dir", "'/dev/null'"),
        ("forms", "[]"),
        ("forms", "['vm', 'source', 'vm']"),
    ] {
        check(&format!("challenge.{name} = {wrong}"), &format!("challenge.{name}"));
    }
}

#[test]
fn files_are_asked_about_where_somebody_can_answer() {
    check("challenge = { files_dir = '/srv', forms = ['source'] }", "challenge.files_dir");
    check("challenge.files_origins = ['https://app.example/']", "challenge.files_origins[0]");
    assert!(
        keys("challenge = { files_dir = '/srv', files_url_prefix = '/assets/', files_origins = ['https://a.example'] }")
            .is_empty()
    );
}

#[test]
fn work_must_leave_a_slow_page_half_of_its_time() {
    check("challenge.work = { enabled = true, bits_max = 14 }", "challenge.work.bits_max");
    check("challenge = { answer_timeout_ms = 3_000, work.enabled = true }", "challenge.work.bits_max");
    assert!(keys("challenge.work = { enabled = true, bits_max = 13 }").is_empty());
    assert!(keys("challenge.work = { enabled = false, bits_max = 20 }").is_empty());
}

#[test]
fn tokens_come_from_somewhere_and_under_legal_names() {
    let nowhere = "gateway.token = { required = true, from_authorization = false, from_subprotocol_prefix = '' }";
    check(nowhere, "gateway.token.required");
    check("gateway.token.from_query = 'a&b'", "gateway.token.from_query");
    check("gateway.token.from_subprotocol_prefix = 'a b'", "gateway.token.from_subprotocol_prefix");
    check("gateway = { subscribe_parameter = 't', token = { from_query = 't' } }", "gateway.subscribe_parameter");
    check("identity.leeway_seconds = 61", "identity.leeway_seconds");
}

#[test]
fn an_issuer_has_one_source_of_keys_and_algorithms_that_fit() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    let short = folder.path().join("short");
    std::fs::write(&secret, [7; 32]).unwrap();
    std::fs::write(&short, [7; 31]).unwrap();
    let (secret, short) = (secret.display(), short.display());
    let url = "jwks_url = 'https://a.example/keys'";
    let whole = |lines: &str| issuer(&format!("audiences = ['x']\n{lines}"));
    assert!(keys(&whole(&format!("algorithms = ['RS256', 'ES256']\n{url}"))).is_empty());
    assert!(keys(&whole(&format!("algorithms = ['HS256']\nhmac_secret_file = '{secret}'"))).is_empty());
    check(&whole(&format!("algorithms = ['HS256']\nhmac_secret_file = '{short}'")), "identity.issuers[0].hmac_secret_file");
    check(&whole("algorithms = ['RS256']"), "identity.issuers[0]");
    check(&whole(&format!("algorithms = ['RS256']\npublic_key_file = '{secret}'\n{url}")), "identity.issuers[0]");
    check(&whole("algorithms = ['RS256']\npublic_key_file = '/nowhere/k.pem'"), "identity.issuers[0].public_key_file");
    check(&whole(&format!("algorithms = ['RS256', 'HS256']\n{url}")), "identity.issuers[0].algorithms[1]");
    check(&whole(&format!("algorithms = ['RS256']\nhmac_secret_file = '{secret}'")), "identity.issuers[0].algorithms[0]");
    check(&whole(&format!("algorithms = ['none']\n{url}")), "identity.issuers[0].algorithms[0]");
    check(&whole(&format!("algorithms = []\n{url}")), "identity.issuers[0].algorithms");
    check(&issuer(&format!("audiences = []\nalgorithms = ['RS256']\n{url}")), "identity.issuers[0].audiences");
}

#[test]
fn key_sets_come_over_tls_or_from_this_machine() {
    let with = |url: &str| issuer(&format!("audiences = ['x']\nalgorithms = ['RS256']\njwks_url = '{url}'"));
    for fine in ["https://a.example/keys", "http://127.0.0.1:8000/k", "http://[::1]/k", "http://localhost/k"] {
        assert!(keys(&with(fine)).is_empty(), "{fine}");
    }
    for wrong in
        ["http://a.example/k", "ftp://a.example/k", "keys", "https://user:pass@a.example/k", "http://localhost.a.example/k"]
    {
        check(&with(wrong), "identity.issuers[0].jwks_url");
    }
}

#[test]
fn issuers_are_told_apart() {
    let rest = "audiences = ['x']\nalgorithms = ['RS256']\njwks_url = 'https://a.example/keys'";
    let again = format!("{0}\n{0}", issuer(rest));
    assert_eq!(keys(&again), ["identity.issuers[1].name", "identity.issuers[1].issuer"]);
    let pool = issuer(rest).replace("'a'", "'pool'");
    check(&pool, "identity.issuers[0].name");
    check(&format!("{}\n[identity.pool]\nissuer = 'https://a.example'", issuer(rest)), "identity.issuers[0].issuer");
}

#[test]
fn the_pool_stays_within_its_range() {
    for (name, wrong) in [
        ("issuer", "'here'"),
        ("client_id", "''"),
        ("token_use", "[]"),
        ("token_lifetime_seconds", "0"),
        ("refresh_lifetime_seconds", "0"),
        ("refresh_idle_seconds", "2_592_001"),
        ("refresh_idle_seconds", "0"),
        ("rotation_grace_ms", "5_001"),
        ("lockout_threshold", "0"),
        ("lockout_base_seconds", "901"),
        ("argon2_memory_kib", "7"),
        ("argon2_memory_kib", "1_048_577"),
        ("argon2_iterations", "0"),
        ("hash_queue_max", "0"),
        ("temporary_password_lifetime_seconds", "0"),
    ] {
        let key = format!("identity.pool.{name}");
        assert!(keys(&format!("{key} = {wrong}")).contains(&key), "{key} = {wrong}");
    }
    check("identity.pool.token_use = ['id', 'refresh']", "identity.pool.token_use[1]");
}

#[test]
fn a_route_does_exactly_one_thing() {
    check("routes.x = {}", "routes.x");
    check("routes.x = { builtin = 'ping', reply = 'a' }", "routes.x");
    check("routes.x = { echo = false }", "routes.x.echo");
    check("routes.x.publish = { channel = ' ', template = '' }", "routes.x.publish.channel");
    check("routes.'$conect' = { reply = 'a' }", r#"routes."$conect""#);
    assert!(keys("routes.'$default' = { echo = true }").is_empty());
}

#[test]
fn channel_rules_have_patterns_and_can_be_reached() {
    check("channels = [{ pattern = '' }]", "channels[0].pattern");
    check("channels = [{ pattern = 'a b' }]", "channels[0].pattern");
    check("channels = [{ pattern = 'user:{name}' }]", "channels[0].pattern");
    check("channels = [{ pattern = '**' }, { pattern = 'a' }]", "channels[1].pattern");
    check("channels = [{ pattern = 'a' }, { pattern = 'a' }]", "channels[1].pattern");
    let claim = "channels = [{ pattern = 'user:{subject}', subscribe = { claim = { name = '', value = 'x' } } }]";
    check(claim, "channels[0].subscribe.claim.name");
}

#[test]
fn files_are_there_and_readable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cert.pem");
    std::fs::write(&file, "x").unwrap();
    let (file, folder) = (file.display(), folder.path().display());
    check(&format!("server.tls = {{ cert_file = '{file}', key_file = '{folder}/none' }}"), "server.tls.key_file");
    check(&format!("server.admin_tls = {{ cert_file = '{folder}', key_file = '{file}' }}"), "server.admin_tls.cert_file");
    check("management.api_keys_file = '/nowhere/keys'", "management.api_keys_file");
    check("server.data_dir = ''", "server.data_dir");
}

#[test]
fn the_authorizer_and_the_log_make_sense() {
    check("authorizer.header = 'a b'", "authorizer.header");
    check("authorizer.header = 'Authorization'", "authorizer.header");
    check("authorizer.header = 'Countersign-Ticket'", "authorizer.header");
    check("authorizer.ticket.ttl_ms = 4999", "authorizer.ticket.ttl_ms");
    check("authorizer.ticket.ttl_ms = 60001", "authorizer.ticket.ttl_ms");
    check("challenge.carrier = 'echo_function'", "authorizer.mode");
    check("challenge.carrier = 'echo_function'\nauthorizer.mode = 'proof'", "authorizer.mode");
    assert!(keys("challenge.carrier = 'echo_function'\nauthorizer.mode = 'bearer'").is_empty());
    check("authorizer.cache_capacity = 0", "authorizer.cache_capacity");
    check("authorizer.registry_timeout_ms = 0", "authorizer.registry_timeout_ms");
    check("telemetry.log_filter = 'a=b=c'", "telemetry.log_filter");
}

#[test]
fn a_cluster_has_a_redis_that_can_be_named_and_spans_that_fit() {
    for url in ["redis://h", "redis://:p@h:1/2", "rediss://u:p@h:6380", "unix:///run/redis.sock"] {
        assert!(keys(&format!("cluster.redis = '{url}'")).is_empty(), "{url}");
    }
    for url in ["", "h:6379", "http://h", "redis://"] {
        check(&format!("cluster.redis = '{url}'"), "cluster.redis");
    }
    let secret = toml::from_str::<Settings>("cluster.redis = 'http://:s3cret@h'").unwrap().validate().unwrap_err();
    assert!(!secret.to_string().contains("s3cret"), "{secret}");
    check("cluster.prefix = 'a{b}'", "cluster.prefix");
    check("cluster.password_file = '/nowhere/at/all'", "cluster.password_file");
    check("cluster = { lease_seconds = 1, heartbeat_ms = 100 }", "cluster.lease_seconds");
    check("cluster = { lease_seconds = 2, heartbeat_ms = 900 }", "cluster.heartbeat_ms");
    check("cluster.deaf_after_ms = 1_500", "cluster.heartbeat_ms");
    check("cluster = { redis = 'redis://h', ca_file = 'Cargo.toml' }", "cluster.ca_file");
}

#[test]
fn users_in_redis_need_one_and_a_name_to_issue_under() {
    let issuer = "identity.pool.issuer = 'https://ws.example'";
    let redis = "cluster.redis = 'redis://127.0.0.1'";
    assert!(keys(&format!("{redis}\n{issuer}\nidentity.pool.store = 'redis'")).is_empty());
    check(&format!("{issuer}\nidentity.pool.store = 'redis'"), "identity.pool.store");
    check(&format!("{redis}\nidentity.pool.store = 'redis'"), "identity.pool.issuer");
    assert!(keys("identity.pool = { store = 'redis', enabled = false }").is_empty());
    // Tests run in the folder of their crate.
    check("identity.pool.keys_dir = 'Cargo.toml'", "identity.pool.keys_dir");
}
