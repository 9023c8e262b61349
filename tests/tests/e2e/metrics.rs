//! What operators see: names and labels are a surface, and hold still.

use std::io::Write as _;
use std::process::{Command, Stdio};

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

/// Prometheus's own opinion of something in the root of the repository; it must find no fault.
fn promtool(arguments: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(countersign_tests::node::root());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|error| {
            panic!("promtool (tests/run installs it): {error}");
        });
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

#[test]
fn the_shipped_configuration_of_prometheus_is_one() {
    promtool(&["check", "config", "deploy/prometheus/prometheus.yml"], "");
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
    promtool(&["check", "metrics"], &scrape.text);
}

#[tokio::test]
async fn health_says_alive_and_ready() {
    let node = Node::start("");
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(http::get(&node.admin_url(path)).send().await.status, 200, "{path}");
        assert_eq!(http::get(&node.url(path)).send().await.status, 404, "{path} on the public listener");
    }
}
