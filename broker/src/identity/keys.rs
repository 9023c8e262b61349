use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::IdentityError;
use super::clock::Clock;
use super::key_files::KeyFolder;
use super::key_table::{KeyTable, VerifyingKey};
use super::verifier::Epoch;
use crate::config::{PoolAlgorithm, PoolSettings};

/// What is known of a signing key beside the key itself; it is stored as JSON next to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// Its name: the thumbprint of RFC 7638, so that a key and its name cannot be mixed up.
    pub kid: String,
    /// What it signs with.
    pub algorithm: PoolAlgorithm,
    /// Seconds since the Unix epoch.
    pub created: u64,
    /// It signs from then on (seconds since the Unix epoch). Published earlier, so that others' caches have it in time.
    pub active_from: u64,
    /// It is dropped then, when the last token that it signed has expired. None while it has no successor.
    pub retire_at: Option<u64>,
}

impl KeyRecord {
    fn is_over(&self, now: u64) -> bool {
        self.retire_at.is_some_and(|time| time <= now)
    }
}

/// A key that can sign.
#[derive(Debug)]
struct SigningKey {
    record: KeyRecord,
    encoding: EncodingKey,
    /// Its public half as the key set shows it.
    public: Value,
}

#[derive(Debug, Default)]
struct Ring {
    /// By `active_from`, oldest first.
    keys: Vec<SigningKey>,
    verifying: KeyTable,
    stamp: u64,
}

/// The pool's signing keys: files in a folder, which another process may change at any time; nodes of a cluster share it.
///
/// The newest key that is active signs; every key in the folder verifies.
#[derive(Debug)]
pub struct SigningKeys {
    folder: KeyFolder<KeyRecord>,
    algorithm: PoolAlgorithm,
    publish_ahead: u64,
    retention: u64,
    clock: Clock,
    epoch: Arc<Epoch>,
    ring: ArcSwap<Ring>,
    /// One reload, rotation or pruning at a time within this process; between processes each file is written whole.
    writing: Mutex<()>,
}

impl SigningKeys {
    /// Opens the folder, makes it if it is missing, and makes a first key if there is none.
    ///
    /// `retention` in seconds: how long a replaced key is kept after its successor signs.
    ///
    /// # Errors
    /// [`IdentityError`] if the folder cannot be used.
    pub(super) fn open(
        folder: PathBuf,
        settings: &PoolSettings,
        retention: u64,
        clock: Clock,
        epoch: Arc<Epoch>,
    ) -> Result<Self, IdentityError> {
        let keys = Self {
            folder: KeyFolder::open(folder)?,
            algorithm: settings.algorithm,
            publish_ahead: settings.key_publish_ahead_seconds.0,
            retention,
            clock,
            epoch,
            ring: ArcSwap::default(),
            writing: Mutex::new(()),
        };
        keys.reload()?;
        if keys.ring.load().keys.is_empty() {
            keys.make_first()?;
        }
        Ok(keys)
    }

    /// Makes the first key; of nodes that share an empty folder and start at once, all take the same one.
    fn make_first(&self) -> Result<(), IdentityError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (pem, kid) = self.make(self.algorithm)?;
        let now = self.clock.seconds();
        let record = KeyRecord { kid, algorithm: self.algorithm, created: now, active_from: now, retire_at: None };
        let first = self.folder.add_first(record, &pem)?;
        tracing::info!(kid = first.kid, "first signing key");
        self.load(self.folder.stamp()?)
    }

    /// A new key in PEM form, and its name.
    fn make(&self, algorithm: PoolAlgorithm) -> Result<(Zeroizing<String>, String), IdentityError> {
        let pem = super::key_files::generate(algorithm)?;
        let kid = parse(algorithm, &pem)?.1;
        Ok((pem, kid))
    }

    /// Makes a new key. It signs after the publication time, or at once if it is the first; the others are kept until
    /// their last token has expired.
    ///
    /// # Errors
    /// [`IdentityError`] if the key cannot be made or stored; the old ones go on then.
    pub fn rotate(&self, algorithm: Option<PoolAlgorithm>) -> Result<KeyRecord, IdentityError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let others = self.folder.records()?;
        let now = self.clock.seconds();
        let algorithm = algorithm.unwrap_or(self.algorithm);
        let (pem, kid) = self.make(algorithm)?;
        let active_from = if others.is_empty() { now } else { now.saturating_add(self.publish_ahead) };
        let record = KeyRecord { kid, algorithm, created: now, active_from, retire_at: None };
        self.folder.add(&record, &pem)?;
        for mut other in others.into_iter().filter(|other| other.retire_at.is_none()) {
            other.retire_at = Some(active_from.max(other.active_from).saturating_add(self.retention));
            self.folder.update(&other)?;
        }
        self.load(self.folder.stamp()?)?;
        tracing::info!(kid = record.kid, active_from, "signing key made");
        Ok(record)
    }

    /// Every key in the folder, oldest first.
    #[must_use]
    pub fn records(&self) -> Vec<KeyRecord> {
        self.ring.load().keys.iter().map(|key| key.record.clone()).collect()
    }

    /// The name of the key that signs now.
    #[must_use]
    pub fn signing_kid(&self) -> Option<String> {
        let now = self.clock.seconds();
        self.ring.load().signer(now).map(|key| key.record.kid.clone())
    }

    /// The public keys (RFC 7517, section 5).
    #[must_use]
    pub fn jwks(&self) -> Value {
        json!({ "keys": self.ring.load().keys.iter().map(|key| &key.public).collect::<Vec<_>>() })
    }

    /// The key of one of the pool's tokens.
    pub(super) fn verifying(&self, kid: Option<&str>) -> Option<Arc<VerifyingKey>> {
        self.ring.load().verifying.find(kid)
    }

    /// Signs claims into a compact token.
    ///
    /// # Errors
    /// [`IdentityError`] if there is no key any more, which takes somebody who empties the folder.
    pub(super) fn sign(&self, claims: &serde_json::Map<String, Value>) -> Result<String, IdentityError> {
        let ring = self.ring.load();
        let key = ring.signer(self.clock.seconds()).ok_or(IdentityError::NoSigningKey)?;
        let mut header = Header::new(jwt_algorithm(key.record.algorithm));
        header.kid = Some(key.record.kid.clone());
        jsonwebtoken::encode(&header, claims, &key.encoding).map_err(|error| IdentityError::Key(error.to_string()))
    }

    /// Reads the folder again if it has changed, and drops keys whose time is over.
    ///
    /// # Errors
    /// [`IdentityError`]; the keys read before go on.
    pub(super) fn reload(&self) -> Result<(), IdentityError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.seconds();
        let ring = self.ring.load();
        let over: Vec<_> = ring.keys.iter().filter(|key| key.record.is_over(now)).collect();
        for key in &over {
            match self.folder.remove(&key.record) {
                Ok(()) => tracing::info!(kid = key.record.kid, "signing key dropped"),
                // A mounted folder may be read-only. Its new keys must be taken all the same.
                Err(error) => tracing::warn!(kid = key.record.kid, %error, "signing key is over and stays in the folder"),
            }
        }
        let stamp = self.folder.stamp()?;
        if stamp != ring.stamp || !over.is_empty() { self.load(stamp) } else { Ok(()) }
    }

    fn load(&self, stamp: u64) -> Result<(), IdentityError> {
        let mut keys = Vec::new();
        let mut verifying = Vec::new();
        let now = self.clock.seconds();
        for record in self.folder.records()?.into_iter().filter(|record| !record.is_over(now)) {
            let der = self.folder.key(&record.kid)?;
            let (encoding, kid, public) = parse(record.algorithm, &der)?;
            if kid != record.kid {
                return Err(IdentityError::Key(format!("key file {} holds another key", record.kid)));
            }
            let algorithm = jwt_algorithm(record.algorithm);
            let jwk: Jwk = serde_json::from_value(public.clone()).map_err(|error| IdentityError::Key(error.to_string()))?;
            let decoding = DecodingKey::from_jwk(&jwk).map_err(|error| IdentityError::Key(error.to_string()))?;
            verifying.extend(VerifyingKey::new(decoding, &[algorithm]).map(|key| (kid, key)));
            keys.push(SigningKey { record, encoding, public });
        }
        // Of two from the same second, the one without a successor is the newer.
        let age = |record: &KeyRecord| (record.active_from, record.retire_at.is_none(), record.kid.clone());
        keys.sort_by_cached_key(|key| age(&key.record));
        self.ring.store(Arc::new(Ring { keys, verifying: KeyTable::of(verifying), stamp }));
        self.epoch.advance();
        Ok(())
    }
}

impl Ring {
    /// The newest active key; before any is active, the one that will be first.
    fn signer(&self, now: u64) -> Option<&SigningKey> {
        self.keys.iter().rfind(|key| key.record.active_from <= now).or_else(|| self.keys.first())
    }
}

fn jwt_algorithm(algorithm: PoolAlgorithm) -> Algorithm {
    match algorithm {
        PoolAlgorithm::Rs256 => Algorithm::RS256,
        PoolAlgorithm::Es256 => Algorithm::ES256,
    }
}

/// Reads a private key in PEM form: the key, its thumbprint, its public half.
fn parse(algorithm: PoolAlgorithm, pem: &str) -> Result<(EncodingKey, String, Value), IdentityError> {
    let fault = |error: jsonwebtoken::errors::Error| IdentityError::Key(error.to_string());
    let (encoding, named) = match algorithm {
        PoolAlgorithm::Rs256 => (EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(fault)?, KeyAlgorithm::RS256),
        PoolAlgorithm::Es256 => (EncodingKey::from_ec_pem(pem.as_bytes()).map_err(fault)?, KeyAlgorithm::ES256),
    };
    let mut jwk = Jwk::from_encoding_key(&encoding, jwt_algorithm(algorithm)).map_err(fault)?;
    let kid = jwk.thumbprint(ThumbprintHash::SHA256).map_err(fault)?;
    jwk.common.public_key_use = Some(PublicKeyUse::Signature);
    jwk.common.key_algorithm = Some(named);
    jwk.common.key_id = Some(kid.clone());
    let public = serde_json::to_value(&jwk).map_err(|error| IdentityError::Key(error.to_string()))?;
    Ok((encoding, kid, public))
}
