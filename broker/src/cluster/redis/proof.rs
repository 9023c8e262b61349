use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Probes under way that are remembered: more than a link can be deaf for without being built anew.
const PROBES_MAX: usize = 64;

/// When was the link last proven to hear?
///
/// Redis hands on in order: who hears what it said at a certain moment has heard all that was said before it on the same way. So a
/// beat is said on both ways, to all and to this node, and proves from when it was *sent*, once it was heard on both. On a Redis
/// Cluster that may be two servers, of which either may be the slower one.
#[derive(Debug)]
pub(super) struct Proof {
    proven_at: Instant,
    /// Beats sent on the present link and not yet proven.
    under_way: VecDeque<Probe>,
}

#[derive(Debug)]
struct Probe {
    beat: u64,
    sent_at: Instant,
    accepted: bool,
    /// Heard on the way to all, and on the way to this node.
    heard: [bool; 2],
}

/// On which way something was heard.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// What is said to all.
    All,
    /// What is said to this node.
    Direct,
}

impl Proof {
    /// Nothing is proven yet; silence counts from now.
    pub(super) fn new(now: Instant) -> Self {
        Self { proven_at: now, under_way: VecDeque::new() }
    }

    /// A new link owes nothing for probes of an older one.
    pub(super) fn listening_anew(&mut self) {
        self.under_way.clear();
    }

    pub(super) fn sending(&mut self, beat: u64, now: Instant) {
        if self.under_way.len() >= PROBES_MAX {
            self.under_way.pop_front();
        }
        self.under_way.push_back(Probe { beat, sent_at: now, accepted: false, heard: [false; 2] });
    }

    /// Redis took the probe: from now on it must be heard.
    pub(super) fn accepted(&mut self, beat: u64) {
        if let Some(probe) = self.under_way.iter_mut().find(|probe| probe.beat == beat) {
            probe.accepted = true;
        }
    }

    /// A beat was heard on one way: how long it took, if that proves anything.
    pub(super) fn heard(&mut self, way: Way, beat: u64, now: Instant) -> Option<Duration> {
        let place = self.under_way.iter().position(|probe| probe.beat == beat)?;
        let probe = &mut self.under_way[place];
        probe.heard[way as usize] = true;
        if probe.heard != [true; 2] {
            return None;
        }
        let sent_at = self.under_way.drain(..=place).next_back()?.sent_at;
        self.proven_at = sent_at;
        Some(now.saturating_duration_since(sent_at))
    }

    /// Since when nothing is proven.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.proven_at)
    }

    /// For how long something that Redis took has not been heard.
    pub(super) fn deafness(&self, now: Instant) -> Duration {
        let oldest = self.under_way.iter().find(|probe| probe.accepted);
        oldest.map_or(Duration::ZERO, |probe| now.saturating_duration_since(probe.sent_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_beat_proves_what_was_said_before_it_was_sent() {
        let start = Instant::now();
        let mut proof = Proof::new(start);
        proof.sending(1, start + SECOND);
        proof.sending(2, start + SECOND * 2);
        assert_eq!(proof.heard(Way::All, 1, start + SECOND * 4), None);
        assert_eq!(proof.heard(Way::Direct, 1, start + SECOND * 4), Some(SECOND * 3));
        assert_eq!(proof.silence(start + SECOND * 4), SECOND * 3);
        assert_eq!(proof.heard(Way::Direct, 2, start + SECOND * 4), None, "its broadcast was not heard");
        assert_eq!(proof.heard(Way::Direct, 2, start + SECOND * 4), None, "nor by hearing the other twice");
        for way in [Way::All, Way::Direct] {
            assert_eq!(proof.heard(way, 9, start + SECOND * 4), None, "it was never sent");
        }
    }

    /// Of two servers of a Redis Cluster the one that carries what is said to all may be farther away.
    #[tokio::test]
    async fn a_beat_counts_whichever_way_is_the_slower() {
        let start = Instant::now();
        let mut proof = Proof::new(start);
        for beat in 1..=10 {
            let sent = start + SECOND * beat;
            proof.sending(beat.into(), sent);
            proof.accepted(beat.into());
            assert_eq!(proof.heard(Way::Direct, beat.into(), sent), None);
            assert_eq!(proof.heard(Way::All, beat.into(), sent + SECOND / 2), Some(SECOND / 2));
        }
        assert_eq!(proof.deafness(start + SECOND * 20), Duration::ZERO);
    }

    #[tokio::test]
    async fn deaf_is_who_does_not_hear_what_redis_took() {
        let start = Instant::now();
        let mut proof = Proof::new(start);
        proof.sending(1, start);
        assert_eq!(proof.deafness(start + SECOND * 9), Duration::ZERO, "it never left");
        proof.sending(2, start + SECOND);
        proof.accepted(2);
        assert_eq!(proof.deafness(start + SECOND * 3), SECOND * 2);
        for way in [Way::All, Way::Direct] {
            proof.heard(way, 2, start + SECOND * 3);
        }
        assert_eq!(proof.deafness(start + SECOND * 9), Duration::ZERO);
        proof.sending(3, start + SECOND * 4);
        proof.accepted(3);
        proof.listening_anew();
        assert_eq!(proof.deafness(start + SECOND * 9), Duration::ZERO);
        for beat in 0..1_000 {
            proof.sending(beat, start);
        }
        assert_eq!(proof.under_way.len(), PROBES_MAX);
    }
}
