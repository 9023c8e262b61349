use std::sync::atomic::Ordering;

use actix_web::dev::ServiceResponse;
use actix_web::test::{self, TestRequest};
use actix_web::{App, body};
use serde_json::{Value, json};

use super::super::judge::tests::{Bench, bench, principal};
use super::*;
use crate::config::{Mode, OriginPolicy, Require, Seconds};
use crate::edge::{Origin, OriginList};
use crate::registry::{ConnectionState, RegistryUnavailable};

/// Settings that ask for the connection id alone.
fn bearer() -> AuthorizerSettings {
    AuthorizerSettings { mode: Mode::Bearer, ..AuthorizerSettings::default() }
}

const PAGE: &str = "http://localhost:3000";

/// One request through an application with the endpoint and a protected resource.
async fn call(bench: &Bench, settings: &AuthorizerSettings, request: TestRequest) -> ServiceResponse {
    call_named(bench, settings, &[], request).await
}

/// The same, of a node with these names.
async fn call_named(bench: &Bench, settings: &AuthorizerSettings, hosts: &[String], request: TestRequest) -> ServiceResponse {
    let origins = OriginList::new(vec![Origin::parse(PAGE).unwrap()], OriginPolicy::Refuse, OriginPolicy::Refuse);
    let cors = Cors::new(Arc::new(origins), &settings.header);
    let endpoint = AuthorizeEndpoint::new(settings, bench.authorizer.clone(), cors);
    let greeting =
        |path: &str, require| ProtectedResource { path: path.to_owned(), require, mode: None, body: json!({"message": "hi"}) };
    let resources = [greeting("/greeting", None), greeting("/both", Some(Require::Both))];
    let app = App::new().configure(|config| {
        endpoint.configure(config);
        endpoint.configure_protected(config, &resources, &HostList::new(hosts, false));
    });
    test::call_service(&test::init_service(app).await, request.to_request()).await
}

/// A bench with one verified connection, and its id.
fn open() -> (Bench, String) {
    let bench = bench();
    let id = bench.open(1, ConnectionState::Verified, Some(principal("ada", u64::MAX))).id.encode();
    (bench, id)
}

fn header<'a>(response: &'a ServiceResponse, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn json_of(response: ServiceResponse) -> Value {
    serde_json::from_slice(&body::to_bytes(response.into_body()).await.unwrap()).unwrap()
}

#[actix_rt::test]
async fn every_method_and_sub_path_is_answered_with_all_identity_headers() {
    let (bench, id) = open();
    for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        for path in ["/authorize", "/authorize/", "/authorize/a/b%20c", "/authorize/x?require=verified&b=c", "/authorize?x"] {
            let request = TestRequest::with_uri(path).method(method.clone()).insert_header(("connectionId", id.as_str()));
            let response = call(&bench, &bearer(), request).await;
            assert_eq!(response.status(), 200, "{method} {path}");
            assert_eq!(header(&response, "x-countersign-subject"), "ada");
            assert_eq!(header(&response, "x-countersign-connection-id"), id);
            assert_eq!(header(&response, "x-countersign-origin"), "https://app.example");
            assert_eq!(header(&response, "cache-control"), "no-store");
            assert_eq!(json_of(response).await, json!({"allowed": true}));
        }
    }
}

#[actix_rt::test]
async fn what_proxies_pass_on_from_clients_changes_nothing() {
    let (bench, id) = open();
    let request = TestRequest::post()
        .uri("/authorize")
        .insert_header(("connectionId", id.as_str()))
        .insert_header(("Upgrade", "websocket"))
        .insert_header(("Expect", "100-continue"))
        .insert_header(("Range", "bytes=0-1"))
        .insert_header(("If-None-Match", "*"))
        .insert_header(("If-Modified-Since", "Sun, 06 Nov 2094 08:49:37 GMT"))
        .insert_header(("X-Countersign-Subject", "root"))
        .insert_header(("X-Countersign-Connection-Id", "forged"))
        .set_payload(vec![0_u8; 200_000]);
    let response = call(&bench, &bearer(), request).await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "x-countersign-subject"), "ada");
    assert_eq!(response.headers().get_all("x-countersign-subject").count(), 1);
    assert_eq!(header(&response, "x-countersign-connection-id"), id);
}

/// Request headers by name.
type Headers<'a> = &'a [(&'a str, &'a str)];

/// A refusal: status, code, challenge.
async fn check_refused(bench: &Bench, path: &str, headers: Headers<'_>, expected: (u16, &str, &str)) {
    let mut request = TestRequest::with_uri(path).insert_header(("Origin", PAGE));
    for pair in headers {
        request = request.append_header(*pair);
    }
    let response = call(bench, &bearer(), request).await;
    let seen = (response.status().as_u16(), header(&response, "www-authenticate").to_owned());
    assert_eq!(seen, (expected.0, expected.2.to_owned()), "{path} {headers:?}");
    assert_eq!(header(&response, "cache-control"), "no-store");
    assert_eq!(header(&response, "access-control-allow-origin"), PAGE);
    assert_eq!(header(&response, "retry-after").is_empty(), expected.0 != 503);
    assert!(response.headers().get("x-countersign-subject").is_none());
    let body = json_of(response).await;
    assert_eq!(body["error"], expected.1);
    assert!(body["message"].is_string());
}

#[actix_rt::test]
async fn refusals_say_which_credential_is_wanted() {
    let (bench, id) = open();
    let unverified = bench.open(2, ConnectionState::Challenged, None).id.encode();
    let unknown = countersign_node_proto::ConnectionId::from_bytes([9; 16]).encode();
    let connection = r#"Connection realm="countersign""#;
    let bearer = r#"Bearer realm="countersign""#;
    let invalid = r#"Bearer realm="countersign", error="invalid_token""#;
    let cases: &[(&str, Headers<'_>, (u16, &str, &str))] = &[
        ("/authorize", &[], (401, "connection_missing", connection)),
        ("/authorize", &[("connectionId", "null")], (401, "connection_malformed", connection)),
        ("/authorize", &[("connectionId", &id), ("connectionId", &id)], (401, "connection_malformed", connection)),
        ("/authorize", &[("connectionId", &unknown)], (401, "connection_unknown", connection)),
        ("/authorize", &[("connectionId", &unverified)], (401, "connection_unverified", connection)),
        ("/authorize?require=token", &[("connectionId", &id)], (401, "token_missing", bearer)),
        ("/authorize?require=both", &[("connectionId", &id), ("authorization", "Bearer x")], (401, "token_invalid", invalid)),
        (
            "/authorize?require=both",
            &[("connectionId", &id), ("authorization", "Bearer token:eve")],
            (403, "principal_mismatch", ""),
        ),
        ("/greeting", &[], (401, "connection_missing", connection)),
        ("/both", &[("connectionId", &id)], (401, "token_missing", bearer)),
    ];
    for (path, headers, expected) in cases {
        check_refused(&bench, path, headers, *expected).await;
    }
    *bench.registry.answer.lock().unwrap() = Err(RegistryUnavailable("away".to_owned()));
    let other = countersign_node_proto::ConnectionId::from_bytes([8; 16]).encode();
    check_refused(&bench, "/authorize", &[("connectionId", &other)], (503, "registry_unavailable", "")).await;
    assert!(bench.registry.calls.load(Ordering::Relaxed) >= 2);
}

#[actix_rt::test]
async fn only_an_allow_may_be_kept_and_only_if_configured() {
    let (bench, id) = open();
    let settings = AuthorizerSettings { allow_max_age_seconds: Seconds(3), ..bearer() };
    let allowed = call(&bench, &settings, TestRequest::with_uri("/authorize").insert_header(("connectionId", id))).await;
    assert_eq!(header(&allowed, "cache-control"), "max-age=3");
    let vary: Vec<&str> = allowed.headers().get_all("vary").map(|value| value.to_str().unwrap()).collect();
    assert_eq!(
        vary,
        ["connectionId, Countersign-Ticket, Countersign-Proof, Authorization", "Origin"],
        "one caller's allow is no other's"
    );
    let denied = call(&bench, &settings, TestRequest::with_uri("/authorize")).await;
    assert_eq!(header(&denied, "cache-control"), "no-store");
}

/// A preflight of a listed origin.
fn preflight(path: &str) -> TestRequest {
    TestRequest::with_uri(path)
        .method(Method::OPTIONS)
        .insert_header(("Origin", PAGE))
        .insert_header(("Access-Control-Request-Method", "GET"))
        .insert_header(("Access-Control-Request-Headers", "connectionid"))
}

#[actix_rt::test]
async fn a_preflight_is_answered_by_a_resource_and_judged_by_the_authorizer() {
    let (bench, id) = open();
    let response = call(&bench, &bearer(), preflight("/greeting")).await;
    assert_eq!(response.status(), 204);
    assert!(header(&response, "access-control-allow-headers").contains("connectionid"));
    for path in ["/authorize", "/authorize/greeting"] {
        let response = call(&bench, &bearer(), preflight(path)).await;
        assert_eq!(response.status(), 401, "{path}");
        assert_eq!(header(&response, "access-control-allow-methods"), "");
        assert_eq!(call(&bench, &bearer(), preflight(path).insert_header(("connectionId", id.as_str()))).await.status(), 200);
    }
}

#[actix_rt::test]
async fn a_protected_resource_is_that_of_its_own_hosts_only() {
    let (bench, id) = open();
    let both = ["a.example".to_owned(), "b.example:8080".to_owned()];
    let check = async |hosts: &[String], sent: &[&str], expected: (u16, &str)| {
        for request in [TestRequest::with_uri("/greeting").insert_header(("connectionId", id.as_str())), preflight("/greeting")]
        {
            let request = sent.iter().fold(request, |request, host| request.append_header(("Host", *host)));
            let response = call_named(&bench, &bearer(), hosts, request).await;
            let status = response.status().as_u16();
            if expected.0 == 200 {
                assert!(matches!(status, 200 | 204), "{sent:?}: {status}");
            } else {
                assert_eq!((status, json_of(response).await["error"].as_str().unwrap()), expected, "{sent:?}");
            }
        }
    };
    for host in ["a.example", "A.example:80", "b.example:8080"] {
        check(&both, &[host], (200, "")).await;
    }
    for host in ["b.example", "c.example", "a.example.", "x.a.example"] {
        check(&both, &[host], (421, "host_refused")).await;
        check(&both[..1], &[host], (200, "")).await;
        check(&[], &[host], (200, "")).await;
    }
    for sent in [&["a b"][..], &["a.example", "b.example:8080"]] {
        check(&both, sent, (400, "bad_request")).await;
        check(&[], sent, (400, "bad_request")).await;
    }
    check(&both, &[], (400, "bad_request")).await;
    check(&[], &[], (200, "")).await;
}

#[actix_rt::test]
async fn a_protected_resource_can_only_be_read_by_those_who_may() {
    let (bench, id) = open();
    let settings = bearer();
    let get =
        |path: &str| TestRequest::with_uri(path).insert_header(("connectionId", id.as_str())).insert_header(("Origin", PAGE));
    let response = call(&bench, &settings, get("/greeting")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "access-control-allow-origin"), PAGE);
    assert_eq!(json_of(response).await, json!({"message": "hi"}));
    let both = call(&bench, &settings, get("/both").insert_header(("authorization", "Bearer token:ada"))).await;
    assert_eq!(both.status(), 200);
    let post = call(&bench, &settings, get("/greeting").method(Method::POST)).await;
    assert_eq!(post.status(), 405);
    assert_eq!(call(&bench, &settings, get("/greeting/more")).await.status(), 404);
}
