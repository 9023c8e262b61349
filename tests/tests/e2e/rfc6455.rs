//! RFC 6455 as a server must do it, frame by frame; then once more as an independent library sees it.

use countersign_tests::Node;
use countersign_tests::poll::eventually;
use countersign_tests::raw::{BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, Raw, TEXT};
use countersign_tests::socket::{Dial, Incoming};

/// A node that echoes everything, with limits that are not the matter of these tests.
pub(crate) const ECHO: &str = r#"
[gateway]
missing_origin = "allow"
[gateway.limits]
control_frames_per_second = 1000
messages_per_second = 1000
frame_max_bytes = 1048576
message_max_bytes = 2097152
outbound_queue_max_bytes = 8388608
[challenge]
enabled = false
[routes."$default"]
echo = true
"#;

/// Sends frames on a fresh socket and expects a close with this code, then the end of the stream.
async fn check_close(node: &Node, what: &str, frames: &[Frame], code: u16) {
    let bytes: Vec<u8> = frames.iter().flat_map(Frame::masked).collect();
    check_close_bytes(node, what, &bytes, &[code]).await;
}

/// The same for any bytes, and for codes between which the RFC leaves the choice.
async fn check_close_bytes(node: &Node, what: &str, bytes: &[u8], codes: &[u16]) {
    eprintln!("case: {what}");
    let mut socket = Raw::open(node).await;
    socket.bytes(bytes).await;
    let code = socket.closed().await;
    assert!(code.is_some_and(|code| codes.contains(&code)), "{what}: closed with {code:?}, not {codes:?}");
}

/// Sends frames on a fresh socket and expects these back, then that the socket still works.
async fn check_echo(node: &Node, what: &str, frames: &[Frame], expected: &[Frame]) {
    eprintln!("case: {what}");
    let mut socket = Raw::open(node).await;
    socket.send(frames).await;
    for frame in expected {
        socket.expect(frame).await;
    }
    socket.send(&[Frame::new(TEXT, "still here")]).await;
    socket.expect(&Frame::new(TEXT, "still here")).await;
}

#[tokio::test]
async fn text_and_binary_come_back_whole() {
    let node = Node::start(ECHO);
    for size in [0, 1, 2, 125, 126, 127, 128, 1_000, 8_191, 8_192, 8_193, 65_535, 65_536, 65_537, 1_048_576] {
        for opcode in [TEXT, BINARY] {
            let payload = vec![b'*'; size];
            check_echo(&node, &format!("{size} bytes"), &[Frame::new(opcode, &*payload)], &[Frame::new(opcode, payload)]).await;
        }
    }
    let all: Vec<u8> = (0..=255).collect();
    check_echo(&node, "every byte", &[Frame::new(BINARY, &*all)], &[Frame::new(BINARY, all)]).await;
}

#[tokio::test]
async fn fragments_become_one_message() {
    let node = Node::start(ECHO);
    let part = |opcode: u8, payload: &[u8]| Frame::part(opcode, payload);
    let rest = |payload: &str| Frame::part(CONTINUATION, payload);
    let last = |payload: &str| Frame::new(CONTINUATION, payload);
    let whole = |payload: &str| vec![Frame::new(TEXT, payload)];
    check_echo(&node, "two", &[part(TEXT, b"ab"), last("cd")], &whole("abcd")).await;
    check_echo(&node, "three", &[part(TEXT, b"a"), rest("b"), last("c")], &whole("abc")).await;
    check_echo(&node, "empty ones", &[part(TEXT, b""), rest(""), last("")], &whole("")).await;
    check_echo(&node, "empty but for the middle", &[part(TEXT, b""), rest("m"), last("")], &whole("m")).await;
    check_echo(&node, "binary", &[part(BINARY, &[0xFF, 0]), last("x")], &[Frame::new(BINARY, [0xFF, 0, b'x'])]).await;
    let many: Vec<Frame> = std::iter::once(part(TEXT, b"k")).chain((0..500).map(|_| rest("k"))).chain([last("k")]).collect();
    check_echo(&node, "502 of them", &many, &whole(&"k".repeat(502))).await;
    let split = "π€😀".as_bytes();
    let bytes: Vec<Frame> = std::iter::once(part(TEXT, &split[..1]))
        .chain(split[1..split.len() - 1].iter().map(|byte| part(CONTINUATION, &[*byte])))
        .chain([Frame::new(CONTINUATION, &split[split.len() - 1..])])
        .collect();
    check_echo(&node, "characters cut in the middle", &bytes, &whole("π€😀")).await;
}

#[tokio::test]
async fn control_frames_may_stand_between_fragments() {
    let node = Node::start(ECHO);
    let frames = [
        Frame::part(TEXT, "a"),
        Frame::new(PING, "one"),
        Frame::part(CONTINUATION, "b"),
        Frame::new(PONG, "unasked"),
        Frame::new(PING, ""),
        Frame::new(CONTINUATION, "c"),
    ];
    let expected = [Frame::new(PONG, "one"), Frame::new(PONG, ""), Frame::new(TEXT, "abc")];
    check_echo(&node, "pings and a pong", &frames, &expected).await;
    check_close(&node, "a close", &[Frame::part(TEXT, "a"), Frame::close(1000, b"")], 1000).await;
}

#[tokio::test]
async fn pings_of_every_legal_size_come_back_in_order() {
    let node = Node::start(ECHO);
    let mut socket = Raw::open(&node).await;
    let pings: Vec<Frame> = (0..=125_u8).map(|size| Frame::new(PING, vec![size; usize::from(size)])).collect();
    socket.send(&pings).await;
    for ping in pings {
        socket.expect(&Frame::new(PONG, ping.payload)).await;
    }
    socket.send(&[Frame::new(PONG, "nobody asked")]).await;
    socket.send(&[Frame::new(TEXT, "on we go")]).await;
    socket.expect(&Frame::new(TEXT, "on we go")).await;
}

#[tokio::test]
async fn frames_may_arrive_byte_by_byte() {
    let node = Node::start(ECHO);
    let mut socket = Raw::open(&node).await;
    let bytes: Vec<u8> = [Frame::part(TEXT, "slow"), Frame::new(PING, "p"), Frame::new(CONTINUATION, vec![b'x'; 130])]
        .iter()
        .flat_map(Frame::masked)
        .collect();
    for byte in bytes {
        socket.bytes(&[byte]).await;
    }
    socket.expect(&Frame::new(PONG, "p")).await;
    socket.expect(&Frame::new(TEXT, format!("slow{}", "x".repeat(130)))).await;
}

#[tokio::test]
async fn text_that_is_not_utf8_closes_with_1007() {
    let node = Node::start(ECHO);
    let cases: &[(&str, &[u8])] = &[
        ("a lone continuation byte", b"ok\x80"),
        ("an overlong slash", b"\xC0\xAF"),
        ("an overlong zero", b"\xE0\x80\x80"),
        ("a surrogate", b"\xED\xA0\x80"),
        ("beyond the last code point", b"\xF4\x90\x80\x80"),
        ("five bytes", b"\xF8\x88\x80\x80\x80"),
        ("cut short", b"ab\xE2\x82"),
        ("0xFE", b"\xFE"),
        ("0xFF", b"\xFF"),
    ];
    for (what, bytes) in cases {
        check_close(&node, what, &[Frame::new(TEXT, *bytes)], 1007).await;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let fragments = [Frame::part(TEXT, first), Frame::new(CONTINUATION, second)];
        check_close(&node, &format!("{what}, in fragments"), &fragments, 1007).await;
    }
    let legal = "\u{0}\u{7F}\u{80}\u{7FF}\u{800}\u{D7FF}\u{E000}\u{FFFD}\u{FFFF}\u{10000}\u{10FFFF}";
    check_echo(&node, "the borders of what is legal", &[Frame::new(TEXT, legal)], &[Frame::new(TEXT, legal)]).await;
    check_echo(&node, "binary need not be text", &[Frame::new(BINARY, b"\xFF")], &[Frame::new(BINARY, b"\xFF")]).await;
}

#[tokio::test]
async fn reserved_bits_and_opcodes_close_with_1002() {
    let node = Node::start(ECHO);
    for reserved in 1..=7 {
        for opcode in [TEXT, BINARY, PING, CLOSE] {
            let frame = Frame { reserved, ..Frame::new(opcode, b"\x03\xE8") };
            check_close(&node, &format!("reserved bits {reserved} on opcode {opcode}"), &[frame], 1002).await;
        }
    }
    for opcode in (3..=7).chain(11..=15) {
        check_close(&node, &format!("opcode {opcode}"), &[Frame::new(opcode, "x")], 1002).await;
        let first = Frame::new(TEXT, "before");
        let mut socket = Raw::open(&node).await;
        socket.send(std::slice::from_ref(&first)).await;
        socket.expect(&first).await;
        socket.send(&[Frame::new(opcode, "")]).await;
        assert_eq!(socket.closed().await, Some(1002), "opcode {opcode} after a message");
    }
}

#[tokio::test]
async fn wrong_sequences_close_with_1002() {
    let node = Node::start(ECHO);
    let cases = [
        ("a continuation of nothing", vec![Frame::new(CONTINUATION, "x")]),
        ("a first continuation of nothing", vec![Frame::part(CONTINUATION, "x")]),
        ("a continuation after the end", vec![Frame::new(TEXT, "a"), Frame::new(CONTINUATION, "b")]),
        ("text inside a message", vec![Frame::part(TEXT, "a"), Frame::new(TEXT, "b")]),
        ("binary inside text", vec![Frame::part(TEXT, "a"), Frame::part(BINARY, "b")]),
        ("a fragmented ping", vec![Frame::part(PING, "a"), Frame::new(CONTINUATION, "b")]),
        ("a fragmented close", vec![Frame::part(CLOSE, b"\x03\xE8")]),
        ("a ping of 126 bytes", vec![Frame::new(PING, vec![0; 126])]),
        ("a pong of 65,536 bytes", vec![Frame::new(PONG, vec![0; 65_536])]),
        ("a close of 126 bytes", vec![Frame::close(1000, &[b'r'; 124])]),
    ];
    for (what, frames) in cases {
        check_close(&node, what, &frames, 1002).await;
    }
    for frame in [Frame::new(TEXT, "x"), Frame::new(PING, ""), Frame::close(1000, b"")] {
        check_close_bytes(&node, "a frame without a mask", &frame.unmasked(), &[1002]).await;
    }
}

#[tokio::test]
async fn a_close_is_answered_with_its_own_code() {
    let node = Node::start(ECHO);
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        check_close(&node, &format!("code {code}"), &[Frame::close(code, b"bye")], code).await;
    }
    check_close(&node, "the longest reason", &[Frame::close(1000, &[b'r'; 123])], 1000).await;
    let mut socket = Raw::open(&node).await;
    socket.send(&[Frame::new(CLOSE, "")]).await;
    assert!(matches!(socket.closed().await, None | Some(1000)), "a close without a code");
}

#[tokio::test]
async fn illegal_closes_are_protocol_errors() {
    let node = Node::start(ECHO);
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        check_close(&node, &format!("code {code}"), &[Frame::close(code, b"")], 1002).await;
    }
    check_close(&node, "one byte", &[Frame::new(CLOSE, [3])], 1002).await;
    check_close_bytes(&node, "a reason that is not UTF-8", &Frame::close(1000, b"\xFF").masked(), &[1002, 1007]).await;
}

#[tokio::test]
async fn nothing_is_answered_after_a_close() {
    let node = Node::start(ECHO);
    let frames = [Frame::close(1000, b""), Frame::new(TEXT, "too late"), Frame::new(PING, "too late")];
    check_close(&node, "data after a close", &frames, 1000).await;
}

#[tokio::test]
async fn announced_size_is_refused_before_it_is_buffered() {
    let node = Node::start(ECHO);
    drop(Raw::open(&node).await);
    let before = node.rss_kib();
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let mut socket = Raw::open(&node).await;
        let mut bytes = Frame::new(BINARY, "").header(0x80, 400 << 20);
        bytes.extend([0; 4]);
        bytes.extend([0; 4_096]);
        socket.bytes(&bytes).await;
        assert_eq!(socket.closed().await, Some(1009));
        sockets.push(socket);
    }
    let grown = node.rss_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "20 x 400 MiB announced: resident memory grew by {grown} KiB");
    for length in [(1 << 20) + 1, u64::from(u32::MAX), 1 << 62] {
        let header = Frame::new(BINARY, "").header(0x80, length);
        check_close_bytes(&node, &format!("{length} bytes announced"), &header, &[1009]).await;
    }
    let header = Frame::new(BINARY, "").header(0x80, 1 << 63);
    check_close_bytes(&node, "a length with its top bit set", &header, &[1002, 1009]).await;
}

#[tokio::test]
async fn fragments_cannot_pass_the_message_limit() {
    let node = Node::start(ECHO);
    let half = || vec![b'x'; 1 << 20];
    let frames = [Frame::part(BINARY, half()), Frame::part(CONTINUATION, half()), Frame::new(CONTINUATION, "1")];
    check_close(&node, "one byte too many in three fragments", &frames, 1009).await;
    let mut socket = Raw::open(&node).await;
    socket.send(&frames[..1]).await;
    socket.send(&[Frame::new(CONTINUATION, half())]).await;
    let echoed = socket.frame().await.expect("exactly the limit passes");
    assert_eq!(echoed.payload.len(), 2 << 20);
}

#[tokio::test]
async fn a_client_that_leaves_without_a_close_is_forgotten() {
    let node = Node::start(ECHO);
    let socket = Raw::open(&node).await;
    node.metric_reaches("countersign_connections", &[], 1.0).await;
    drop(socket);
    node.metric_reaches("countersign_connections", &[], 0.0).await;
    let mut cut_inside = Raw::open(&node).await;
    cut_inside.bytes(&Frame::new(TEXT, "unfinished").masked()[..7]).await;
    drop(cut_inside);
    eventually("no connection is left", || async {
        (node.metrics().await.sum("countersign_connections", &[]) < 0.5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn garbage_never_takes_the_node_down() {
    let node = Node::start(ECHO);
    for seed in 0..200_u32 {
        let mut socket = Raw::open(&node).await;
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let bytes: Vec<u8> = (0..200)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                state.to_be_bytes()[0]
            })
            .collect();
        // The node may have closed before all of it is written.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut socket.stream, &bytes).await;
    }
    node.metric_reaches("countersign_connections", &[], 0.0).await;
    assert!(node.metrics().await.sum("countersign_connection_panics_total", &[]) < 0.5, "no seed makes it panic");
}

#[tokio::test]
async fn an_independent_library_agrees() {
    let node = Node::start(ECHO);
    let mut socket = Dial::to(&node).open().await;
    for size in [0, 1, 125, 126, 4_096, 65_535, 65_536, 300_000] {
        let text = "ä".repeat(size / 2);
        socket.text(&text).await;
        assert_eq!(socket.next().await, Incoming::Text(text));
        let bytes = vec![0xA5; size];
        socket.binary(bytes.clone()).await;
        assert_eq!(socket.next().await, Incoming::Binary(bytes));
    }
    assert!(matches!(socket.close().await, Incoming::Closed(..)));
}
