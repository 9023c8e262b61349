//! A Redis of one test's own, and what can befall it.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{CommandLink, RedisTarget};
use crate::config::{ClusterSettings, Millis, RedisUrl};
use crate::telemetry::Metrics;

/// Longest wait for a server to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A `redis-server` on a free port, without persistence; it ends with its handle.
pub(crate) struct TestRedis {
    port: u16,
    child: Option<Child>,
    folder: tempfile::TempDir,
    options: Vec<String>,
    speaks_tls: bool,
}

impl TestRedis {
    /// Starts one. None if none is installed: the test then says what it skips, and fails where `CI` is set.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_as(&[], false).await
    }

    /// One that speaks TLS only. None as well if it was built without.
    pub(crate) async fn start_tls(options: &[&str]) -> Option<Self> {
        Self::start_as(options, true).await
    }

    async fn start_as(options: &[&str], speaks_tls: bool) -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            assert!(std::env::var_os("CI").is_none(), "redis-server is missing, and CI must not skip what needs it");
            eprintln!("\n*** SKIPPED: this test needs redis-server, which is not installed ***\n");
            return None;
        }
        for _ in 0..5 {
            let port = free_port().await;
            let options = options.iter().map(|option| (*option).to_owned()).collect();
            let mut redis = Self { port, child: None, folder: tempfile::tempdir().unwrap(), options, speaks_tls };
            // Another process may take the port in between; then the server ends at once.
            if redis.try_restart().await {
                return Some(redis);
            }
        }
        panic!("redis-server does not start");
    }

    /// Ends it as a crash would. What it held is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again on the same port, empty.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        assert!(self.try_restart().await, "redis-server does not start again");
    }

    /// It stops answering, its connections stay: SIGSTOP.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// It goes on: SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// A link to it, with settings of its own metrics.
    pub(crate) async fn link(&self) -> CommandLink {
        link_to(self.address()).await
    }

    /// What `redis-cli` would print, line by line.
    pub(crate) async fn ask(&self, command: &[&str]) -> Vec<String> {
        let client = redis::Client::open(format!("redis://{}", self.address())).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let value: redis::Value = redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await.unwrap();
        match value {
            redis::Value::Array(_) | redis::Value::Set(_) => redis::from_redis_value(value).unwrap(),
            value => vec![redis::from_redis_value::<Option<String>>(value).unwrap().unwrap_or_default()],
        }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    async fn try_restart(&mut self) -> bool {
        let port = self.port.to_string();
        let ports: &[&str] = if self.speaks_tls { &["--port", "0", "--tls-port", &port] } else { &["--port", &port] };
        let child = Command::new("redis-server")
            .args(ports)
            .args(&self.options)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < deadline {
            if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            let answers =
                if self.speaks_tls { TcpStream::connect(self.address()).await.is_ok() } else { answers(self.address()).await };
            if answers {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // SIGKILL ends a frozen process too.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Settings that lead to an address.
pub(crate) fn settings(address: SocketAddr) -> ClusterSettings {
    ClusterSettings {
        redis: Some(RedisUrl(format!("redis://{address}"))),
        command_timeout_ms: Millis(500),
        heartbeat_ms: Millis(100),
        deaf_after_ms: Millis(1_000),
        ..ClusterSettings::default()
    }
}

/// A link to an address, once it is up.
pub(crate) async fn link_to(address: SocketAddr) -> CommandLink {
    let link = CommandLink::start(RedisTarget::new(&settings(address)).unwrap(), Arc::new(Metrics::new()));
    tokio::time::timeout(PATIENCE, link.up()).await.expect("no link");
    link
}

/// A port that nobody listens on now.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Does a server answer there?
async fn answers(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let mut answer = [0; 5];
    stream.write_all(b"PING\r\n").await.is_ok() && stream.read_exact(&mut answer).await.is_ok() && &answer == b"+PONG"
}

/// A way to a Redis that can be made slow.
pub(crate) struct SlowWay {
    address: SocketAddr,
    delay_ms: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl SlowWay {
    pub(crate) async fn to(redis: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let delay_ms = Arc::new(AtomicU64::new(0));
        let delay = Arc::clone(&delay_ms);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, redis, Arc::clone(&delay)));
            }
        });
        Self { address, delay_ms, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers take this much longer from now on.
    pub(crate) fn delay(&self, by: Duration) {
        self.delay_ms.store(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Drop for SlowWay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries a connection; each piece of an answer waits for the delay first.
async fn carry(client: TcpStream, redis: SocketAddr, delay_ms: Arc<AtomicU64>) {
    let Ok(server) = TcpStream::connect(redis).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = async {
        let mut buffer = vec![0; 65_536];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            tokio::time::sleep(Duration::from_millis(delay_ms.load(Ordering::Relaxed))).await;
            if to_client.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = answers => {}
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
    }
}
