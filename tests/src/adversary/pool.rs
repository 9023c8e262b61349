//! Answers that are used elsewhere, later, or again.

use futures_util::future::join_all;
use serde_json::Value;

use super::programs::pretend;
use super::{Target, count, verdict};
use crate::socket::Socket;

/// Sockets that were challenged, each with its right answer.
async fn solved(target: &Target, attempts: u32) -> Vec<(Socket, Value)> {
    let solve = async |_| {
        let mut socket = pretend(target).await;
        let challenge = socket.challenge().await;
        let answer = socket.answer(&challenge);
        (socket, answer)
    };
    join_all((0..attempts).map(solve)).await
}

async fn submit(mut socket: Socket, answer: Value) -> (bool, Socket) {
    socket.ask_and_forget("answer", answer).await;
    (verdict(&mut socket).await, socket)
}

/// Each answers with what its neighbour has computed, under the name of its own challenge.
pub(super) async fn crosswise(target: &Target, attempts: u32) -> u32 {
    let (sockets, mut answers): (Vec<Socket>, Vec<Value>) = solved(target, attempts.max(2)).await.into_iter().unzip();
    let names: Vec<Value> = answers.iter().map(|answer| answer["challenge"].clone()).collect();
    answers.rotate_left(1);
    let submitted = sockets.into_iter().zip(answers).zip(names).map(|((socket, mut answer), name)| {
        answer["challenge"] = name;
        submit(socket, answer)
    });
    count(join_all(submitted).await.into_iter().map(|(verified, _)| verified))
}

/// The sockets are gone by the time their answers are given, on sockets that were challenged anew.
pub(super) async fn later(target: &Target, attempts: u32) -> u32 {
    let mut answers = Vec::new();
    for (socket, answer) in solved(target, attempts).await {
        socket.close().await;
        answers.push(answer);
    }
    let answered = answers.into_iter().map(|answer| async {
        let mut socket = pretend(target).await;
        socket.challenge().await;
        submit(socket, answer).await.0
    });
    count(join_all(answered).await)
}

/// All are answered in time, each on its own socket, and all stay open: what a pool costs.
pub(super) async fn held(target: &Target, attempts: u32) -> u32 {
    let submitted = solved(target, attempts).await.into_iter().map(|(socket, answer)| submit(socket, answer));
    let held = join_all(submitted).await;
    let open = target.node.metrics().await.sum("countersign_connections", &[]);
    let verified = count(held.iter().map(|(verified, _)| *verified));
    assert!(open >= f64::from(verified), "{verified} are verified with {open} sockets");
    verified
}

/// Repeats on a socket of its own what a victim says: the same hello, so the same key and nonce, and then the victim's answer.
pub(super) async fn replayed(target: &Target, attempts: u32) -> u32 {
    let mut successes = 0;
    for _ in 0..attempts {
        let (mut victim, mut thief) = (pretend(target).await, pretend(target).await);
        let hello = victim.hello();
        victim.ok("hello", hello.clone()).await;
        thief.ok("hello", hello).await;
        let (challenge, _) = (victim.event("challenge").await, thief.event("challenge").await);
        let answer = victim.answer(&challenge);
        let (victim_verified, mut victim) = submit(victim, answer.clone()).await;
        assert!(victim_verified, "the victim is honest");
        // A second time on the same socket: refused, and of no effect.
        assert_eq!(victim.error("answer", answer.clone()).await, "denied");
        successes += u32::from(submit(thief, answer).await.0);
    }
    successes
}
