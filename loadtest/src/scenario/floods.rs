//! What floods of clients that mean ill cost a node, and what they leave to honest clients.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;

use super::{Bench, DIALS_IN_FLIGHT};
use crate::flood::{Attack, Ends, FloodOrder, Visits, visit_until};
use crate::node::{Node, approach, verified};
use crate::report::{Bar, Finding, Report};
use crate::stats::{count, median, quantile, ratio};
use crate::swarm::{Connect, Order, Remote};
use crate::{Outcome, proc_stat};

/// Client processes: each has fewer descriptors than the node has sockets.
const PROCESSES: u8 = 2;
/// Networks 127.0.n.0/24 that the attackers of one process come from.
const NETWORKS: u8 = 40;
/// Attackers at once of those that end soon, of all that are held: what counts there is how fast they come.
const HASTY_SHARE: usize = 20;
/// Between two looks at the memory of the node.
const LOOK: Duration = Duration::from_millis(20);
/// What a server does behind its last answer (batches, timers) is done by then.
const SETTLING: Duration = Duration::from_secs(2);
/// Peak memory of a node under a flood, of what as many idle honest sockets take.
const PEAK_MAX: f64 = 1.5;

/// Options of `floods`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Floods {
    /// Sockets that attackers hold at once, and as many idle honest ones beside which memory is judged
    #[arg(long, default_value_t = 9_000, value_parser = clap::value_parser!(u64).range(100..=16_000))]
    pub sockets: u64,
    /// Length of each flood
    #[arg(long, default_value_t = 12.0)]
    pub seconds: f64,
    /// Keep the report in loadtest/RESULTS.md of the working directory
    #[arg(long)]
    pub write: bool,
}

/// One flood, or none.
struct Observed {
    name: &'static str,
    peak: f64,
    visits: Visits,
    ends: Ends,
}

/// Runs the scenario.
///
/// # Errors
/// If a server or a client process failed. Honest clients that fail are counted.
pub(crate) fn run(bench: &Bench, options: &Floods) -> Outcome<Report> {
    let sockets = usize::try_from(options.sockets)?;
    let idle = idle(bench, sockets)?;
    let mut observed = vec![observe(bench, options, "none", None)?];
    for (attack, name) in Attack::ALL {
        observed.push(observe(bench, options, name, Some(attack))?);
    }
    Ok(report(options, idle, &observed))
}

/// Resident bytes of a node with so many verified sockets on which nothing happens.
fn idle(bench: &Bench, sockets: usize) -> Outcome<f64> {
    let node = Node::start(&bench.server)?;
    let mut swarms = (0..PROCESSES).map(|_| Remote::start("sockets")).collect::<Outcome<Vec<_>>>()?;
    for swarm in &mut swarms {
        let (server, sockets, concurrency) = (node.gateway, sockets / usize::from(PROCESSES), DIALS_IN_FLIGHT / 2);
        swarm.order(&Order::Connect(Connect { server, sockets, concurrency, sources: 12, approach: approach(None) }))?;
    }
    swarms.iter_mut().try_for_each(|swarm| swarm.whole_reply().map(drop))?;
    std::thread::sleep(SETTLING);
    Ok(count(proc_stat::resident_bytes(node.pid())?))
}

/// One flood against a fresh node, while honest clients come and go.
fn observe(bench: &Bench, options: &Floods, name: &'static str, attack: Option<Attack>) -> Outcome<Observed> {
    let node = Node::start(&bench.server)?;
    let mut floods = Vec::new();
    for process in 0..if attack.is_some() { PROCESSES } else { 0 } {
        let Some(attack) = attack else { break };
        let mut flood = Remote::start("flood")?;
        flood.order(&order(options, node.gateway, attack, process)?)?;
        floods.push(flood);
    }
    let over = Instant::now() + Duration::from_secs_f64(options.seconds);
    let (visits, peak) = std::thread::scope(|scope| {
        let visitor = scope.spawn(|| visit_until(over, node.gateway, &verified(None)));
        let peak = peak_until(over, node.pid());
        (visitor.join(), peak)
    });
    let mut ends = Ends::new();
    for flood in &mut floods {
        for (end, more) in flood.reply::<Ends>()? {
            *ends.entry(end).or_default() += more;
        }
    }
    Ok(Observed { name, peak: count(peak?), visits: visits.map_err(|_| "the honest client panicked")?, ends })
}

fn order(options: &Floods, server: SocketAddr, attack: Attack, process: u8) -> Outcome<FloodOrder> {
    let held = matches!(attack, Attack::Silence | Attack::NoAnswer);
    let sockets = usize::try_from(options.sockets)? / usize::from(PROCESSES);
    Ok(FloodOrder {
        server,
        attack,
        sockets: if held { sockets } else { sockets.div_ceil(HASTY_SHARE) },
        networks: (1 + process * NETWORKS, NETWORKS),
        seconds: options.seconds,
        verified: verified(None),
    })
}

/// The most resident bytes of a process until that moment.
fn peak_until(over: Instant, pid: u32) -> Outcome<u64> {
    let mut peak = 0;
    while Instant::now() < over {
        peak = peak.max(proc_stat::resident_bytes(pid)?);
        std::thread::sleep(LOOK);
    }
    Ok(peak)
}

fn report(options: &Floods, idle: f64, observed: &[Observed]) -> Report {
    let setup = format!(
        "Each flood lasts {} s against a fresh node with default limits: {} sockets at once of those that are held, a {HASTY_SHARE}th of \
         those that end soon, and for each that ends another comes, until its network is refused with 429. They have tokens and the page's origin, and come from {} \
         networks. Beside them one honest client after the other comes from its own network, is verified and goes. Memory is that of the \
         node, of {:.1} MB with as many verified, idle sockets. Node and all clients share the machine: how long honest clients wait \
         is mostly how long their turn takes to come.",
        options.seconds,
        options.sockets,
        u16::from(PROCESSES) * u16::from(NETWORKS),
        idle / 1e6
    );
    let columns =
        ["attackers", "ends", "peak memory", "of idle honest sockets", "honest verified", "failed", "median ms", "p99 ms"];
    let mut report = Report::new("floods", setup, &columns);
    let calm = observed.first().map_or(0.0, |calm| quantile(&calm.visits.millis, 0.99));
    for Observed { name, peak, visits, ends } in observed {
        let failed: u64 = visits.failed.values().sum();
        report.row([
            (*name).to_owned(),
            list(ends),
            format!("{:.1} MB", peak / 1e6),
            format!("{:.2}", ratio(*peak, idle)),
            visits.millis.len().to_string(),
            if failed == 0 { "0".to_owned() } else { list(&visits.failed) },
            format!("{:.1}", median(&visits.millis)),
            format!("{:.1}", quantile(&visits.millis, 0.99)),
        ]);
    }
    for Observed { name, peak, visits, .. } in observed.iter().skip(1) {
        let failed: u64 = visits.failed.values().sum();
        let came = count(visits.millis.len() as u64 + failed);
        let verified = ratio(count(visits.millis.len() as u64), came);
        report.findings.push(Finding::new(&format!("{name}: share of honest clients verified"), verified, Bar::AtLeast(1.0)));
        report.findings.push(Finding::new(
            &format!("{name}: peak memory of idle honest sockets'"),
            ratio(*peak, idle),
            Bar::AtMost(PEAK_MAX),
        ));
        let slower = ratio(quantile(&visits.millis, 0.99), calm);
        report.findings.push(Finding::plain(&format!("{name}: p99 of honest clients, of that without a flood"), slower));
    }
    report
}

fn list(ends: &Ends) -> String {
    ends.iter().map(|(end, times)| format!("{end}: {times}")).collect::<Vec<_>>().join(", ")
}
