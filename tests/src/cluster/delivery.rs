//! Who publishes and who listens while a test breaks things, and what became of every publication.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::Cluster;
use crate::http;
use crate::poll::{PATIENCE, eventually};
use crate::socket::{Incoming, Socket};

/// The channel of it all, and the rule that the nodes need.
pub const CHANNEL: &str = "check:delivery";
/// What a plan needs for it.
pub const RULE: &str = "[[channels]]\npattern = \"check:*\"\nsubscribe = \"verified\"\npublish = \"verified\"\n";
/// Pace of one publisher.
const EVERY: Duration = Duration::from_millis(25);
/// Longest wait for the answer to one publication: an answer is owed even while Redis is away.
const ANSWER_MAX: Duration = PATIENCE;

/// One publication as its publisher saw it.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Number in its publisher's row.
    pub number: u64,
    /// Before it was sent.
    pub at: Instant,
}

/// What one subscriber got.
#[derive(Debug, Clone, Default)]
struct Heard {
    /// By publisher, in the order of arrival.
    numbers: BTreeMap<usize, Vec<(u64, Instant)>>,
    /// How its socket ended, if it did.
    ended: Option<Incoming>,
}

type Shared<T> = Arc<Mutex<T>>;

/// A publisher and a subscriber on every node.
#[derive(Debug)]
pub struct Delivery {
    stop: Arc<AtomicBool>,
    sent: Vec<Shared<Vec<Sent>>>,
    heard: Vec<Shared<Heard>>,
    publishers: Vec<JoinHandle<()>>,
    subscribers: Vec<JoinHandle<()>>,
    /// When everything reached everybody: a subscription is confirmed before other nodes tell what it is to.
    flowing: Instant,
    /// The connections of the subscribers, by node: verified, and open for as long as this lives.
    pub connections: Vec<String>,
}

/// What became of everything.
#[derive(Debug)]
pub struct Outcome {
    /// By publisher.
    sent: Vec<Vec<Sent>>,
    /// By subscriber.
    heard: Vec<Heard>,
    /// What was sent before that is not judged.
    flowing: Instant,
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Delivery {
    /// Starts, and waits until everything that anybody publishes reaches everybody.
    pub async fn start(cluster: &Cluster) -> Self {
        let mut delivery = Self {
            stop: Arc::default(),
            sent: Vec::new(),
            heard: Vec::new(),
            publishers: Vec::new(),
            subscribers: Vec::new(),
            flowing: Instant::now(),
            connections: Vec::new(),
        };
        for number in 0..cluster.nodes.len() {
            let mut socket = cluster.dial(number).verified().await;
            socket.ok("subscribe", json!({ "channel": CHANNEL })).await;
            delivery.connections.push(socket.id.clone());
            let heard = Shared::<Heard>::default();
            delivery.heard.push(heard.clone());
            delivery.subscribers.push(tokio::spawn(listen(socket, heard)));
        }
        for (number, node) in cluster.nodes.iter().enumerate() {
            let sent = Shared::<Vec<Sent>>::default();
            delivery.sent.push(sent.clone());
            let (url, key) = (node.admin_url("/api/v1/publish"), node.api_key());
            delivery.publishers.push(tokio::spawn(publish(number, url, key, sent, delivery.stop.clone())));
        }
        delivery.flows(Instant::now()).await;
        delivery.flowing = Instant::now();
        delivery
    }

    /// Waits until each subscriber has got something of each publisher that was sent after `since`; how long after it.
    pub async fn flows(&self, since: Instant) -> Duration {
        self.flows_between(since, |_, _| true).await
    }

    /// The same for some pairs of publisher and subscriber only.
    pub async fn flows_between(&self, since: Instant, pair: impl Fn(usize, usize) -> bool) -> Duration {
        eventually("publications reach everybody", || async {
            let missing = |publisher: usize, subscriber: usize| {
                let first = lock(&self.sent[publisher]).iter().find(|sent| sent.at >= since).map(|sent| sent.number);
                let last = lock(&self.heard[subscriber]).numbers.get(&publisher).and_then(|row| row.last().copied());
                !matches!((first, last), (Some(first), Some((last, _))) if last >= first)
            };
            let pairs = (0..self.sent.len()).flat_map(|from| (0..self.heard.len()).map(move |to| (from, to)));
            (!pairs.filter(|(from, to)| pair(*from, *to)).any(|(from, to)| missing(from, to))).then_some(())
        })
        .await;
        since.elapsed()
    }

    /// Stops publishing, waits until the last publications have arrived, and tells what became of all.
    pub async fn finish(mut self) -> Outcome {
        let since = Instant::now();
        self.flows(since).await;
        self.stop.store(true, Ordering::Relaxed);
        for publisher in std::mem::take(&mut self.publishers) {
            publisher.await.expect("a publisher does not fail");
        }
        let last = |row: usize| lock(&self.sent[row]).last().map_or(0, |sent| sent.number);
        eventually("the last publications arrive", || async {
            let all = self.heard.iter().all(|heard| {
                let heard = lock(heard);
                (0..self.sent.len()).all(|row| {
                    heard.numbers.get(&row).and_then(|numbers| numbers.last()).is_some_and(|(number, _)| *number == last(row))
                })
            });
            all.then_some(())
        })
        .await;
        Outcome {
            sent: self.sent.iter().map(|sent| lock(sent).clone()).collect(),
            heard: self.heard.iter().map(|heard| lock(heard).clone()).collect(),
            flowing: self.flowing,
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.publishers.iter().chain(&self.subscribers).for_each(JoinHandle::abort);
    }
}

impl Outcome {
    /// No socket ended, nothing came twice or out of order, and nothing was lost on its way within one node; of what was
    /// published elsewhere, nothing that was sent once all flowed and outside of `faults` is missing.
    ///
    /// # Panics
    /// If something of it does not hold.
    pub fn check(&self, faults: &[(Instant, Instant)]) {
        let in_fault = |at: Instant| at < self.flowing || faults.iter().any(|(from, until)| *from <= at && at <= *until);
        for (subscriber, heard) in self.heard.iter().enumerate() {
            assert_eq!(heard.ended, None, "the socket on node {subscriber} ended");
            for (publisher, sent) in self.sent.iter().enumerate() {
                let numbers: Vec<u64> =
                    heard.numbers.get(&publisher).into_iter().flatten().map(|(number, _)| *number).collect();
                let faulty = judge(sent, &numbers, |at| publisher != subscriber && in_fault(at));
                assert!(faulty.is_empty(), "from node {publisher} to node {subscriber}: {faulty:?}");
            }
        }
    }

    /// Publications that did not arrive, over all pairs.
    #[must_use]
    pub fn lost(&self) -> usize {
        let lost = |heard: &Heard, publisher: usize, sent: &Vec<Sent>| {
            sent.len() - heard.numbers.get(&publisher).map_or(0, Vec::len).min(sent.len())
        };
        self.heard
            .iter()
            .map(|heard| self.sent.iter().enumerate().map(|(publisher, sent)| lost(heard, publisher, sent)).sum::<usize>())
            .sum()
    }

    /// Publications, over all publishers.
    #[must_use]
    pub fn published(&self) -> usize {
        self.sent.iter().map(Vec::len).sum()
    }
}

/// What is wrong with a row of arrived numbers; `excused` are the times at which loss is allowed.
fn judge(sent: &[Sent], numbers: &[u64], excused: impl Fn(Instant) -> bool) -> Vec<String> {
    let mut faulty = Vec::new();
    for pair in numbers.windows(2) {
        match pair[1].cmp(&pair[0]) {
            std::cmp::Ordering::Greater => {}
            std::cmp::Ordering::Equal => faulty.push(format!("{} came twice", pair[0])),
            std::cmp::Ordering::Less => faulty.push(format!("{} came after {}", pair[1], pair[0])),
        }
    }
    let arrived: std::collections::HashSet<u64> = numbers.iter().copied().collect();
    let lost = sent.iter().filter(|sent| !arrived.contains(&sent.number) && !excused(sent.at));
    faulty.extend(lost.map(|sent| format!("{} of {} was lost", sent.number, sent_max(numbers))));
    faulty
}

fn sent_max(numbers: &[u64]) -> u64 {
    numbers.last().copied().unwrap_or_default()
}

/// Publishes numbers at an even pace. Whether the node could tell the others is none of its business here.
async fn publish(publisher: usize, url: String, key: String, sent: Shared<Vec<Sent>>, stop: Arc<AtomicBool>) {
    let mut pace = tokio::time::interval(EVERY);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 1.. {
        pace.tick().await;
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let body = json!({ "channel": CHANNEL, "data": { "publisher": publisher, "number": number } });
        lock(&sent).push(Sent { number, at: Instant::now() });
        let answer = http::post(&url, &body).header("X-API-Key", &key).try_send();
        match tokio::time::timeout(ANSWER_MAX, answer).await {
            Ok(Ok(answer)) => assert!(matches!(answer.status, 200 | 503), "{} {}", answer.status, answer.text()),
            Ok(Err(error)) => panic!("publication {number} on node {publisher}: {error}"),
            Err(_) => panic!("publication {number} on node {publisher} is not answered"),
        }
    }
}

/// Notes what comes.
async fn listen(mut socket: Socket, heard: Shared<Heard>) {
    loop {
        match socket.wait().await {
            Incoming::Text(text) => {
                let event: Value = serde_json::from_str(&text).expect("the node sends JSON");
                if event["event"] == "publication" {
                    let publisher = event["data"]["publisher"].as_u64().and_then(|number| usize::try_from(number).ok());
                    let number = event["data"]["number"].as_u64().expect("a number");
                    let mut heard = lock(&heard);
                    heard.numbers.entry(publisher.expect("a publisher")).or_default().push((number, Instant::now()));
                }
            }
            Incoming::Binary(_) => {}
            end => {
                lock(&heard).ended = Some(end);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(numbers: &[u64], excused: bool, expected: &[&str]) {
        let sent: Vec<Sent> = (1..=4).map(|number| Sent { number, at: Instant::now() }).collect();
        assert_eq!(judge(&sent, numbers, |_| excused), expected, "{numbers:?}");
    }

    #[test]
    fn lost_doubled_and_reordered_are_told_apart() {
        check(&[1, 2, 3, 4], false, &[]);
        check(&[1, 2, 4], false, &["3 of 4 was lost"]);
        check(&[1, 2, 4], true, &[]);
        check(&[1, 2, 2, 3, 4], true, &["2 came twice"]);
        check(&[1, 3, 2, 4], true, &["2 came after 3"]);
    }
}
