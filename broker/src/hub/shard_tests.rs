use std::future::poll_fn;

use countersign_node_proto::{NodeId, Payload, Publication};

use super::*;
use crate::cluster::LocalBus;
use crate::hub::{Dialect, HubOverloaded};
use crate::node::supervisor::{RestartPolicy, supervise};
use crate::telemetry::Metrics;

/// A publication on this channel makes the shard that gets it panic.
pub(super) const PANIC: &str = "panic";

fn hub_with(queued_bytes_max: usize) -> (Arc<Hub>, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let hub = Hub::new(LocalBus::single(NodeId::from_bytes([1; 8])), queued_bytes_max, metrics.clone());
    (hub, metrics)
}

fn outbox(number: u8, metrics: &Arc<Metrics>) -> Rc<Outbox> {
    Outbox::new(ConnectionId::from_bytes([number; 16]), Dialect::Plain, 1 << 20, metrics.clone())
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn publication(name: &str, text: &str) -> Publication {
    Publication { channel: channel(name), payload: Payload::Text(text.to_owned()), exclude: None }
}

/// Waits for the next slice and takes its frames' payloads, each of one byte.
async fn received(outbox: &Outbox) -> String {
    let slice = poll_fn(|cx| outbox.poll_slice(cx, 8_192)).await;
    slice.chunks(3).map(|frame| char::from(frame[2])).collect()
}

#[actix_rt::test]
async fn subscribers_of_the_channel_get_it_in_order_and_the_sender_does_not() {
    let (hub, metrics) = hub_with(1 << 20);
    let shard = hub.attach();
    shard.start();
    let (one, two, other) = (outbox(1, &metrics), outbox(2, &metrics), outbox(3, &metrics));
    shard.subscribe(&channel("room"), one.clone()).unwrap();
    shard.subscribe(&channel("room"), two.clone()).unwrap();
    shard.subscribe(&channel("other"), other.clone()).unwrap();
    assert_eq!(shard.subscribe(&channel("room"), one.clone()), Err(AlreadySubscribed));
    actix_rt::task::yield_now().await;
    for text in ["a", "b", "c"] {
        let exclude = (text == "b").then(|| two.id());
        assert_eq!(hub.publish_local(Publication { exclude, ..publication("room", text) }), Ok(1));
    }
    assert_eq!(received(&one).await, "abc");
    assert_eq!(received(&two).await, "ac");
    assert_eq!(other.queued_bytes(), 0);
    assert_eq!(metrics.subscriptions.get(), 3);
    assert_eq!(shard.drop_connection(one.id()), 1);
    shard.unsubscribe(&channel("room"), two.id()).unwrap();
    assert_eq!(shard.unsubscribe(&channel("room"), two.id()), Err(NotSubscribed));
    assert_eq!(hub.publish_local(publication("room", "d")), Ok(0));
    drop(shard);
    assert_eq!(metrics.subscriptions.get(), 0);
    assert_eq!(hub.publish_local(publication("other", "e")), Ok(0));
}

#[actix_rt::test]
async fn overloaded_hub_refuses_and_delivers_to_nobody() {
    let (hub, metrics) = hub_with(1_000);
    let (near, far) = (hub.attach(), hub.attach());
    let (one, two) = (outbox(1, &metrics), outbox(2, &metrics));
    near.subscribe(&channel("room"), one.clone()).unwrap();
    near.start();
    far.start();
    far.subscribe(&channel("busy"), two.clone()).unwrap();
    actix_rt::task::yield_now().await;
    // The shards' actors are not polled while this test does not wait, so all of it stays queued.
    while hub.publish_local(publication("busy", "x")).is_ok() {}
    far.subscribe(&channel("room"), two.clone()).unwrap();
    assert_eq!(hub.publish_local(publication("room", "y")), Err(HubOverloaded));
    assert_eq!(near.inner.slot.queued_bytes(), 0, "what was reserved on the other thread was released");
    assert_eq!(metrics.limits.of(crate::telemetry::LimitHit::HubQueue).get(), 2);
    received(&two).await;
    assert_eq!(far.inner.slot.queued_bytes(), 0);
    assert_eq!(hub.publish_local(publication("room", "z")), Ok(2));
    assert_eq!(received(&one).await, "z");
    assert_eq!(metrics.hub_deliveries_lost.get(), 0);
}

#[test]
fn a_publication_crosses_once_to_each_worker_that_has_subscribers() {
    let (hub, metrics) = hub_with(1 << 20);
    let (ready, is_ready) = std::sync::mpsc::channel();
    let start = |subscribers: u8| {
        let (hub, metrics, ready) = (hub.clone(), metrics.clone(), ready.clone());
        let (publish, published) = tokio::sync::oneshot::channel::<()>();
        let worker = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let shard = hub.attach();
                shard.start();
                let outboxes: Vec<_> = (0..subscribers).map(|number| outbox(number, &metrics)).collect();
                outboxes.iter().for_each(|outbox| shard.subscribe(&channel("room"), outbox.clone()).unwrap());
                actix_rt::task::yield_now().await;
                ready.send(()).unwrap();
                published.await.unwrap();
                for outbox in &outboxes {
                    assert_eq!(received(outbox).await, "a");
                }
            });
        });
        (worker, publish)
    };
    let workers: Vec<_> = [200, 1, 0].into_iter().map(start).collect();
    workers.iter().for_each(|_| is_ready.recv().unwrap());
    assert_eq!(hub.publish_local(publication("room", "a")), Ok(2), "one message to each of two workers, none to the idle one");
    for (worker, publish) in workers {
        publish.send(()).unwrap();
        worker.join().unwrap();
    }
}

#[actix_rt::test]
async fn a_panic_of_the_shard_loses_what_was_queued_and_no_subscription() {
    let (hub, metrics) = hub_with(1 << 20);
    let shard = hub.attach();
    let policy = RestartPolicy { first_pause: std::time::Duration::from_millis(1), ..RestartPolicy::default() };
    let _supervised = supervise("hub shard", policy, metrics.clone(), |_| {}, {
        let shard = shard.clone();
        move || shard.actor()
    });
    let one = outbox(1, &metrics);
    shard.subscribe(&channel("room"), one.clone()).unwrap();
    shard.subscribe(&channel(PANIC), one.clone()).unwrap();
    actix_rt::task::yield_now().await;
    hub.publish_local(publication(PANIC, "x")).unwrap();
    hub.publish_local(publication("room", "y")).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while one.queued_bytes() == 0 {
        assert!(std::time::Instant::now() < deadline);
        hub.publish_local(publication("room", "z")).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert!(received(&one).await.starts_with('z'));
    assert_eq!(metrics.supervisor_restarts.get(), 1);
    assert!(metrics.hub_deliveries_lost.get() >= 2);
    assert_eq!(shard.subscriptions(one.id()), 2);
}

#[actix_rt::test]
async fn the_bus_hears_of_the_first_and_the_last_subscriber_only() {
    let exchange = crate::cluster::LocalExchange::new();
    let (here, there) = (exchange.attach(NodeId::from_bytes([1; 8])), exchange.attach(NodeId::from_bytes([2; 8])));
    let metrics = Arc::new(Metrics::new());
    let hub = Hub::new(here, 1 << 20, metrics.clone());
    let (near, far) = (hub.attach(), hub.attach());
    let heard = async || crate::cluster::Bus::publish(&*there, publication("room", "a")).await.unwrap();
    near.subscribe(&channel("room"), outbox(1, &metrics)).unwrap();
    far.subscribe(&channel("room"), outbox(2, &metrics)).unwrap();
    assert_eq!(heard().await, 1);
    near.drop_connection(ConnectionId::from_bytes([1; 16]));
    assert_eq!(heard().await, 1);
    drop(far);
    assert_eq!(heard().await, 0);
}
