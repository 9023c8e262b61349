//! What a decision costs, beside a bare handler that reads one header.

use std::net::SocketAddr;

use clap::Args;

use super::usage::Usage;
use super::{Bench, dial};
use crate::Outcome;
use crate::node::{Node, approach, verified};
use crate::peer::Peer;
use crate::report::{Bar, Finding, Report};
use crate::stats::{count, median, rate_text, ratio};
use crate::swarm::{Approach, Order, Remote, RequestOrder, RequestReply, Shows, Verified};

/// Of the bare handler's answers per second of processor time.
const SHARE_MIN: f64 = 0.8;

/// Options of `authorize`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Authorize {
    /// Verified connections that the calls name, in turn
    #[arg(long, default_value_t = 1_000)]
    pub sockets: usize,
    /// Keep-alive connections, each with one call on its way
    #[arg(long, default_value_t = 64)]
    pub callers: usize,
    /// Calls of one measurement
    #[arg(long, default_value_t = 100_000)]
    pub calls: u64,
    /// Passes over all servers; medians count
    #[arg(long, default_value_t = 3)]
    pub passes: usize,
}

/// A server and the calls that it gets.
struct Target {
    name: &'static str,
    pid: u32,
    order: RequestOrder,
    measured: Vec<Usage>,
}

/// Runs the scenario.
///
/// # Errors
/// If a server or a client failed.
pub(crate) fn run(bench: &Bench, options: &Authorize) -> Outcome<Report> {
    let node = Node::start(&bench.server)?;
    let bare = Peer::start(&["header", &bench.workers.to_string()])?;
    let pair = Peer::start(&["pair"])?;
    let (mut swarm, mut paired) = (Remote::start("sockets")?, Remote::start("sockets")?);
    let ids = verified_ids(&mut swarm, node.gateway, options)?;
    let paired_ids = verified_ids(&mut paired, pair.addresses.public, options)?;
    let mut ticketed = Remote::start("sockets")?;
    let showing = Approach::Verified(Verified { shows: Shows::Ticket, ..verified(None) });
    ticketed.do_all(&dial(node.gateway, options.sockets, showing))?;
    let tickets = ticketed.do_all(&Order::Ids)?.ids;
    let mut targets = [
        Target::new("bare handler: reads one header", bare.pid(), bare.addresses.public, options, &ids),
        Target::new("countersign: decision of the owner", node.pid(), node.admin, options, &ids),
        Target::new("countersign: hit in another node's cache", pair.pid(), pair.addresses.inner, options, &paired_ids),
        Target::new("countersign: ticket", node.pid(), node.admin, options, &tickets),
    ];
    if let Some(showing_tickets) = targets.last_mut() {
        showing_tickets.order.header = "Countersign-Ticket".to_owned();
    }
    let mut callers = Remote::start("requests")?;
    warm_up(&mut callers, &mut targets)?;
    for _ in 0..options.passes {
        for target in &mut targets {
            target.measure(&mut callers)?;
        }
    }
    Ok(report(options, &targets))
}

/// Asks for every id once and forgets what that cost: the other node's first answers come from the registry, not its cache.
fn warm_up(callers: &mut Remote, targets: &mut [Target]) -> Outcome<()> {
    for target in targets {
        target.measure(callers)?;
        target.measured.clear();
    }
    Ok(())
}

/// Opens verified connections; their ids.
fn verified_ids(swarm: &mut Remote, server: SocketAddr, options: &Authorize) -> Outcome<Vec<String>> {
    swarm.do_all(&dial(server, options.sockets, approach(None)))?;
    Ok(swarm.do_all(&Order::Ids)?.ids)
}

impl Target {
    fn new(name: &'static str, pid: u32, server: SocketAddr, options: &Authorize, ids: &[String]) -> Self {
        let order = RequestOrder {
            server,
            path: "/authorize".to_owned(),
            header: "connectionId".to_owned(),
            ids: ids.to_vec(),
            connections: options.callers,
            requests: options.calls,
        };
        Self { name, pid, order, measured: Vec::new() }
    }

    fn measure(&mut self, callers: &mut Remote) -> Outcome<()> {
        let order = &self.order;
        self.measured.push(Usage::of(self.pid, || {
            callers.order(order)?;
            let reply: RequestReply = callers.reply()?;
            match reply.fault {
                Some(fault) => Err(fault.into()),
                None if reply.refused > 0 => Err(format!("{} calls were not answered with 200", reply.refused).into()),
                None => Ok(count(reply.allowed)),
            }
        })?);
        Ok(())
    }

    fn per_cpu_second(&self) -> f64 {
        median(&self.measured.iter().map(Usage::per_cpu_second).collect::<Vec<_>>())
    }

    fn per_second(&self) -> f64 {
        median(&self.measured.iter().map(Usage::per_second).collect::<Vec<_>>())
    }
}

fn report(options: &Authorize, targets: &[Target]) -> Report {
    let setup = format!(
        "{} callers on keep-alive connections, {} ids in turn; {} passes of {} calls, medians.",
        options.callers, options.sockets, options.passes, options.calls
    );
    let mut report =
        Report::new("authorize", setup, &["server", "answers per CPU-second", "answers per second", "of the bare handler"]);
    let limit = targets.first().map_or(0.0, Target::per_cpu_second);
    for target in targets {
        let rate = target.per_cpu_second();
        let share = ratio(rate, limit);
        report.row([target.name.to_owned(), rate_text(rate), rate_text(target.per_second()), format!("{share:.2}")]);
        if !std::ptr::eq(target, &targets[0]) {
            let what = format!("{}, of the bare handler", target.name);
            // A ticket is ten times as long as an id, and is read: it has no bar of its own.
            let finding = if target.order.header == "connectionId" {
                Finding::new(&what, share, Bar::AtLeast(SHARE_MIN))
            } else {
                Finding::plain(&what, share)
            };
            report.findings.push(finding);
        }
    }
    report
}
