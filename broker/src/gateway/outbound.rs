use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::Error;
use bytes::Bytes;
use futures_core::Stream;

use super::Vitals;

/// Most bytes handed to the socket at once: the dispatcher keeps a write buffer of this order for the life of a socket,
/// so a larger slice would stay as memory.
const SLICE_MAX: usize = 8 * 1024;

/// The body of a 101: drives the actor, and yields what is in its [`Outbox`](crate::hub::Outbox).
///
/// The actor's own stream carries no bytes: everything outbound goes through the Outbox. It is polled first, so that what
/// the actor sends in this turn is in this turn's slice. When it ends, the Outbox is flushed, and then the body ends.
///
/// Errors: ends with one when the socket was cut, which ends the socket's task.
pub struct OutboundBody<S> {
    actor: Pin<Box<S>>,
    actor_ended: bool,
    vitals: Rc<Vitals>,
}

impl<S> OutboundBody<S> {
    /// A body around the stream of the actor's context.
    #[must_use]
    pub fn new(actor: S, vitals: Rc<Vitals>) -> Self {
        Self { actor: Box::pin(actor), actor_ended: false, vitals }
    }
}

impl<S: Stream<Item = Result<Bytes, Error>>> Stream for OutboundBody<S> {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.vitals.control().is_cut() {
            return Poll::Ready(Some(Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())));
        }
        if !this.actor_ended {
            match this.actor.as_mut().poll_next(cx) {
                Poll::Ready(None) => this.actor_ended = true,
                Poll::Ready(item) => return Poll::Ready(item),
                Poll::Pending => {}
            }
        }
        match this.vitals.outbox().poll_slice(cx, SLICE_MAX) {
            Poll::Ready(slice) => {
                this.vitals.progressed();
                Poll::Ready(Some(Ok(slice)))
            }
            Poll::Pending if this.actor_ended => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S> Drop for OutboundBody<S> {
    fn drop(&mut self) {
        self.vitals.body_ended();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use countersign_node_proto::ConnectionId;
    use futures_util::stream;

    use super::*;
    use crate::edge::SocketControl;
    use crate::gateway::Inbound;
    use crate::hub::{Dialect, Outbox};
    use crate::telemetry::Metrics;

    fn vitals() -> Rc<Vitals> {
        let outbox = Outbox::new(ConnectionId::from_bytes([0; 16]), Dialect::Plain, 1 << 20, Arc::new(Metrics::new()));
        Vitals::new(outbox, Inbound::new(1 << 16, 1 << 17), SocketControl::default())
    }

    fn poll<S: Stream<Item = Result<Bytes, Error>>>(body: &mut OutboundBody<S>) -> Poll<Option<Result<usize, ()>>> {
        let item = Pin::new(body).poll_next(&mut Context::from_waker(Waker::noop()));
        item.map(|item| item.map(|slice| slice.map(|slice| slice.len()).map_err(|_| ())))
    }

    #[test]
    fn what_the_actor_pushes_in_a_turn_is_in_that_turns_slice() {
        let vitals = vitals();
        let actor_vitals = Rc::clone(&vitals);
        let mut turns = 0;
        let actor = stream::poll_fn(move |_| {
            turns += 1;
            if turns == 1 {
                for _ in 0..5 {
                    actor_vitals.outbox().push_text("abc").unwrap();
                }
            }
            Poll::Pending
        });
        let mut body = OutboundBody::new(actor, Rc::clone(&vitals));
        assert_eq!(poll(&mut body), Poll::Ready(Some(Ok(25))));
        assert_eq!(poll(&mut body), Poll::Pending);
        assert_eq!(vitals.slices(), 1);
    }

    #[test]
    fn the_outbox_is_flushed_before_the_body_ends() {
        let vitals = vitals();
        vitals.outbox().push_binary(&[0; 20_000]).unwrap();
        let mut body = OutboundBody::new(stream::empty(), Rc::clone(&vitals));
        for len in [8_192, 8_192, 20_004 - 2 * 8_192] {
            assert_eq!(poll(&mut body), Poll::Ready(Some(Ok(len))));
        }
        assert_eq!(poll(&mut body), Poll::Ready(None));
        drop(body);
        assert!(vitals.outbox().push_text("late").is_err());
    }

    #[test]
    fn a_cut_ends_the_body() {
        let vitals = vitals();
        let mut body = OutboundBody::new(stream::pending(), Rc::clone(&vitals));
        assert_eq!(poll(&mut body), Poll::Pending);
        vitals.control().cut();
        assert_eq!(poll(&mut body), Poll::Ready(Some(Err(()))));
    }
}
