//! What every registry must do, whatever it is made of. Each implementation's tests call [`run`].

use std::sync::Arc;
use std::time::Duration;

use countersign_node_proto::{ChannelName, ConnectionId, Generation, NodeId};

use super::{Entry, Registry, Write};
use crate::config::Mode;

/// The lease that the suite takes: short, for implementations whose clock cannot be moved, and long beside what a busy machine
/// needs for the calls that it must outlive.
const LEASE: Duration = Duration::from_secs(3);

/// Runs the whole suite. `make` gives an empty registry each time; `advance` lets time pass for it.
pub(crate) async fn run<R, Make, Made, Advance, Advanced>(make: Make, advance: Advance)
where
    R: Registry,
    Make: Fn() -> Made,
    Made: Future<Output = Arc<R>>,
    Advance: Fn(Duration) -> Advanced,
    Advanced: Future<Output = ()>,
{
    an_entry_is_found_as_it_was_registered(&*make().await).await;
    verify_needs_the_entry_and_its_generation(&*make().await).await;
    a_lapsed_connection_is_found_unverified(&*make().await).await;
    remove_of_another_generation_is_ignored(&*make().await).await;
    nothing_written_after_remove_brings_an_entry_back(&*make().await).await;
    writes_of_one_connection_keep_their_order(&*make().await).await;
    repeated_writes_change_nothing(&*make().await).await;
    a_newer_generation_replaces_the_older(&*make().await).await;
    pages_are_stable_while_others_come_and_go(&*make().await).await;
    subscriptions_are_listed_by_channel(&*make().await).await;
    an_entry_without_a_lease_is_hidden(&*make().await, advance).await;
    a_forgotten_node_takes_only_its_own_entries(&*make().await).await;
}

/// Entry number `number` of node `node`, generation 1, of the principal `ada`.
pub(crate) fn entry(number: u8, node: u8) -> Entry {
    Entry {
        id: ConnectionId::from_bytes([number; 16]),
        node: NodeId::from_bytes([node; 8]),
        generation: Generation(1),
        principal: Some("ada".to_owned()),
        issuer: Some("pool".to_owned()),
        origin: Some("https://app.example".to_owned()),
        verified: false,
        mode: Mode::Bearer,
        connected_at_ms: 1_000,
        last_active_ms: 1_000,
        expires_at: Some(4_000_000_000),
        subscriptions: Vec::new(),
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn register(entry: &Entry) -> Write {
    Write::Register(Box::new(entry.clone()))
}

async fn apply(registry: &impl Registry, writes: &[Write]) {
    registry.apply(writes).await.unwrap();
}

/// Takes a lease for the entry's node and registers it.
async fn registered(registry: &impl Registry, number: u8, node: u8) -> Entry {
    let entry = entry(number, node);
    registry.renew_lease(entry.node, LEASE * 1_000).await.unwrap();
    apply(registry, &[register(&entry)]).await;
    entry
}

async fn an_entry_is_found_as_it_was_registered(registry: &impl Registry) {
    let mut given = entry(1, 1);
    given.subscriptions = vec![channel("a"), channel("b")];
    given.mode = Mode::Proof;
    registry.renew_lease(given.node, LEASE * 1_000).await.unwrap();
    apply(registry, &[register(&given)]).await;
    let mut found = registry.find(given.id).await.unwrap().expect("registered");
    found.subscriptions.sort();
    assert_eq!(found, given);
    assert_eq!(registry.find(entry(2, 1).id).await.unwrap(), None);
    assert_eq!(registry.count().await.unwrap(), 1);
}

async fn verify_needs_the_entry_and_its_generation(registry: &impl Registry) {
    let entry = registered(registry, 1, 1).await;
    apply(registry, &[Write::Verify(entry.id, Generation(2), Mode::Proof)]).await;
    assert!(!registry.find(entry.id).await.unwrap().unwrap().verified, "another generation must not verify");
    assert_eq!(registry.find(entry.id).await.unwrap().unwrap().mode, Mode::Bearer);
    apply(registry, &[Write::Verify(entry.id, entry.generation, Mode::Ticket)]).await;
    let found = registry.find(entry.id).await.unwrap().unwrap();
    assert_eq!((found.verified, found.mode), (true, Mode::Ticket));
    let absent = ConnectionId::from_bytes([9; 16]);
    apply(registry, &[Write::Verify(absent, Generation(1), Mode::Bearer)]).await;
    assert_eq!(registry.find(absent).await.unwrap(), None, "verify must not create");
}

async fn a_lapsed_connection_is_found_unverified(registry: &impl Registry) {
    let entry = registered(registry, 1, 1).await;
    let (id, generation) = (entry.id, entry.generation);
    apply(registry, &[Write::Verify(id, generation, Mode::Proof), Write::Subscribe(id, generation, channel("c"))]).await;
    apply(registry, &[Write::Lapse(id, Generation(2))]).await;
    assert!(registry.find(id).await.unwrap().unwrap().verified, "another generation must not lapse");
    apply(registry, &[Write::Lapse(id, generation)]).await;
    let found = registry.find(id).await.unwrap().unwrap();
    assert_eq!(found, Entry { subscriptions: vec![channel("c")], ..entry });
    apply(registry, &[Write::Remove(id, generation), Write::Lapse(id, generation)]).await;
    assert_eq!(registry.find(id).await.unwrap(), None, "lapse must not create");
}

async fn remove_of_another_generation_is_ignored(registry: &impl Registry) {
    let entry = registered(registry, 1, 1).await;
    apply(registry, &[Write::Remove(entry.id, Generation(0))]).await;
    assert!(registry.find(entry.id).await.unwrap().is_some());
    apply(registry, &[Write::Remove(entry.id, entry.generation)]).await;
    assert!(registry.find(entry.id).await.unwrap().is_none());
}

async fn nothing_written_after_remove_brings_an_entry_back(registry: &impl Registry) {
    let entry = registered(registry, 1, 1).await;
    let (id, generation) = (entry.id, entry.generation);
    apply(registry, &[Write::Remove(id, generation)]).await;
    let late = [
        Write::Verify(id, generation, Mode::Proof),
        Write::Refresh(id, generation, None),
        Write::Subscribe(id, generation, channel("late")),
        Write::Unsubscribe(id, generation, channel("late")),
    ];
    apply(registry, &late).await;
    assert_eq!(registry.find(id).await.unwrap(), None);
    assert_eq!(registry.count().await.unwrap(), 0);
    assert!(registry.by_channel(&channel("late"), None, 10).await.unwrap().ids.is_empty());
    assert!(registry.by_principal("ada", None, 10).await.unwrap().ids.is_empty());
}

async fn writes_of_one_connection_keep_their_order(registry: &impl Registry) {
    let entry = entry(1, 1);
    let (id, generation) = (entry.id, entry.generation);
    registry.renew_lease(entry.node, LEASE * 1_000).await.unwrap();
    let writes = [
        register(&entry),
        Write::Subscribe(id, generation, channel("kept")),
        Write::Subscribe(id, generation, channel("left")),
        Write::Unsubscribe(id, generation, channel("left")),
        Write::Refresh(id, generation, Some(1)),
        Write::Refresh(id, generation, Some(2)),
        Write::Verify(id, generation, Mode::Proof),
    ];
    apply(registry, &writes).await;
    let found = registry.find(id).await.unwrap().unwrap();
    assert!(found.verified);
    assert_eq!(found.expires_at, Some(2));
    assert_eq!(found.subscriptions, [channel("kept")]);
    let ended = [register(&entry), Write::Verify(id, generation, Mode::Proof), Write::Remove(id, generation)];
    apply(registry, &ended).await;
    assert_eq!(registry.find(id).await.unwrap(), None, "register, verify, remove leaves nothing");
}

async fn repeated_writes_change_nothing(registry: &impl Registry) {
    let entry = entry(1, 1);
    registry.renew_lease(entry.node, LEASE * 1_000).await.unwrap();
    let writes = [register(&entry), Write::Subscribe(entry.id, entry.generation, channel("a"))];
    apply(registry, &writes).await;
    apply(registry, &writes).await;
    assert_eq!(registry.count().await.unwrap(), 1);
    assert_eq!(registry.by_channel(&channel("a"), None, 10).await.unwrap().ids, [entry.id]);
    assert_eq!(registry.by_principal("ada", None, 10).await.unwrap().ids, [entry.id]);
}

async fn a_newer_generation_replaces_the_older(registry: &impl Registry) {
    let old = registered(registry, 1, 1).await;
    apply(registry, &[Write::Subscribe(old.id, old.generation, channel("old"))]).await;
    let new = Entry { generation: Generation(2), principal: Some("eve".to_owned()), ..old.clone() };
    apply(
        registry,
        &[register(&new), Write::Verify(old.id, old.generation, Mode::Proof), Write::Remove(old.id, old.generation)],
    )
    .await;
    assert_eq!(registry.find(old.id).await.unwrap(), Some(new));
    assert_eq!(registry.count().await.unwrap(), 1);
    assert!(registry.by_channel(&channel("old"), None, 10).await.unwrap().ids.is_empty());
    assert!(registry.by_principal("ada", None, 10).await.unwrap().ids.is_empty());
}

async fn pages_are_stable_while_others_come_and_go(registry: &impl Registry) {
    for number in [2, 4, 6, 8, 10] {
        registered(registry, number, 1).await;
    }
    let first = registry.by_principal("ada", None, 2).await.unwrap();
    assert_eq!(first.ids.len(), 2);
    let gone = first.ids[0];
    apply(registry, &[Write::Remove(gone, Generation(1))]).await;
    registered(registry, 1, 1).await;
    let mut seen = first.ids.clone();
    let mut next = first.next;
    while let Some(after) = next {
        let page = registry.by_principal("ada", Some(after), 2).await.unwrap();
        assert!(page.ids.len() <= 2);
        seen.extend(page.ids);
        next = page.next;
    }
    for number in [2, 4, 6, 8, 10] {
        let id = entry(number, 1).id;
        assert_eq!(seen.iter().filter(|seen| **seen == id).count(), 1, "{number} is seen exactly once");
    }
    assert_eq!(registry.by_principal("nobody", None, 2).await.unwrap().ids, []);
}

async fn subscriptions_are_listed_by_channel(registry: &impl Registry) {
    let one = registered(registry, 1, 1).await;
    let two = registered(registry, 2, 2).await;
    let subscribe = |entry: &Entry| Write::Subscribe(entry.id, entry.generation, channel("room"));
    apply(registry, &[subscribe(&one), subscribe(&two)]).await;
    let mut ids = registry.by_channel(&channel("room"), None, 10).await.unwrap().ids;
    ids.sort();
    assert_eq!(ids, [one.id, two.id]);
    apply(registry, &[Write::Unsubscribe(one.id, one.generation, channel("room"))]).await;
    apply(registry, &[Write::Unsubscribe(two.id, Generation(7), channel("room"))]).await;
    assert_eq!(registry.by_channel(&channel("room"), None, 10).await.unwrap().ids, [two.id]);
}

async fn an_entry_without_a_lease_is_hidden<Advance, Advanced>(registry: &impl Registry, advance: Advance)
where
    Advance: Fn(Duration) -> Advanced,
    Advanced: Future<Output = ()>,
{
    let (mortal, immortal) = (entry(1, 1), entry(2, 2));
    apply(registry, &[register(&mortal)]).await;
    assert_eq!(registry.find(mortal.id).await.unwrap(), None, "no lease was ever taken");
    registry.renew_lease(mortal.node, LEASE).await.unwrap();
    registry.renew_lease(immortal.node, LEASE * 1_000).await.unwrap();
    apply(registry, &[register(&mortal), register(&immortal)]).await;
    assert_eq!(registry.count().await.unwrap(), 2);
    advance(LEASE + LEASE / 10).await;
    assert_eq!(registry.find(mortal.id).await.unwrap(), None);
    assert_eq!(registry.count().await.unwrap(), 1);
    assert_eq!(registry.by_principal("ada", None, 10).await.unwrap().ids, [immortal.id]);
}

async fn a_forgotten_node_takes_only_its_own_entries(registry: &impl Registry) {
    let one = registered(registry, 1, 1).await;
    let two = registered(registry, 2, 2).await;
    registry.forget_node(one.node).await.unwrap();
    assert_eq!(registry.find(one.id).await.unwrap(), None);
    assert_eq!(registry.find(two.id).await.unwrap(), Some(two.clone()));
    assert_eq!(registry.count().await.unwrap(), 1);
    registry.renew_lease(one.node, LEASE * 1_000).await.unwrap();
    assert_eq!(registry.find(one.id).await.unwrap(), None, "its entries are gone, not hidden");
    registry.forget_node(one.node).await.unwrap();
}
