use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::identity::clock::Clock;
use crate::identity::program_keys::{ProgramKeyRecord, ProgramKeys};

fn open(folder: &tempfile::TempDir, clock: Clock) -> ProgramKeys {
    ProgramKeys::open(&settings(folder), clock).unwrap()
}

fn files(folder: &tempfile::TempDir) -> Vec<PathBuf> {
    let folder = settings(folder).server.data_dir.join("program-keys");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn day() -> Duration {
    Duration::from_secs(86_400)
}

#[test]
fn pages_that_pin_current_and_next_outlive_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let keys = open(&folder, clock.clock());
    for _ in 0..3 {
        let pinned = keys.pins();
        assert_eq!(keys.current().pin(), pinned[0], "the next key never signs");
        clock.advance(day());
        keys.rotate(false).unwrap();
        assert_eq!(keys.current().pin(), pinned[1]);
        assert!(!pinned.contains(&keys.pins()[1]));
        assert_eq!(files(&folder).len(), 4, "keys that sign no more are gone");
    }
}

#[test]
fn a_next_key_that_pages_may_not_know_does_not_sign() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let keys = open(&folder, clock.clock());
    let pins = keys.pins();
    clock.advance(day() - Duration::from_secs(1));
    assert!(matches!(keys.rotate(false), Err(crate::identity::IdentityError::NextKeyYoung { left: 1 })));
    assert_eq!((keys.pins(), files(&folder).len()), (pins.clone(), 4));
    keys.rotate(true).unwrap();
    assert_eq!(keys.current().pin(), pins[1]);
}

#[test]
fn a_rotation_by_another_process_is_seen_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let node = ProgramKeys::start(&settings(&folder)).unwrap();
    let command = open(&folder, Clock::system());
    assert_eq!(node.pins(), command.pins(), "the second opens what the first made");
    command.rotate(true).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while node.pins() != command.pins() {
        assert!(std::time::Instant::now() < deadline, "the node has not taken the new key");
        std::thread::yield_now();
    }
}

#[test]
fn nodes_that_start_at_once_on_an_empty_folder_take_the_same_keys() {
    let folder = tempfile::tempdir().unwrap();
    let barrier = std::sync::Barrier::new(8);
    let pins: Vec<_> = std::thread::scope(|scope| {
        let nodes = (0..8).map(|_| {
            scope.spawn(|| {
                barrier.wait();
                open(&folder, Clock::system()).pins()
            })
        });
        let nodes: Vec<_> = nodes.collect();
        nodes.into_iter().map(|node| node.join().unwrap()).collect()
    });
    assert!(pins.iter().all(|others| *others == pins[0]), "{pins:?}");
    assert_eq!(files(&folder).len(), 4);
}

#[test]
fn a_first_start_that_was_cut_short_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let pins = open(&folder, Clock::system()).pins();
    let next = files(&folder).into_iter().find(|path| path.ends_with("000002.json")).unwrap();
    std::fs::remove_file(next).unwrap();
    let again = open(&folder, Clock::system()).pins();
    assert!(again[0] == pins[0] && again[1] != pins[1]);
}

#[test]
fn an_emptied_folder_leaves_a_running_node_its_keys_and_gets_no_new_ones_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(&folder, Clock::system());
    let pins = keys.pins();
    files(&folder).iter().for_each(|file| std::fs::remove_file(file).unwrap());
    assert!(matches!(keys.reload(), Err(crate::identity::IdentityError::NoProgramKeys)));
    assert_eq!((keys.pins(), files(&folder).len()), (pins, 0));
}

#[test]
fn a_key_under_anothers_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(&folder, Clock::system());
    let records = files(&folder).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let signers: Vec<String> =
        records.map(|path| serde_json::from_slice::<ProgramKeyRecord>(&std::fs::read(path).unwrap()).unwrap().signer).collect();
    assert_eq!(signers[0], keys.current().signer());
    let pem = |signer: &str| settings(&folder).server.data_dir.join("program-keys").join(format!("{signer}.pem"));
    std::fs::copy(pem(&signers[1]), pem(&signers[0])).unwrap();
    let opened = ProgramKeys::open(&settings(&folder), Clock::system());
    assert!(opened.unwrap_err().to_string().contains("another key"));
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_them() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    open(&folder, Clock::system());
    let mut paths = files(&folder);
    paths.push(settings(&folder).server.data_dir.join("program-keys"));
    for path in paths {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o077, 0);
    }
}
