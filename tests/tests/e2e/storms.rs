//! Storms of a few hundred clients that mean ill: each is closed with its code, an honest client is verified in their midst,
//! and nothing of them stays. `loadtest floods` is the same with thousands, and measures.

use countersign_tests::binding::PageKey;
use countersign_tests::raw::{CLOSE, CONTINUATION, Frame, Raw, TEXT};
use countersign_tests::socket::{Dial, NATIVE, Socket};
use countersign_tests::{Node, Plan};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::net::TcpStream;

/// Attackers of one storm: below what one network may fail in a minute.
const CLIENTS: usize = 200;
/// Of them on their way at once.
const AT_ONCE: usize = 64;

/// Patient, so that nobody is late whose turn only comes late.
fn started() -> Node {
    let patient =
        "[challenge]\nhello_timeout_ms = 60000\nanswer_timeout_ms = 30000\n[gateway.limits]\nping_interval_seconds = 0\n";
    Plan::new().toml(patient).start()
}

/// So impatient with what is left out that the silent are soon told.
fn impatient(timeout: &str) -> Node {
    let ping = "[gateway.limits]\nping_interval_seconds = 0\n";
    Plan::new().toml(ping).toml(&format!("[challenge]\n{timeout} = 5000")).start()
}

/// All attackers, each as far as `come` brings it.
async fn all<T, F: Future<Output = T>>(come: impl Fn(usize) -> F) -> Vec<T> {
    futures_util::stream::iter(0..CLIENTS).map(come).buffer_unordered(AT_ONCE).collect().await
}

/// The codes with which these sockets end, each once.
async fn codes(sockets: Vec<Socket>) -> Vec<u16> {
    let ends = sockets.into_iter().map(|mut socket| async move { socket.close_code().await });
    let mut codes = futures_util::future::join_all(ends).await;
    assert_eq!(codes.len(), CLIENTS);
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// An honest client is verified and holds on, and is all that is left at last.
async fn nothing_stays(node: &Node, mut honest: Socket) {
    honest.ok("ping", json!({})).await;
    node.metric_reaches("countersign_connections", &[], 1.0).await;
    node.metric_reaches("countersign_connections", &[("state", "verified")], 1.0).await;
    node.metric_reaches("countersign_challenges_pending", &[], 0.0).await;
    assert_eq!(node.authorize(&honest.id).await.status, 200);
}

/// Waits until so many sockets are counted.
async fn counts(node: &Node, name: &str, labels: &[(&str, &str)], sockets: usize) {
    // A count of sockets.
    node.metric_reaches(name, labels, sockets as f64).await;
}

/// A native client of which every byte is the test's own.
async fn raw(node: &Node) -> Raw {
    Raw::open_with(node, &[("Origin", &node.origin()), ("Sec-WebSocket-Protocol", NATIVE)]).await
}

fn is_challenge(frame: &Frame) -> bool {
    String::from_utf8_lossy(&frame.payload).contains(r#""event":"challenge""#)
}

#[tokio::test]
async fn clients_that_never_say_hello_end_with_4408_and_an_honest_one_is_verified() {
    let node = impatient("hello_timeout_ms");
    let silent = all(|_| Dial::page(&node).welcomed()).await;
    let honest = Dial::page(&node).verified().await;
    assert_eq!(codes(silent).await, [4408]);
    nothing_stays(&node, honest).await;
    counts(&node, "countersign_closes_total", &[("code", "4408")], CLIENTS).await;
}

#[tokio::test]
async fn clients_that_never_answer_end_with_4408_and_an_honest_one_is_verified() {
    let node = impatient("answer_timeout_ms");
    let silent = all(|_| async {
        let mut socket = Dial::page(&node).welcomed().await;
        socket.challenge().await;
        socket
    })
    .await;
    let honest = Dial::page(&node).verified().await;
    assert_eq!(codes(silent).await, [4408]);
    nothing_stays(&node, honest).await;
    counts(&node, "countersign_challenge_verdicts_total", &[("verdict", "late")], CLIENTS).await;
}

#[tokio::test]
async fn clients_that_answer_wrongly_end_with_4403_and_an_honest_one_is_verified() {
    let node = started();
    let wrong = all(|turn| {
        let node = &node;
        async move {
            let mut socket = Dial::page(node).welcomed().await;
            let challenge = socket.challenge().await;
            let mut answer = socket.answer(&challenge);
            // Of another program, by another key, no answer at all, or of another page.
            match turn % 4 {
                0 => answer["mac"] = json!("A".repeat(43)),
                1 => answer["signature"] = json!("A".repeat(86)),
                2 => answer = json!({}),
                _ => answer["origin"] = json!("https://evil.example"),
            }
            socket.ask_and_forget("answer", answer).await;
            socket
        }
    })
    .await;
    let honest = Dial::page(&node).verified().await;
    assert_eq!(codes(wrong).await, [4403]);
    nothing_stays(&node, honest).await;
    for (verdict, share) in [("wrong_answer", 2), ("bad_signature", 1), ("origin_mismatch", 1), ("verified", 0)] {
        let expected = if verdict == "verified" { 1 } else { CLIENTS * share / 4 };
        counts(&node, "countersign_challenge_verdicts_total", &[("verdict", verdict)], expected).await;
    }
}

#[tokio::test]
async fn answers_too_large_end_with_1009_whole_announced_or_in_pieces() {
    let node = started();
    let sockets = all(|turn| {
        let node = &node;
        async move {
            let mut socket = raw(node).await;
            let large = format!(r#"{{"id":2,"action":"answer","mac":"{}"}}"#, "A".repeat(20_000));
            match turn % 3 {
                0 => socket.send(&[Frame::new(TEXT, large)]).await,
                // A gigabyte is announced; none of it ever comes.
                1 => socket.bytes(&Frame::new(TEXT, "").header(0x80, 1 << 30)).await,
                _ => {
                    let (first, rest) = large.split_at(100);
                    let mut pieces = vec![Frame::part(TEXT, first)];
                    pieces.extend(rest.as_bytes().chunks(500).map(|piece| Frame::part(CONTINUATION, piece)));
                    socket.send(&pieces).await;
                }
            }
            socket
        }
    })
    .await;
    let honest = Dial::page(&node).verified().await;
    for mut socket in sockets {
        assert_eq!(socket.closed().await, Some(1009));
    }
    nothing_stays(&node, honest).await;
    counts(&node, "countersign_closes_total", &[("code", "1009")], CLIENTS).await;
}

#[tokio::test]
async fn repeated_hellos_get_one_challenge_and_end_with_4429() {
    let node = started();
    let stormed = all(|_| async {
        let (mut socket, key) = (raw(&node).await, PageKey::new());
        let hello = json!({"id": 1, "action": "hello", "forms": ["vm"], "nonce": "A".repeat(43), "key": key.point()});
        let hello = Frame::new(TEXT, hello.to_string());
        socket.send(std::slice::from_ref(&hello)).await;
        while !is_challenge(&socket.frame().await.expect("a challenge")) {}
        // A second one is refused, and does no more.
        socket.send(std::slice::from_ref(&hello)).await;
        let refused = socket.frame().await.expect("a reply");
        assert!(String::from_utf8_lossy(&refused.payload).contains("hello was said before"), "{refused:?}");
        socket.send(&vec![hello; 150]).await;
        socket
    })
    .await;
    let honest = Dial::page(&node).verified().await;
    for mut socket in stormed {
        let close = loop {
            let frame = socket.frame().await.expect("a close frame");
            assert!(!is_challenge(&frame), "a second challenge");
            if frame.opcode == CLOSE {
                break frame;
            }
        };
        assert_eq!(close.code(), Some(4429));
    }
    nothing_stays(&node, honest).await;
    // One challenge for each, whatever it said after the first hello.
    counts(&node, "countersign_challenge_verdicts_total", &[("verdict", "abandoned")], CLIENTS).await;
    counts(&node, "countersign_challenge_verdicts_total", &[], CLIENTS + 1).await;
}

#[tokio::test]
async fn clients_that_come_and_drop_leave_nothing() {
    let node = started();
    all(|turn| {
        let node = &node;
        async move {
            match turn % 4 {
                0 => drop(TcpStream::connect(node.gateway).await.expect("the node listens")),
                1 => drop(raw(node).await),
                2 => {
                    let mut socket = Dial::page(node).welcomed().await;
                    socket.challenge().await;
                }
                _ => {
                    // A reset instead of an end.
                    let socket = raw(node).await;
                    socket.stream.set_zero_linger().expect("a socket");
                }
            }
        }
    })
    .await;
    let honest = Dial::page(&node).verified().await;
    nothing_stays(&node, honest).await;
    // What each of them held is given back: no descriptor stays, and a second storm finds the node as the first did.
    let before = node.opened();
    all(|_| async { drop(raw(&node).await) }).await;
    node.metric_reaches("countersign_connections", &[], 0.0).await;
    countersign_tests::eventually_ok("no descriptor stays", || async {
        let now = node.opened();
        if now.len() <= before.len() { Ok(()) } else { Err(format!("{now:?}, before {before:?}")) }
    })
    .await;
}
