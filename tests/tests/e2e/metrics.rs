//! What operators see: names and labels are a surface, and hold still.

use countersign_tests::socket::Dial;
use countersign_tests::{Node, http};

/// Names and labels of a scrape; `METRICS_SNAPSHOT=write` writes what is found.
const SNAPSHOT: &str = "tests/tests/e2e/metrics.snapshot";

#[tokio::test]
async fn names_and_labels_hold_still() {
    let node = Node::start("");
    let surface = node.metrics().await.surface().join("\n") + "\n";
    let path = countersign_tests::node::root().join(SNAPSHOT);
    if std::env::var("METRICS_SNAPSHOT").is_ok_and(|wish| wish == "write") {
        std::fs::write(&path, &surface).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let (kept, found) = (lines(&kept), lines(&surface));
    let gone: Vec<_> = kept.difference(&found).collect();
    let new: Vec<_> = found.difference(&kept).collect();
    assert!(gone.is_empty() && new.is_empty(), "gone: {gone:?}\nnew: {new:?}\nMETRICS_SNAPSHOT=write takes it over");
}

#[tokio::test]
async fn a_scrape_is_what_prometheus_reads() {
    let node = Node::start("");
    let _socket = Dial::page(&node).verified().await;
    let response = http::get(&node.admin_url("/metrics")).send().await;
    assert_eq!(response.status, 200);
    assert!(response.header("content-type").unwrap().starts_with("text/plain"));
    let scrape = node.metrics().await;
    for line in scrape.text.lines().filter(|line| line.starts_with("# TYPE countersign_")) {
        let name = line.split_whitespace().nth(2).unwrap();
        assert!(scrape.text.contains(&format!("# HELP {name} ")), "{name} has no help");
        assert_eq!(line.ends_with(" counter"), name.ends_with("_total"), "{name}: counters and they alone end in _total");
    }
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total", "countersign_build_info"] {
        assert!(scrape.samples.iter().any(|sample| sample.name == name), "{name}");
    }
    assert_eq!(http::get(&node.url("/metrics")).send().await.status, 404, "not on the public listener");
    promtool(&scrape.text);
}

/// Prometheus's own opinion, where it is installed.
fn promtool(scrape: &str) {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let Ok(mut child) = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn() else {
        eprintln!("SKIPPED: promtool is not installed; the scrape was read by the tests' own parser only");
        return;
    };
    child.stdin.take().unwrap().write_all(scrape.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "promtool finds fault");
}

#[tokio::test]
async fn health_says_alive_and_ready() {
    let node = Node::start("");
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(http::get(&node.admin_url(path)).send().await.status, 200, "{path}");
        assert_eq!(http::get(&node.url(path)).send().await.status, 404, "{path} on the public listener");
    }
}
