use std::time::{Duration, Instant};

use super::http::status;
use super::*;
use crate::config::PoolStore;
use crate::identity::mint;
use crate::link::testing::{self, TestRedis};

/// Two nodes that share a Redis and a folder of keys.
struct Cluster {
    redis: TestRedis,
    _keys: tempfile::TempDir,
    clock: ManualClock,
    nodes: [Fixture; 2],
}

impl Cluster {
    async fn start() -> Option<Self> {
        let redis = TestRedis::start().await?;
        let (keys, clock) = (tempfile::tempdir().unwrap(), ManualClock::new());
        let nodes = [(), ()].map(|()| {
            let folder = tempfile::tempdir().unwrap();
            let mut settings = settings(&folder);
            settings.cluster = testing::settings(redis.address());
            settings.identity.pool.store = PoolStore::Redis;
            settings.identity.pool.keys_dir = Some(keys.path().join("keys"));
            settings.identity.pool.issuer = Some("https://ws.example.com".to_owned());
            assert_eq!(settings.validate(), Ok(()));
            Fixture::start(folder, settings, clock.clone())
        });
        Some(Self { redis, _keys: keys, clock, nodes })
    }
}

#[actix_web::test]
async fn a_sign_in_on_one_node_is_refreshed_on_another() {
    let Some(cluster) = Cluster::start().await else { return };
    let [a, b] = &cluster.nodes;
    a.add("ada");
    let session = a.sign_in("ada", PASSWORD).await.unwrap();
    let principal = b.verify(&session.id_token).await.unwrap();
    let refreshed = b.refresh(&session.refresh_token).await.unwrap();
    assert_eq!(a.verify(&refreshed.id_token).await.unwrap().subject, principal.subject);
    assert_eq!(a.refresh(&session.refresh_token).await.unwrap().refresh_token, refreshed.refresh_token, "the grace holds too");
    let signed_up = b.identity.pool().unwrap().sign_up("bob", secret(PASSWORD), None).await.unwrap();
    assert!(a.verify(&signed_up.id_token).await.is_ok());
    let minted = mint(&a.settings, "ada", false, Some(60), serde_json::Map::new()).unwrap();
    assert!(b.verify(&minted).await.is_ok(), "the command line works on the same pool");
    assert!(!b.settings.server.data_dir.join("pool.db").exists());
}

#[actix_web::test]
async fn a_reuse_is_detected_across_nodes_and_ends_tokens_on_all() {
    let Some(cluster) = Cluster::start().await else { return };
    let ([a, b], clock) = (&cluster.nodes, &cluster.clock);
    a.add("ada");
    let stolen = a.sign_in("ada", PASSWORD).await.unwrap();
    let current = b.refresh(&stolen.refresh_token).await.unwrap();
    clock.advance(Duration::from_secs(5));
    assert_eq!(refused(a.refresh(&stolen.refresh_token).await), "Reused");
    assert_eq!(a.revoked(), 1, "heard before the answer");
    b.heard(1).await;
    for node in [a, b] {
        assert_eq!(node.verify(&current.id_token).await, Err(TokenRefusal::Revoked));
        assert_eq!(refused(node.refresh(&current.refresh_token).await), "Refused");
    }
    assert_eq!(a.revoked(), 1);
}

#[actix_web::test]
async fn lock_out_holds_on_all_nodes() {
    let Some(cluster) = Cluster::start().await else { return };
    let ([a, b], clock) = (&cluster.nodes, &cluster.clock);
    a.add("ada");
    for node in [a, b, a, b, a] {
        assert_eq!(refused(node.sign_in("ada", "wrong").await), "Refused");
    }
    assert_eq!(refused(b.sign_in("ada", PASSWORD).await), "Locked");
    assert_eq!(refused(a.sign_in("ada", PASSWORD).await), "Locked");
    clock.advance(Duration::from_secs(1));
    assert!(b.sign_in("ada", PASSWORD).await.is_ok());
    assert_eq!(refused(a.sign_in("ada", "wrong").await), "Refused", "success has absolved");
}

#[actix_web::test]
async fn whoever_revokes_a_user_ends_tokens_and_sockets_on_every_node() {
    let Some(cluster) = Cluster::start().await else { return };
    let [a, b] = &cluster.nodes;
    a.add("ada");
    let session = a.sign_in("ada", PASSWORD).await.unwrap();
    let principal = b.verify(&session.id_token).await.unwrap();
    a.identity.pool().unwrap().revoke(&session.refresh_token).await.unwrap();
    b.heard(1).await;
    assert!(b.revocations.lock().unwrap()[0].covers(&principal));
    assert_eq!(b.verify(&session.id_token).await, Err(TokenRefusal::Revoked));
    let session = b.sign_in("ada", PASSWORD).await.unwrap();
    assert!(a.verify(&session.id_token).await.is_ok());
    a.admin().set_disabled("ada", true).unwrap();
    for node in [a, b] {
        node.heard(2).await;
        assert_eq!(node.verify(&session.id_token).await, Err(TokenRefusal::Revoked));
        assert_eq!(refused(node.sign_in("ada", PASSWORD).await), "Refused");
    }
}

#[actix_web::test]
async fn without_redis_the_pool_is_unavailable_and_refuses_nobody() {
    let Some(mut cluster) = Cluster::start().await else { return };
    let ([a, b], redis) = (&cluster.nodes, &mut cluster.redis);
    a.add("ada");
    let session = a.sign_in("ada", PASSWORD).await.unwrap();
    redis.kill();
    for node in [a, b] {
        for (path, body) in [
            ("/auth", json!({"user": "ada", "password": PASSWORD})),
            ("/auth", json!({"user": "ada", "password": "wrong"})),
            ("/auth/refresh", json!({"user": "ada", "refresh": session.refresh_token})),
            ("/auth/revoke", json!({"refresh": session.refresh_token})),
            ("/auth/password", json!({"user": "ada", "password": PASSWORD, "new_password": "Roses are 1 red"})),
        ] {
            assert_eq!(status(node, path, body).await, 503, "{path}");
        }
        assert!(node.verify(&session.id_token).await.is_ok(), "what was issued is good without a store");
        assert_eq!(node.revoked(), 0);
    }
}

#[actix_web::test]
async fn revocations_are_heard_after_an_outage_that_reset_their_numbers() {
    let Some(mut cluster) = Cluster::start().await else { return };
    let ([a, b], redis) = (&cluster.nodes, &mut cluster.redis);
    a.add("ada");
    for disabled in [true, false, true] {
        a.admin().set_disabled("ada", disabled).unwrap();
    }
    b.heard(1).await;
    let before = b.revoked();
    redis.restart().await;
    let deadline = Instant::now() + Duration::from_secs(60);
    a.add("ada");
    let session = loop {
        match a.sign_in("ada", PASSWORD).await {
            Err(AuthRefusal::Unavailable(_)) if Instant::now() < deadline => {
                actix_web::rt::time::sleep(Duration::from_millis(20)).await;
            }
            session => break session.unwrap(),
        }
    };
    assert!(b.verify(&session.id_token).await.is_ok());
    b.admin().set_disabled("ada", true).unwrap();
    b.heard(before + 1).await;
    assert_eq!(b.verify(&session.id_token).await, Err(TokenRefusal::Revoked));
}

#[actix_web::test]
async fn a_node_that_starts_without_redis_judges_no_token_before_it_knows_the_revocations() {
    let Some(mut cluster) = Cluster::start().await else { return };
    let ([a, _], redis) = (&cluster.nodes, &mut cluster.redis);
    a.add("ada");
    let session = a.sign_in("ada", PASSWORD).await.unwrap();
    redis.kill();
    let error = UserAdmin::open(&a.settings).unwrap_err().to_string();
    assert!(error.contains("refused"), "a command is told why: {error}");
    let mut settings = a.settings.clone();
    settings.cluster.connect_timeout_ms = Millis(100);
    let late = Fixture::start(tempfile::tempdir().unwrap(), settings, cluster.clock.clone());
    assert_eq!(late.verify(&session.id_token).await, Err(TokenRefusal::Unavailable));
    redis.restart().await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while late.verify(&session.id_token).await.is_err() {
        assert!(Instant::now() < deadline, "the node does not come right");
        actix_web::rt::time::sleep(Duration::from_millis(20)).await;
    }
}
