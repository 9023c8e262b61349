use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::telemetry::{BusDrop, BusGap, Metrics};

/// What a frame costs beside its bytes.
const FRAME_BYTES: usize = 64;

/// A frame as it came in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The name under which it was said.
    pub(super) topic: Vec<u8>,
    pub(super) bytes: Vec<u8>,
}

/// Between the link, which must not wait, and the task that hands on what it heard: bounded in bytes.
pub(super) struct HeardQueue {
    bytes_max: usize,
    waiting: Mutex<Waiting>,
    wake: Notify,
}

/// What waits. Losses are told before the frames: what was lost is older than nothing that is still to come.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) losses: Vec<BusGap>,
    pub(super) frames: VecDeque<Frame>,
    bytes: usize,
}

impl HeardQueue {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, waiting: Mutex::default(), wake: Notify::new() }
    }

    /// Takes a frame in, or drops it and notes the loss.
    pub(super) fn push(&self, frame: Frame, metrics: &Metrics) {
        let cost = frame.topic.len() + frame.bytes.len() + FRAME_BYTES;
        let mut waiting = self.waiting();
        if waiting.bytes + cost > self.bytes_max {
            metrics.bus_drops.of(BusDrop::Overflow).inc();
            waiting.note(BusGap::Overflow);
        } else {
            waiting.bytes += cost;
            waiting.frames.push_back(frame);
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Notes that something may have been lost.
    pub(super) fn lost(&self, cause: BusGap) {
        self.waiting().note(cause);
        self.wake.notify_one();
    }

    /// Takes everything, once there is something.
    pub(super) async fn take(&self) -> Waiting {
        loop {
            {
                let mut waiting = self.waiting();
                if !waiting.frames.is_empty() || !waiting.losses.is_empty() {
                    return std::mem::take(&mut *waiting);
                }
            }
            self.wake.notified().await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Once per cause: a thousand drops are one gap.
    fn note(&mut self, cause: BusGap) {
        if !self.losses.contains(&cause) {
            self.losses.push(cause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_above_the_bound_is_dropped_counted_and_told_once() {
        let (queue, metrics) = (HeardQueue::new(3 * (FRAME_BYTES + 2)), Metrics::new());
        let frame = |byte| Frame { topic: vec![b't'], bytes: vec![byte] };
        for byte in 0..10 {
            queue.push(frame(byte), &metrics);
        }
        let taken = queue.take().await;
        assert_eq!(taken.frames, [frame(0), frame(1), frame(2)]);
        assert_eq!(taken.losses, [BusGap::Overflow]);
        assert_eq!(metrics.bus_drops.of(BusDrop::Overflow).get(), 7);
        queue.push(frame(11), &metrics);
        assert_eq!(queue.take().await.frames, [frame(11)], "the room is free again");
    }
}
