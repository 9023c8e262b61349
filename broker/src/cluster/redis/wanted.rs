use std::collections::HashSet;

use countersign_node_proto::Topic;

/// What this node wants to hear from one server, and what that server said it will tell.
///
/// Callers change what is wanted at any time and never wait; one task makes Redis follow. What is confirmed is known from
/// what Redis pushes: a server of a Redis Cluster that loses a slot takes its channels back unasked.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    wanted: HashSet<Topic>,
    confirmed: HashSet<Topic>,
    /// Where the two may differ.
    changed: HashSet<Topic>,
    /// Confirmed ones that clients subscribed to.
    channels: usize,
}

/// What Redis must be asked for next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) subscribe: Vec<Topic>,
    pub(super) unsubscribe: Vec<Topic>,
}

impl Wanted {
    pub(super) fn want(&mut self, topic: &Topic) {
        if self.wanted.insert(topic.clone()) {
            self.changed.insert(topic.clone());
        }
    }

    pub(super) fn unwant(&mut self, topic: &Topic) {
        if self.wanted.remove(topic) {
            self.changed.insert(topic.clone());
        }
    }

    /// Other topics are another server's now.
    pub(super) fn want_only(&mut self, stays: impl Fn(&Topic) -> bool) {
        let gone: Vec<Topic> = self.wanted.iter().filter(|topic| !stays(topic)).cloned().collect();
        gone.iter().for_each(|topic| self.unwant(topic));
    }

    /// The link is new: nothing is confirmed.
    pub(super) fn listening_anew(&mut self) {
        self.confirmed.clear();
        self.channels = 0;
        self.changed = self.wanted.clone();
    }

    /// The next step, of at most `limit` topics each way. It counts as open until it is [`Wanted::settle`]d; what is changed
    /// meanwhile makes a further one.
    pub(super) fn next(&mut self, limit: usize) -> Step {
        let mut step = Step::default();
        let mut settled = Vec::new();
        for topic in &self.changed {
            match (self.wanted.contains(topic), self.confirmed.contains(topic)) {
                (true, false) => step.subscribe.push(topic.clone()),
                (false, true) => step.unsubscribe.push(topic.clone()),
                _ => settled.push(topic.clone()),
            }
            if step.subscribe.len().max(step.unsubscribe.len()) >= limit {
                break;
            }
        }
        for topic in settled.iter().chain(&step.subscribe).chain(&step.unsubscribe) {
            self.changed.remove(topic);
        }
        step
    }

    /// Redis said whether it tells this topic from now on. True: that is not what is wanted.
    pub(super) fn confirm(&mut self, topic: Topic, tells: bool) -> bool {
        let changes = if tells { self.confirmed.insert(topic.clone()) } else { self.confirmed.remove(&topic) };
        if changes && matches!(topic, Topic::Channel(_)) {
            self.channels = if tells { self.channels + 1 } else { self.channels - 1 };
        }
        let amiss = self.wanted.contains(&topic) != tells;
        if amiss {
            self.changed.insert(topic);
        }
        amiss
    }

    /// A step was asked for: what was not confirmed is open again.
    pub(super) fn settle(&mut self, step: Step) {
        for topic in step.subscribe.into_iter().chain(step.unsubscribe) {
            if self.wanted.contains(&topic) != self.confirmed.contains(&topic) {
                self.changed.insert(topic);
            }
        }
    }

    pub(super) fn is_confirmed(&self, topic: &Topic) -> bool {
        self.confirmed.contains(topic)
    }

    /// Channels of clients that are heard.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }
}

impl Step {
    pub(super) fn is_empty(&self) -> bool {
        self.subscribe.is_empty() && self.unsubscribe.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use countersign_node_proto::ChannelName;
    use proptest::prelude::*;

    use super::*;

    fn channel(number: u8) -> Topic {
        Topic::Channel(ChannelName::new(&format!("c{number}")).unwrap())
    }

    /// A Redis that confirms each step or not, takes back what it likes, and now and then is lost.
    fn ends_right(acts: &[(u8, u8, bool)]) {
        let (mut wanted, mut redis, mut truth) = (Wanted::default(), HashSet::<Topic>::new(), HashSet::<Topic>::new());
        let settle = |wanted: &mut Wanted, redis: &mut HashSet<Topic>, answers: bool| {
            let step = wanted.next(2);
            if answers {
                for (topics, tells) in [(&step.subscribe, true), (&step.unsubscribe, false)] {
                    for topic in topics {
                        assert!(if tells { redis.insert(topic.clone()) } else { redis.remove(topic) });
                        wanted.confirm(topic.clone(), tells);
                    }
                }
            }
            let more = !step.is_empty();
            wanted.settle(step);
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
                3 if redis.remove(&channel(*number)) => {
                    assert_eq!(wanted.confirm(channel(*number), false), truth.contains(&channel(*number)));
                }
                4 => {
                    wanted.want_only(|topic| *topic != channel(*number));
                    truth.remove(&channel(*number));
                }
                _ => {
                    settle(&mut wanted, &mut redis, *answers);
                }
            }
        }
        while settle(&mut wanted, &mut redis, true) {}
        assert_eq!(redis, truth);
        assert_eq!(wanted.confirmed, truth);
        assert_eq!(wanted.channels, truth.len());
        assert!(wanted.changed.is_empty());
    }

    proptest! {
        #[test]
        fn whatever_happens_redis_follows_what_is_wanted(acts in prop::collection::vec((0..7_u8, 0..6_u8, any::<bool>()), 0..60)) {
            ends_right(&acts);
        }
    }
}
