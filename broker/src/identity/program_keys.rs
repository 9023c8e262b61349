use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::IdentityError;
use super::clock::Clock;
use super::key_files::{KeyFolder, Record, generate};
use crate::config::{PoolAlgorithm, Settings};
use crate::program_key::ProgramKey;

/// How often the folder is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// What is known of a program-signing key beside the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramKeyRecord {
    /// Keys are numbered from 1. The newest is the next to sign; the one before it signs.
    pub number: u64,
    /// Its name, as program frames carry it.
    pub signer: String,
    /// Seconds since the Unix epoch. Published since then.
    pub created: u64,
}

impl Record for ProgramKeyRecord {
    fn kid(&self) -> &str {
        &self.signer
    }

    fn name(&self) -> String {
        format!("{:06}", self.number)
    }
}

/// The key that signs, and the one that will after the next rotation.
#[derive(Debug)]
struct Pair {
    current: Arc<ProgramKey>,
    next: Arc<ProgramKey>,
    stamp: u64,
}

/// The keys that sign programs: two files in a folder, which the nodes of a cluster share and the command line rotates.
///
/// Pages pin both. The newest key never signs: a rotation makes a newer one, by which this one becomes the signer that
/// pages have known since the rotation before. That one file decides, and it appears whole and once, so that no process ever
/// sees half a rotation.
#[derive(Debug)]
pub struct ProgramKeys {
    folder: KeyFolder<ProgramKeyRecord>,
    publish_ahead: u64,
    clock: Clock,
    pair: ArcSwap<Pair>,
    /// One reload or rotation at a time within this process.
    writing: Mutex<()>,
    /// Dropped with the value, which ends the watching thread.
    watch: Mutex<Option<mpsc::Sender<()>>>,
}

impl ProgramKeys {
    /// Opens the folder; makes it, and the first two keys, if they are missing. Of nodes that share an empty folder and start
    /// at once, all take the same ones.
    ///
    /// # Errors
    /// [`IdentityError`] if the folder or its keys cannot be used.
    pub fn open(settings: &Settings, clock: Clock) -> Result<Self, IdentityError> {
        if settings.challenge.signing_keys_dir.is_none() {
            super::make_data_folder(&settings.server.data_dir)?;
        }
        let folder = KeyFolder::open(folder_of(settings))?;
        complete(&folder, &clock)?;
        Ok(Self {
            pair: ArcSwap::from_pointee(read(&folder)?),
            folder,
            publish_ahead: settings.challenge.signing_key_publish_ahead_seconds.0,
            clock,
            writing: Mutex::new(()),
            watch: Mutex::new(None),
        })
    }

    /// As [`ProgramKeys::open`], and follows what other processes do to the folder for as long as the value lives.
    ///
    /// # Errors
    /// As [`ProgramKeys::open`].
    pub fn start(settings: &Settings) -> Result<Arc<Self>, IdentityError> {
        let keys = Arc::new(Self::open(settings, Clock::system())?);
        let (stop, stopped) = mpsc::channel();
        *keys.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop);
        let weak = Arc::downgrade(&keys);
        let follow = move || follow(&weak, &stopped);
        std::thread::Builder::new().name("program-keys".to_owned()).spawn(follow).map_err(IdentityError::Thread)?;
        Ok(keys)
    }

    /// The key that signs.
    #[must_use]
    pub fn current(&self) -> Arc<ProgramKey> {
        Arc::clone(&self.pair.load().current)
    }

    /// What pages pin: the key that signs, and the next.
    #[must_use]
    pub fn pins(&self) -> [String; 2] {
        let pair = self.pair.load();
        [pair.current.pin(), pair.next.pin()]
    }

    /// Lets the next key sign, and makes another next. `at_once`: however short a time the next one was published.
    ///
    /// # Errors
    /// [`IdentityError::NextKeyYoung`] if pages may not know the next key yet; others if the folder cannot be written. The
    /// present key goes on then.
    pub fn rotate(&self, at_once: bool) -> Result<(), IdentityError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let [_, next] = newest_two(&self.folder)?;
        let age = self.clock.seconds().saturating_sub(next.created);
        if !at_once && age < self.publish_ahead {
            return Err(IdentityError::NextKeyYoung { left: self.publish_ahead - age });
        }
        if !add(&self.folder, next.number + 1, &self.clock)? {
            return Err(IdentityError::Key("another process rotated at the same moment".to_owned()));
        }
        self.drop_older_than(next.number)?;
        self.pair.store(Arc::new(read(&self.folder)?));
        tracing::info!(signer = self.current().signer(), "next program key signs");
        Ok(())
    }

    /// Keys that sign no more are of no use to anybody: pages keep the public halves that they pinned.
    fn drop_older_than(&self, current: u64) -> Result<(), IdentityError> {
        let old = self.folder.records()?.into_iter().filter(|record| record.number < current);
        for record in old {
            self.folder.remove(&record)?;
        }
        Ok(())
    }

    /// Reads the folder again if it has changed.
    ///
    /// # Errors
    /// [`IdentityError`]; the keys read before go on.
    pub(super) fn reload(&self) -> Result<(), IdentityError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.folder.stamp()? == self.pair.load().stamp {
            return Ok(());
        }
        let pair = read(&self.folder)?;
        tracing::info!(signer = pair.current.signer(), "program keys read again");
        self.pair.store(Arc::new(pair));
        Ok(())
    }
}

/// Where the keys are.
fn folder_of(settings: &Settings) -> PathBuf {
    settings.challenge.signing_keys_dir.clone().unwrap_or_else(|| settings.server.data_dir.join("program-keys"))
}

/// Looks at the folder now and then, until the keys are dropped. A failure is told once, and tried again.
fn follow(keys: &Weak<ProgramKeys>, stopped: &mpsc::Receiver<()>) {
    let mut failed = false;
    while stopped.recv_timeout(WATCH_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let Some(keys) = keys.upgrade() else { return };
        let outcome = keys.reload();
        let had_failed = std::mem::replace(&mut failed, outcome.is_err());
        if let Err(error) = outcome
            && !had_failed
        {
            tracing::warn!(%error, "program keys not read, the old ones go on");
        }
    }
}

/// Makes what is missing of the first two keys.
fn complete(folder: &KeyFolder<ProgramKeyRecord>, clock: &Clock) -> Result<(), IdentityError> {
    loop {
        let records = folder.records()?;
        if records.len() >= 2 {
            return Ok(());
        }
        let newest = records.iter().map(|record| record.number).max().unwrap_or(0);
        // Whether this process made it or another one: it is there.
        add(folder, newest + 1, clock)?;
    }
}

/// Makes the key of a number, unless there is one; tells whether it did.
fn add(folder: &KeyFolder<ProgramKeyRecord>, number: u64, clock: &Clock) -> Result<bool, IdentityError> {
    let pem = generate(PoolAlgorithm::Es256)?;
    let record = ProgramKeyRecord { number, signer: parse(&pem)?.signer().to_owned(), created: clock.seconds() };
    folder.add_new(&record, &pem)
}

/// The records of the key that signs and of the next one.
fn newest_two(folder: &KeyFolder<ProgramKeyRecord>) -> Result<[ProgramKeyRecord; 2], IdentityError> {
    let mut records = folder.records()?;
    records.sort_by_key(|record| record.number);
    let (next, current) = (records.pop(), records.pop());
    current.zip(next).map(|(current, next)| [current, next]).ok_or(IdentityError::NoProgramKeys)
}

fn read(folder: &KeyFolder<ProgramKeyRecord>) -> Result<Pair, IdentityError> {
    // The stamp comes first: a change during the reading is then seen as one later.
    let stamp = folder.stamp()?;
    let [current, next] = newest_two(folder)?;
    let key = |record: ProgramKeyRecord| {
        let key = parse(&folder.key(&record.signer)?)?;
        if key.signer() != record.signer {
            return Err(IdentityError::Key(format!("key file {} holds another key", record.signer)));
        }
        Ok(Arc::new(key))
    };
    Ok(Pair { current: key(current)?, next: key(next)?, stamp })
}

fn parse(pem: &Zeroizing<String>) -> Result<ProgramKey, IdentityError> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| IdentityError::Key(error.to_string()))?;
    let der = Zeroizing::new(der.secret_pkcs8_der().to_vec());
    ProgramKey::from_pkcs8(&der).ok_or_else(|| IdentityError::Key("not a private key on P-256".to_owned()))
}
