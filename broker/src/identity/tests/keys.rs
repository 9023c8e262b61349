use std::time::Duration;

use super::*;
use crate::identity::clock::Clock;
use crate::identity::keys::SigningKeys;
use crate::identity::verifier::Epoch;

fn open(folder: &tempfile::TempDir, clock: Clock) -> SigningKeys {
    let settings = settings(folder);
    SigningKeys::open(folder.path().join("keys"), &settings.identity.pool, 4_000, clock, Arc::<Epoch>::default()).unwrap()
}

fn kids(keys: &SigningKeys) -> Vec<String> {
    keys.jwks()["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_new_key_is_published_before_it_signs_and_the_old_one_after() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let keys = open(&folder, clock.clock());
    let old = keys.signing_kid().unwrap();
    let new = keys.rotate(None).unwrap().kid;
    assert_eq!(kids(&keys), [old.clone(), new.clone()]);
    assert_eq!(keys.signing_kid().unwrap(), old);
    clock.advance(Duration::from_secs(600));
    assert_eq!(keys.signing_kid().unwrap(), new);
    clock.advance(Duration::from_secs(3_999));
    keys.reload().unwrap();
    assert_eq!(kids(&keys), [old, new.clone()]);
    clock.advance(Duration::from_secs(1));
    keys.reload().unwrap();
    assert_eq!(kids(&keys), [new]);
}

#[test]
fn a_rotation_by_another_process_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let (node, command) = (open(&folder, clock.clock()), open(&folder, clock.clock()));
    assert_eq!(kids(&node), kids(&command), "the second opens what the first made");
    let new = command.rotate(Some(PoolAlgorithm::Rs256)).unwrap().kid;
    node.reload().unwrap();
    assert_eq!(kids(&node), kids(&command));
    clock.advance(Duration::from_secs(600));
    assert_eq!(node.signing_kid().unwrap(), new);
    assert_eq!(node.records()[1].algorithm, PoolAlgorithm::Rs256);
}

#[test]
fn nodes_that_start_at_once_on_an_empty_folder_take_the_same_first_key() {
    let folder = tempfile::tempdir().unwrap();
    let barrier = std::sync::Barrier::new(8);
    let opened: Vec<_> = std::thread::scope(|scope| {
        let nodes = (0..8).map(|_| {
            scope.spawn(|| {
                barrier.wait();
                open(&folder, Clock::system())
            })
        });
        let nodes: Vec<_> = nodes.collect();
        nodes.into_iter().map(|node| node.join().unwrap()).collect()
    });
    for node in &opened {
        node.reload().unwrap();
        assert_eq!((node.signing_kid(), kids(node)), (opened[0].signing_kid(), kids(&opened[0])));
        assert_eq!(kids(node).len(), 1);
    }
}

#[test]
fn a_first_key_that_was_left_half_made_is_brought_to_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(&folder, Clock::system()).signing_kid().unwrap();
    let path = |extension: &str| folder.path().join("keys").join(format!("{first}.{extension}"));
    std::fs::remove_file(path("json")).unwrap();
    assert_eq!(kids(&open(&folder, Clock::system())), std::slice::from_ref(&first));
    for extension in ["json", "pem"] {
        std::fs::remove_file(path(extension)).unwrap();
    }
    assert_ne!(kids(&open(&folder, Clock::system())), [first], "an emptied folder begins anew");
}

#[cfg(unix)]
#[test]
fn new_keys_are_taken_where_old_ones_cannot_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let (node, command) = (open(&folder, clock.clock()), open(&folder, clock.clock()));
    let old = node.signing_kid().unwrap();
    let new = command.rotate(None).unwrap().kid;
    node.reload().unwrap();
    // A folder in its place cannot be removed as a file can, by root neither.
    let pem = folder.path().join("keys").join(format!("{old}.pem"));
    std::fs::remove_file(&pem).unwrap();
    std::fs::create_dir(&pem).unwrap();
    clock.advance(Duration::from_secs(600 + 4_000));
    node.reload().unwrap();
    assert_eq!(kids(&node), [new]);
}

#[test]
fn private_halves_stay_private() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(&folder, Clock::system());
    keys.rotate(Some(PoolAlgorithm::Rs256)).unwrap();
    for key in keys.jwks()["keys"].as_array().unwrap() {
        for member in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert!(key.get(member).is_none(), "{member}");
        }
        assert_eq!(key["use"], "sig");
    }
    #[cfg(unix)]
    for entry in std::fs::read_dir(folder.path().join("keys")).unwrap() {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o077, 0);
    }
}

#[test]
fn a_key_under_anothers_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(&folder, Clock::system());
    let other = keys.rotate(None).unwrap().kid;
    let path = |kid: &str| folder.path().join("keys").join(format!("{kid}.pem"));
    std::fs::copy(path(&other), path(&keys.signing_kid().unwrap())).unwrap();
    let settings = settings(&folder);
    let opened = SigningKeys::open(folder.path().join("keys"), &settings.identity.pool, 1, Clock::system(), Arc::default());
    assert!(opened.unwrap_err().to_string().contains("another key"));
}

#[actix_web::test]
async fn tokens_of_both_keys_verify_during_the_overlap() {
    let fixture = Fixture::with(|settings| settings.identity.pool.key_publish_ahead_seconds = Seconds(0));
    fixture.add("ada");
    let before = fixture.sign_in("ada", PASSWORD).await.unwrap();
    let folder = fixture.settings.server.data_dir.join("keys");
    let command = SigningKeys::open(folder, &fixture.settings.identity.pool, 4_000, fixture.clock.clock(), Arc::default());
    let keys = command.unwrap();
    keys.rotate(Some(PoolAlgorithm::Rs256)).unwrap();
    let kid = |token: &str| {
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let after = loop {
        let session = fixture.sign_in("ada", PASSWORD).await.unwrap();
        if kid(&session.id_token) != kid(&before.id_token) {
            break session;
        }
        assert!(std::time::Instant::now() < deadline, "the node has not taken the new key");
        actix_web::rt::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(fixture.verify(&before.id_token).await.is_ok());
    assert!(fixture.verify(&after.id_token).await.is_ok());
}
