use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::address_rate::AddressRate;
use super::hasher::Password;
use super::json::strict_object;
use super::keys::SigningKeys;
use super::pool::{AuthRefusal, Session, UserPool};
use crate::edge::{ClientAddress, Cors, refuse};
use crate::telemetry::{AuthOutcome, Metrics};

/// Longest time to take a request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a path of the pool does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    SignIn,
    Refresh,
    Revoke,
    Password,
    SignUp,
    KeySet,
    Configuration,
}

/// The pool's HTTP endpoints.
#[derive(Debug)]
pub(super) struct Endpoints {
    pub(super) pool: UserPool,
    pub(super) keys: Arc<SigningKeys>,
    pub(super) iss: String,
    pub(super) auth_path: String,
    pub(super) self_sign_up: bool,
    pub(super) body_bytes_max: usize,
    pub(super) key_set_max_age: u64,
    pub(super) addresses: ClientAddress,
    pub(super) rate: AddressRate,
    pub(super) metrics: Arc<Metrics>,
}

/// Adds the endpoints to an application.
pub(super) fn configure(endpoints: &Arc<Endpoints>, config: &mut ServiceConfig) {
    let below = |name: &str| format!("{}/{name}", endpoints.auth_path.trim_end_matches('/'));
    for (path, operation) in [
        (endpoints.auth_path.clone(), Operation::SignIn),
        (below("refresh"), Operation::Refresh),
        (below("revoke"), Operation::Revoke),
        (below("password"), Operation::Password),
        (below("sign-up"), Operation::SignUp),
        ("/.well-known/jwks.json".to_owned(), Operation::KeySet),
        ("/.well-known/openid-configuration".to_owned(), Operation::Configuration),
    ] {
        let endpoints = Arc::clone(endpoints);
        config.service(web::resource(path).to(move |request: HttpRequest, body: web::Payload| {
            let endpoints = Arc::clone(&endpoints);
            async move { endpoints.answer(operation, &request, body).await }
        }));
    }
}

/// An answer that refuses, on its way out.
struct Refused {
    outcome: AuthOutcome,
    /// Boxed: it travels through every `?` of this file.
    response: Box<HttpResponse>,
}

impl Refused {
    fn new(outcome: AuthOutcome, status: StatusCode, error: &str, message: &str) -> Self {
        Self { outcome, response: Box::new(refuse(status, error, message)) }
    }

    fn bad_request(message: &str) -> Self {
        Self::new(AuthOutcome::BadRequest, StatusCode::BAD_REQUEST, "bad_request", message)
    }
}

impl Endpoints {
    /// Answers any request on one of the paths; every answer says which origins may read it, refusals included.
    async fn answer(&self, operation: Operation, request: &HttpRequest, body: web::Payload) -> HttpResponse {
        let cors = request.app_data::<web::Data<Cors>>();
        if let Some(preflight) = cors.and_then(|cors| cors.preflight(request)) {
            return preflight;
        }
        let mut response = match operation {
            Operation::KeySet | Operation::Configuration => self.document(operation, request.method()),
            _ if request.method() == Method::OPTIONS => allow_only("POST", StatusCode::NO_CONTENT),
            _ if request.method() != Method::POST => allow_only("POST", StatusCode::METHOD_NOT_ALLOWED),
            _ => self.act(operation, request, body).await,
        };
        if let Some(cors) = cors {
            cors.decorate(request.headers(), response.headers_mut());
        }
        response
    }

    async fn act(&self, operation: Operation, request: &HttpRequest, body: web::Payload) -> HttpResponse {
        let done = match self.admit(operation, request) {
            Ok(()) => self.perform(operation, body).await,
            Err(refused) => Err(refused),
        };
        let (outcome, response) = match done {
            Ok(response) => (AuthOutcome::Ok, response),
            Err(refused) => (refused.outcome, *refused.response),
        };
        self.metrics.auth.of(outcome).inc();
        response
    }

    /// Attempts that cost a hash are counted by address.
    fn admit(&self, operation: Operation, request: &HttpRequest) -> Result<(), Refused> {
        let costly = matches!(operation, Operation::SignIn | Operation::Password | Operation::SignUp);
        let Some(address) = self.addresses.of(request).filter(|_| costly) else { return Ok(()) };
        self.rate.admit(address).map_err(|seconds| {
            let message = "too many attempts from this address";
            let mut refused = Refused::new(AuthOutcome::Throttled, StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", message);
            refused.response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            refused
        })
    }

    async fn perform(&self, operation: Operation, body: web::Payload) -> Result<HttpResponse, Refused> {
        let mut fields = self.fields(body).await?;
        let session = match operation {
            Operation::SignIn => self.pool.sign_in(&text(&mut fields, "user")?, secret(&mut fields, "password")?).await,
            Operation::Password => {
                let (user, password) = (text(&mut fields, "user")?, secret(&mut fields, "password")?);
                self.pool.change_password(&user, password, secret(&mut fields, "new_password")?).await
            }
            Operation::SignUp if !self.self_sign_up => {
                let message = "users are created by an administrator here";
                return Err(Refused::new(AuthOutcome::Refused, StatusCode::FORBIDDEN, "sign_up_disabled", message));
            }
            Operation::SignUp => {
                let (user, password) = (text(&mut fields, "user")?, secret(&mut fields, "password")?);
                let email = if fields.contains_key("email") { Some(text(&mut fields, "email")?) } else { None };
                self.pool.sign_up(&user, password, email).await
            }
            Operation::Refresh => {
                let user = named_user(&mut fields)?;
                self.pool.refresh(user.as_deref(), &secret(&mut fields, "refresh")?).await
            }
            Operation::Revoke => {
                self.pool.revoke(&secret(&mut fields, "refresh")?).await.map_err(|refusal| refused(operation, &refusal))?;
                return Ok(no_store(StatusCode::OK, json!({})));
            }
            Operation::KeySet | Operation::Configuration => return Err(Refused::bad_request("not to be posted to")),
        };
        let status = if operation == Operation::SignUp { StatusCode::CREATED } else { StatusCode::OK };
        session.map(|session| no_store(status, session_body(&session))).map_err(|refusal| refused(operation, &refusal))
    }

    /// Reads a body: JSON whatever its content type says, bounded in bytes and time.
    async fn fields(&self, body: web::Payload) -> Result<Map<String, Value>, Refused> {
        let taken = tokio::time::timeout(BODY_TIMEOUT, body.to_bytes_limited(self.body_bytes_max)).await;
        let bytes = match taken {
            Ok(Ok(Ok(bytes))) => bytes,
            Ok(Ok(Err(_))) => return Err(Refused::bad_request("request body broke off")),
            Ok(Err(_)) => {
                let message = format!("request body has more than {} bytes", self.body_bytes_max);
                return Err(Refused::new(AuthOutcome::BadRequest, StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", &message));
            }
            Err(_) => {
                let message = "request body did not arrive in time";
                return Err(Refused::new(AuthOutcome::BadRequest, StatusCode::REQUEST_TIMEOUT, "body_timeout", message));
            }
        };
        strict_object(&bytes)
            .map_err(|_| Refused::bad_request("request body must be one JSON object without duplicate members"))
    }

    fn document(&self, operation: Operation, method: &Method) -> HttpResponse {
        match *method {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => return allow_only("GET, HEAD", StatusCode::NO_CONTENT),
            _ => return allow_only("GET, HEAD", StatusCode::METHOD_NOT_ALLOWED),
        }
        let document = if operation == Operation::KeySet { self.keys.jwks() } else { self.openid_configuration() };
        let cache = (header::CACHE_CONTROL, format!("public, max-age={}", self.key_set_max_age));
        HttpResponse::Ok().insert_header(cache).json(document)
    }

    /// What there is of OpenID Connect Discovery 1.0, section 3: enough for a verifier to find the keys.
    fn openid_configuration(&self) -> Value {
        let below_issuer = |path: &str| format!("{}{path}", self.iss.trim_end_matches('/'));
        json!({
            "issuer": self.iss,
            "jwks_uri": below_issuer("/.well-known/jwks.json"),
            "token_endpoint": below_issuer(&self.auth_path),
            "revocation_endpoint": below_issuer(&format!("{}/revoke", self.auth_path.trim_end_matches('/'))),
            "response_types_supported": ["token"],
            "grant_types_supported": ["password", "refresh_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            "scopes_supported": ["openid"],
            "claims_supported": ["sub", "aud", "iss", "exp", "iat", "auth_time", "token_use", "cognito:username", "email"],
        })
    }
}

/// From what the pool says to what the client is told.
fn refused(operation: Operation, refusal: &AuthRefusal) -> Refused {
    let (error, message) = match operation {
        Operation::Refresh => ("refresh_refused", "refresh token is not accepted: sign in again"),
        _ => ("credentials_refused", "user name or password is not accepted"),
    };
    let unauthorized = |outcome| {
        let mut refused = Refused::new(outcome, StatusCode::UNAUTHORIZED, error, message);
        let challenge = HeaderValue::from_static("Bearer realm=\"countersign\"");
        refused.response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        refused
    };
    match refusal {
        AuthRefusal::Refused => unauthorized(AuthOutcome::Refused),
        AuthRefusal::Locked => unauthorized(AuthOutcome::Throttled),
        AuthRefusal::Reused => unauthorized(AuthOutcome::ReuseDetected),
        AuthRefusal::ChangeRequired => {
            let message = "password is temporary: replace it with a request to the password path below this one";
            Refused::new(AuthOutcome::ChangeRequired, StatusCode::FORBIDDEN, "password_change_required", message)
        }
        AuthRefusal::Weak(weak) => {
            Refused::new(AuthOutcome::BadRequest, StatusCode::BAD_REQUEST, "password_not_accepted", &weak.to_string())
        }
        AuthRefusal::BadName => Refused::bad_request(&format!("field `user`: {refusal}")),
        AuthRefusal::Taken => Refused::new(AuthOutcome::Refused, StatusCode::CONFLICT, "user_exists", &refusal.to_string()),
        AuthRefusal::Busy(busy) => {
            Refused::new(AuthOutcome::Unavailable, StatusCode::SERVICE_UNAVAILABLE, "overloaded", &busy.to_string())
        }
        AuthRefusal::Unavailable(reason) => {
            tracing::error!(reason, "user pool unavailable");
            let message = "user pool is not available";
            Refused::new(AuthOutcome::Unavailable, StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
        }
    }
}

fn session_body(session: &Session) -> Value {
    json!({
        "token": session.id_token,
        "refresh": session.refresh_token,
        "user": session.username,
        "access_token": session.access_token,
        "token_type": "Bearer",
        "expires_in": session.expires_in,
    })
}

fn no_store(status: StatusCode, body: Value) -> HttpResponse {
    HttpResponse::build(status).insert_header((header::CACHE_CONTROL, "no-store")).json(body)
}

fn allow_only(methods: &'static str, status: StatusCode) -> HttpResponse {
    let mut response = match status {
        StatusCode::METHOD_NOT_ALLOWED => refuse(status, "method_not_allowed", &format!("this path answers {methods}")),
        _ => HttpResponse::new(status),
    };
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

fn text(fields: &mut Map<String, Value>, name: &str) -> Result<String, Refused> {
    match fields.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Refused::bad_request(&format!("field `{name}` must be a string"))),
        None => Err(Refused::bad_request(&format!("field `{name}` is missing"))),
    }
}

fn secret(fields: &mut Map<String, Value>, name: &str) -> Result<Password, Refused> {
    text(fields, name).map(Zeroizing::new)
}

/// The `user` of a refresh: a name, an object with a `username`, or nothing. Clients send back what sign-in gave them,
/// and some keep that in an object.
fn named_user(fields: &mut Map<String, Value>) -> Result<Option<String>, Refused> {
    match fields.get_mut("user").map(Value::take) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => Ok(Some(name)),
        Some(Value::Object(mut user)) => match user.remove("username") {
            None => Ok(None),
            Some(Value::String(name)) => Ok(Some(name)),
            Some(_) => Err(Refused::bad_request("field `user.username` must be a string")),
        },
        Some(_) => Err(Refused::bad_request("field `user` must be a string or an object")),
    }
}
