//! One channel, thousands of subscribers: what a delivery costs, beside the raw write loop and the bare server.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::publisher::{Publisher, wait_until_accepted};
use super::usage::Usage;
use super::{Bench, bare_approach, swarm};
use crate::Outcome;
use crate::node::{CHANNEL, Node, approach};
use crate::peer::Peer;
use crate::report::{Bar, Finding, Report};
use crate::stats::{count, median, rate_text, ratio};
use crate::swarm::{Approach, Order, Remote};
use crate::wire::server_text_frame;

/// Bytes of a published message.
const MESSAGE_BYTES: usize = 110;
/// Publications in flight: one, and enough that several share a write.
const IN_FLIGHT: [usize; 2] = [1, 20];
/// Of the raw loop's deliveries, at one in flight.
const ALONE_MIN: f64 = 0.65;
/// Of the raw loop's deliveries at one in flight, at twenty: four times the above.
const TOGETHER_MIN: f64 = 4.0 * ALONE_MIN;

/// Options of `fanout`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Fanout {
    /// Subscribers
    #[arg(long, default_value_t = 8_000, value_parser = clap::value_parser!(u64).range(1..=9_000))]
    pub subscribers: u64,
    /// Passes over all servers; medians count
    #[arg(long, default_value_t = 3)]
    pub passes: usize,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
}

/// A server with its subscribers.
struct Target {
    name: &'static str,
    pid: u32,
    swarm: Remote,
    publisher: Publisher,
    /// Messages that all subscribers together were promised.
    messages: u64,
    /// One list of measurements for each number in flight.
    measured: [Vec<Usage>; IN_FLIGHT.len()],
}

/// Runs the scenario.
///
/// # Errors
/// If a server or a client failed.
pub(crate) fn run(bench: &Bench, options: &Fanout) -> Outcome<Report> {
    let payload = payload();
    let node = Node::start(&bench.server)?;
    let raw = Peer::start(&["raw", &native_message(&payload).len().to_string()])?;
    let bare = Peer::start(&["echo", &bench.workers.to_string()])?;
    let mut targets =
        [countersign(&node, options, &payload)?, raw_loop(&raw, options)?, bare_server(&bare, options, &payload)?];
    for _ in 0..options.passes {
        for target in &mut targets {
            for (slot, in_flight) in IN_FLIGHT.into_iter().enumerate() {
                let usage = target.measure(options, in_flight)?;
                target.measured[slot].push(usage);
            }
        }
    }
    Ok(report(options, &targets))
}

/// The published data, as JSON text of [`MESSAGE_BYTES`] bytes.
fn payload() -> String {
    format!("\"{}\"", "x".repeat(MESSAGE_BYTES - 2))
}

/// What a native subscriber gets: the raw loop and the bare server send as many bytes.
fn native_message(payload: &str) -> String {
    format!(r#"{{"event":"publication","channel":"{CHANNEL}","data":{payload}}}"#)
}

fn countersign(node: &Node, options: &Fanout, payload: &str) -> Outcome<Target> {
    let data: serde_json::Value = serde_json::from_str(payload)?;
    let body = json!({"channel": CHANNEL, "data": data}).to_string();
    let publisher = Publisher::http(node.admin, "/api/v1/publish", Some(&node.api_key()?), &body);
    Target::new("countersign", node.pid(), node.gateway, options, approach(Some(CHANNEL)), publisher)
}

fn raw_loop(raw: &Peer, options: &Fanout) -> Outcome<Target> {
    let publisher = Publisher::Line { address: raw.addresses.inner };
    let target = Target::new("raw write loop", raw.pid(), raw.addresses.public, options, Approach::Tcp, publisher)?;
    wait_until_accepted(raw.addresses.inner, usize::try_from(options.subscribers)?)?;
    Ok(target)
}

fn bare_server(bare: &Peer, options: &Fanout, payload: &str) -> Outcome<Target> {
    let publisher = Publisher::http(bare.addresses.inner, "/publish", None, &native_message(payload));
    Target::new("bare actix-web-actors", bare.pid(), bare.addresses.public, options, bare_approach(), publisher)
}

impl Target {
    fn new(
        name: &'static str,
        pid: u32,
        server: std::net::SocketAddr,
        options: &Fanout,
        approach: Approach,
        publisher: Publisher,
    ) -> Outcome<Self> {
        let swarm = swarm(server, usize::try_from(options.subscribers)?, approach)?;
        Ok(Self { name, pid, swarm, publisher, messages: 0, measured: Default::default() })
    }

    /// Publishes and waits for every delivery, over and over.
    fn measure(&mut self, options: &Fanout, in_flight: usize) -> Outcome<Usage> {
        let Self { pid, swarm, publisher, messages, .. } = self;
        let (mut turn, before) = (publisher.open()?, *messages);
        Usage::of(*pid, || {
            let started = Instant::now();
            while started.elapsed() < Duration::from_secs_f64(options.seconds) {
                *messages += options.subscribers * in_flight as u64;
                swarm.order(&Order::Await { messages: *messages })?;
                turn.publish(in_flight)?;
                swarm.whole_reply()?;
            }
            Ok(count(*messages - before))
        })
    }

    fn per_cpu_second(&self, slot: usize) -> f64 {
        median(&self.measured[slot].iter().map(Usage::per_cpu_second).collect::<Vec<_>>())
    }

    fn per_second(&self, slot: usize) -> f64 {
        median(&self.measured[slot].iter().map(Usage::per_second).collect::<Vec<_>>())
    }
}

fn report(options: &Fanout, [ours, raw, bare]: &[Target; 3]) -> Report {
    let setup = format!(
        "{} subscribers of one channel, messages of {MESSAGE_BYTES} bytes ({} on the wire); {} passes of {} s, medians.",
        options.subscribers,
        server_text_frame(native_message(&payload()).as_bytes()).len(),
        options.passes,
        options.seconds
    );
    let columns = ["server", "in flight", "deliveries per CPU-second", "deliveries per second", "of the raw loop at 1"];
    let mut report = Report::new("fanout", setup, &columns);
    let limit = raw.per_cpu_second(0);
    for target in [ours, raw, bare] {
        for (slot, in_flight) in IN_FLIGHT.iter().enumerate() {
            let rate = target.per_cpu_second(slot);
            let shares = format!("{:.2}", ratio(rate, limit));
            report.row([
                target.name.to_owned(),
                in_flight.to_string(),
                rate_text(rate),
                rate_text(target.per_second(slot)),
                shares,
            ]);
        }
    }
    let [alone, together] = [0, 1].map(|slot| ours.per_cpu_second(slot));
    report.findings.push(Finding::new("1 in flight, of the raw loop", ratio(alone, limit), Bar::AtLeast(ALONE_MIN)));
    report.findings.push(Finding::new(
        "20 in flight, of the raw loop at 1",
        ratio(together, limit),
        Bar::AtLeast(TOGETHER_MIN),
    ));
    report.findings.push(Finding::plain("1 in flight, of the bare server", ratio(alone, bare.per_cpu_second(0))));
    report.findings.push(Finding::plain("20 in flight, of the bare server", ratio(together, bare.per_cpu_second(1))));
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_has_the_size_that_is_reported() {
        assert_eq!(payload().len(), MESSAGE_BYTES);
        assert!(serde_json::from_str::<serde_json::Value>(&native_message(&payload())).is_ok());
    }
}
