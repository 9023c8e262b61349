//! Redis goes, and comes back in any state: no socket is closed, nobody is let in, and all is right again by itself.

use std::time::{Duration, Instant};

use countersign_tests::cluster::decisions::{Decisions, Fault, Subject};
use countersign_tests::cluster::delivery::{Delivery, RULE};
use countersign_tests::cluster::{Cluster, ClusterPlan, LEASE, RECOVERY, STALE_LIMIT};
use countersign_tests::eventually;
use countersign_tests::socket::Socket;

/// What was sent so long before a fault began may be lost with it.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// Longest time from the return of writes to the removal of what could not be removed: the longest pause of a retry, and some.
const REMOVAL_MAX: Duration = Duration::from_secs(3);

/// How Redis is lost, and how it returns.
#[derive(Clone, Copy, PartialEq)]
enum Loss {
    Killed,
    Emptied,
    Frozen,
    ReadOnly,
}

impl Loss {
    async fn begin(self, cluster: &mut Cluster) {
        match self {
            Self::Killed | Self::Emptied => cluster.redis.kill(),
            Self::Frozen => cluster.redis.freeze(),
            Self::ReadOnly => cluster.redis.refuse_writes().await,
        }
    }

    async fn end(self, cluster: &mut Cluster) {
        match self {
            Self::Killed => cluster.redis.restart().await,
            Self::Emptied => cluster.redis.restart_empty().await,
            Self::Frozen => cluster.redis.thaw(),
            Self::ReadOnly => cluster.redis.take_writes().await,
        }
    }

    /// Does the stream fall silent too?
    fn is_silent(self) -> bool {
        self != Self::ReadOnly
    }
}

fn subject(id: &str, owner: usize, verified: bool) -> Subject {
    Subject { id: id.to_owned(), owner, verified, closed: None }
}

/// Connections of each node that will close during the fault, and one that is never verified.
struct Others {
    closing: Vec<Socket>,
    _unverified: Socket,
    subjects: Vec<Subject>,
}

impl Others {
    async fn open(cluster: &Cluster, listeners: &[String]) -> Self {
        let mut closing = Vec::new();
        for node in 0..cluster.nodes.len() {
            closing.push(cluster.dial(node).verified().await);
        }
        let unverified = cluster.dial(0).welcomed().await;
        let mut subjects: Vec<Subject> = listeners.iter().enumerate().map(|(node, id)| subject(id, node, true)).collect();
        subjects.extend(closing.iter().enumerate().map(|(node, socket)| subject(&socket.id, node, true)));
        for subject in &subjects {
            cluster.all_answer(&subject.id, 200).await;
        }
        subjects.push(subject(&unverified.id, 0, false));
        subjects.push(subject(&"A".repeat(22), 0, false));
        Self { closing, _unverified: unverified, subjects }
    }
}

/// One loss, from a whole cluster to a whole cluster.
async fn check(loss: Loss) {
    let mut cluster = ClusterPlan::new().toml(RULE).start().await;
    let delivery = Delivery::start(&cluster).await;
    let Others { closing, _unverified, subjects } = Others::open(&cluster, &delivery.connections).await;
    let decisions = Decisions::start(&cluster, subjects);

    let (begun, busy) = (Instant::now(), cluster.busy());
    loss.begin(&mut cluster).await;
    let unready = cluster.become_unready().await;
    assert!(unready < RECOVERY + cluster.added(&busy), "unready after {unready:?}");
    for socket in closing {
        let id = socket.id.clone();
        socket.close().await;
        decisions.closed(&id);
    }
    // Local deliveries go on without it; all do where it refuses writes only.
    delivery.flows_between(Instant::now(), |from, to| from == to || !loss.is_silent()).await;
    if loss.is_silent() {
        for node in 0..3 {
            let remote = &delivery.connections[(node + 1) % 3];
            let took = decisions.answers(node, remote, 503, begun).await;
            let limit = STALE_LIMIT + Duration::from_secs(2) + cluster.added(&busy);
            assert!(took < limit, "node {node} fails closed after {took:?}");
        }
    }
    let ended = Instant::now();
    loss.end(&mut cluster).await;
    let (returned, back) = (Instant::now(), cluster.busy());
    let flowing = delivery.flows(returned).await;
    if !loss.is_silent() {
        // The listeners, and the one that is not verified: what closed meanwhile is taken out at once, not with the lease.
        eventually("what closed is gone", || async { (cluster.redis.keys("*:entry:*").await.len() <= 4).then_some(()) }).await;
        let gone = returned.elapsed();
        assert!(gone < REMOVAL_MAX + cluster.added(&back), "what closed was gone after {gone:?}");
    }
    let ready = returned.elapsed() + cluster.become_ready().await;
    let mut right = Duration::ZERO;
    for node in 0..3 {
        for id in &delivery.connections {
            right = right.max(decisions.answers(node, id, 200, returned).await);
        }
    }
    let added = cluster.added(&back);
    eprintln!("unready {unready:?}; back: delivery {flowing:?}, decisions {right:?}, ready {ready:?}; busy for {added:?}");
    let recovery = RECOVERY + added;
    assert!(flowing.max(right) < recovery, "delivery after {flowing:?}, decisions after {right:?} of {recovery:?}");
    // All is right from here on: whoever watches sees it for a while.
    eventually("the time of recovery is over", || async { (returned.elapsed() > RECOVERY).then_some(()) }).await;
    cluster.become_ready().await;
    let after = Instant::now();
    delivery.flows(after).await;
    delivery.flows(Instant::now()).await;
    let fault = Fault { span: (begun, ended), nodes: vec![0, 1, 2], silent: loss.is_silent() };
    let late = cluster.added(&busy);
    let answers = decisions.check(&[fault], late).await;
    // What closed meanwhile is gone, and the unverified one was closed for its silence: only the listeners are left.
    eventually("redis knows what is true", || async { (cluster.redis.keys("*:entry:*").await.len() == 3).then_some(()) }).await;
    let outcome = delivery.finish().await;
    let excused = [(begun - ON_ITS_WAY, returned + RECOVERY + late)];
    outcome.check(if loss.is_silent() { &excused } else { &[] });
    eprintln!("{} published, {} lost on their way to other nodes, {answers} decisions", outcome.published(), outcome.lost());
}

#[tokio::test]
async fn redis_killed_and_restarted_with_its_data() {
    check(Loss::Killed).await;
}

#[tokio::test]
async fn redis_killed_and_restarted_empty() {
    check(Loss::Emptied).await;
}

#[tokio::test]
async fn redis_stalled() {
    check(Loss::Frozen).await;
}

#[tokio::test]
async fn redis_made_read_only() {
    check(Loss::ReadOnly).await;
}

#[tokio::test]
async fn a_redis_that_blinks_costs_no_readiness_for_long_and_no_socket() {
    let mut cluster = ClusterPlan::new().toml(RULE).start().await;
    let delivery = Delivery::start(&cluster).await;
    let begun = Instant::now();
    for _ in 0..3 {
        cluster.redis.restart().await;
        delivery.flows(Instant::now()).await;
    }
    let (returned, back) = (Instant::now(), cluster.busy());
    cluster.become_ready().await;
    let took = returned.elapsed();
    let added = cluster.added(&back);
    assert!(took < LEASE + added, "ready after {took:?}, of which a busy machine added {added:?}");
    delivery.finish().await.check(&[(begun - ON_ITS_WAY, returned + RECOVERY + added)]);
}

/// The registry cannot hear of it and says that it is verified; messages still go.
#[tokio::test]
async fn a_connection_that_closes_while_writes_are_refused_is_denied_everywhere() {
    let cluster = ClusterPlan::new().start().await;
    let (socket, stays) = (cluster.dial(0).verified().await, cluster.dial(0).verified().await);
    let id = socket.id.clone();
    for id in [&id, &stays.id] {
        cluster.all_answer(id, 200).await;
    }
    cluster.redis.refuse_writes().await;
    drop(socket.close().await);
    cluster.all_answer(&id, 401).await;
    for node in &cluster.nodes {
        assert_eq!(node.authorize(&id).await.status, 401, "for good");
    }
    cluster.redis.take_writes().await;
    cluster.become_ready().await;
    cluster.all_answer(&id, 401).await;
    cluster.all_answer(&stays.id, 200).await;
}
