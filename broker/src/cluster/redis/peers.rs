use std::collections::HashMap;
use std::time::Duration;

use countersign_node_proto::{Envelope, NodeId};
use tokio::time::Instant;

/// Other nodes that are remembered; more are heard, but not counted.
const PEERS_MAX: usize = 1_024;

/// Which numbers of a sender belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// To all.
    Broadcast,
    /// To this node.
    Direct,
    /// To subscribers: not numbered.
    Channel,
}

/// The other nodes: what number each has come to, and when it was last heard.
#[derive(Debug)]
pub(super) struct Peers {
    lease: Duration,
    peers: HashMap<NodeId, Peer>,
}

#[derive(Debug)]
struct Peer {
    heard_at: Instant,
    broadcast: u64,
    direct: u64,
}

impl Peers {
    pub(super) fn new(lease: Duration) -> Self {
        Self { lease, peers: HashMap::new() }
    }

    /// The link is new: numbers start anew, and nobody was heard on it yet.
    pub(super) fn listening_anew(&mut self) {
        self.peers.clear();
    }

    /// Notes a sign of life. True: a number is missing.
    pub(super) fn heard(&mut self, envelope: &Envelope, stream: Stream, now: Instant) -> bool {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&envelope.from) {
            return false;
        }
        let fresh = Peer { heard_at: now, broadcast: 0, direct: 0 };
        let peer = self.peers.entry(envelope.from).or_insert(fresh);
        peer.heard_at = now;
        let last = match stream {
            Stream::Broadcast => &mut peer.broadcast,
            Stream::Direct => &mut peer.direct,
            Stream::Channel => return false,
        };
        // A number that goes back is a sender that forgot its table, not a loss; the first one is where we came in.
        let missing = *last != 0 && envelope.sequence > *last + 1;
        *last = envelope.sequence;
        missing
    }

    /// Was this node heard within half a lease? Its lease was renewed at least every third of its life while it lived, so
    /// it outlives what is told here.
    pub(super) fn hears(&self, node: NodeId, now: Instant) -> bool {
        self.peers.get(&node).is_some_and(|peer| now.saturating_duration_since(peer.heard_at) < self.lease / 2)
    }

    /// All nodes of which [`Peers::hears`] is true.
    pub(super) fn heard_lately(&self, now: Instant) -> Vec<NodeId> {
        self.peers.keys().copied().filter(|node| self.hears(*node, now)).collect()
    }

    /// Forgets nodes that were silent for longer than their lease; how many are left.
    pub(super) fn living(&mut self, now: Instant) -> usize {
        let lease = self.lease;
        self.peers.retain(|node, peer| {
            let lives = now.saturating_duration_since(peer.heard_at) < lease;
            if !lives {
                tracing::warn!(?node, "node was not heard within its lease");
            }
            lives
        });
        self.peers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(6);

    fn envelope(from: u8, sequence: u64) -> Envelope {
        Envelope { from: NodeId::from_bytes([from; 8]), sequence, sent_at_ms: 0 }
    }

    #[tokio::test]
    async fn a_missing_number_is_noticed_in_its_own_stream_only() {
        let (mut peers, now) = (Peers::new(LEASE), Instant::now());
        let mut check = |from, stream, sequence, missing| {
            assert_eq!(peers.heard(&envelope(from, sequence), stream, now), missing, "{from} {stream:?} {sequence}");
        };
        check(1, Stream::Broadcast, 7, false);
        check(1, Stream::Broadcast, 8, false);
        check(1, Stream::Direct, 1, false);
        check(2, Stream::Broadcast, 100, false);
        check(1, Stream::Channel, 0, false);
        check(1, Stream::Broadcast, 10, true);
        check(1, Stream::Broadcast, 11, false);
        check(1, Stream::Direct, 3, true);
        check(1, Stream::Direct, 1, false);
        check(1, Stream::Direct, 2, false);
        peers.listening_anew();
        assert!(!peers.heard(&envelope(1, 50), Stream::Broadcast, now));
    }

    #[tokio::test]
    async fn a_silent_node_is_not_relied_on_after_half_its_lease_and_forgotten_after_all_of_it() {
        let (mut peers, start) = (Peers::new(LEASE), Instant::now());
        let node = envelope(1, 1).from;
        assert!(!peers.hears(node, start), "never heard");
        peers.heard(&envelope(1, 1), Stream::Broadcast, start);
        let at = |millis| start + Duration::from_millis(millis);
        assert!(peers.hears(node, at(2_999)));
        assert!(!peers.hears(node, at(3_000)));
        assert_eq!((peers.heard_lately(at(2_999)), peers.heard_lately(at(3_000))), (vec![node], Vec::new()));
        assert_eq!((peers.living(at(5_999)), peers.living(at(6_000))), (1, 0));
        peers.heard(&envelope(1, 2), Stream::Broadcast, at(7_000));
        peers.listening_anew();
        assert!(!peers.hears(node, at(7_000)), "heard over a link that is gone");
    }
}
