//! The opening handshake as a client writes it, and the head of an answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Longest head that an answer may have.
const HEAD_MAX: usize = 16 * 1024;

/// What an answer's head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Status code.
    pub status: u16,
    /// Bytes of the head, the empty line included.
    pub head_len: usize,
    /// Bytes of the body. Answers without `Content-Length` have none here.
    pub body_len: usize,
}

/// Reads a head from the start of `bytes`; none while it is incomplete.
///
/// # Errors
/// If this is no HTTP/1.1 answer, or its head has no end within reason.
pub(crate) fn parse_head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > HEAD_MAX { Err("the head of an answer has no end".to_owned()) } else { Ok(None) };
    };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| "the head of an answer is no text".to_owned())?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|line| line.get(..3)?.parse().ok())
        .ok_or_else(|| "no HTTP/1.1 answer".to_owned())?;
    let body_len = lines.find_map(content_length).unwrap_or(0);
    Ok(Some(Head { status, head_len: end + 4, body_len }))
}

fn content_length(line: &str) -> Option<usize> {
    let (name, value) = line.split_once(':')?;
    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
}

/// A request for a socket.
pub(crate) struct Upgrade<'a> {
    /// Path and query.
    pub target: &'a str,
    /// Value of `Host`.
    pub host: &'a str,
    /// Value of `Origin`.
    pub origin: Option<&'a str>,
    /// Value of `Sec-WebSocket-Protocol`.
    pub subprotocol: Option<&'a str>,
    /// Bearer token.
    pub token: Option<&'a str>,
    /// The 16 bytes of `Sec-WebSocket-Key`.
    pub key: [u8; 16],
}

impl Upgrade<'_> {
    /// The request's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut head = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n",
            self.target,
            self.host,
            STANDARD.encode(self.key)
        );
        let optional =
            [("Origin: ", self.origin), ("Sec-WebSocket-Protocol: ", self.subprotocol), ("Authorization: Bearer ", self.token)];
        for (name, value) in optional {
            if let Some(value) = value {
                head.push_str(name);
                head.push_str(value);
                head.push_str("\r\n");
            }
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_is_read_once_it_is_complete() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-Length: 11\r\nx: y\r\n\r\n{\"nodes\":1}";
        let head = Head { status: 200, head_len: answer.len() - 11, body_len: 11 };
        assert_eq!(parse_head(answer), Ok(Some(head)));
        assert_eq!(parse_head(&answer[..30]), Ok(None));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        assert!(parse_head(b"SMTP ready\r\n\r\n").is_err());
        assert!(parse_head(&[b'x'; HEAD_MAX + 1]).is_err());
        assert_eq!(
            parse_head(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").map(|head| head.map(|head| head.body_len)),
            Ok(Some(0))
        );
    }

    #[test]
    fn upgrade_names_what_it_was_given_and_nothing_else() {
        let upgrade = Upgrade {
            target: "/ws",
            host: "h:1",
            origin: Some("https://o"),
            subprotocol: None,
            token: Some("t"),
            key: [0; 16],
        };
        let text = String::from_utf8(upgrade.encode()).unwrap();
        assert!(text.starts_with("GET /ws HTTP/1.1\r\nHost: h:1\r\n"));
        assert!(text.contains("Origin: https://o\r\nAuthorization: Bearer t\r\n\r\n"));
        assert!(!text.contains("Protocol"));
    }
}
