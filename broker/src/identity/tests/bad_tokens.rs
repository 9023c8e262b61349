use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RsaKeyPair};
use proptest::prelude::*;

use super::*;

/// An issuer with a public RSA key in a file, and its private half.
struct Elsewhere {
    fixture: Fixture,
    key: EncodingKey,
    public_pem: String,
}

impl Elsewhere {
    fn new() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let pem =
            |label: &str, der: &[u8]| format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der));
        let key = EncodingKey::from_rsa_pem(pem("PRIVATE KEY", pair.as_der().unwrap().as_ref()).as_bytes()).unwrap();
        let public_pem = pem("PUBLIC KEY", pair.public_key().as_der().unwrap().as_ref());
        let fixture = Fixture::with(|settings| {
            let path: PathBuf = settings.server.data_dir.with_file_name("public.pem");
            std::fs::write(&path, &public_pem).unwrap();
            settings.identity.issuers = vec![IssuerSettings { public_key_file: Some(path), ..issuer("RS256") }];
        });
        Self { fixture, key, public_pem }
    }

    async fn check(&self, what: &str, header: &str, claims: &str, expected: Result<(), TokenRefusal>) {
        let token = token(header, claims, &self.key, Algorithm::RS256);
        // Twice: what is remembered must not differ from what was judged.
        for _ in 0..2 {
            assert_eq!(self.fixture.verify(&token).await.map(drop), expected, "{what}");
        }
    }

    /// A token whose claims differ from good ones by these; `null` takes one away.
    async fn check_claims(&self, change: Value, expected: Result<(), TokenRefusal>) {
        let mut claims = claims(self.fixture.clock.seconds());
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => claims.as_object_mut().unwrap().remove(name),
                value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        self.check(&change.to_string(), r#"{"alg":"RS256"}"#, &claims.to_string(), expected).await;
    }
}

#[actix_web::test]
async fn claims_are_checked_one_by_one() {
    let elsewhere = Elsewhere::new();
    let now = elsewhere.fixture.clock.seconds();
    let leeway = elsewhere.fixture.settings.identity.leeway_seconds.0;
    let wrong = Err(TokenRefusal::WrongClaims);
    for (change, expected) in [
        (json!({}), Ok(())),
        (json!({"exp": null}), wrong),
        (json!({"exp": now - leeway}), Err(TokenRefusal::Expired)),
        (json!({"exp": now - leeway + 1}), Ok(())),
        (json!({"exp": (now + 60).to_string()}), wrong),
        (json!({"exp": -1}), wrong),
        (json!({"exp": [now + 60]}), wrong),
        (json!({"exp": now as f64 + 60.5}), Ok(())),
        (json!({"nbf": now + leeway + 1}), Err(TokenRefusal::Immature)),
        (json!({"nbf": now + leeway}), Ok(())),
        (json!({"nbf": "0"}), wrong),
        (json!({"iat": now + leeway + 1}), Err(TokenRefusal::Immature)),
        (json!({"iat": true}), wrong),
        (json!({"iat": null}), Ok(())),
        (json!({"iss": "https://evil.example"}), Err(TokenRefusal::UnknownKey)),
        (json!({"iss": null}), wrong),
        (json!({"iss": ["https://id.example"]}), wrong),
        (json!({"sub": null}), wrong),
        (json!({"sub": ""}), wrong),
        (json!({"sub": 7}), wrong),
        (json!({"sub": "s".repeat(257)}), wrong),
        (json!({"aud": null}), wrong),
        (json!({"aud": "other"}), wrong),
        (json!({"aud": ["other", "app"]}), Ok(())),
        (json!({"aud": ["app", 1]}), wrong),
        (json!({"aud": []}), wrong),
        (json!({"aud": {"app": true}}), wrong),
        (json!({"aud": "other", "client_id": "app"}), wrong),
        (json!({"aud": null, "client_id": "app"}), Ok(())),
        (json!({"aud": null, "client_id": ["app"]}), wrong),
        (json!({"token_use": null}), wrong),
        (json!({"token_use": "id"}), wrong),
        (json!({"token_use": ["access"]}), wrong),
        (json!({"username": 1}), wrong),
    ] {
        elsewhere.check_claims(change, expected).await;
    }
}

#[actix_web::test]
async fn headers_choose_neither_key_nor_algorithm() {
    let elsewhere = Elsewhere::new();
    let good = claims(elsewhere.fixture.clock.seconds()).to_string();
    let malformed = Err(TokenRefusal::Malformed);
    let unknown = Err(TokenRefusal::UnknownKey);
    let long_kid = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(300));
    for (header, expected) in [
        (r#"{"alg":"RS256"}"#, Ok(())),
        (r#"{"alg":"RS256","typ":"JWT","kid":"any"}"#, Ok(())),
        (r#"{"alg":"RS256","typ":"at+jwt"}"#, Ok(())),
        (r#"{"alg":"RS256","typ":"logout+jwt"}"#, malformed),
        (r#"{"alg":"RS256","typ":1}"#, malformed),
        (r#"{"alg":"RS512"}"#, unknown),
        (r#"{"alg":"PS256"}"#, unknown),
        (r#"{"alg":"ES256"}"#, unknown),
        (r#"{"alg":"none"}"#, unknown),
        (r#"{"alg":"NONE"}"#, unknown),
        (r#"{"alg":""}"#, unknown),
        (r#"{"alg":null}"#, malformed),
        (r#"{}"#, malformed),
        (r#"{"alg":"RS256","alg":"RS256"}"#, malformed),
        (r#"{"alg":"RS256","jku":"https://evil.example"}"#, malformed),
        (r#"{"alg":"RS256","x5u":"https://evil.example"}"#, malformed),
        (r#"{"alg":"RS256","x5c":[]}"#, malformed),
        (r#"{"alg":"RS256","jwk":{"kty":"oct","k":"AA"}}"#, malformed),
        (r#"{"alg":"RS256","crit":["exp"]}"#, malformed),
        (r#"{"alg":"RS256","b64":false}"#, malformed),
        (r#"{"alg":"RS256","kid":1}"#, malformed),
        (long_kid.as_str(), malformed),
        ("[]", malformed),
    ] {
        elsewhere.check(header, header, &good, expected).await;
    }
}

#[actix_web::test]
async fn a_public_key_is_no_hmac_secret() {
    let elsewhere = Elsewhere::new();
    let good = claims(elsewhere.fixture.clock.seconds()).to_string();
    let forged = EncodingKey::from_secret(elsewhere.public_pem.as_bytes());
    let forged = token(r#"{"alg":"HS256","typ":"JWT"}"#, &good, &forged, Algorithm::HS256);
    assert_eq!(elsewhere.fixture.verify(&forged).await, Err(TokenRefusal::UnknownKey));
}

#[actix_web::test]
async fn structure_size_and_signature_are_checked() {
    let elsewhere = Elsewhere::new();
    let fixture = &elsewhere.fixture;
    let now = fixture.clock.seconds();
    let good = token(r#"{"alg":"RS256"}"#, &claims(now).to_string(), &elsewhere.key, Algorithm::RS256);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let mut other = claims(now);
    other["sub"] = json!("eve");
    let other = URL_SAFE_NO_PAD.encode(other.to_string());
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let mut large = claims(now);
    large["padding"] = json!("x".repeat(8_192));
    let large = token(r#"{"alg":"RS256"}"#, &large.to_string(), &elsewhere.key, Algorithm::RS256);
    for (token, expected) in [
        (format!("{header}.{other}.{signature}"), TokenRefusal::BadSignature),
        (format!("{signed}.AAAA"), TokenRefusal::BadSignature),
        (format!("{signed}."), TokenRefusal::Malformed),
        (format!("{none}.{payload}."), TokenRefusal::Malformed),
        (format!("{none}.{payload}.AAAA"), TokenRefusal::UnknownKey),
        (signed.to_owned(), TokenRefusal::Malformed),
        (format!("{good}.AAAA"), TokenRefusal::Malformed),
        (format!("{good}="), TokenRefusal::Malformed),
        (format!(" {good}"), TokenRefusal::Malformed),
        (format!("{header}.e30.{signature}"), TokenRefusal::WrongClaims),
        (large, TokenRefusal::Malformed),
        (String::new(), TokenRefusal::Malformed),
    ] {
        assert_eq!(fixture.verify(&token).await, Err(expected), "{token}");
    }
    assert_eq!(fixture.verify(&good).await.unwrap().subject, "ada");
    for payload in [r#"{"sub":"ada","sub":"eve"}"#, "[]", r#"{"sub":"ada""#] {
        let twice = token(r#"{"alg":"RS256"}"#, payload, &elsewhere.key, Algorithm::RS256);
        assert_eq!(fixture.verify(&twice).await, Err(TokenRefusal::Malformed), "{payload}");
    }
}

#[actix_web::test]
async fn a_remembered_token_expires_on_time() {
    let elsewhere = Elsewhere::new();
    let fixture = &elsewhere.fixture;
    let good = token(r#"{"alg":"RS256"}"#, &claims(fixture.clock.seconds()).to_string(), &elsewhere.key, Algorithm::RS256);
    let first = fixture.verify(&good).await.unwrap();
    assert!(Arc::ptr_eq(&first, &fixture.verify(&good).await.unwrap()), "the second is remembered");
    fixture.clock.advance(Duration::from_secs(60 + fixture.settings.identity.leeway_seconds.0));
    assert_eq!(fixture.verify(&good).await, Err(TokenRefusal::Expired));
    assert_eq!(TokenRefusal::Expired.to_string(), TokenRefusal::BadSignature.to_string(), "one text for all");
    let counted = fixture.metrics.render().unwrap();
    assert!(counted.contains(r#"countersign_token_verifications_total{outcome="valid"} 2"#));
    assert!(counted.contains(r#"countersign_token_verifications_by_issuer_total{issuer="external"} 3"#));
}

#[actix_web::test]
async fn two_issuers_of_one_name_are_refused_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(&folder);
    let path = folder.path().join("secret");
    std::fs::write(&path, [7; 32]).unwrap();
    let external = IssuerSettings { hmac_secret_file: Some(path), ..issuer("HS256") };
    settings.identity.issuers = vec![external.clone(), external];
    let listen = "127.0.0.1:8080".parse().unwrap();
    let error = Identity::start(&settings, Arc::new(Metrics::new()), listen, |_| {}).unwrap_err();
    assert!(error.to_string().contains("same `iss`"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn arbitrary_text_is_refused_without_a_panic(texts in prop::collection::vec("\\PC{0,64}", 1..200), parts in prop::collection::vec("[A-Za-z0-9_-]{0,80}", 0..5)) {
        let secret = EncodingKey::from_secret(&[7; 32]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let verifier = shared_verifier();
        let framed = texts.iter().map(|text| token(text, text, &secret, Algorithm::HS256));
        for text in texts.iter().cloned().chain(framed).chain([parts.join(".")]) {
            prop_assert!(runtime.block_on(verifier.verify(&text)).is_err());
        }
    }

    #[test]
    fn arbitrary_claims_are_refused_without_a_panic(name in "iss|sub|aud|exp|iat|nbf|token_use|username", value in "[-0-9a-z\\[\\]{}\",.:eE+]{0,24}") {
        let secret = EncodingKey::from_secret(&[7; 32]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let payload = format!(r#"{{"iss":"https://id.example","{name}":{value}}}"#);
        let token = token(r#"{"alg":"HS256"}"#, &payload, &secret, Algorithm::HS256);
        prop_assert!(runtime.block_on(shared_verifier().verify(&token)).is_err());
    }
}

/// One verifier for all cases of a property, with an issuer that would accept what is signed right.
fn shared_verifier() -> Arc<crate::identity::TokenVerifier> {
    static VERIFIER: std::sync::OnceLock<Arc<crate::identity::TokenVerifier>> = std::sync::OnceLock::new();
    let start = || {
        let fixture = Fixture::with(|settings| {
            let path = settings.server.data_dir.with_file_name("secret");
            std::fs::write(&path, [7; 32]).unwrap();
            let external = IssuerSettings { hmac_secret_file: Some(path), ..issuer("HS256") };
            settings.identity = IdentitySettings {
                issuers: vec![external],
                pool: PoolSettings { enabled: false, ..PoolSettings::default() },
                ..IdentitySettings::default()
            };
        });
        fixture.identity.verifier()
    };
    Arc::clone(VERIFIER.get_or_init(start))
}
