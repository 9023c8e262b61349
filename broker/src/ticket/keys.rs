use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Notify;
use zeroize::Zeroizing;

/// The keys of a cluster are asked for so often that one that is not known this long after the last answer is none of its.
const CURRENT_FOR: Duration = Duration::from_secs(30);

/// The name of a key, by which a ticket says what it was minted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kid([u8; 8]);

impl Kid {
    /// Wraps raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }

    /// Its text form: 11 characters, base64url.
    #[must_use]
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// No key can be made: the system's generator failed.
#[derive(Debug, thiserror::Error)]
#[error("no randomness for a ticket key: {0}")]
pub struct NewKeyError(#[from] getrandom::Error);

/// A key under which tickets and nonces are made. A secret of the cluster; `Debug` shows its name only.
pub struct TicketKey {
    kid: Kid,
    /// Kept beside the prepared key: it is given back to a Redis that lost it.
    secret: Zeroizing<[u8; Self::SECRET_BYTES]>,
    hmac: hmac::Key,
}

impl TicketKey {
    /// Bytes of its secret.
    pub const SECRET_BYTES: usize = 32;

    /// A key of known bytes.
    #[must_use]
    pub fn from_parts(kid: Kid, secret: &[u8; Self::SECRET_BYTES]) -> Self {
        Self { kid, secret: Zeroizing::new(*secret), hmac: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// A new one.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn random() -> Result<Self, NewKeyError> {
        let (mut kid, mut secret) = ([0; 8], Zeroizing::new([0; Self::SECRET_BYTES]));
        getrandom::fill(&mut kid)?;
        getrandom::fill(secret.as_mut_slice())?;
        Ok(Self::from_parts(Kid(kid), &secret))
    }

    /// Its name.
    #[must_use]
    pub const fn kid(&self) -> Kid {
        self.kid
    }

    /// For the store of the cluster's keys, and for nobody else.
    pub(super) fn secret(&self) -> &[u8; Self::SECRET_BYTES] {
        &self.secret
    }

    /// HMAC-SHA256 of a message.
    #[must_use]
    pub(super) fn tag(&self, message: &[u8]) -> [u8; 32] {
        let mut tag = [0; 32];
        tag.copy_from_slice(hmac::sign(&self.hmac, message).as_ref());
        tag
    }

    /// Is this the tag of the message? In constant time.
    #[must_use]
    pub(super) fn is_tag_of(&self, message: &[u8], tag: &[u8; 32]) -> bool {
        hmac::verify(&self.hmac, message, tag).is_ok()
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKey({})", self.kid.encode())
    }
}

/// A key, and the moment from which tickets are minted with it.
#[derive(Debug, Clone)]
pub(super) struct Scheduled {
    pub(super) key: Arc<TicketKey>,
    /// Milliseconds since the Unix epoch, by the clock of the store.
    pub(super) from_ms: u64,
}

/// The keys that count at one moment: all are accepted, one mints.
///
/// Of a cluster these are the one that mints, the one before it while its tickets may live, and the one after it, which is
/// known everywhere long before anybody mints with it.
#[derive(Debug, Default)]
pub struct KeyRing {
    keys: Vec<Scheduled>,
    minting: Option<usize>,
}

impl KeyRing {
    /// One key, which mints.
    #[must_use]
    pub fn single(key: TicketKey) -> Self {
        Self { keys: vec![Scheduled { key: Arc::new(key), from_ms: 0 }], minting: Some(0) }
    }

    /// Keys as the store has them, at a moment of its clock. The latest that is due mints; a clock that went back far leaves
    /// none due, and then the first does.
    pub(super) fn scheduled(keys: Vec<Scheduled>, now_ms: u64) -> Self {
        let places = || keys.iter().enumerate();
        let due = places().filter(|(_, key)| key.from_ms <= now_ms).max_by_key(|(_, key)| (key.from_ms, key.key.kid()));
        let minting = due.or_else(|| places().min_by_key(|(_, key)| (key.from_ms, key.key.kid()))).map(|(place, _)| place);
        Self { keys, minting }
    }

    /// The key of a name.
    #[must_use]
    pub fn find(&self, kid: Kid) -> Option<&TicketKey> {
        self.keys.iter().find(|scheduled| scheduled.key.kid() == kid).map(|scheduled| &*scheduled.key)
    }

    /// The key to mint with; none before the cluster's keys are known.
    #[must_use]
    pub fn minting(&self) -> Option<&TicketKey> {
        self.minting.and_then(|place| self.keys.get(place)).map(|scheduled| &*scheduled.key)
    }

    pub(super) fn keys(&self) -> &[Scheduled] {
        &self.keys
    }
}

/// The keys as a node knows them now; shared by all its threads.
pub struct TicketKeys {
    ring: ArcSwap<KeyRing>,
    /// When the store last told them; none for keys that are this process's own.
    told: ArcSwap<Option<Instant>>,
    own: bool,
    /// Rings when a ticket named a key that is not known.
    pub(super) missed: Notify,
}

impl TicketKeys {
    /// A key of this process alone, for as long as it lives: a node by itself needs no other, since its sockets end with it.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn random() -> Result<Arc<Self>, NewKeyError> {
        Ok(Self::start(KeyRing::single(TicketKey::random()?), true))
    }

    /// Keys of known bytes.
    #[must_use]
    pub fn fixed(ring: KeyRing) -> Arc<Self> {
        Self::start(ring, true)
    }

    /// None yet: the store will tell them.
    pub(super) fn untold() -> Arc<Self> {
        Self::start(KeyRing::default(), false)
    }

    fn start(ring: KeyRing, own: bool) -> Arc<Self> {
        Arc::new(Self { ring: ArcSwap::from_pointee(ring), told: ArcSwap::default(), own, missed: Notify::new() })
    }

    /// What counts now.
    #[must_use]
    pub fn ring(&self) -> arc_swap::Guard<Arc<KeyRing>> {
        self.ring.load()
    }

    /// Is a key that is not known surely none of the cluster's? Else nobody can tell. A node that has not heard from the
    /// store lately may have missed one.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.own || self.told.load().is_some_and(|told| told.elapsed() <= CURRENT_FOR)
    }

    /// A ticket named a key that is not known: look for it soon.
    pub fn miss(&self) {
        self.missed.notify_one();
    }

    /// Takes over what the store told, or what its clock must say by now.
    pub(super) fn set(&self, ring: KeyRing, told: Option<Instant>) {
        self.ring.store(Arc::new(ring));
        if told.is_some() {
            self.told.store(Arc::new(told));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduled(keys: &[(u8, u64)]) -> Vec<Scheduled> {
        let key = |byte| Arc::new(TicketKey::from_parts(Kid([byte; 8]), &[byte; 32]));
        keys.iter().map(|(byte, from_ms)| Scheduled { key: key(*byte), from_ms: *from_ms }).collect()
    }

    #[test]
    fn the_latest_key_that_is_due_mints_and_all_are_accepted() {
        for (now, minting) in [(0, 1), (10, 1), (19, 1), (20, 2), (29, 2), (30, 3), (u64::MAX, 3)] {
            let ring = KeyRing::scheduled(scheduled(&[(2, 20), (1, 10), (3, 30)]), now);
            assert_eq!(ring.minting().unwrap().kid(), Kid([minting; 8]), "at {now}");
            for kid in 1..=3 {
                assert!(ring.find(Kid([kid; 8])).is_some());
            }
            assert!(ring.find(Kid([4; 8])).is_none());
        }
        assert!(KeyRing::default().minting().is_none());
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", KeyRing::scheduled(scheduled(&[(7, 1)]), 1));
        assert!(shown.contains(&Kid([7; 8]).encode()) && !shown.contains("7, 7"), "{shown}");
    }

    #[test]
    fn an_unknown_key_is_in_doubt_while_the_store_is_silent() {
        let keys = TicketKeys::untold();
        assert!(!keys.is_current() && keys.ring().minting().is_none());
        keys.set(KeyRing::scheduled(scheduled(&[(1, 1)]), 1), Some(Instant::now()));
        assert!(keys.is_current());
        assert!(TicketKeys::random().unwrap().is_current());
    }
}
