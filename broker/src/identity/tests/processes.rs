use std::time::{Duration, Instant};

use super::*;
use crate::identity::mint;
use crate::identity::store::{LockoutRules, NewUser, PasswordState, Redeemed, RefreshRules, RefreshToken, Store};

/// Waits until the node has heard of what the command line did.
async fn heard(fixture: &Fixture, revocations: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while fixture.revoked() < revocations {
        assert!(Instant::now() < deadline, "no revocation heard");
        actix_web::rt::time::sleep(Duration::from_millis(10)).await;
    }
}

#[actix_web::test]
async fn a_node_hears_what_the_command_line_revokes() {
    let fixture = Fixture::new();
    fixture.add("ada");
    let command = fixture.admin();
    for (round, act) in ["disable", "passwd", "delete"].into_iter().enumerate() {
        let session = fixture.sign_in("ada", PASSWORD).await.unwrap();
        let principal = fixture.verify(&session.id_token).await.unwrap();
        match act {
            "disable" => command.set_disabled("ada", true).unwrap(),
            "passwd" => drop(command.set_password("ada", GivenPassword::Permanent(secret(PASSWORD))).unwrap()),
            _ => command.delete("ada").unwrap(),
        }
        heard(&fixture, round + 1).await;
        assert!(fixture.revocations.lock().unwrap()[round].covers(&principal), "{act}");
        assert_eq!(fixture.verify(&session.id_token).await, Err(TokenRefusal::Revoked), "{act}");
        assert!(fixture.refresh(&session.refresh_token).await.is_err(), "{act}");
        if act == "disable" {
            assert!(fixture.sign_in("ada", PASSWORD).await.is_err());
            command.set_disabled("ada", false).unwrap();
        }
    }
    fixture.add("ada");
    assert!(fixture.sign_in("ada", PASSWORD).await.is_ok(), "another subject of the same name");
}

#[actix_web::test]
async fn revocations_outlast_a_restart() {
    let fixture = Fixture::new();
    fixture.add("ada");
    let session = fixture.sign_in("ada", PASSWORD).await.unwrap();
    fixture.identity.pool().unwrap().revoke(&session.refresh_token).await.unwrap();
    let listen = "127.0.0.1:8080".parse().unwrap();
    let again = Identity::start_at(&fixture.settings, Arc::new(Metrics::new()), listen, fixture.clock.clock(), |_| {
        panic!("an old revocation has no socket to end")
    });
    assert_eq!(again.unwrap().verifier().verify(&session.id_token).await, Err(TokenRefusal::Revoked));
}

#[actix_web::test]
async fn minted_tokens_verify_at_a_running_node() {
    let fixture = Fixture::new();
    fixture.add("ada");
    // The command line goes by the system's clock, so the token is looked at by a node that does too.
    let listen = fixture.settings.server.listen;
    let node = Identity::start(&fixture.settings, Arc::new(Metrics::new()), listen, |_| {}).unwrap();
    let further = json!({"team": "blue"}).as_object().unwrap().clone();
    let token = mint(&fixture.settings, "ADA", true, Some(60), further).unwrap();
    let principal = node.verifier().verify(&token).await.unwrap();
    assert!(principal.has_claim("team", "blue") && principal.has_claim("token_use", "access"));
    let reserved = json!({"sub": "eve"}).as_object().unwrap().clone();
    assert!(mint(&fixture.settings, "ada", false, None, reserved).is_err());
    assert!(mint(&fixture.settings, "ada", false, Some(86_401), serde_json::Map::new()).is_err());
    fixture.admin().set_disabled("ada", true).unwrap();
    assert!(mint(&fixture.settings, "ada", false, None, serde_json::Map::new()).is_err());
}

const RULES: RefreshRules = RefreshRules { rotate: true, grace_ms: 0, idle_ms: 1_000, lifetime_ms: 10_000 };

fn stores(folder: &tempfile::TempDir) -> (Store, Store) {
    let path = folder.path().join("pool.db");
    (Store::open(&path).unwrap(), Store::open(&path).unwrap())
}

fn add(store: &Store) -> crate::identity::User {
    let new = NewUser { name: "ada", username: "Ada", email: None, password: "phc", state: PasswordState::Permanent };
    store.add_user(&new, 1).unwrap();
    store.find_user("ada").unwrap().unwrap()
}

#[test]
fn of_uses_at_once_through_two_connections_one_rotates() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = stores(&folder);
    let user = add(&one);
    let token = one.begin_family(&user, "jti", 1).unwrap().unwrap().text();
    let (one, two) = (&one, &two);
    let rotated = std::thread::scope(|scope| {
        let uses = (0..8).map(|n| {
            let (store, token) = (if n % 2 == 0 { one } else { two }, RefreshToken::parse(&token).unwrap());
            scope.spawn(move || matches!(store.redeem(None, &token, &RULES, 2), Ok(Redeemed::Session { .. })))
        });
        let uses: Vec<_> = uses.collect();
        uses.into_iter().filter_map(|handle| handle.join().ok()).filter(|rotated| *rotated).count()
    });
    assert_eq!(rotated, 1);
}

#[test]
fn a_password_checked_while_it_was_replaced_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (node, command) = stores(&folder);
    let user = add(&node);
    command.set_password("ada", "other", PasswordState::Permanent, None, 2).unwrap();
    assert!(node.begin_family(&user, "jti", 3).unwrap().is_none());
    assert!(node.set_password("ada", "third", PasswordState::Permanent, Some("phc"), 3).is_err());
    assert_eq!(node.find_user("ada").unwrap().unwrap().password, "other");
}

#[test]
fn the_store_holds_no_token_in_clear() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = stores(&folder);
    let first = store.begin_family(&add(&store), "jti", 1).unwrap().unwrap();
    let Redeemed::Session { token: second, .. } = store.redeem(None, &first, &RULES, 2).unwrap() else { panic!("refused") };
    drop(store);
    let file: Vec<u8> = ["pool.db", "pool.db-wal"]
        .iter()
        .flat_map(|name| std::fs::read(folder.path().join(name)).unwrap_or_default())
        .collect();
    for token in [first, second] {
        let raw = URL_SAFE_NO_PAD.decode(token.text()).unwrap();
        assert!(!file.windows(raw.len()).any(|window| window == raw));
        assert!(!file.windows(43).any(|window| window == token.text().as_bytes()));
    }
}

#[test]
fn pruning_drops_what_has_ended_only() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = stores(&folder);
    let user = add(&store);
    let rules = LockoutRules { threshold: 1, base_ms: 10, max_ms: 100 };
    let kept = store.begin_family(&user, "new", 1_500).unwrap().unwrap();
    let ended = store.begin_family(&user, "old", 1).unwrap().unwrap();
    store.admit("old", &rules, 1).unwrap();
    store.prune(&RULES, rules.max_ms, 0, 2_000).unwrap();
    assert!(matches!(store.redeem(None, &ended, &RULES, 2).unwrap(), Redeemed::Refused));
    assert!(matches!(store.redeem(None, &kept, &RULES, 2_000).unwrap(), Redeemed::Session { .. }));
    store.set_disabled("ada", true, 5_000).unwrap();
    store.prune(&RULES, rules.max_ms, 5_000, 6_000).unwrap();
    assert_eq!(store.revocations_after(0).unwrap().len(), 1);
    store.prune(&RULES, rules.max_ms, 5_001, 6_000).unwrap();
    assert_eq!(store.revocations_after(0).unwrap().len(), 0);
}

#[test]
fn a_store_of_a_newer_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(Store::open(&path).unwrap_err().to_string().contains("layout 99"));
}
