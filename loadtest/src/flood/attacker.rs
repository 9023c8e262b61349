//! One socket of an attacker: how far it has come, and what it says there.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use mio::net::TcpStream;
use serde_json::{Value, json};
use socket2::SockRef;

use super::Attack;
use crate::swarm::{Dialogue, Next, Shows};
use crate::wire::{FrameReader, Masker, OPCODE_CLOSE, OPCODE_TEXT, parse_head};

/// Payload that no unverified client may send, in bytes.
const TOO_LARGE: usize = 20_000;
/// Hellos of one storm: more than a second's messages.
const HELLOS: usize = 150;

/// How far a socket has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Dialing,
    Upgrading,
    Open,
}

/// One socket.
pub(super) struct Attacker {
    /// The event loop registers it.
    pub stream: TcpStream,
    phase: Phase,
    /// Differs between attackers of one kind.
    turn: usize,
    head: Vec<u8>,
    reader: FrameReader,
    dialogue: Dialogue,
}

/// What all sockets of a process share.
pub(super) struct Kit {
    /// Of what kind they are.
    pub attack: Attack,
    /// The opening handshake of each.
    pub request: Vec<u8>,
    /// The page's origin that they claim.
    pub origin: String,
    /// Writes frames.
    pub masker: Masker,
    /// Read into by every socket in turn.
    pub buffer: Vec<u8>,
}

/// What became of a socket; a text says how it ended.
type Outlook = Result<(), String>;

impl Attacker {
    /// A socket on its way.
    pub(super) fn new(stream: TcpStream, turn: usize, host: String) -> Self {
        let nonce = [0x5A; 32];
        let dialogue = Dialogue::new(nonce, host, Shows::Id);
        Self { stream, phase: Phase::Dialing, turn, head: Vec::new(), reader: FrameReader::default(), dialogue }
    }

    /// The socket is ready for something.
    pub(super) fn turn(&mut self, kit: &mut Kit) -> Outlook {
        if self.phase == Phase::Dialing {
            if self.stream.peer_addr().is_err() {
                return self.stream.take_error().ok().flatten().map_or(Ok(()), |_| Err("not connected".to_owned()));
            }
            self.phase = Phase::Upgrading;
            self.send(&kit.request)?;
            if kit.attack == Attack::Drop && self.turn.is_multiple_of(2) {
                return self.reset();
            }
        }
        let mut buffer = std::mem::take(&mut kit.buffer);
        let outlook = self.read_all(&mut buffer, kit);
        kit.buffer = buffer;
        outlook
    }

    fn read_all(&mut self, buffer: &mut [u8], kit: &mut Kit) -> Outlook {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err("without a code".to_owned()),
                Ok(len) => self.take(&buffer[..len], kit)?,
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err("without a code".to_owned()),
            }
        }
    }

    fn take(&mut self, bytes: &[u8], kit: &mut Kit) -> Outlook {
        if self.phase == Phase::Open {
            return self.take_frames(bytes, kit);
        }
        self.head.extend_from_slice(bytes);
        let Some(head) = parse_head(&self.head)? else { return Ok(()) };
        if head.status != 101 {
            return Err(format!("HTTP {}", head.status));
        }
        self.phase = Phase::Open;
        let rest = std::mem::take(&mut self.head).split_off(head.head_len);
        if kit.attack == Attack::Drop {
            return self.reset();
        }
        self.take_frames(&rest, kit)
    }

    fn take_frames(&mut self, bytes: &[u8], kit: &mut Kit) -> Outlook {
        let mut reader = std::mem::take(&mut self.reader);
        let mut outlook = Ok(());
        reader.feed(bytes, true, |frame| {
            if outlook.is_ok() {
                outlook = match frame.opcode {
                    OPCODE_CLOSE => self.close(frame.payload, kit),
                    OPCODE_TEXT => self.hear(frame.payload, kit),
                    _ => Ok(()),
                };
            }
        });
        self.reader = reader;
        outlook
    }

    /// Answers a close frame; this is the end.
    fn close(&mut self, payload: &[u8], kit: &mut Kit) -> Outlook {
        // It may be gone already.
        self.say(OPCODE_CLOSE, payload.get(..2).unwrap_or_default(), kit).ok();
        let code = payload.first_chunk::<2>().map(|code| u16::from_be_bytes(*code).to_string());
        Err(code.unwrap_or_else(|| "without a code".to_owned()))
    }

    fn hear(&mut self, text: &[u8], kit: &mut Kit) -> Outlook {
        let message: Value = serde_json::from_slice(text).unwrap_or_default();
        match message["event"].as_str() {
            Some("welcome") if kit.attack != Attack::Silence => {
                let Ok(Next::Say(hello)) = self.dialogue.hear(text, &kit.origin, None) else { return Ok(()) };
                let times = if kit.attack == Attack::Hellos { HELLOS } else { 1 };
                self.say_all((0..times).map(|_| hello.as_bytes()), kit)
            }
            Some("challenge") if kit.attack == Attack::WrongAnswer => {
                let answer = json!({
                    "id": 2, "action": "answer", "challenge": message["challenge"], "epoch": message["epoch"],
                    "origin": kit.origin, "mac": "A".repeat(43), "signature": "A".repeat(86),
                });
                self.say(OPCODE_TEXT, answer.to_string().as_bytes(), kit)
            }
            Some("challenge") if kit.attack == Attack::TooLarge => self.say_too_much(kit),
            _ => Ok(()),
        }
    }

    fn say_too_much(&mut self, kit: &mut Kit) -> Outlook {
        let text = vec![b'A'; TOO_LARGE];
        let mut bytes = Vec::new();
        match self.turn % 3 {
            0 => kit.masker.write(OPCODE_TEXT, &text, &mut bytes),
            // A gigabyte, of which nothing comes: final text frame, masked, 64 bits of length.
            1 => bytes.extend([0x81, 0xFF, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4]),
            _ => {
                for (place, piece) in text.chunks(500).enumerate() {
                    let start = bytes.len();
                    kit.masker.write(if place == 0 { OPCODE_TEXT } else { 0 }, piece, &mut bytes);
                    // Not the last of its message (RFC 6455, section 5.2).
                    bytes[start] &= 0x7F;
                }
            }
        }
        self.send(&bytes)
    }

    fn say(&mut self, opcode: u8, payload: &[u8], kit: &mut Kit) -> Outlook {
        let mut bytes = Vec::with_capacity(payload.len() + 14);
        kit.masker.write(opcode, payload, &mut bytes);
        self.send(&bytes)
    }

    fn say_all<'a>(&mut self, texts: impl Iterator<Item = &'a [u8]>, kit: &mut Kit) -> Outlook {
        let mut bytes = Vec::new();
        texts.for_each(|text| kit.masker.write(OPCODE_TEXT, text, &mut bytes));
        self.send(&bytes)
    }

    /// Ends the socket with a reset, which leaves no port resting.
    fn reset(&mut self) -> Outlook {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).ok();
        Err("reset by the client".to_owned())
    }

    /// What does not fit the kernel's buffer is left out: an attacker owes nobody the rest.
    fn send(&mut self, bytes: &[u8]) -> Outlook {
        match self.stream.write(bytes) {
            Err(fault) if fault.kind() != io::ErrorKind::WouldBlock => Err("without a code".to_owned()),
            _ => Ok(()),
        }
    }
}
