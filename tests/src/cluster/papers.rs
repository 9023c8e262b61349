//! Certificates for servers that nodes, and servers among themselves, reach by TLS only.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

use crate::port;

/// An authority, and one certificate of it for all servers and nodes on loopback.
#[derive(Debug)]
pub struct Papers {
    folder: TempDir,
}

impl Papers {
    /// New ones.
    ///
    /// # Panics
    /// If they cannot be made or written.
    #[must_use]
    pub fn issue() -> Self {
        let papers =
            Self { folder: tempfile::Builder::new().prefix("countersign-papers-").tempdir().expect("a temporary folder") };
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        authority.distinguished_name.push(DnType::CommonName, "the authority of the tests");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("an authority");
        let mut bearer = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        // Whoever is named like its authority is taken for self-signed.
        bearer.distinguished_name.push(DnType::CommonName, "a server of the tests");
        // Servers reach each other as clients.
        bearer.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = bearer.signed_by(&key, &authority).expect("a certificate");
        for (name, text) in
            [("ca.crt", authority.pem()), ("bearer.crt", certificate.pem()), ("bearer.key", key.serialize_pem())]
        {
            std::fs::write(papers.folder.path().join(name), text).expect("the papers are written");
        }
        papers
    }

    /// The options of a server, as on its command line, with a port of its own for TLS; it speaks TLS with others of its kind.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        let port = port::free().to_string();
        [
            ("--tls-port", port),
            ("--tls-ca-cert-file", self.file("ca.crt")),
            ("--tls-cert-file", self.file("bearer.crt")),
            ("--tls-key-file", self.file("bearer.key")),
            ("--tls-replication", "yes".to_owned()),
            ("--tls-cluster", "yes".to_owned()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
    }

    /// What nodes are told in `[cluster]`.
    #[must_use]
    pub fn settings(&self) -> String {
        let files = [("ca_file", "ca.crt"), ("cert_file", "bearer.crt"), ("key_file", "bearer.key")];
        files.map(|(name, file)| format!("{name} = \"{}\"", self.file(file))).join("\n")
    }

    fn file(&self, name: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        path.display().to_string()
    }
}
