use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use actix::Recipient;
use arc_swap::ArcSwapOption;
use countersign_node_proto::{ChannelName, Payload, Publication};

use super::shard::{Deliver, Shard};
use super::table::Envelope;
use crate::cluster::Bus;
use crate::telemetry::{LimitHit, Metrics};

/// Independent locks over the channels. A power of two.
const STRIPES: usize = 16;
/// What a publication on its way costs beside its payload.
const ENVELOPE_BYTES: usize = 256;

/// A worker thread is behind by more than `hub_queue_max_bytes`: the publication was refused, and nobody got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many publications are queued")]
pub struct HubOverloaded;

/// Which worker threads of this node have subscribers of a channel.
///
/// Lock order: a stripe, then whatever lock the bus has. The bus is told of a channel's first and last local subscriber
/// under the stripe's lock, so that it hears of both in the order in which they were true.
pub struct Hub {
    stripes: Box<[Stripe]>,
    hasher: RandomState,
    bus: Arc<dyn Bus>,
    queued_bytes_max: usize,
    metrics: Arc<Metrics>,
}

/// Channels of one stripe, each with the shards that have subscribers.
type Stripe = RwLock<HashMap<ChannelName, Vec<Arc<Slot>>>>;

/// A shard as other threads see it.
pub(super) struct Slot {
    /// Of the running actor; another one after a restart.
    pub(super) address: ArcSwapOption<Recipient<Deliver>>,
    /// Reserved before a publication is sent, released when it was delivered or dropped. The mailbox itself has no bound.
    queued_bytes: AtomicUsize,
}

/// Room for one publication in one shard's queue.
pub(super) struct Reservation {
    slot: Arc<Slot>,
    bytes: usize,
    metrics: Arc<Metrics>,
    state: ReservationState,
}

#[derive(PartialEq, Eq)]
enum ReservationState {
    Held,
    Sent,
    Delivered,
}

impl Hub {
    /// A hub without shards. `queued_bytes_max` bounds what is on its way to each of them.
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, queued_bytes_max: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let stripes = (0..STRIPES).map(|_| Stripe::default()).collect();
        Arc::new(Self { stripes, hasher: RandomState::new(), bus, queued_bytes_max, metrics })
    }

    /// Makes the shard of the calling thread: once per thread. Start its actor with [`Shard::actor`], under a supervisor.
    #[must_use]
    pub fn attach(self: &Arc<Self>) -> Shard {
        let slot = Slot { address: ArcSwapOption::empty(), queued_bytes: AtomicUsize::new(0) };
        Shard::new(self.clone(), Arc::new(slot))
    }

    /// To all local subscribers: one message to each thread that has any. Returns how many threads there were.
    ///
    /// # Errors
    /// [`HubOverloaded`] if one of them is too far behind; may be repeated later.
    pub fn publish_local(&self, publication: Publication) -> Result<usize, HubOverloaded> {
        let stripe = self.stripe(&publication.channel).read().unwrap_or_else(PoisonError::into_inner);
        let Some(slots) = stripe.get(&publication.channel) else { return Ok(0) };
        let bytes = ENVELOPE_BYTES + payload_len(&publication.payload);
        let reserved: Option<Vec<Reservation>> = slots.iter().map(|slot| self.reserve(slot, bytes)).collect();
        let Some(reserved) = reserved else {
            self.metrics.limits.of(LimitHit::HubQueue).inc();
            return Err(HubOverloaded);
        };
        let envelope = Arc::new(Envelope::new(publication));
        reserved.into_iter().for_each(|reservation| reservation.send(&envelope));
        Ok(slots.len())
    }

    /// A shard got its first subscriber of a channel.
    pub(super) fn join(&self, channel: &ChannelName, slot: &Arc<Slot>) {
        let mut stripe = self.stripe(channel).write().unwrap_or_else(PoisonError::into_inner);
        let slots = stripe.entry(channel.clone()).or_default();
        if slots.is_empty() {
            self.bus.subscribe(channel);
        }
        slots.push(slot.clone());
    }

    /// A shard lost its last subscriber of a channel.
    pub(super) fn leave(&self, channel: &ChannelName, slot: &Arc<Slot>) {
        let mut stripe = self.stripe(channel).write().unwrap_or_else(PoisonError::into_inner);
        let Some(slots) = stripe.get_mut(channel) else { return };
        slots.retain(|other| !Arc::ptr_eq(other, slot));
        if slots.is_empty() {
            stripe.remove(channel);
            self.bus.unsubscribe(channel);
        }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn reserve(&self, slot: &Arc<Slot>, bytes: usize) -> Option<Reservation> {
        let add = |queued: usize| queued.checked_add(bytes).filter(|sum| *sum <= self.queued_bytes_max);
        slot.queued_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Reservation { slot: slot.clone(), bytes, metrics: self.metrics.clone(), state: ReservationState::Held })
    }

    fn stripe(&self, channel: &ChannelName) -> &Stripe {
        let place = usize::try_from(self.hasher.hash_one(channel) % STRIPES as u64).unwrap_or(0);
        &self.stripes[place]
    }
}

impl Slot {
    /// Bytes on their way to the shard.
    #[cfg(test)]
    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }
}

impl Reservation {
    /// Sends a publication into the room that was reserved.
    fn send(mut self, envelope: &Arc<Envelope>) {
        self.state = ReservationState::Sent;
        let Some(address) = self.slot.address.load_full() else { return };
        // Not `try_send`: the mailbox counts messages per sender, the reservation counts bytes, and it was granted.
        address.do_send(Deliver::new(envelope.clone(), self));
    }

    /// The publication reached its subscribers.
    pub(super) fn delivered(mut self) {
        self.state = ReservationState::Delivered;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.slot.queued_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.state == ReservationState::Sent {
            self.metrics.hub_deliveries_lost.inc();
        }
    }
}

fn payload_len(payload: &Payload) -> usize {
    match payload {
        Payload::Text(text) => text.len(),
        Payload::Binary(bytes) => bytes.len(),
    }
}
