//! An honest client that comes, is verified and goes: how long that took, again and again.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Ends, bound};
use crate::swarm::{Dialogue, Next, Shows, Verified};
use crate::wire::{FrameReader, Masker, OPCODE_CLOSE, OPCODE_TEXT, Upgrade, parse_head};
use crate::{Outcome, token};

/// A client that is not verified by then has given up.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two visits.
const PAUSE: Duration = Duration::from_millis(10);
/// A network that no attacker comes from.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);

/// What became of honest clients.
#[derive(Debug, Default)]
pub(crate) struct Visits {
    /// Milliseconds from the start of the connection to `verified`.
    pub millis: Vec<f64>,
    /// How the others ended.
    pub failed: Ends,
}

/// One visit after the other until that moment.
pub(crate) fn visit_until(over: Instant, server: SocketAddr, wanted: &Verified) -> Visits {
    let mut visits = Visits::default();
    while Instant::now() < over {
        let started = Instant::now();
        match visit(server, wanted, visits.millis.len()) {
            Ok(()) => visits.millis.push(started.elapsed().as_secs_f64() * 1e3),
            Err(fault) => *visits.failed.entry(fault.to_string()).or_default() += 1,
        }
        std::thread::sleep(PAUSE);
    }
    visits
}

fn visit(server: SocketAddr, wanted: &Verified, place: usize) -> Outcome<()> {
    let (mut nonce, mut key) = ([0; 32], [0; 16]);
    getrandom::fill(&mut nonce)?;
    getrandom::fill(&mut key)?;
    let socket = bound(SOURCE)?;
    socket.connect_timeout(&server.into(), PATIENCE)?;
    let mut stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (host, token) = (server.to_string(), token::mint(wanted, place)?);
    let subprotocol = Some("countersign.v1");
    let upgrade =
        Upgrade { target: &wanted.path, host: &host, origin: Some(&wanted.origin), subprotocol, token: Some(&token), key };
    stream.write_all(&upgrade.encode())?;
    let mut conversation =
        Conversation { stream, dialogue: Dialogue::new(nonce, host.clone(), Shows::Id), masker: Masker::new(77) };
    conversation.hold(&wanted.origin)?;
    // Its port need not rest: a visit a few milliseconds after the other would use them up.
    socket2::SockRef::from(&conversation.stream).set_linger(Some(Duration::ZERO))?;
    Ok(())
}

struct Conversation {
    stream: TcpStream,
    dialogue: Dialogue,
    masker: Masker,
}

impl Conversation {
    /// Talks until verified.
    fn hold(&mut self, origin: &str) -> Outcome<()> {
        let mut buffer = [0; 8 * 1024];
        let (mut head, mut reader) = (Vec::new(), FrameReader::default());
        let mut bytes = loop {
            let len = self.read(&mut buffer)?;
            head.extend_from_slice(&buffer[..len]);
            let Some(parsed) = parse_head(&head)? else { continue };
            if parsed.status != 101 {
                return Err(format!("HTTP {}", parsed.status).into());
            }
            break head.split_off(parsed.head_len);
        };
        loop {
            let mut texts = Vec::new();
            reader.feed(&bytes, true, |frame| texts.push((frame.opcode, frame.payload.to_vec())));
            for (opcode, payload) in texts {
                if self.hear(opcode, &payload, origin)? {
                    return Ok(());
                }
            }
            let len = self.read(&mut buffer)?;
            bytes = buffer[..len].to_vec();
        }
    }

    /// Verified?
    fn hear(&mut self, opcode: u8, payload: &[u8], origin: &str) -> Outcome<bool> {
        match opcode {
            OPCODE_CLOSE => {
                Err(format!("closed with {:?}", payload.first_chunk().map(|code| u16::from_be_bytes(*code))).into())
            }
            OPCODE_TEXT => match self.dialogue.hear(payload, origin, None)? {
                Next::Ready => Ok(true),
                Next::Wait => Ok(false),
                Next::Say(text) => {
                    let mut frame = Vec::new();
                    self.masker.write(OPCODE_TEXT, text.as_bytes(), &mut frame);
                    self.stream.write_all(&frame)?;
                    Ok(false)
                }
            },
            _ => Ok(false),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Outcome<usize> {
        match self.stream.read(buffer)? {
            0 => Err("the node closed the socket".into()),
            len => Ok(len),
        }
    }
}
