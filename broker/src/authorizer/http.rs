//! The endpoint that a reverse proxy asks, and the resources that the node protects itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::call::Asked;
use super::decision::{Identity, Refused, Shown};
use super::demand::{Demand, unknown_mode, unknown_requirement};
use super::judge::Authorizer;
use crate::config::{AuthorizerSettings, CallFrom, ProtectedResource};
use crate::edge::{Cors, HostList, HostVerdict, NO_VALUE, UNLISTED_HOST, UNREADABLE_HOST, refuse};

/// On every allow: the token's subject.
const SUBJECT: HeaderName = HeaderName::from_static("x-countersign-subject");
/// On every allow: the token's issuer, as it is configured.
const ISSUER: HeaderName = HeaderName::from_static("x-countersign-issuer");
/// On every allow: the connection.
const CONNECTION_ID: HeaderName = HeaderName::from_static("x-countersign-connection-id");
/// On every allow: the origin of the connection's handshake.
const ORIGIN: HeaderName = HeaderName::from_static("x-countersign-origin");

/// On every allow: SHA-256 of the body that the page signed. Who reads the body compares.
const BODY_DIGEST: HeaderName = HeaderName::from_static("x-countersign-body-digest");

/// Body of an allow: proxies throw it away, and some count its bytes.
const ALLOWED: Bytes = Bytes::from_static(br#"{"allowed":true}"#);
/// Body bytes of a request that are read and thrown away, so that its connection can be kept alive.
const DRAINED_BYTES_MAX: usize = 65_536;
/// Longest wait for them.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two warnings of one kind.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// Of such a requirement, at most so much is logged.
const SHOWN_CHARACTERS_MAX: usize = 32;

/// The forward-auth endpoint.
///
/// Takes every method and sub-path, and reads nothing but the credentials, the parameters `require` and `mode`, and, where a
/// proof is asked for, which call it is, from the configured source: not the body, nor `Upgrade`, `Expect`, `Range`, `If-*` or `X-Countersign-*`, which proxies pass on from clients. Answers exactly 200, 401,
/// 403 or 503, and 200 always with all identity headers. A CORS preflight gets no answer of its own: a proxy that passes the
/// method on would take any 2xx for an allow.
pub struct AuthorizeEndpoint {
    authorizer: Arc<Authorizer>,
    cors: Cors,
    path: String,
    demand: Demand,
    call_from: CallFrom,
    /// `max-age` of an allow in seconds; 0: none is kept.
    allow_max_age: u64,
    /// When a parameter that is not known was last logged.
    unknown_warned_at: Mutex<Option<Instant>>,
    /// When a call that is not said was last logged.
    call_warned_at: Mutex<Option<Instant>>,
    /// Names of the headers that an allow depends on.
    credentials: HeaderValue,
}

impl AuthorizeEndpoint {
    /// An endpoint as configured.
    #[must_use]
    pub fn new(settings: &AuthorizerSettings, authorizer: Arc<Authorizer>, cors: Cors) -> Arc<Self> {
        Arc::new(Self {
            authorizer,
            cors,
            path: settings.path.clone(),
            demand: Demand { require: settings.require, mode: settings.mode },
            call_from: settings.call_from,
            allow_max_age: settings.allow_max_age_seconds.0,
            unknown_warned_at: Mutex::new(None),
            call_warned_at: Mutex::new(None),
            credentials: HeaderValue::try_from(format!(
                "{}, Countersign-Ticket, Countersign-Proof, Authorization",
                settings.header
            ))
            .unwrap_or(HeaderValue::from_static("*")),
        })
    }

    /// Adds the endpoint and its sub-paths to an application. It stands on both listeners.
    pub fn configure(self: &Arc<Self>, config: &mut web::ServiceConfig) {
        let path = self.path.trim_end_matches('/');
        for path in [path.to_owned(), format!("{path}/{{tail:.*}}")] {
            let endpoint = web::Data::from(self.clone());
            config.service(web::resource(path).app_data(endpoint).to(authorize));
        }
    }

    /// Adds the protected resources to an application: the public one.
    /// `hosts`: the names by which clients reach them.
    pub fn configure_protected(
        self: &Arc<Self>,
        config: &mut web::ServiceConfig,
        resources: &[ProtectedResource],
        hosts: &HostList,
    ) {
        for resource in resources {
            let protected = Protected {
                endpoint: self.clone(),
                hosts: hosts.clone(),
                demand: Demand {
                    require: resource.require.unwrap_or(self.demand.require),
                    mode: resource.mode.unwrap_or(self.demand.mode),
                },
                body: Bytes::from(resource.body.to_string()),
            };
            config.service(web::resource(&resource.path).app_data(web::Data::new(protected)).to(serve_protected));
        }
    }

    /// What a call needs: what is configured, and what its query adds.
    fn demanded(&self, query: &str) -> Demand {
        if query.is_empty() {
            return self.demand;
        }
        if let Some(value) = unknown_requirement(query)
            && may_warn(&self.unknown_warned_at, Instant::now())
        {
            let value: String = value.chars().take(SHOWN_CHARACTERS_MAX).collect();
            tracing::warn!(?value, "require is none of token, verified and both: asking for both");
        }
        if let Some(value) = unknown_mode(query)
            && may_warn(&self.unknown_warned_at, Instant::now())
        {
            let value: String = value.chars().take(SHOWN_CHARACTERS_MAX).collect();
            tracing::warn!(?value, "mode is none of bearer, ticket and proof: asking for a proof");
        }
        self.demand.raised_by(query)
    }

    /// Decides on a call, and tells the operator of a proxy that does not say which.
    async fn decide(&self, asked: &Asked<'_>, demand: Demand) -> Result<Identity, Refused> {
        let verdict = self.authorizer.decide(asked, demand).await.verdict;
        if verdict == Err(Refused::CallMissing) && may_warn(&self.call_warned_at, Instant::now()) {
            let call_from = asked.from;
            tracing::warn!(
                ?call_from,
                "a proof cannot be judged: the request does not say which call it is about; see authorizer.call_from"
            );
        }
        verdict
    }

    /// How long an allow may be kept: not longer than what was shown is good, and a proof for no other call.
    fn keeping(&self, shown: &Shown) -> u64 {
        match shown {
            Shown::Id => self.allow_max_age,
            Shown::Ticket { left_seconds } => self.allow_max_age.min(*left_seconds),
            Shown::Proof { .. } => 0,
        }
    }

    /// The answer to an allowed call.
    fn allow(&self, request: &HttpRequest, identity: Identity) -> HttpResponse {
        let keep = self.keeping(&identity.shown);
        let caching = if keep == 0 { None } else { HeaderValue::try_from(format!("max-age={keep}")).ok() };
        let mut response = answer(ALLOWED, caching.unwrap_or(HeaderValue::from_static("no-store")));
        let headers = response.headers_mut();
        headers.insert(SUBJECT, identity.headers.subject.clone());
        headers.insert(ISSUER, identity.headers.issuer.clone());
        headers.insert(CONNECTION_ID, identity.connection);
        headers.insert(ORIGIN, identity.headers.origin.clone());
        let digest = if let Shown::Proof { body_digest } = identity.shown { body_digest } else { None };
        headers.insert(BODY_DIGEST, digest.unwrap_or(NO_VALUE));
        // Proxies ask without an origin, mostly, and what is not stored varies with nothing.
        if keep > 0 {
            // Whoever keeps an allow must not give it to another caller.
            headers.append(header::VARY, self.credentials.clone());
        }
        if keep > 0 || request.headers().contains_key(header::ORIGIN) {
            self.cors.decorate(request.headers(), headers);
        }
        response
    }

    /// The answer to a refused call.
    fn refuse(&self, request: &HttpRequest, refused: Refused) -> HttpResponse {
        let row = refused.row();
        let mut response = refuse(row.status, row.code, row.message);
        if let Some(challenge) = row.challenge {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        self.cors.decorate(request.headers(), response.headers_mut());
        response
    }
}

/// A resource that the node answers itself.
struct Protected {
    endpoint: Arc<AuthorizeEndpoint>,
    hosts: HostList,
    demand: Demand,
    body: Bytes,
}

impl Protected {
    /// The host that a call was made to; `None`: it names none, as HTTP/1.0 may, and any is good.
    ///
    /// # Errors
    /// Status, code and message for a call for a host that is not ours, as a handshake gets them: what is signed for another
    /// host must not count here because somebody carried it here.
    fn dialed(&self, request: &HttpRequest) -> Result<Option<Arc<str>>, (StatusCode, &'static str, &'static str)> {
        let unreadable = (StatusCode::BAD_REQUEST, "bad_request", UNREADABLE_HOST);
        let mut named = request.headers().get_all(header::HOST).map(HeaderValue::as_bytes);
        // A target in absolute form counts before the header (RFC 9112, section 3.2.2).
        let host = match (request.uri().authority(), named.next(), named.next()) {
            (Some(authority), _, _) => authority.as_str().as_bytes(),
            (None, host, None) => host.unwrap_or_default(),
            (None, _, Some(_)) => return Err(unreadable),
        };
        match self.hosts.judge(host) {
            HostVerdict::Dialed(host) => Ok(Some(host)),
            HostVerdict::Unreadable if host.is_empty() && self.hosts.is_empty() => Ok(None),
            HostVerdict::Unreadable => Err(unreadable),
            HostVerdict::Refused => Err((StatusCode::MISDIRECTED_REQUEST, "host_refused", UNLISTED_HOST)),
        }
    }
}

/// Is it time for another warning? Whoever can reach the endpoint causes them, so they are few.
fn may_warn(warned_at: &Mutex<Option<Instant>>, now: Instant) -> bool {
    let mut warned_at = warned_at.lock().unwrap_or_else(PoisonError::into_inner);
    let due = warned_at.is_none_or(|at| now.saturating_duration_since(at) >= WARNING_INTERVAL);
    if due {
        *warned_at = Some(now);
    }
    due
}

/// Answers a proxy.
async fn authorize(request: HttpRequest, body: web::Payload, endpoint: web::Data<AuthorizeEndpoint>) -> HttpResponse {
    // A request that is the call itself has its client's query, which may say `mode` and mean something else.
    let query = if endpoint.call_from == CallFrom::Request { "" } else { request.query_string() };
    let demand = endpoint.demanded(query);
    let asked = Asked {
        headers: request.headers(),
        method: request.method().as_str(),
        uri: request.uri(),
        prefix: endpoint.path.trim_end_matches('/'),
        from: endpoint.call_from,
        host: None,
    };
    let verdict = endpoint.decide(&asked, demand).await;
    if has_body(request.headers()) {
        Box::pin(drain(body)).await;
    }
    match verdict {
        Ok(identity) => endpoint.allow(&request, identity),
        Err(refused) => endpoint.refuse(&request, refused),
    }
}

/// Answers a page.
async fn serve_protected(request: HttpRequest, protected: web::Data<Protected>) -> HttpResponse {
    let endpoint = &protected.endpoint;
    let dialed = match protected.dialed(&request) {
        Ok(dialed) => dialed,
        Err((status, code, message)) => {
            let mut refusal = refuse(status, code, message);
            endpoint.cors.decorate(request.headers(), refusal.headers_mut());
            return refusal;
        }
    };
    if let Some(preflight) = endpoint.cors.preflight(&request) {
        return preflight;
    }
    let mut response = if matches!(*request.method(), Method::GET | Method::HEAD) {
        // It is the call itself: nothing that stands in front speaks for it.
        let (method, uri) = (request.method().as_str(), request.uri());
        let (headers, host) = (request.headers(), dialed.as_deref());
        let asked = Asked { headers, method, uri, prefix: "", from: CallFrom::Request, host };
        match endpoint.decide(&asked, protected.demand).await {
            Ok(_) => answer(protected.body.clone(), HeaderValue::from_static("no-store")),
            Err(refused) => return endpoint.refuse(&request, refused),
        }
    } else {
        let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this resource can only be read");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
        response
    };
    endpoint.cors.decorate(request.headers(), response.headers_mut());
    response
}

/// A 200 with a JSON body.
fn answer(body: Bytes, caching: HeaderValue) -> HttpResponse {
    let mut response = HttpResponse::with_body(StatusCode::OK, body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, caching);
    response.map_into_boxed_body()
}

/// Does a body follow that ends? After an upgrade none does.
fn has_body(headers: &HeaderMap) -> bool {
    let announced = headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
    announced && !headers.contains_key(header::UPGRADE)
}

/// Reads a body and throws it away, as far as it is worth keeping the connection.
async fn drain(mut body: web::Payload) {
    let read = async {
        let mut bytes = 0;
        while let Some(Ok(chunk)) = body.next().await {
            bytes += chunk.len();
            if bytes > DRAINED_BYTES_MAX {
                break;
            }
        }
    };
    let _given_up = tokio::time::timeout(DRAIN_TIMEOUT, read).await;
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
