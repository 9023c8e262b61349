use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::IdentityError;
use super::keys::KeyRecord;
use super::random::{base64url, random_bytes};
use crate::config::PoolAlgorithm;

/// Which key was the first of the folder.
const FIRST_CLAIM: &str = "first.claim";

/// What is known of a key beside the key itself; it is stored as JSON next to it.
pub(super) trait Record: Serialize + DeserializeOwned {
    /// The key's name, which is its file's.
    fn kid(&self) -> &str;

    /// The name of the record's own file.
    fn name(&self) -> String;
}

impl Record for KeyRecord {
    fn kid(&self) -> &str {
        &self.kid
    }

    fn name(&self) -> String {
        self.kid.clone()
    }
}

/// A folder of signing keys: for each key a PKCS#8 file in PEM form and a record in JSON beside it.
///
/// A key is there when its record is, and each file appears whole: written under another name, then renamed.
#[derive(Debug)]
pub(super) struct KeyFolder<R>(PathBuf, PhantomData<fn() -> R>);

impl<R: Record> KeyFolder<R> {
    /// Opens the folder, or makes it, accessible for its owner only.
    pub(super) fn open(path: PathBuf) -> Result<Self, IdentityError> {
        create_private_folder(&path)?;
        Ok(Self(path, PhantomData))
    }

    /// The records of all keys, in no order.
    pub(super) fn records(&self) -> Result<Vec<R>, IdentityError> {
        let mut records = Vec::new();
        for path in self.record_paths()? {
            match read_record(&path) {
                Ok(record) => records.push(record),
                // Another process dropped it between the listing and now.
                Err(IdentityError::Io(_, error)) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }

    /// The key of this name in PEM form.
    pub(super) fn key(&self, kid: &str) -> Result<Zeroizing<String>, IdentityError> {
        let path = self.path(kid, "pem");
        std::fs::read_to_string(&path).map(Zeroizing::new).map_err(|error| IdentityError::Io(path, error))
    }

    /// Stores a new key, its record last.
    pub(super) fn add(&self, record: &R, pem: &str) -> Result<(), IdentityError> {
        self.write(&self.path(record.kid(), "pem"), pem.as_bytes())?;
        self.update(record)
    }

    /// Stores a new key, its record last, unless there is a record of this name; tells whether it did. Of many processes at
    /// once, one does.
    pub(super) fn add_new(&self, record: &R, pem: &str) -> Result<bool, IdentityError> {
        let own = self.path(record.kid(), "pem");
        self.write(&own, pem.as_bytes())?;
        let added = self.link_new(&self.path(&record.name(), "json"), &json_of(record)?)?;
        if !added {
            remove(&own)?;
        }
        Ok(added)
    }

    /// Stores a record anew.
    pub(super) fn update(&self, record: &R) -> Result<(), IdentityError> {
        self.write(&self.path(&record.name(), "json"), &json_of(record)?)
    }

    /// Removes a key, its record first. Done already by another process is done.
    pub(super) fn remove(&self, record: &R) -> Result<(), IdentityError> {
        remove(&self.path(&record.name(), "json"))?;
        remove(&self.path(record.kid(), "pem"))
    }

    /// A number that changes when a record does: over names, lengths and times of change.
    pub(super) fn stamp(&self) -> Result<u64, IdentityError> {
        let mut paths = self.record_paths()?;
        paths.sort();
        let mut hasher = DefaultHasher::new();
        for path in paths {
            let metadata = std::fs::metadata(&path).ok();
            let facts = metadata.map(|metadata| (metadata.len(), metadata.modified().ok()));
            (path, facts).hash(&mut hasher);
        }
        Ok(hasher.finish())
    }

    fn record_paths(&self) -> Result<Vec<PathBuf>, IdentityError> {
        let fault = |error| IdentityError::Io(self.0.clone(), error);
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&self.0).map_err(fault)? {
            let path = entry.map_err(fault)?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                paths.push(path);
            }
        }
        Ok(paths)
    }

    fn path(&self, kid: &str, extension: &str) -> PathBuf {
        self.0.join(format!("{kid}.{extension}"))
    }

    /// Writes a file whole, over the one that may be there.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
        let temporary = self.temporary()?;
        let written = write_private(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
        written.map_err(|error| {
            // The half-written file is of no use; that it stays would be untidy, not wrong.
            let _ = std::fs::remove_file(&temporary);
            IdentityError::Io(path.to_owned(), error)
        })
    }

    /// Writes a file whole, unless one is there; tells whether it did. Of many processes at once, one does.
    fn link_new(&self, path: &Path, bytes: &[u8]) -> Result<bool, IdentityError> {
        let temporary = self.temporary()?;
        let linked = write_private(&temporary, bytes).and_then(|()| std::fs::hard_link(&temporary, path));
        // As above: its other name is the one that counts.
        let _ = std::fs::remove_file(&temporary);
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(IdentityError::Io(path.to_owned(), error)),
        }
    }

    fn temporary(&self) -> Result<PathBuf, IdentityError> {
        let suffix = base64url(&random_bytes::<9>().map_err(|error| IdentityError::Key(error.to_string()))?);
        Ok(self.0.join(format!(".{suffix}.new")))
    }
}

impl KeyFolder<KeyRecord> {
    /// Stores the first key of an empty folder, unless another process does so at the same time; then that one's key is
    /// the first. Returns the record of the first key.
    ///
    /// The claim appears whole and once, by a hard link, and holds the record. Whoever finds it brings the key to its place
    /// itself: a process that ends in between leaves nobody waiting.
    pub(super) fn add_first(&self, record: KeyRecord, pem: &str) -> Result<KeyRecord, IdentityError> {
        let (claim, own) = (self.0.join(FIRST_CLAIM), self.path(&record.kid, "pem"));
        self.write(&own, pem.as_bytes())?;
        let first = match self.link_new(&claim, &json_of(&record)?)? {
            true => record,
            false => {
                let first: KeyRecord = read_record(&claim)?;
                // A claim from before everything else was removed from the folder claims nothing any more.
                if !self.path(&first.kid, "pem").exists() {
                    remove(&claim)?;
                    return self.add_first(record, pem);
                }
                remove(&own)?;
                first
            }
        };
        self.link_new(&self.path(&first.kid, "json"), &json_of(&first)?)?;
        Ok(first)
    }
}

/// Removed already by another process is removed.
fn remove(path: &Path) -> Result<(), IdentityError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(IdentityError::Io(path.to_owned(), error)),
        _ => Ok(()),
    }
}

fn json_of<R: Record>(record: &R) -> Result<Vec<u8>, IdentityError> {
    serde_json::to_vec_pretty(record).map_err(|error| IdentityError::Key(error.to_string()))
}

fn read_record<R: Record>(path: &Path) -> Result<R, IdentityError> {
    let text = std::fs::read(path).map_err(|error| IdentityError::Io(path.to_owned(), error))?;
    serde_json::from_slice(&text).map_err(|error| IdentityError::Key(format!("{}: {error}", path.display())))
}

/// Makes a private key: PKCS#8 in PEM form.
pub(super) fn generate(algorithm: PoolAlgorithm) -> Result<Zeroizing<String>, IdentityError> {
    let fault = |_| IdentityError::Key("key generation failed".to_owned());
    match algorithm {
        PoolAlgorithm::Rs256 => {
            let der = RsaKeyPair::generate(KeySize::Rsa2048).and_then(|pair| pair.as_der()).map_err(fault)?;
            Ok(pem(der.as_ref()))
        }
        PoolAlgorithm::Es256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(fault)?;
            Ok(pem(pair.to_pkcs8v1().map_err(fault)?.as_ref()))
        }
    }
}

/// RFC 7468, section 10.
fn pem(der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    let mut text = Zeroizing::new(String::with_capacity(body.len() + body.len() / 64 + 64));
    text.push_str("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    text
}

/// Makes a folder, and those above it, that only its owner may enter; leaves one that is there as it is.
pub(super) fn create_private_folder(path: &Path) -> Result<(), IdentityError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| IdentityError::Io(path.to_owned(), error))
}

/// Makes the data folder, unless it is there, and sees that files can be made in it.
///
/// # Errors
/// [`IdentityError::DataFolder`], the operator's to mend.
pub fn make_data_folder(path: &Path) -> Result<(), IdentityError> {
    let failed = |error| IdentityError::DataFolder(path.to_owned(), error);
    match create_private_folder(path) {
        Err(IdentityError::Io(_, error)) => return Err(failed(error)),
        made => made?,
    }
    let random = random_bytes::<8>().map_err(|error| failed(std::io::Error::other(error.to_string())))?;
    let probe = path.join(format!(".probe-{}", base64url(&random)));
    write_private(&probe, &[]).and_then(|()| std::fs::remove_file(&probe)).map_err(failed)
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
