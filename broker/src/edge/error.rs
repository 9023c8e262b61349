use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde::Serialize;

/// The body of every answer that refuses: a stable code for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal<'a> {
    /// Stable code, such as `origin_refused`.
    pub error: &'a str,
    /// What is wrong and what helps. Never a secret, never what only the right caller may know.
    pub message: &'a str,
}

/// Starts an answer that refuses: JSON, never cached.
#[must_use]
pub fn refuse(status: StatusCode, error: &str, message: &str) -> HttpResponse {
    let mut builder = HttpResponseBuilder::new(status);
    builder.insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
    if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
        builder.insert_header((header::RETRY_AFTER, HeaderValue::from_static("1")));
    }
    builder.json(Refusal { error, message })
}
