use url::Url;

use super::tape::ORIGIN_MAX;

/// The page at the other end, as its handshake named it.
///
/// A listed origin is read by the program where it runs, and what the answer claims is compared with it. Without one
/// there is nothing to compare: a client that sends no `Origin` is no browser, and a page whose origin is `null` (a
/// sandboxed frame, a local file) sees anything in `location`. Programs for these two have their origin tape printed into
/// them, the empty text and `null`; claims of origin or domain in their answers are not judged. Whether they are let in
/// at all is the allow-list's policy, decided before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageOrigin {
    /// The handshake had this one.
    Listed {
        /// `scheme://host[:port]`, byte for byte as sent.
        origin: String,
        /// The host alone, as `location.hostname` shows it.
        host: String,
    },
    /// The handshake had none.
    Missing,
    /// The handshake had `null`.
    Null,
}

impl PageOrigin {
    /// Reads the handshake's `Origin`, which the allow-list has passed.
    ///
    /// Nothing if it is not ASCII, too long for a tape, or has no host: an origin that no program can be bound to.
    #[must_use]
    pub fn of_handshake(header: Option<&str>) -> Option<Self> {
        let origin = match header {
            None => return Some(Self::Missing),
            Some("null") => return Some(Self::Null),
            Some(origin) => origin,
        };
        if !origin.is_ascii() || origin.len() > ORIGIN_MAX {
            return None;
        }
        let host = Url::parse(origin).ok()?.host_str()?.to_owned();
        Some(Self::Listed { origin: origin.to_owned(), host })
    }

    /// The text of the origin tape.
    #[must_use]
    pub fn tape(&self) -> &str {
        match self {
            Self::Listed { origin, .. } => origin,
            Self::Missing => "",
            Self::Null => "null",
        }
    }

    /// Does a claimed origin equal the handshake's, byte for byte?
    pub(super) fn admits_origin(&self, claimed: &str) -> bool {
        match self {
            Self::Listed { origin, .. } => origin == claimed,
            Self::Missing | Self::Null => true,
        }
    }

    /// Does a claimed domain equal the host of the handshake's origin?
    pub(super) fn admits_domain(&self, claimed: &str) -> bool {
        match self {
            Self::Listed { host, .. } => host == claimed,
            Self::Missing | Self::Null => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_what_a_page_sees_as_its_hostname() {
        let host = |origin| match PageOrigin::of_handshake(Some(origin)) {
            Some(PageOrigin::Listed { host, .. }) => host,
            other => panic!("{origin}: {other:?}"),
        };
        assert_eq!(host("http://localhost:3000"), "localhost");
        assert_eq!(host("https://xn--bcher-kva.example"), "xn--bcher-kva.example");
        assert_eq!(host("http://[::1]:8080"), "[::1]");
    }

    #[test]
    fn origins_that_no_program_can_read_are_refused() {
        assert_eq!(PageOrigin::of_handshake(Some("https://bücher.example")), None);
        assert_eq!(PageOrigin::of_handshake(Some(&format!("https://{}", "a".repeat(ORIGIN_MAX)))), None);
        assert_eq!(PageOrigin::of_handshake(Some("nonsense")), None);
        assert_eq!(PageOrigin::of_handshake(None), Some(PageOrigin::Missing));
        assert_eq!(PageOrigin::of_handshake(Some("null")), Some(PageOrigin::Null));
    }
}
