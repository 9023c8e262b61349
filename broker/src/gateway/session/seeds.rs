//! The clients of the two example configurations, row by row, over these as they ship.

use super::tests::Bench;
use super::*;
use crate::config::{OriginPolicy, PasswordPolicy, Require};

const SECURED_SOCKET: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/secured-socket.toml"));
const DOMAIN_SECURITY: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/domain-security.toml"));

#[test]
fn secured_socket_asks_for_what_its_clients_send() {
    let settings: Settings = toml::from_str(SECURED_SOCKET).unwrap();
    settings.validate().unwrap();
    let Settings { server, gateway, challenge, identity, authorizer, protected, .. } = &settings;
    assert_eq!((server.listen.port(), server.admin_listen.port()), (8080, 9090));
    assert_eq!(gateway.path, "/ws");
    assert_eq!(gateway.missing_origin, OriginPolicy::Allow);
    assert_eq!(gateway.subscribe_parameter.as_deref(), Some("connectionType"));
    assert!(gateway.token.required && !gateway.token.expiry_ends_connection);
    assert_eq!(gateway.token.from_query.as_deref(), Some("Authorizer"));
    assert!(!challenge.enabled);
    assert_eq!(identity.pool.auth_path, "/auth");
    assert_eq!(identity.pool.password_policy, PasswordPolicy::CognitoCompat);
    assert!(!identity.pool.rotate_refresh_tokens);
    assert_eq!(authorizer.path, "/authorize");
    assert_eq!((protected[0].path.as_str(), protected[0].require, authorizer.require), ("/greeting", None, Require::Token));
}

#[test]
fn domain_security_asks_for_what_its_clients_send() {
    let settings: Settings = toml::from_str(DOMAIN_SECURITY).unwrap();
    settings.validate().unwrap();
    let Settings { server, gateway, challenge, authorizer, protected, .. } = &settings;
    assert_eq!((server.listen.port(), server.admin_listen.port()), (8080, 9090));
    assert_eq!(gateway.path, "/ws");
    assert_eq!(gateway.allowed_origins, ["http://localhost:3000"]);
    assert!(!gateway.token.required);
    assert_eq!((challenge.enabled, challenge.carrier), (true, Carrier::EchoFunction));
    assert_eq!((authorizer.path.as_str(), authorizer.header.as_str()), ("/authorize", "connectionId"));
    assert_eq!(authorizer.cache_ttl_seconds.0, 300);
    assert_eq!((protected[0].path.as_str(), protected[0].require), ("/greeting", None));
    assert_eq!(protected[0].body, serde_json::json!({"greeting": "Hello, World!"}));
}

/// A connection of ada's, opened with `?connectionType=greeting&Authorizer=…`.
fn secured() -> Bench {
    Bench::new(SECURED_SOCKET, Dialect::Plain).of("ada", 50).without_origin().naming("greeting").check(
        r"
        @ open
        ! raise limits
        ! subscribe greeting
        ",
    )
}

#[test]
fn a_connect_subscribes_to_the_connection_type() {
    secured();
    Bench::new(SECURED_SOCKET, Dialect::Plain).of("ada", 50).without_origin().naming("other").check(
        r"
        @ open
        ! raise limits
        ! subscribe other
        ",
    );
}

#[test]
fn a_ping_is_answered_with_pong() {
    secured().check(
        r#"
        > {"action":"PING"}
        < {"action":"PING","value":"PONG"}
        "#,
    );
}

#[test]
fn a_greeting_goes_to_all_but_the_sender() {
    secured().check(
        r#"
        > {"action":"GREETING","message":"Hello \"all\""}
        ! publish to others on greeting: {"action":"GREETING","value":"Hello \"all\""}
        > {"action":"GREETING"}
        ! publish to others on greeting: {"action":"GREETING","value":null}
        "#,
    );
}

#[test]
fn anything_else_is_an_invalid_request_on_an_open_socket() {
    let mut script = String::new();
    for text in [
        r#"{"action":"ping"}"#,
        r#"{"action":"subscribe","channel":"x"}"#,
        r#"{"action":"publish","channel":"greeting","data":1}"#,
        r#"{"action":"$connect"}"#,
        r#"{"action":null}"#,
        r#"{"message":"x"}"#,
        "[]",
        "no json",
    ] {
        script += &format!("> {text}\n< {{\"action\":\"ERROR\",\"error\":\"Invalid request\"}}\n");
    }
    secured().check(&script).check("> {\"action\":\"PING\"}\n< {\"action\":\"PING\",\"value\":\"PONG\"}");
}

#[test]
fn no_expiry_is_armed_so_the_socket_outlives_its_token() {
    // `secured` checks every effect of the opening, and an armed expiry would be one.
    secured().check("> {\"action\":\"PING\"}\n< {\"action\":\"PING\",\"value\":\"PONG\"}\n@ gone");
}

/// A page's connection, up to the executable.
fn challenged() -> Bench {
    Bench::new(DOMAIN_SECURITY, Dialect::Plain).check(
        r#"
        @ open
        < Echo: ID
        ! issue challenge
        @ issued
        ! challenged
        < {"token":"decoy","func":"function(keys){}","index":3}
        "#,
    )
}

/// What that page's client sends back.
const RETURNED: &str = r#"> {"action":"OnMessage","msg":{"domain":"localhost","key":"0000000700000000000000000000000000000000000000000000000000000000","origin":"http://localhost:3000","index":0},"token":"T"}"#;

#[test]
fn a_right_answer_verifies_in_silence() {
    challenged()
        .check(&format!("{RETURNED}\n! judge http://localhost:3000 7"))
        .check("@ verdict verified\n! verified\n! raise limits\n@ gone");
}

#[test]
fn index_and_token_choose_nothing() {
    for (index, token) in [("7", "\"other\""), ("\"constructor\"", "null"), ("null", "{}"), ("-1", "[]")] {
        let answer = format!(
            r#"> {{"action":"OnMessage","msg":{{"origin":"http://localhost:3000","key":"0000000700000000000000000000000000000000000000000000000000000000","index":{index}}},"token":{token}}}
            ! judge http://localhost:3000 7"#
        );
        challenged().check(&answer);
    }
}

#[test]
fn a_wrong_answer_ends_the_socket() {
    let judged = || challenged().check(&format!("{RETURNED}\n! judge http://localhost:3000 7"));
    judged().check("@ verdict wrong_answer\n! close 4403");
    judged().check("@ verdict origin_mismatch\n! close 4403");
    challenged().check("> {\"action\":\"OnMessage\"}\n! judge malformed\n@ verdict wrong_answer\n! close 4403");
}

#[test]
fn silence_ends_at_the_deadline() {
    challenged().check(&format!("@ verdict late\n! close 4408\n{RETURNED}\n@ verdict verified"));
}

#[test]
fn an_answer_before_the_executable_ends_the_socket() {
    let opened = Bench::new(DOMAIN_SECURITY, Dialect::Plain).check("@ open\n< Echo: ID\n! issue challenge");
    opened.check(&format!("{RETURNED}\n! close 4403\n@ issued"));
}

#[test]
fn a_second_answer_before_the_verdict_ends_the_socket() {
    challenged()
        .check(&format!("{RETURNED}\n! judge http://localhost:3000 7\n{RETURNED}\n! close 4403\n@ verdict verified\n@ gone"));
}

#[test]
fn an_answer_after_the_verdict_is_refused_and_changes_nothing() {
    challenged()
        .check(&format!("{RETURNED}\n! judge http://localhost:3000 7"))
        .check("@ verdict verified\n! verified\n! raise limits")
        .check(&format!(
            r#"{RETURNED}
            < {{"action":"OnMessage","error":{{"code":"denied","message":"already answered, the connection is verified"}}}}"#
        ));
}

#[test]
fn a_socket_that_closed_while_its_answer_was_judged_is_never_verified() {
    challenged().check(&format!("{RETURNED}\n! judge http://localhost:3000 7\n@ gone\n@ verdict verified"));
    challenged().check(&format!("{RETURNED}\n! judge http://localhost:3000 7\n@ closed elsewhere\n@ verdict verified\n@ gone"));
}

#[test]
fn an_unknown_action_is_forbidden_as_the_gateway_words_it() {
    challenged().check(
        r#"
        > {"action":"other"}
        < {"message":"Forbidden","connectionId":"ID","requestId":"1"}
        "#,
    );
}
