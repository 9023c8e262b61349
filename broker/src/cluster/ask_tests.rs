use countersign_node_proto::{ProofQuestion, ProofVerdict};

use super::*;
use crate::cluster::{BusListener, LocalBus, LocalExchange};

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 8])
}

fn question() -> Question {
    let text = || "x".to_owned();
    Question::Proof(ProofQuestion { ticket: text(), proof: text(), method: text(), target: text() })
}

/// A node that answers what it is asked with `reply`, or not at all.
struct Answering {
    asker: Arc<Asker>,
    reply: Option<Reply>,
}

impl BusListener for Answering {
    fn heard(&self, from: NodeId, message: NodeMessage) {
        match (message, self.reply.clone()) {
            (NodeMessage::Ask(ask), Some(reply)) => self.asker.answer(from, ask.number, move || reply),
            (NodeMessage::Answer(answer), _) => self.asker.answered(from, answer),
            _ => {}
        }
    }
    fn gap(&self) {}
}

fn start(exchange: &Arc<LocalExchange>, number: u8, reply: Option<Reply>) -> (Arc<LocalBus>, Arc<Asker>) {
    let bus = exchange.attach(node(number));
    let asker = Asker::new(bus.clone(), Duration::from_millis(200), Arc::new(Metrics::new()));
    bus.listen(Arc::new(Answering { asker: Arc::clone(&asker), reply }));
    (bus, asker)
}

#[tokio::test]
async fn a_question_is_answered_by_the_node_that_was_asked() {
    let exchange = LocalExchange::new();
    let (_one, asker) = start(&exchange, 1, None);
    let good = Reply::Proof(ProofVerdict::Good);
    let _two = start(&exchange, 2, Some(good.clone()));
    let _three = start(&exchange, 3, Some(Reply::NotUnderstood));
    assert_eq!(asker.ask(node(2), question()).await, Ok(good));
    assert_eq!(asker.ask(node(3), question()).await, Err(AskError::NotUnderstood));
    assert!(matches!(asker.ask(node(4), question()).await, Err(AskError::Unsent(_))), "no such node");
    assert!(asker.pending().waiting.is_empty());
    for (outcome, count) in [(AskOutcome::Answered, 1), (AskOutcome::NotUnderstood, 1), (AskOutcome::Unsent, 1)] {
        assert_eq!(asker.metrics.asks.of(outcome).get(), count, "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_says_nothing_is_waited_for_until_the_time_is_over() {
    let exchange = LocalExchange::new();
    let (_one, asker) = start(&exchange, 1, None);
    let _mute = start(&exchange, 2, None);
    assert_eq!(asker.ask(node(2), question()).await, Err(AskError::TimedOut));
    assert!(asker.pending().waiting.is_empty(), "its place is free again");
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_another_node_or_to_another_question_counts_for_nothing() {
    let exchange = LocalExchange::new();
    let (_one, asker) = start(&exchange, 1, None);
    let _mute = start(&exchange, 2, None);
    let asking = asker.ask(node(2), question());
    let forging = async {
        tokio::task::yield_now().await;
        let number = asker.pending().last;
        let reply = || Reply::Proof(ProofVerdict::Good);
        asker.answered(node(3), Answer { number, reply: reply() });
        asker.answered(node(2), Answer { number: number.wrapping_add(1), reply: reply() });
    };
    let (asked, ()) = tokio::join!(asking, forging);
    assert_eq!(asked, Err(AskError::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn questions_that_wait_are_bounded() {
    let exchange = LocalExchange::new();
    let (_one, asker) = start(&exchange, 1, None);
    let _mute = start(&exchange, 2, None);
    let asked = futures_util::future::join_all((0..=PENDING_MAX).map(|_| asker.ask(node(2), question()))).await;
    assert_eq!(asked.iter().filter(|asked| **asked == Err(AskError::TooMany)).count(), 1);
    assert!(asker.pending().waiting.is_empty());
}
