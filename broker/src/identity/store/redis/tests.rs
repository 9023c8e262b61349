use std::time::{Duration, Instant};

use super::*;
use crate::config::Millis;
use crate::identity::store::conformance::{Pair, check, refresh_without_end};
use crate::identity::store::{NewUser, PasswordState, Redeemed, RefreshToken, Sessions as _, TOKENS_OF_FAMILY_MAX, Users as _};
use crate::link::testing::{TestRedis, settings};

const RULES: RefreshRules = RefreshRules { rotate: true, grace_ms: 10, idle_ms: 1_000, lifetime_ms: 2_000 };

fn open(redis: &TestRedis, prefix: &str) -> RedisStore {
    let settings = ClusterSettings { prefix: prefix.to_owned(), ..settings(redis.address()) };
    RedisStore::open(&settings, Arc::new(Metrics::new())).unwrap()
}

fn add(store: &RedisStore, name: &str) -> crate::identity::User {
    let new = NewUser { name, username: "Ada", email: None, password: "phc", state: PasswordState::Permanent };
    store.add_user(&new, 1).unwrap();
    store.find_user(name).unwrap().unwrap()
}

fn next(store: &RedisStore, token: &RefreshToken, now: u64) -> RefreshToken {
    match store.redeem(None, token, &RULES, now) {
        Ok(Redeemed::Session { token, .. }) => token,
        Ok(_) => panic!("refused"),
        Err(error) => panic!("{error}"),
    }
}

#[actix_web::test]
async fn the_store_in_redis_keeps_its_promises() {
    let Some(redis) = TestRedis::start().await else { return };
    check(|number| {
        let open = || Box::new(open(&redis, &format!("case-{number}")));
        Pair { one: open(), two: open() }
    });
}

#[actix_web::test]
async fn refreshing_without_end_keeps_a_bounded_number_of_tokens() {
    let Some(redis) = TestRedis::start().await else { return };
    refresh_without_end(&open(&redis, "endless"));
    assert_eq!(redis.ask(&["KEYS", "*:token:*"]).await.len() as u64, TOKENS_OF_FAMILY_MAX);
}

#[actix_web::test]
async fn a_family_that_does_not_know_its_oldest_token_is_bounded_from_there() {
    let Some(redis) = TestRedis::start().await else { return };
    let store = open(&redis, "earlier");
    let first = store.begin_family(&add(&store, "ada"), "jti", &RULES, 1).unwrap().unwrap();
    let family = redis.ask(&["KEYS", "*:family:*"]).await.concat();
    redis.ask(&["HDEL", &family, "oldest", "tokens"]).await;
    let second = next(&store, &first, 2);
    assert_eq!(redis.ask(&["HGET", &family, "tokens"]).await, ["2"]);
    // What it takes for its oldest is gone.
    redis.ask(&["HSET", &family, "oldest", "gone", "tokens", "1000"]).await;
    next(&store, &second, 3);
    assert_eq!(redis.ask(&["HGET", &family, "tokens"]).await, ["2"]);
}

#[actix_web::test]
async fn users_and_revocations_come_in_pages() {
    let Some(redis) = TestRedis::start().await else { return };
    let store = open(&redis, "pages");
    let names: Vec<_> = (0..PAGE + 2).map(|number| format!("user {number:04}")).collect();
    for name in &names {
        add(&store, name);
        store.set_disabled(name, true, 5).unwrap();
    }
    let found = store.users().unwrap().into_iter().map(|user| user.name);
    assert_eq!(found.collect::<Vec<_>>(), names);
    assert_eq!(store.revocations_since(&mut Mark::default()).unwrap().len(), names.len());
    store.prune(&RULES, 1, 6, 10).unwrap();
    assert_eq!(store.revocations_since(&mut Mark::default()).unwrap(), []);
}

#[actix_web::test]
async fn redis_holds_no_token_in_clear_and_forgets_what_ends() {
    let Some(redis) = TestRedis::start().await else { return };
    let store = open(&redis, "clear");
    let first = store.begin_family(&add(&store, "ada"), "jti", &RULES, 1).unwrap().unwrap();
    let second = next(&store, &first, 2);
    for key in redis.ask(&["KEYS", "*"]).await {
        let ends = redis.ask(&["PTTL", &key]).await[0] != "-1";
        assert_eq!(ends, key.contains(":family:") || key.contains(":token:"), "{key}");
        let held = match redis.ask(&["TYPE", &key]).await[0].as_str() {
            "hash" => redis.ask(&["HVALS", &key]).await.join(" "),
            _ => String::new(),
        };
        for token in [first.text(), second.text()] {
            assert!(!key.contains(&token) && !held.contains(&token), "{key}");
        }
    }
}

#[actix_web::test]
async fn a_replacement_that_was_lost_with_its_answer_is_no_theft() {
    let Some(redis) = TestRedis::start().await else { return };
    let store = open(&redis, "lost");
    let first = store.begin_family(&add(&store, "ada"), "jti", &RULES, 100).unwrap().unwrap();
    // The server must know the script, or it would do nothing at the first call.
    let unknown = RefreshToken::random().unwrap();
    assert!(matches!(store.redeem(None, &unknown, &RULES, 150), Ok(Redeemed::Refused)));
    redis.freeze();
    assert!(matches!(store.redeem(None, &first, &RULES, 200), Err(StoreError::Redis(_))));
    redis.thaw();
    // What waited in the socket is done now: the token has a successor that nobody got.
    let deadline = Instant::now() + Duration::from_secs(60);
    while redis.ask(&["KEYS", "*:token:*"]).await.len() < 2 {
        assert!(Instant::now() < deadline, "redis has lost the command");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = next(&store, &first, 900);
    assert!(matches!(store.redeem(None, &first, &RULES, 950), Ok(Redeemed::Reused)), "this time it was handed out");
    assert!(matches!(store.redeem(None, &second, &RULES, 951), Ok(Redeemed::Refused)));
}

#[actix_web::test]
async fn a_server_that_forgot_its_scripts_is_told_again() {
    let Some(redis) = TestRedis::start().await else { return };
    let store = open(&redis, "scripts");
    add(&store, "ada");
    redis.ask(&["SCRIPT", "FLUSH"]).await;
    assert!(store.find_user("ada").unwrap().is_some());
}

#[actix_web::test]
async fn a_redis_that_does_not_answer_is_told_in_time_and_with_its_reason() {
    let Some(mut redis) = TestRedis::start().await else { return };
    let store = open(&redis, "away");
    redis.freeze();
    // It is frozen until the call has failed.
    assert!(matches!(store.find_user("ada"), Err(StoreError::Redis(LinkError::TimedOut))));
    redis.kill();
    let short = ClusterSettings { connect_timeout_ms: Millis(3_000), ..settings(redis.address()) };
    let error = RedisStore::open(&short, Arc::new(Metrics::new())).unwrap().reach().unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
}
