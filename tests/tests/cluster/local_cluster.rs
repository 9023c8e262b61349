//! `deploy/local/cluster`: one command starts a cluster on this machine, and one ends it.

use std::process::{Command, Output};

use countersign_tests::{eventually, http, node, port};

/// The script with a folder and ports of the test's own; what still runs in the end is ended.
struct Local {
    folder: tempfile::TempDir,
    port: u16,
    admin_port: u16,
    single_ports: [u16; 3],
}

impl Local {
    fn new() -> Self {
        let single_ports = [port::free(), port::free(), port::free()];
        Self { folder: tempfile::tempdir().unwrap(), port: port::free_row(7), admin_port: port::free_row(7), single_ports }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let [redis, metrics, prometheus] = self.single_ports.map(|port| port.to_string());
        Command::new(node::root().join("deploy/local/cluster"))
            .args(arguments)
            .env("CLUSTER_DATA", self.folder.path().join("cluster"))
            .env("CLUSTER_BINARY", node::binary())
            .env("CLUSTER_PORT", self.port.to_string())
            .env("CLUSTER_ADMIN_PORT", self.admin_port.to_string())
            .env("CLUSTER_REDIS_PORT", redis)
            .env("CLUSTER_METRICS_PORT", metrics)
            .env("CLUSTER_PROMETHEUS_PORT", prometheus)
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    /// Standard output of a command that must succeed.
    fn said(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// The number that Prometheus answers a query with; none while it knows nothing.
    async fn queried(&self, query: &str) -> Option<String> {
        let url = format!("http://127.0.0.1:{}/api/v1/query?query={query}", self.single_ports[2]);
        let answer = http::get(&url).try_send().await.ok()?.json();
        answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    }

    /// Waits until Prometheus answers a query with this number.
    async fn knows(&self, query: &str, number: &str) {
        let what = format!("prometheus answers {query} with {number}");
        eventually(&what, || async { (self.queried(query).await? == number).then_some(()) }).await;
    }

    async fn greeted(&self) -> Option<u16> {
        let answer = http::get(&format!("http://127.0.0.1:{}/.well-known/jwks.json", self.port)).try_send().await;
        answer.ok().map(|answer| answer.status)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

#[tokio::test]
async fn the_local_cluster_starts_survives_a_killed_node_and_ends() {
    let local = Local::new();
    let status = local.said(&["up", "--nodes", "2"]);
    for part in ["redis: runs", "node1: runs  ", "node2: runs  ", "haproxy: runs"] {
        assert!(status.contains(part), "{part}: {status}");
    }
    assert!(status.contains("prometheus: runs"), "{status}");
    eventually("the balancer serves", || async { (local.greeted().await? == 200).then_some(()) }).await;
    // Each node, and the balancer; then a number that only a scrape can have brought.
    local.knows("sum(up)", "3").await;
    local.knows("sum(countersign_cluster_nodes)", "4").await;
    local.said(&["kill-node", "1"]);
    assert!(local.said(&["status"]).contains("node1: gone"));
    eventually("the other node serves", || async { (local.greeted().await? == 200).then_some(()) }).await;
    local.knows("sum(up)", "2").await;
    let again = local.said(&["up", "--nodes", "2"]);
    assert!(again.contains("node1: runs  ") && again.contains("node2: runs  "), "{again}");
    local.said(&["down"]);
    assert_eq!(local.greeted().await, None);
    assert!(!local.run(&["status"]).status.success(), "nothing runs");
    assert_eq!(local.run(&["dance"]).status.code(), Some(64));
}
