use std::sync::Arc;

use actix_http::ws::{HandshakeError, hash_key, verify_handshake};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{StatusCode, Version};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use url::form_urlencoded;

use crate::config::{GatewaySettings, TokenAtHandshake};
use crate::edge::{Cors, HostList, HostVerdict, OriginList, OriginVerdict, UNLISTED_HOST, UNREADABLE_HOST, refuse};
use crate::hub::Dialect;
use crate::telemetry::HandshakeOutcome;

/// The subprotocol of native clients.
pub const NATIVE_SUBPROTOCOL: &str = "countersign.v1";

/// A handshake that may go on: what it asked for. Its token is not yet verified.
#[derive(Clone, PartialEq, Eq)]
pub struct HandshakeRequest {
    /// The page's origin: on the list, `null` where policy lets it in, or none where policy lets its absence in.
    pub origin: Option<String>,
    /// What the client speaks.
    pub dialect: Dialect,
    /// The token that it presented. A secret: `Debug` does not show it.
    pub token: Option<String>,
    /// A channel to subscribe to at once.
    pub subscribe: Option<String>,
    /// The node's host as the client dialed it.
    pub host: Arc<str>,
    /// To be echoed in the 101.
    pub selected_protocol: Option<&'static str>,
}

impl std::fmt::Debug for HandshakeRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { origin, dialect, token, subscribe, host, selected_protocol } = self;
        f.debug_struct("HandshakeRequest")
            .field("origin", origin)
            .field("dialect", dialect)
            .field("token", &token.is_some())
            .field("subscribe", subscribe)
            .field("host", host)
            .field("selected_protocol", selected_protocol)
            .finish()
    }
}

/// A handshake that ends before the 101.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandshakeRefusal {
    /// Status of the answer.
    pub status: StatusCode,
    /// Stable code, such as `origin_refused`.
    pub error: &'static str,
    /// What is wrong and what helps.
    pub message: &'static str,
    /// How it is counted.
    pub outcome: HandshakeOutcome,
    /// When to come again, where more is known of it than the status says.
    pub retry_after_seconds: Option<u64>,
}

impl HandshakeRefusal {
    /// 403: origin not on the list, or more than one.
    pub const ORIGIN: Self =
        Self::origin("this origin is not in gateway.allowed_origins, which scheme, host and port must match exactly");
    /// 403: no origin where one is asked for.
    pub const ORIGIN_MISSING: Self =
        Self::origin("no Origin was sent: browsers send theirs, programs without one are let in by gateway.missing_origin");
    /// 403: the origin of sandboxed frames and local files, where it is not let in.
    pub const ORIGIN_NULL: Self =
        Self::origin("the Origin is null, as in sandboxed frames and local files: gateway.null_origin lets it in");
    /// 421: a list of hosts, and this is none of them (RFC 9110, section 15.5.20).
    pub const HOST: Self =
        Self::new(StatusCode::MISDIRECTED_REQUEST, "host_refused", UNLISTED_HOST, HandshakeOutcome::HostRefused);
    /// 403: the browser says that the request is something else than a handshake.
    pub const FETCH_MODE: Self = Self::origin("Sec-Fetch-Mode is not websocket: the browser did not mean this as a handshake");
    /// 401: a token is asked for and none was sent.
    pub const TOKEN_MISSING: Self = Self::new(
        StatusCode::UNAUTHORIZED,
        "token_missing",
        "a token is required: send Authorization: Bearer, or send it as gateway.token of the configuration says",
        HandshakeOutcome::TokenMissing,
    );
    /// 401: the token does not verify. Which check failed is not told.
    pub const TOKEN_INVALID: Self =
        Self::new(StatusCode::UNAUTHORIZED, "token_invalid", "token invalid or expired", HandshakeOutcome::TokenInvalid);
    /// 429: the address or the principal has too many connections.
    pub const QUOTA: Self = Self::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_connections",
        "too many connections, close some or wait",
        HandshakeOutcome::QuotaExceeded,
    );
    /// 503: full, draining, or the token's issuer cannot be asked.
    pub const UNAVAILABLE: Self = Self::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "unavailable",
        "cannot connect now, try again",
        HandshakeOutcome::Unavailable,
    );

    /// 503: too many challenges are pending, of this node, network or origin. Which is not told.
    pub const CHALLENGES_FULL: Self = Self {
        // Until then, those that say nothing are gone.
        retry_after_seconds: Some(5),
        ..Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_challenges",
            "too many challenges wait for an answer, try again",
            HandshakeOutcome::Unavailable,
        )
    };

    /// 429: too many challenges failed in this network.
    #[must_use]
    pub const fn failures(retry_after_seconds: u64) -> Self {
        Self {
            retry_after_seconds: Some(retry_after_seconds),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_failures",
                "too many challenges failed in this network, wait",
                HandshakeOutcome::QuotaExceeded,
            )
        }
    }

    /// A refusal.
    #[must_use]
    pub const fn new(status: StatusCode, error: &'static str, message: &'static str, outcome: HandshakeOutcome) -> Self {
        Self { status, error, message, outcome, retry_after_seconds: None }
    }

    /// 403, in the words of its case; the code is one for all.
    const fn origin(message: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "origin_refused", message, HandshakeOutcome::OriginRefused)
    }

    /// The refusal of a request whose `Origin` headers the list refuses.
    fn of_origin(headers: &HeaderMap) -> Self {
        let mut sent = headers.get_all(header::ORIGIN);
        match (sent.next().map(HeaderValue::as_bytes), sent.next()) {
            (None, _) => Self::ORIGIN_MISSING,
            (Some(b"null"), None) => Self::ORIGIN_NULL,
            _ => Self::ORIGIN,
        }
    }

    /// 400 and its kin: not a WebSocket handshake.
    const fn malformed(status: StatusCode, message: &'static str) -> Self {
        Self::new(status, "bad_handshake", message, HandshakeOutcome::Malformed)
    }

    /// The answer, with the headers that its status asks for and the CORS headers that the origin is due.
    #[must_use]
    pub fn respond(self, request: &HttpRequest, cors: &Cors) -> HttpResponse {
        let mut response = refuse(self.status, self.error, self.message);
        let headers = response.headers_mut();
        let mut insert = |name: HeaderName, value| drop(headers.insert(name, HeaderValue::from_static(value)));
        match self.status {
            StatusCode::UNAUTHORIZED if self.outcome == HandshakeOutcome::TokenInvalid => {
                insert(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"");
            }
            StatusCode::UNAUTHORIZED => insert(header::WWW_AUTHENTICATE, "Bearer"),
            StatusCode::METHOD_NOT_ALLOWED => insert(header::ALLOW, "GET"),
            StatusCode::UPGRADE_REQUIRED => {
                insert(header::SEC_WEBSOCKET_VERSION, "13");
                insert(header::UPGRADE, "websocket");
            }
            _ => {}
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        cors.decorate(request.headers(), headers);
        response
    }
}

/// A browser that says for what it makes a request says that this one opens a socket (Fetch Metadata, section 2.2). Another word is
/// that of a page that has found a way to send the headers of a handshake with a request of another kind. Programs, and
/// browsers that say nothing, are not asked.
fn check_fetch_mode(headers: &HeaderMap) -> Result<(), HandshakeRefusal> {
    let mut said = headers.get_all("sec-fetch-mode");
    if said.all(|mode| mode.as_bytes() == b"websocket") { Ok(()) } else { Err(HandshakeRefusal::FETCH_MODE) }
}

/// Judges a handshake by its head alone: form, origin, subprotocol, and where its token is.
///
/// Source: RFC 6455, sections 4.2.1 and 10.2.
///
/// # Errors
/// [`HandshakeRefusal`], the client's fault.
pub fn check_handshake(
    request: &HttpRequest,
    settings: &GatewaySettings,
    origins: &OriginList,
    hosts: &HostList,
) -> Result<HandshakeRequest, HandshakeRefusal> {
    check_form(request)?;
    check_fetch_mode(request.headers())?;
    let host = dialed_host(request.headers(), hosts)?;
    let sent = request.headers().get_all(header::ORIGIN).map(HeaderValue::as_bytes);
    let origin = match origins.judge(sent) {
        OriginVerdict::Listed(origin) => Some(origin),
        OriginVerdict::NullAllowed => Some("null".to_owned()),
        OriginVerdict::MissingAllowed => None,
        OriginVerdict::Refused => return Err(HandshakeRefusal::of_origin(request.headers())),
    };
    let offered = offered_protocols(request.headers())?;
    let selected_protocol = offered.contains(&NATIVE_SUBPROTOCOL).then_some(NATIVE_SUBPROTOCOL);
    let token = find_token(request, &settings.token, &offered)?;
    if token.is_none() && settings.token.required {
        return Err(HandshakeRefusal::TOKEN_MISSING);
    }
    let subscribe = match &settings.subscribe_parameter {
        Some(name) => only(query_values(request, name), "more than one channel to subscribe to")?,
        None => None,
    };
    let dialect = if selected_protocol.is_some() { Dialect::Native } else { Dialect::Plain };
    Ok(HandshakeRequest { origin, dialect, token, subscribe, host, selected_protocol })
}

/// Starts the 101 for a request that [`check_handshake`] let pass.
#[must_use]
pub fn switch_protocols(request: &HttpRequest, selected_protocol: Option<&'static str>) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(StatusCode::SWITCHING_PROTOCOLS);
    response.upgrade("websocket");
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).map(|key| hash_key(key.as_bytes()));
    if let Some(Ok(accept)) = key.map(|key| HeaderValue::from_bytes(&key)) {
        response.insert_header((header::SEC_WEBSOCKET_ACCEPT, accept));
    }
    if let Some(protocol) = selected_protocol {
        response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol)));
    }
    response
}

/// The form of the request, without regard to who sends it.
fn check_form(request: &HttpRequest) -> Result<(), HandshakeRefusal> {
    let bad_request = |message| Err(HandshakeRefusal::malformed(StatusCode::BAD_REQUEST, message));
    if let Err(error) = verify_handshake(request.head()) {
        return Err(match error {
            HandshakeError::GetMethodRequired => {
                HandshakeRefusal::malformed(StatusCode::METHOD_NOT_ALLOWED, "a WebSocket handshake is a GET")
            }
            HandshakeError::UnsupportedVersion => {
                HandshakeRefusal::malformed(StatusCode::UPGRADE_REQUIRED, "only version 13 is spoken here")
            }
            HandshakeError::NoWebsocketUpgrade | HandshakeError::NoConnectionUpgrade => HandshakeRefusal::malformed(
                StatusCode::BAD_REQUEST,
                "this is a WebSocket endpoint: Upgrade: websocket and Connection: Upgrade are missing",
            ),
            HandshakeError::NoVersionHeader => {
                HandshakeRefusal::malformed(StatusCode::BAD_REQUEST, "Sec-WebSocket-Version is missing")
            }
            HandshakeError::BadWebsocketKey => {
                HandshakeRefusal::malformed(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is not 16 bytes in base64")
            }
        });
    }
    if request.version() < Version::HTTP_11 {
        return bad_request("a WebSocket handshake needs HTTP/1.1");
    }
    let headers = request.headers();
    let count = |name: HeaderName| headers.get_all(name).count();
    if count(header::HOST) != 1 {
        return bad_request("exactly one Host header is needed");
    }
    for name in [header::UPGRADE, header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_VERSION, header::AUTHORIZATION] {
        if count(name) > 1 {
            return bad_request("a header that must be unique came twice");
        }
    }
    // The decoder behind takes a body of frames for exactly this value only.
    if !headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return bad_request("Upgrade must name websocket and nothing else");
    }
    // A proxy that believed in a body would disagree with us on where the frames begin.
    let has_body = headers.get_all(header::CONTENT_LENGTH).any(|value| value != "0");
    if has_body || headers.contains_key(header::TRANSFER_ENCODING) {
        return bad_request("a WebSocket handshake has no body");
    }
    Ok(())
}

/// The node's host as the client dialed it: the form has exactly one `Host`.
fn dialed_host(headers: &HeaderMap, hosts: &HostList) -> Result<Arc<str>, HandshakeRefusal> {
    match hosts.judge(headers.get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default()) {
        HostVerdict::Dialed(host) => Ok(host),
        HostVerdict::Refused => Err(HandshakeRefusal::HOST),
        HostVerdict::Unreadable => Err(HandshakeRefusal::malformed(StatusCode::BAD_REQUEST, UNREADABLE_HOST)),
    }
}

/// The entries of all `Sec-WebSocket-Protocol` headers.
fn offered_protocols(headers: &HeaderMap) -> Result<Vec<&str>, HandshakeRefusal> {
    let mut offered = Vec::new();
    for value in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        let refusal = HandshakeRefusal::malformed(StatusCode::BAD_REQUEST, "Sec-WebSocket-Protocol is not readable");
        let text = value.to_str().map_err(|_| refusal)?;
        offered.extend(text.split(',').map(str::trim).filter(|entry| !entry.is_empty()));
    }
    Ok(offered)
}

/// The token, from wherever the settings let it come. The same token in two places is one token.
fn find_token(
    request: &HttpRequest,
    settings: &TokenAtHandshake,
    offered: &[&str],
) -> Result<Option<String>, HandshakeRefusal> {
    let mut found = Vec::new();
    if settings.from_authorization
        && let Some(value) = request.headers().get(header::AUTHORIZATION)
    {
        found.extend(bearer_token(value)?);
    }
    if let Some(name) = &settings.from_query {
        found.extend(query_values(request, name));
    }
    if let Some(prefix) = &settings.from_subprotocol_prefix {
        found.extend(offered.iter().filter_map(|entry| entry.strip_prefix(prefix.as_str())).map(str::to_owned));
    }
    only(found.into_iter(), "more than one token, and they differ")
}

/// The token of an `Authorization` header, if its scheme is ours.
fn bearer_token(value: &HeaderValue) -> Result<Option<String>, HandshakeRefusal> {
    let refusal = HandshakeRefusal::malformed(StatusCode::BAD_REQUEST, "Authorization is not readable");
    let text = value.to_str().map_err(|_| refusal)?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    Ok(scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned()))
}

/// The values of a query parameter, percent-decoded.
fn query_values<'a>(request: &'a HttpRequest, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let pairs = form_urlencoded::parse(request.query_string().as_bytes());
    pairs.filter(move |(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The one value among these, empty ones not counted. Differing ones are refused: two readers could choose differently.
fn only(values: impl Iterator<Item = String>, message: &'static str) -> Result<Option<String>, HandshakeRefusal> {
    let mut values = values.filter(|value| !value.is_empty());
    let first = values.next();
    if values.all(|value| Some(&value) == first.as_ref()) {
        Ok(first)
    } else {
        Err(HandshakeRefusal::malformed(StatusCode::BAD_REQUEST, message))
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
