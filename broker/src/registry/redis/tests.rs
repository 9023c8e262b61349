use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::link::testing::{PATIENCE, SlowWay, TestCluster, TestRedis, eventually, link_by, link_to, soon};
use crate::registry::conformance::{self, entry};

const LEASE: Duration = Duration::from_secs(600);

fn registry(link: CommandLink, node: NodeId) -> Arc<RedisRegistry> {
    Arc::new(RedisRegistry::new(link, Layout::new("test").unwrap(), node, Arc::new(Metrics::new())))
}

/// A node's registry on a Redis.
async fn on(redis: &TestRedis, node: u8) -> Arc<RedisRegistry> {
    registry(redis.link().await, NodeId::from_bytes([node; 8]))
}

/// Keeps a registry for as long as the task lives.
fn maintained(registry: &Arc<RedisRegistry>) -> crate::link::Task {
    let registry = Arc::clone(registry);
    crate::link::keep("test", move || {
        let registry = Arc::clone(&registry);
        async move { registry.maintain().await }
    })
}

fn register(entry: &Entry) -> Write {
    Write::Register(Box::new(entry.clone()))
}

fn many(count: u16, node: u8) -> Vec<Entry> {
    let id = |number: u16| {
        let mut bytes = [node; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        ConnectionId::from_bytes(bytes)
    };
    (0..count).map(|number| Entry { id: id(number), verified: true, ..entry(1, node) }).collect()
}

#[tokio::test]
async fn redis_registry_conforms() {
    let Some(redis) = TestRedis::start().await else { return };
    let make = async || {
        redis.ask(&["FLUSHALL"]).await;
        on(&redis, 1).await
    };
    conformance::run(make, tokio::time::sleep).await;
}

#[tokio::test]
async fn redis_cluster_registry_conforms() {
    let Some(cluster) = TestCluster::start().await else { return };
    let make = async || {
        for server in &cluster.servers {
            server.ask(&["FLUSHALL"]).await;
        }
        registry(link_by(&cluster.settings()).await, NodeId::from_bytes([1; 8]))
    };
    conformance::run(make, tokio::time::sleep).await;
}

/// Half of the keys are here and half there for a while: a script that needs both halves fails in the midst of what it does.
#[tokio::test]
async fn what_changes_while_the_slot_of_all_keys_moves_is_right_in_the_end() {
    let Some(cluster) = TestCluster::start().await else { return };
    let registry = registry(link_by(&cluster.settings()).await, NodeId::from_bytes([1; 8]));
    let (entries, renewed) = (many(300, 1), registry.renew_lease(NodeId::from_bytes([1; 8]), LEASE));
    renewed.await.unwrap();
    registry.apply(&entries.iter().map(register).collect::<Vec<_>>()).await.unwrap();
    let _task = maintained(&registry);
    let root = registry.layout.root();
    let from = cluster.server_of(root).await;
    let to = (from + 1) % 3;
    cluster.begin_move(root, to).await;
    cluster.migrate(root, to, 150).await;
    // Some go, some come, until what is said is taken.
    let gone: Vec<Write> = entries[..100].iter().map(|entry| Write::Remove(entry.id, entry.generation)).collect();
    let come: Vec<Write> = many(350, 1)[300..].iter().map(register).collect();
    let writes = [gone, come].concat();
    let refused = AtomicUsize::new(0);
    let applied = async {
        while registry.apply(&writes).await.is_err() {
            refused.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let moving = async {
        // Not before it was tried in the midst of it.
        eventually("it is refused", async || refused.load(Ordering::Relaxed) > 2).await;
        cluster.migrate(root, to, usize::MAX).await;
        cluster.move_slot(root, to).await;
    };
    tokio::join!(applied, moving);
    eventually("all is as it should be", async || {
        let (counted, listed) = (registry.count().await, cluster.servers[to].ask(&["KEYS", "{test}:entry:*"]).await.len());
        let principal = cluster.servers[to].ask(&["ZCARD", &registry.layout.principal("ada")]).await;
        counted == Ok(250) && listed == 250 && principal == ["250"]
    })
    .await;
    assert!(cluster.servers[from].ask(&["KEYS", "*"]).await.is_empty());
    assert_eq!(registry.find(entries[0].id).await, Ok(None));
    assert_eq!(registry.find(entries[200].id).await, Ok(Some(entries[200].clone())));
}

#[tokio::test]
async fn the_scripts_keep_to_the_layout_and_leave_nothing() {
    let Some(redis) = TestRedis::start().await else { return };
    let registry = on(&redis, 1).await;
    let mut given = entry(1, 1);
    let channel = ChannelName::new("c").unwrap();
    given.subscriptions = vec![channel.clone()];
    registry.renew_lease(given.node, LEASE).await.unwrap();
    registry.apply(&[register(&given)]).await.unwrap();
    let layout = &registry.layout;
    let mut expected = vec![
        layout.entry(given.id),
        layout.lease(given.node),
        layout.nodes(),
        layout.node(given.node),
        layout.principal("ada"),
        layout.channel(&channel),
        layout.fence(given.node),
    ];
    expected.sort();
    let mut keys = redis.ask(&["KEYS", "*"]).await;
    keys.sort();
    assert_eq!(keys, expected);
    let member = vec![Layout::member(given.id, given.node)];
    assert_eq!(redis.ask(&["ZRANGE", &layout.principal("ada"), "0", "-1"]).await, member);
    registry.forget_node(given.node).await.unwrap();
    assert_eq!(redis.ask(&["KEYS", "*"]).await, [layout.fence(given.node)], "the fence runs out by itself");
}

#[tokio::test]
async fn a_batch_is_one_round_trip() {
    let Some(redis) = TestRedis::start().await else { return };
    let registry = on(&redis, 1).await;
    let writes: Vec<_> = many(512, 1).iter().map(register).collect();
    registry.apply(&writes[..1]).await.unwrap();
    let calls = || registry_calls(&registry);
    let before = calls();
    registry.apply(&writes).await.unwrap();
    assert_eq!(calls() - before, 1);
}

/// Calls of Redis that the registry's own link counted.
fn registry_calls(registry: &RedisRegistry) -> u64 {
    registry.link.metrics().redis_seconds.of(RedisCall::Apply).get_sample_count()
}

#[tokio::test]
async fn empty_texts_and_strange_ones_come_back_as_they_were() {
    let Some(redis) = TestRedis::start().await else { return };
    let registry = on(&redis, 1).await;
    for principal in [Some(""), Some("="), Some("a\0b {x} ü"), None] {
        let given = Entry {
            principal: principal.map(str::to_owned),
            issuer: principal.map(str::to_owned),
            origin: Some(String::new()),
            expires_at: None,
            ..entry(1, 1)
        };
        registry.renew_lease(given.node, LEASE).await.unwrap();
        registry.apply(&[register(&given)]).await.unwrap();
        assert_eq!(registry.find(given.id).await.unwrap(), Some(given.clone()));
        if let Some(principal) = principal {
            assert_eq!(registry.by_principal(principal, None, 10).await.unwrap().ids, [given.id]);
        }
    }
}

#[tokio::test]
async fn pages_pass_over_dead_nodes_and_have_a_bound() {
    let Some(redis) = TestRedis::start().await else { return };
    let registry = on(&redis, 1).await;
    let (living, dead) = (many(1_200, 1), many(1_200, 2));
    registry.renew_lease(living[0].node, LEASE).await.unwrap();
    for entries in [&living, &dead] {
        registry.apply(&entries.iter().map(register).collect::<Vec<_>>()).await.unwrap();
    }
    let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = registry.by_principal("ada", after, 5_000).await.unwrap();
        assert!(page.ids.len() <= PAGE_MAX);
        seen.extend(page.ids);
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((seen.len(), pages), (1_200, 2));
    assert!(living.iter().all(|entry| seen.contains(&entry.id)));
    assert_eq!(registry.count().await.unwrap(), 1_200);
}

#[tokio::test]
async fn what_a_dead_node_left_is_reaped_by_another() {
    let Some(redis) = TestRedis::start().await else { return };
    let (dead, living) = (on(&redis, 1).await, on(&redis, 2).await);
    living.renew_lease(living.node, LEASE).await.unwrap();
    dead.renew_lease(dead.node, Duration::from_millis(200)).await.unwrap();
    let entries = many(1_000, 1);
    dead.apply(&entries.iter().map(register).collect::<Vec<_>>()).await.unwrap();
    let kept = entry(9, 2);
    living.apply(&[register(&kept)]).await.unwrap();
    let _task = maintained(&living);
    eventually("nothing of the dead node is left", async || redis.ask(&["KEYS", "{test}:entry:*"]).await.len() == 1).await;
    assert_eq!(living.find(kept.id).await.unwrap(), Some(kept.clone()));
    assert_eq!(redis.ask(&["SMEMBERS", &living.layout.nodes()]).await, [living.node.encode()]);
    assert_eq!(redis.ask(&["ZCARD", &living.layout.principal("ada")]).await, ["1"]);
    assert_eq!(living.metrics.registry_reaped.get(), 1_000);
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_given_everything_again() {
    let Some(mut redis) = TestRedis::start().await else { return };
    let registry = on(&redis, 1).await;
    let _task = maintained(&registry);
    registry.renew_lease(registry.node, LEASE).await.unwrap();
    let entries = many(1_500, 1);
    registry.apply(&entries.iter().map(register).collect::<Vec<_>>()).await.unwrap();
    let gone = &entries[7];
    registry.apply(&[Write::Remove(gone.id, gone.generation)]).await.unwrap();
    redis.kill();
    assert!(registry.find(gone.id).await.is_err(), "without Redis the registry does not know");
    redis.restart().await;
    eventually("the lease is taken again", async || registry.renew_lease(registry.node, LEASE).await.is_ok()).await;
    eventually("everything is there again", async || registry.count().await == Ok(1_499)).await;
    assert_eq!(registry.find(gone.id).await.unwrap(), None);
    assert_eq!(registry.find(entries[8].id).await.unwrap().as_ref(), Some(&entries[8]));
}

#[tokio::test]
async fn entries_that_the_node_does_not_have_are_disowned_on_a_new_link() {
    let Some(redis) = TestRedis::start().await else { return };
    let node = NodeId::from_bytes([1; 8]);
    let (before, after) = (registry(redis.link().await, node), registry(redis.link().await, node));
    before.renew_lease(node, LEASE).await.unwrap();
    // What an older state of Redis would hold: `after` never wrote it, or has forgotten it.
    before.apply(&many(700, 1).iter().map(register).collect::<Vec<_>>()).await.unwrap();
    let mine = entry(9, 1);
    after.apply(&[register(&mine)]).await.unwrap();
    let _task = maintained(&after);
    eventually("only what the node has is left", async || after.count().await == Ok(1)).await;
    assert_eq!(after.find(mine.id).await.unwrap(), Some(mine.clone()));
}

#[tokio::test]
async fn a_late_write_of_an_older_link_changes_nothing() {
    let Some(redis) = TestRedis::start().await else { return };
    let registry = on(&redis, 1).await;
    registry.renew_lease(registry.node, LEASE).await.unwrap();
    let old = registry.link.connected().unwrap();
    redis.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    eventually("a new link", async || registry.link.connected().is_ok_and(|new| new.epoch > old.epoch)).await;
    let given = entry(1, 1);
    let writes = [register(&given), Write::Remove(given.id, given.generation)];
    registry.apply(&writes).await.unwrap();
    // The same epoch as the old link's commands have, arriving late.
    let mut late = script::APPLY.on(&registry.layout.fence(registry.node));
    late.arg(registry.layout.root()).arg(old.epoch).arg(1_000);
    codec::add_write(&mut late, &register(&given));
    let refused: Result<Value, _> = registry.run(RedisCall::Apply, &script::APPLY, late).await;
    assert!(refused.unwrap_err().to_string().contains("FENCED"));
    assert_eq!(registry.find(given.id).await.unwrap(), None);
}

#[tokio::test]
async fn calls_fail_within_their_deadline_while_redis_is_frozen_and_work_again_after() {
    let Some(redis) = TestRedis::start().await else { return };
    let registry = on(&redis, 1).await;
    let given = entry(1, 1);
    registry.renew_lease(given.node, LEASE).await.unwrap();
    registry.apply(&[register(&given)]).await.unwrap();
    let epoch = registry.link.connected().unwrap().epoch;
    redis.freeze();
    let frozen = tokio::time::Instant::now();
    let verify = [Write::Verify(given.id, given.generation, crate::config::Mode::Bearer)];
    // Redis is frozen until all of them have failed.
    let asked = async { tokio::join!(registry.find(given.id), registry.count(), registry.apply(&verify)) };
    let asked = soon("every call ends", asked).await;
    assert!(asked.0.is_err() && asked.1.is_err() && asked.2.is_err());
    tokio::time::sleep_until(frozen + Duration::from_secs(3)).await;
    redis.thaw();
    eventually("calls are answered", async || registry.find(given.id).await.is_ok()).await;
    assert_eq!(registry.link.connected().unwrap().epoch, epoch, "a stall that passes costs no link");
}

#[tokio::test]
async fn calls_fail_within_their_deadline_while_redis_is_slow() {
    let Some(redis) = TestRedis::start().await else { return };
    let way = SlowWay::to(redis.address()).await;
    let registry = registry(link_to(way.address()).await, NodeId::from_bytes([1; 8]));
    registry.count().await.unwrap();
    // The answer is still on its way when the call has failed.
    way.delay(PATIENCE);
    assert!(registry.count().await.is_err());
    way.delay(Duration::ZERO);
    eventually("calls are answered", async || registry.count().await == Ok(0)).await;
}
