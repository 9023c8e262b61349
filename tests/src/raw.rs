//! A WebSocket client that can send any bytes: the handshake and frames are its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::Node;
use crate::http::{self, Head};
use crate::poll::{PATIENCE, within};

/// Opcode of a continuation.
pub const CONTINUATION: u8 = 0;
/// Opcode of text.
pub const TEXT: u8 = 1;
/// Opcode of binary data.
pub const BINARY: u8 = 2;
/// Opcode of a close.
pub const CLOSE: u8 = 8;
/// Opcode of a ping.
pub const PING: u8 = 9;
/// Opcode of a pong.
pub const PONG: u8 = 10;

/// A frame in all its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Last of its message.
    pub fin: bool,
    /// The three reserved bits, as a number.
    pub reserved: u8,
    /// Opcode.
    pub opcode: u8,
    /// Payload, unmasked.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A whole message, or a control frame.
    #[must_use]
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { fin: true, reserved: 0, opcode, payload: payload.into() }
    }

    /// A part of a message, more to follow.
    #[must_use]
    pub fn part(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { fin: false, ..Self::new(opcode, payload) }
    }

    /// A close with a code and a reason.
    #[must_use]
    pub fn close(code: u16, reason: &[u8]) -> Self {
        Self::new(CLOSE, [&code.to_be_bytes(), reason].concat())
    }

    /// The code of a close, if it has one.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        self.payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]))
    }

    /// Its bytes as a client sends them: masked.
    #[must_use]
    pub fn masked(&self) -> Vec<u8> {
        const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
        let mut bytes = self.header(0x80, self.payload.len() as u64);
        bytes.extend(MASK);
        bytes.extend(self.payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// Its bytes without a mask, which no client may send.
    #[must_use]
    pub fn unmasked(&self) -> Vec<u8> {
        let mut bytes = self.header(0, self.payload.len() as u64);
        bytes.extend(&self.payload);
        bytes
    }

    /// Its header with any length, and with the mask bit or without.
    ///
    /// # Panics
    /// Never: the lengths are matched before they are cut.
    #[must_use]
    pub fn header(&self, mask: u8, length: u64) -> Vec<u8> {
        let mut bytes = vec![(u8::from(self.fin) << 7) | (self.reserved << 4) | self.opcode];
        match length {
            0..=125 => bytes.push(mask | u8::try_from(length).expect("at most 125")),
            126..=0xFFFF => {
                bytes.push(mask | 126);
                bytes.extend(u16::try_from(length).expect("at most 65,535").to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        bytes
    }
}

/// A socket of which every byte is the test's own.
#[derive(Debug)]
pub struct Raw {
    /// The stream below.
    pub stream: TcpStream,
    /// The answer to the handshake.
    pub head: Head,
    bytes: Vec<u8>,
}

impl Raw {
    /// Opens a socket on `/ws` without an `Origin`.
    pub async fn open(node: &Node) -> Self {
        Self::open_with(node, &[]).await
    }

    /// Opens a socket on `/ws` with further header fields.
    ///
    /// # Panics
    /// If the handshake is refused or wrongly confirmed.
    pub async fn open_with(node: &Node, headers: &[(&str, &str)]) -> Self {
        let stream = TcpStream::connect(node.gateway).await.expect("the node listens");
        Self::shake(stream, headers).await
    }

    /// Opens a socket whose receive buffer is as small as the system makes it: a slow consumer.
    ///
    /// # Panics
    /// If the handshake is refused or wrongly confirmed.
    pub async fn open_narrow(node: &Node, headers: &[(&str, &str)]) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("a small buffer");
        Self::shake(socket.connect(node.gateway).await.expect("the node listens"), headers).await
    }

    async fn shake(mut stream: TcpStream, headers: &[(&str, &str)]) -> Self {
        stream.set_nodelay(true).expect("no delay");
        let key = fresh_key();
        let mut fields = vec![
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", &key),
        ];
        fields.extend(headers);
        let head = within(PATIENCE, "handshake", exchange(&mut stream, "GET /ws HTTP/1.1", &fields)).await;
        assert_eq!(head.status, 101, "{head:?} {}", String::from_utf8_lossy(&head.rest));
        assert_eq!(http::find(&head.headers, "sec-websocket-accept"), Some(derive_accept_key(key.as_bytes()).as_str()));
        assert_eq!(http::find(&head.headers, "sec-websocket-extensions"), None, "no extension is negotiated");
        Self { stream, bytes: head.rest.clone(), head }
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// If the node is gone.
    pub async fn bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the node reads");
    }

    /// Sends frames, masked, in one write.
    pub async fn send(&mut self, frames: &[Frame]) {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::masked).collect();
        self.bytes(&bytes).await;
    }

    /// The next frame; none when the stream has ended.
    ///
    /// # Panics
    /// If none comes, or one that no server may send.
    pub async fn frame(&mut self) -> Option<Frame> {
        within(PATIENCE, "a frame", async {
            loop {
                if let Some(frame) = self.take() {
                    return Some(frame);
                }
                match self.stream.read_buf(&mut self.bytes).await {
                    Ok(0) | Err(_) => {
                        assert!(self.bytes.is_empty(), "the stream ended inside a frame: {} bytes", self.bytes.len());
                        return None;
                    }
                    Ok(_) => {}
                }
            }
        })
        .await
    }

    /// The next frame that is no ping of the node's own; each of those is answered.
    pub async fn answered_frame(&mut self) -> Option<Frame> {
        loop {
            match self.frame().await {
                Some(ping) if ping.opcode == PING => self.send(&[Frame::new(PONG, ping.payload)]).await,
                other => return other,
            }
        }
    }

    /// Expects this frame next.
    ///
    /// # Panics
    /// If another comes.
    pub async fn expect(&mut self, expected: &Frame) {
        let found = self.frame().await;
        assert!(found.as_ref() == Some(expected), "expected {}, got {}", short(Some(expected)), short(found.as_ref()));
    }

    /// Reads up to the close frame and on to the end of the stream; its code. Data before it is skipped.
    ///
    /// # Panics
    /// If the stream ends without one, or something follows it.
    pub async fn closed(&mut self) -> Option<u16> {
        let close = loop {
            match self.frame().await {
                Some(frame) if frame.opcode == CLOSE => break frame,
                Some(_) => {}
                None => panic!("the stream ended without a close frame"),
            }
        };
        assert!(close.payload.len() != 1 && close.payload.len() <= 125, "an illegal close: {close:?}");
        assert!(std::str::from_utf8(close.payload.get(2..).unwrap_or_default()).is_ok(), "a reason that is not UTF-8");
        // The node may wait for an answer before it ends the stream; it may also be gone already.
        let _ = self.stream.write_all(&Frame::new(CLOSE, close.payload.clone()).masked()).await;
        assert_eq!(self.frame().await, None, "nothing follows a close");
        close.code()
    }

    /// Takes a whole frame off the buffer.
    fn take(&mut self) -> Option<Frame> {
        let (first, second) = (*self.bytes.first()?, *self.bytes.get(1)?);
        assert_eq!(second & 0x80, 0, "a server masks nothing");
        let (at, length) = match second {
            126 => (4, u64::from(u16::from_be_bytes(self.bytes.get(2..4)?.try_into().ok()?))),
            127 => (10, u64::from_be_bytes(self.bytes.get(2..10)?.try_into().ok()?)),
            short => (2, u64::from(short)),
        };
        let end = at + usize::try_from(length).expect("a length that fits");
        let payload = self.bytes.get(at..end)?.to_vec();
        self.bytes.drain(..end);
        let frame = Frame { fin: first & 0x80 != 0, reserved: (first >> 4) & 7, opcode: first & 15, payload };
        assert_eq!(frame.reserved, 0, "a server sets no reserved bit: {frame:?}");
        Some(frame)
    }
}

/// A frame for a failure's text, without its whole payload.
fn short(frame: Option<&Frame>) -> String {
    frame.map_or_else(
        || "the end of the stream".to_owned(),
        |frame| {
            let text = String::from_utf8_lossy(&frame.payload[..frame.payload.len().min(60)]).into_owned();
            format!("opcode {} fin {} {} bytes {text:?} code {:?}", frame.opcode, frame.fin, frame.payload.len(), frame.code())
        },
    )
}

/// Sends the head of a request as given and reads the head of the answer.
///
/// # Panics
/// If the stream fails.
pub async fn exchange(stream: &mut TcpStream, request: &str, headers: &[(&str, &str)]) -> Head {
    let host = stream.peer_addr().expect("a connected stream");
    let mut text = format!("{request}\r\nHost: {host}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes()).await.expect("the node reads");
    http::read_head(stream).await.expect("the node answers")
}

/// Sends a handshake and reads the status alone; the stream is dropped.
pub async fn status_of(node: &Node, request: &str, headers: &[(&str, &str)]) -> Head {
    let mut stream = TcpStream::connect(node.gateway).await.expect("the node listens");
    within(PATIENCE, request, exchange(&mut stream, request, headers)).await
}

/// 16 random bytes in base64.
///
/// # Panics
/// If the system has no randomness.
#[must_use]
pub fn fresh_key() -> String {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).expect("randomness");
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_take_the_shortest_length() {
        let header = |length| Frame::new(BINARY, "").header(0x80, length);
        assert_eq!(header(125), [0x82, 0xFD]);
        assert_eq!(header(126), [0x82, 0xFE, 0, 126]);
        assert_eq!(header(65_536), [0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0]);
        // The example of RFC 6455, section 5.7.
        let hello = [0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58];
        assert_eq!(Frame::new(TEXT, "Hello").masked(), hello);
    }
}
