use actix_web::http::Method;
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, web};

use super::*;
use crate::config::OriginPolicy;
use crate::edge::{Cors, Origin, OriginList};

const PAGE: &str = "http://localhost:3000";

fn cors() -> Cors {
    let list = OriginList::new(vec![Origin::parse(PAGE).unwrap()], OriginPolicy::Refuse, OriginPolicy::Refuse);
    Cors::new(Arc::new(list), "connectionId")
}

/// What came back: status, body, headers by lower-case name.
struct Answer {
    status: u16,
    body: Value,
    headers: Vec<(String, String)>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// One request to a node's endpoints, from a page and an address.
async fn send(fixture: &Fixture, method: Method, path: &str, body: &str) -> Answer {
    let app = App::new().app_data(web::Data::new(cors())).configure(|config| fixture.identity.configure(config));
    let app = init_service(app).await;
    let request = TestRequest::with_uri(path)
        .method(method)
        .peer_addr("192.0.2.1:5000".parse().unwrap())
        .insert_header(("origin", PAGE))
        .set_payload(body.to_owned());
    let response = call_service(&app, request.to_request()).await;
    let status = response.status().as_u16();
    let text = |(name, value): (&actix_web::http::header::HeaderName, &actix_web::http::header::HeaderValue)| {
        (name.as_str().to_owned(), value.to_str().unwrap().to_owned())
    };
    let headers = response.headers().iter().map(text).collect();
    let body = actix_web::test::read_body(response).await;
    Answer { status, body: serde_json::from_slice(&body).unwrap_or(Value::Null), headers }
}

async fn post(fixture: &Fixture, path: &str, body: Value) -> Answer {
    send(fixture, Method::POST, path, &body.to_string()).await
}

/// The status of an answer, for tests elsewhere.
pub(super) async fn status(fixture: &Fixture, path: &str, body: Value) -> u16 {
    post(fixture, path, body).await.status
}

#[actix_web::test]
async fn the_seeds_client_signs_in_and_refreshes() {
    let fixture = Fixture::new();
    fixture.add("ada");
    let signed_in = post(&fixture, "/auth", json!({"user": "ada", "password": PASSWORD})).await;
    assert_eq!(signed_in.status, 200);
    assert_eq!(signed_in.header("cache-control"), Some("no-store"));
    assert_eq!(signed_in.header("access-control-allow-origin"), Some(PAGE));
    assert_eq!(signed_in.body["user"], "ada");
    assert!(fixture.verify(signed_in.body["token"].as_str().unwrap()).await.is_ok());
    let mut refresh = signed_in.body["refresh"].clone();
    for user in [json!("ada"), json!({"username": "ADA", "sub": "any"}), json!({}), Value::Null] {
        let refreshed = post(&fixture, "/auth/refresh", json!({"user": user, "refresh": refresh})).await;
        assert_eq!((refreshed.status, &refreshed.body["user"]), (200, &json!("ada")), "{user}");
        refresh = refreshed.body["refresh"].clone();
    }
    let other = post(&fixture, "/auth/refresh", json!({"user": "eve", "refresh": refresh})).await;
    assert_eq!((other.status, &other.body["error"]), (401, &json!("refresh_refused")));
    assert_eq!(post(&fixture, "/auth/revoke", json!({"refresh": refresh})).await.status, 200);
    assert_eq!(post(&fixture, "/auth/refresh", json!({"refresh": refresh})).await.status, 401);
}

#[actix_web::test]
async fn bad_requests_are_told_which_field_is_wrong() {
    let fixture = Fixture::new();
    for (path, body, named) in [
        ("/auth", "", "JSON object"),
        ("/auth", "[]", "JSON object"),
        ("/auth", "{\"user\":\"\u{1}", "JSON object"),
        ("/auth", r#"{"user":"a","user":"b","password":"c"}"#, "duplicate"),
        ("/auth", "{}", "`user` is missing"),
        ("/auth", r#"{"user":1,"password":"x"}"#, "`user` must be a string"),
        ("/auth", r#"{"user":"ada"}"#, "`password` is missing"),
        ("/auth", r#"{"user":"ada","password":null}"#, "`password` must be a string"),
        ("/auth/refresh", r#"{"user":"ada"}"#, "`refresh` is missing"),
        ("/auth/refresh", r#"{"user":7,"refresh":"x"}"#, "`user` must be"),
        ("/auth/refresh", r#"{"user":{"username":7},"refresh":"x"}"#, "`user.username`"),
        ("/auth/revoke", r#"{"refresh":false}"#, "`refresh` must be a string"),
        ("/auth/password", r#"{"user":"ada","password":"x"}"#, "`new_password` is missing"),
    ] {
        let answer = send(&fixture, Method::POST, path, body).await;
        assert_eq!((answer.status, &answer.body["error"]), (400, &json!("bad_request")), "{path} {body}");
        assert!(answer.body["message"].as_str().unwrap().contains(named), "{} for {body}", answer.body);
        assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE), "errors too");
    }
    let large = format!(r#"{{"user":"{}"}}"#, "x".repeat(fixture.settings.server.request_body_max_bytes));
    assert_eq!(send(&fixture, Method::POST, "/auth", &large).await.status, 413);
}

#[actix_web::test]
async fn failures_of_sign_in_cannot_be_told_apart() {
    let fixture = Fixture::new();
    for name in ["ada", "bob", "locked"] {
        fixture.add(name);
    }
    fixture.admin().set_disabled("bob", true).unwrap();
    for _ in 0..5 {
        let wrong = post(&fixture, "/auth", json!({"user": "locked", "password": "wrong"})).await;
        assert_eq!(wrong.status, 401);
    }
    let mut answers = Vec::new();
    for (user, password) in [("ada", "wrong"), ("nobody", "wrong"), ("bob", PASSWORD), ("locked", PASSWORD), ("", "")] {
        let answer = post(&fixture, "/auth", json!({"user": user, "password": password})).await;
        answers.push((answer.status, answer.body, answer.headers));
    }
    assert_eq!(answers[0].0, 401);
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
}

#[actix_web::test]
async fn a_temporary_password_is_replaced_over_http() {
    let fixture = Fixture::new();
    let temporary = fixture.admin().add("ada", None, GivenPassword::Generated).unwrap().unwrap();
    let first = post(&fixture, "/auth", json!({"user": "ada", "password": *temporary})).await;
    assert_eq!((first.status, &first.body["error"]), (403, &json!("password_change_required")));
    let change = |new: &str| json!({"user": "ada", "password": *temporary, "new_password": new});
    let weak = post(&fixture, "/auth/password", change("password1")).await;
    assert_eq!((weak.status, &weak.body["error"]), (400, &json!("password_not_accepted")));
    let changed = post(&fixture, "/auth/password", change(PASSWORD)).await;
    assert_eq!(changed.status, 200);
    assert!(fixture.verify(changed.body["token"].as_str().unwrap()).await.is_ok());
}

#[actix_web::test]
async fn an_address_is_throttled_whatever_it_sends() {
    let fixture = Fixture::with(|settings| settings.identity.pool.attempts_per_address_per_minute = 2);
    for _ in 0..2 {
        assert_eq!(post(&fixture, "/auth", json!({})).await.status, 400);
    }
    let answer = post(&fixture, "/auth", json!({"user": "ada", "password": PASSWORD})).await;
    assert_eq!((answer.status, &answer.body["error"]), (429, &json!("too_many_attempts")));
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
}

#[actix_web::test]
async fn sign_up_is_closed_unless_opened() {
    let body = json!({"user": "ada", "password": PASSWORD});
    let closed = post(&Fixture::new(), "/auth/sign-up", body.clone()).await;
    assert_eq!((closed.status, &closed.body["error"]), (403, &json!("sign_up_disabled")));
    let open = Fixture::with(|settings| settings.identity.pool.self_sign_up = true);
    assert_eq!(post(&open, "/auth/sign-up", body.clone()).await.status, 201);
    assert_eq!(post(&open, "/auth/sign-up", body).await.status, 409);
}

#[actix_web::test]
async fn methods_and_preflights_are_answered() {
    let fixture = Fixture::new();
    let get = send(&fixture, Method::GET, "/auth", "").await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    assert_eq!(send(&fixture, Method::OPTIONS, "/auth", "").await.status, 204);
    let app = App::new().app_data(web::Data::new(cors())).configure(|config| fixture.identity.configure(config));
    let app = init_service(app).await;
    let preflight = TestRequest::with_uri("/auth/refresh")
        .method(Method::OPTIONS)
        .insert_header(("origin", PAGE))
        .insert_header(("access-control-request-method", "POST"))
        .insert_header(("access-control-request-headers", "content-type"));
    let response = call_service(&app, preflight.to_request()).await;
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers().get("access-control-allow-methods").unwrap(), "POST");
}

#[actix_web::test]
async fn the_key_set_and_the_configuration_are_public() {
    let fixture = Fixture::new();
    let keys = send(&fixture, Method::GET, "/.well-known/jwks.json", "").await;
    assert_eq!((keys.status, keys.header("cache-control")), (200, Some("public, max-age=300")));
    assert_eq!(keys.body["keys"][0]["alg"], "ES256");
    let configuration = send(&fixture, Method::GET, "/.well-known/openid-configuration", "").await;
    assert_eq!(configuration.body["issuer"], "http://127.0.0.1:8080");
    assert_eq!(configuration.body["jwks_uri"], "http://127.0.0.1:8080/.well-known/jwks.json");
    assert_eq!(send(&fixture, Method::POST, "/.well-known/jwks.json", "").await.status, 405);
}

#[actix_web::test]
async fn a_disabled_pool_has_no_endpoints() {
    let fixture = Fixture::with(|settings| settings.identity.pool.enabled = false);
    assert_eq!(post(&fixture, "/auth", json!({})).await.status, 404);
    assert!(!fixture.folder.path().join("data").exists());
    let app = init_service(App::new().configure(|config| fixture.identity.configure(config))).await;
    let response = call_service(&app, TestRequest::get().uri("/.well-known/jwks.json").to_request()).await;
    assert_eq!(response.status(), 404);
}
