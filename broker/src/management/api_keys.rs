use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::ManagementSettings;

/// Name of the key that a node makes for itself, in its data folder.
const OWN_KEY_FILE: &str = "api-key";

/// Why the keys cannot be had. All are faults of the installation, shown at start-up.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeyError {
    /// The file cannot be read or made.
    #[error("api key file {path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no key.
    #[error("api key file {path} holds no key: write one on each line", path = path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// The system's generator failed.
    #[error("no randomness for an api key: {0}")]
    Random(getrandom::Error),
}

/// The accepted API keys, as digests: what is compared says nothing of a key's length or beginning.
pub struct ApiKeys {
    digests: Vec<[u8; 32]>,
}

impl ApiKeys {
    /// Reads the configured file, or the node's own, which is made at the first start.
    ///
    /// # Errors
    /// [`ApiKeyError`]; the node must not start without keys that it was told to have.
    pub fn load(settings: &ManagementSettings, data_dir: &Path) -> Result<Self, ApiKeyError> {
        let path = Self::path(settings, data_dir);
        if settings.api_keys_file.is_none() {
            make_once(&path)?;
        }
        Self::read(&path)
    }

    /// Where the keys are: the configured file, or the node's own.
    #[must_use]
    pub fn path(settings: &ManagementSettings, data_dir: &Path) -> PathBuf {
        settings.api_keys_file.clone().unwrap_or_else(|| data_dir.join(OWN_KEY_FILE))
    }

    /// Keys from text, one on each line; blank lines and lines that begin with `#` do not count.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self { digests: lines.map(|key| sha256(key.as_bytes())).collect() }
    }

    /// Is this one of the keys? Takes the same time whichever it is, and however much of it is right.
    #[must_use]
    pub fn accept(&self, key: &[u8]) -> bool {
        let presented = sha256(key);
        self.digests.iter().fold(false, |found, digest| found | verify_slices_are_equal(digest, &presented).is_ok())
    }

    fn read(path: &Path) -> Result<Self, ApiKeyError> {
        let text = fs::read_to_string(path).map_err(|source| ApiKeyError::File { path: path.to_owned(), source })?;
        let keys = Self::parse(&text);
        if keys.digests.is_empty() { Err(ApiKeyError::Empty { path: path.to_owned() }) } else { Ok(keys) }
    }
}

/// Makes a key that only its owner may read, unless there is one. The file appears whole or not at all, so that a second
/// process never reads half a key.
fn make_once(path: &Path) -> Result<(), ApiKeyError> {
    let failed = |source| ApiKeyError::File { path: path.to_owned(), source };
    if path.try_exists().map_err(failed)? {
        return Ok(());
    }
    let mut random = [0_u8; 38];
    getrandom::fill(&mut random).map_err(ApiKeyError::Random)?;
    let (key, suffix) = random.split_at(32);
    let draft = path.with_extension(URL_SAFE_NO_PAD.encode(suffix));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        writeln!(file, "{}", URL_SAFE_NO_PAD.encode(key))?;
        file.sync_all()?;
        fs::hard_link(&draft, path)
    };
    let written = write();
    // A draft that stays behind is harmless: nobody reads it.
    let _ = fs::remove_file(&draft);
    match written {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
        _ => Ok(()),
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_nodes_own_key_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let settings = ManagementSettings::default();
        ApiKeys::load(&settings, folder.path()).unwrap();
        let path = folder.path().join(OWN_KEY_FILE);
        let key = fs::read_to_string(&path).unwrap();
        assert_eq!(key.trim().len(), 43);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = ApiKeys::load(&settings, folder.path()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), key);
        assert!(again.accept(key.trim().as_bytes()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft stays behind");
    }

    #[test]
    fn only_whole_keys_are_accepted() {
        let keys = ApiKeys::parse("# first\n alpha \n\nbeta\n");
        assert!(keys.accept(b"alpha") && keys.accept(b"beta"));
        for wrong in ["", "alph", "alphaa", "# first", "alpha\nbeta"] {
            assert!(!keys.accept(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn a_configured_file_must_exist_and_hold_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let settings = ManagementSettings { api_keys_file: Some(path.clone()), on_public_listener: false };
        assert!(matches!(ApiKeys::load(&settings, folder.path()), Err(ApiKeyError::File { .. })));
        fs::write(&path, "# nothing\n").unwrap();
        assert!(matches!(ApiKeys::load(&settings, folder.path()), Err(ApiKeyError::Empty { .. })));
        fs::write(&path, "one\n").unwrap();
        assert!(ApiKeys::load(&settings, folder.path()).unwrap().accept(b"one"));
    }
}
