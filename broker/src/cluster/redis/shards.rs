use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign_node_proto::{Layout, NodeId, Topic, slot_of};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;

use super::proof::Proof;
use super::speaker::SpeechQueue;
use super::wanted::Wanted;
use crate::cluster::BusUnavailable;
use crate::link::{CommandLink, Place, SlotMap, Task};
use crate::telemetry::Metrics;

/// Names that are tried for one that a certain server keeps; with so many, one that has a single slot has most likely one.
const ECHO_NAMES: u16 = u16::MAX;

/// One server that carries messages: what is said to it and heard from it. Without a Redis Cluster there is only one.
pub(super) struct Shard {
    /// Where it is; none if it is the only one, which the link finds by itself.
    pub(super) place: Option<Place>,
    pub(super) commands: CommandLink,
    pub(super) speech: SpeechQueue,
    wanted: Mutex<Wanted>,
    pub(super) wanted_changed: Notify,
    /// The subscription link is up.
    pub(super) live: watch::Sender<bool>,
    /// Rings when the present subscription link turns out to be deaf.
    pub(super) deaf: broadcast::Sender<()>,
    /// What this node says to itself by way of this server of a Redis Cluster, and whether it hears that.
    echo: Mutex<Option<Topic>>,
    proof: Mutex<Proof>,
}

/// The servers that carry messages, and which of them carries what.
pub(super) struct Shards {
    layout: Layout,
    state: Mutex<State>,
    /// It is time to ask which server has which slot.
    pub(super) doubt: Notify,
}

struct State {
    /// Carries everything, where there is no Redis Cluster.
    only: Option<Arc<Shard>>,
    map: SlotMap,
    /// With the tasks that serve it, which end with the entry.
    shards: HashMap<Place, (Arc<Shard>, Vec<Task>)>,
    /// Slots of which something is on its way out: how much, and by which server. What follows goes the same way, also when
    /// another server has the slot by now, so that it cannot overtake.
    lanes: HashMap<u16, (Place, usize)>,
    closed: bool,
}

/// Something on its way out; see [`State::lanes`].
pub(super) struct Lane {
    shards: Arc<Shards>,
    slot: u16,
}

impl Shard {
    pub(super) fn new(place: Option<Place>, commands: CommandLink) -> Arc<Self> {
        Arc::new(Self {
            place,
            commands,
            speech: SpeechQueue::new(),
            wanted: Mutex::default(),
            wanted_changed: Notify::new(),
            live: watch::Sender::new(false),
            deaf: broadcast::Sender::new(1),
            echo: Mutex::default(),
            proof: Mutex::new(Proof::new(Instant::now())),
        })
    }

    /// Where it is, for people.
    pub(super) fn address(&self) -> &str {
        self.commands.target().address()
    }

    /// Looks at what is wanted, or changes it, and counts what is heard.
    pub(super) fn with_wanted<T>(&self, metrics: &Metrics, act: impl FnOnce(&mut Wanted) -> T) -> T {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let before = wanted.channels();
        let value = act(&mut wanted);
        let count = |channels: usize| i64::try_from(channels).unwrap_or(i64::MAX);
        metrics.bus_channels.add(count(wanted.channels()) - count(before));
        value
    }

    pub(super) fn proof(&self) -> MutexGuard<'_, Proof> {
        self.proof.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn echo(&self) -> Option<Topic> {
        self.echo.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_echo(&self, echo: Option<Topic>) {
        *self.echo.lock().unwrap_or_else(PoisonError::into_inner) = echo;
        self.proof().listening_anew();
    }

    pub(super) fn is_live(&self) -> bool {
        *self.live.borrow()
    }
}

impl Shards {
    /// One server carries everything.
    pub(super) fn one(layout: Layout, commands: CommandLink) -> Arc<Self> {
        Self::with(layout, Some(Shard::new(None, commands)))
    }

    /// Those of a Redis Cluster; none is known yet.
    pub(super) fn many(layout: Layout) -> Arc<Self> {
        Self::with(layout, None)
    }

    fn with(layout: Layout, only: Option<Arc<Shard>>) -> Arc<Self> {
        let (map, shards, lanes) = (SlotMap::default(), HashMap::new(), HashMap::new());
        let state = Mutex::new(State { only, map, shards, lanes, closed: false });
        Arc::new(Self { layout, state, doubt: Notify::new() })
    }

    /// Is it a Redis Cluster?
    pub(super) fn are_many(&self) -> bool {
        self.state().only.is_none()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Shard>> {
        let state = self.state();
        state.only.iter().chain(state.shards.values().map(|(shard, _)| shard)).cloned().collect()
    }

    /// The server that carries a topic; none if nobody has its slot, or that is not known yet.
    pub(super) fn of(&self, topic: &Topic) -> Option<Arc<Shard>> {
        let state = self.state();
        state.only.clone().or_else(|| Some(state.shard(state.map.master_of(self.slot(topic))?)?.clone()))
    }

    /// The server at a place.
    pub(super) fn at(&self, place: &Place) -> Option<Arc<Shard>> {
        self.state().shard(place).cloned()
    }

    /// The server to which something about this topic must be said now, and a place in its row.
    pub(super) fn enter(self: &Arc<Self>, topic: &Topic) -> Result<(Arc<Shard>, Option<Lane>), BusUnavailable> {
        let mut state = self.state();
        if let Some(only) = &state.only {
            return Ok((Arc::clone(only), None));
        }
        let slot = self.slot(topic);
        let nobody = || BusUnavailable("no server of the redis cluster is known to have the slot".to_owned());
        let (kept, waiting) = state.lanes.get(&slot).map_or((None, 0), |(place, count)| (Some(place.clone()), *count));
        let kept = kept.filter(|place| state.shards.contains_key(place));
        let place = kept.or_else(|| state.map.master_of(slot).cloned()).ok_or_else(nobody)?;
        let shard = state.shard(&place).cloned().ok_or_else(nobody)?;
        state.lanes.insert(slot, (place, waiting + 1));
        drop(state);
        Ok((shard, Some(Lane { shards: Arc::clone(self), slot })))
    }

    /// Takes a new map: makes what is missing by `make`, and gives up what is no master any more. What was given up; none if
    /// nothing changes.
    pub(super) fn follow(
        &self,
        map: SlotMap,
        node: NodeId,
        make: impl Fn(&Place) -> (Arc<Shard>, Vec<Task>),
    ) -> Option<Vec<Arc<Shard>>> {
        let mut state = self.state();
        if state.closed || state.map == map {
            return None;
        }
        let gone: Vec<Place> =
            state.shards.keys().filter(|place| !map.masters().any(|master| master == *place)).cloned().collect();
        let given_up = gone.iter().filter_map(|place| state.shards.remove(place)).map(|(shard, _)| shard).collect();
        for place in map.masters() {
            let (shard, _) = state.shards.entry(place.clone()).or_insert_with(|| make(place));
            // The slot of its echo may be another server's now.
            if shard.echo().is_none_or(|echo| map.master_of(self.slot(&echo)) != Some(place)) {
                shard.set_echo(self.echo(&map, place, node));
            }
        }
        state.map = map;
        Some(given_up)
    }

    /// A topic that this server carries, for this node alone.
    fn echo(&self, map: &SlotMap, place: &Place, node: NodeId) -> Option<Topic> {
        (0..ECHO_NAMES).map(|number| Topic::Echo(node, number)).find(|echo| map.master_of(self.slot(echo)) == Some(place))
    }

    /// Ends all tasks, for good.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let ended = std::mem::take(&mut state.shards);
        drop(state);
        drop(ended);
    }

    fn slot(&self, topic: &Topic) -> u16 {
        slot_of(self.layout.topic(topic).as_bytes())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn shard(&self, place: &Place) -> Option<&Arc<Shard>> {
        self.shards.get(place).map(|(shard, _)| shard)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut state = self.shards.state();
        if let Some((_, waiting)) = state.lanes.get_mut(&self.slot) {
            *waiting -= 1;
            if *waiting == 0 {
                state.lanes.remove(&self.slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign_node_proto::{ChannelName, SLOTS};

    use super::*;
    use crate::link::RedisTarget;
    use crate::link::testing::settings;

    fn place(port: u16) -> Place {
        Place::new("127.0.0.1", port)
    }

    /// A map with one slot at one server and the others at another.
    fn map(slot: u16, has: u16, rest: u16) -> SlotMap {
        SlotMap::of(&[(0, slot - 1, place(rest)), (slot, slot, place(has)), (slot + 1, SLOTS - 1, place(rest))])
    }

    fn follow(shards: &Shards, map: SlotMap) -> Option<usize> {
        let make = |place: &Place| {
            // Nobody is there; nothing is said.
            let target = RedisTarget::new(&settings(([127, 0, 0, 1], 1).into())).unwrap();
            (Shard::new(Some(place.clone()), CommandLink::start(target, Arc::new(Metrics::new()))), Vec::new())
        };
        shards.follow(map, NodeId::from_bytes([1; 8]), make).map(|given_up| given_up.len())
    }

    #[tokio::test]
    async fn what_follows_goes_the_way_of_what_is_still_on_it() {
        let layout = Layout::new("test").unwrap();
        let topic = Topic::Channel(ChannelName::new("room").unwrap());
        let slot = slot_of(layout.topic(&topic).as_bytes());
        let shards = Shards::many(layout);
        assert!(shards.enter(&topic).is_err(), "nobody is known yet");
        assert_eq!(follow(&shards, map(slot, 1, 2)), Some(0));
        let enter = || {
            let (shard, lane) = shards.enter(&topic).unwrap();
            (shard.place.clone().unwrap().port, lane)
        };
        let (first, second) = (enter(), enter());
        assert_eq!((first.0, second.0), (1, 1));
        // The slot goes to the other server, and the first gets another one, so that it stays.
        assert_eq!(follow(&shards, map(slot + 1, 1, 2)), Some(0));
        drop(first);
        let third = enter();
        assert_eq!(third.0, 1, "the second one is still on its way");
        drop((second, third));
        assert_eq!(enter().0, 2);
        let held = enter();
        assert_eq!(follow(&shards, SlotMap::of(&[(0, SLOTS - 1, place(3))])), Some(2), "both are no masters any more");
        assert_eq!(enter().0, 3, "nobody goes a way that is gone");
        drop(held);
    }

    #[tokio::test]
    async fn every_server_has_an_echo_of_its_own_and_one_that_stays_keeps_its_link() {
        let shards = Shards::many(Layout::new("test").unwrap());
        assert_eq!(follow(&shards, map(5_000, 1, 2)), Some(0));
        let at = |port| shards.at(&place(port)).unwrap();
        let (one, two) = (at(1), at(2));
        let slot = |shard: &Shard| shards.slot(&shard.echo().unwrap());
        assert_eq!(slot(&one), 5_000);
        assert_ne!(slot(&two), 5_000);
        assert_eq!(follow(&shards, map(5_000, 1, 2)), None, "nothing changes");
        assert_eq!(follow(&shards, map(6_000, 1, 2)), Some(0));
        assert!(Arc::ptr_eq(&one, &at(1)));
        assert_eq!(slot(&one), 6_000);
        shards.close();
        assert_eq!(follow(&shards, map(7_000, 1, 2)), None, "it is closed");
    }
}
