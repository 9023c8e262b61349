use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Probes under way that are remembered: more than a link can be deaf for without being built anew.
const PROBES_MAX: usize = 64;

/// When was the link last proven to hear?
///
/// Redis hands on in order: who hears the probe of a certain moment has heard all that was said before it. So a proof counts
/// from when its probe was *sent*, and only if the broadcast that was sent just before it was heard as well.
#[derive(Debug)]
pub(super) struct Proof {
    proven_at: Instant,
    /// Beats sent on the present link and not yet heard.
    under_way: VecDeque<Probe>,
    heartbeat_heard: u64,
}

#[derive(Debug)]
struct Probe {
    beat: u64,
    sent_at: Instant,
    accepted: bool,
}

impl Proof {
    /// Nothing is proven yet; silence counts from now.
    pub(super) fn new(now: Instant) -> Self {
        Self { proven_at: now, under_way: VecDeque::new(), heartbeat_heard: 0 }
    }

    /// A new link owes nothing for probes of an older one.
    pub(super) fn listening_anew(&mut self) {
        self.under_way.clear();
    }

    pub(super) fn sending(&mut self, beat: u64, now: Instant) {
        if self.under_way.len() >= PROBES_MAX {
            self.under_way.pop_front();
        }
        self.under_way.push_back(Probe { beat, sent_at: now, accepted: false });
    }

    /// Redis took the probe: from now on it must be heard.
    pub(super) fn accepted(&mut self, beat: u64) {
        if let Some(probe) = self.under_way.iter_mut().find(|probe| probe.beat == beat) {
            probe.accepted = true;
        }
    }

    pub(super) fn heartbeat(&mut self, beat: u64) {
        self.heartbeat_heard = beat;
    }

    /// The probe was heard: how long it took, if it proves anything.
    pub(super) fn probe(&mut self, beat: u64, now: Instant) -> Option<Duration> {
        let place = self.under_way.iter().position(|probe| probe.beat == beat)?;
        if self.heartbeat_heard != beat {
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
    async fn a_probe_proves_what_was_said_before_it_was_sent() {
        let start = Instant::now();
        let mut proof = Proof::new(start);
        proof.sending(1, start + SECOND);
        proof.sending(2, start + SECOND * 2);
        proof.heartbeat(1);
        assert_eq!(proof.probe(1, start + SECOND * 4), Some(SECOND * 3));
        assert_eq!(proof.silence(start + SECOND * 4), SECOND * 3);
        assert_eq!(proof.probe(2, start + SECOND * 4), None, "its broadcast was not heard");
        assert_eq!(proof.probe(9, start + SECOND * 4), None, "it was never sent");
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
        proof.heartbeat(2);
        proof.probe(2, start + SECOND * 3);
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
