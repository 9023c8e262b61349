use std::str::FromStr as _;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use url::{Host, Url};
use zeroize::Zeroizing;

use super::IdentityError;
use super::claims::ClaimRules;
use super::jwks::RemoteKeys;
use super::key_table::VerifyingKey;
use super::keys::SigningKeys;
use crate::config::{IdentitySettings, IssuerSettings, PoolSettings};
use crate::telemetry::IssuerKind;

/// Shortest accepted HMAC secret in bytes: as long as the hash (RFC 7518, section 3.2).
const HMAC_SECRET_BYTES_MIN: usize = 32;

/// An issuer whose tokens are accepted.
#[derive(Debug)]
pub(super) struct Issuer {
    /// Exact value of `iss`.
    pub(super) iss: String,
    /// What its tokens must say.
    pub(super) rules: ClaimRules,
    /// Where its keys are.
    pub(super) keys: KeySource,
    /// How its verifications are counted.
    pub(super) kind: IssuerKind,
}

/// Where an issuer's keys are.
#[derive(Debug)]
pub(super) enum KeySource {
    /// One key, read at start; whatever a token's `kid` says.
    Fixed(Arc<VerifyingKey>),
    /// A key set elsewhere.
    Remote(Arc<RemoteKeys>),
    /// The node's own signing keys.
    Own(Arc<SigningKeys>),
}

impl Issuer {
    /// The node's own pool, under the name that it signs with.
    pub(super) fn pool(settings: &PoolSettings, iss: String, keys: Arc<SigningKeys>) -> Self {
        let rules = ClaimRules {
            name: POOL_NAME.to_owned(),
            audiences: vec![settings.client_id.clone()],
            token_use: settings.token_use.clone(),
            own: true,
        };
        Self { iss, rules, keys: KeySource::Own(keys), kind: IssuerKind::Pool }
    }

    /// A configured issuer; `remote` makes the source of a key set.
    ///
    /// # Errors
    /// [`IdentityError::Issuer`], which names it and says what is wrong: the operator's to mend.
    pub(super) fn external(
        settings: &IssuerSettings,
        remote: impl FnOnce(Url, Vec<Algorithm>) -> Arc<RemoteKeys>,
    ) -> Result<Self, IdentityError> {
        let fault = |reason: String| IdentityError::Issuer { name: settings.name.clone(), reason };
        let algorithms = algorithms(&settings.algorithms).map_err(&fault)?;
        if settings.name == POOL_NAME {
            return Err(fault(format!("the name `{POOL_NAME}` is the node's own")));
        }
        if settings.audiences.is_empty() {
            return Err(fault("no audiences: list at least one".to_owned()));
        }
        let keys = match (&settings.hmac_secret_file, &settings.public_key_file, &settings.jwks_url) {
            (Some(path), None, None) => {
                let secret =
                    Zeroizing::new(std::fs::read(path).map_err(|error| fault(format!("{}: {error}", path.display())))?);
                KeySource::Fixed(hmac_key(&secret, &algorithms).map_err(&fault)?)
            }
            (None, Some(path), None) => {
                let pem = std::fs::read(path).map_err(|error| fault(format!("{}: {error}", path.display())))?;
                KeySource::Fixed(pem_key(&pem, &algorithms).map_err(&fault)?)
            }
            (None, None, Some(url)) => {
                if algorithms.iter().any(|algorithm| algorithm.family() == AlgorithmFamily::Hmac) {
                    return Err(fault("a key set holds public keys: HMAC algorithms cannot be accepted from it".to_owned()));
                }
                KeySource::Remote(remote(key_set_url(url).map_err(&fault)?, algorithms))
            }
            _ => return Err(fault("set exactly one of hmac_secret_file, public_key_file and jwks_url".to_owned())),
        };
        let rules = ClaimRules {
            name: settings.name.clone(),
            audiences: settings.audiences.clone(),
            token_use: settings.token_use.clone(),
            own: false,
        };
        Ok(Self { iss: settings.issuer.clone(), rules, keys, kind: IssuerKind::External })
    }
}

/// Names of the issuers whose tokens these settings accept, as [`super::Principal::issuer`] has them.
#[must_use]
pub fn issuer_names(settings: &IdentitySettings) -> Vec<String> {
    let pool = settings.pool.enabled.then(|| POOL_NAME.to_owned());
    pool.into_iter().chain(settings.issuers.iter().map(|issuer| issuer.name.clone())).collect()
}

/// Name of the node's own pool in [`super::Principal::issuer`].
pub(super) const POOL_NAME: &str = "pool";

fn algorithms(names: &[String]) -> Result<Vec<Algorithm>, String> {
    if names.is_empty() {
        return Err("no algorithms: list at least one".to_owned());
    }
    names.iter().map(|name| Algorithm::from_str(name).map_err(|_| format!("`{name}` is no signature algorithm"))).collect()
}

fn hmac_key(secret: &[u8], algorithms: &[Algorithm]) -> Result<Arc<VerifyingKey>, String> {
    // A text file ends in a line break that nobody meant; random bytes that happen to end in one are left whole.
    let text = secret.strip_suffix(b"\n").filter(|text| text.iter().all(u8::is_ascii_graphic));
    let secret = text.unwrap_or(secret);
    if secret.len() < HMAC_SECRET_BYTES_MIN {
        return Err(format!("HMAC secret is shorter than {HMAC_SECRET_BYTES_MIN} bytes"));
    }
    pin(DecodingKey::from_secret(secret), algorithms)
}

fn pem_key(pem: &[u8], algorithms: &[Algorithm]) -> Result<Arc<VerifyingKey>, String> {
    let key =
        DecodingKey::from_rsa_pem(pem).or_else(|_| DecodingKey::from_ec_pem(pem)).or_else(|_| DecodingKey::from_ed_pem(pem));
    pin(key.map_err(|_| "public key file holds no RSA, P-256, P-384 or Ed25519 key in PEM form".to_owned())?, algorithms)
}

/// Every configured algorithm must fit the key: one that does not is a misunderstanding worth hearing of at start.
fn pin(key: DecodingKey, algorithms: &[Algorithm]) -> Result<Arc<VerifyingKey>, String> {
    if let Some(unfit) = algorithms.iter().find(|algorithm| algorithm.family() != key.family()) {
        return Err(format!("algorithm {unfit:?} does not fit the kind of key"));
    }
    VerifyingKey::new(key, algorithms).map(Arc::new).ok_or_else(|| "no algorithm fits the key".to_owned())
}

/// `https`, or `http` to this very machine; no credentials, which would land in logs.
fn key_set_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("jwks_url: {error}"))?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("jwks_url: credentials in a URL are not accepted".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        _ => Err("jwks_url must be https (http is accepted for loopback addresses only)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_sets_come_over_https_or_from_loopback() {
        for good in ["https://id.example/jwks", "http://127.0.0.1:1/jwks", "http://localhost/jwks", "http://[::1]/jwks"] {
            assert!(key_set_url(good).is_ok(), "{good}");
        }
        for bad in ["http://id.example/jwks", "ftp://localhost/", "https://user:secret@id.example/", "http://10.0.0.1/", "jwks"]
        {
            assert!(key_set_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn algorithms_must_fit_the_kind_of_key() {
        assert!(hmac_key(&[7; 32], &[Algorithm::HS256]).is_ok());
        assert!(hmac_key(&[7; 32], &[Algorithm::HS256, Algorithm::RS256]).is_err());
        assert!(hmac_key(&[7; 31], &[Algorithm::HS256]).is_err());
        assert!(hmac_key(b"0123456789012345678901234567890\n", &[Algorithm::HS256]).is_err(), "31 characters and a line break");
        assert!(hmac_key(&[[0xff; 31].as_slice(), b"\n"].concat(), &[Algorithm::HS256]).is_ok(), "32 random bytes");
        assert!(pem_key(b"no PEM", &[Algorithm::RS256]).is_err());
    }
}
