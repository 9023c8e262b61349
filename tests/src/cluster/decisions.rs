//! Who asks all nodes about all connections, all the time; and the promise that every answer is held against.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::{Cluster, LEASE, STALE_LIMIT};
use crate::http;
use crate::poll::{PATIENCE, eventually};

/// Pace of one asker: one connection after the other.
const EVERY: Duration = Duration::from_millis(10);
/// An answer that takes longer is none: the endpoint bounds its own waiting. How long that takes depends on the machine.
const ANSWER_MAX: Duration = PATIENCE;
/// So long a node waits for Redis, and for another node, before it says that it does not know.
const ASKED_IN_VAIN: Duration = Duration::from_secs(1);
/// For what a busy machine adds to any promise.
const SLACK: Duration = Duration::from_secs(1);

/// A connection that is asked about.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its id.
    pub id: String,
    /// The node that owns it.
    pub owner: usize,
    /// Verified at all?
    pub verified: bool,
    /// When its client saw it closed, if it did.
    pub closed: Option<Instant>,
}

/// A time in which Redis was away for some nodes: the ones that it names.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Begin and end.
    pub span: (Instant, Instant),
    /// Whose.
    pub nodes: Vec<usize>,
    /// The stream was silent as well, not only writes refused.
    pub silent: bool,
}

/// One answer.
#[derive(Debug, Clone, Copy)]
struct Answer {
    node: usize,
    status: u16,
    asked: Instant,
    answered: Instant,
}

type Log = Arc<Mutex<HashMap<String, Vec<Answer>>>>;

/// One asker for each node.
#[derive(Debug)]
pub struct Decisions {
    subjects: Arc<Mutex<Vec<Subject>>>,
    log: Log,
    stop: Arc<AtomicBool>,
    askers: Vec<JoinHandle<()>>,
}

impl Decisions {
    /// Starts to ask.
    #[must_use]
    pub fn start(cluster: &Cluster, subjects: Vec<Subject>) -> Self {
        let (subjects, log, stop) = (Arc::new(Mutex::new(subjects)), Log::default(), Arc::new(AtomicBool::new(false)));
        let asker = |(number, address): (usize, SocketAddr)| {
            tokio::spawn(ask(number, address, Arc::clone(&subjects), log.clone(), Arc::clone(&stop)))
        };
        let askers = cluster.nodes.iter().map(|node| node.admin).enumerate().map(asker).collect();
        Self { subjects, log, stop, askers }
    }

    /// A client saw its connection closed.
    pub fn closed(&self, id: &str) {
        let mut subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        subjects.iter_mut().filter(|subject| subject.id == id).for_each(|subject| subject.closed = Some(Instant::now()));
    }

    /// Waits until `node` answers `status` about a connection to a question asked after `since`; how long after it.
    pub async fn answers(&self, node: usize, id: &str, status: u16, since: Instant) -> Duration {
        let what = format!("node {node} answers {status}");
        eventually(&what, || async {
            let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            let after = log.get(id)?.iter().rev().take_while(|answer| answer.asked >= since);
            after.filter(|answer| answer.node == node && answer.status == status).last().map(|answer| answer.answered - since)
        })
        .await
    }

    /// Stops, and holds every answer against the promise. `late`: what a busy machine added to its times.
    ///
    /// # Panics
    /// If an answer breaks it.
    pub async fn check(mut self, faults: &[Fault], late: Duration) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for asker in std::mem::take(&mut self.askers) {
            asker.await.expect("an asker does not fail");
        }
        let subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let mut broken = Vec::new();
        for subject in &subjects {
            for answer in log.get(&subject.id).into_iter().flatten() {
                if let Some(rule) = judge(subject, answer, faults, late) {
                    broken.push(told(subject, answer, faults, rule));
                }
            }
        }
        assert!(
            broken.is_empty(),
            "{} answers break the promise, the first and the last: {:#?}",
            broken.len(),
            broken.iter().take(5).chain(broken.last()).collect::<Vec<_>>()
        );
        log.values().map(Vec::len).sum()
    }
}

impl Drop for Decisions {
    fn drop(&mut self) {
        self.askers.iter().for_each(JoinHandle::abort);
    }
}

/// What is said of an answer that breaks a rule: with its distance from each fault, for whoever reads the nodes' logs.
fn told(subject: &Subject, answer: &Answer, faults: &[Fault], rule: &str) -> String {
    let seconds =
        |at: Instant| if answer.asked >= at { (answer.asked - at).as_secs_f64() } else { -(at - answer.asked).as_secs_f64() };
    let distances: Vec<_> = faults
        .iter()
        .map(|Fault { span, .. }| format!("{:+.2} s of begin, {:+.2} s of end", seconds(span.0), seconds(span.1)))
        .collect();
    format!("node {} said {} of node {}'s connection, {distances:?}: {rule}", answer.node, answer.status, subject.owner)
}

/// The rule that an answer breaks.
fn judge(subject: &Subject, answer: &Answer, faults: &[Fault], late: Duration) -> Option<&'static str> {
    let allowed = answer.status == 200;
    let owner = subject.owner == answer.node;
    if !matches!(answer.status, 200 | 401 | 503) {
        return Some("only 200, 401 and 503 are answers");
    }
    if !subject.verified {
        return allowed.then_some("it was never verified");
    }
    let touches = |fault: &&Fault| fault.nodes.contains(&answer.node) || fault.nodes.contains(&subject.owner);
    let around = |fault: &&Fault, at: Instant| fault.span.0 <= at && at <= fault.span.1 + super::RECOVERY + late;
    if let Some(closed) = subject.closed.filter(|closed| *closed < answer.asked) {
        let in_fault = faults.iter().filter(touches).any(|fault| around(&fault, closed) || around(&fault, answer.asked));
        let bound = match (owner, in_fault) {
            (true, _) => Duration::ZERO,
            (false, false) => SLACK + late,
            // Nobody can be told that it closed: the stream's silence or the owner's lease must end it.
            (false, true) => LEASE.max(STALE_LIMIT) + SLACK + late,
        };
        return (allowed && answer.asked > closed + bound).then_some("it was closed");
    }
    if subject.closed.is_some() {
        // Asked before it closed and answered after: either may be right.
        return None;
    }
    if owner {
        return (!allowed).then_some("its own node must not doubt it");
    }
    let mut touching = faults.iter().filter(touches);
    if touching
        .clone()
        .any(|fault| fault.silent && is_inside(answer, (fault.span.0 + STALE_LIMIT + SLACK + late, fault.span.1)))
    {
        return allowed.then_some("the stream is silent for too long");
    }
    let excused = touching.any(|fault| around(&fault, answer.asked) || around(&fault, answer.answered));
    // Nobody told it in time: that is never an allow, and on a machine that has no time for it right.
    let undecided = answer.status == 503 && answer.answered - answer.asked >= ASKED_IN_VAIN;
    (!allowed && !excused && !undecided).then_some("it is open and verified, and nothing is wrong")
}

fn is_inside(answer: &Answer, span: (Instant, Instant)) -> bool {
    span.0 <= answer.asked && answer.answered <= span.1
}

/// Asks one node about one connection after the other.
async fn ask(node: usize, address: SocketAddr, subjects: Arc<Mutex<Vec<Subject>>>, log: Log, stop: Arc<AtomicBool>) {
    let mut pace = tokio::time::interval(EVERY);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        let ids: Vec<String> =
            subjects.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|subject| subject.id.clone()).collect();
        for id in ids {
            pace.tick().await;
            let asked = Instant::now();
            let question = http::get(&format!("http://{address}/authorize")).header("connectionId", &id).try_send();
            let answer = tokio::time::timeout(ANSWER_MAX, question).await.expect("an answer in bounded time");
            let status = answer.expect("the node answers").status;
            let answer = Answer { node, status, asked, answered: Instant::now() };
            log.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default().push(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule broken by an answer `at` seconds, with a fault of node 1 from second 10 to 30.
    fn check(verified: bool, closed: Option<u64>, node: usize, at: u64, status: u16, broken: bool) {
        let start = Instant::now();
        let time = |seconds: u64| start + Duration::from_secs(seconds);
        let subject = Subject { id: String::new(), owner: 0, verified, closed: closed.map(time) };
        let answer = Answer { node, status, asked: time(at), answered: time(at) };
        let fault = Fault { span: (time(10), time(30)), nodes: vec![1], silent: true };
        let rule = judge(&subject, &answer, &[fault], Duration::ZERO);
        assert_eq!(rule.is_some(), broken, "closed {closed:?}, node {node}, at {at}, {status}: {rule:?}");
    }

    #[test]
    fn answers_are_held_against_the_promise() {
        check(true, None, 0, 15, 200, false);
        check(true, None, 0, 15, 401, true);
        check(true, None, 1, 5, 503, true);
        check(true, None, 1, 12, 503, false);
        check(true, None, 1, 12, 200, false);
        check(true, None, 1, 20, 200, true);
        check(true, None, 2, 20, 200, false);
        check(true, None, 1, 40, 200, false);
        check(true, None, 1, 40, 503, true);
        check(true, Some(2), 0, 3, 200, true);
        check(true, Some(2), 1, 3, 200, false);
        check(true, Some(2), 1, 4, 200, true);
        check(true, Some(11), 1, 17, 200, false);
        check(true, Some(11), 1, 19, 200, true);
        check(false, None, 1, 12, 200, true);
        check(true, None, 0, 1, 500, true);
    }
}
