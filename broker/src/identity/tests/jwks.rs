use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpResponse, HttpServer, web};
use futures_util::future::join_all;
use url::Url;

use super::*;
use crate::identity::TokenVerifier;
use crate::identity::clock::Clock;
use crate::identity::issuers::Issuer;
use crate::identity::jwks::{Fetcher, JwksTiming, RemoteKeys};
use crate::identity::keys::SigningKeys;
use crate::identity::verifier::{Epoch, VerifierParts};

/// What the issuer's server answers next.
#[derive(Clone)]
enum Reply {
    Keys(Value),
    Status(u16),
    Redirect(String),
    Body(usize),
    Never,
}

/// An issuer with an HTTP server on a port of its own, and a count of its requests.
struct Elsewhere {
    keys: SigningKeys,
    reply: Arc<Mutex<Reply>>,
    hits: Arc<AtomicUsize>,
    /// Requests that followed a redirect.
    strayed: Arc<AtomicUsize>,
    url: String,
    server: ServerHandle,
    _folder: tempfile::TempDir,
}

impl Elsewhere {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut pool = settings(&folder).identity.pool;
        pool.key_publish_ahead_seconds = Seconds(0);
        let keys = SigningKeys::open(folder.path().join("keys"), &pool, 1_000, Clock::system(), Arc::default()).unwrap();
        let reply = Arc::new(Mutex::new(Reply::Keys(keys.jwks())));
        let hits = Arc::new(AtomicUsize::new(0));
        let strayed = Arc::new(AtomicUsize::new(0));
        let (said, counted, off_path) = (Arc::clone(&reply), Arc::clone(&hits), Arc::clone(&strayed));
        let server = HttpServer::new(move || {
            let strayed = Arc::clone(&off_path);
            let (said, counted) = (Arc::clone(&said), Arc::clone(&counted));
            let answer = move || {
                let reply = said.lock().unwrap().clone();
                counted.fetch_add(1, Ordering::SeqCst);
                async move {
                    match reply {
                        Reply::Keys(keys) => HttpResponse::Ok().json(keys),
                        Reply::Status(status) => HttpResponse::build(status.try_into().unwrap()).finish(),
                        Reply::Redirect(to) => HttpResponse::Found().insert_header(("location", to)).finish(),
                        Reply::Body(length) => HttpResponse::Ok().body("x".repeat(length)),
                        Reply::Never => std::future::pending().await,
                    }
                }
            };
            let elsewhere = move || {
                strayed.fetch_add(1, Ordering::SeqCst);
                std::future::ready(HttpResponse::Ok().finish())
            };
            App::new().route("/strayed", web::to(elsewhere)).default_service(web::to(answer))
        });
        let server = server.workers(1).disable_signals().shutdown_timeout(0).bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/jwks", server.addrs()[0]);
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self { keys, reply, hits, strayed, url, server: handle, _folder: folder }
    }

    fn say(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    fn token(&self) -> String {
        self.keys.sign(claims(Clock::system().seconds()).as_object().unwrap()).unwrap()
    }

    /// A token that names a key which the issuer does not have.
    fn forged(&self, kid: &str) -> String {
        let header = format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#);
        let pem = crate::identity::key_files::generate(PoolAlgorithm::Es256).unwrap();
        let key = EncodingKey::from_ec_pem(pem.as_bytes()).unwrap();
        token(&header, &claims(Clock::system().seconds()).to_string(), &key, Algorithm::ES256)
    }

    /// A verifier that trusts this issuer.
    fn verifier(&self, timing: JwksTiming) -> (Arc<TokenVerifier>, Fetcher) {
        let epoch = Arc::<Epoch>::default();
        let configured = IssuerSettings { jwks_url: Some(self.url.clone()), ..issuer("ES256") };
        let mut sources = Vec::new();
        let trusted = Issuer::external(&configured, |url: Url, algorithms| {
            let source = RemoteKeys::new(url, algorithms, timing, Arc::clone(&epoch));
            sources.push(Arc::clone(&source));
            source
        });
        let (revoked, metrics) = (Arc::default(), Arc::new(Metrics::new()));
        let parts = VerifierParts { revoked, epoch, leeway: 30, token_max_bytes: 8_192, clock: Clock::system(), metrics };
        (Arc::new(TokenVerifier::new(vec![trusted.unwrap()], parts)), Fetcher::start(sources).unwrap())
    }
}

/// Long enough that nothing happens by itself within a test.
const CALM: JwksTiming = JwksTiming {
    refresh: Duration::from_secs(600),
    cool_down: Duration::from_secs(600),
    retry: Duration::from_secs(600),
    timeout: Duration::from_secs(10),
    stale_max: Duration::from_secs(600),
};

/// So short that everything happens at once.
const BRISK: JwksTiming = JwksTiming {
    refresh: Duration::from_millis(20),
    cool_down: Duration::from_millis(20),
    retry: Duration::from_millis(20),
    // Only an issuer that never answers makes it end.
    timeout: Duration::from_secs(5),
    stale_max: Duration::from_secs(600),
};

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        actix_web::rt::time::sleep(Duration::from_millis(5)).await;
    }
}

#[actix_web::test]
async fn many_tokens_at_once_wait_for_one_fetch() {
    let elsewhere = Elsewhere::start().await;
    let (verifier, _fetcher) = elsewhere.verifier(CALM);
    let token = elsewhere.token();
    let verdicts = join_all((0..100).map(|_| verifier.verify(&token))).await;
    assert!(verdicts.iter().all(Result::is_ok));
    assert_eq!(elsewhere.hits(), 1);
    elsewhere.server.stop(false).await;
}

#[actix_web::test]
async fn unknown_keys_are_asked_for_once_in_a_cool_down() {
    let elsewhere = Elsewhere::start().await;
    let (verifier, _fetcher) = elsewhere.verifier(CALM);
    assert!(verifier.verify(&elsewhere.token()).await.is_ok());
    for n in 0..50 {
        assert_eq!(verifier.verify(&elsewhere.forged(&n.to_string())).await, Err(TokenRefusal::UnknownKey));
    }
    assert_eq!(elsewhere.hits(), 1);
    elsewhere.server.stop(false).await;
}

#[actix_web::test]
async fn a_new_key_of_the_issuers_is_found() {
    let elsewhere = Elsewhere::start().await;
    let (verifier, _fetcher) = elsewhere.verifier(JwksTiming { cool_down: Duration::ZERO, ..CALM });
    assert!(verifier.verify(&elsewhere.token()).await.is_ok());
    let old = elsewhere.token();
    elsewhere.keys.rotate(None).unwrap();
    elsewhere.say(Reply::Keys(elsewhere.keys.jwks()));
    assert!(verifier.verify(&elsewhere.token()).await.is_ok());
    assert!(verifier.verify(&old).await.is_ok());
    elsewhere.server.stop(false).await;
}

#[actix_web::test]
async fn keys_are_kept_while_their_issuer_fails() {
    let elsewhere = Elsewhere::start().await;
    let (verifier, _fetcher) = elsewhere.verifier(BRISK);
    assert!(verifier.verify(&elsewhere.token()).await.is_ok());
    let target = elsewhere.url.replace("/jwks", "/strayed");
    for reply in [Reply::Status(500), Reply::Redirect(target), Reply::Body(200_000), Reply::Keys(json!({"keys": []}))] {
        elsewhere.say(reply);
        let seen = elsewhere.hits();
        until("two more attempts", || elsewhere.hits() >= seen + 2).await;
        assert!(verifier.verify(&elsewhere.token()).await.is_ok());
    }
    assert_eq!(elsewhere.strayed.load(Ordering::SeqCst), 0, "no redirect was followed");
    elsewhere.server.stop(false).await;
}

#[actix_web::test]
async fn keys_that_are_too_old_are_given_up() {
    let elsewhere = Elsewhere::start().await;
    let (verifier, _fetcher) = elsewhere.verifier(JwksTiming { stale_max: Duration::ZERO, ..BRISK });
    assert!(verifier.verify(&elsewhere.token()).await.is_ok());
    elsewhere.say(Reply::Status(500));
    let deadline = Instant::now() + Duration::from_secs(60);
    while verifier.verify(&elsewhere.token()).await != Err(TokenRefusal::Unavailable) {
        assert!(Instant::now() < deadline, "still accepted");
    }
    elsewhere.server.stop(false).await;
}

#[actix_web::test]
async fn without_keys_nothing_is_known() {
    let elsewhere = Elsewhere::start().await;
    elsewhere.say(Reply::Status(503));
    let (verifier, _fetcher) = elsewhere.verifier(CALM);
    assert_eq!(verifier.verify(&elsewhere.token()).await, Err(TokenRefusal::Unavailable));
    assert_eq!(verifier.verify(&elsewhere.token()).await, Err(TokenRefusal::Unavailable));
    assert_eq!(elsewhere.hits(), 1);
    elsewhere.server.stop(false).await;
}

#[actix_web::test]
async fn a_slow_issuer_holds_up_its_unknown_keys_only() {
    let elsewhere = Elsewhere::start().await;
    let (verifier, fetcher) =
        elsewhere.verifier(JwksTiming { cool_down: Duration::ZERO, timeout: Duration::from_secs(5), ..CALM });
    assert!(verifier.verify(&elsewhere.token()).await.is_ok());
    elsewhere.say(Reply::Never);
    let forged = elsewhere.forged("unknown");
    let held = verifier.verify(&forged);
    let mut held = std::pin::pin!(held);
    assert!(futures_util::poll!(held.as_mut()).is_pending());
    let token = elsewhere.token();
    let known = verifier.verify(&token);
    assert!(futures_util::FutureExt::now_or_never(known).unwrap().is_ok(), "answered without a pause");
    assert_eq!(held.await, Err(TokenRefusal::UnknownKey));
    drop(fetcher);
    elsewhere.server.stop(false).await;
}
