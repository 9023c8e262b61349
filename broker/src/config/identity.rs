use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::units::{Millis, Seconds};

/// Tokens: who issues them, how they are verified, and the node's own user pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentitySettings {
    /// Clock difference that expiry and not-before may have. At most 60.
    pub leeway_seconds: Seconds,
    /// Longest accepted token in bytes.
    pub token_max_bytes: usize,
    /// Issuers beside the node's own pool.
    pub issuers: Vec<IssuerSettings>,
    /// The node's own user pool.
    pub pool: PoolSettings,
}

impl Default for IdentitySettings {
    fn default() -> Self {
        Self { leeway_seconds: Seconds(30), token_max_bytes: 8_192, issuers: Vec::new(), pool: PoolSettings::default() }
    }
}

/// One issuer of tokens that are accepted. Exactly one of `hmac_secret_file`, `public_key_file` and `jwks_url` is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// Short name, by which `X-Countersign-Issuer`, `{issuer}` in channel rules and the server API know it: the same on all nodes.
    pub name: String,
    /// Exact value of `iss`.
    pub issuer: String,
    /// Accepted values of `aud` (or `client_id` in access tokens). At least one.
    pub audiences: Vec<String>,
    /// Accepted values of `token_use`; empty: the claim is not asked for.
    #[serde(default)]
    pub token_use: Vec<String>,
    /// Accepted algorithms, such as `RS256`; each must fit the kind of key.
    pub algorithms: Vec<String>,
    /// File with an HMAC secret, at least 32 bytes.
    #[serde(default)]
    pub hmac_secret_file: Option<PathBuf>,
    /// PEM file with a public key or certificate.
    #[serde(default)]
    pub public_key_file: Option<PathBuf>,
    /// `https` URL of a key set (`http` is accepted for loopback addresses only).
    #[serde(default)]
    pub jwks_url: Option<String>,
}

/// The user pool: who may sign in here, and the tokens that they get.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolSettings {
    /// Serve sign-in and accept the pool's tokens.
    pub enabled: bool,
    /// Where users, refresh tokens, lock-outs and revocations are kept.
    pub store: PoolStore,
    /// Folder of the signing keys; the nodes of a cluster share one. Unset: `keys` in the data folder.
    pub keys_dir: Option<PathBuf>,
    /// Path of sign-in; refresh, revocation and password change are below it.
    pub auth_path: String,
    /// Value of `iss`. Unset: `http(s)://<listen address>`.
    pub issuer: Option<String>,
    /// Value of `aud` in id tokens and of `client_id` in access tokens.
    pub client_id: String,
    /// Which token opens a socket and authorizes: values of `token_use`.
    pub token_use: Vec<String>,
    /// Signature of issued tokens.
    pub algorithm: PoolAlgorithm,
    /// Life of id and access tokens.
    pub token_lifetime_seconds: Seconds,
    /// Absolute life of a refresh-token family.
    pub refresh_lifetime_seconds: Seconds,
    /// A family unused for this long ends.
    pub refresh_idle_seconds: Seconds,
    /// A refresh answers with a new refresh token, and the old one ends.
    pub rotate_refresh_tokens: bool,
    /// A rotated token used again within this gets the same successor: two tabs, a retry. At most 5,000.
    pub rotation_grace_ms: Millis,
    /// Which passwords are accepted.
    pub password_policy: PasswordPolicy,
    /// Life of a temporary password.
    pub temporary_password_lifetime_seconds: Seconds,
    /// Anyone may create a user.
    pub self_sign_up: bool,
    /// Failed sign-ins before the first delay; the delay doubles with each further one.
    pub lockout_threshold: u32,
    /// First delay.
    pub lockout_base_seconds: Seconds,
    /// Longest delay.
    pub lockout_max_seconds: Seconds,
    /// Sign-in attempts per client address and minute; more get 429. 0: no bound.
    pub attempts_per_address_per_minute: u32,
    /// Memory of one password hash in KiB (Argon2id).
    pub argon2_memory_kib: u32,
    /// Passes of one password hash.
    pub argon2_iterations: u32,
    /// Hashes computed at once; 0: one per core. Others wait in a bounded queue.
    pub hash_concurrency: usize,
    /// Sign-ins waiting for a hash; more get 503.
    pub hash_queue_max: usize,
    /// How long a new signing key is published before it signs.
    pub key_publish_ahead_seconds: Seconds,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            store: PoolStore::Embedded,
            keys_dir: None,
            auth_path: "/auth".to_owned(),
            issuer: None,
            client_id: "countersign".to_owned(),
            token_use: vec!["id".to_owned(), "access".to_owned()],
            algorithm: PoolAlgorithm::Rs256,
            token_lifetime_seconds: Seconds(3_600),
            refresh_lifetime_seconds: Seconds(30 * 86_400),
            refresh_idle_seconds: Seconds(7 * 86_400),
            rotate_refresh_tokens: true,
            rotation_grace_ms: Millis(5_000),
            password_policy: PasswordPolicy::Modern,
            temporary_password_lifetime_seconds: Seconds(3 * 86_400),
            self_sign_up: false,
            lockout_threshold: 5,
            lockout_base_seconds: Seconds(1),
            lockout_max_seconds: Seconds(900),
            attempts_per_address_per_minute: 60,
            argon2_memory_kib: 19_456,
            argon2_iterations: 2,
            hash_concurrency: 0,
            hash_queue_max: 256,
            key_publish_ahead_seconds: Seconds(600),
        }
    }
}

/// Where the pool is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolStore {
    /// A file in the data folder: for a node alone.
    Embedded,
    /// The Redis of the cluster: a sign-in on one node is refreshed on another, lock-out and revocation hold on all.
    Redis,
}

/// Signature algorithm of the pool's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolAlgorithm {
    /// RSA with SHA-256, 2,048 bits.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
}

/// Which passwords are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PasswordPolicy {
    /// At least 8 characters, at most 256, none of the most common ones, no composition rules.
    Modern,
    /// At least 6 characters with a digit and an upper-case letter.
    CognitoCompat,
}
