//! A Redis of one test's own, and what can befall it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::poll::PATIENCE;

/// A `redis-server` on a free port of loopback, without persistence; it ends with its handle.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    child: Option<Child>,
    folder: tempfile::TempDir,
}

impl Redis {
    /// Starts one.
    ///
    /// # Panics
    /// If `redis-server` is not installed or does not start; `tests/run` installs it.
    #[must_use]
    pub fn start() -> Self {
        for _ in 0..5 {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = listener.local_addr().expect("an address").port();
            drop(listener);
            let mut redis = Self { port, child: None, folder: tempfile::tempdir().expect("a temporary folder") };
            // Another process may take the port in between; then the server ends at once.
            if redis.try_start() {
                return redis;
            }
        }
        panic!("redis-server does not start");
    }

    /// The settings of a node that shares it, with spans that suit a test.
    #[must_use]
    pub fn settings(&self) -> String {
        format!("[cluster]\nredis = 'redis://{}'\nlease_seconds = 3\nheartbeat_ms = 500\n", self.address())
    }

    /// Ends it as a crash would. What it held is gone.
    ///
    /// # Panics
    /// If it is gone already.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("redis runs");
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    }

    /// Starts it again on the same port, empty.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        assert!(self.try_start(), "redis-server does not start again");
    }

    /// Every key whose name matches, one a line.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string(), "KEYS", pattern]).output();
        let text = String::from_utf8(output.expect("redis-cli is there").stdout).expect("keys are text");
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn try_start(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]);
        let child = command.arg(self.folder.path()).stdout(Stdio::null()).spawn().expect("redis-server is installed");
        let child = self.child.insert(child);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && child.try_wait().is_ok_and(|status| status.is_none()) {
            if answers(SocketAddr::from(([127, 0, 0, 1], self.port))) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Does a server answer there?
fn answers(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let mut answer = [0; 5];
    stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut answer).is_ok() && &answer == b"+PONG"
}
