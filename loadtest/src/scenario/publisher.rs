//! Who publishes in the fan-out: one connection to the server, many publications on it back to back.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Outcome;

/// Between two questions whether all sockets are accepted.
const ACCEPT_POLL: Duration = Duration::from_millis(10);

/// Publishes the same message over and over.
pub(super) enum Publisher {
    /// A request for each publication; all of them are sent before the first answer is read.
    Http {
        /// The server.
        address: SocketAddr,
        /// One whole request.
        request: Vec<u8>,
    },
    /// The raw loop: a line says how many.
    Line {
        /// The loop's second listener.
        address: SocketAddr,
    },
}

impl Publisher {
    /// A publisher that posts `body` to `path`.
    pub(super) fn http(address: SocketAddr, path: &str, api_key: Option<&str>, body: &str) -> Self {
        let key = api_key.map(|key| format!("X-API-Key: {key}\r\n")).unwrap_or_default();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\n{key}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        Self::Http { address, request: format!("{head}{body}").into_bytes() }
    }

    /// A publisher for one measurement: a server may end a keep-alive connection between two.
    ///
    /// # Errors
    /// If the server does not accept.
    pub(super) fn open(&self) -> Outcome<Turn<'_>> {
        let (Self::Http { address, .. } | Self::Line { address }) = self;
        let stream = TcpStream::connect(*address)?;
        stream.set_nodelay(true)?;
        let stream = BufReader::new(stream);
        Ok(match self {
            Self::Http { request, .. } => Turn::Http(stream, request),
            Self::Line { .. } => Turn::Line(stream),
        })
    }
}

/// A publisher while a measurement lasts.
pub(super) enum Turn<'a> {
    /// Connection and request.
    Http(BufReader<TcpStream>, &'a [u8]),
    /// The loop's connection.
    Line(BufReader<TcpStream>),
}

impl Turn<'_> {
    /// Publishes `times` times, back to back, and returns when the server has taken all of them.
    ///
    /// # Errors
    /// If it refused one.
    pub(super) fn publish(&mut self, times: usize) -> Outcome<()> {
        match self {
            Self::Http(stream, request) => {
                stream.get_mut().write_all(&request.repeat(times))?;
                (0..times).try_for_each(|_| read_answer(stream))
            }
            Self::Line(stream) => {
                stream.get_mut().write_all(format!("publish {times}\n").as_bytes())?;
                if read_line(stream)? == "done" { Ok(()) } else { Err("the raw loop broke".into()) }
            }
        }
    }
}

/// Waits until the raw loop holds `sockets` sockets: a client is connected before the loop has accepted it.
///
/// # Errors
/// If the loop is gone.
pub(super) fn wait_until_accepted(address: SocketAddr, sockets: usize) -> Outcome<()> {
    let mut stream = BufReader::new(TcpStream::connect(address)?);
    loop {
        stream.get_mut().write_all(b"count\n")?;
        if read_line(&mut stream)?.parse::<usize>()? >= sockets {
            return Ok(());
        }
        std::thread::sleep(ACCEPT_POLL);
    }
}

fn read_line(stream: &mut BufReader<TcpStream>) -> Outcome<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn read_answer(stream: &mut BufReader<TcpStream>) -> Outcome<()> {
    let status = read_line(stream)?;
    let mut body_len = 0;
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            break;
        }
        if let Some((_, value)) = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            body_len = value.trim().parse()?;
        }
    }
    let mut body = vec![0; body_len];
    stream.read_exact(&mut body)?;
    if status.contains(" 200 ") { Ok(()) } else { Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into()) }
}
