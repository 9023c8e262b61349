use std::sync::Arc;

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};

use super::OriginList;

/// Cross-origin answers for the listed origins, errors included: without these headers a page cannot tell a 401 from a
/// broken network.
///
/// Source: the Fetch standard, "CORS protocol".
#[derive(Debug, Clone)]
pub struct Cors {
    origins: Arc<OriginList>,
    allowed_headers: HeaderValue,
}

/// Request headers that carry a page's ticket and its proof of a call, as preflights name them.
pub const CREDENTIAL_HEADERS: [&str; 2] = ["countersign-ticket", "countersign-proof"];

/// Identity headers that a page may read.
const EXPOSED: &str = "WWW-Authenticate, Retry-After, X-Countersign-Subject, X-Countersign-Issuer, X-Countersign-Connection-Id, \
                       X-Countersign-Origin";

impl Cors {
    /// Answers preflights with the headers that our endpoints read, the credential's header among them.
    #[must_use]
    pub fn new(origins: Arc<OriginList>, credential_header: &str) -> Self {
        let [ticket, proof] = CREDENTIAL_HEADERS;
        let id = credential_header.to_ascii_lowercase();
        let names = format!("authorization, content-type, x-api-key, {ticket}, {proof}, {id}");
        let allowed_headers = HeaderValue::from_str(&names).unwrap_or(HeaderValue::from_static("authorization, content-type"));
        Self { origins, allowed_headers }
    }

    /// The answer to a preflight, or nothing if this request is none.
    #[must_use]
    pub fn preflight(&self, request: &HttpRequest) -> Option<HttpResponse> {
        let headers = request.headers();
        let asked = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        if request.method() != actix_web::http::Method::OPTIONS || !headers.contains_key(header::ORIGIN) {
            return None;
        }
        let method = asked?.clone();
        let mut response = HttpResponse::NoContent().finish();
        if self.decorate(headers, response.headers_mut()) {
            let allow = response.headers_mut();
            allow.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method);
            allow.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, self.allowed_headers.clone());
            allow.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
        Some(response)
    }

    /// Adds the CORS headers that this request's origin is due. Tells whether the origin is listed.
    pub fn decorate(&self, request: &HeaderMap, response: &mut HeaderMap) -> bool {
        response.append(header::VARY, HeaderValue::from_static("Origin"));
        let mut origins = request.get_all(header::ORIGIN);
        let (Some(sent), None) = (origins.next(), origins.next()) else { return false };
        if self.origins.find(sent.as_bytes()).is_none() {
            return false;
        }
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, sent.clone());
        response.insert(HeaderName::from_static("access-control-expose-headers"), HeaderValue::from_static(EXPOSED));
        true
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::config::OriginPolicy;
    use crate::edge::Origin;

    fn cors() -> Cors {
        let origin = Origin::parse("http://localhost:3000").unwrap();
        Cors::new(Arc::new(OriginList::new(vec![origin], OriginPolicy::Refuse, OriginPolicy::Refuse)), "connectionId")
    }

    fn preflight(origin: &str) -> HttpResponse {
        let request = TestRequest::default()
            .method(actix_web::http::Method::OPTIONS)
            .insert_header((header::ORIGIN, origin))
            .insert_header((header::ACCESS_CONTROL_REQUEST_METHOD, "GET"))
            .insert_header((header::ACCESS_CONTROL_REQUEST_HEADERS, "connectionid"))
            .to_http_request();
        cors().preflight(&request).unwrap()
    }

    #[test]
    fn preflight_of_a_listed_origin_names_the_credential_header() {
        let response = preflight("http://localhost:3000");
        assert_eq!(response.headers().get("access-control-allow-origin").unwrap(), "http://localhost:3000");
        let allowed = response.headers().get("access-control-allow-headers").unwrap().to_str().unwrap();
        for name in ["connectionid", "countersign-ticket", "countersign-proof"] {
            assert!(allowed.split(", ").any(|allowed| allowed == name), "{name}: {allowed}");
        }
    }

    #[test]
    fn preflight_of_another_origin_allows_nothing() {
        assert!(preflight("http://evil.example").headers().get("access-control-allow-origin").is_none());
    }

    #[test]
    fn a_bare_options_request_is_no_preflight() {
        let request = TestRequest::default().method(actix_web::http::Method::OPTIONS).to_http_request();
        assert!(cors().preflight(&request).is_none());
    }
}
