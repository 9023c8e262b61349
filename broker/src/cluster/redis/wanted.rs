use std::collections::HashSet;

use countersign_node_proto::ChannelName;

/// Channels that this node wants to hear, and those that Redis confirmed.
///
/// Callers change what is wanted at any time and never wait; one task makes Redis follow.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    wanted: HashSet<ChannelName>,
    confirmed: HashSet<ChannelName>,
    /// Where the two may differ.
    changed: HashSet<ChannelName>,
}

/// What Redis must be asked for next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) subscribe: Vec<ChannelName>,
    pub(super) unsubscribe: Vec<ChannelName>,
}

impl Wanted {
    pub(super) fn want(&mut self, channel: &ChannelName) {
        if self.wanted.insert(channel.clone()) {
            self.changed.insert(channel.clone());
        }
    }

    pub(super) fn unwant(&mut self, channel: &ChannelName) {
        if self.wanted.remove(channel) {
            self.changed.insert(channel.clone());
        }
    }

    /// The link is new: nothing is confirmed.
    pub(super) fn listening_anew(&mut self) {
        self.confirmed.clear();
        self.changed = self.wanted.clone();
    }

    /// The next step, of at most `limit` channels each way. It counts as open until it is [`Wanted::done`]; what is changed
    /// meanwhile makes a further one.
    pub(super) fn next(&mut self, limit: usize) -> Step {
        let mut step = Step::default();
        let mut settled = Vec::new();
        for channel in &self.changed {
            match (self.wanted.contains(channel), self.confirmed.contains(channel)) {
                (true, false) => step.subscribe.push(channel.clone()),
                (false, true) => step.unsubscribe.push(channel.clone()),
                _ => settled.push(channel.clone()),
            }
            if step.subscribe.len().max(step.unsubscribe.len()) >= limit {
                break;
            }
        }
        for channel in settled.iter().chain(&step.subscribe).chain(&step.unsubscribe) {
            self.changed.remove(channel);
        }
        step
    }

    /// Redis confirmed a step, or did not: then it is open again.
    pub(super) fn done(&mut self, step: Step, confirmed: bool) {
        for channel in step.subscribe.into_iter().chain(step.unsubscribe) {
            if !confirmed {
                self.changed.insert(channel);
                continue;
            }
            if !self.confirmed.remove(&channel) {
                self.confirmed.insert(channel);
            }
        }
    }

    pub(super) fn is_confirmed(&self, channel: &ChannelName) -> bool {
        self.confirmed.contains(channel)
    }

    pub(super) fn confirmed(&self) -> usize {
        self.confirmed.len()
    }
}

impl Step {
    pub(super) fn is_empty(&self) -> bool {
        self.subscribe.is_empty() && self.unsubscribe.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn channel(number: u8) -> ChannelName {
        ChannelName::new(&format!("c{number}")).unwrap()
    }

    /// A Redis that confirms each step or not, and now and then is lost.
    fn ends_right(acts: &[(u8, u8, bool)]) {
        let (mut wanted, mut redis, mut truth) = (Wanted::default(), HashSet::new(), HashSet::new());
        let settle = |wanted: &mut Wanted, redis: &mut HashSet<ChannelName>, answers: bool| {
            let step = wanted.next(2);
            if answers {
                redis.extend(step.subscribe.iter().cloned());
                step.unsubscribe.iter().for_each(|channel| assert!(redis.remove(channel)));
            }
            let more = !step.is_empty();
            wanted.done(step, answers);
            more
        };
        for (act, number, answers) in acts {
            match act {
                0 => {
                    wanted.want(&channel(*number));
                    truth.insert(channel(*number));
                }
                1 => {
                    wanted.unwant(&channel(*number));
                    truth.remove(&channel(*number));
                }
                2 => {
                    wanted.listening_anew();
                    redis.clear();
                }
                _ => {
                    settle(&mut wanted, &mut redis, *answers);
                }
            }
        }
        while settle(&mut wanted, &mut redis, true) {}
        assert_eq!(redis, truth);
        assert_eq!(wanted.confirmed, truth);
        assert!(wanted.changed.is_empty());
    }

    proptest! {
        #[test]
        fn whatever_happens_redis_follows_what_is_wanted(acts in prop::collection::vec((0..5_u8, 0..6_u8, any::<bool>()), 0..60)) {
            ends_right(&acts);
        }
    }
}
