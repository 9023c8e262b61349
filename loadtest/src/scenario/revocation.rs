//! How long a closed socket keeps its access on another node, beside what their Redis needs for a publication alone.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use clap::Args;

use super::Bench;
use crate::Outcome;
use crate::node::{Node, verified};
use crate::redis::Redis;
use crate::report::{Bar, Finding, Report};
use crate::stats::{count, quantile, ratio};
use crate::swarm::{Dialogue, Next, Shows, Verified};
use crate::token;
use crate::wire::{FrameReader, Masker, OPCODE_CLOSE, OPCODE_TEXT, Upgrade, parse_head};

/// Upper bounds of the histogram in milliseconds; what is above has a row of its own.
const BOUNDS_MS: [f64; 10] = [0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 25.0, 100.0];
/// The goal on an otherwise idle machine: of 100 closes 99 within this, and within so many publish round trips.
const P99_MAX_MS: f64 = 10.0;
const P99_ROUND_TRIPS_MAX: f64 = 5.0;
/// A denial that takes longer is none.
const DENIAL_MAX: Duration = Duration::from_secs(10);

/// Options of `revocation`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Revocation {
    /// Sockets that are opened on one node, allowed on the other, and closed, one after the other
    #[arg(long, default_value_t = 1_000)]
    pub closes: usize,
}

/// What was measured, in milliseconds.
#[derive(Default)]
struct Measured {
    denied: Vec<f64>,
    published: Vec<f64>,
    asked: Vec<f64>,
    /// Allows after the first denial: a broken promise, not a slow one.
    relapses: u64,
}

/// Runs the scenario.
///
/// # Errors
/// If a server failed, or a closed socket stays allowed.
pub(crate) fn run(bench: &Bench, options: &Revocation) -> Outcome<Report> {
    let redis = Redis::start()?;
    let url = redis.url();
    let [owner, other] =
        [Node::start_with(&bench.server, &["--redis", &url])?, Node::start_with(&bench.server, &["--redis", &url])?];
    let mut limit = redis.round_trip()?;
    let mut asker = Asker::connect(other.admin)?;
    let mut measured = Measured::default();
    for place in 0..options.closes {
        let socket = Socket::open(owner.gateway, &verified(None), place)?;
        asker.until(&socket.id, 200)?;
        measured.asked.push(millis(asker.timed(&socket.id)?));
        let closed = Instant::now();
        let id = socket.close()?;
        asker.until(&id, 401)?;
        measured.denied.push(millis(closed.elapsed()));
        measured.relapses += u64::from(asker.status(&id)? == 200);
        measured.published.push(millis(limit.measure()?));
    }
    Ok(report(options, &measured))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn report(options: &Revocation, measured: &Measured) -> Report {
    let setup = format!(
        "{} sockets closed on one node, each asked about on another over one keep-alive connection until it is denied; between \
         two closes one publication through the same Redis. A call for a cached decision takes {:.2} ms (median) of it.",
        options.closes,
        quantile(&measured.asked, 0.5)
    );
    let mut report = Report::new("revocation", setup, &["within", "closed to denied", "published to heard"]);
    let within = |samples: &[f64], bound: f64| samples.iter().filter(|&&sample| sample <= bound).count().to_string();
    for bound in BOUNDS_MS {
        report.row([format!("{bound} ms"), within(&measured.denied, bound), within(&measured.published, bound)]);
    }
    for (name, share) in [("median", 0.5), ("p99", 0.99), ("longest", 1.0)] {
        let text = |samples: &[f64]| format!("{:.2} ms", quantile(samples, share));
        report.row([name.to_owned(), text(&measured.denied), text(&measured.published)]);
    }
    let (denied, published) = (quantile(&measured.denied, 0.99), quantile(&measured.published, 0.99));
    report.findings.push(Finding::new("p99 from close to denial, ms", denied, Bar::AtMost(P99_MAX_MS)));
    report.findings.push(Finding::new(
        "of the p99 of a publish round trip",
        ratio(denied, published),
        Bar::AtMost(P99_ROUND_TRIPS_MAX),
    ));
    report.findings.push(Finding::new("allowed again after a denial", count(measured.relapses), Bar::AtMost(0.0)));
    report
}

/// A verified socket on a blocking stream.
struct Socket {
    stream: TcpStream,
    masker: Masker,
    id: String,
}

impl Socket {
    /// Opens one and answers its challenge.
    fn open(server: SocketAddr, wanted: &Verified, place: usize) -> Outcome<Self> {
        let mut stream = connect(server)?;
        let (mut key, mut nonce) = ([0; 16], [0; 32]);
        getrandom::fill(&mut key)?;
        getrandom::fill(&mut nonce)?;
        let token = token::mint(wanted, place)?;
        let upgrade = Upgrade {
            target: &wanted.path,
            host: &server.to_string(),
            origin: Some(&wanted.origin),
            subprotocol: Some("countersign.v1"),
            token: Some(&token),
            key,
        };
        stream.write_all(&upgrade.encode())?;
        let mut bytes = Vec::new();
        let head = loop {
            match parse_head(&bytes)? {
                Some(head) => break head,
                None => read_more(&mut stream, &mut bytes)?,
            }
        };
        if head.status != 101 {
            return Err(format!("handshake refused with {}", head.status).into());
        }
        bytes.drain(..head.head_len);
        let mut socket =
            Self { stream, masker: Masker::new(u32::from_be_bytes([key[0], key[1], key[2], key[3]])), id: String::new() };
        socket.talk(Dialogue::new(nonce, server.to_string(), Shows::Id), bytes, &wanted.origin)?;
        Ok(socket)
    }

    /// Talks until it is verified.
    fn talk(&mut self, mut dialogue: Dialogue, mut bytes: Vec<u8>, origin: &str) -> Outcome<()> {
        let mut reader = FrameReader::default();
        loop {
            let mut texts = Vec::new();
            reader.feed(&bytes, true, |frame| {
                if frame.opcode == OPCODE_TEXT {
                    texts.push(frame.payload.to_vec());
                }
            });
            for text in texts {
                match dialogue.hear(&text, origin, None)? {
                    Next::Wait => {}
                    Next::Say(text) => self.send(OPCODE_TEXT, text.as_bytes())?,
                    Next::Ready => {
                        self.id = dialogue.credential().ok_or("a welcome without a connection id")?;
                        return Ok(());
                    }
                }
            }
            bytes.clear();
            read_more(&mut self.stream, &mut bytes)?;
        }
    }

    /// Sends a close and leaves; its id.
    fn close(mut self) -> Outcome<String> {
        self.send(OPCODE_CLOSE, &1000_u16.to_be_bytes())?;
        Ok(self.id)
    }

    fn send(&mut self, opcode: u8, payload: &[u8]) -> Outcome<()> {
        let mut frame = Vec::new();
        self.masker.write(opcode, payload, &mut frame);
        Ok(self.stream.write_all(&frame)?)
    }
}

/// Asks one node for decisions over one keep-alive connection.
struct Asker {
    stream: TcpStream,
    server: SocketAddr,
}

impl Asker {
    fn connect(server: SocketAddr) -> Outcome<Self> {
        Ok(Self { stream: connect(server)?, server })
    }

    /// Asks until the answer is `status`.
    fn until(&mut self, id: &str, status: u16) -> Outcome<()> {
        let started = Instant::now();
        loop {
            let found = self.status(id)?;
            if found == status {
                return Ok(());
            }
            if started.elapsed() > DENIAL_MAX {
                return Err(format!("still {found} after {DENIAL_MAX:?}, expected {status}").into());
            }
        }
    }

    /// How long one answer takes.
    fn timed(&mut self, id: &str) -> Outcome<Duration> {
        let started = Instant::now();
        self.status(id)?;
        Ok(started.elapsed())
    }

    fn status(&mut self, id: &str) -> Outcome<u16> {
        let request = format!("GET /authorize HTTP/1.1\r\nHost: {}\r\nconnectionId: {id}\r\n\r\n", self.server);
        self.stream.write_all(request.as_bytes())?;
        let mut bytes = Vec::new();
        loop {
            if let Some(head) = parse_head(&bytes)?.filter(|head| bytes.len() >= head.head_len + head.body_len) {
                return Ok(head.status);
            }
            read_more(&mut self.stream, &mut bytes)?;
        }
    }
}

fn connect(server: SocketAddr) -> Outcome<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DENIAL_MAX))?;
    Ok(stream)
}

fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Outcome<()> {
    let mut buffer = [0; 16 * 1_024];
    match stream.read(&mut buffer)? {
        0 => Err("the server closed the connection".into()),
        len => {
            bytes.extend_from_slice(&buffer[..len]);
            Ok(())
        }
    }
}
