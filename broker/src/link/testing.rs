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
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

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
        let value: redis::Value =
            redis::cmd(command[0]).arg(&command[1..]).query_async(&mut self.connection().await).await.unwrap();
        match value {
            redis::Value::Array(_) | redis::Value::Set(_) => redis::from_redis_value(value).unwrap(),
            redis::Value::Int(number) => vec![number.to_string()],
            value => vec![redis::from_redis_value::<Option<String>>(value).unwrap().unwrap_or_default()],
        }
    }

    /// A connection of the test's own. The client's deadlines of its own are too short for a busy machine.
    pub(crate) async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(format!("redis://{}", self.address())).unwrap();
        let patient =
            redis::AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        client.get_multiplexed_async_connection_with_config(&patient).await.unwrap()
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

/// Three masters of a Redis Cluster, without replicas.
pub(crate) struct TestCluster {
    pub(crate) servers: Vec<TestRedis>,
}

impl TestCluster {
    /// Starts one, its slots in three equal rows. None as [`TestRedis::start`].
    pub(crate) async fn start() -> Option<Self> {
        let mut servers = Vec::new();
        for _ in 0..3 {
            let bus = free_port().await.to_string();
            let options = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "1500"];
            servers.push((TestRedis::start_as(&options, false).await?, bus));
        }
        for (number, (server, _)) in servers.iter().enumerate() {
            let bounds = [number, number + 1].map(|row| row * 16_384 / 3);
            server.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await;
            server.ask(&["CLUSTER", "ADDSLOTSRANGE", &bounds[0].to_string(), &(bounds[1] - 1).to_string()]).await;
        }
        for (server, bus) in &servers[1..] {
            servers[0].0.ask(&["CLUSTER", "MEET", "127.0.0.1", &server.port.to_string(), bus]).await;
        }
        let cluster = Self { servers: servers.into_iter().map(|(server, _)| server).collect() };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !cluster.is_whole().await {
            assert!(tokio::time::Instant::now() < deadline, "the servers do not find each other");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(cluster)
    }

    async fn is_whole(&self) -> bool {
        for server in &self.servers {
            let info = server.ask(&["CLUSTER", "INFO"]).await.concat();
            if !["cluster_state:ok", "cluster_known_nodes:3", "cluster_size:3"].iter().all(|line| info.contains(line)) {
                return false;
            }
        }
        true
    }

    /// Settings that lead to it by one of its servers.
    pub(crate) fn settings(&self) -> ClusterSettings {
        let address = self.servers[0].address();
        let redis = Some(RedisUrl(format!("redis+cluster://{address}")));
        ClusterSettings { redis, prefix: "test".to_owned(), ..settings(address) }
    }

    /// Makes all servers name one of them by another address.
    pub(crate) async fn announce(&self, server: usize, address: SocketAddr) {
        let port = address.port().to_string();
        self.servers[server].ask(&["CONFIG", "SET", "cluster-announce-port", &port]).await;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for server in &self.servers {
            while !server.ask(&["CLUSTER", "NODES"]).await.concat().contains(&format!(":{port}@")) {
                assert!(tokio::time::Instant::now() < deadline, "the address does not get around");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// The number of the server that has the slot of a name.
    pub(crate) async fn server_of(&self, name: &str) -> usize {
        let slot = self.servers[0].ask(&["CLUSTER", "KEYSLOT", name]).await.concat().parse::<u16>().unwrap();
        for (number, server) in self.servers.iter().enumerate() {
            let nodes = server.ask(&["CLUSTER", "NODES"]).await.concat();
            let own = nodes.lines().find(|line| line.contains("myself")).unwrap();
            let has = own.split(' ').skip(8).filter_map(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                Some((first.parse::<u16>().ok()?, last.parse::<u16>().ok()?))
            });
            if has.into_iter().any(|(first, last)| (first..=last).contains(&slot)) {
                return number;
            }
        }
        panic!("nobody has slot {slot}");
    }

    /// The slot of a name begins to go to another server: each key is where it was until it is migrated.
    pub(crate) async fn begin_move(&self, name: &str, to: usize) {
        let slot = self.servers[0].ask(&["CLUSTER", "KEYSLOT", name]).await.concat();
        let from = &self.servers[self.server_of(name).await];
        let (from_id, to_id) = (from.ask(&["CLUSTER", "MYID"]).await, self.servers[to].ask(&["CLUSTER", "MYID"]).await);
        self.servers[to].ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id.concat()]).await;
        from.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id.concat()]).await;
    }

    /// Takes so many keys of the slot of a name to another server.
    pub(crate) async fn migrate(&self, name: &str, to: usize, count: usize) {
        let slot = self.servers[0].ask(&["CLUSTER", "KEYSLOT", name]).await.concat();
        let from = &self.servers[self.server_of(name).await];
        let port = self.servers[to].port.to_string();
        let keys = from.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, &count.min(10_000).to_string()]).await;
        let mut command = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        command.extend(keys.iter().map(String::as_str));
        from.ask(&command).await;
    }

    /// Gives the slot of a name, which holds no keys, to another server.
    pub(crate) async fn move_slot(&self, name: &str, to: usize) {
        let slot = self.servers[0].ask(&["CLUSTER", "KEYSLOT", name]).await.concat();
        let id = self.servers[to].ask(&["CLUSTER", "MYID"]).await.concat();
        let from = self.server_of(name).await;
        for server in [to, from, 3 - to - from] {
            self.servers[server].ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]).await;
        }
    }
}

/// A link by settings, once it is up.
pub(crate) async fn link_by(settings: &ClusterSettings) -> CommandLink {
    let link = CommandLink::start(RedisTarget::new(settings).unwrap(), Arc::new(Metrics::new()));
    tokio::time::timeout(PATIENCE, link.up()).await.expect("no link");
    link
}

/// Settings that lead to an address.
pub(crate) fn settings(address: SocketAddr) -> ClusterSettings {
    ClusterSettings {
        redis: Some(RedisUrl(format!("redis://{address}"))),
        // So long that a busy machine does not make a command fail that nothing holds up.
        command_timeout_ms: Millis(2_000),
        heartbeat_ms: Millis(100),
        deaf_after_ms: Millis(1_000),
        ..ClusterSettings::default()
    }
}

/// A link to an address, once it is up.
pub(crate) async fn link_to(address: SocketAddr) -> CommandLink {
    link_by(&settings(address)).await
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

/// Awaits what must end by itself, so that a test of deadlines fails and does not hang.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Looks at a condition until it holds.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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
            let arrived = tokio::time::Instant::now();
            // Looked at again and again: what is held back goes on as soon as the way is fast again.
            while arrived.elapsed() < Duration::from_millis(delay_ms.load(Ordering::Relaxed)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
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
