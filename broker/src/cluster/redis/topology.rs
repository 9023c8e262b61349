//! Which server of a Redis Cluster carries what, followed as it changes.

use std::sync::Arc;
use std::time::Duration;

use countersign_node_proto::{Decoded, Message, Topic, decode};
use tokio::time::{Instant, MissedTickBehavior};

use super::Shared;
use super::proof::Way;
use super::shards::Shard;
use crate::backoff::Backoff;
use crate::link::{CommandLink, Place, SlotMap, Task, keep};
use crate::telemetry::{ProbeOutcome, RedisLinkLabel};

/// Between two looks at the slots while nothing is in doubt.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// The same while a server cannot be heard: another one may take over.
const LOOK_INTERVAL_IN_DOUBT: Duration = Duration::from_millis(500);
/// Shortest and longest pause between two looks, whatever is in doubt: doubts go on while a server is away.
const LOOK_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

impl Shared {
    /// Asks which server has which slot, again and again, and whenever that is in doubt.
    pub(super) async fn follow_slots(self: Arc<Self>) {
        let (mut told, mut backoff) = (false, Backoff::new(LOOK_PAUSES.0, LOOK_PAUSES.1));
        loop {
            match self.link.target().slots().await {
                Ok(map) => {
                    told = false;
                    if self.take_map(map) {
                        backoff.reset();
                    }
                }
                // Once per outage: the attempts go on for as long as it lasts.
                Err(error) if !std::mem::replace(&mut told, true) => {
                    tracing::warn!(redis = self.link.target().address(), %error, "slots of the redis cluster are not known");
                }
                Err(_) => {}
            }
            let all_live = *self.all_live.borrow();
            let interval = if all_live { LOOK_INTERVAL } else { LOOK_INTERVAL_IN_DOUBT };
            // Doubts that come at once are one.
            tokio::time::sleep(backoff.pause()).await;
            let in_doubt = tokio::time::timeout(interval, self.shards.doubt.notified()).await.is_ok();
            if !in_doubt && all_live {
                backoff.reset();
            }
        }
    }

    /// Gives every topic to the server that has its slot. False: nothing changes.
    fn take_map(self: &Arc<Self>, map: SlotMap) -> bool {
        let masters = map.masters().collect::<std::collections::HashSet<_>>().len();
        let Some(given_up) = self.shards.follow(map, self.node, |place| self.make_shard(place)) else { return false };
        tracing::info!(redis = self.link.target().address(), masters, "slots of the redis cluster changed");
        for shard in given_up {
            // Its tasks have ended; what still waits in it is refused when the last of them lets go of it.
            shard.with_wanted(&self.metrics, |wanted| wanted.want_only(|_| false));
            shard.with_wanted(&self.metrics, |wanted| wanted.listening_anew());
        }
        let topics: Vec<Topic> = self.topics().iter().cloned().collect();
        for shard in self.shards.all() {
            let echo = shard.echo();
            let carries = |topic: &Topic| echo.as_ref() == Some(topic) || self.is_of(topic, &shard);
            let come: Vec<_> = topics.iter().filter(|topic| carries(topic)).chain(&echo).collect();
            shard.with_wanted(&self.metrics, |wanted| {
                wanted.want_only(carries);
                come.into_iter().for_each(|topic| wanted.want(topic));
            });
            shard.wanted_changed.notify_one();
        }
        // What was unwanted between the two looks at the topics must not come back.
        let stale: Vec<_> = topics.into_iter().filter(|topic| !self.topics().contains(topic)).collect();
        stale.iter().for_each(|topic| self.unwant(topic));
        self.note_live();
        true
    }

    fn is_of(&self, topic: &Topic, shard: &Arc<Shard>) -> bool {
        self.shards.of(topic).is_some_and(|owner| Arc::ptr_eq(&owner, shard))
    }

    fn make_shard(self: &Arc<Self>, place: &Place) -> (Arc<Shard>, Vec<Task>) {
        let target = self.link.target().at(place);
        let commands = CommandLink::start_as(RedisLinkLabel::Shards, target, Arc::clone(&self.metrics));
        let shard = Shard::new(Some(place.clone()), commands);
        let (shared, echoing) = (Arc::clone(self), Arc::clone(&shard));
        let echo = keep("bus echo", move || Arc::clone(&shared).echo(Arc::clone(&echoing)));
        let tasks = vec![self.speaking(&shard), self.subscribing(&shard), echo];
        (shard, tasks)
    }

    /// Says at every interval something that this node must hear from this server.
    async fn echo(self: Arc<Self>, shard: Arc<Shard>) {
        let mut ticks = tokio::time::interval(self.heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut live = shard.live.subscribe();
        // Numbers must differ from those of a task before this one that panicked.
        let mut beat = u64::from(getrandom::u32().unwrap_or_default()) << 32;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = live.changed() => {}
            }
            let Some(topic) = shard.echo() else { continue };
            beat += 1;
            if *live.borrow_and_update() {
                shard.proof().sending(beat, Instant::now());
            }
            if self.say(topic, &Message::Probe { beat }).await.is_ok() {
                shard.proof().accepted(beat);
            }
            let deafness = shard.proof().deafness(Instant::now());
            if deafness > self.deaf_after {
                self.metrics.bus_probes.of(ProbeOutcome::Deaf).inc();
                shard.proof().listening_anew();
                // Nobody follows the link at the moment: then it is being built anew already.
                let _ = shard.deaf.send(());
                self.shards.doubt.notify_one();
            }
        }
    }

    pub(super) fn hear_echo(&self, topic: &Topic, bytes: &[u8]) {
        let Ok(Decoded::Message(envelope, Message::Probe { beat })) = decode(bytes) else { return };
        let echoing = self.shards.all().into_iter().find(|shard| shard.echo().as_ref() == Some(topic));
        if let (Some(shard), true) = (echoing, envelope.from == self.node) {
            // An echo has one way only.
            let (mut proof, now) = (shard.proof(), Instant::now());
            let _ = proof.heard(Way::All, beat, now);
            let _ = proof.heard(Way::Direct, beat, now);
        }
    }
}
