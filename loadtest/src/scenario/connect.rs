//! How many clients a second of processor time brings from nothing to verified.

use clap::Args;

use super::usage::Usage;
use super::{Bench, bare_approach, dial};
use crate::Outcome;
use crate::node::{Node, approach};
use crate::peer::Peer;
use crate::report::{Finding, Report};
use crate::stats::{count, median, rate_text, ratio};
use crate::swarm::{Approach, Remote, SOCKETS_MAX};

/// Options of `connect`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Connects {
    /// Sockets of one round
    #[arg(long, default_value_t = 2_000)]
    pub sockets: usize,
    /// Rounds; the sockets of earlier ones stay open
    #[arg(long, default_value_t = 4)]
    pub rounds: usize,
}

/// Runs the scenario.
///
/// # Errors
/// If a server or a client failed.
pub(crate) fn run(bench: &Bench, options: &Connects) -> Outcome<Report> {
    if options.sockets * options.rounds > SOCKETS_MAX {
        return Err(format!("at most {SOCKETS_MAX} sockets altogether").into());
    }
    let node = Node::start(&bench.server)?;
    let ours = rounds(options, node.pid(), node.gateway, &approach(None))?;
    drop(node);
    let bare = Peer::start(&["echo", &bench.workers.to_string()])?;
    let theirs = rounds(options, bare.pid(), bare.addresses.public, &bare_approach())?;
    Ok(report(options, &ours, &theirs))
}

fn rounds(options: &Connects, pid: u32, server: std::net::SocketAddr, approach: &Approach) -> Outcome<Vec<Usage>> {
    let mut swarm = Remote::start("sockets")?;
    let mut round = || {
        let order = dial(server, options.sockets, approach.clone());
        Usage::of(pid, || swarm.do_all(&order).map(|_| count(options.sockets as u64)))
    };
    (0..options.rounds).map(|_| round()).collect()
}

fn report(options: &Connects, ours: &[Usage], theirs: &[Usage]) -> Report {
    let setup = format!("{} rounds of {} sockets, one process of clients; medians.", options.rounds, options.sockets);
    let mut report = Report::new("connect", setup, &["server", "connects per CPU-second", "connects per second"]);
    let mut middle = |name: &str, rounds: &[Usage]| {
        let per_cpu = median(&rounds.iter().map(Usage::per_cpu_second).collect::<Vec<_>>());
        let per_second = median(&rounds.iter().map(Usage::per_second).collect::<Vec<_>>());
        report.row([name.to_owned(), rate_text(per_cpu), rate_text(per_second)]);
        per_cpu
    };
    let ours = middle("countersign: token checked, challenge answered", ours);
    let theirs = middle("bare actix-web-actors: opening handshake only", theirs);
    report.findings.push(Finding::plain("verified connects of bare handshakes, per CPU-second", ratio(ours, theirs)));
    report
}
