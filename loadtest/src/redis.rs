//! A Redis of the load test's own, and the limit that it sets: how long a publication takes through it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Outcome;

/// Longest wait for the server to listen.
const START_MAX: Duration = Duration::from_secs(10);
/// The channel of the limit.
const CHANNEL: &str = "limit";
/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// A `redis-server` without persistence. It ends with this value, and its files go.
pub(crate) struct Redis {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

/// A publisher and a subscriber on two connections.
pub(crate) struct RoundTrip {
    publisher: BufReader<TcpStream>,
    subscriber: BufReader<TcpStream>,
}

impl Redis {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// If there is no `redis-server`, or it does not start.
    pub(crate) fn start() -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|fault| format!("redis-server cannot be started (on Debian: apt-get install redis-server): {fault}"))?;
        let redis = Self { child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), _directory: directory };
        let started = Instant::now();
        while TcpStream::connect(redis.address).is_err() {
            if started.elapsed() > START_MAX {
                return Err("redis-server does not listen".into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(redis)
    }

    /// Where it is, for a node's `--redis`.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// How many keys there are, and how many channels somebody hears.
    ///
    /// # Errors
    /// If the server does not answer.
    pub(crate) fn keys_and_channels(&self) -> Outcome<(u64, u64)> {
        let mut stream = BufReader::new(TcpStream::connect(self.address)?);
        stream.get_ref().set_read_timeout(Some(ANSWER_MAX))?;
        stream.get_mut().write_all(b"DBSIZE\r\nPUBSUB CHANNELS\r\n")?;
        Ok((number(&mut stream, ':')?, number(&mut stream, '*')?))
    }

    /// Opens both connections of the limit.
    ///
    /// # Errors
    /// If the server does not take them.
    pub(crate) fn round_trip(&self) -> Outcome<RoundTrip> {
        let connect = || -> Outcome<BufReader<TcpStream>> {
            let stream = TcpStream::connect(self.address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(ANSWER_MAX))?;
            Ok(BufReader::new(stream))
        };
        let mut limit = RoundTrip { publisher: connect()?, subscriber: connect()? };
        write!(limit.subscriber.get_mut(), "SUBSCRIBE {CHANNEL}\r\n")?;
        // `*3`, then three strings of which the last is a number.
        lines(&mut limit.subscriber, 6)?;
        Ok(limit)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // If it cannot be killed it is gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl RoundTrip {
    /// From before a publication to its arrival.
    ///
    /// # Errors
    /// If it does not arrive.
    pub(crate) fn measure(&mut self) -> Outcome<Duration> {
        let started = Instant::now();
        write!(self.publisher.get_mut(), "PUBLISH {CHANNEL} 0123456789abcdef\r\n")?;
        // `*3` and three strings of two lines each.
        lines(&mut self.subscriber, 7)?;
        let took = started.elapsed();
        lines(&mut self.publisher, 1)?;
        Ok(took)
    }
}

/// Reads a line that holds a number behind `kind`.
fn number(stream: &mut BufReader<TcpStream>, kind: char) -> Outcome<u64> {
    let mut line = String::new();
    stream.by_ref().take(1_024).read_line(&mut line)?;
    let number = line.strip_prefix(kind).and_then(|number| number.trim_end().parse().ok());
    number.ok_or_else(|| format!("redis answered {line:?}").into())
}

/// Reads so many lines.
fn lines(stream: &mut BufReader<TcpStream>, count: usize) -> Outcome<()> {
    let mut line = Vec::new();
    for _ in 0..count {
        line.clear();
        if stream.by_ref().take(1_024).read_until(b'\n', &mut line)? == 0 {
            return Err("redis closed the connection".into());
        }
    }
    Ok(())
}
