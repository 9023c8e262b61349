use std::collections::HashSet;

use super::*;
use crate::link::testing::TestRedis;

const SLOW: Rotation = Rotation::DAILY;

async fn store(redis: &TestRedis, rotation: Rotation) -> Arc<RedisKeyStore> {
    RedisKeyStore::rotating(redis.link().await, &Layout::new("test").unwrap(), rotation)
}

fn minting(store: &RedisKeyStore) -> Kid {
    store.keys().ring().minting().unwrap().kid()
}

fn known(store: &RedisKeyStore) -> HashSet<Kid> {
    store.keys().ring().keys().iter().map(|scheduled| scheduled.key.kid()).collect()
}

/// Waits until a look at the store brings what is asked for.
async fn eventually(store: &RedisKeyStore, what: &str, holds: impl Fn(&RedisKeyStore) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if store.refresh().await && holds(store) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn all_nodes_get_the_key_of_whoever_was_first() {
    let Some(redis) = TestRedis::start().await else { return };
    let stores = [store(&redis, SLOW).await, store(&redis, SLOW).await, store(&redis, SLOW).await];
    let told = tokio::join!(stores[0].refresh(), stores[1].refresh(), stores[2].refresh());
    assert_eq!(told, (true, true, true));
    assert_eq!(stores.iter().map(|store| minting(store)).collect::<HashSet<_>>().len(), 1);
    assert!(stores.iter().all(|store| known(store).len() == 1 && store.keys().is_current()));
}

#[tokio::test]
async fn the_next_key_is_known_long_before_it_mints_and_the_last_while_its_tickets_live() {
    let Some(redis) = TestRedis::start().await else { return };
    let millis = Duration::from_millis;
    // Long beside what a busy machine needs from one look to the next: Redis's clock goes on meanwhile.
    let rotation = Rotation { period: millis(1_500), ahead: millis(3_000), kept: millis(3_000) };
    let (one, two) = (store(&redis, rotation).await, store(&redis, rotation).await);
    assert!(one.refresh().await && two.refresh().await);
    let first = minting(&one);
    eventually(&one, "a second key is made", |store| known(store).len() >= 2).await;
    assert_eq!(minting(&one), first, "and does not mint yet");
    let second = known(&one).into_iter().find(|kid| *kid != first).unwrap();
    eventually(&two, "the other node knows it", |store| known(store).contains(&second)).await;
    eventually(&one, "its time comes", |store| minting(store) == second).await;
    assert!(known(&one).contains(&first), "tickets of the first still live");
    eventually(&one, "the first is forgotten", |store| !known(store).contains(&first)).await;
    eventually(&two, "by the other too", |store| !known(store).contains(&first)).await;
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_gets_the_keys_back_and_one_that_is_away_stops_nobody() {
    let Some(mut redis) = TestRedis::start().await else { return };
    let (one, two) = (store(&redis, SLOW).await, store(&redis, SLOW).await);
    assert!(one.refresh().await && two.refresh().await);
    let first = minting(&one);
    redis.kill();
    assert!(!one.refresh().await);
    one.go_on();
    assert_eq!(minting(&one), first, "the known key goes on");
    redis.restart().await;
    eventually(&one, "redis is back", |_| true).await;
    assert_eq!((minting(&one), known(&one).len()), (first, 1));
    let newcomer = store(&redis, SLOW).await;
    eventually(&newcomer, "a new node gets the same", |store| minting(store) == first).await;
}

#[tokio::test]
async fn what_a_node_knows_is_accepted_though_another_was_faster_with_an_empty_redis() {
    let Some(mut redis) = TestRedis::start().await else { return };
    let one = store(&redis, SLOW).await;
    assert!(one.refresh().await);
    let old = minting(&one);
    redis.restart().await;
    let newcomer = store(&redis, SLOW).await;
    eventually(&newcomer, "it makes a key of its own", |_| true).await;
    eventually(&one, "the old node looks", |_| true).await;
    eventually(&newcomer, "the new node hears of the old key", |store| known(store).contains(&old)).await;
    assert_eq!(minting(&one), minting(&newcomer));
    assert_eq!(known(&one), known(&newcomer));
}

#[tokio::test]
async fn what_is_no_key_is_not_taken_for_one() {
    let Some(redis) = TestRedis::start().await else { return };
    redis.ask(&["HSET", "{test}:tickets", "short", "0:short"]).await;
    let store = store(&redis, SLOW).await;
    assert!(!store.refresh().await);
    assert!(store.keys().ring().minting().is_none() && !store.keys().is_current());
}
