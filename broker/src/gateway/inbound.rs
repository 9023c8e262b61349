use std::cell::Cell;
use std::rc::Rc;

use actix_http::ws::ProtocolError;
use tokio::time::Instant;

use crate::close::CloseReason;
use crate::telemetry::LimitHit;

/// Why the [`FrameGuard`](super::FrameGuard) ended the inbound stream; the actor itself sees an I/O error only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Frame or message above its limit.
    TooLarge,
    /// A header that RFC 6455 forbids: a long or fragmented control frame, a length with its top bit set.
    Malformed,
    /// Too many control frames.
    ControlRate,
    /// Too many messages.
    MessageRate,
    /// The client left without a closing handshake.
    PeerGone,
}

impl Verdict {
    /// How the connection closes; none if there is nobody left to close it towards.
    #[must_use]
    pub const fn close_reason(self) -> Option<CloseReason> {
        match self {
            Self::TooLarge => Some(CloseReason::TooLarge),
            Self::Malformed => Some(CloseReason::Protocol),
            Self::ControlRate | Self::MessageRate => Some(CloseReason::RateLimit),
            Self::PeerGone => None,
        }
    }

    /// The limit that was hit, if it was one.
    pub(super) const fn limit_hit(self) -> Option<LimitHit> {
        match self {
            Self::TooLarge => Some(LimitHit::MessageSize),
            Self::ControlRate => Some(LimitHit::ControlRate),
            Self::MessageRate => Some(LimitHit::MessageRate),
            Self::Malformed | Self::PeerGone => None,
        }
    }
}

/// How a connection closes after an error of the inbound stream; none: the client has gone, just stop.
///
/// On every error the connection must close and stop: after some of them the parser would return the same error for ever.
#[must_use]
pub fn close_reason_for(error: &ProtocolError, verdict: Option<Verdict>) -> Option<CloseReason> {
    use std::io::ErrorKind;
    if let Some(verdict) = verdict {
        return verdict.close_reason();
    }
    Some(match error {
        // The parser has no variant for reserved bits that are set.
        ProtocolError::Io(error) if error.kind() == ErrorKind::InvalidData => CloseReason::Protocol,
        // Without a verdict the guard let the bytes pass: the context did, and found the text not to be UTF-8.
        ProtocolError::Io(_) => CloseReason::InvalidText,
        ProtocolError::Overflow => CloseReason::TooLarge,
        _ => CloseReason::Protocol,
    })
}

/// What the guard of one connection obeys and tells, shared by the guard, the actor and the watchdog of its thread.
pub struct Inbound {
    frame_max: Cell<u64>,
    message_max: Cell<u64>,
    verdict: Cell<Option<Verdict>>,
    ended: Cell<bool>,
    bytes_at: Cell<Instant>,
    message_at: Cell<Instant>,
    frame_since: Cell<Option<Instant>>,
    message_since: Cell<Option<Instant>>,
}

impl Inbound {
    /// With the limits in payload bytes that hold at first.
    #[must_use]
    pub fn new(frame_max_bytes: usize, message_max_bytes: usize) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            frame_max: Cell::new(frame_max_bytes as u64),
            message_max: Cell::new(message_max_bytes as u64),
            verdict: Cell::new(None),
            ended: Cell::new(false),
            bytes_at: Cell::new(now),
            message_at: Cell::new(now),
            frame_since: Cell::new(None),
            message_since: Cell::new(None),
        })
    }

    /// Other limits from the next frame on: more is allowed once a connection is verified.
    pub fn set_limits(&self, frame_max_bytes: usize, message_max_bytes: usize) {
        self.frame_max.set(frame_max_bytes as u64);
        self.message_max.set(message_max_bytes as u64);
    }

    /// Payload bytes of one frame.
    #[must_use]
    pub fn frame_max(&self) -> u64 {
        self.frame_max.get()
    }

    /// Payload bytes of one message.
    #[must_use]
    pub fn message_max(&self) -> u64 {
        self.message_max.get()
    }

    /// Why the guard ended the stream, if it did.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict.get()
    }

    /// The client's last sign of life, of whatever kind.
    #[must_use]
    pub fn bytes_at(&self) -> Instant {
        self.bytes_at.get()
    }

    /// The beginning of the last frame of the client's last message. Control frames do not count.
    #[must_use]
    pub fn message_at(&self) -> Instant {
        self.message_at.get()
    }

    /// Since when a frame or a fragmented message has been incomplete.
    #[must_use]
    pub fn incomplete_since(&self) -> Option<Instant> {
        match (self.frame_since.get(), self.message_since.get()) {
            (Some(frame), Some(message)) => Some(frame.min(message)),
            (frame, message) => frame.or(message),
        }
    }

    /// The inbound stream came to its end.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// The stream ended; the first verdict counts.
    pub(super) fn end(&self, verdict: Verdict) {
        self.ended.set(true);
        if self.verdict.get().is_none() {
            self.verdict.set(Some(verdict));
        }
    }

    /// Bytes came.
    pub(super) fn heard(&self, now: Instant) {
        self.bytes_at.set(now);
    }

    /// The first byte of a frame came.
    pub(super) fn frame_begun(&self, now: Instant) {
        self.frame_since.set(Some(now));
    }

    /// The last byte of a frame came.
    pub(super) fn frame_done(&self) {
        self.frame_since.set(None);
    }

    /// The header of a fragment that is not the last came.
    pub(super) fn message_begun(&self, now: Instant) {
        if self.message_since.get().is_none() {
            self.message_since.set(Some(now));
        }
    }

    /// The header of a message's last frame came; the frame's own age counts from here on.
    pub(super) fn message_done(&self, now: Instant) {
        self.message_since.set(None);
        self.message_at.set(now);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use actix_http::ws::OpCode;

    use super::*;

    #[test]
    fn every_error_has_its_close_code() {
        let io = |kind| ProtocolError::Io(io::Error::from(kind));
        let closes = |error: &ProtocolError, verdict| close_reason_for(error, verdict).map(CloseReason::code);
        let other = io(io::ErrorKind::Other);
        for (verdict, code) in [
            (Verdict::TooLarge, Some(1009)),
            (Verdict::Malformed, Some(1002)),
            (Verdict::ControlRate, Some(4429)),
            (Verdict::MessageRate, Some(4429)),
            (Verdict::PeerGone, None),
        ] {
            assert_eq!(closes(&other, Some(verdict)), code, "{verdict:?}");
        }
        for (error, code) in [
            (io(io::ErrorKind::InvalidData), 1002),
            (other, 1007),
            (ProtocolError::Overflow, 1009),
            (ProtocolError::UnmaskedFrame, 1002),
            (ProtocolError::InvalidOpcode(3), 1002),
            (ProtocolError::InvalidLength(126), 1002),
            (ProtocolError::BadOpCode, 1002),
            (ProtocolError::ContinuationNotStarted, 1002),
            (ProtocolError::ContinuationStarted, 1002),
            (ProtocolError::ContinuationFragment(OpCode::Bad), 1002),
        ] {
            assert_eq!(closes(&error, None), Some(code), "{error}");
        }
    }
}
