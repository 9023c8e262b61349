use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use aws_lc_rs::error::Unspecified;
use serde::Serialize;
use url::Url;

use super::binding::sha256;
use super::page::PageOrigin;
use crate::config::ChallengeSettings;

/// How often the folder is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// Files that are asked about.
const FILES_MAX: usize = 4_096;
/// Their bytes together; they are kept in memory, so that no challenge waits for a disk.
const BYTES_MAX: usize = 64 << 20;
/// Bytes of a part that is asked for.
const PART_MAX: usize = 4_096;

/// The files that pages ship, of which a challenge asks for the digest of a part.
///
/// Read when the node starts, and again when the folder changes; what cannot be read leaves the old files in their place.
pub struct Files {
    dir: PathBuf,
    prefix: String,
    origins: Vec<String>,
    current: ArcSwap<Shelf>,
    seen: Mutex<Vec<Stamp>>,
    /// Dropped with the value, which ends the watching thread.
    _watch: mpsc::Sender<()>,
}

/// A part of a file that a page must have read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileQuestion {
    /// Path of its URL on the page's origin, percent-encoded.
    pub path: Arc<str>,
    /// Where the part begins.
    pub offset: u64,
    /// Its bytes, at least one.
    pub length: u32,
    /// SHA-256 of the part: the program's sixth tape. It never goes on the wire.
    #[serde(skip)]
    pub digest: [u8; 32],
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The folder or a file in it cannot be read.
    #[error("challenge.files_dir: {path}: {error}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Names must be UTF-8: they stand in URLs.
    #[error("challenge.files_dir: {0}: the name is not UTF-8")]
    Name(PathBuf),
    /// Nothing to ask about.
    #[error("challenge.files_dir: {0}: no file in it has a byte")]
    Empty(PathBuf),
    /// Too much to keep.
    #[error("challenge.files_dir: {0}: more than {FILES_MAX} files or {BYTES_MAX} bytes; name a smaller folder")]
    TooMuch(PathBuf),
}

/// What is asked about, in the order of the paths.
struct Shelf {
    files: Vec<File>,
    bytes: u64,
}

struct File {
    path: Arc<str>,
    /// Bytes of the files before it.
    before: u64,
    content: Box<[u8]>,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Stamp {
    /// Below the folder, with `/` between the names.
    name: String,
    modified: Option<SystemTime>,
    len: u64,
}

impl Files {
    /// Reads the folder of the settings and follows its changes for as long as the value lives; nothing if none is set.
    ///
    /// # Errors
    /// [`FilesError`], the operator's fault.
    pub fn load(settings: &ChallengeSettings) -> Result<Option<Arc<Self>>, FilesError> {
        let Some(dir) = settings.files_dir.clone() else { return Ok(None) };
        // The stamps come first: a change during the reading is then seen as one later.
        let seen = stamps(&dir)?;
        let shelf = Shelf::read(&dir, &settings.files_url_prefix, &seen)?;
        let (watch, watched) = mpsc::channel();
        let files = Arc::new(Self {
            dir,
            prefix: settings.files_url_prefix.clone(),
            origins: settings.files_origins.clone(),
            current: ArcSwap::from_pointee(shelf),
            seen: Mutex::new(seen),
            _watch: watch,
        });
        let weak = Arc::downgrade(&files);
        let follow = move || follow(&weak, &watched);
        if let Err(error) = std::thread::Builder::new().name("files-watch".to_owned()).spawn(follow) {
            tracing::warn!(%error, "files of challenges are not followed: no thread");
        }
        Ok(Some(files))
    }

    /// A question for a page, if pages of its origin have the files. Every byte is asked for equally often, nearly.
    ///
    /// # Errors
    /// If there is no randomness.
    pub(super) fn ask(
        &self,
        page: &PageOrigin,
        fill: fn(&mut [u8]) -> Result<(), Unspecified>,
    ) -> Result<Option<FileQuestion>, Unspecified> {
        let PageOrigin::Listed { origin, .. } = page else { return Ok(None) };
        if !self.origins.is_empty() && !self.origins.contains(origin) {
            return Ok(None);
        }
        let mut drawn = [0; 8];
        fill(&mut drawn)?;
        Ok(self.current.load().question(u64::from_be_bytes(drawn)))
    }

    /// Reads the folder again if it changed; tells whether it did.
    fn refresh(&self) -> bool {
        let read = stamps(&self.dir).and_then(|now| {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == now {
                return Ok(None);
            }
            let shelf = Shelf::read(&self.dir, &self.prefix, &now);
            // A folder that cannot be used is told of once, not at every look.
            *seen = now;
            shelf.map(Some)
        });
        match read {
            Ok(None) => false,
            Ok(Some(shelf)) => {
                tracing::info!(files = shelf.files.len(), bytes = shelf.bytes, "files of challenges read again");
                self.current.store(Arc::new(shelf));
                true
            }
            Err(error) => {
                tracing::warn!(%error, "files of challenges changed and cannot be used; the old ones stay");
                false
            }
        }
    }
}

impl FileQuestion {
    /// As T holds it: path, a zero byte, offset, length.
    #[must_use]
    pub fn field(&self) -> Vec<u8> {
        [self.path.as_bytes(), &[0], &self.offset.to_be_bytes(), &self.length.to_be_bytes()].concat()
    }
}

impl Shelf {
    fn read(dir: &Path, prefix: &str, stamps: &[Stamp]) -> Result<Self, FilesError> {
        let mut shelf = Self { files: Vec::with_capacity(stamps.len()), bytes: 0 };
        // Before a byte is read: the folder may be the wrong one.
        if stamps.iter().map(|stamp| stamp.len).fold(0, u64::saturating_add) > BYTES_MAX as u64 {
            return Err(FilesError::TooMuch(dir.to_owned()));
        }
        for stamp in stamps {
            let path = dir.join(&stamp.name);
            let content = std::fs::read(&path).map_err(|error| FilesError::Read { path, error })?;
            let before = shelf.bytes;
            shelf.bytes += content.len() as u64;
            if shelf.bytes > BYTES_MAX as u64 {
                return Err(FilesError::TooMuch(dir.to_owned()));
            }
            if !content.is_empty() {
                shelf.files.push(File { path: url_path(prefix, &stamp.name).into(), before, content: content.into() });
            }
        }
        if shelf.files.is_empty() { Err(FilesError::Empty(dir.to_owned())) } else { Ok(shelf) }
    }

    /// The part around a byte that a random number chooses.
    fn question(&self, random: u64) -> Option<FileQuestion> {
        let at = random.checked_rem(self.bytes)?;
        let place = self.files.partition_point(|file| file.before <= at).checked_sub(1)?;
        let File { path, before, content } = self.files.get(place)?;
        let length = content.len().min(PART_MAX);
        let offset = usize::try_from(at - before).ok()?.min(content.len() - length);
        let part = content.get(offset..offset + length)?;
        let (offset, length) = (offset as u64, u32::try_from(length).ok()?);
        Some(FileQuestion { path: Arc::clone(path), offset, length, digest: sha256(part) })
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Looks at the folder now and then, until its value is dropped.
fn follow(files: &Weak<Files>, watched: &mpsc::Receiver<()>) {
    while watched.recv_timeout(WATCH_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
        let Some(files) = files.upgrade() else { return };
        files.refresh();
    }
}

/// The path of a file's URL.
fn url_path(prefix: &str, name: &str) -> String {
    // Any base will do; its host is not looked at.
    let Ok(mut url) = Url::parse("http://h") else { return String::new() };
    url.set_path(prefix);
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(name.split('/'));
    }
    url.path().to_owned()
}

/// The regular files below a folder, sorted. Links and names that begin with a dot are left out.
fn stamps(dir: &Path) -> Result<Vec<Stamp>, FilesError> {
    let mut stamps = Vec::new();
    let mut folders = vec![(dir.to_owned(), String::new())];
    let mut looked_at = 0;
    while let Some((folder, below)) = folders.pop() {
        let unreadable = |error| FilesError::Read { path: folder.clone(), error };
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            looked_at += 1;
            if looked_at > FILES_MAX {
                return Err(FilesError::TooMuch(dir.to_owned()));
            }
            let name = entry.file_name().into_string().map_err(|_| FilesError::Name(entry.path()))?;
            if name.starts_with('.') {
                continue;
            }
            let name = format!("{below}{name}");
            let metadata = entry.metadata().map_err(|error| FilesError::Read { path: entry.path(), error })?;
            if metadata.is_dir() {
                folders.push((entry.path(), format!("{name}/")));
            } else if metadata.is_file() {
                stamps.push(Stamp { name, modified: metadata.modified().ok(), len: metadata.len() });
            }
        }
    }
    stamps.sort();
    Ok(stamps)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn settings(dir: &Path) -> ChallengeSettings {
        ChallengeSettings {
            files_dir: Some(dir.to_owned()),
            files_url_prefix: "/static/".to_owned(),
            ..ChallengeSettings::default()
        }
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("js")).unwrap();
        std::fs::write(folder.path().join("js/app 1.js"), vec![7; 10_000]).unwrap();
        std::fs::write(folder.path().join("ü.css"), "body{}").unwrap();
        std::fs::write(folder.path().join("empty"), "").unwrap();
        std::fs::write(folder.path().join(".secret"), "not asked about").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("link")).unwrap();
        folder
    }

    #[test]
    fn questions_are_about_parts_of_the_files_that_are_shipped() {
        let folder = folder();
        let files = Files::load(&settings(folder.path())).unwrap().unwrap();
        let shelf = files.current.load();
        let mut paths = HashSet::new();
        for at in (0..10_006).chain([u64::MAX]) {
            let question = shelf.question(at).unwrap();
            let name = if &*question.path == "/static/%C3%BC.css" { "ü.css" } else { "js/app 1.js" };
            let content = std::fs::read(folder.path().join(name)).unwrap();
            let offset = question.offset as usize;
            assert_eq!(question.digest, sha256(&content[offset..offset + question.length as usize]));
            paths.insert(question.path.to_string());
        }
        let expected = ["/static/js/app%201.js", "/static/%C3%BC.css"].map(str::to_owned);
        assert_eq!(paths, HashSet::from(expected));
    }

    #[test]
    fn only_pages_that_have_the_files_are_asked() {
        let folder = folder();
        let origins = vec!["https://app.example".to_owned()];
        let files = Files::load(&ChallengeSettings { files_origins: origins, ..settings(folder.path()) }).unwrap().unwrap();
        let asked = |origin: Option<&str>| {
            files.ask(&PageOrigin::of_handshake(origin).unwrap(), aws_lc_rs::rand::fill).unwrap().is_some()
        };
        assert!(asked(Some("https://app.example")));
        assert!(!asked(Some("https://other.example")) && !asked(None) && !asked(Some("null")));
        assert!(files.ask(&PageOrigin::of_handshake(Some("https://app.example")).unwrap(), |_| Err(Unspecified)).is_err());
    }

    #[test]
    fn what_changes_is_read_again_and_what_cannot_be_used_changes_nothing() {
        let folder = folder();
        let files = Files::load(&settings(folder.path())).unwrap().unwrap();
        let asked = || files.current.load().question(0).unwrap();
        let before = asked();
        assert!(!files.refresh());
        std::fs::write(folder.path().join("js/app 1.js"), vec![8; 9_000]).unwrap();
        assert!(files.refresh() && asked() != before);
        let changed = asked();
        std::fs::remove_dir_all(folder.path()).unwrap();
        assert!(!files.refresh() && asked() == changed);
    }

    #[test]
    fn a_folder_without_anything_to_ask_about_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Files::load(&settings(folder.path())), Err(FilesError::Empty(_))));
        assert!(matches!(Files::load(&settings(&folder.path().join("none"))), Err(FilesError::Read { .. })));
        assert!(Files::load(&ChallengeSettings::default()).unwrap().is_none());
        std::fs::File::create(folder.path().join("huge")).unwrap().set_len(BYTES_MAX as u64 + 1).unwrap();
        assert!(matches!(Files::load(&settings(folder.path())), Err(FilesError::TooMuch(_))));
    }

    #[test]
    fn the_transcript_holds_path_offset_and_length() {
        let question = FileQuestion { path: "/a".into(), offset: 258, length: 3, digest: [0; 32] };
        assert_eq!(question.field(), [b"/a".as_slice(), &[0], &[0, 0, 0, 0, 0, 0, 1, 2], &[0, 0, 0, 3]].concat());
    }
}
