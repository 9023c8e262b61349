//! What a cluster keeps of sockets that came and went: nothing, and its memory does not grow with their number.

use std::time::Duration;

use clap::Args;

use super::census::Census;
use super::{Bench, DIALS_IN_FLIGHT};
use crate::Outcome;
use crate::node::{CHANNEL, Node, approach};
use crate::redis::Redis;
use crate::report::{Bar, Finding, Report};
use crate::stats::{count, kilobytes_text, ratio};
use crate::swarm::{Connect, Order, Remote, RequestOrder, RequestReply};

/// Sockets of a node that come and go together.
const ROUND: usize = 250;
/// Addresses that clients come from: 28,000 ports each, which rest for a minute after a socket.
const SOURCES: u8 = 12;
/// How often a node is asked about the same sockets until it allows all of them, and how soon again.
const ASKED_MAX: usize = 500;
const ASKED_EVERY: Duration = Duration::from_millis(10);
/// Memory of all nodes at the end, of what it was half-way.
const GROWTH_MAX: f64 = 1.05;

/// Options of `churn`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Churn {
    /// Sockets that are opened, verified, subscribed, asked about on another node, and closed
    #[arg(long, default_value_t = 100_000)]
    pub cycles: usize,
    /// Nodes around one Redis
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=6))]
    pub nodes: u8,
    /// Keep the report in loadtest/RESULTS.md of the working directory
    #[arg(long)]
    pub write: bool,
}

/// The cluster and its clients.
struct Stage {
    swarms: Vec<Remote>,
    callers: Remote,
    nodes: Vec<Node>,
    redis: Redis,
    /// Sockets so far.
    done: usize,
}

/// Runs the scenario.
///
/// # Errors
/// If a server or a client failed.
pub(crate) fn run(bench: &Bench, options: &Churn) -> Outcome<Report> {
    let mut stage = Stage::start(bench, options)?;
    // What is opened with the first socket stays open; and the others must know the node.
    stage.round(1)?;
    let idle = usize::from(options.nodes) * 2 + 1;
    // Lease and fence of each node, and the set of nodes.
    let before = Census::settled(&stage.nodes, &stage.redis, |counts| {
        counts.keys == idle as u64 && counts.gauges.iter().all(|&sum| sum == 0)
    })?;
    let mut looks = vec![(0, before.clone())];
    stage.done = 0;
    for share in [0.1, 0.5, 1.0] {
        stage.until(goal(options.cycles, share))?;
        let census = Census::settled(&stage.nodes, &stage.redis, |counts| *counts == before.counts)?;
        looks.push((stage.done, census));
    }
    Ok(report(options, &looks))
}

/// So many of all cycles.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
fn goal(cycles: usize, share: f64) -> usize {
    (count(cycles as u64) * share) as usize
}

impl Stage {
    fn start(bench: &Bench, options: &Churn) -> Outcome<Self> {
        let redis = Redis::start()?;
        let url = redis.url();
        let nodes = (0..options.nodes).map(|_| Node::start_with(&bench.server, &["--redis", &url])).collect::<Outcome<_>>()?;
        let swarms = (0..options.nodes).map(|_| Remote::start("sockets")).collect::<Outcome<_>>()?;
        Ok(Self { swarms, callers: Remote::start("requests")?, nodes, redis, done: 0 })
    }

    /// Rounds, until so many sockets came and went.
    fn until(&mut self, cycles: usize) -> Outcome<()> {
        while self.done < cycles {
            let missing = (cycles - self.done).div_ceil(self.nodes.len());
            self.round(missing.min(ROUND))?;
        }
        Ok(())
    }

    /// So many sockets on every node at once: connected, asked about on the next node, and gone.
    fn round(&mut self, sockets: usize) -> Outcome<()> {
        for (swarm, node) in self.swarms.iter_mut().zip(&self.nodes) {
            let (server, approach) = (node.gateway, approach(Some(CHANNEL)));
            swarm.order(&Order::Connect(Connect {
                server,
                sockets,
                concurrency: DIALS_IN_FLIGHT,
                sources: SOURCES,
                approach,
            }))?;
        }
        self.swarms.iter_mut().try_for_each(|swarm| swarm.whole_reply().map(drop))?;
        for place in 0..self.nodes.len() {
            self.ask_about(place)?;
        }
        self.swarms.iter_mut().try_for_each(|swarm| swarm.order(&Order::Leave))?;
        self.swarms.iter_mut().try_for_each(|swarm| swarm.whole_reply().map(drop))?;
        self.done += sockets * self.nodes.len();
        Ok(())
    }

    /// Makes the next node remember the sockets of one, so that it has something to forget: all of them as allowed. A denial that
    /// it remembers before it hears of a connection would stay until it is crowded out.
    fn ask_about(&mut self, place: usize) -> Outcome<()> {
        let ids = self.swarms[place].do_all(&Order::Ids).map(|reply| reply.ids)?;
        let server = self.nodes[(place + 1) % self.nodes.len()].admin;
        let (path, header) = ("/authorize".to_owned(), "connectionId".to_owned());
        let requests = ids.len() as u64;
        let order = RequestOrder { server, path, header, ids, connections: 4, requests };
        for _ in 0..ASKED_MAX {
            self.callers.order(&order)?;
            let reply: RequestReply = self.callers.reply()?;
            if let Some(fault) = reply.fault {
                return Err(fault.into());
            }
            if reply.allowed == requests {
                return Ok(());
            }
            std::thread::sleep(ASKED_EVERY);
        }
        Err("a node does not allow the verified sockets of another".into())
    }
}

fn report(options: &Churn, looks: &[(usize, Census)]) -> Report {
    let setup = format!(
        "{} sockets on {} nodes around one Redis, {ROUND} a node at a time: token checked, challenge answered, subscribed, allowed \
         on the next node, then a third closed, a third gone, a third reset. Numbers of \
         nodes stand side by side; gauges are the sum of connections, subscriptions, challenges, channels of the bus and \
         remembered decisions.",
        options.cycles, options.nodes
    );
    let columns = ["after", "resident memory", "keys", "bus channels", "gauges", "descriptors", "threads"];
    let mut report = Report::new("churn", setup, &columns);
    for (done, census) in looks {
        let Census { counts, threads, resident } = census;
        let memory: Vec<String> = resident.iter().map(|&bytes| kilobytes_text(count(bytes))).collect();
        report.row([
            format!("{done} sockets"),
            memory.join(", "),
            counts.keys.to_string(),
            counts.channels.to_string(),
            list(&counts.gauges),
            list(&counts.descriptors),
            list(threads),
        ]);
    }
    let different = looks.iter().filter(|(_, census)| census.counts != looks[0].1.counts).count();
    report.findings.push(Finding::new("looks at which a count was not as before", count(different as u64), Bar::AtMost(0.0)));
    let memory = |place: usize| looks.get(place).map_or(0, |(_, census)| census.resident.iter().sum());
    let growth = |late: usize, early: usize| ratio(count(memory(late)), count(memory(early)));
    report.findings.push(Finding::new("memory at the end, of half-way", growth(3, 2), Bar::AtMost(GROWTH_MAX)));
    report.findings.push(Finding::plain("memory at the end, of a tenth of the way", growth(3, 1)));
    report
}

fn list(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}
