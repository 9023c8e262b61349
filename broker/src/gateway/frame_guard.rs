use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_core::Stream;
use tokio::time::Instant;

use super::{Inbound, RateLimit, Verdict};
use crate::config::LimitSettings;
use crate::hub::CONTROL_PAYLOAD_MAX;
use crate::telemetry::{Direction, Metrics};

/// Longest header: two bytes, eight of length, four of mask.
const HEADER_MAX: usize = 14;

/// Continuation frames that a client may send for each message of its rate: a message of 64 KiB in pieces of 1 KiB.
const FRAGMENTS_PER_MESSAGE: u32 = 64;

/// Bounds frames before their bytes are buffered.
///
/// The parser behind it takes in a whole frame before it compares its length with a limit, so an announced 400 MiB would
/// cost 400 MiB. The guard reads along, decides when the length is known, and passes bytes unchanged.
///
/// Shape: a stream of a request's payload around another. A failure is one `Err(PayloadError::Overflow)`, then the end;
/// the reason stands in [`Inbound::verdict`]. Frames that came in the same chunk before the failing one are lost.
/// Counts messages and payload bytes that came in. Source: RFC 6455, sections 5.2, 5.4 and 5.5.
pub struct FrameGuard<S> {
    payload: S,
    scan: Scan,
    inbound: Rc<Inbound>,
    metrics: Arc<Metrics>,
    clock: fn() -> Instant,
    failed: bool,
}

impl<S> FrameGuard<S> {
    /// Guards `payload` with the limits in `inbound` and these rates per second; a rate of 0 is no bound.
    #[must_use]
    pub fn new(payload: S, inbound: Rc<Inbound>, rates: InboundRates, metrics: Arc<Metrics>) -> Self {
        Self { payload, scan: Scan::new(rates), inbound, metrics, clock: Instant::now, failed: false }
    }

    /// Reads the time elsewhere.
    #[must_use]
    pub fn with_clock(mut self, clock: fn() -> Instant) -> Self {
        self.clock = clock;
        self
    }

    /// Looks at a chunk; it passes whole or not at all.
    fn inspect(&mut self, chunk: &[u8]) -> Result<(), PayloadError> {
        let verdict = self.scan.read(chunk, &self.inbound, (self.clock)());
        let Counted { messages, payload_bytes } = std::mem::take(&mut self.scan.counted);
        if messages > 0 {
            self.metrics.messages.of(Direction::In).inc_by(messages);
        }
        if payload_bytes > 0 {
            self.metrics.message_bytes.of(Direction::In).inc_by(payload_bytes);
        }
        verdict.map_err(|verdict| {
            self.failed = true;
            self.inbound.end(verdict);
            if let Some(limit) = verdict.limit_hit() {
                self.metrics.limits.of(limit).inc();
            }
            PayloadError::Overflow
        })
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for FrameGuard<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.failed {
            return Poll::Ready(None);
        }
        let item = std::task::ready!(Pin::new(&mut this.payload).poll_next(cx));
        Poll::Ready(match item {
            Some(Ok(chunk)) => Some(this.inspect(&chunk).map(|()| chunk)),
            gone => {
                this.inbound.end(Verdict::PeerGone);
                gone
            }
        })
    }
}

/// Frames a second that one client may send; 0: no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboundRates {
    /// Ping, pong and close frames.
    pub control_frames: u32,
    /// Messages, counted when they begin.
    pub messages: u32,
}

impl From<&LimitSettings> for InboundRates {
    fn from(limits: &LimitSettings) -> Self {
        Self { control_frames: limits.control_frames_per_second, messages: limits.messages_per_second }
    }
}

/// Where in the stream of frames the guard is.
struct Scan {
    header: [u8; HEADER_MAX],
    header_len: usize,
    /// The header's length is known and allowed.
    decided: bool,
    /// Payload bytes of this frame still to come.
    payload_left: u64,
    /// Payload bytes of the message under assembly.
    message_len: u64,
    control_rate: RateLimit,
    message_rate: RateLimit,
    /// Fragments cost time even when they are empty, so that no byte limit is ever reached.
    fragment_rate: RateLimit,
    counted: Counted,
}

/// What came in since the shared counters were last written.
#[derive(Default)]
struct Counted {
    messages: u64,
    payload_bytes: u64,
}

impl Scan {
    fn new(rates: InboundRates) -> Self {
        Self {
            header: [0; HEADER_MAX],
            header_len: 0,
            decided: false,
            payload_left: 0,
            message_len: 0,
            control_rate: RateLimit::per_second(rates.control_frames),
            message_rate: RateLimit::per_second(rates.messages),
            fragment_rate: RateLimit::per_second(rates.messages.saturating_mul(FRAGMENTS_PER_MESSAGE)),
            counted: Counted::default(),
        }
    }

    /// Reads along; an error is final.
    fn read(&mut self, mut bytes: &[u8], inbound: &Inbound, now: Instant) -> Result<(), Verdict> {
        inbound.heard(now);
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.payload_left > 0 {
                let skipped = usize::try_from(self.payload_left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.payload_left -= skipped as u64;
                bytes = &bytes[skipped..];
                if self.payload_left == 0 {
                    inbound.frame_done();
                }
                continue;
            }
            self.header_byte(byte, inbound, now)?;
            bytes = rest;
        }
        Ok(())
    }

    /// Adds a byte to the header, and decides as soon as the length is known: before mask and payload.
    fn header_byte(&mut self, byte: u8, inbound: &Inbound, now: Instant) -> Result<(), Verdict> {
        if self.header_len == 0 {
            inbound.frame_begun(now);
        }
        self.header[self.header_len] = byte;
        self.header_len += 1;
        if self.header_len < 2 {
            return Ok(());
        }
        let length_end = 2 + extension_len(self.header[1]);
        if self.header_len < length_end {
            return Ok(());
        }
        if !self.decided {
            self.decide(inbound, now)?;
            self.decided = true;
        }
        let mask_len = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        if self.header_len == length_end + mask_len {
            self.payload_left = self.announced_len();
            self.header_len = 0;
            self.decided = false;
            if self.payload_left == 0 {
                inbound.frame_done();
            }
        }
        Ok(())
    }

    /// Judges a frame by its first two bytes and its length.
    fn decide(&mut self, inbound: &Inbound, now: Instant) -> Result<(), Verdict> {
        let len = self.announced_len();
        let (last, opcode) = (self.header[0] & 0x80 != 0, self.header[0] & 0x0F);
        if len >> 63 != 0 {
            return Err(Verdict::Malformed);
        }
        if opcode >= 0x8 {
            if len > CONTROL_PAYLOAD_MAX as u64 || !last {
                return Err(Verdict::Malformed);
            }
            return if self.control_rate.admit(now) { Ok(()) } else { Err(Verdict::ControlRate) };
        }
        let rate = if opcode == 0 { &mut self.fragment_rate } else { &mut self.message_rate };
        let admitted = rate.admit(now);
        self.decide_data(len, last, inbound, now)?;
        if admitted { Ok(()) } else { Err(Verdict::MessageRate) }
    }

    /// Judges a data frame. Whether its opcode fits is the parser's concern.
    fn decide_data(&mut self, len: u64, last: bool, inbound: &Inbound, now: Instant) -> Result<(), Verdict> {
        let message_len = self.message_len.checked_add(len).ok_or(Verdict::TooLarge)?;
        if len > inbound.frame_max() || message_len > inbound.message_max() {
            return Err(Verdict::TooLarge);
        }
        self.counted.payload_bytes += len;
        self.message_len = if last { 0 } else { message_len };
        if last {
            self.counted.messages += 1;
            inbound.message_done(now);
        } else {
            inbound.message_begun(now);
        }
        Ok(())
    }

    /// The length that the header announces; its bytes are all there.
    fn announced_len(&self) -> u64 {
        let code = self.header[1] & 0x7F;
        let extension = &self.header[2..2 + extension_len(code)];
        if extension.is_empty() {
            return u64::from(code);
        }
        extension.iter().fold(0, |len, byte| len << 8 | u64::from(*byte))
    }
}

/// Bytes of the length behind the second header byte.
const fn extension_len(second: u8) -> usize {
    match second & 0x7F {
        126 => 2,
        127 => 8,
        _ => 0,
    }
}

#[cfg(test)]
#[path = "frame_guard_tests.rs"]
mod tests;
