use std::sync::Arc;

use actix_web::test::TestRequest;

use super::*;
use crate::config::OriginPolicy;
use crate::edge::Origin;

const APP: &str = "https://app.example";

/// The headers of a handshake that passes.
const GOOD: &[(&str, &str)] = &[
    ("host", "node.example"),
    ("upgrade", "websocket"),
    ("connection", "keep-alive, Upgrade"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("origin", APP),
];

fn origins(missing: OriginPolicy, null: OriginPolicy) -> OriginList {
    OriginList::new(vec![Origin::parse(APP).unwrap()], missing, null)
}

/// No list: the `Host` header speaks.
fn any_host() -> HostList {
    HostList::new(&[], false)
}

/// A request of these headers; the path may carry a query.
fn request(path: &str, headers: &[(&'static str, &str)]) -> HttpRequest {
    let start = TestRequest::get().uri(path);
    headers.iter().fold(start, |request, header| request.append_header(*header)).to_http_request()
}

/// The good headers, with these in the place of those of the same name; an empty value takes one away.
fn headers_with<'a>(changed: &[(&'static str, &'a str)]) -> Vec<(&'static str, &'a str)> {
    let kept = GOOD.iter().filter(|(name, _)| !changed.iter().any(|(other, _)| other == name)).copied();
    kept.chain(changed.iter().copied().filter(|(_, value)| !value.is_empty())).collect()
}

fn settings() -> GatewaySettings {
    let mut settings = GatewaySettings { subscribe_parameter: Some("channel".to_owned()), ..GatewaySettings::default() };
    settings.token.from_query = Some("token".to_owned());
    settings
}

fn check_with(
    settings: &GatewaySettings,
    path: &str,
    changed: &[(&'static str, &str)],
) -> Result<HandshakeRequest, HandshakeRefusal> {
    let origins = origins(OriginPolicy::Refuse, OriginPolicy::Refuse);
    check_handshake(&request(path, &headers_with(changed)), settings, &origins, &any_host())
}

fn check(path: &str, changed: &[(&'static str, &str)]) -> Result<HandshakeRequest, HandshakeRefusal> {
    check_with(&settings(), path, changed)
}

fn status(changed: &[(&'static str, &str)]) -> u16 {
    check("/ws", changed).map_or_else(|refusal| refusal.status.as_u16(), |_| 101)
}

#[test]
fn bad_handshakes_get_their_exact_status() {
    let table: &[(&[(&str, &str)], u16)] = &[
        (&[], 101),
        (&[("host", "")], 400),
        (&[("host", "a"), ("host", "b")], 400),
        (&[("upgrade", "")], 400),
        (&[("upgrade", "h2c")], 400),
        (&[("upgrade", "WebSocket")], 101),
        (&[("upgrade", "websocket, h2c")], 400),
        (&[("upgrade", "websocket"), ("upgrade", "h2c")], 400),
        (&[("connection", "")], 400),
        (&[("connection", "keep-alive")], 400),
        (&[("connection", "close, upgrade")], 400),
        (&[("connection", "keep-alive"), ("connection", "upgrade")], 101),
        (&[("sec-websocket-version", "")], 400),
        (&[("sec-websocket-version", "8")], 426),
        (&[("sec-websocket-version", "7")], 426),
        (&[("sec-websocket-version", "14")], 426),
        (&[("sec-websocket-version", "13, 8")], 426),
        (&[("sec-websocket-version", "13"), ("sec-websocket-version", "8")], 400),
        (&[("sec-websocket-key", "")], 400),
        (&[("sec-websocket-key", "short")], 400),
        (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=A")], 400),
        (&[("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAAAA")], 400),
        (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")], 400),
        (&[("origin", "")], 403),
        (&[("origin", "null")], 403),
        (&[("origin", "https://evil.example")], 403),
        (&[("origin", "https://app.example.evil.example")], 403),
        (&[("origin", "http://app.example")], 403),
        (&[("origin", APP), ("origin", APP)], 403),
        (&[("authorization", "Bearer a"), ("authorization", "Bearer a")], 400),
        (&[("authorization", "Bearer \u{fc}")], 400),
        (&[("sec-websocket-protocol", "caf\u{e9}")], 400),
        (&[("content-length", "0")], 101),
        (&[("content-length", "5")], 400),
        (&[("transfer-encoding", "chunked")], 400),
    ];
    for (changed, expected) in table {
        assert_eq!(status(changed), *expected, "{changed:?}");
    }
}

#[test]
fn only_get_over_http_11_is_a_handshake() {
    let request = |method, version| {
        let start = TestRequest::default().method(method).version(version);
        GOOD.iter().fold(start, |request, header| request.append_header(*header)).to_http_request()
    };
    let check = |request| {
        let outcome = check_handshake(&request, &settings(), &origins(OriginPolicy::Refuse, OriginPolicy::Refuse), &any_host());
        outcome.map_or_else(|refusal| refusal.status.as_u16(), |_| 101)
    };
    use actix_web::http::Method;
    assert_eq!(check(request(Method::GET, Version::HTTP_11)), 101);
    assert_eq!(check(request(Method::POST, Version::HTTP_11)), 405);
    assert_eq!(check(request(Method::CONNECT, Version::HTTP_11)), 405);
    assert_eq!(check(request(Method::GET, Version::HTTP_10)), 400);
}

#[test]
fn host_is_what_the_client_dialed() {
    let dialed = |names: &[&str], changed: &[(&'static str, &str)]| {
        let hosts = HostList::new(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>(), false);
        let origins = origins(OriginPolicy::Refuse, OriginPolicy::Refuse);
        let asked = check_handshake(&request("/ws", &headers_with(changed)), &settings(), &origins, &hosts);
        asked.map(|asked| asked.host.to_string()).map_err(|refusal| (refusal.status.as_u16(), refusal.error))
    };
    let host = |host| [("host", host)];
    assert_eq!(dialed(&[], &host("App.Example:80")), Ok("app.example".to_owned()));
    assert_eq!(dialed(&[], &host("app.example:8080")), Ok("app.example:8080".to_owned()));
    for wrong in ["a/b", "user@app.example", "app.example:x"] {
        assert_eq!(dialed(&[], &host(wrong)), Err((400, "bad_handshake")), "{wrong}");
    }
    // Without a Host, or with two, nobody can say what was dialed; nor does a configured name speak for such a request.
    for names in [&[] as &[&str], &["app.example"]] {
        assert_eq!(dialed(names, &host("")), Err((400, "bad_handshake")));
        assert_eq!(dialed(names, &[("host", "app.example"), ("host", "app.example")]), Err((400, "bad_handshake")));
    }
    let both = ["app.example", "b.example"];
    assert_eq!(dialed(&both, &host("B.example")), Ok("b.example".to_owned()));
    assert_eq!(dialed(&both, &host("c.example")), Err((421, "host_refused")));
    assert_eq!(dialed(&["app.example"], &host("10.0.0.1:8080")), Ok("app.example".to_owned()));
}

#[test]
fn special_origins_follow_their_own_policy() {
    let origin = |list: &OriginList, sent: &str| {
        check_handshake(&request("/ws", &headers_with(&[("origin", sent)])), &settings(), list, &any_host()).map(|ok| ok.origin)
    };
    let lenient = origins(OriginPolicy::Allow, OriginPolicy::Allow);
    assert_eq!(origin(&lenient, ""), Ok(None));
    assert_eq!(origin(&lenient, "null"), Ok(Some("null".to_owned())));
    assert_eq!(origin(&lenient, APP), Ok(Some(APP.to_owned())));
    assert_eq!(origin(&lenient, "https://evil.example"), Err(HandshakeRefusal::ORIGIN));
    let programs_only = origins(OriginPolicy::Allow, OriginPolicy::Refuse);
    assert_eq!(origin(&programs_only, "null"), Err(HandshakeRefusal::ORIGIN_NULL));
    let strict = origins(OriginPolicy::Refuse, OriginPolicy::Refuse);
    assert_eq!(origin(&strict, ""), Err(HandshakeRefusal::ORIGIN_MISSING));
    for refusal in [HandshakeRefusal::ORIGIN, HandshakeRefusal::ORIGIN_NULL, HandshakeRefusal::ORIGIN_MISSING] {
        assert_eq!((refusal.status.as_u16(), refusal.error), (403, "origin_refused"));
    }
}

#[test]
fn the_native_subprotocol_is_selected_and_nothing_else() {
    let selected = |offered: &str| {
        let accepted = check("/ws", &[("sec-websocket-protocol", offered)]).unwrap();
        assert_eq!(accepted.dialect == Dialect::Native, accepted.selected_protocol.is_some());
        accepted.selected_protocol
    };
    assert_eq!(selected("countersign.v1"), Some(NATIVE_SUBPROTOCOL));
    assert_eq!(selected("graphql-ws , countersign.v1,countersign.token.abc"), Some(NATIVE_SUBPROTOCOL));
    assert_eq!(selected("countersign.v2"), None);
    assert_eq!(selected("Countersign.V1"), None);
    assert_eq!(selected(",,"), None);
    let two = check("/ws", &[("sec-websocket-protocol", "mqtt"), ("sec-websocket-protocol", "countersign.v1")]).unwrap();
    assert_eq!(two.selected_protocol, Some(NATIVE_SUBPROTOCOL));
}

#[test]
fn the_token_is_found_wherever_it_may_stand() {
    let token = |path: &str, changed: &[(&'static str, &str)]| check(path, changed).map(|accepted| accepted.token);
    let found = Ok(Some("a.b-c_d".to_owned()));
    assert_eq!(token("/ws", &[]), Ok(None));
    assert_eq!(token("/ws", &[("authorization", "Bearer a.b-c_d")]), found);
    assert_eq!(token("/ws", &[("authorization", "bearer  a.b-c_d ")]), found);
    assert_eq!(token("/ws", &[("authorization", "Basic dTpw")]), Ok(None));
    assert_eq!(token("/ws", &[("authorization", "Bearer")]), Ok(None));
    assert_eq!(token("/ws?token=a.b-c_d", &[]), found);
    assert_eq!(token("/ws?x=1&token=a%2Eb%2dc_d&y", &[]), found);
    assert_eq!(token("/ws?token=", &[]), Ok(None));
    assert_eq!(token("/ws?Token=a.b-c_d", &[]), Ok(None));
    assert_eq!(token("/ws", &[("sec-websocket-protocol", "countersign.v1, countersign.token.a.b-c_d")]), found);
    assert_eq!(token("/ws?token=a.b-c_d", &[("authorization", "Bearer a.b-c_d")]), found, "the same token twice");
    let differ = token("/ws?token=other", &[("authorization", "Bearer a.b-c_d")]).unwrap_err();
    assert_eq!((differ.status, differ.outcome), (StatusCode::BAD_REQUEST, HandshakeOutcome::Malformed));
    assert!(token("/ws?token=a&token=b", &[]).is_err());
}

#[test]
fn places_that_are_switched_off_are_not_read() {
    let mut settings = GatewaySettings::default();
    settings.token.from_authorization = false;
    settings.token.from_subprotocol_prefix = None;
    let sent = [("authorization", "Bearer a"), ("sec-websocket-protocol", "countersign.token.a")];
    assert_eq!(check_with(&settings, "/ws?token=a", &sent).unwrap().token, None);
    settings.token.required = true;
    assert_eq!(check_with(&settings, "/ws?token=a", &sent), Err(HandshakeRefusal::TOKEN_MISSING));
}

#[test]
fn a_channel_to_subscribe_to_comes_from_the_query() {
    let subscribe = |path: &str| check(path, &[]).map(|accepted| accepted.subscribe);
    assert_eq!(subscribe("/ws?channel=room%2F1"), Ok(Some("room/1".to_owned())));
    assert_eq!(subscribe("/ws"), Ok(None));
    assert!(subscribe("/ws?channel=a&channel=b").is_err());
    assert_eq!(check_with(&GatewaySettings::default(), "/ws?channel=a", &[]).unwrap().subscribe, None);
}

#[test]
fn a_token_is_never_shown_nor_echoed() {
    let accepted = check("/ws", &[("sec-websocket-protocol", "countersign.token.sEcReT")]).unwrap();
    assert!(!format!("{accepted:?}").contains("sEcReT"));
    let response = switch_protocols(&request("/ws", GOOD), accepted.selected_protocol).finish();
    assert!(!response.headers().contains_key("sec-websocket-protocol"));
}

#[test]
fn the_answer_follows_the_rfc() {
    let response = switch_protocols(&request("/ws", GOOD), Some(NATIVE_SUBPROTOCOL)).finish();
    assert_eq!(response.status(), 101);
    let header = |name: &str| response.headers().get(name).unwrap().to_str().unwrap();
    assert_eq!(header("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(header("sec-websocket-protocol"), "countersign.v1");
    assert!(response.head().upgrade());
}

#[test]
fn refusals_carry_what_their_status_asks_for() {
    let cors = Cors::new(Arc::new(origins(OriginPolicy::Refuse, OriginPolicy::Refuse)), "connectionId");
    let request = request("/ws", GOOD);
    let header = |refusal: HandshakeRefusal, name: &str| {
        let response = refusal.respond(&request, &cors);
        assert_eq!(response.status(), refusal.status);
        assert_eq!(response.headers().get("access-control-allow-origin").unwrap(), APP);
        assert_eq!(response.headers().get("content-type").unwrap(), "application/json");
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(header(HandshakeRefusal::TOKEN_MISSING, "www-authenticate").as_deref(), Some("Bearer"));
    assert_eq!(header(HandshakeRefusal::TOKEN_INVALID, "www-authenticate").as_deref(), Some("Bearer error=\"invalid_token\""));
    assert_eq!(header(HandshakeRefusal::QUOTA, "retry-after").as_deref(), Some("1"));
    assert_eq!(header(HandshakeRefusal::UNAVAILABLE, "retry-after").as_deref(), Some("1"));
    assert_eq!(header(HandshakeRefusal::CHALLENGES_FULL, "retry-after").as_deref(), Some("5"));
    assert_eq!(header(HandshakeRefusal::failures(42), "retry-after").as_deref(), Some("42"));
    let version = check("/ws", &[("sec-websocket-version", "8")]).unwrap_err();
    assert_eq!(header(version, "sec-websocket-version").as_deref(), Some("13"));
    assert_eq!(header(HandshakeRefusal::ORIGIN, "www-authenticate"), None);
}

#[test]
fn a_request_that_the_browser_calls_something_else_is_no_handshake() {
    assert!(check("/ws", &[("sec-fetch-mode", "websocket")]).is_ok());
    for other in ["cors", "no-cors", "navigate", "same-origin", "WebSocket", "websocket, cors"] {
        assert_eq!(check("/ws", &[("sec-fetch-mode", other)]), Err(HandshakeRefusal::FETCH_MODE), "{other}");
    }
    let twice = [("sec-fetch-mode", "websocket"), ("sec-fetch-mode", "cors")];
    assert_eq!(check("/ws", &twice), Err(HandshakeRefusal::FETCH_MODE));
}
