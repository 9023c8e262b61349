//! What a verified, subscribed connection costs in memory while nothing happens.

use std::time::Duration;

use clap::Args;

use super::{Bench, bare_approach, swarm};
use crate::node::{CHANNEL, Node, approach};
use crate::peer::Peer;
use crate::report::{Bar, Finding, Report};
use crate::stats::{count, kilobytes_text, ratio};
use crate::swarm::Approach;
use crate::{Outcome, proc_stat};

/// Resident kilobytes (of 1,000 bytes) that a connection may cost.
const KILOBYTES_MAX: f64 = 13.0;

/// What a server does behind its last answer (batches, timers) is done by then.
const SETTLING: Duration = Duration::from_secs(2);

/// Options of `idle`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Idle {
    /// Sockets
    #[arg(long, default_value_t = 8_000, value_parser = clap::value_parser!(u64).range(1..=9_000))]
    pub sockets: u64,
}

/// Memory of a server without and with its sockets, in bytes.
struct Memory {
    empty: f64,
    full: f64,
    each: f64,
}

/// Runs the scenario.
///
/// # Errors
/// If a server or a client failed.
pub(crate) fn run(bench: &Bench, options: &Idle) -> Outcome<Report> {
    let node = Node::start(&bench.server)?;
    let ours = measure(options, node.pid(), node.gateway, approach(Some(CHANNEL)))?;
    drop(node);
    let bare = Peer::start(&["echo", &bench.workers.to_string()])?;
    let theirs = measure(options, bare.pid(), bare.addresses.public, bare_approach())?;
    Ok(report(options, &ours, &theirs))
}

fn measure(options: &Idle, pid: u32, server: std::net::SocketAddr, approach: Approach) -> Outcome<Memory> {
    let empty = count(proc_stat::resident_bytes(pid)?);
    let _swarm = swarm(server, usize::try_from(options.sockets)?, approach)?;
    std::thread::sleep(SETTLING);
    let full = count(proc_stat::resident_bytes(pid)?);
    Ok(Memory { empty, full, each: ratio(full - empty, count(options.sockets)) })
}

fn report(options: &Idle, ours: &Memory, theirs: &Memory) -> Report {
    let setup = format!("{} sockets; resident memory of the server, KB of 1,000 bytes, kernel buffers apart.", options.sockets);
    let mut report = Report::new("idle", setup, &["server", "empty process", "with sockets", "each"]);
    for (name, memory) in [("countersign: verified, subscribed", ours), ("bare actix-web-actors: open", theirs)] {
        report.row([name.to_owned()].into_iter().chain([memory.empty, memory.full, memory.each].map(kilobytes_text)));
    }
    report.findings.push(Finding::new("KB a connection", ours.each / 1_000.0, Bar::AtMost(KILOBYTES_MAX)));
    report.findings.push(Finding::plain("of a bare connection", ratio(ours.each, theirs.each)));
    report
}
