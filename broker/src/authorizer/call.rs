//! Which call a decision is about.

use actix_web::http::Uri;
use actix_web::http::header::{HOST, HeaderMap, HeaderName};

use crate::config::CallFrom;
use crate::ticket::Call;

/// Headers of `x_original`: method, and URL with its scheme.
const ORIGINAL: [HeaderName; 2] = [HeaderName::from_static("x-original-method"), HeaderName::from_static("x-original-url")];
/// Headers of `x_forwarded`: method, host, path with query.
const FORWARDED: [HeaderName; 3] = [
    HeaderName::from_static("x-forwarded-method"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-uri"),
];

/// A request that asks for a decision: the call itself, or a proxy's question about one.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its method.
    pub method: &'a str,
    /// Its target.
    pub uri: &'a Uri,
    /// What the path of a question begins with; empty where the request is the call.
    pub prefix: &'a str,
    /// Where the call stands in it.
    pub from: CallFrom,
    /// The host that a request which is the call was made to, where that was judged already; otherwise it is read from the
    /// request.
    pub host: Option<&'a str>,
}

/// Method and target of a call, as the page made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallText {
    /// Upper-case ASCII.
    pub method: String,
    /// Host, path and query.
    pub target: String,
}

impl CallText {
    /// As a proof signs it.
    #[must_use]
    pub fn as_call(&self) -> Call<'_> {
        Call { method: &self.method, target: &self.target }
    }
}

impl Asked<'_> {
    /// The call; nothing if it does not stand where it should, exactly once. Read from the configured source only: a proxy
    /// passes on what a client wrote into the others.
    #[must_use]
    pub fn call(&self) -> Option<CallText> {
        let call = match self.from {
            CallFrom::XOriginal => {
                let [method, url] = self.sole(&ORIGINAL)?;
                let (_, target) = url.split_once("://")?;
                CallText { method: method.to_owned(), target: target.to_owned() }
            }
            CallFrom::XForwarded => {
                let [method, host, uri] = self.sole(&FORWARDED)?;
                CallText { method: method.to_owned(), target: format!("{host}{uri}") }
            }
            CallFrom::Request => self.own()?,
        };
        // A host, and a path behind it.
        (!call.method.is_empty() && call.target.find('/').is_some_and(|slash| slash > 0)).then_some(call)
    }

    /// The request's own line and host. A target in absolute form counts before the header (RFC 9112, section 3.2.2).
    fn own(&self) -> Option<CallText> {
        let path = self.uri.path_and_query()?.as_str().strip_prefix(self.prefix)?;
        let host = match (self.host, self.uri.authority()) {
            (Some(host), _) => host,
            (None, Some(authority)) => authority.as_str(),
            (None, None) => self.sole(&[HOST])?[0],
        };
        Some(CallText { method: self.method.to_owned(), target: format!("{host}{path}") })
    }

    /// The values of these headers, each there exactly once.
    fn sole<const N: usize>(&self, names: &[HeaderName; N]) -> Option<[&str; N]> {
        let mut values = [""; N];
        for (name, value) in names.iter().zip(&mut values) {
            let mut all = self.headers.get_all(name);
            *value = all.next()?.to_str().ok()?;
            if all.next().is_some() {
                return None;
            }
        }
        Some(values)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn a_host_that_was_judged_is_that_of_the_call() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("inner:8080"));
        let uri = Uri::from_static("http://line.example/a?b");
        let from = CallFrom::Request;
        let asked = Asked { headers: &headers, method: "GET", uri: &uri, prefix: "", from, host: Some("a.example") };
        assert_eq!(asked.call().unwrap().target, "a.example/a?b");
    }

    /// Everything that a proxy may send at once; only one source may be read.
    const ALL: &[(&str, &str)] = &[
        ("x-original-method", "POST"),
        ("x-original-url", "https://one.example:8443/a?x=1"),
        ("x-forwarded-method", "PUT"),
        ("x-forwarded-host", "two.example"),
        ("x-forwarded-uri", "/b?y=2"),
        ("host", "three.example"),
    ];

    fn check(from: CallFrom, headers: &[(&str, &str)], expected: Option<(&str, &str)>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let uri = Uri::from_static("/authorize/c%2Fd?z=3");
        let asked = Asked { headers: &map, method: "PATCH", uri: &uri, prefix: "/authorize", from, host: None };
        let call = asked.call();
        assert_eq!(call.as_ref().map(|call| (&*call.method, &*call.target)), expected, "{from:?} {headers:?}");
    }

    #[test]
    fn a_call_is_read_from_its_own_source_only() {
        check(CallFrom::XOriginal, ALL, Some(("POST", "one.example:8443/a?x=1")));
        check(CallFrom::XForwarded, ALL, Some(("PUT", "two.example/b?y=2")));
        check(CallFrom::Request, ALL, Some(("PATCH", "three.example/c%2Fd?z=3")));
        check(CallFrom::XOriginal, &ALL[2..], None);
        check(CallFrom::XForwarded, &ALL[..2], None);
        check(CallFrom::Request, &ALL[..5], None);
    }

    #[test]
    fn what_is_missing_twice_or_no_url_is_no_call() {
        for name in 0..6 {
            let (mut missing, mut twice) = (ALL.to_vec(), ALL.to_vec());
            let from = [CallFrom::XOriginal, CallFrom::XForwarded, CallFrom::Request][[0, 0, 1, 1, 1, 2][name]];
            missing.remove(name);
            check(from, &missing, None);
            twice.push(ALL[name]);
            check(from, &twice, None);
        }
        for url in ["/a", "one.example/a", "https://", "https:///a", "https://one.example"] {
            check(CallFrom::XOriginal, &[("x-original-method", "GET"), ("x-original-url", url)], None);
        }
    }

    #[test]
    fn a_request_is_its_own_call_with_an_absolute_target_before_its_host() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("header.example"));
        let target = |uri: &'static str| {
            let uri = Uri::from_static(uri);
            Asked { headers: &headers, method: "GET", uri: &uri, prefix: "", from: CallFrom::Request, host: None }
                .call()
                .map(|call| call.target)
        };
        assert_eq!(target("/a?b"), Some("header.example/a?b".to_owned()));
        assert_eq!(target("http://line.example/a?b"), Some("line.example/a?b".to_owned()));
    }
}
