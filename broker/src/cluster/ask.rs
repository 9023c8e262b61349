//! Questions from one node to another, over the bus.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use countersign_node_proto::{Answer, Ask, NodeId, NodeMessage, Question, Reply};
use tokio::sync::{Semaphore, oneshot};

use super::{Bus, BusUnavailable};
use crate::telemetry::{AskOutcome, Metrics};

/// Questions that wait for an answer; more fail at once.
const PENDING_MAX: usize = 4_096;
/// Questions of other nodes that are being answered; more get no answer, and fail there in time.
const ANSWERING_MAX: usize = 1_024;

/// Why there is no answer. The asker does not know, and must not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Too many questions wait already.
    #[error("too many questions wait for an answer")]
    TooMany,
    /// The question did not leave, or its node is gone.
    #[error(transparent)]
    Unsent(#[from] BusUnavailable),
    /// No answer in time.
    #[error("the node did not answer in time")]
    TimedOut,
    /// The node is not there, or was not heard lately.
    #[error("the node is not heard")]
    Unheard,
    /// The node does not know such questions.
    #[error("the node does not understand the question")]
    NotUnderstood,
}

impl AskError {
    const fn outcome(&self) -> AskOutcome {
        match self {
            Self::TooMany => AskOutcome::Overloaded,
            Self::Unheard => AskOutcome::Unheard,
            Self::Unsent(_) => AskOutcome::Unsent,
            Self::TimedOut => AskOutcome::TimedOut,
            Self::NotUnderstood => AskOutcome::NotUnderstood,
        }
    }
}

/// Asks other nodes, and answers them.
///
/// An answer counts only if it comes from the node that was asked. A question that is lost is not repeated: whoever asks
/// decides, and a proof counts only once.
pub struct Asker {
    bus: Arc<dyn Bus>,
    pending: Mutex<Pending>,
    timeout: Duration,
    answering: Arc<Semaphore>,
    replying: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Pending {
    waiting: HashMap<u64, Waiting>,
    last: u64,
}

struct Waiting {
    node: NodeId,
    answer: oneshot::Sender<Reply>,
}

impl Asker {
    /// An asker that waits at most `timeout`, the way out included.
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, timeout: Duration, metrics: Arc<Metrics>) -> Arc<Self> {
        // Without randomness the numbers begin at zero, which is no harm: an answer's sender is checked.
        let last = getrandom::u64().unwrap_or_default();
        let pending = Mutex::new(Pending { waiting: HashMap::new(), last });
        Arc::new(Self {
            bus,
            pending,
            timeout,
            answering: Arc::new(Semaphore::new(ANSWERING_MAX)),
            replying: Arc::new(Semaphore::new(ANSWERING_MAX)),
            metrics,
        })
    }

    /// Asks a node and waits for its answer.
    ///
    /// # Errors
    /// [`AskError`], within the timeout. The question may have been answered, or may yet be.
    pub async fn ask(&self, node: NodeId, question: Question) -> Result<Reply, AskError> {
        let started = Instant::now();
        let asked = tokio::time::timeout(self.timeout, self.ask_untimed(node, question)).await;
        let asked = asked.unwrap_or(Err(AskError::TimedOut));
        let outcome = asked.as_ref().map_or_else(AskError::outcome, |_| AskOutcome::Answered);
        self.metrics.asks.of(outcome).inc();
        if asked.is_ok() {
            self.metrics.ask_seconds.observe(started.elapsed().as_secs_f64());
        }
        asked
    }

    async fn ask_untimed(&self, node: NodeId, question: Question) -> Result<Reply, AskError> {
        // Clients name the node: one that is not there, or hangs, must cost neither a message nor a place.
        if !self.bus.hears(node) {
            return Err(AskError::Unheard);
        }
        let (answer, answered) = oneshot::channel();
        // Given up when this future is, however it ends.
        let place = self.wait_for(node, answer)?;
        self.bus.send(node, NodeMessage::Ask(Ask { number: place.number, question })).await?;
        match answered.await {
            Ok(Reply::NotUnderstood) => Err(AskError::NotUnderstood),
            Ok(reply) => Ok(reply),
            Err(_) => Err(AskError::TimedOut),
        }
    }

    fn wait_for(&self, node: NodeId, answer: oneshot::Sender<Reply>) -> Result<Place<'_>, AskError> {
        let mut pending = self.pending();
        if pending.waiting.len() >= PENDING_MAX {
            return Err(AskError::TooMany);
        }
        pending.last = pending.last.wrapping_add(1);
        let number = pending.last;
        pending.waiting.insert(number, Waiting { node, answer });
        Ok(Place { asker: self, number })
    }

    /// An answer was heard.
    pub fn answered(&self, from: NodeId, answer: Answer) {
        let mut pending = self.pending();
        if pending.waiting.get(&answer.number).is_some_and(|waiting| waiting.node == from)
            && let Some(waiting) = pending.waiting.remove(&answer.number)
        {
            // Whoever asked may have given up just now.
            let _ = waiting.answer.send(answer.reply);
        }
    }

    /// A question was heard: answers it with what `find` finds, which may compute and must not wait. Must be called within a
    /// tokio runtime.
    ///
    /// Away from the calling task, which hears the bus, and on threads that may be kept busy.
    pub fn answer(&self, to: NodeId, number: u64, find: impl FnOnce() -> Reply + Send + 'static) {
        // A panic in there is told by the runtime; the asker's time runs out.
        let found = async move { tokio::task::spawn_blocking(find).await.ok() };
        self.answer_from(&self.answering, (to, number), found);
    }

    /// [`Asker::answer`] with what is known already. Has a room of its own, which questions that cost more do not fill.
    pub fn reply(&self, to: NodeId, number: u64, reply: Reply) {
        self.answer_from(&self.replying, (to, number), std::future::ready(Some(reply)));
    }

    fn answer_from(
        &self,
        room: &Arc<Semaphore>,
        (to, number): (NodeId, u64),
        found: impl Future<Output = Option<Reply>> + Send + 'static,
    ) {
        let Ok(room) = Arc::clone(room).try_acquire_owned() else {
            tracing::debug!(?to, "too many questions of other nodes, one gets no answer");
            return;
        };
        let bus = Arc::clone(&self.bus);
        tokio::spawn(async move {
            let _room = room;
            let Some(reply) = found.await else { return };
            if let Err(error) = bus.send(to, NodeMessage::Answer(Answer { number, reply })).await {
                tracing::debug!(?to, %error, "answer to another node did not leave");
            }
        });
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the waiting questions, given back when dropped.
struct Place<'a> {
    asker: &'a Asker,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.asker.pending().waiting.remove(&self.number);
    }
}

#[cfg(test)]
#[path = "ask_tests.rs"]
mod tests;
