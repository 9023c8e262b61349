//! HAProxy with the configuration of the repository.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::http;
use crate::metrics::Scrape;
use crate::poll::eventually;
use crate::{Node, node, port};

/// A balancer in front of nodes; dropped, it is killed.
#[derive(Debug)]
pub struct Balancer {
    child: Option<Child>,
    folder: TempDir,
    /// Where clients connect.
    pub public: SocketAddr,
    /// Where proxies ask and servers publish.
    pub admin: SocketAddr,
    metrics: SocketAddr,
}

impl Balancer {
    /// Chooses ports, so that nodes can be told the origin of pages; starts nothing yet.
    ///
    /// # Panics
    /// If there is no temporary folder.
    #[must_use]
    pub fn reserve() -> Self {
        let free = || SocketAddr::from(([127, 0, 0, 1], port::free()));
        let folder = tempfile::Builder::new().prefix("countersign-balancer-").tempdir().expect("a temporary folder");
        Self { child: None, folder, public: free(), admin: free(), metrics: free() }
    }

    /// Starts, and waits until all nodes are seen to be ready.
    ///
    /// # Panics
    /// If there is no `haproxy`, or it does not start.
    pub async fn start(&mut self, nodes: &[Node]) {
        let log = File::create(self.folder.path().join("log")).expect("the log can be written");
        let mut command = Command::new("haproxy");
        command.arg("-f").arg(node::root().join("deploy/proxies/haproxy-cluster.cfg"));
        command.env("BALANCER_BIND", self.public.to_string());
        command.env("BALANCER_BIND_ADMIN", self.admin.to_string());
        command.env("BALANCER_BIND_METRICS", self.metrics.to_string());
        for (node, number) in nodes.iter().zip(1..) {
            command.env(format!("BALANCER_NODE_{number}"), node.gateway.to_string());
            command.env(format!("BALANCER_ADMIN_{number}"), node.admin.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("`haproxy` is on the PATH; tests/run installs it"));
        for number in 1..=nodes.len() {
            self.sees(number, "UP").await;
        }
    }

    /// Waits until the balancer holds node `number`, counted from 1, to be `UP` or `DOWN`.
    pub async fn sees(&self, number: usize, state: &str) {
        let name = format!("node{number}");
        let labels = [("proxy", "sockets"), ("server", name.as_str()), ("state", state)];
        let what = format!("the balancer sees {name} {state}");
        eventually(&what, || async {
            let answer = http::get(&format!("http://{}/metrics", self.metrics)).try_send().await.ok()?;
            (Scrape::parse(answer.text()).sum("haproxy_server_status", &labels) > 0.5).then_some(())
        })
        .await;
    }

    /// The origin of pages that it serves.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.public)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the balancer's log:\n{}", std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default());
        }
        if let Some(child) = &mut self.child {
            // Both fail only if it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
