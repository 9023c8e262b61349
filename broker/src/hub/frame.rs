use bytes::{BufMut as _, Bytes, BytesMut};

/// Longest payload of a control frame, and so of a close frame's code and reason together.
///
/// Source: RFC 6455, section 5.5.
pub const CONTROL_PAYLOAD_MAX: usize = 125;

/// What a frame carries.
///
/// Source: RFC 6455, section 5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A whole text message.
    Text = 0x1,
    /// A whole binary message.
    Binary = 0x2,
    /// The start, or the echo, of the closing handshake.
    Close = 0x8,
    /// Asks for a pong.
    Ping = 0x9,
    /// Answers a ping.
    Pong = 0xA,
}

impl FrameKind {
    /// Text and binary count as messages; the rest is housekeeping.
    const fn is_message(self) -> bool {
        matches!(self, Self::Text | Self::Binary)
    }
}

/// Encodes one frame as a server sends it: final, unmasked.
///
/// The one place where outbound frames are made, so that each is made once however many clients get it.
/// Control frames carry at most [`CONTROL_PAYLOAD_MAX`] bytes; what is longer is cut, since the frame would be illegal.
///
/// Source: RFC 6455, section 5.2.
#[must_use]
pub fn encode_frame(kind: FrameKind, payload: &[u8]) -> Bytes {
    let payload = if kind.is_message() { payload } else { &payload[..payload.len().min(CONTROL_PAYLOAD_MAX)] };
    let mut frame = BytesMut::with_capacity(header_len(payload.len()) + payload.len());
    put_header(&mut frame, kind, payload.len());
    frame.put_slice(payload);
    frame.freeze()
}

/// Encodes a close frame. A reason that is too long is cut at a character boundary.
///
/// Source: RFC 6455, section 5.5.1.
#[must_use]
pub fn encode_close(code: u16, reason: &str) -> Bytes {
    let mut end = reason.len().min(CONTROL_PAYLOAD_MAX - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = [0_u8; CONTROL_PAYLOAD_MAX];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + end].copy_from_slice(&reason.as_bytes()[..end]);
    encode_frame(FrameKind::Close, &payload[..2 + end])
}

/// Bytes of the header before a payload of this length: 2, 4 or 10.
const fn header_len(payload_len: usize) -> usize {
    match payload_len {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    }
}

/// Writes the header of a final, unmasked frame.
#[allow(clippy::cast_possible_truncation, reason = "each arm's pattern bounds the length")]
fn put_header(frame: &mut BytesMut, kind: FrameKind, payload_len: usize) {
    frame.put_u8(0x80 | kind as u8);
    match payload_len {
        0..=125 => frame.put_u8(payload_len as u8),
        126..=0xFFFF => {
            frame.put_u8(126);
            frame.put_u16(payload_len as u16);
        }
        _ => {
            frame.put_u8(127);
            frame.put_u64(payload_len as u64);
        }
    }
}

/// Payload bytes of an encoded frame if it is a message, for the counters; none if it is a control frame.
pub(super) fn message_payload_len(frame: &[u8]) -> Option<usize> {
    let is_message = matches!(frame.first()? & 0x0F, 0x1 | 0x2);
    let header = match frame.get(1)? & 0x7F {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    is_message.then(|| frame.len().saturating_sub(header))
}

#[cfg(test)]
mod tests {
    use actix_http::ws::{OpCode, Parser};
    use proptest::prelude::*;

    use super::*;

    /// Reads a frame back with the parser of another code base, as a client.
    fn parsed(frame: &[u8]) -> (bool, OpCode, Vec<u8>) {
        let mut buffer = BytesMut::from(frame);
        let (last, opcode, payload) = Parser::parse(&mut buffer, false, usize::MAX / 2).unwrap().unwrap();
        assert!(buffer.is_empty(), "one frame and nothing more");
        (last, opcode, payload.map(|bytes| bytes.to_vec()).unwrap_or_default())
    }

    #[test]
    fn every_length_form_reads_back() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = vec![b'x'; len];
            let frame = encode_frame(FrameKind::Binary, &payload);
            assert_eq!(parsed(&frame), (true, OpCode::Binary, payload));
            assert_eq!(message_payload_len(&frame), Some(len));
            assert_eq!(frame.len(), header_len(len) + len);
        }
    }

    #[test]
    fn control_frames_are_never_too_long_and_no_messages() {
        let frame = encode_frame(FrameKind::Ping, &[7; 200]);
        assert_eq!(parsed(&frame), (true, OpCode::Ping, vec![7; 125]));
        assert_eq!(message_payload_len(&frame), None);
    }

    proptest! {
        #[test]
        fn close_frames_are_legal_for_any_reason(code: u16, reason in "\\PC{0,200}") {
            let (_, opcode, payload) = parsed(&encode_close(code, &reason));
            prop_assert_eq!(opcode, OpCode::Close);
            prop_assert!(payload.len() <= CONTROL_PAYLOAD_MAX);
            prop_assert_eq!(&payload[..2], &code.to_be_bytes()[..]);
            prop_assert!(reason.starts_with(std::str::from_utf8(&payload[2..]).unwrap()));
        }
    }
}
