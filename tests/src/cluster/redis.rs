//! A Redis of the test's own, under the ACL file of the repository, and what can befall it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::poll::{PATIENCE, eventually, within};
use crate::{node, port};

/// What nodes sign in as.
pub const USERNAME: &str = "countersign";
/// Their password.
const PASSWORD: &str = "a password that only tests will ever use";
/// Its SHA-256, as ACL files want it.
const PASSWORD_SHA256: &str = "08e55cffa5a9af8e79930a5bb6bc07daf44d3388140b5ea4580c7db5e1eded37";
/// What the ACL file of the repository has in its place.
const NO_PASSWORD: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The test's own user, who may look at everything.
pub(super) const ADMIN: &str = "user tests on >tests ~* &* +@all";
/// Its name and password.
pub(super) const ADMIN_LOGIN: (&str, &str) = ("tests", "tests");

/// A `redis-server`. It keeps its data over [`Redis::restart`]; dropped, it is killed.
#[derive(Debug)]
pub struct Redis {
    child: Option<Child>,
    folder: TempDir,
    port: u16,
    /// Further arguments.
    options: Vec<String>,
}

/// An answer of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A string or a status.
    Text(String),
    /// A number.
    Number(i64),
    /// Nothing.
    Nil,
    /// Several.
    List(Vec<Reply>),
    /// An error.
    Error(String),
}

impl Redis {
    /// Starts one with the ACL file of the repository.
    ///
    /// # Panics
    /// If there is no `redis-server`, or it does not start.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with further options, as on the command line of `redis-server`.
    ///
    /// # Panics
    /// As [`Redis::start`].
    pub async fn start_with(options: &[&str]) -> Self {
        let mut redis = Self::prepare(options);
        redis.launch().await;
        redis
    }

    /// A replica of `master`.
    ///
    /// # Panics
    /// As [`Redis::start`].
    pub async fn start_replica(master: &Self) -> Self {
        Self::start_replica_with(master, &[]).await
    }

    /// A replica of `master`, with further options.
    ///
    /// # Panics
    /// As [`Redis::start`].
    pub async fn start_replica_with(master: &Self, options: &[String]) -> Self {
        let master = master.secure_address().unwrap_or(master.address()).port().to_string();
        let follow = ["--replicaof", "127.0.0.1", &master].map(str::to_owned);
        let options: Vec<&str> = follow.iter().chain(options).map(String::as_str).collect();
        let redis = Self::start_with(&options).await;
        redis.follows().await;
        redis
    }

    /// Waits until this replica has all that its master has.
    pub async fn follows(&self) {
        eventually("the replica follows", || async {
            self.ask(&["INFO", "replication"]).await.texts().concat().contains("master_link_status:up").then_some(())
        })
        .await;
    }

    /// The value of an option that it was started with.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_str())
    }

    fn prepare(options: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("countersign-redis-").tempdir().expect("a temporary folder");
        let acl = std::fs::read_to_string(node::root().join("deploy/redis/users.acl")).expect("the ACL file");
        assert!(acl.contains(NO_PASSWORD), "the ACL file of the repository has no password");
        let acl = format!("{}\n{ADMIN}\n", acl.replace(NO_PASSWORD, PASSWORD_SHA256).trim_end());
        std::fs::write(folder.path().join("users.acl"), acl).expect("the ACL file is written");
        std::fs::write(folder.path().join("password"), PASSWORD).expect("the password is written");
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self { child: None, folder, port: port::free(), options }
    }

    /// Is it a master by its own word?
    pub async fn is_master(&self) -> bool {
        matches!(self.try_ask(&["ROLE"]).await, Ok(Reply::List(role)) if role.first() == Some(&Reply::Text("master".to_owned())))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Where it speaks TLS, if it does.
    #[must_use]
    pub fn secure_address(&self) -> Option<SocketAddr> {
        let port = self.option("--tls-port")?.parse().expect("a port");
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// The file with the password of nodes.
    #[must_use]
    pub fn password_file(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Ends it as a crash would.
    ///
    /// # Panics
    /// If it cannot be ended.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
    }

    /// Starts it again on the same port with what it held.
    pub async fn restart(&mut self) {
        self.kill();
        self.launch().await;
    }

    /// Starts it again on the same port with nothing.
    ///
    /// # Panics
    /// If its data cannot be removed.
    pub async fn restart_empty(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.data()).expect("the data go");
        self.launch().await;
    }

    /// It stops answering; its connections stay: SIGSTOP.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// It goes on: SIGCONT.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// It refuses writes from now on, as a replica whose master is gone.
    pub async fn refuse_writes(&self) {
        self.ask(&["REPLICAOF", "127.0.0.1", "1"]).await;
    }

    /// It takes writes again.
    pub async fn take_writes(&self) {
        self.ask(&["REPLICAOF", "NO", "ONE"]).await;
    }

    /// Asks it as the test's own user.
    ///
    /// # Panics
    /// If it does not answer, or with an error.
    pub async fn ask(&self, command: &[&str]) -> Reply {
        match within(PATIENCE, "an answer of redis", self.try_ask(command)).await {
            Ok(Reply::Error(error)) => panic!("{command:?}: {error}"),
            Ok(reply) => reply,
            Err(error) => panic!("{command:?}: {error}"),
        }
    }

    /// The keys that match a pattern.
    pub async fn keys(&self, pattern: &str) -> Vec<String> {
        let mut keys = self.ask(&["KEYS", pattern]).await.texts();
        keys.sort();
        keys
    }

    async fn try_ask(&self, command: &[&str]) -> std::io::Result<Reply> {
        ask_at(self.address(), command).await
    }

    async fn launch(&mut self) {
        std::fs::create_dir_all(self.data()).expect("a folder for the data");
        let log = std::fs::File::create(self.folder.path().join("log")).expect("the log can be written");
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
            .arg("--dir")
            .arg(self.data())
            .arg("--aclfile")
            .arg(self.folder.path().join("users.acl"))
            // What a server tells another one: as the test's own user, who may.
            .args(["--masteruser", ADMIN_LOGIN.0, "--masterauth", ADMIN_LOGIN.1])
            .args(["--repl-diskless-sync-delay", "0"])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .expect("`redis-server` is on the PATH; tests/run installs it");
        self.child = Some(child);
        eventually("redis answers", || async {
            (self.try_ask(&["PING"]).await.ok()? == Reply::Text("PONG".to_owned())).then_some(())
        })
        .await;
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn signal(&self, signal: &str) {
        node::signal(self.child.as_ref().expect("it runs").id(), signal);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Both fail only if it is gone already; SIGKILL ends a frozen process too.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Reply {
    /// All texts in it, in order.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text.clone()],
            Self::List(replies) => replies.iter().flat_map(Self::texts).collect(),
            Self::Number(_) | Self::Nil | Self::Error(_) => Vec::new(),
        }
    }

    /// The number that it is.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }
}

/// Asks a server, or a sentinel, as the test's own user.
pub(super) async fn ask_at(address: SocketAddr, command: &[&str]) -> std::io::Result<Reply> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    stream.write_all(&encode(&["AUTH", ADMIN_LOGIN.0, ADMIN_LOGIN.1])).await?;
    stream.write_all(&encode(command)).await?;
    match read(&mut stream).await? {
        Reply::Error(error) => Err(std::io::Error::other(error)),
        _ => read(&mut stream).await,
    }
}

/// A command on the wire (RESP2).
fn encode(command: &[&str]) -> Vec<u8> {
    let words = command.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", command.len(), words.collect::<String>()).into_bytes()
}

/// Reads one answer (RESP2).
async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Reply> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let odd = || std::io::Error::other(format!("odd answer: {line:?}"));
    let (kind, rest) = line.trim_end().split_at_checked(1).ok_or_else(odd)?;
    let number = || rest.parse::<i64>().map_err(|_| odd());
    match kind {
        "+" => Ok(Reply::Text(rest.to_owned())),
        "-" => Ok(Reply::Error(rest.to_owned())),
        ":" => Ok(Reply::Number(number()?)),
        "$" => match usize::try_from(number()?) {
            Err(_) => Ok(Reply::Nil),
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                stream.read_exact(&mut bytes).await?;
                Ok(Reply::Text(String::from_utf8_lossy(&bytes[..length]).into_owned()))
            }
        },
        "*" => {
            let mut replies = Vec::new();
            for _ in 0..number()?.max(0) {
                replies.push(Box::pin(read(stream)).await?);
            }
            Ok(Reply::List(replies))
        }
        _ => Err(odd()),
    }
}
