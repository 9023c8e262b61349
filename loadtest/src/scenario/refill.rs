//! What a connection costs on a node that thousands have come to and gone from: the heap is in use all over by then.

use std::time::Duration;

use clap::Args;

use super::{Bench, DIALS_IN_FLIGHT};
use crate::node::{CHANNEL, Node, approach};
use crate::report::{Bar, Finding, Report};
use crate::stats::{count, kilobytes_text, ratio};
use crate::swarm::{Connect, Order, Remote};
use crate::{Outcome, proc_stat};

/// Client processes: each has fewer descriptors than the node has sockets.
const SWARMS: usize = 2;
/// Addresses that clients come from.
const SOURCES: u8 = 12;
/// What a server does behind its last answer (batches, timers) is done by then.
const SETTLING: Duration = Duration::from_secs(2);
/// Memory of the full node after the last round, of what it was after half of them.
const GROWTH_MAX: f64 = 1.05;

/// Options of `refill`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Refill {
    /// Sockets at once
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(2..=16_000))]
    pub sockets: u64,
    /// How often all of them go and come again
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(2..=100))]
    pub rounds: u8,
    /// Keep the report in loadtest/RESULTS.md of the working directory
    #[arg(long)]
    pub write: bool,
}

/// Runs the scenario.
///
/// # Errors
/// If a server or a client failed.
pub(crate) fn run(bench: &Bench, options: &Refill) -> Outcome<Report> {
    let node = Node::start(&bench.server)?;
    let empty = proc_stat::resident_bytes(node.pid())?;
    let mut swarms = (0..SWARMS).map(|_| Remote::start("sockets")).collect::<Outcome<Vec<_>>>()?;
    let connect = Order::Connect(Connect {
        server: node.gateway,
        sockets: usize::try_from(options.sockets)? / SWARMS,
        concurrency: DIALS_IN_FLIGHT / SWARMS,
        sources: SOURCES,
        approach: approach(Some(CHANNEL)),
    });
    let mut measured = Vec::new();
    for _ in 0..=options.rounds {
        all(&mut swarms, &connect)?;
        std::thread::sleep(SETTLING);
        let full = proc_stat::resident_bytes(node.pid())?;
        all(&mut swarms, &Order::Leave)?;
        std::thread::sleep(SETTLING);
        measured.push((full, proc_stat::resident_bytes(node.pid())?));
    }
    Ok(report(options, empty, &measured))
}

/// Gives every client process the same order at once.
fn all(swarms: &mut [Remote], order: &Order) -> Outcome<()> {
    swarms.iter_mut().try_for_each(|swarm| swarm.order(order))?;
    swarms.iter_mut().try_for_each(|swarm| swarm.whole_reply().map(drop))
}

fn report(options: &Refill, empty: u64, measured: &[(u64, u64)]) -> Report {
    let setup = format!(
        "{} sockets, verified and subscribed, come and go {} times; resident memory of the node, which had {} at first. `each` is what \
         the full node has more than the fresh one, by socket.",
        options.sockets,
        measured.len(),
        kilobytes_text(count(empty))
    );
    let mut report = Report::new("refill", setup, &["round", "with sockets", "each", "after they went"]);
    let each = |full: u64| ratio(count(full.saturating_sub(empty)), count(options.sockets));
    for (round, (full, gone)) in measured.iter().enumerate() {
        let texts = [count(*full), each(*full), count(*gone)].map(kilobytes_text);
        report.row([(round + 1).to_string()].into_iter().chain(texts));
    }
    let full = |place: usize| measured.get(place).map_or(0, |(full, _)| *full);
    let (first, middle, last) = (full(0), full(measured.len() / 2), full(measured.len() - 1));
    report.findings.push(Finding::plain("KB a connection on a fresh node", each(first) / 1_000.0));
    report.findings.push(Finding::plain("KB a connection in the last round", each(last) / 1_000.0));
    report.findings.push(Finding::plain("of a fresh node's", ratio(each(last), each(first))));
    report.findings.push(Finding::new(
        "full in the last round, of half-way",
        ratio(count(last), count(middle)),
        Bar::AtMost(GROWTH_MAX),
    ));
    report
}
