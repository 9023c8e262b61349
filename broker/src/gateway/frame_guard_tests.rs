use std::task::Waker;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use proptest::prelude::*;

use super::*;
use crate::telemetry::LimitHit;

/// No bound on rates.
const FREE: InboundRates = InboundRates { control_frames: 0, messages: 0 };

/// A frame as a client sends it, its length in the shortest form.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64);
    bytes.extend_from_slice(&[1, 2, 3, 4]);
    bytes.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ [1, 2, 3, 4][index % 4]));
    bytes
}

/// First bytes of a masked frame, up to its mask.
fn header(first: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match len {
        0..=125 => bytes.push(0x80 | u8::try_from(len).unwrap()),
        126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(len.to_be_bytes());
        }
    }
    bytes
}

/// What a guard did with these chunks.
struct Guarded {
    passed: Vec<u8>,
    verdict: Option<Verdict>,
    inbound: Rc<Inbound>,
    metrics: Arc<Metrics>,
}

fn guard_with(chunks: Vec<Vec<u8>>, frame_max: usize, message_max: usize, rates: InboundRates) -> Guarded {
    let (inbound, metrics) = (Inbound::new(frame_max, message_max), Arc::new(Metrics::new()));
    let payload = stream::iter(chunks.into_iter().map(|chunk| Ok(Bytes::from(chunk)))).chain(stream::pending());
    let mut guard = FrameGuard::new(payload, Rc::clone(&inbound), rates, Arc::clone(&metrics));
    let (mut passed, mut errors) = (Vec::new(), 0);
    while let Poll::Ready(Some(item)) = Pin::new(&mut guard).poll_next(&mut Context::from_waker(Waker::noop())) {
        match item {
            Ok(chunk) => passed.extend_from_slice(&chunk),
            Err(_) => errors += 1,
        }
    }
    let verdict = inbound.verdict();
    assert_eq!(errors, usize::from(verdict.is_some()), "one error for a failure, then the end");
    Guarded { passed, verdict, inbound, metrics }
}

fn verdict(bytes: &[u8], frame_max: usize, message_max: usize) -> Option<Verdict> {
    guard_with(vec![bytes.to_vec()], frame_max, message_max, FREE).verdict
}

#[test]
fn an_announced_giant_is_refused_at_its_length() {
    let announced = header(0x82, 400 << 20);
    let guarded = guard_with(announced.iter().map(|byte| vec![*byte]).collect(), 65_536, 131_072, FREE);
    assert_eq!(guarded.verdict, Some(Verdict::TooLarge));
    assert_eq!(guarded.passed, announced[..announced.len() - 1], "the last byte of the length is not passed on");
    assert_eq!(guarded.metrics.limits.of(LimitHit::MessageSize).get(), 1);
}

#[test]
fn a_frame_split_at_any_byte_gets_the_same_verdict() {
    let good = [frame(0x81, &[b'a'; 200]), frame(0x89, b"ping"), frame(0x82, &[0; 70_000])].concat();
    let long = [frame(0x81, b"hi"), header(0x82, 70_001)].concat();
    for (bytes, expected) in [(good, None), (long, Some(Verdict::TooLarge))] {
        for at in (0..bytes.len()).filter(|at| *at < 300 || at % 997 == 0) {
            let (head, tail) = bytes.split_at(at);
            let guarded = guard_with(vec![head.to_vec(), tail.to_vec()], 70_000, 70_000, FREE);
            assert_eq!(guarded.verdict, expected, "split at {at}");
        }
    }
}

#[test]
fn limits_are_exact() {
    assert_eq!(verdict(&frame(0x81, &[0; 126]), 126, 126), None);
    assert_eq!(verdict(&frame(0x81, &[0; 127]), 126, 1_000), Some(Verdict::TooLarge));
    let fragments = |last: usize| [frame(0x01, &[0; 60]), frame(0x89, &[0; 100]), frame(0x80, &vec![0; last])].concat();
    assert_eq!(verdict(&fragments(40), 60, 100), None, "control frames do not count");
    assert_eq!(verdict(&fragments(41), 60, 100), Some(Verdict::TooLarge));
    let two = [frame(0x81, &[0; 100]), frame(0x81, &[0; 100])].concat();
    assert_eq!(verdict(&two, 100, 100), None, "each message has its own total");
}

#[test]
fn illegal_control_frames_and_lengths_are_malformed() {
    assert_eq!(verdict(&frame(0x89, &[0; 125]), 16, 16), None);
    assert_eq!(verdict(&frame(0x89, &[0; 126]), 1_000, 1_000), Some(Verdict::Malformed));
    assert_eq!(verdict(&frame(0x09, b""), 1_000, 1_000), Some(Verdict::Malformed));
    assert_eq!(verdict(&header(0x82, 1 << 63), usize::MAX, usize::MAX), Some(Verdict::Malformed));
    assert_eq!(
        verdict(&[frame(0x01, &[0; 9]), header(0x80, (1 << 63) - 1)].concat(), 1 << 20, 1 << 20),
        Some(Verdict::TooLarge)
    );
}

#[test]
fn floods_are_refused_and_counted() {
    let rates = InboundRates { control_frames: 20, messages: 100 };
    let flood = |first: u8, count: usize| guard_with(vec![frame(first, b"x").repeat(count)], 100, 10_000, rates);
    assert_eq!(flood(0x89, 20).verdict, None);
    let pings = flood(0x89, 200);
    assert_eq!(pings.verdict, Some(Verdict::ControlRate));
    assert_eq!(pings.metrics.limits.of(LimitHit::ControlRate).get(), 1);
    assert_eq!(flood(0x81, 100).verdict, None);
    let messages = flood(0x81, 1_000);
    assert_eq!(messages.verdict, Some(Verdict::MessageRate));
    assert_eq!(messages.metrics.limits.of(LimitHit::MessageRate).get(), 1);
    let fragments = [frame(0x01, b""), frame(0x00, b"").repeat(10_000)].concat();
    assert_eq!(guard_with(vec![fragments], 100, 100, rates).verdict, Some(Verdict::MessageRate));
}

#[test]
fn messages_and_payload_bytes_are_counted() {
    let bytes = [frame(0x01, b"abc"), frame(0x80, b"de"), frame(0x82, b"fgh"), frame(0x8A, b"pong")].concat();
    let metrics = guard_with(vec![bytes], 100, 100, FREE).metrics;
    assert_eq!(metrics.messages.of(Direction::In).get(), 2);
    assert_eq!(metrics.message_bytes.of(Direction::In).get(), 8);
}

#[test]
fn raised_limits_hold_from_the_next_frame_on() {
    let inbound = Inbound::new(10, 10);
    let mut scan = Scan::new(FREE);
    let now = Instant::now();
    assert_eq!(scan.read(&frame(0x81, &[0; 10]), &inbound, now), Ok(()));
    inbound.set_limits(20, 20);
    assert_eq!(scan.read(&frame(0x81, &[0; 20]), &inbound, now), Ok(()));
    assert_eq!(scan.read(&frame(0x81, &[0; 21]), &inbound, now), Err(Verdict::TooLarge));
}

#[test]
fn the_age_of_what_is_incomplete_counts_from_its_first_byte() {
    let inbound = Inbound::new(100, 100);
    let mut scan = Scan::new(FREE);
    let at = |seconds| inbound.bytes_at() + Duration::from_secs(seconds);
    let (one, two, three) = (at(1), at(2), at(3));
    let whole = frame(0x81, b"hello");
    scan.read(&whole, &inbound, one).unwrap();
    assert_eq!(inbound.incomplete_since(), None);
    scan.read(&whole[..1], &inbound, one).unwrap();
    scan.read(&whole[1..8], &inbound, two).unwrap();
    assert_eq!(inbound.incomplete_since(), Some(one));
    scan.read(&whole[8..], &inbound, three).unwrap();
    assert_eq!(inbound.incomplete_since(), None);
    scan.read(&frame(0x01, b"part"), &inbound, two).unwrap();
    scan.read(&frame(0x89, b""), &inbound, three).unwrap();
    assert_eq!(inbound.incomplete_since(), Some(two), "a ping completes no message");
    assert_eq!((inbound.bytes_at(), inbound.message_at()), (three, two));
    scan.read(&frame(0x80, b"rest"), &inbound, three).unwrap();
    assert_eq!((inbound.incomplete_since(), inbound.message_at()), (None, three));
}

#[test]
fn the_end_of_the_stream_is_told_as_such() {
    for items in [vec![], vec![Err(PayloadError::Incomplete(None))]] {
        let inbound = Inbound::new(10, 10);
        let metrics = Arc::new(Metrics::new());
        let mut guard = FrameGuard::new(stream::iter(items), Rc::clone(&inbound), FREE, metrics);
        while let Poll::Ready(Some(_)) = Pin::new(&mut guard).poll_next(&mut Context::from_waker(Waker::noop())) {}
        assert_eq!(inbound.verdict(), Some(Verdict::PeerGone));
    }
}

/// The same judgement written plainly over the whole input: how many bytes may pass before the verdict falls.
fn judged_plainly(bytes: &[u8], frame_max: u64, message_max: u64) -> Option<Verdict> {
    let (mut at, mut message) = (0_usize, 0_u128);
    loop {
        let rest = bytes.get(at..)?;
        let [first, second] = *rest.first_chunk::<2>()?;
        let (len, header) = match second & 0x7F {
            126 => (u64::from(u16::from_be_bytes(*rest.get(2..)?.first_chunk::<2>()?)), 4),
            127 => (u64::from_be_bytes(*rest.get(2..)?.first_chunk::<8>()?), 10),
            short => (u64::from(short), 2),
        };
        let (last, control) = (first >= 0x80, first & 0x08 != 0);
        if len > u64::MAX / 2 || (control && (len > 125 || !last)) {
            return Some(Verdict::Malformed);
        }
        if !control {
            message += u128::from(len);
            if len > frame_max || message > u128::from(message_max) {
                return Some(Verdict::TooLarge);
            }
            message = if last { 0 } else { message };
        }
        at += header + if second >= 0x80 { 4 } else { 0 } + usize::try_from(len).ok()?;
    }
}

/// Frames with small and odd lengths, and noise.
fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let legal = (any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(first, payload)| frame(first, &payload));
    let noise = prop::collection::vec(any::<u8>(), 0..20);
    prop::collection::vec(prop_oneof![4 => legal, 1 => noise], 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn agrees_with_a_plain_reading_and_passes_bytes_unchanged(
        bytes in traffic(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6), frame_max in 100_usize..300,
    ) {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([bytes.len()]).collect();
        ends.sort_unstable();
        let mut start = 0;
        let chunks = ends.into_iter().map(|end| bytes[std::mem::replace(&mut start, end)..end].to_vec()).collect();
        let guarded = guard_with(chunks, frame_max, 400, FREE);
        prop_assert_eq!(guarded.verdict, judged_plainly(&bytes, frame_max as u64, 400));
        prop_assert!(bytes.starts_with(&guarded.passed));
        prop_assert!(guarded.verdict.is_some() || guarded.passed == bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
        let guarded = guard_with(chunks, 1 << 40, 1 << 40, InboundRates { control_frames: 5, messages: 5 });
        prop_assert!(guarded.inbound.frame_max() == 1 << 40);
    }
}
