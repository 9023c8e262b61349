use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::{Fault, Settings, TlsSettings};

/// From the accepted connection to the end of its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the files are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Why a certificate cannot be served: the operator's fault.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate's file cannot be read, or holds none.
    #[error("certificate file {}: {}", path.display(), in_words(source))]
    Certificate {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The key's file cannot be read, or holds none.
    #[error("key file {}: {}", path.display(), in_words(source))]
    Key {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// Key and certificate do not belong together, or are of a kind that is not served.
    #[error("certificate {} and key {} {problem}", files.cert_file.display(), files.key_file.display())]
    Unusable {
        /// Which.
        files: TlsSettings,
        /// Why not; a sentence's end.
        problem: String,
    },
}

impl TlsError {
    /// What the TLS library says of a pair of files, in an operator's words.
    fn unusable(files: &TlsSettings, error: &rustls::Error) -> Self {
        let problem = match error {
            rustls::Error::InconsistentKeys(_) => "do not belong together: the key is another certificate's".to_owned(),
            rustls::Error::InvalidCertificate(_) => "cannot be used: the certificate is not readable".to_owned(),
            rustls::Error::General(text) => format!("cannot be used: {text}"),
            other => format!("cannot be used: {other}"),
        };
        Self::Unusable { files: files.clone(), problem }
    }
}

/// What is wrong with a PEM file.
fn in_words(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "none in it in PEM form".to_owned(),
        pem::Error::Io(error) => error.to_string(),
        pem::Error::MissingSectionEnd { .. } => "a PEM section has no end".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a PEM section does not begin as one".to_owned(),
        pem::Error::Base64Decode(error) => format!("a PEM section is not base64: {error}"),
        other => other.to_string(),
    }
}

/// TLS of one listener: TLS 1.2 and 1.3, HTTP/1.1, a certificate that is read again when its files change.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    certificate: Arc<Certificate>,
}

impl Tls {
    /// Reads the files and starts to watch them, for as long as the value or a clone of it lives.
    ///
    /// # Errors
    /// [`TlsError`] if the files cannot be served now.
    pub fn load(files: &TlsSettings) -> Result<Self, TlsError> {
        let certificate = Certificate::load(files.clone())?;
        let provider = Arc::clone(&certificate.provider);
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&certificate) as _;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::unusable(files, &error))?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificate })
    }

    /// What a start would find wrong with the configured certificates: a [`crate::config::Check`].
    #[must_use]
    pub fn check(settings: &Settings) -> Vec<Fault> {
        let listeners = [("server.tls", &settings.server.tls), ("server.admin_tls", &settings.server.admin_tls)];
        let provider = aws_lc_rs::default_provider();
        let found = listeners.into_iter().filter_map(|(key, tls)| {
            let error = read(tls.as_ref()?, &provider).err()?;
            Some(Fault::new(key, error.to_string(), "name a certificate and the key that it was made for"))
        });
        found.collect()
    }

    /// Looks at the files now. Tells whether a new certificate is served from here on.
    pub fn refresh(&self) -> bool {
        self.certificate.refresh()
    }

    /// Does the handshake.
    pub(super) async fn accept(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let handshake = self.acceptor.accept(tcp);
        tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// A certificate with its key, replaced as a whole.
#[derive(Debug)]
struct Certificate {
    files: TlsSettings,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<CertifiedKey>,
    seen: Mutex<[Stamp; 2]>,
    /// Dropped with the value, which ends the watching thread.
    _watch: mpsc::Sender<()>,
}

impl Certificate {
    fn load(files: TlsSettings) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        // The stamp comes first: a change during the reading is then seen as one later.
        let seen = Mutex::new(stamps(&files));
        let current = ArcSwap::from_pointee(read(&files, &provider)?);
        let (watch, watched) = mpsc::channel();
        let certificate = Arc::new(Self { files, provider, current, seen, _watch: watch });
        let weak = Arc::downgrade(&certificate);
        if let Err(error) = std::thread::Builder::new().name("tls-watch".to_owned()).spawn(move || watch_files(&weak, &watched))
        {
            tracing::warn!(%error, "certificate files are not watched: no thread");
        }
        Ok(certificate)
    }

    /// Reads the files again if they changed. Files that cannot be served leave the old certificate in its place.
    fn refresh(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.files);
        if std::mem::replace(&mut *seen, now) == now {
            return false;
        }
        match read(&self.files, &self.provider) {
            Ok(certificate) => {
                self.current.store(Arc::new(certificate));
                tracing::info!(file = %self.files.cert_file.display(), "certificate reloaded");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "certificate files changed and cannot be served; the old one stays");
                false
            }
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// Looks at the files now and then, until the certificate is dropped.
fn watch_files(certificate: &Weak<Certificate>, watched: &mpsc::Receiver<()>) {
    while watched.recv_timeout(WATCH_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let Some(certificate) = certificate.upgrade() else { return };
        certificate.refresh();
    }
}

/// What tells one state of a file from another. The inode sees a replaced file even within the clock's resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

/// Both files' stamps; a missing file has an empty one.
fn stamps(files: &TlsSettings) -> [Stamp; 2] {
    let stamp = |path: &Path| {
        fs::metadata(path).map_or_else(
            |_| Stamp::default(),
            |meta| Stamp { modified: meta.modified().ok(), len: meta.len(), inode: inode(&meta) },
        )
    };
    [stamp(&files.cert_file), stamp(&files.key_file)]
}

#[cfg(unix)]
fn inode(meta: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}

/// Reads chain and key, and holds them against each other.
fn read(files: &TlsSettings, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let no_certificate = |source| TlsError::Certificate { path: files.cert_file.clone(), source };
    let no_key = |source| TlsError::Key { path: files.key_file.clone(), source };
    let sections = CertificateDer::pem_file_iter(&files.cert_file).map_err(no_certificate)?;
    let chain = sections.collect::<Result<Vec<_>, _>>().map_err(no_certificate)?;
    if chain.is_empty() {
        return Err(no_certificate(pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key_file).map_err(no_key)?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| TlsError::unusable(files, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_certificate_is_a_fault_that_names_setting_and_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        for name in ["a", "b"] {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            fs::write(file(&format!("{name}.crt")), made.cert.pem()).unwrap();
            fs::write(file(&format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
        }
        let check = |cert: &str, key: &str| {
            let mut settings = Settings::default();
            settings.server.admin_tls = Some(TlsSettings { cert_file: file(cert), key_file: file(key) });
            let faults = Tls::check(&settings);
            faults.into_iter().map(|fault| (fault.key.to_string(), fault.message)).collect::<Vec<_>>()
        };
        assert_eq!(check("a.crt", "a.key"), []);
        for (cert, key, said) in
            [("a.crt", "b.key", "do not belong together"), ("a.key", "a.key", "none in it"), ("a.crt", "a.crt", "none in it")]
        {
            let [(setting, message)] = &check(cert, key)[..] else { panic!("{cert} and {key}") };
            assert_eq!(setting, "server.admin_tls");
            assert!(message.contains(said) && message.contains(cert) && !message.contains("KeyMismatch"), "{message}");
        }
    }
}
