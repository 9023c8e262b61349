//! An issuer of the tests' own, trusted by a node through a shared secret.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

/// Value of `iss`.
pub const ISSUER: &str = "https://issuer.example";
/// Value of `aud`.
pub const AUDIENCE: &str = "the-app";
/// The shared secret: 36 bytes.
const SECRET: &[u8] = b"a secret that only tests will ever use";

/// An issuer with an HMAC secret in a file.
#[derive(Debug)]
pub struct Issuer {
    folder: tempfile::TempDir,
}

impl Issuer {
    /// An issuer whose secret lies in a folder of its own.
    ///
    /// # Panics
    /// If the folder cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("secret"), SECRET).expect("the secret is written");
        Self { folder }
    }

    /// The settings that make a node trust it, without any leeway.
    #[must_use]
    pub fn settings(&self) -> String {
        let path: PathBuf = self.folder.path().join("secret");
        format!(
            "[identity]\nleeway_seconds = 0\n[[identity.issuers]]\nname = \"tests\"\nissuer = \"{ISSUER}\"\n\
             audiences = [\"{AUDIENCE}\"]\nalgorithms = [\"HS256\"]\nhmac_secret_file = \"{}\"\n",
            path.display()
        )
    }

    /// A token of `subject` that lives for `seconds`.
    #[must_use]
    pub fn token(&self, subject: &str, seconds: i64) -> String {
        self.sign(&self.claims(subject, seconds))
    }

    /// The claims of such a token, to be changed.
    #[must_use]
    pub fn claims(&self, subject: &str, seconds: i64) -> Value {
        json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now(), "exp": now() + seconds })
    }

    /// Signs any claims.
    ///
    /// # Panics
    /// If they cannot be signed.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> String {
        encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET)).expect("claims can be signed")
    }
}

impl Default for Issuer {
    fn default() -> Self {
        Self::new()
    }
}

/// Seconds since the Unix epoch.
///
/// # Panics
/// If the clock stands before 1970.
#[must_use]
pub fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(elapsed.as_secs()).expect("a clock before the end of time")
}
