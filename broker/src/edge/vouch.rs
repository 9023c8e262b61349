use actix_web::http::header::HeaderValue;

/// What a decision says of a caller, as response headers that are ready to be sent.
///
/// Each value is printable ASCII without space and never empty. `-` stands for "none"; every other byte than a printable
/// one, `%`, and a value that is itself `-`, are percent-encoded, so that no two values read alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityHeaders {
    /// The token's subject.
    pub subject: HeaderValue,
    /// The token's issuer, as it is configured.
    pub issuer: HeaderValue,
    /// The origin of the connection's handshake.
    pub origin: HeaderValue,
}

/// The value that says "none".
pub const NO_VALUE: HeaderValue = HeaderValue::from_static("-");

impl IdentityHeaders {
    /// Of a subject of an issuer, and an origin.
    #[must_use]
    pub fn new(subject: Option<&str>, issuer: Option<&str>, origin: Option<&str>) -> Self {
        Self { subject: identity_value(subject), issuer: identity_value(issuer), origin: identity_value(origin) }
    }
}

/// A value as a header carries it.
#[must_use]
pub fn identity_value(value: Option<&str>) -> HeaderValue {
    let Some(text) = value.filter(|text| !text.is_empty()) else { return NO_VALUE };
    let stands_as_is = |byte: u8| byte.is_ascii_graphic() && byte != b'%';
    if text != "-" && text.bytes().all(stands_as_is) {
        return HeaderValue::from_str(text).unwrap_or(NO_VALUE);
    }
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if stands_as_is(byte) && text != "-" {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.extend([byte >> 4, byte & 0xF].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])));
        }
    }
    HeaderValue::try_from(encoded).unwrap_or(NO_VALUE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(value: Option<&str>, header: &str) {
        assert_eq!(identity_value(value).to_str().unwrap(), header);
    }

    #[test]
    fn values_are_printable_and_none_is_a_dash() {
        check(None, "-");
        check(Some(""), "-");
        check(Some("-"), "%2D");
        check(Some("3f0c-ab"), "3f0c-ab");
        check(Some("ada lovelace"), "ada%20lovelace");
        check(Some("jürgen\r\nX-Evil: 1"), "j%C3%BCrgen%0D%0AX-Evil:%201");
        check(Some("100%"), "100%25");
        check(Some("https://app.example:8443"), "https://app.example:8443");
    }

    proptest! {
        #[test]
        fn no_two_values_read_alike(one in "\\PC{1,8}|[ -~]{1,4}", two in "\\PC{1,8}|[ -~]{1,4}") {
            let (first, second) = (identity_value(Some(&one)), identity_value(Some(&two)));
            prop_assert!(first.as_bytes().iter().all(u8::is_ascii_graphic) && !first.is_empty());
            prop_assert_eq!(one == two, first == second);
            prop_assert_ne!(first, NO_VALUE);
        }
    }
}
