use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes, BytesMut};
use countersign_node_proto::ConnectionId;

use super::frame::{FrameKind, encode_close, encode_frame, message_payload_len};
use crate::close::{CloseLabel, CloseReason};
use crate::edge::DirectWriter;
use crate::registry::PostError;
use crate::telemetry::{Direction, Label as _, LimitHit, Metrics};

/// What a client speaks, chosen by the subprotocol of its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// It negotiated `countersign.v1`.
    Native,
    /// Everything else.
    Plain,
}

/// What a queued frame costs beside its bytes: its place in the queue. Without it, a queue of tiny frames would hold many
/// times its bound.
const PLACE_BYTES: usize = size_of::<Bytes>();

/// Hears that this node has begun to close the connection. Runs on the connection's thread, within the push that began it,
/// whoever pushed: it must not touch the queue or the hub.
type CloseHook = Box<dyn Fn(CloseReason)>;

/// Bytes on their way to one client and not yet taken by its socket: whole encoded frames, in order.
///
/// The actor's mailbox is no bound: while the socket blocks the actor is not polled, and its mailbox grows with every
/// publication. So whoever sends pushes here, on the connection's own thread, and the bound is counted in bytes.
///
/// Units: bytes, frame headers included. Range: 0 to `outbound_queue_max_bytes`, from which each frame's place in the queue
/// is taken too, and one close frame.
/// Idle cost: no heap; the queue is freed when it is drained.
pub struct Outbox {
    id: ConnectionId,
    dialect: Dialect,
    queued_bytes_max: usize,
    metrics: Arc<Metrics>,
    frames: RefCell<VecDeque<Bytes>>,
    queued_bytes: Cell<usize>,
    /// The socket took a part of the front frame: the rest must follow, or the client loses the framing.
    front_is_begun: Cell<bool>,
    phase: Cell<Phase>,
    reason: Cell<Option<CloseReason>>,
    on_close: OnceCell<CloseHook>,
    /// Kept between wakes: a wake by reference costs no reference count.
    waker: RefCell<Option<Waker>>,
    /// The reader waits: the next push wakes it, the pushes after that do not.
    reader_waits: Cell<bool>,
    uncounted: Cell<Uncounted>,
    /// The way to the socket around its task, where there is one.
    writer: OnceCell<DirectWriter>,
    /// A flush is promised: pushes until then wake nobody.
    is_deferred: Cell<bool>,
}

/// Forward only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Takes frames.
    Open,
    /// A close frame is the last that is queued, or was.
    Closing,
    /// The socket is gone.
    Ended,
}

/// Messages pushed since the counters were last written: they are shared by all threads, so they are written per slice.
#[derive(Debug, Clone, Copy, Default)]
struct Uncounted {
    messages: u64,
    payload_bytes: u64,
}

impl Outbox {
    /// An empty queue for the connection `id`, bounded to `queued_bytes_max`.
    #[must_use]
    pub fn new(id: ConnectionId, dialect: Dialect, queued_bytes_max: usize, metrics: Arc<Metrics>) -> Rc<Self> {
        Rc::new(Self {
            id,
            dialect,
            queued_bytes_max,
            metrics,
            frames: RefCell::new(VecDeque::new()),
            queued_bytes: Cell::new(0),
            front_is_begun: Cell::new(false),
            phase: Cell::new(Phase::Open),
            reason: Cell::new(None),
            on_close: OnceCell::new(),
            waker: RefCell::new(None),
            reader_waits: Cell::new(false),
            uncounted: Cell::default(),
            writer: OnceCell::new(),
            is_deferred: Cell::new(false),
        })
    }

    /// Whose queue it is.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// What the client speaks.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Bytes queued now.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes.get()
    }

    /// A close frame was queued, or the socket is gone: nothing more is taken.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.phase.get() != Phase::Open
    }

    /// Why this node closes the connection, if it does. An echo of the client's close has no reason of ours.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.reason.get()
    }

    /// From now on [`Outbox::flush`] writes to the socket itself. The first call counts.
    pub fn write_through(&self, writer: DirectWriter) {
        let _first_counts = self.writer.set(writer);
    }

    /// Queues a frame that is encoded already ([`encode_frame`]), so that one encoding serves all receivers.
    ///
    /// # Errors
    /// [`PostError::SlowConsumer`] if the limit would be passed: the client's fault, not to be retried. The queue is
    /// dropped and a close with 4429 stands in its place. [`PostError::Gone`] if the connection is closing.
    pub fn push_frame(&self, frame: Bytes) -> Result<(), PostError> {
        self.admit(&frame)?;
        self.enqueue(frame);
        Ok(())
    }

    /// Queues a frame as [`Outbox::push_frame`] does and wakes nobody. True: the caller owes a [`Outbox::flush`], and
    /// holds this outbox until then. Nobody is told of a refusal: a slow consumer closes itself.
    #[must_use]
    pub(super) fn push_deferred(&self, frame: Bytes) -> bool {
        if self.admit(&frame).is_err() {
            return false;
        }
        self.append(frame);
        // A reader that does not wait comes by itself.
        self.reader_waits.get() && !self.is_deferred.replace(true)
    }

    /// Keeps the promise of [`Outbox::push_deferred`]: writes what is queued to the socket, around its task. The task is
    /// woken for whatever the socket does not take at once.
    pub(super) fn flush(&self, slice_max: usize) {
        self.is_deferred.set(false);
        let writer = self.writer.get().and_then(DirectWriter::get).filter(|_| !self.is_closing());
        let Some(writer) = writer else { return self.wake() };
        while self.queued_bytes.get() > 0 {
            // A frame that needs several slices must not be interrupted between them: its task writes it.
            let begun = self.front_is_begun.get();
            if begun || self.frames.borrow().front().is_none_or(|first| first.len() > slice_max) {
                return self.wake();
            }
            let mut slice = self.next_slice(slice_max);
            let written = writer.write(&slice);
            if written < slice.len() {
                slice.advance(written);
                self.front_is_begun.set(written > 0);
                self.queued_bytes.set(self.queued_bytes.get() + slice.len());
                self.frames.borrow_mut().push_front(slice);
                return self.wake();
            }
        }
    }

    /// Counts a frame in, if it may be queued.
    fn admit(&self, frame: &Bytes) -> Result<(), PostError> {
        if self.is_closing() {
            return Err(PostError::Gone);
        }
        let places = self.frames.borrow().len() * PLACE_BYTES;
        if self.queued_bytes.get() + places + frame.len() > self.queued_bytes_max {
            self.overflow();
            return Err(PostError::SlowConsumer);
        }
        if let Some(payload_len) = message_payload_len(frame) {
            let Uncounted { messages, payload_bytes } = self.uncounted.get();
            let payload_bytes = payload_bytes + payload_len as u64;
            self.uncounted.set(Uncounted { messages: messages + 1, payload_bytes });
        }
        Ok(())
    }

    /// Queues a text message. The bytes must be UTF-8; the caller has them from a `str`.
    ///
    /// # Errors
    /// As [`Outbox::push_frame`].
    pub fn push_text(&self, text: &str) -> Result<(), PostError> {
        self.push_frame(encode_frame(FrameKind::Text, text.as_bytes()))
    }

    /// Queues a binary message.
    ///
    /// # Errors
    /// As [`Outbox::push_frame`].
    pub fn push_binary(&self, bytes: &[u8]) -> Result<(), PostError> {
        self.push_frame(encode_frame(FrameKind::Binary, bytes))
    }

    /// Queues a ping; at most 125 bytes of payload are sent.
    ///
    /// # Errors
    /// As [`Outbox::push_frame`].
    pub fn push_ping(&self, payload: &[u8]) -> Result<(), PostError> {
        self.push_frame(encode_frame(FrameKind::Ping, payload))
    }

    /// Queues the answer to a ping, with the ping's payload.
    ///
    /// # Errors
    /// As [`Outbox::push_frame`].
    pub fn push_pong(&self, payload: &[u8]) -> Result<(), PostError> {
        self.push_frame(encode_frame(FrameKind::Pong, payload))
    }

    /// Starts the closing handshake behind all that is queued. Tells whether it did: a second close does nothing.
    pub fn push_close(&self, reason: CloseReason) -> bool {
        self.push_close_text(reason, reason.row().text)
    }

    /// As [`Outbox::push_close`] with a text of the caller's, such as a hint when to reconnect.
    pub fn push_close_text(&self, reason: CloseReason, text: &str) -> bool {
        let started = self.finish_with(encode_close(reason.code(), text));
        if started {
            self.reason.set(Some(reason));
            self.metrics.closes.of(reason.label()).inc();
            if let Some(hook) = self.on_close.get() {
                hook(reason);
            }
        }
        started
    }

    /// Sets what hears of a close that this node begins, an overflow's included. The first call counts.
    pub fn on_close(&self, hook: impl Fn(CloseReason) + 'static) {
        let _first_counts = self.on_close.set(Box::new(hook));
    }

    /// Answers the client's close with its own code, or with an empty close if it sent none.
    pub fn push_close_echo(&self, code: Option<u16>) -> bool {
        let frame = code.map_or_else(|| encode_frame(FrameKind::Close, &[]), |code| encode_close(code, ""));
        let started = self.finish_with(frame);
        let known = code.map(|code| code.to_string());
        let label = CloseLabel::ALL.iter().find(|label| known.as_deref() == Some(label.name()));
        if let (true, Some(label)) = (started, label) {
            self.metrics.closes.of(*label).inc();
        }
        started
    }

    /// The next bytes for the socket: as many whole frames as fit into `slice_max` bytes, or a part of a longer one.
    /// While it is empty the task of `cx` is woken by the next push.
    pub fn poll_slice(&self, cx: &mut Context<'_>, slice_max: usize) -> Poll<Bytes> {
        if self.queued_bytes.get() == 0 {
            self.wait(cx);
            return Poll::Pending;
        }
        Poll::Ready(self.next_slice(slice_max))
    }

    /// The socket is gone: what is queued is freed, and nothing more is taken.
    pub fn end(&self) {
        self.count();
        self.phase.set(Phase::Ended);
        self.reader_waits.set(false);
        self.front_is_begun.set(false);
        self.queued_bytes.set(0);
        let _freed = self.frames.take();
        // A waker keeps the memory of its task, even when that has ended.
        let _freed = self.waker.take();
    }

    /// Queues the last frame. The limit does not bind it: a close must always fit.
    fn finish_with(&self, close: Bytes) -> bool {
        if self.is_closing() {
            return false;
        }
        self.phase.set(Phase::Closing);
        self.enqueue(close);
        true
    }

    /// Frees the queue and closes with 4429 in its place.
    fn overflow(&self) {
        let mut dropped = self.frames.take();
        // The rest of a frame that was begun stays: without it the client would take the close for its payload.
        let begun = dropped.pop_front().filter(|_| self.front_is_begun.get());
        self.queued_bytes.set(begun.as_ref().map_or(0, Bytes::len));
        self.frames.borrow_mut().extend(begun);
        self.metrics.limits.of(LimitHit::OutboundQueue).inc();
        self.metrics.slow_consumers.inc();
        self.push_close(CloseReason::RateLimit);
    }

    /// Appends a frame and wakes the reader if it waits.
    fn enqueue(&self, frame: Bytes) {
        self.append(frame);
        self.wake();
    }

    /// Appends a frame.
    fn append(&self, frame: Bytes) {
        self.queued_bytes.set(self.queued_bytes.get() + frame.len());
        self.frames.borrow_mut().push_back(frame);
    }

    /// Wakes the reader if it waits.
    fn wake(&self) {
        if self.reader_waits.replace(false)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// Takes a slice off the queue, and counts it.
    fn next_slice(&self, slice_max: usize) -> Bytes {
        self.metrics.outbound_queue_bytes.observe(self.queued_bytes.get() as f64);
        self.count();
        let slice = self.take(slice_max);
        self.queued_bytes.set(self.queued_bytes.get() - slice.len());
        slice
    }

    /// Takes a slice off the queue.
    fn take(&self, slice_max: usize) -> Bytes {
        let mut frames = self.frames.borrow_mut();
        let Some(mut first) = frames.pop_front() else { return Bytes::new() };
        self.front_is_begun.set(first.len() > slice_max);
        if first.len() > slice_max {
            let slice = first.split_to(slice_max);
            frames.push_front(first);
            return slice;
        }
        let fits = frames.front().is_some_and(|second| first.len() + second.len() <= slice_max);
        let slice = if fits { coalesce(&first, &mut frames, slice_max) } else { first };
        if frames.is_empty() {
            *frames = VecDeque::new();
        }
        slice
    }

    /// Remembers whom the next push wakes.
    fn wait(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|kept| kept.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.reader_waits.set(true);
    }

    /// Writes the shared counters.
    fn count(&self) {
        let Uncounted { messages, payload_bytes } = self.uncounted.take();
        if messages > 0 {
            self.metrics.messages.of(Direction::Out).inc_by(messages);
            self.metrics.message_bytes.of(Direction::Out).inc_by(payload_bytes);
        }
    }
}

/// One slice of `first` and as many of the frames behind it as fit.
fn coalesce(first: &[u8], frames: &mut VecDeque<Bytes>, slice_max: usize) -> Bytes {
    let mut len = first.len();
    let following = frames.iter().take_while(|frame| {
        len += frame.len();
        len <= slice_max
    });
    let count = following.count();
    let total = first.len() + frames.iter().take(count).map(Bytes::len).sum::<usize>();
    let mut slice = BytesMut::with_capacity(total);
    slice.extend_from_slice(first);
    for frame in frames.drain(..count) {
        slice.extend_from_slice(&frame);
    }
    slice.freeze()
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
