use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use countersign_node_proto::{ChallengeVerdict, ChannelName, ConnectionId, Disconnect, Payload, PrincipalName, Publication};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;

use super::api_keys::ApiKeys;
use super::challenge::Challenger;
use super::disconnect::Disconnector;
use crate::edge::{Cors, refuse};
use crate::hub::{PublishError, Publisher};

/// From the head of a request to the end of its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a key may stand beside `Authorization: Bearer`.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The endpoints of the server API, each behind an API key.
pub struct Management {
    keys: ApiKeys,
    publisher: Publisher,
    disconnector: Arc<Disconnector>,
    challenger: Arc<Challenger>,
    /// Names of the issuers whose tokens this node accepts.
    issuers: Vec<String>,
    cors: Cors,
    body_max_bytes: usize,
}

/// Body of `POST /api/v1/publish`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishRequest {
    channel: ChannelName,
    /// Kept as it was written: subscribers get these very bytes.
    data: Box<RawValue>,
    #[serde(default)]
    exclude: Option<ConnectionId>,
}

/// Body of `POST /api/v1/disconnect`: a connection, or a principal and perhaps its issuer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DisconnectRequest {
    #[serde(default)]
    connection: Option<ConnectionId>,
    #[serde(default)]
    principal: Option<String>,
    #[serde(default)]
    issuer: Option<String>,
}

/// Body of `POST /api/v1/challenge`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChallengeRequest {
    connection: ConnectionId,
}

impl Management {
    /// The endpoints. Bodies above `body_max_bytes` are refused with 413.
    #[must_use]
    pub fn new(
        keys: ApiKeys,
        publisher: Publisher,
        disconnector: Arc<Disconnector>,
        challenger: Arc<Challenger>,
        issuers: Vec<String>,
        cors: Cors,
        body_max_bytes: usize,
    ) -> Arc<Self> {
        Arc::new(Self { keys, publisher, disconnector, challenger, issuers, cors, body_max_bytes })
    }

    /// Adds the endpoints to an application: the administrative one, and the public one if it is configured so.
    pub fn configure(self: &Arc<Self>, config: &mut web::ServiceConfig) {
        let data = web::Data::from(self.clone());
        config.service(web::resource("/api/v1/publish").app_data(data.clone()).to(publish));
        config.service(web::resource("/api/v1/challenge").app_data(data.clone()).to(challenge));
        config.service(web::resource("/api/v1/disconnect").app_data(data).to(disconnect));
    }

    /// Checks method and key, then reads the body.
    async fn admit<T: DeserializeOwned>(&self, request: &HttpRequest, body: web::Payload) -> Result<T, HttpResponse> {
        if *request.method() != Method::POST {
            let mut refusal = refuse(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "use POST");
            refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"));
            return Err(refusal);
        }
        let key = presented_key(request.headers()).filter(|key| !key.is_empty());
        if !key.is_some_and(|key| self.keys.accept(key)) {
            let message = match key {
                None => "no api key was sent: send one as X-API-Key, or as Authorization: Bearer",
                Some(_) => "this api key is none of this node's: management.api_keys_file or the data folder has them",
            };
            let mut refusal = refuse(StatusCode::UNAUTHORIZED, "api_key_invalid", message);
            let challenge = HeaderValue::from_static(r#"Bearer realm="countersign""#);
            refusal.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            return Err(refusal);
        }
        let late = |_| refuse(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body did not arrive in time");
        let body = tokio::time::timeout(BODY_TIMEOUT, self.read(body)).await.map_err(late)??;
        // A list would be taken for the members in their order.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(bad_request("the body is not one JSON object"));
        }
        let mut reader = serde_json::Deserializer::from_slice(&body);
        let parsed = serde_path_to_error::deserialize(&mut reader).map_err(|error| refuse_body(&error))?;
        reader.end().map_err(|error| bad_request(&format!("the body is not one JSON object: {error}")))?;
        Ok(parsed)
    }

    /// Reads a body, as far as it may go.
    async fn read(&self, mut body: web::Payload) -> Result<Vec<u8>, HttpResponse> {
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|_| bad_request("the body did not arrive"))?;
            if bytes.len() + chunk.len() > self.body_max_bytes {
                let message = format!("a body has at most {} bytes", self.body_max_bytes);
                return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", &message));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    async fn publish(&self, request: &HttpRequest, body: web::Payload) -> Result<HttpResponse, HttpResponse> {
        let PublishRequest { channel, data, exclude } = self.admit(request, body).await?;
        let publication = Publication { channel, payload: Payload::Text(data.get().to_owned()), exclude };
        match self.publisher.publish(publication).await {
            Ok(receipt) => Ok(HttpResponse::Ok().json(json!({"nodes": receipt.nodes}))),
            Err(error) => {
                let code = match error {
                    PublishError::Overloaded(_) => "overloaded",
                    PublishError::ThisNodeOnly(_) => "bus_unavailable",
                };
                Err(refuse(StatusCode::SERVICE_UNAVAILABLE, code, &error.to_string()))
            }
        }
    }

    async fn disconnect(&self, request: &HttpRequest, body: web::Payload) -> Result<HttpResponse, HttpResponse> {
        let order = match self.admit(request, body).await? {
            DisconnectRequest { connection: Some(id), principal: None, issuer: None } => Disconnect::Connection(id),
            DisconnectRequest { connection: None, principal: Some(subject), issuer } => {
                if let Some(refusal) = issuer.as_deref().and_then(|issuer| self.refuse_issuer(issuer)) {
                    return Err(refusal);
                }
                Disconnect::Principal(PrincipalName { subject, issuer })
            }
            _ => return Err(bad_request("name either `connection`, or `principal` and perhaps its `issuer`")),
        };
        let closed = self.disconnector.disconnect(&order).await;
        match closed.elsewhere {
            Ok(elsewhere) => Ok(HttpResponse::Ok().json(json!({"closed": closed.here + elsewhere}))),
            Err(error) => {
                let message = format!("closed {} on this node, others may not have been told: {error}", closed.here);
                Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "cluster_unavailable", &message))
            }
        }
    }

    /// A name that no token can carry would close nothing, and look as if nobody were connected.
    fn refuse_issuer(&self, issuer: &str) -> Option<HttpResponse> {
        if self.issuers.iter().any(|known| known == issuer) {
            return None;
        }
        let known = if self.issuers.is_empty() { "none".to_owned() } else { self.issuers.join(", ") };
        Some(bad_request(&format!("`issuer`: this node accepts tokens of no issuer of that name; those it does: {known}")))
    }

    /// Has a verified native client challenged again, whichever node owns it. What comes of it shows in its connection.
    async fn challenge(&self, request: &HttpRequest, body: web::Payload) -> Result<HttpResponse, HttpResponse> {
        let ChallengeRequest { connection } = self.admit(request, body).await?;
        let message = match self.challenger.order(connection).await {
            Ok(ChallengeVerdict::Ordered) => return Ok(HttpResponse::Accepted().json(json!({}))),
            Ok(ChallengeVerdict::NotPossible) => "only a native client that is verified can be challenged again",
            Ok(ChallengeVerdict::ConnectionUnknown | ChallengeVerdict::Unknown) => "no such connection is open on any node",
            Err(error) => {
                let message = format!("it may not have been ordered, and may be ordered again: {error}");
                return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "cluster_unavailable", &message));
            }
        };
        Err(refuse(StatusCode::NOT_FOUND, "connection_unknown", message))
    }

    /// Adds what a page needs to read the answer.
    fn finish(&self, request: &HttpRequest, answer: Result<HttpResponse, HttpResponse>) -> HttpResponse {
        let mut response = answer.unwrap_or_else(|refusal| refusal);
        self.cors.decorate(request.headers(), response.headers_mut());
        response
    }
}

async fn publish(request: HttpRequest, body: web::Payload, management: web::Data<Management>) -> HttpResponse {
    if let Some(preflight) = management.cors.preflight(&request) {
        return preflight;
    }
    let answer = Box::pin(management.publish(&request, body)).await;
    management.finish(&request, answer)
}

async fn disconnect(request: HttpRequest, body: web::Payload, management: web::Data<Management>) -> HttpResponse {
    if let Some(preflight) = management.cors.preflight(&request) {
        return preflight;
    }
    let answer = Box::pin(management.disconnect(&request, body)).await;
    management.finish(&request, answer)
}

async fn challenge(request: HttpRequest, body: web::Payload, management: web::Data<Management>) -> HttpResponse {
    if let Some(preflight) = management.cors.preflight(&request) {
        return preflight;
    }
    let answer = Box::pin(management.challenge(&request, body)).await;
    management.finish(&request, answer)
}

/// The key of a request: `X-API-Key`, else the bearer token.
fn presented_key(headers: &HeaderMap) -> Option<&[u8]> {
    let named = headers.get(API_KEY).map(HeaderValue::as_bytes);
    named.or_else(|| crate::authorizer::decision::bearer(headers).ok().map(str::as_bytes))
}

fn bad_request(message: &str) -> HttpResponse {
    refuse(StatusCode::BAD_REQUEST, "bad_request", message)
}

/// Names the member that is wrong.
fn refuse_body(error: &serde_path_to_error::Error<serde_json::Error>) -> HttpResponse {
    let path = error.path().to_string();
    let place = if path == "." { String::new() } else { format!("`{path}`: ") };
    bad_request(&format!("{place}{}", error.inner()))
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
