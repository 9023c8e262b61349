//! The loader as a whole: a file, an environment and flags in; settings or all faults out.

mod printed;

use std::ffi::OsString;
use std::io::Write as _;

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::*;

/// Reads a file's text, environment and flags.
fn read(
    file: &[u8],
    environment: &[(&str, &str)],
    flags: &[(&'static str, &'static str, &str)],
) -> Result<Settings, ConfigFaults> {
    let mut written = NamedTempFile::new().unwrap();
    written.write_all(file).unwrap();
    let flags: Vec<_> = flags.iter().map(|&(name, key, value)| Flag { name, key, value: value.to_owned() }).collect();
    load(Some(written.path()), &variables(environment), &flags, &[])
}

fn variables(pairs: &[(&str, &str)]) -> Environment {
    Environment::new(pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))))
}

/// Each fault as `key: message; remedy`.
fn faults(file: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let faults = read(file.as_bytes(), environment, &[]).unwrap_err();
    faults.iter().map(|fault| format!("{}: {}; {}", fault.key, fault.message, fault.remedy)).collect()
}

#[test]
fn an_empty_file_is_the_default_and_no_file_is_the_trial() {
    assert_eq!(read(b"", &[], &[]).unwrap(), Settings::default());
    let trial = load(None, &Environment::default(), &[], &[]).unwrap();
    assert_eq!(trial, Settings::trial());
    assert!(trial.server.demo_page && trial.gateway.missing_origin == OriginPolicy::Refuse);
    assert_eq!(trial.protected[0].path, "/demo/greeting");
}

#[test]
fn a_trial_keeps_what_the_environment_sets() {
    let environment = variables(&[("COUNTERSIGN_SERVER__DEMO_PAGE", "false"), ("COUNTERSIGN_CHANNELS", "[]")]);
    let settings = load(None, &environment, &[], &[]).unwrap();
    assert!(!settings.server.demo_page && settings.channels.is_empty() && settings.protected.len() == 1);
}

#[test]
fn flags_stand_above_the_environment_and_that_above_the_file() {
    let file = b"[server]\nlisten = '127.0.0.1:1'\nadmin_listen = '127.0.0.1:2'\ndata_dir = 'a'\nworkers = 3";
    let environment = [("COUNTERSIGN_SERVER__LISTEN", "127.0.0.1:4"), ("COUNTERSIGN_SERVER__DATA_DIR", "b")];
    let flags = [("--listen", "server.listen", "[::1]:5")];
    let server = read(file, &environment, &flags).unwrap().server;
    let expected = ServerSettings {
        listen: "[::1]:5".parse().unwrap(),
        admin_listen: "127.0.0.1:2".parse().unwrap(),
        data_dir: "b".into(),
        workers: 3,
        ..ServerSettings::default()
    };
    assert_eq!(server, expected);
}

#[test]
fn the_environment_names_the_file_and_the_flag_another() {
    let mut named = NamedTempFile::new().unwrap();
    named.write_all(b"server.workers = 7").unwrap();
    let environment = variables(&[("COUNTERSIGN_CONFIG", named.path().to_str().unwrap()), ("OTHER", "x")]);
    assert_eq!(load(None, &environment, &[], &[]).unwrap().server.workers, 7);
    let other = NamedTempFile::new().unwrap();
    assert_eq!(load(Some(other.path()), &environment, &[], &[]).unwrap(), Settings::default());
}

#[test]
fn environment_values_are_toml_and_else_text() {
    let settings = read(
        b"",
        &[
            ("COUNTERSIGN_GATEWAY__LIMITS__FRAME_MAX_BYTES", "1_000"),
            ("COUNTERSIGN_GATEWAY__ALLOWED_ORIGINS", r#"["https://a.example", "https://b.example"]"#),
            ("COUNTERSIGN_GATEWAY__MISSING_ORIGIN", "allow"),
            ("COUNTERSIGN_IDENTITY__POOL__CLIENT_ID", "12345"),
            ("COUNTERSIGN_IDENTITY__POOL__SELF_SIGN_UP", "true"),
            ("COUNTERSIGN_ROUTES", r#"{ "$default" = { echo = true } }"#),
            ("COUNTERSIGN_TELEMETRY__LOG_FILTER", "info,countersign=debug"),
            ("COUNTERSIGN_GATEWAY__TOKEN__FROM_SUBPROTOCOL_PREFIX", ""),
            ("COUNTERSIGN_SERVER__DATA_DIR", "2024-01-01"),
        ],
        &[],
    )
    .unwrap();
    assert_eq!(settings.gateway.limits.frame_max_bytes, 1_000);
    assert_eq!(settings.gateway.allowed_origins.len(), 2);
    assert_eq!(settings.gateway.missing_origin, OriginPolicy::Allow);
    assert_eq!(settings.identity.pool.client_id, "12345");
    assert!(settings.identity.pool.self_sign_up);
    assert_eq!(settings.routes["$default"].echo, Some(true));
    assert_eq!(settings.telemetry.log_filter, "info,countersign=debug");
    assert_eq!(settings.gateway.token.from_subprotocol_prefix, None);
    assert_eq!(settings.server.data_dir, std::path::PathBuf::from("2024-01-01"));
}

#[test]
fn all_faults_are_told_at_once_each_with_its_place() {
    let file = "[server]\nlisten = 5\nworkrs = 2\n\n[gateway]\nallowed_origins = ['https://A.example']\n\
                limits = { frame_max_bytes = 'x' }\n\n[[channels]]\nsubscribe = 'verifid'\n";
    let environment = [("COUNTERSIGN_SERVER__WORKERS", "-1"), ("COUNTERSIGN_GATEWAY__PTAH", "/x")];
    let flags = [("--admin-listen", "server.admin_listen", "nowhere")];
    let found = read(file.as_bytes(), &environment, &flags).unwrap_err();
    let mut told: Vec<_> = found.iter().map(|fault| (fault.key.to_string(), place(&fault.place))).collect();
    told.sort();
    let expected = [
        ("channels[0].pattern", "file:9"),
        ("channels[0].subscribe", "file:10"),
        ("gateway.allowed_origins[0]", "file:6"),
        ("gateway.limits.frame_max_bytes", "file:7"),
        ("gateway.ptah", "COUNTERSIGN_GATEWAY__PTAH"),
        ("server.admin_listen", "--admin-listen"),
        ("server.listen", "file:2"),
        ("server.workers", "COUNTERSIGN_SERVER__WORKERS"),
        ("server.workrs", "file:3"),
    ];
    let expected: Vec<_> = expected.map(|(key, place)| (key.to_owned(), place.to_owned())).into();
    assert_eq!(told, expected);
    let text = found.to_string();
    assert!(text.starts_with("the configuration has 9 faults:\n  "), "{text}");
    assert_eq!(text.lines().count(), 10);
}

#[test]
fn faults_stand_in_the_order_of_the_file() {
    let file = "[telemetry]\nlog_filter = 'a=b=c'\n[challenge]\nanswer_timeout_ms = 5\n[server]\nworkers = -1\nzzz = 1\n";
    let found = read(file.as_bytes(), &[("COUNTERSIGN_NOPE", "1")], &[]).unwrap_err();
    let places: Vec<_> = found.iter().map(|fault| place(&fault.place)).collect();
    assert_eq!(places, ["file:2", "file:4", "file:6", "file:7", "COUNTERSIGN_NOPE"]);
}

#[test]
fn wrong_types_are_told_without_the_names_of_rusts() {
    for (file, said) in [
        ("server.listen = 'localhost'", "server.listen: this is not an IP address with a port, such as 127.0.0.1:8080"),
        ("server.listen = 5", "server.listen: integer `5` is not an IP address with a port, such as 127.0.0.1:8080"),
        ("server.workers = 'x'", "server.workers: string \"x\" is not a whole number of at least 0"),
        ("server.workers = -1", "server.workers: integer `-1` is not a whole number of at least 0"),
        ("server.demo_page = 'on'", "server.demo_page: string \"on\" is not true or false"),
        ("gateway.path = 7", "gateway.path: integer `7` is not a text"),
        ("gateway.allowed_origins = 'x'", "gateway.allowed_origins: string \"x\" is not a list"),
        ("server.drain = 1", "server.drain: integer `1` is not a table"),
    ] {
        let told = faults(file, &[]);
        assert!(told.len() == 1 && told[0].starts_with(said), "{told:?}");
    }
}

fn place(place: &Place) -> String {
    match place {
        Place::File { line, .. } => format!("file:{}", line.unwrap()),
        other => other.to_string(),
    }
}

#[test]
fn unknown_settings_get_a_suggestion() {
    for (file, suggestion) in [
        ("[server]\nlistn = 'x'", "server.listn: unknown setting; did you mean `listen`?"),
        ("frame_max_bytes = 1", "frame_max_bytes: unknown setting; did you mean `gateway.limits.frame_max_bytes`?"),
        ("[challenge]\non_failure = 'closed'", "challenge.on_failure: `closed` is not known here; did you mean `close`?"),
        ("[server.drain]\nzzz = 1", "server.drain.zzz: unknown setting; known here: notice_ms, window_ms"),
        ("[[channels]]\npattern = 'a'\nsubscribed = 1", "channels[0].subscribed: unknown setting; did you mean `subscribe`?"),
    ] {
        let told = faults(file, &[]);
        assert!(told.len() == 1 && told[0].starts_with(suggestion), "{told:?}");
    }
}

#[test]
fn unknown_variables_get_a_suggestion() {
    for (name, suggestion) in [
        ("COUNTERSIGN_SERVER_LISTEN", "server_listen: unknown setting; did you mean `COUNTERSIGN_SERVER__LISTEN`?"),
        ("COUNTERSIGN_SERVR__LISTEN", "servr: unknown setting; did you mean `COUNTERSIGN_SERVER__LISTEN`?"),
        ("COUNTERSIGN_Server__Listen", ": names are upper case; write COUNTERSIGN_SERVER__LISTEN"),
        ("COUNTERSIGN_", ": unknown setting; `countersign config env` lists the names"),
    ] {
        let told = faults("", &[(name, "x")]);
        assert!(told.len() == 1 && told[0].ends_with(suggestion), "{told:?}");
    }
}

#[test]
fn a_variable_cannot_be_a_value_and_a_table() {
    let told = faults("", &[("COUNTERSIGN_SERVER__TLS", "off"), ("COUNTERSIGN_SERVER__TLS__KEY_FILE", "k")]);
    assert!(told.iter().any(|fault| fault.contains("COUNTERSIGN_SERVER__TLS sets a single value")), "{told:?}");
}

#[test]
fn members_keep_their_index_when_others_are_taken_out() {
    let file = "[[channels]]\npattern = 5\n[[channels]]\npattern = 'ok'\n[[channels]]\npattern = ''\nsubscribe = 1\n\
                [[channels]]\npattern = 'fine'\nextra = 1";
    let told: Vec<_> = faults(file, &[]).iter().map(|fault| fault.split(": ").next().unwrap().to_owned()).collect();
    assert_eq!(told, ["channels[0].pattern", "channels[2].pattern", "channels[2].subscribe", "channels[3].extra"]);
}

#[test]
fn a_fault_of_shape_does_not_breed_faults_of_sense() {
    let issuer = "[[identity.issuers]]\nname = 'a'\nissuer = 'i'\naudiences = ['x']\nalgorithms = ['RS256']\njwks_url = 5";
    let told = faults(issuer, &[]);
    assert!(told.len() == 1 && told[0].starts_with("identity.issuers[0].jwks_url"), "{told:?}");
}

#[test]
fn what_does_not_fit_the_way_to_redis_is_told() {
    let check = |cluster: &str, expected: &[&str]| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "x").unwrap();
        let told = faults(&format!("[cluster]\n{}", cluster.replace("FILE", file.path().to_str().unwrap())), &[]);
        let keys: Vec<_> = told.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
        assert_eq!(keys, expected, "{told:?}");
        assert!(!told.concat().contains("s3cret"), "{told:?}");
    };
    check("redis = 'redis+sentinel://ada:s3cret@a,b'", &["cluster.redis"]);
    check("redis = 'redis+cluster://a'\nca_file = 'FILE'", &["cluster.ca_file"]);
    check("redis = 'rediss+cluster://a'\ncert_file = 'FILE'", &["cluster.cert_file"]);
    check("redis = 'rediss://a'\nkey_file = 'FILE'", &["cluster.key_file"]);
    check("redis = 'redis://a'\nsentinel_username = 'x'", &["cluster.sentinel_username"]);
}

#[test]
fn every_fault_of_syntax_is_told_with_its_line() {
    let found = read(b"[server]\nlisten = \n\n[gateway\npath = '/ws'\n", &[("COUNTERSIGN_NOPE", "1")], &[]).unwrap_err();
    let lines: Vec<_> = found.iter().map(|fault| place(&fault.place)).collect();
    assert!(lines.contains(&"file:2".to_owned()) && lines.contains(&"file:4".to_owned()), "{found}");
    assert!(lines.contains(&"COUNTERSIGN_NOPE".to_owned()), "{found}");
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let missing = load(Some(&folder.path().join("none.toml")), &Environment::default(), &[], &[]).unwrap_err();
    assert!(missing.to_string().contains("none.toml: the file cannot be read"), "{missing}");
    assert!(read(b"\xff\xfe", &[], &[]).unwrap_err().to_string().contains("not UTF-8"));
}

#[test]
fn a_fault_that_a_check_finds_again_is_told_once() {
    let text = "routes.x = {}\nroutes.y.reply = '{{ a'\nchannels = [{ pattern = '' }]\n";
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let found = load(Some(file.path()), &Environment::default(), &[], &[crate::gateway::SessionConfig::check]).unwrap_err();
    let keys: Vec<String> = found.iter().map(|fault| fault.key.to_string()).collect();
    assert_eq!(keys, ["routes.x", "routes.y.reply", "channels[0].pattern"]);
}

#[test]
fn checks_of_other_modules_are_told_with_the_place() {
    let check: Check = |settings| {
        let broken = settings.routes.keys().map(|name| Key::from("routes").name(name).name("reply"));
        broken.map(|key| Fault::new(key, "template does not compile", "close the brace")).collect()
    };
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(b"\n[routes.x]\nreply = '{{'").unwrap();
    let found = load(Some(file.path()), &Environment::default(), &[], &[check]).unwrap_err();
    assert_eq!(found.iter().map(|fault| place(&fault.place)).collect::<Vec<_>>(), ["file:3"]);
}

/// Values of every kind, some of them under names that mean something.
fn any_value() -> impl Strategy<Value = toml::Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(toml::Value::from),
        any::<f64>().prop_map(toml::Value::from),
        any::<bool>().prop_map(toml::Value::from),
        ".{0,12}".prop_map(toml::Value::from),
        prop::sample::select(vec!["verified", "RS256", "/ws", "127.0.0.1:0", "none"]).prop_map(toml::Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(toml::Value::from),
            prop::collection::btree_map(any_name(), inner, 0..6)
                .prop_map(|table| toml::Value::Table(table.into_iter().collect())),
        ]
    })
}

fn any_name() -> impl Strategy<Value = String> {
    let known = vec![
        "server",
        "listen",
        "tls",
        "cert_file",
        "drain",
        "gateway",
        "allowed_origins",
        "limits",
        "frame_max_bytes",
        "token",
        "challenge",
        "carrier",
        "identity",
        "issuers",
        "pool",
        "algorithms",
        "audiences",
        "name",
        "issuer",
        "jwks_url",
        "routes",
        "publish",
        "builtin",
        "channel",
        "template",
        "channels",
        "pattern",
        "subscribe",
        "claim",
        "value",
        "protected",
        "path",
        "body",
        "$default",
        "trusted_proxies",
    ];
    prop_oneof![8 => prop::sample::select(known).prop_map(str::to_owned), 1 => ".{0,8}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn arbitrary_settings_are_read_or_refused_with_reasons(
        table in prop::collection::btree_map(any_name(), any_value(), 0..6)
    ) {
        let text = toml::to_string(&toml::Table::from_iter(table)).unwrap();
        if let Err(faults) = read(text.as_bytes(), &[], &[]) {
            prop_assert!(faults.iter().count() > 0);
            prop_assert!(faults.iter().all(|fault| !fault.message.is_empty() && !fault.remedy.is_empty()));
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in "[\\[\\]{}=\"'.#a-z0-9\n ]{0,80}", name in "[A-Z_]{0,20}", value in ".{0,20}") {
        let name = format!("COUNTERSIGN_{name}");
        let _ = read(text.as_bytes(), &[(&name, &value)], &[]);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = read(&bytes, &[], &[]);
    }
}
