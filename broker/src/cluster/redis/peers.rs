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
///
/// A node that is silent for longer than its lease may have died without a word, and with it the invalidations that it would
/// have sent: [`Peers::lost`] says so twice, because a look-up of the registry between the two moments may still have found its
/// lease alive. The same holds for nodes that died before this one listened, whom nobody here has ever heard.
#[derive(Debug)]
pub(super) struct Peers {
    lease: Duration,
    /// A lease lives at most so long after its node's last sign of life was heard.
    surely_over: Duration,
    peers: HashMap<NodeId, Peer>,
    unheard_over_at: Option<Instant>,
}

#[derive(Debug)]
struct Peer {
    heard_at: Instant,
    broadcast: u64,
    direct: u64,
    told: bool,
}

impl Peers {
    pub(super) fn new(lease: Duration, heartbeat: Duration) -> Self {
        Self { lease, surely_over: lease + heartbeat * 2, peers: HashMap::new(), unheard_over_at: None }
    }

    /// The link is new: numbers start anew, and nobody is to blame for the silence until now.
    pub(super) fn listening_anew(&mut self, now: Instant) {
        for peer in self.peers.values_mut() {
            *peer = Peer { heard_at: now, broadcast: 0, direct: 0, told: false };
        }
        self.unheard_over_at = Some(now + self.surely_over);
    }

    /// Notes a sign of life. True: a number is missing.
    pub(super) fn heard(&mut self, envelope: &Envelope, stream: Stream, now: Instant) -> bool {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&envelope.from) {
            return false;
        }
        let fresh = Peer { heard_at: now, broadcast: 0, direct: 0, told: false };
        let peer = self.peers.entry(envelope.from).or_insert(fresh);
        (peer.heard_at, peer.told) = (now, false);
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

    /// Has a node fallen silent, since this was last asked, for so long that what is known of it is in doubt?
    pub(super) fn lost(&mut self, now: Instant) -> bool {
        let mut lost = self.unheard_over_at.take_if(|at| *at <= now).is_some();
        let (lease, surely_over) = (self.lease, self.surely_over);
        self.peers.retain(|node, peer| {
            let silent = now.saturating_duration_since(peer.heard_at);
            if silent >= lease && !std::mem::replace(&mut peer.told, true) {
                tracing::warn!(?node, "node was not heard within its lease");
                lost = true;
            }
            lost |= silent >= surely_over;
            silent < surely_over
        });
        lost
    }

    /// Nodes that are not silent for longer than their lease.
    pub(super) fn living(&self) -> usize {
        self.peers.values().filter(|peer| !peer.told).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(6);
    const BEAT: Duration = Duration::from_secs(1);

    fn envelope(from: u8, sequence: u64) -> Envelope {
        Envelope { from: NodeId::from_bytes([from; 8]), sequence, sent_at_ms: 0 }
    }

    #[tokio::test]
    async fn a_missing_number_is_noticed_in_its_own_stream_only() {
        let (mut peers, now) = (Peers::new(LEASE, BEAT), Instant::now());
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
        peers.listening_anew(now);
        assert!(!peers.heard(&envelope(1, 50), Stream::Broadcast, now));
    }

    #[tokio::test]
    async fn a_silent_node_is_told_at_its_lease_and_when_that_is_surely_over() {
        let (mut peers, start) = (Peers::new(LEASE, BEAT), Instant::now());
        peers.heard(&envelope(1, 1), Stream::Broadcast, start);
        peers.heard(&envelope(2, 1), Stream::Broadcast, start);
        let told: Vec<u64> = (0..20)
            .filter(|second| {
                let now = start + Duration::from_secs(*second);
                peers.heard(&envelope(2, second + 1), Stream::Broadcast, now);
                peers.lost(now)
            })
            .collect();
        assert_eq!(told, [6, 8]);
        assert_eq!(peers.living(), 1);
    }

    #[tokio::test]
    async fn nodes_that_died_unheard_are_in_doubt_once_after_listening_began() {
        let (mut peers, start) = (Peers::new(LEASE, BEAT), Instant::now());
        peers.listening_anew(start);
        let told: Vec<u64> = (0..20).filter(|second| peers.lost(start + Duration::from_secs(*second))).collect();
        assert_eq!(told, [8]);
    }
}
