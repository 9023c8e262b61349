use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use proptest::prelude::*;

use super::*;
use crate::edge::DirectWrite;

/// Counts its wakes.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn outbox(queued_bytes_max: usize) -> (Rc<Outbox>, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let id = ConnectionId::from_bytes([1; 16]);
    (Outbox::new(id, Dialect::Plain, queued_bytes_max, Arc::clone(&metrics)), metrics)
}

fn poll(outbox: &Outbox, slice_max: usize) -> Option<Bytes> {
    match outbox.poll_slice(&mut Context::from_waker(Waker::noop()), slice_max) {
        Poll::Ready(slice) => Some(slice),
        Poll::Pending => None,
    }
}

fn drain(outbox: &Outbox) -> Vec<u8> {
    std::iter::from_fn(|| poll(outbox, 8_192)).flatten().collect()
}

#[test]
fn pushes_of_one_turn_are_one_slice_and_one_wake() {
    let (outbox, metrics) = outbox(1 << 20);
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    assert!(outbox.poll_slice(&mut Context::from_waker(&waker), 8_192).is_pending());
    for _ in 0..10 {
        outbox.push_text("hello").unwrap();
    }
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert_eq!(poll(&outbox, 8_192).unwrap().len(), 10 * 7);
    assert_eq!(outbox.queued_bytes(), 0);
    assert!(poll(&outbox, 8_192).is_none());
    assert_eq!(outbox.frames.borrow().capacity(), 0, "an idle queue owns no memory");
    assert_eq!(metrics.messages.of(Direction::Out).get(), 10);
    assert_eq!(metrics.message_bytes.of(Direction::Out).get(), 50);
    assert_eq!(metrics.outbound_queue_bytes.get_sample_count(), 1);
}

#[test]
fn a_lone_frame_is_handed_on_without_a_copy() {
    let (outbox, _) = outbox(1 << 20);
    let frame = encode_frame(FrameKind::Text, &[b'x'; 500]);
    outbox.push_frame(frame.clone()).unwrap();
    assert_eq!(poll(&outbox, 8_192).unwrap().as_ptr(), frame.as_ptr());
}

#[test]
fn slow_consumer_frees_its_queue_and_is_closed_with_its_own_code() {
    let (outbox, metrics) = outbox(1_000);
    let frame = encode_frame(FrameKind::Binary, &[1; 398]);
    outbox.push_frame(frame.clone()).unwrap();
    outbox.push_frame(frame.clone()).unwrap();
    assert_eq!(outbox.push_frame(frame.clone()), Err(PostError::SlowConsumer));
    assert!(frame.is_unique(), "no frame is held any more");
    assert_eq!(outbox.push_frame(frame), Err(PostError::Gone));
    assert_eq!(outbox.close_reason(), Some(CloseReason::RateLimit));
    assert_eq!(drain(&outbox), encode_close(4429, CloseReason::RateLimit.row().text));
    assert_eq!(metrics.slow_consumers.get(), 1);
    assert_eq!(metrics.limits.of(LimitHit::OutboundQueue).get(), 1);
    assert_eq!(metrics.closes.of(CloseLabel::C4429).get(), 1);
}

#[test]
fn whoever_must_know_of_a_close_hears_of_an_overflow_too() {
    let (outbox, _) = outbox(100);
    let heard = Rc::new(Cell::new(None));
    let hook = Rc::clone(&heard);
    outbox.on_close(move |reason| hook.set(Some(reason)));
    outbox.push_text("fits").unwrap();
    assert_eq!(heard.get(), None);
    assert_eq!(outbox.push_binary(&[1; 100]), Err(PostError::SlowConsumer));
    assert_eq!(heard.get(), Some(CloseReason::RateLimit));
}

#[test]
fn tiny_frames_take_room_for_their_places_too() {
    let (outbox, _) = outbox(1_000);
    let pushed = (0..1_000).take_while(|_| outbox.push_text("").is_ok()).count();
    assert!((10..=1_000 / PLACE_BYTES).contains(&pushed), "{pushed} frames of two bytes");
    assert_eq!(outbox.close_reason(), Some(CloseReason::RateLimit));
}

#[test]
fn overflow_keeps_the_rest_of_a_frame_that_was_begun() {
    let (outbox, _) = outbox(20_000);
    let long = encode_frame(FrameKind::Binary, &[1; 10_000]);
    outbox.push_frame(long.clone()).unwrap();
    let mut seen = poll(&outbox, 8_192).unwrap().to_vec();
    outbox.push_frame(long.clone()).unwrap();
    assert_eq!(outbox.push_frame(long.clone()), Err(PostError::SlowConsumer));
    seen.extend(drain(&outbox));
    assert_eq!(seen[..long.len()], long);
    assert_eq!(seen[long.len()..], encode_close(4429, CloseReason::RateLimit.row().text));
}

#[test]
fn nothing_is_queued_behind_a_close() {
    let (outbox, _) = outbox(100);
    outbox.push_text("last").unwrap();
    assert!(outbox.push_close(CloseReason::Drain));
    assert!(!outbox.push_close(CloseReason::Normal));
    assert!(!outbox.push_close_echo(Some(1000)));
    assert_eq!(outbox.push_pong(b""), Err(PostError::Gone));
    let expected = [encode_frame(FrameKind::Text, b"last"), encode_close(1012, CloseReason::Drain.row().text)].concat();
    assert_eq!(drain(&outbox), expected);
}

#[test]
fn the_clients_close_is_echoed_with_its_code() {
    let echoed = |code| {
        let (outbox, metrics) = outbox(100);
        assert!(outbox.push_close_echo(code));
        assert_eq!(outbox.close_reason(), None);
        (drain(&outbox), metrics.closes.of(CloseLabel::C1000).get())
    };
    assert_eq!(echoed(None), (vec![0x88, 0], 0));
    assert_eq!(echoed(Some(1000)), (vec![0x88, 2, 0x03, 0xE8], 1));
    assert_eq!(echoed(Some(4999)), (vec![0x88, 2, 0x13, 0x87], 0));
}

#[test]
fn an_ended_outbox_holds_nothing_and_takes_nothing() {
    let (outbox, _) = outbox(100);
    outbox.push_text("x").unwrap();
    outbox.end();
    assert_eq!(outbox.queued_bytes(), 0);
    assert_eq!(outbox.push_text("y"), Err(PostError::Gone));
    assert!(poll(&outbox, 8_192).is_none());
}

proptest! {
    /// The socket sees exactly the pushed bytes in order, and the budget ends at zero.
    #[test]
    fn slices_are_bounded_and_lose_nothing(
        lens in prop::collection::vec(0_usize..3_000, 0..40),
        slice_max in 1_usize..4_000,
        reads_between in 0_usize..3,
    ) {
        let (outbox, metrics) = outbox(usize::MAX);
        let (mut pushed, mut seen) = (Vec::new(), Vec::new());
        for (index, len) in lens.iter().enumerate() {
            let frame = encode_frame(FrameKind::Binary, &vec![u8::try_from(index).unwrap(); *len]);
            pushed.extend_from_slice(&frame);
            outbox.push_frame(frame).unwrap();
            for slice in (0..reads_between).filter_map(|_| poll(&outbox, slice_max)) {
                prop_assert!(!slice.is_empty() && slice.len() <= slice_max);
                seen.extend_from_slice(&slice);
            }
            prop_assert_eq!(outbox.queued_bytes(), pushed.len() - seen.len());
        }
        while let Some(slice) = poll(&outbox, slice_max) {
            seen.extend_from_slice(&slice);
        }
        prop_assert_eq!(outbox.queued_bytes(), 0);
        prop_assert_eq!(seen, pushed);
        prop_assert_eq!(metrics.messages.of(Direction::Out).get(), lens.len() as u64);
    }
}

/// A socket that takes so many bytes at a time and keeps them.
#[derive(Default)]
struct Kernel {
    room: Cell<usize>,
    taken: RefCell<Vec<u8>>,
}

impl DirectWrite for Kernel {
    fn write(&self, bytes: &[u8]) -> usize {
        let fits = bytes.len().min(self.room.get());
        self.room.set(self.room.get() - fits);
        self.taken.borrow_mut().extend_from_slice(&bytes[..fits]);
        fits
    }
}

/// An outbox over a socket, with a reader that waits.
fn written_through(queued_bytes_max: usize) -> (Rc<Outbox>, Rc<Kernel>, Arc<Wakes>) {
    let ((outbox, _), kernel, wakes) = (outbox(queued_bytes_max), Rc::new(Kernel::default()), Arc::new(Wakes::default()));
    outbox.write_through(DirectWriter::from(&kernel));
    let waker = Waker::from(Arc::clone(&wakes));
    assert!(outbox.poll_slice(&mut Context::from_waker(&waker), 8_192).is_pending());
    (outbox, kernel, wakes)
}

#[test]
fn a_flush_writes_what_was_deferred_at_once_and_wakes_nobody() {
    let (outbox, kernel, wakes) = written_through(1 << 20);
    kernel.room.set(1_000);
    let frame = encode_frame(FrameKind::Text, b"hello");
    assert!(outbox.push_deferred(frame.clone()), "the first one asks for a flush");
    assert!(!outbox.push_deferred(frame.clone()), "which serves the second too");
    outbox.flush(8_192);
    assert_eq!(*kernel.taken.borrow(), [frame.clone(), frame].concat());
    assert_eq!((outbox.queued_bytes(), outbox.frames.borrow().capacity()), (0, 0));
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
}

#[test]
fn what_a_socket_does_not_take_is_left_to_its_task_even_on_overflow() {
    let (outbox, kernel, wakes) = written_through(500);
    kernel.room.set(100);
    let frame = encode_frame(FrameKind::Binary, &[1; 398]);
    assert!(outbox.push_deferred(frame.clone()));
    outbox.flush(8_192);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert_eq!(outbox.queued_bytes(), frame.len() - 100);
    assert!(!outbox.push_deferred(frame.clone()), "the slow consumer is closed");
    kernel.taken.borrow_mut().extend(drain(&outbox));
    let close = encode_close(4429, CloseReason::RateLimit.row().text);
    assert_eq!(*kernel.taken.borrow(), [frame, close].concat(), "the begun frame is whole");
}

#[test]
fn without_a_socket_a_flush_wakes_the_reader() {
    let (outbox, _) = outbox(1 << 20);
    let wakes = Arc::new(Wakes::default());
    assert!(outbox.poll_slice(&mut Context::from_waker(&Waker::from(Arc::clone(&wakes))), 8_192).is_pending());
    assert!(outbox.push_deferred(encode_frame(FrameKind::Text, b"hello")));
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
    outbox.flush(8_192);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
}

proptest! {
    /// Whoever writes, and however little the socket takes, the client gets every byte once and in order.
    #[test]
    fn task_and_flush_together_keep_the_order(acts in prop::collection::vec((0..4_u8, 0..400_usize), 1..80)) {
        let (outbox, kernel, _) = written_through(1 << 20);
        // What the task took and the socket did not: it is busy then.
        let (mut expected, mut held) = (Vec::new(), Vec::new());
        for (number, (act, size)) in (0_u8..).zip(acts) {
            let frame = encode_frame(FrameKind::Binary, &vec![number; size]);
            match act {
                0 => {
                    expected.extend_from_slice(&frame);
                    outbox.push_frame(frame).unwrap();
                }
                1 => {
                    expected.extend_from_slice(&frame);
                    let _owes_a_flush = outbox.push_deferred(frame);
                    kernel.room.set(if held.is_empty() { size / 2 } else { 0 });
                    outbox.flush(256);
                }
                2 => held.extend(poll(&outbox, 256).unwrap_or_default()),
                _ => kernel.taken.borrow_mut().append(&mut held),
            }
        }
        kernel.taken.borrow_mut().append(&mut held);
        kernel.taken.borrow_mut().extend(drain(&outbox));
        prop_assert_eq!(&*kernel.taken.borrow(), &expected);
    }
}
