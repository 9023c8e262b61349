//! What every bus must do, whatever it is made of. Each implementation's tests call [`run`].

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_node_proto::{ChannelName, Disconnect, Invalidate, NodeId, NodeMessage, Payload, Publication};

use super::{Bus, BusListener};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A listener that notes what it hears.
#[derive(Default)]
pub(crate) struct Ear {
    heard: Mutex<Vec<NodeMessage>>,
    gaps: Mutex<usize>,
}

impl BusListener for Ear {
    fn heard(&self, _: NodeId, message: NodeMessage) {
        self.heard.lock().unwrap().push(message);
    }
    fn gap(&self) {
        *self.gaps.lock().unwrap() += 1;
    }
}

impl Ear {
    pub(crate) fn heard(&self) -> Vec<NodeMessage> {
        self.heard.lock().unwrap().clone()
    }

    pub(crate) fn gaps(&self) -> usize {
        *self.gaps.lock().unwrap()
    }

    pub(crate) fn forget(&self) {
        self.heard.lock().unwrap().clear();
    }
}

/// Runs the whole suite. `attach` adds a node to one and the same cluster, each time it is called.
pub(crate) async fn run(attach: impl AsyncFn(NodeId, Arc<dyn BusListener>) -> Arc<dyn Bus>) {
    let ears: [Arc<Ear>; 3] = Default::default();
    let ids: [NodeId; 3] = std::array::from_fn(|place| NodeId::from_bytes([u8::try_from(place).unwrap() + 1; 8]));
    let mut nodes = Vec::new();
    for (id, ear) in ids.into_iter().zip(&ears) {
        nodes.push(attach(id, ear.clone()).await);
    }
    a_broadcast_reaches_every_other_node(&nodes, &ears).await;
    a_message_to_one_node_reaches_only_that_node(&nodes, &ids, &ears).await;
    a_publication_reaches_subscribed_nodes_only(&nodes, &ears).await;
    order_is_kept_from_one_sender(&nodes, &ears).await;
    for (node, id) in nodes.iter().zip(ids) {
        let others: HashSet<_> = ids.into_iter().filter(|other| *other != id).collect();
        assert_eq!(node.peers().into_iter().collect::<HashSet<_>>(), others, "whoever was heard is known");
    }
    assert!(nodes.iter().all(|node| node.silence() < PATIENCE), "a bus that works is not silent");
    assert!(ears.iter().all(|ear| ear.gaps() == 0), "nothing was lost");
}

/// Polls until the condition holds.
pub(crate) async fn eventually(condition: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "did not happen in time");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A message that can be told from others.
pub(crate) fn numbered(number: usize) -> NodeMessage {
    NodeMessage::Invalidate(Invalidate::Principal(number.to_string().as_str().into()))
}

/// A publication that can be told from others.
pub(crate) fn publication(channel: &str, number: usize) -> Publication {
    let channel = ChannelName::new(channel).unwrap();
    Publication { channel, payload: Payload::Text(number.to_string()), exclude: None }
}

fn forget(ears: &[Arc<Ear>]) {
    ears.iter().for_each(|ear| ear.forget());
}

/// Says something after which, order being kept, all that was said before has been heard.
async fn settle(nodes: &[Arc<dyn Bus>], ears: &[Arc<Ear>]) {
    let last = NodeMessage::Disconnect(Disconnect::Principal("settled".into()));
    for (place, node) in nodes.iter().enumerate() {
        forget_last(ears, &last);
        node.broadcast(last.clone()).await.unwrap();
        let others: Vec<_> = ears.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, ear)| ear).collect();
        eventually(async || others.iter().all(|ear| ear.heard().contains(&last))).await;
    }
    forget_last(ears, &last);
}

fn forget_last(ears: &[Arc<Ear>], last: &NodeMessage) {
    ears.iter().for_each(|ear| ear.heard.lock().unwrap().retain(|message| message != last));
}

async fn a_broadcast_reaches_every_other_node(nodes: &[Arc<dyn Bus>], ears: &[Arc<Ear>]) {
    nodes[0].broadcast(numbered(1)).await.unwrap();
    settle(nodes, ears).await;
    assert_eq!(ears[0].heard(), [], "a node never hears its own messages");
    assert_eq!(ears[1].heard(), [numbered(1)]);
    assert_eq!(ears[2].heard(), [numbered(1)]);
    forget(ears);
}

async fn a_message_to_one_node_reaches_only_that_node(nodes: &[Arc<dyn Bus>], ids: &[NodeId], ears: &[Arc<Ear>]) {
    nodes[0].send(ids[2], numbered(2)).await.unwrap();
    settle(nodes, ears).await;
    assert_eq!(ears[1].heard(), []);
    assert_eq!(ears[2].heard(), [numbered(2)]);
    forget(ears);
}

async fn a_publication_reaches_subscribed_nodes_only(nodes: &[Arc<dyn Bus>], ears: &[Arc<Ear>]) {
    let channel = ChannelName::new("room").unwrap();
    nodes[0].subscribe(&channel);
    nodes[1].subscribe(&channel);
    eventually(async || nodes[0].publish(publication("room", 1)).await == Ok(1)).await;
    eventually(async || nodes[1].publish(publication("room", 1)).await == Ok(1)).await;
    settle(nodes, ears).await;
    forget(ears);
    assert_eq!(nodes[2].publish(publication("room", 2)).await, Ok(2));
    assert_eq!(nodes[2].publish(publication("other", 3)).await, Ok(0));
    settle(nodes, ears).await;
    assert_eq!(ears[0].heard(), [NodeMessage::Publication(publication("room", 2))]);
    assert_eq!(ears[1].heard(), [NodeMessage::Publication(publication("room", 2))]);
    assert_eq!(ears[2].heard(), []);
    nodes[0].unsubscribe(&channel);
    nodes[1].unsubscribe(&channel);
    eventually(async || nodes[2].publish(publication("room", 4)).await == Ok(0)).await;
    settle(nodes, ears).await;
    forget(ears);
}

async fn order_is_kept_from_one_sender(nodes: &[Arc<dyn Bus>], ears: &[Arc<Ear>]) {
    for number in 0..200 {
        nodes[0].broadcast(numbered(number)).await.unwrap();
    }
    settle(nodes, ears).await;
    let expected: Vec<_> = (0..200).map(numbered).collect();
    assert_eq!(ears[1].heard(), expected);
    assert_eq!(ears[2].heard(), expected);
    forget(ears);
}
