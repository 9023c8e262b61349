use std::sync::Arc;

use url::{Position, Url};

/// What is said to who asks a host that is none of the list; 421 (RFC 9110, section 15.5.20).
pub const UNLISTED_HOST: &str = "this Host is not in gateway.hosts: a proxy in front must pass Host on as the client sent it";
/// What is said to who sends no one host that could be read; 400.
pub const UNREADABLE_HOST: &str = "Host is not a host with an optional port";

/// The names by which clients reach this node, as a client's `URL.host` writes them: lower case, without a default port.
///
/// An answer to a challenge and a proof of a call are bound to the host that the client dialed, so the node must know it: from
/// the request's `Host`, or from `gateway.hosts` where a proxy does not pass that on.
#[derive(Debug, Clone)]
pub struct HostList {
    names: Vec<Arc<str>>,
    tls: bool,
}

/// What the list says of a request's `Host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostVerdict {
    /// This is the host that the client dialed.
    Dialed(Arc<str>),
    /// None of the names.
    Refused,
    /// Nothing that a client could have dialed.
    Unreadable,
}

impl HostList {
    /// A list of configured names; empty, the `Host` alone decides. `tls` tells the default port.
    #[must_use]
    pub fn new(names: &[String], tls: bool) -> Self {
        Self { names: names.iter().map(|name| name.as_str().into()).collect(), tls }
    }

    /// Is any host good?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Judges the one `Host` of a request. With exactly one name, that name stands for whatever a proxy made of it.
    #[must_use]
    pub fn judge(&self, header: &[u8]) -> HostVerdict {
        if let [only] = self.names.as_slice() {
            return HostVerdict::Dialed(Arc::clone(only));
        }
        let Some(host) = std::str::from_utf8(header).ok().and_then(|text| url_host(text, self.tls)) else {
            return HostVerdict::Unreadable;
        };
        if self.names.is_empty() {
            return HostVerdict::Dialed(host.into());
        }
        let named = self.names.iter().find(|name| ***name == *host);
        named.map_or(HostVerdict::Refused, |name| HostVerdict::Dialed(Arc::clone(name)))
    }
}

/// Bytes of the longest host that is read: a domain name in full, with its dot and a port. What a client sent as its host is
/// kept as long as its socket.
const HOST_MAX_BYTES: usize = 253 + 1 + 6;

/// What `URL.host` is of a URL with this host and port; nothing if it is no host, or more than one.
///
/// Source: URL Standard, section 6.1; RFC 9112, section 3.2.
#[must_use]
pub fn url_host(text: &str, tls: bool) -> Option<String> {
    // What would end the host, or would be dropped in silence.
    let foreign = |byte: u8| !byte.is_ascii_graphic() || b"/\\?#@".contains(&byte);
    if text.is_empty() || text.len() > HOST_MAX_BYTES || text.bytes().any(foreign) {
        return None;
    }
    let scheme = if tls { "wss" } else { "ws" };
    let url = Url::parse(&format!("{scheme}://{text}")).ok()?;
    Some(url[Position::BeforeHost..Position::AfterPort].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_written_as_browsers_write_it() {
        let check = |text: &str, tls: bool, expected: Option<&str>| {
            assert_eq!(url_host(text, tls).as_deref(), expected, "{text}");
        };
        check("App.Example", false, Some("app.example"));
        check("app.example:80", false, Some("app.example"));
        check("app.example:80", true, Some("app.example:80"));
        check("app.example:443", true, Some("app.example"));
        check("app.example:443", false, Some("app.example:443"));
        check("app.example:", true, Some("app.example"));
        check("app.example:08080", false, Some("app.example:8080"));
        check("app.example.", true, Some("app.example."));
        check("[::0001]:8080", false, Some("[::1]:8080"));
        check("127.0.0.1:8080", false, Some("127.0.0.1:8080"));
        let long = |length: usize| "a.".repeat(length / 2);
        check(&long(HOST_MAX_BYTES), false, Some(&long(HOST_MAX_BYTES)));
        for wrong in [
            &long(HOST_MAX_BYTES + 2),
            "",
            ":80",
            "a b",
            "a\tb",
            "a/b",
            "a?b",
            "a#b",
            "u@a",
            "u:p@a",
            "a\\b",
            "a:65536",
            "a:x",
            "[::1",
            "a,b:1:2",
            "bücher",
        ] {
            check(wrong, false, None);
        }
    }

    #[test]
    fn several_names_are_a_list_one_stands_for_any_and_none_lets_the_header_speak() {
        let list = |names: &[&str]| HostList::new(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>(), true);
        let dialed = |host: &str| HostVerdict::Dialed(host.into());
        assert_eq!(list(&[]).judge(b"App.example:443"), dialed("app.example"));
        assert_eq!(list(&[]).judge(b"a b"), HostVerdict::Unreadable);
        assert_eq!(list(&[]).judge(b"\xff"), HostVerdict::Unreadable);
        let both = list(&["a.example", "b.example:8443"]);
        assert_eq!(both.judge(b"B.example:8443"), dialed("b.example:8443"));
        for other in [b"b.example".as_slice(), b"c.example", b"a.example.", b"x.a.example"] {
            assert_eq!(both.judge(other), HostVerdict::Refused);
        }
        assert_eq!(list(&["a.example"]).judge(b"10.0.0.7:8080"), dialed("a.example"));
    }
}
