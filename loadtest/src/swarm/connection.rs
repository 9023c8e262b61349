//! One client socket: what it still has to say, and how it reads.

use std::io::{self, Read, Write};

use mio::net::TcpStream;

use super::dialogue::{Dialogue, Next};
use super::order::Approach;
use crate::wire::{FrameReader, Masker, OPCODE_CLOSE, OPCODE_PING, OPCODE_PONG, OPCODE_TEXT, parse_head};

/// How far a socket has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The TCP connection is on its way.
    Dialing,
    /// The opening handshake is.
    Upgrading,
    /// Challenge and subscription are.
    Talking,
    /// It receives.
    Ready,
}

/// What only a socket that is not ready yet needs: given back when it is, so that thousands of ready ones stay small.
struct Setup {
    request: Vec<u8>,
    head: Vec<u8>,
    dialogue: Dialogue,
}

/// One client socket.
pub(crate) struct Connection {
    /// The socket; the event loop registers it.
    pub stream: TcpStream,
    phase: Phase,
    reader: FrameReader,
    setup: Option<Box<Setup>>,
}

/// What all sockets of a process share.
pub(crate) struct Shared {
    /// What each does until it is ready.
    pub approach: Approach,
    /// Writes frames.
    pub masker: Masker,
    /// Read into by every socket in turn.
    pub buffer: Vec<u8>,
    /// Data messages received by ready sockets.
    pub messages: u64,
    /// Ids that the server gave, or tickets.
    pub ids: Vec<String>,
}

impl Connection {
    /// A socket that is being connected; `request` is sent once it is.
    pub(crate) fn new(stream: TcpStream, request: Vec<u8>, dialogue: Dialogue) -> Self {
        let setup = Setup { request, head: Vec::new(), dialogue };
        Self { stream, phase: Phase::Dialing, reader: FrameReader::default(), setup: Some(Box::new(setup)) }
    }

    /// How far it has come.
    pub(crate) const fn phase(&self) -> Phase {
        self.phase
    }

    /// The socket can be written: it is connected, or refused.
    ///
    /// # Errors
    /// Why it will not become ready.
    pub(crate) fn writable(&mut self, shared: &Shared) -> Result<(), String> {
        if self.phase != Phase::Dialing || self.stream.peer_addr().is_err() {
            return self.stream.take_error().ok().flatten().map_or(Ok(()), |fault| Err(format!("not connected: {fault}")));
        }
        self.stream.set_nodelay(true).map_err(|fault| fault.to_string())?;
        if matches!(shared.approach, Approach::Tcp) {
            self.become_ready();
            return Ok(());
        }
        self.phase = Phase::Upgrading;
        let request = self.setup.as_mut().map(|setup| std::mem::take(&mut setup.request)).unwrap_or_default();
        self.send(&request)
    }

    /// The socket has something to read. Reads until it has nothing more: readiness is told once.
    ///
    /// # Errors
    /// Why it is of no more use.
    pub(crate) fn readable(&mut self, shared: &mut Shared) -> Result<(), String> {
        let mut buffer = std::mem::take(&mut shared.buffer);
        let outcome = self.read_all(&mut buffer, shared);
        shared.buffer = buffer;
        outcome
    }

    fn read_all(&mut self, buffer: &mut [u8], shared: &mut Shared) -> Result<(), String> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err("the server closed the socket".to_owned()),
                Ok(len) => {
                    self.take(&buffer[..len], shared)?;
                    // A read that leaves room has emptied the socket (epoll(7), question 9).
                    if len < buffer.len() {
                        return Ok(());
                    }
                }
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(fault.to_string()),
            }
        }
    }

    fn take(&mut self, bytes: &[u8], shared: &mut Shared) -> Result<(), String> {
        if self.phase != Phase::Upgrading {
            return self.take_frames(bytes, shared);
        }
        let Some(setup) = &mut self.setup else { return Ok(()) };
        setup.head.extend_from_slice(bytes);
        let Some(head) = parse_head(&setup.head)? else { return Ok(()) };
        if head.status != 101 {
            return Err(format!("handshake refused: {}", String::from_utf8_lossy(&setup.head)));
        }
        let rest = setup.head.split_off(head.head_len);
        self.phase = Phase::Talking;
        if matches!(shared.approach, Approach::Upgrade { .. }) {
            self.become_ready();
        }
        self.take_frames(&rest, shared)
    }

    fn take_frames(&mut self, bytes: &[u8], shared: &mut Shared) -> Result<(), String> {
        let mut reader = std::mem::take(&mut self.reader);
        let keep = self.phase != Phase::Ready;
        let mut outcome = Ok(());
        reader.feed(bytes, keep, |frame| {
            if outcome.is_ok() {
                outcome = self.take_frame(frame.opcode, frame.payload, shared);
            }
        });
        if self.phase == Phase::Ready && keep {
            reader.release();
        }
        self.reader = reader;
        outcome
    }

    fn take_frame(&mut self, opcode: u8, payload: &[u8], shared: &mut Shared) -> Result<(), String> {
        match (opcode, self.phase) {
            (OPCODE_PING, _) => self.say(OPCODE_PONG, payload, shared),
            (OPCODE_PONG, _) => Ok(()),
            (OPCODE_CLOSE, _) => Err(close_text(payload)),
            (_, Phase::Ready) => {
                shared.messages += 1;
                Ok(())
            }
            _ => self.converse(payload, shared),
        }
    }

    fn converse(&mut self, payload: &[u8], shared: &mut Shared) -> Result<(), String> {
        let (Some(setup), Approach::Verified(wanted)) = (&mut self.setup, &shared.approach) else {
            return Err("a message before the socket was ready".to_owned());
        };
        match setup.dialogue.hear(payload, &wanted.origin, wanted.channel.as_deref())? {
            Next::Wait => Ok(()),
            Next::Say(text) => self.say(OPCODE_TEXT, text.as_bytes(), shared),
            Next::Ready => {
                shared.ids.extend(setup.dialogue.credential());
                self.become_ready();
                Ok(())
            }
        }
    }

    fn become_ready(&mut self) {
        self.phase = Phase::Ready;
        self.setup = None;
    }

    fn say(&mut self, opcode: u8, payload: &[u8], shared: &mut Shared) -> Result<(), String> {
        let mut frame = Vec::with_capacity(payload.len() + 14);
        shared.masker.write(opcode, payload, &mut frame);
        self.send(&frame)
    }

    /// What a client says fits an empty send buffer by far, so there is no queue behind it.
    fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        match self.stream.write(bytes) {
            Ok(len) if len == bytes.len() => Ok(()),
            Ok(len) => Err(format!("only {len} of {} bytes could be sent", bytes.len())),
            Err(fault) => Err(fault.to_string()),
        }
    }
}

fn close_text(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            format!("closed with {}: {}", u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason))
        }
        _ => "closed without a code".to_owned(),
    }
}
