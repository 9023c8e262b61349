use std::fmt;
use std::net::SocketAddr;

use url::Url;

use crate::config::OriginPolicy;

/// An origin in its canonical ASCII form: `scheme://host[:port]`, the port only where it is not the scheme's own.
///
/// Source: RFC 6454, section 6.2; RFC 6455, section 10.2.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin(String);

/// Why a configured text is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Not a URL at all.
    #[error("`{0}` is not an origin: write scheme://host, with a port if it is not the scheme's own")]
    NotAUrl(String),
    /// A URL with more than an origin, or written in another than the canonical form.
    #[error("`{given}` is not exactly what a browser sends: write `{canonical}`")]
    NotCanonical {
        /// As configured.
        given: String,
        /// As browsers write it.
        canonical: String,
    },
    /// A wildcard; the list is exact.
    #[error("`{0}` has a wildcard: origins are compared exactly, list each")]
    Wildcard(String),
}

impl Origin {
    /// Reads a configured origin.
    ///
    /// # Errors
    /// [`OriginError`] if it is not the text that a browser would send, with that text where it can be told.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        if text.contains('*') {
            return Err(OriginError::Wildcard(text.to_owned()));
        }
        let url = Url::parse(text).map_err(|_| OriginError::NotAUrl(text.to_owned()))?;
        let canonical = url.origin().ascii_serialization();
        if canonical == "null" {
            return Err(OriginError::NotAUrl(text.to_owned()));
        }
        if canonical != text {
            return Err(OriginError::NotCanonical { given: text.to_owned(), canonical });
        }
        Ok(Self(canonical))
    }

    /// The origin as a browser sends it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the list says of the `Origin` headers of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginVerdict {
    /// On the list, byte for byte. The text is the header's.
    Listed(String),
    /// None was sent, and policy lets such requests in.
    MissingAllowed,
    /// `null` was sent, and policy lets it in.
    NullAllowed,
    /// Refused.
    Refused,
}

/// The origins that may open a socket and read the answers of HTTP endpoints.
#[derive(Debug, Clone)]
pub struct OriginList {
    listed: Vec<Origin>,
    missing: OriginPolicy,
    null: OriginPolicy,
}

impl OriginList {
    /// A list of configured origins and the policies for the special cases.
    #[must_use]
    pub fn new(listed: Vec<Origin>, missing: OriginPolicy, null: OriginPolicy) -> Self {
        Self { listed, missing, null }
    }

    /// Adds the origins under which a node that listens here serves its own page.
    #[must_use]
    pub fn with_own(mut self, listen: SocketAddr, tls: bool) -> Self {
        let (scheme, default_port) = if tls { ("https", 443) } else { ("http", 80) };
        let port = if listen.port() == default_port { String::new() } else { format!(":{}", listen.port()) };
        let mut hosts = vec![match listen {
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        }];
        if listen.ip().is_loopback() {
            hosts.push("localhost".to_owned());
        }
        for host in hosts {
            let origin = Origin(format!("{scheme}://{host}{port}"));
            if !self.listed.contains(&origin) {
                self.listed.push(origin);
            }
        }
        self
    }

    /// Judges the `Origin` headers of one request, in the order in which they came.
    ///
    /// More than one is refused: two parsers could choose differently.
    pub fn judge<'a>(&self, mut headers: impl Iterator<Item = &'a [u8]>) -> OriginVerdict {
        let allowed = |policy, verdict| if policy == OriginPolicy::Allow { verdict } else { OriginVerdict::Refused };
        match (headers.next(), headers.next()) {
            (None, _) => allowed(self.missing, OriginVerdict::MissingAllowed),
            (Some(b"null"), None) => allowed(self.null, OriginVerdict::NullAllowed),
            (Some(sent), None) => match self.find(sent) {
                Some(origin) => OriginVerdict::Listed(origin.0.clone()),
                None => OriginVerdict::Refused,
            },
            (Some(_), Some(_)) => OriginVerdict::Refused,
        }
    }

    /// Every origin of the list.
    #[must_use]
    pub fn listed(&self) -> &[Origin] {
        &self.listed
    }

    /// The listed origin that equals these bytes.
    #[must_use]
    pub fn find(&self, sent: &[u8]) -> Option<&Origin> {
        self.listed.iter().find(|origin| origin.0.as_bytes() == sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> OriginList {
        let origin = Origin::parse("https://app.example:8443").unwrap();
        OriginList::new(vec![origin], OriginPolicy::Refuse, OriginPolicy::Refuse)
    }

    #[test]
    fn only_the_exact_origin_is_listed() {
        let sent = |texts: &[&str]| list().judge(texts.iter().map(|t| t.as_bytes()));
        assert_eq!(sent(&["https://app.example:8443"]), OriginVerdict::Listed("https://app.example:8443".to_owned()));
        for refused in [
            "http://app.example:8443",
            "https://app.example",
            "https://app.example:8444",
            "https://app.example.:8443",
            "https://evil-app.example:8443",
            "https://app.example:8443.evil.example",
            "https://APP.example:8443",
            "https://user@app.example:8443",
            "https://app.example:8443/",
            "null",
            "",
        ] {
            assert_eq!(sent(&[refused]), OriginVerdict::Refused, "{refused}");
        }
        assert_eq!(sent(&[]), OriginVerdict::Refused);
        assert_eq!(sent(&["https://app.example:8443", "https://app.example:8443"]), OriginVerdict::Refused);
    }

    #[test]
    fn configured_origins_must_be_what_browsers_send() {
        assert!(matches!(Origin::parse("https://*.example"), Err(OriginError::Wildcard(_))));
        assert!(matches!(Origin::parse("app.example"), Err(OriginError::NotAUrl(_))));
        let canonical = |given: &str| match Origin::parse(given) {
            Err(OriginError::NotCanonical { canonical, .. }) => canonical,
            other => panic!("{given}: {other:?}"),
        };
        assert_eq!(canonical("https://APP.example/"), "https://app.example");
        assert_eq!(canonical("https://app.example:443"), "https://app.example");
        assert_eq!(canonical("https://bücher.example"), "https://xn--bcher-kva.example");
    }

    #[test]
    fn own_page_is_allowed_on_loopback_under_both_names() {
        let own = list().with_own("127.0.0.1:8080".parse().unwrap(), false);
        assert!(own.find(b"http://localhost:8080").is_some());
        assert!(own.find(b"http://127.0.0.1:8080").is_some());
        assert!(own.find(b"http://127.0.0.1").is_none());
    }
}
