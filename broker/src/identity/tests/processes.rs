use super::*;
use crate::identity::mint;
use crate::identity::store::{EmbeddedStore, NewUser, PasswordState, Redeemed, RefreshRules, Sessions as _, Users as _};

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
        fixture.heard(round + 1).await;
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

#[test]
fn the_store_holds_no_token_in_clear() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join("pool.db")).unwrap();
    let new = NewUser { name: "ada", username: "Ada", email: None, password: "phc", state: PasswordState::Permanent };
    store.add_user(&new, 1).unwrap();
    let user = store.find_user("ada").unwrap().unwrap();
    let first = store.begin_family(&user, "jti", &RULES, 1).unwrap().unwrap();
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
fn a_store_of_a_newer_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(EmbeddedStore::open(&path).unwrap_err().to_string().contains("layout 99"));
}
