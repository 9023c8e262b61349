use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use actix::fut::wrap_future;
use actix::{Actor, Addr, AsyncContext as _, Context, Handler, Message};
use countersign_node_proto::{ChannelName, ConnectionId};

use super::fanout::{Hub, Reservation, Slot};
use super::outbox::Outbox;
use super::table::{AlreadySubscribed, Envelope, NotSubscribed, Table};

/// The subscriptions of one worker thread: a cheap handle for the connections of that thread.
///
/// When the last handle is dropped the thread takes no more part. The subscriptions outlive the actor that delivers to
/// them, so a restart of the actor loses only what was in its mailbox.
#[derive(Clone)]
pub struct Shard {
    inner: Rc<Inner>,
}

struct Inner {
    hub: Arc<Hub>,
    slot: Arc<Slot>,
    // Borrowed for the length of one call; an outbox never calls back.
    table: Rc<RefCell<Table>>,
    unflushed: Unflushed,
}

/// Outboxes with something to write, each once.
type Unflushed = Rc<RefCell<VecDeque<Rc<Outbox>>>>;

/// Bytes written to a socket at once.
const SLICE_MAX: usize = 8 * 1024;
/// Sockets written before the thread's other tasks get their turn: some 400 microseconds.
const FLUSH_TURN: usize = 64;

impl Shard {
    pub(super) fn new(hub: Arc<Hub>, slot: Arc<Slot>) -> Self {
        Self { inner: Rc::new(Inner { hub, slot, table: Rc::default(), unflushed: Rc::default() }) }
    }

    /// A new actor for this shard; it makes its address known when it starts. At most one may run.
    #[must_use]
    pub fn actor(&self) -> HubShard {
        let Inner { slot, table, unflushed, .. } = &*self.inner;
        HubShard { slot: Arc::clone(slot), table: Rc::clone(table), unflushed: Rc::clone(unflushed) }
    }

    /// Starts the actor without a supervisor. What is published from now on is delivered.
    pub fn start(&self) -> Addr<HubShard> {
        let address = self.actor().start();
        self.inner.slot.address.store(Some(Arc::new(address.clone().recipient())));
        address
    }

    /// From now on the connection gets what is published on the channel.
    ///
    /// # Errors
    /// [`AlreadySubscribed`], and nothing changes.
    pub fn subscribe(&self, channel: &ChannelName, outbox: Rc<Outbox>) -> Result<(), AlreadySubscribed> {
        let is_first = self.inner.table.borrow_mut().subscribe(channel, outbox)?;
        if is_first {
            self.inner.hub.join(channel, &self.inner.slot);
        }
        self.inner.hub.metrics().subscriptions.inc();
        Ok(())
    }

    /// From now on it does not.
    ///
    /// # Errors
    /// [`NotSubscribed`], and nothing changes.
    pub fn unsubscribe(&self, channel: &ChannelName, id: ConnectionId) -> Result<(), NotSubscribed> {
        let was_last = self.inner.table.borrow_mut().unsubscribe(channel, id)?;
        if was_last {
            self.inner.hub.leave(channel, &self.inner.slot);
        }
        self.inner.hub.metrics().subscriptions.dec();
        Ok(())
    }

    /// Ends every subscription of a connection; how many there were.
    pub fn drop_connection(&self, id: ConnectionId) -> usize {
        let (ended, empty) = self.inner.table.borrow_mut().drop_connection(id);
        empty.iter().for_each(|channel| self.inner.hub.leave(channel, &self.inner.slot));
        self.inner.hub.metrics().subscriptions.sub(i64::try_from(ended).unwrap_or(i64::MAX));
        ended
    }

    /// Channels that a connection is subscribed to.
    #[must_use]
    pub fn channels(&self, id: ConnectionId) -> Vec<ChannelName> {
        self.inner.table.borrow().of_connection(id).to_vec()
    }

    /// Subscriptions of a connection.
    #[must_use]
    pub fn subscriptions(&self, id: ConnectionId) -> usize {
        self.inner.table.borrow().of_connection(id).len()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let table = self.table.take();
        table.channels().for_each(|channel| self.hub.leave(channel, &self.slot));
        self.hub.metrics().subscriptions.sub(i64::try_from(table.len()).unwrap_or(i64::MAX));
        self.slot.address.store(None);
    }
}

/// The actor that delivers publications to the subscribers of its thread.
pub struct HubShard {
    slot: Arc<Slot>,
    table: Rc<RefCell<Table>>,
    unflushed: Unflushed,
}

impl HubShard {
    /// Writes to the sockets once the mailbox is empty: all publications that wait there share a write.
    fn flush(&self, ctx: &mut Context<Self>) {
        let unflushed = Rc::clone(&self.unflushed);
        ctx.spawn(wrap_future(async move {
            loop {
                for _ in 0..FLUSH_TURN {
                    let Some(outbox) = unflushed.borrow_mut().pop_front() else { return };
                    outbox.flush(SLICE_MAX);
                }
                tokio::task::yield_now().await;
            }
        }));
    }
}

impl Actor for HubShard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.slot.address.store(Some(Arc::new(ctx.address().recipient())));
        // What an actor that panicked had not flushed.
        if !self.unflushed.borrow().is_empty() {
            self.flush(ctx);
        }
    }
}

/// A publication for the subscribers of one thread.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Deliver {
    envelope: Arc<Envelope>,
    reservation: Reservation,
}

impl Deliver {
    pub(super) fn new(envelope: Arc<Envelope>, reservation: Reservation) -> Self {
        Self { envelope, reservation }
    }
}

impl Handler<Deliver> for HubShard {
    type Result = ();

    fn handle(&mut self, deliver: Deliver, ctx: &mut Self::Context) {
        #[cfg(test)]
        assert_ne!(deliver.envelope.publication.channel.as_str(), tests::PANIC, "injected");
        let is_flushing = !self.unflushed.borrow().is_empty();
        self.table.borrow().deliver(&deliver.envelope, &mut self.unflushed.borrow_mut());
        if !is_flushing {
            self.flush(ctx);
        }
        deliver.reservation.delivered();
    }
}

#[cfg(test)]
#[path = "shard_tests.rs"]
mod tests;
