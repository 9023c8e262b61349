//! Floods of challenges: whoever came first keeps its place, and an honest client is let in beside the flood.

use countersign_tests::http::Response;
use countersign_tests::socket::{Dial, Socket};
use countersign_tests::{Node, Plan};

/// Clients behind a proxy, whose addresses it vouches for.
const PROXIED: &str = "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n";

/// A page's client at some address.
fn from(node: &Node, address: &str) -> Dial {
    Dial::page(node).header("x-forwarded-for", address)
}

fn started(settings: &str) -> Node {
    Plan::new().toml(PROXIED).toml(&format!("[challenge]\n{settings}")).start()
}

/// Fails its challenge.
async fn fail(mut socket: Socket) {
    socket.challenge().await;
    socket.text(r#"{"id":9,"action":"answer"}"#).await;
    assert_eq!(socket.close_code().await, 4403);
}

fn retry_after(refused: &Response) -> u64 {
    let (_, value) = refused.headers.iter().find(|(name, _)| name == "retry-after").expect("Retry-After");
    value.parse().expect("seconds")
}

#[tokio::test]
async fn a_network_that_leaves_challenges_pending_is_refused_and_nobody_else() {
    let node = started("pending_per_network_max = 2");
    let mut first = from(&node, "192.0.2.1").welcomed().await;
    let _second = from(&node, "::ffff:192.0.2.2").welcomed().await;
    for address in ["192.0.2.1", "192.0.2.250", "::ffff:192.0.2.3"] {
        let refused = from(&node, address).try_open().await.expect_err(address);
        assert_eq!((refused.status, retry_after(&refused)), (503, 5), "{address}");
    }
    for address in ["192.0.3.1", "2001:db8::1", "2001:db8::2"] {
        from(&node, address).verified().await;
    }
    first.verify().await;
    from(&node, "192.0.2.250").verified().await;
    node.metric_at_least("countersign_limit_hits_total", &[("limit", "pending_per_network")], 3.0).await;
    node.metric_at_least("countersign_handshakes_total", &[("outcome", "unavailable")], 3.0).await;
}

#[tokio::test]
async fn a_flood_from_many_networks_evicts_nobody() {
    let node = started("pending_max = 20\nhello_timeout_ms = 60000");
    let mut early = from(&node, "192.0.2.1").welcomed().await;
    let mut flood = Vec::new();
    for network in 0..40 {
        flood.push(from(&node, &format!("10.0.{network}.1")).try_open().await);
    }
    assert_eq!(flood.iter().filter(|opened| opened.is_ok()).count(), 19);
    assert!(flood.iter().flat_map(|opened| opened.as_ref().err()).all(|refused| refused.status == 503));
    early.verify().await;
}

#[tokio::test]
async fn one_origin_leaves_room_for_another() {
    let origins = "[gateway]\nallowed_origins = [\"https://a.example\", \"https://b.example\"]\n";
    let plan = Plan::new().toml(PROXIED).toml(origins).toml("[challenge]\npending_per_origin_max = 3\npending_max = 9");
    let node = plan.start();
    let mut flood = Vec::new();
    for network in 0..10 {
        flood.push(from(&node, &format!("10.0.{network}.1")).origin("https://a.example").try_open().await);
    }
    assert_eq!(flood.iter().filter(|opened| opened.is_ok()).count(), 6, "its bound, and half of what is left");
    from(&node, "192.0.2.1").origin("https://b.example").verified().await;
}

#[tokio::test]
async fn a_flood_in_the_name_of_an_origin_leaves_room_for_its_honest_pages() {
    let node = started("pending_per_origin_max = 20\npending_per_network_max = 10\nhello_timeout_ms = 60000");
    let mut flood = Vec::new();
    for network in 0..4 {
        for host in 0..10 {
            flood.push(from(&node, &format!("10.0.{network}.{host}")).try_open().await);
        }
    }
    assert_eq!(flood.iter().filter(|opened| opened.is_ok()).count(), 22, "two networks' all, of the others one each");
    from(&node, "192.0.2.1").verified().await;
}

#[tokio::test]
async fn a_network_that_fails_too_often_waits() {
    let node = started("failures_per_network_per_minute = 2");
    let mut held = from(&node, "192.0.2.3").welcomed().await;
    fail(from(&node, "192.0.2.1").welcomed().await).await;
    from(&node, "192.0.2.1").verified().await;
    fail(from(&node, "::ffff:192.0.2.2").welcomed().await).await;
    let refused = from(&node, "192.0.2.1").try_open().await.expect_err("too many failures");
    assert_eq!(refused.status, 429);
    assert!((1..=60).contains(&retry_after(&refused)), "{}", retry_after(&refused));
    from(&node, "192.0.3.1").verified().await;
    held.verify().await;
    node.metric_reaches("countersign_limit_hits_total", &[("limit", "failures_per_network")], 1.0).await;
}

#[tokio::test]
async fn silence_is_a_failure_too() {
    let node = started("failures_per_network_per_minute = 1\nhello_timeout_ms = 100\non_failure = \"stay_unverified\"");
    let mut silent = from(&node, "192.0.2.1").welcomed().await;
    silent.event("challenge_failed").await;
    assert_eq!(from(&node, "192.0.2.1").try_open().await.expect_err("too many failures").status, 429);
}

#[tokio::test]
async fn an_origin_under_attack_stays_open_to_honest_networks() {
    let node = started("failures_per_origin_per_minute = 4\nfailures_per_network_per_minute = 10");
    for network in 0..4 {
        fail(from(&node, &format!("10.0.{network}.1")).welcomed().await).await;
    }
    let refused = from(&node, "10.0.0.2").try_open().await.expect_err("it failed, and its origin is over its limit");
    assert_eq!(refused.status, 429);
    from(&node, "192.0.2.1").verified().await;
}

#[tokio::test]
async fn an_address_that_nobody_vouches_for_does_not_count() {
    let node = Plan::new().toml("[challenge]\npending_per_network_max = 1").start();
    let _held = from(&node, "192.0.2.1").welcomed().await;
    assert_eq!(from(&node, "198.51.100.1").try_open().await.expect_err("the same network").status, 503);
}
