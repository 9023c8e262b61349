//! What a node and its Redis hold at one moment.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::node::Node;
use crate::redis::Redis;
use crate::{Outcome, proc_stat};

/// Gauges of what a node holds of sockets, its own and other nodes'.
const GAUGES: [&str; 5] = [
    "countersign_connections",
    "countersign_subscriptions",
    "countersign_challenges_pending",
    "countersign_bus_channels",
    "countersign_decision_cache_entries",
];
/// Longest wait for what was held of sockets to be gone after the last of them.
const SETTLED_MAX: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// An answer that takes longer is none.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What is counted: it must be the same again once all sockets are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counts {
    /// Keys in Redis.
    pub keys: u64,
    /// Channels of the bus that somebody hears.
    pub channels: u64,
    /// The sum of [`GAUGES`], by node.
    pub gauges: Vec<u64>,
    /// Open descriptors, by node.
    pub descriptors: Vec<u64>,
}

/// What is held at one moment.
#[derive(Debug, Clone)]
pub(super) struct Census {
    /// Counts.
    pub counts: Counts,
    /// Threads, by node: those that wait for blocking work come and go.
    pub threads: Vec<u64>,
    /// Resident bytes, by node.
    pub resident: Vec<u64>,
}

impl Census {
    /// Looks.
    ///
    /// # Errors
    /// If a node or Redis is gone.
    pub(super) fn take(nodes: &[Node], redis: &Redis) -> Outcome<Self> {
        let (keys, channels) = redis.keys_and_channels()?;
        let each = |read: fn(u32) -> Outcome<u64>| nodes.iter().map(|node| read(node.pid())).collect::<Outcome<Vec<_>>>();
        let gauges = nodes.iter().map(|node| gauges(node.admin)).collect::<Outcome<Vec<_>>>()?;
        let counts = Counts { keys, channels, gauges, descriptors: each(proc_stat::descriptors)? };
        Ok(Self { counts, threads: each(proc_stat::threads)?, resident: each(proc_stat::resident_bytes)? })
    }

    /// Looks until `settled` holds, or will not any more: the last look.
    ///
    /// # Errors
    /// As [`Census::take`].
    pub(super) fn settled(nodes: &[Node], redis: &Redis, settled: impl Fn(&Counts) -> bool) -> Outcome<Self> {
        let started = Instant::now();
        loop {
            let census = Self::take(nodes, redis)?;
            if settled(&census.counts) || started.elapsed() > SETTLED_MAX {
                return Ok(census);
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// The sum of a node's gauges.
fn gauges(admin: SocketAddr) -> Outcome<u64> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(sum(&answer))
}

fn sum(scrape: &str) -> u64 {
    let ours = |line: &&str| GAUGES.iter().any(|gauge| line.starts_with(gauge) && !line[gauge.len()..].starts_with('_'));
    scrape.lines().filter(ours).filter_map(|line| line.rsplit_once(' ')?.1.trim().parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_are_summed_over_their_labels_and_nothing_else_is() {
        let scrape = "HTTP/1.1 200 OK\r\n\r\n# TYPE countersign_connections gauge\ncountersign_connections{state=\"verified\"} 2\n\
                      countersign_connections{state=\"accepted\"} 1\ncountersign_connection_panics_total 7\n\
                      countersign_bus_channels 3\ncountersign_connections_more 9\n";
        assert_eq!(sum(scrape), 6);
    }
}
