//! Which tickets of other nodes' connections may no longer be taken at their word.

use std::collections::{HashMap, VecDeque};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use countersign_node_proto::{ConnectionId, Invalidate};

use crate::ticket::{Claims, SKEW_MS, TTL_MS_MAX};

/// Connections and principals that are remembered; above this every ticket is doubted that was issued up to now.
const SUSPECTS_MAX: usize = 100_000;
/// The last ticket that an invalidation can concern is issued as late as this after it, by a clock that goes ahead, and has
/// expired this long after that. In milliseconds. The longest life that can be configured, not this node's own: nodes may be
/// told different ones for a while.
const LIFE_MS: u64 = SKEW_MS + TTL_MS_MAX + SKEW_MS;

/// What other nodes have said of connections lately: they closed, were revoked, or were just verified.
///
/// A ticket is a node's word of some seconds ago, and is taken without asking. One that was issued before its connection's
/// invalidation was heard is not: then whoever knows the present state is asked. One that was issued after needs no question
/// again, so that a freshly verified connection costs one.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    heard: RwLock<Heard>,
    limit: Limit,
}

#[derive(Debug)]
struct Limit(usize);

impl Default for Limit {
    fn default() -> Self {
        Self(SUSPECTS_MAX)
    }
}

/// Times are milliseconds since the Unix epoch, by this node's clock.
#[derive(Debug, Default)]
struct Heard {
    connections: HashMap<ConnectionId, u64>,
    principals: HashMap<String, u64>,
    /// In the order in which they were heard; one that was heard again stands there twice.
    order: VecDeque<(u64, Suspect)>,
    /// Everything that was issued up to then is in doubt.
    all_at_ms: Option<u64>,
}

#[derive(Debug, Clone)]
enum Suspect {
    Connection(ConnectionId),
    Principal(String),
}

impl Suspects {
    /// Must somebody be asked before this ticket counts?
    pub(super) fn doubts(&self, claims: &Claims) -> bool {
        let heard = self.read();
        let principal = claims.subject.as_ref().and_then(|subject| heard.principals.get(subject));
        let latest =
            [heard.all_at_ms.as_ref(), heard.connections.get(&claims.connection), principal].into_iter().flatten().max();
        latest.is_some_and(|heard_ms| claims.issued_at_ms <= heard_ms.saturating_add(SKEW_MS))
    }

    /// Was something heard lately against this connection, or its principal, by name? Then the registry may not know it yet.
    pub(super) fn names(&self, connection: ConnectionId, subject: Option<&str>, now_ms: u64) -> bool {
        let heard = self.read();
        let principal = subject.and_then(|subject| heard.principals.get(subject));
        let latest = [heard.connections.get(&connection), principal].into_iter().flatten().max();
        latest.is_some_and(|heard_ms| now_ms < heard_ms.saturating_add(LIFE_MS))
    }

    /// An invalidation was heard.
    pub(super) fn hear(&self, what: &Invalidate, now_ms: u64) {
        match what {
            Invalidate::Connection(id) => self.add(Suspect::Connection(*id), now_ms),
            // Of whichever issuer: a namesake's ticket costs a question.
            Invalidate::Principal(principal) => self.add(Suspect::Principal(principal.subject.clone()), now_ms),
            Invalidate::All => self.doubt_all(now_ms),
        }
    }

    /// Invalidations may have been lost.
    pub(super) fn doubt_all(&self, now_ms: u64) {
        self.write().doubt_all(now_ms);
    }

    /// Forgets everything, as after a while without news.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        *self.write() = Heard::default();
    }

    fn add(&self, suspect: Suspect, now_ms: u64) {
        let mut heard = self.write();
        heard.forget_old(now_ms);
        if heard.order.len() >= self.limit.0 {
            heard.doubt_all(now_ms);
            return;
        }
        match &suspect {
            Suspect::Connection(id) => heard.connections.insert(*id, now_ms),
            Suspect::Principal(subject) => heard.principals.insert(subject.clone(), now_ms),
        };
        heard.order.push_back((now_ms, suspect));
    }

    fn read(&self) -> RwLockReadGuard<'_, Heard> {
        self.heard.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Heard> {
        self.heard.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    /// Whoever is doubted by name is doubted with all: the names need not be kept.
    fn doubt_all(&mut self, now_ms: u64) {
        *self = Self { all_at_ms: Some(now_ms), ..Self::default() };
    }

    fn forget_old(&mut self, now_ms: u64) {
        while let Some((heard_ms, _)) = self.order.front()
            && heard_ms.saturating_add(LIFE_MS) <= now_ms
        {
            let Some((heard_ms, suspect)) = self.order.pop_front() else { return };
            // What was heard again since stays until that is old.
            match suspect {
                Suspect::Connection(id) if self.connections.get(&id) == Some(&heard_ms) => {
                    self.connections.remove(&id);
                }
                Suspect::Principal(subject) if self.principals.get(&subject) == Some(&heard_ms) => {
                    self.principals.remove(&subject);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign_node_proto::{Generation, NodeId};

    use super::*;
    use crate::config::Mode;

    const NOW: u64 = 1_700_000_000_000;

    fn ticket(connection: u8, subject: Option<&str>, issued_at_ms: u64) -> Claims {
        Claims {
            connection: ConnectionId::from_bytes([connection; 16]),
            owner: NodeId::from_bytes([2; 8]),
            generation: Generation(1),
            epoch: 0,
            origin: None,
            thumbprint: [0; 32],
            mode: Mode::Ticket,
            subject: subject.map(str::to_owned),
            issuer: None,
            issued_at_ms,
            expires_at_ms: issued_at_ms + 15_000,
        }
    }

    fn id(byte: u8) -> ConnectionId {
        ConnectionId::from_bytes([byte; 16])
    }

    #[test]
    fn a_ticket_from_before_the_invalidation_is_doubted_and_one_from_after_is_not() {
        let suspects = Suspects::default();
        assert!(!suspects.doubts(&ticket(1, None, NOW)));
        suspects.hear(&Invalidate::Connection(id(1)), NOW);
        for (issued, doubted) in [(NOW - 15_000, true), (NOW, true), (NOW + SKEW_MS, true), (NOW + SKEW_MS + 1, false)] {
            assert_eq!(suspects.doubts(&ticket(1, None, issued)), doubted, "issued at {issued}");
        }
        assert!(!suspects.doubts(&ticket(2, None, NOW)), "another connection");
        suspects.hear(&Invalidate::Principal("ada".into()), NOW);
        assert!(suspects.doubts(&ticket(3, Some("ada"), NOW)) && !suspects.doubts(&ticket(3, Some("bob"), NOW)));
    }

    #[test]
    fn a_gap_puts_every_ticket_of_before_in_doubt() {
        for gap in [|suspects: &Suspects| suspects.doubt_all(NOW), |suspects: &Suspects| suspects.hear(&Invalidate::All, NOW)] {
            let suspects = Suspects::default();
            gap(&suspects);
            assert!(suspects.doubts(&ticket(9, None, NOW)) && !suspects.doubts(&ticket(9, None, NOW + SKEW_MS + 1)));
        }
    }

    #[test]
    fn what_cannot_concern_a_living_ticket_any_more_is_forgotten() {
        let suspects = Suspects::default();
        suspects.hear(&Invalidate::Connection(id(1)), NOW);
        suspects.hear(&Invalidate::Connection(id(2)), NOW);
        suspects.hear(&Invalidate::Principal("ada".into()), NOW);
        suspects.hear(&Invalidate::Connection(id(2)), NOW + 1_000);
        suspects.hear(&Invalidate::Connection(id(3)), NOW + LIFE_MS);
        let heard = suspects.read();
        assert!(heard.principals.is_empty());
        let mut kept: Vec<_> = heard.connections.keys().copied().collect();
        kept.sort();
        assert_eq!(kept, [id(2), id(3)], "the second was heard again");
        // The longest ticket from a clock ahead, at the last moment at which it counts.
        assert_eq!(LIFE_MS, SKEW_MS + TTL_MS_MAX + SKEW_MS);
    }

    #[test]
    fn more_than_can_be_kept_puts_all_in_doubt() {
        let suspects = Suspects { limit: Limit(3), ..Suspects::default() };
        for number in 1..=3 {
            suspects.hear(&Invalidate::Connection(id(number)), NOW);
        }
        assert!(!suspects.doubts(&ticket(9, None, NOW)));
        suspects.hear(&Invalidate::Connection(id(4)), NOW);
        for number in [1, 4, 9] {
            assert!(suspects.doubts(&ticket(number, None, NOW)), "{number}");
        }
        assert!(suspects.read().order.is_empty() && suspects.read().connections.is_empty());
    }
}
