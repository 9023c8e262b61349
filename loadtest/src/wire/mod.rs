//! Bytes on the wire: WebSocket frames, the opening handshake, HTTP answers. Pure, and only what load needs.

mod frame;
mod http;

pub(crate) use frame::{FrameReader, Masker, OPCODE_CLOSE, OPCODE_PING, OPCODE_PONG, OPCODE_TEXT, server_text_frame};
pub(crate) use http::{Upgrade, parse_head};
