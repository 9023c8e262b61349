//! A node: the `countersign` binary on free ports, with a data folder of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};

use serde_json::Value;
use tempfile::TempDir;
use toml::{Table, Value as Toml};

use crate::http::{self, Request, Response};
use crate::metrics::Scrape;
use crate::poll::{PATIENCE, eventually};

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct Plan {
    settings: Option<Table>,
    folder: Arc<TempDir>,
    /// Somebody else's, instead of one in the folder.
    data: Option<PathBuf>,
    environment: Vec<(String, String)>,
}

/// A running node; dropped, it is killed.
#[derive(Debug)]
pub struct Node {
    child: Child,
    folder: Arc<TempDir>,
    data: PathBuf,
    config: Option<PathBuf>,
    printed: Arc<Mutex<Vec<String>>>,
    /// The public listener.
    pub gateway: SocketAddr,
    /// The administrative listener.
    pub admin: SocketAddr,
}

/// The binary under test: `NODE_UNDER_TEST`, or what `cargo build` makes of the sources.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("NODE_UNDER_TEST").map_or_else(build, PathBuf::from)).clone()
}

/// Builds the binary beside the test's own: Cargo builds no other crate's binaries for a test.
fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let done = Command::new(cargo).args(["build", "--quiet", "--package", "countersign"]).current_dir(root()).status();
    assert!(
        done.is_ok_and(|status| status.success()),
        "`cargo build --package countersign` failed; the suite needs its binary"
    );
    let test = std::env::current_exe().expect("a test has a path");
    // A command lies beside it, a test one folder below.
    let path = test.ancestors().skip(1).take(2).map(|folder| folder.join("countersign")).find(|path| path.is_file());
    path.unwrap_or_else(|| panic!("no `countersign` near {}; build it, or name it in NODE_UNDER_TEST", test.display()))
}

/// The root of the repository.
///
/// # Panics
/// If this crate is not where it was built.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").to_owned()
}

/// What nodes are started with, unless a test says otherwise. A test's sockets are not read while it waits for something else,
/// which on a busy machine may take longer than the node would wait for a pong.
const SETTINGS: &str = r#"
[authorizer]
mode = "bearer"
[gateway.limits]
ping_interval_seconds = 300
"#;

impl Plan {
    /// A node with a configuration file that asks for the connection id only, as most tests show no more.
    ///
    /// # Panics
    /// If no temporary folder can be made.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("countersign-").tempdir().expect("a temporary folder");
        let settings: Table = SETTINGS.parse().expect("settings are TOML");
        Self { settings: Some(settings), folder: Arc::new(folder), data: None, environment: Vec::new() }
    }

    /// A node without any configuration file, as on a first trial.
    #[must_use]
    pub fn bare() -> Self {
        Self { settings: None, ..Self::new() }
    }

    /// A node with a file of the repository as its configuration.
    ///
    /// # Panics
    /// If the file is not there or is no TOML.
    #[must_use]
    pub fn example(name: &str) -> Self {
        let path = root().join("deploy/examples").join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::new().toml(&text)
    }

    /// Adds settings; tables merge, anything else is replaced.
    ///
    /// # Panics
    /// If the text is no TOML.
    #[must_use]
    pub fn toml(mut self, text: &str) -> Self {
        let more: Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
        merge(self.settings.get_or_insert_default(), more);
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A node with the same settings and a folder of its own, which shares users, keys and API key with this one's.
    ///
    /// # Panics
    /// If no temporary folder can be made.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self { folder: Self::new().folder, data: Some(self.data_dir()), ..self.clone() }
    }

    /// The data folder that the node will use.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| self.folder.path().join("data"))
    }

    /// A folder for other files, gone when the node is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The command line of any subcommand, with this plan's configuration and data folder.
    ///
    /// # Panics
    /// If the configuration cannot be written.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--data-dir").arg(self.data_dir());
        if let Some(path) = self.write_config() {
            command.arg("--config").arg(path);
        }
        command.current_dir(self.folder.path()).envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a subcommand against this plan's data folder.
    #[must_use]
    pub fn cli(&self, arguments: &[&str], input: &str) -> Output {
        run(self.command(arguments), input)
    }

    /// Starts the node and waits until it has printed its addresses.
    ///
    /// # Panics
    /// If it ends or stays silent instead.
    #[must_use]
    pub fn start(&self) -> Node {
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        let log = std::fs::File::create(self.folder.path().join("log")).expect("the log can be written");
        let mut child = command.stderr(log).spawn().expect("the node starts");
        let printed = Arc::new(Mutex::new(Vec::new()));
        let lines = follow(child.stdout.take().expect("a pipe"), printed.clone());
        let mut node = Node {
            child,
            folder: self.folder.clone(),
            data: self.data_dir(),
            config: self.settings.is_some().then(|| self.config_path()),
            printed,
            gateway: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        node.gateway = node.announced(&lines, "gateway");
        node.admin = node.announced(&lines, "admin");
        node
    }

    fn config_path(&self) -> PathBuf {
        self.folder.path().join("countersign.toml")
    }

    fn write_config(&self) -> Option<PathBuf> {
        let settings = self.settings.as_ref()?;
        std::fs::write(self.config_path(), toml::to_string(settings).expect("settings are TOML"))
            .expect("settings are written");
        Some(self.config_path())
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    /// A node with these settings.
    #[must_use]
    pub fn start(settings: &str) -> Self {
        Plan::new().toml(settings).start()
    }

    /// A URL on the public listener.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.gateway)
    }

    /// A URL on the administrative listener.
    #[must_use]
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    /// The origin under which the node serves its own page.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.gateway)
    }

    /// Asks the authorizer about a connection, on the administrative listener.
    pub async fn authorize(&self, connection: &str) -> Response {
        self.ask(connection).send().await
    }

    /// The question of [`Node::authorize`], unsent.
    #[must_use]
    pub fn ask(&self, connection: &str) -> Request {
        http::get(&self.admin_url("/authorize")).header("connectionId", connection)
    }

    /// Publishes through the server API; how it answers.
    pub async fn publish(&self, channel: &str, data: &Value) -> Response {
        self.manage("/api/v1/publish", &serde_json::json!({ "channel": channel, "data": data })).await
    }

    /// A call of the server API; how it is answered.
    pub async fn manage(&self, path: &str, body: &Value) -> Response {
        http::post(&self.admin_url(path), body).header("X-API-Key", &self.api_key()).send().await
    }

    /// The key that the node made for itself.
    ///
    /// # Panics
    /// If it made none.
    #[must_use]
    pub fn api_key(&self) -> String {
        std::fs::read_to_string(self.data.join("api-key")).expect("the node made an API key").trim().to_owned()
    }

    /// A scrape.
    pub async fn metrics(&self) -> Scrape {
        Scrape::parse(http::get(&self.admin_url("/metrics")).send().await.text())
    }

    /// Waits until the sum of a metric's samples is `value`.
    pub async fn metric_reaches(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let what = format!("{name} {labels:?} is {value}");
        eventually(&what, || async { ((self.metrics().await.sum(name, labels) - value).abs() < 0.5).then_some(()) }).await;
    }

    /// Waits until a counter is at least `value`.
    pub async fn metric_at_least(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let what = format!("{name} {labels:?} is at least {value}");
        eventually(&what, || async { (self.metrics().await.sum(name, labels) >= value).then_some(()) }).await;
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in KiB.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the node runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a running process has memory");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of KiB")
    }

    /// Open file descriptors.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        self.opened().len()
    }

    /// What its descriptors lead to, as the system names it.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn opened(&self) -> Vec<String> {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the node runs");
        let target = |entry: std::io::Result<std::fs::DirEntry>| {
            Some(std::fs::read_link(entry.ok()?.path()).ok()?.display().to_string())
        };
        // One that is closed meanwhile leads nowhere.
        folder.filter_map(target).collect()
    }

    /// CPU seconds used so far, in clock ticks (hundredths of a second on Linux).
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the node runs");
        let fields = stat.rsplit_once(')').expect("a name in parentheses").1;
        fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
    }

    /// Runs a subcommand against the data folder of this running node.
    #[must_use]
    pub fn cli(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--data-dir").arg(&self.data);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        run(command, input)
    }

    /// Asks the node to drain.
    ///
    /// # Panics
    /// If there is no `kill`.
    pub fn sigterm(&self) {
        signal(self.child.id(), "-TERM");
    }

    /// Tells it what an operator's habit is to tell after a change of files.
    ///
    /// # Panics
    /// If there is no `kill`.
    pub fn sighup(&self) {
        signal(self.child.id(), "-HUP");
    }

    /// Ends it as a crash would.
    ///
    /// # Panics
    /// If it cannot be ended.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// It stops; its sockets stay: SIGSTOP.
    pub fn freeze(&self) {
        signal(self.child.id(), "-STOP");
    }

    /// It goes on: SIGCONT.
    pub fn thaw(&self) {
        signal(self.child.id(), "-CONT");
    }

    /// Is it ready for traffic? None while it does not answer.
    pub async fn ready(&self) -> Option<bool> {
        let answer = http::get(&self.admin_url("/health/ready")).try_send();
        let answer = tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()?;
        Some(answer.status == 200)
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Waits until it ends by itself.
    pub async fn exit(&mut self) -> ExitStatus {
        let child = Mutex::new(&mut self.child);
        eventually("the node exits", || async {
            child.lock().unwrap_or_else(PoisonError::into_inner).try_wait().expect("a child can be waited for")
        })
        .await
    }

    /// What it wrote to standard output.
    #[must_use]
    pub fn printed(&self) -> Vec<String> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn announced(&self, lines: &mpsc::Receiver<String>, name: &str) -> SocketAddr {
        let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no address of {name}; the log:\n{}", self.log()));
        let address = line.strip_prefix(name).and_then(|rest| rest.trim().split_once("://"));
        let address = address.and_then(|(_, rest)| rest.trim_end_matches('/').parse().ok());
        address.unwrap_or_else(|| panic!("expected the address of {name}: {line}"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("the node's last lines:");
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process.
///
/// # Panics
/// If it is gone.
pub fn signal(process: u32, signal: &str) {
    let sent = Command::new("kill").arg(signal).arg(process.to_string()).status().expect("`kill` is there");
    assert!(sent.success(), "the process is gone already");
}

/// Collects lines of a pipe and hands each on.
fn follow(pipe: impl std::io::Read + Send + 'static, printed: Arc<Mutex<Vec<String>>>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            printed.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
            // After the first two nobody listens any more.
            let _ = sender.send(line);
        }
    });
    receiver
}

/// Runs a command to its end.
fn run(mut command: Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the command starts");
    // A command that takes no input may end before it is written.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let (sender, receiver) = mpsc::channel();
    let pid = child.id().to_string();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(PATIENCE) {
        Ok(output) => output.expect("the command's output can be read"),
        Err(_) => {
            let _ = Command::new("kill").arg(pid).status();
            panic!("a command did not end");
        }
    }
}

/// Puts `more` into `into`, table by table; lists of tables grow.
fn merge(into: &mut Table, more: Table) {
    for (key, value) in more {
        match (into.get_mut(&key), value) {
            (Some(Toml::Table(old)), Toml::Table(new)) => merge(old, new),
            (Some(Toml::Array(old)), Toml::Array(new)) if new.iter().all(Toml::is_table) && !new.is_empty() => old.extend(new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_merge_table_by_table_and_lists_of_tables_grow() {
        let parse = |text: &str| text.parse::<Table>().unwrap();
        let mut settings = parse("[a]\nx = 1\ny = [1]\n[[c]]\nn = 1");
        merge(&mut settings, parse("[a]\ny = [2]\nz = 3\n[[c]]\nn = 2"));
        assert_eq!(settings, parse("[a]\nx = 1\ny = [2]\nz = 3\n[[c]]\nn = 1\n[[c]]\nn = 2"));
    }
}
