//! What the parts of this module promise together.

mod bad_tokens;
mod cluster;
mod http;
mod jwks;
mod keys;
mod pool;
mod processes;
mod program_keys;

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::clock::ManualClock;
use super::{AuthRefusal, GivenPassword, Identity, Principal, Revocation, Session, TokenRefusal, UserAdmin};
use crate::config::{IdentitySettings, IssuerSettings, Millis, PasswordPolicy, PoolAlgorithm, PoolSettings, Seconds, Settings};
use crate::telemetry::Metrics;

/// A password that every policy accepts.
const PASSWORD: &str = "Violets are 1 blue";

/// Settings with cheap hashes and keys, in a folder that goes away with the fixture.
fn settings(folder: &tempfile::TempDir) -> Settings {
    let mut settings = Settings::default();
    settings.server.data_dir = folder.path().join("data");
    settings.identity.pool = PoolSettings {
        algorithm: PoolAlgorithm::Es256,
        argon2_memory_kib: 8,
        argon2_iterations: 1,
        attempts_per_address_per_minute: 0,
        ..PoolSettings::default()
    };
    settings
}

/// A node's identity, under a clock that tests move.
struct Fixture {
    folder: tempfile::TempDir,
    settings: Settings,
    clock: ManualClock,
    metrics: Arc<Metrics>,
    identity: Identity,
    revocations: Arc<Mutex<Vec<Revocation>>>,
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(&folder);
        change(&mut settings);
        Self::start(folder, settings, ManualClock::new())
    }

    fn start(folder: tempfile::TempDir, settings: Settings, clock: ManualClock) -> Self {
        let metrics = Arc::new(Metrics::new());
        let revocations = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&revocations);
        let listen = "127.0.0.1:8080".parse().unwrap();
        let listener = move |revocation: &Revocation| heard.lock().unwrap().push(revocation.clone());
        let identity = Identity::start_at(&settings, Arc::clone(&metrics), listen, clock.clock(), listener).unwrap();
        Self { folder, settings, clock, metrics, identity, revocations }
    }

    fn admin(&self) -> UserAdmin {
        UserAdmin::open(&self.settings).unwrap()
    }

    fn add(&self, name: &str) {
        self.admin().add(name, Some("ada@example.org"), GivenPassword::Permanent(secret(PASSWORD))).unwrap();
    }

    async fn sign_in(&self, name: &str, password: &str) -> Result<Session, AuthRefusal> {
        self.identity.pool().unwrap().sign_in(name, secret(password)).await
    }

    async fn refresh(&self, token: &str) -> Result<Session, AuthRefusal> {
        self.identity.pool().unwrap().refresh(None, token).await
    }

    async fn verify(&self, token: &str) -> Result<Arc<Principal>, TokenRefusal> {
        self.identity.verifier().verify(token).await
    }

    /// Waits until the node has heard of this many revocations: what another process did it hears a little later.
    async fn heard(&self, revocations: usize) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while self.revoked() < revocations {
            assert!(std::time::Instant::now() < deadline, "no revocation heard");
            actix_web::rt::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    fn revoked(&self) -> usize {
        self.revocations.lock().unwrap().len()
    }
}

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

fn refused<T>(result: Result<T, AuthRefusal>) -> String {
    match result {
        Ok(_) => "a session".to_owned(),
        Err(refusal) => format!("{refusal:?}"),
    }
}

/// A compact token over exactly these texts.
fn token(header: &str, payload: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

/// The payload of a token.
fn claims_of(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// An issuer as configured, its key yet to be named.
fn issuer(algorithm: &str) -> IssuerSettings {
    IssuerSettings {
        name: "elsewhere".to_owned(),
        issuer: "https://id.example".to_owned(),
        audiences: vec!["app".to_owned()],
        token_use: vec!["access".to_owned()],
        algorithms: vec![algorithm.to_owned()],
        hmac_secret_file: None,
        public_key_file: None,
        jwks_url: None,
    }
}

/// Good claims of that issuer.
fn claims(now: u64) -> Value {
    json!({"iss": "https://id.example", "sub": "ada", "aud": "app", "token_use": "access", "iat": now, "exp": now + 60})
}
