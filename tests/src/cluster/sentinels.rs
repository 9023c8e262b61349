//! Sentinels over a master and a replica.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::papers::Papers;
use super::redis::{ADMIN, ADMIN_LOGIN, Redis, Reply, USERNAME, ask_at};
use crate::poll::eventually;
use crate::port;

/// What they call the master.
const MASTER: &str = "main";
/// The password of nodes at sentinels, which know none of the users of Redis.
const PASSWORD: &str = "sentinels-have-another-one";
/// How many there are.
const COUNT: usize = 3;

/// Three sentinels and the replica that they would promote; dropped, all are killed.
#[derive(Debug)]
pub struct Sentinels {
    /// The replica, before a failover.
    pub replica: Redis,
    sentinels: Vec<Sentinel>,
    folder: TempDir,
}

#[derive(Debug)]
struct Sentinel {
    child: Child,
    port: u16,
    secure_port: Option<u16>,
}

impl Sentinels {
    /// Starts a replica of `master` and sentinels that watch both, and waits until they know all of each other.
    ///
    /// # Panics
    /// If one of them does not start.
    pub async fn over(master: &Redis, papers: Option<&Papers>) -> Self {
        let options = || papers.map(Papers::options).unwrap_or_default();
        let replica = Redis::start_replica_with(master, &options()).await;
        let folder = tempfile::Builder::new().prefix("countersign-sentinels-").tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("password"), PASSWORD).expect("the password is written");
        let mut all = Self { replica, sentinels: Vec::new(), folder };
        for number in 0..COUNT {
            let sentinel = all.launch(number, master, &options());
            all.sentinels.push(sentinel);
        }
        for sentinel in &all.sentinels {
            eventually("the sentinels know each other and the replica", || async {
                let known = ask_at(sentinel.address(), &["SENTINEL", "CKQUORUM", MASTER]).await.ok()?;
                let all_usable = known.texts().concat().contains("3 usable");
                let replicas = ask_at(sentinel.address(), &["SENTINEL", "REPLICAS", MASTER]).await.ok()?;
                (all_usable && matches!(replicas, Reply::List(replicas) if replicas.len() == 1)).then_some(())
            })
            .await;
        }
        all
    }

    /// Their processes, and that of the replica.
    pub fn processes(&self) -> impl Iterator<Item = u32> {
        self.sentinels.iter().map(|sentinel| sentinel.child.id()).chain(self.replica.process())
    }

    /// What leads nodes here: the URL, and the login at sentinels.
    #[must_use]
    pub fn settings(&self) -> String {
        let scheme = if self.sentinels.iter().any(|sentinel| sentinel.secure_port.is_some()) { "rediss" } else { "redis" };
        let port = |sentinel: &Sentinel| sentinel.secure_port.unwrap_or(sentinel.port);
        let hosts: Vec<String> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", port(sentinel))).collect();
        format!(
            "redis = \"{scheme}+sentinel://{}/{MASTER}\"\nsentinel_username = \"{USERNAME}\"\nsentinel_password_file = \"{}\"",
            hosts.join(","),
            self.folder.path().join("password").display()
        )
    }

    fn launch(&self, number: usize, master: &Redis, options: &[String]) -> Sentinel {
        let port = port::free();
        let (user, password) = ADMIN_LOGIN;
        let folder = self.folder.path().join(number.to_string());
        std::fs::create_dir(&folder).expect("a folder");
        let config = format!(
            "port {port}\nbind 127.0.0.1\ndir {dir}\nuser default off\n{ADMIN}\n\
             user {USERNAME} on >{PASSWORD} -@all +sentinel|get-master-addr-by-name +sentinel|master\n\
             sentinel sentinel-user {user}\nsentinel sentinel-pass {password}\n\
             sentinel monitor {MASTER} 127.0.0.1 {master_port} 2\n\
             sentinel auth-user {MASTER} {user}\nsentinel auth-pass {MASTER} {password}\n\
             sentinel down-after-milliseconds {MASTER} 1000\nsentinel failover-timeout {MASTER} 5000\n",
            dir = folder.display(),
            master_port = master.secure_address().unwrap_or(master.address()).port(),
        );
        let pairs: Vec<(&str, &str)> =
            options.chunks_exact(2).map(|pair| (pair[0].trim_start_matches('-'), pair[1].as_str())).collect();
        // Before the masters: they are reached as soon as they are read.
        let further: String = pairs.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
        let config = further + &config;
        let file = folder.join("sentinel.conf");
        std::fs::write(&file, config).expect("the configuration is written");
        let log = std::fs::File::create(folder.join("log")).expect("the log can be written");
        let child = Command::new("redis-server")
            .arg(&file)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .expect("`redis-server` is on the PATH; tests/run installs it");
        let secure_port = pairs.iter().find(|(name, _)| *name == "tls-port").map(|(_, value)| value.parse().expect("a port"));
        Sentinel { child, port, secure_port }
    }
}

impl Sentinel {
    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
