//! A Redis that answers after two seconds delays no handshake, no close and no delivery within a node.

use std::time::{Duration, Instant};

use countersign_tests::cluster::delivery::{CHANNEL, RULE};
use countersign_tests::cluster::{Cluster, ClusterPlan};
use countersign_tests::socket::Incoming;
use serde_json::json;

/// How late Redis is.
const LATE: Duration = Duration::from_secs(2);
/// After so long a node gives a command up: what takes less did not wait for one, were it in vain.
const PROMPT: Duration = Duration::from_secs(1);

/// Awaits something that must not have waited for Redis.
async fn prompt<T>(cluster: &Cluster, what: &str, future: impl Future<Output = T>) -> T {
    let (start, busy) = (Instant::now(), cluster.busy());
    let value = future.await;
    let took = start.elapsed();
    let added = cluster.added(&busy);
    assert!(took < PROMPT + added, "{what} took {took:?}, of which a busy machine added {added:?}");
    value
}

#[tokio::test]
async fn handshake_verification_delivery_and_close_do_not_wait_for_a_slow_redis() {
    let cluster = ClusterPlan::new().nodes(2).toml(RULE).over_ways().start().await;
    // What is made once, such as the solver of the tests, is made before.
    cluster.dial(0).verified().await.close().await;
    cluster.ways[0].delay_answers(LATE);
    for round in 0..5 {
        let mut listener = prompt(&cluster, "a handshake", cluster.dial(0).welcomed()).await;
        prompt(&cluster, "a verification", listener.verify()).await;
        prompt(&cluster, "a subscription", listener.ok("subscribe", json!({ "channel": CHANNEL }))).await;
        let mut speaker = prompt(&cluster, "a verified socket", cluster.dial(0).verified()).await;
        let delivered = async {
            speaker.json(&json!({ "id": "p", "action": "publish", "channel": CHANNEL, "data": round })).await;
            listener.event("publication").await
        };
        assert_eq!(prompt(&cluster, "a delivery", delivered).await["data"], round);
        assert_eq!(prompt(&cluster, "a decision", cluster.nodes[0].authorize(&listener.id)).await.status, 200);
        let id = listener.id.clone();
        let end = prompt(&cluster, "a close", listener.close()).await;
        assert!(matches!(end, Incoming::Closed(..)), "{end:?}");
        // Whether another node has it by now, only Redis knows.
        assert!(matches!(cluster.nodes[0].authorize(&id).await.status, 401 | 503));
    }
}
