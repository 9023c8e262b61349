//! How sockets end: a third of them in each of the ways in which clients go.

use std::io::{Read as _, Write as _};
use std::net;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::SockRef;

use crate::Outcome;
use crate::wire::{Masker, OPCODE_CLOSE};

/// A server that does not answer a close frame for so long does not answer it at all.
const FAREWELL_MAX: Duration = Duration::from_secs(10);

/// Ends every socket, and waits for those that say goodbye.
///
/// # Errors
/// If the server leaves a close frame without an answer.
pub(super) fn end(streams: impl Iterator<Item = TcpStream>, masker: &mut Masker) -> Outcome<()> {
    let mut parting = Vec::new();
    for (place, stream) in streams.enumerate() {
        let mut stream = net::TcpStream::from(stream);
        match place % 3 {
            0 => {
                let mut frame = Vec::new();
                masker.write(OPCODE_CLOSE, &1000_u16.to_be_bytes(), &mut frame);
                stream.write_all(&frame)?;
                parting.push(stream);
            }
            1 => drop(stream),
            _ => SockRef::from(&stream).set_linger(Some(Duration::ZERO))?,
        }
    }
    for mut stream in parting {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(FAREWELL_MAX))?;
        // The close frame's answer, and whatever was on its way before it.
        stream.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}
