use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;

use super::claims::generation;
use super::clock::Clock;
use super::issuers::{Issuer, KeySource, POOL_NAME};
use super::jwks::{Known, RemoteKeys};
use super::key_table::VerifyingKey;
use super::random::sha256;
use super::revocation::RevokedGenerations;
use super::token::UnverifiedToken;
use super::{Principal, TokenRefusal};
use crate::telemetry::{IssuerKind, Metrics, TokenOutcome};

/// Verified tokens that are remembered; each costs its claims.
const CACHE_TOKENS: usize = 4_096;

/// Verifies tokens of the pool and of configured issuers.
///
/// Invariants: a key's algorithms come from configuration and key set, never from a token; nothing of a token is
/// believed before its signature is; a token that was accepted before is accepted again only while neither its time is
/// up nor any key or revocation has changed since.
#[derive(Debug)]
pub struct TokenVerifier {
    issuers: HashMap<String, Issuer>,
    revoked: Arc<RevokedGenerations>,
    leeway: u64,
    token_max_bytes: usize,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// By SHA-256 of the token: a dump of the cache holds no credential.
    cache: Cache<[u8; 32], Arc<Remembered>>,
    epoch: Arc<Epoch>,
}

/// Counts changes of keys and revocations; what was judged under an older number is judged anew.
#[derive(Debug, Default)]
pub(super) struct Epoch(AtomicU64);

impl Epoch {
    /// Makes everything remembered so far worthless.
    pub(super) fn advance(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
struct Remembered {
    principal: Arc<Principal>,
    kind: IssuerKind,
    epoch: u64,
}

/// What can be told at once.
enum Judged {
    Done(Result<Arc<Principal>, TokenRefusal>),
    /// A key is missing that its issuer may have by now.
    AskIssuer(Arc<RemoteKeys>),
}

/// What a verifier is made of beside its issuers.
pub(super) struct VerifierParts {
    pub(super) revoked: Arc<RevokedGenerations>,
    pub(super) epoch: Arc<Epoch>,
    pub(super) leeway: u64,
    pub(super) token_max_bytes: usize,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
}

impl TokenVerifier {
    /// A verifier of these issuers' tokens. Their `iss` are distinct; the caller has checked that.
    pub(super) fn new(issuers: Vec<Issuer>, parts: VerifierParts) -> Self {
        let VerifierParts { revoked, epoch, leeway, token_max_bytes, clock, metrics } = parts;
        let issuers = issuers.into_iter().map(|issuer| (issuer.iss.clone(), issuer)).collect();
        Self { issuers, revoked, leeway, token_max_bytes, clock, metrics, cache: Cache::new(CACHE_TOKENS), epoch }
    }

    /// Verifies a token.
    ///
    /// Waits only for the key set of a remote issuer, when the token names a key that is not known yet, and then for
    /// two seconds at most; everything else is answered without a pause.
    ///
    /// # Errors
    /// [`TokenRefusal`]: whoever presents the token is told nothing more than that.
    pub async fn verify(&self, token: &str) -> Result<Arc<Principal>, TokenRefusal> {
        let mut kind = IssuerKind::Unknown;
        let verdict = match self.judge(token, &mut kind) {
            Judged::Done(verdict) => verdict,
            Judged::AskIssuer(remote) => {
                remote.refetch().await;
                match self.judge(token, &mut kind) {
                    Judged::Done(verdict) => verdict,
                    Judged::AskIssuer(remote) => Err(remote.without_key()),
                }
            }
        };
        let outcome = verdict.as_ref().map_or_else(|refusal| refusal.outcome(), |_| TokenOutcome::Valid);
        self.metrics.tokens.of(outcome).inc();
        self.metrics.token_issuers.of(kind).inc();
        verdict
    }

    /// Has a revocation ended what this principal opened, since its token was verified?
    ///
    /// For whoever acts on a verified token later: it must be known to the revocation's listener first, and ask then.
    #[must_use]
    pub fn is_revoked(&self, principal: &Principal) -> bool {
        let issued = || generation(&principal.claims).unwrap_or(0);
        principal.issuer == POOL_NAME && self.revoked.covers(&principal.subject, issued())
    }

    fn judge(&self, token: &str, kind: &mut IssuerKind) -> Judged {
        if token.len() > self.token_max_bytes {
            return Judged::Done(Err(TokenRefusal::Malformed));
        }
        // Read before anything is judged: a change meanwhile makes the memory stale, not wrong.
        let epoch = self.epoch.now();
        let digest = sha256(token.as_bytes());
        let now = self.clock.seconds();
        if let Some(known) = self.cache.get(&digest) {
            if known.epoch == epoch && now < known.principal.expires_at.saturating_add(self.leeway) {
                *kind = known.kind;
                return Judged::Done(Ok(Arc::clone(&known.principal)));
            }
            self.cache.remove(&digest);
        }
        match self.judge_anew(token, now, kind) {
            Ok(Ok(principal)) => {
                let principal = Arc::new(principal);
                let remembered = Remembered { principal: Arc::clone(&principal), kind: *kind, epoch };
                self.cache.insert(digest, Arc::new(remembered));
                Judged::Done(Ok(principal))
            }
            Ok(Err(remote)) => Judged::AskIssuer(remote),
            Err(refusal) => Judged::Done(Err(refusal)),
        }
    }

    /// Why a token that [`TokenVerifier::verify`] has just refused is refused, in words, for the operator's own eyes. Never
    /// for the wire, where it would tell a forger how close the forgery came.
    #[must_use]
    pub fn explain(&self, token: &str, refusal: TokenRefusal) -> String {
        if token.len() > self.token_max_bytes {
            return format!("it has {} bytes, identity.token_max_bytes allows {}", token.len(), self.token_max_bytes);
        }
        let Ok(token) = UnverifiedToken::parse(token) else { return in_words(refusal).to_owned() };
        let Ok(iss) = token.issuer() else { return "iss is missing or no text".to_owned() };
        let Some(issuer) = self.issuers.get(iss) else {
            let mut known: Vec<&str> = self.issuers.keys().map(String::as_str).collect();
            known.sort_unstable();
            return format!("iss is `{}`, accepted are: {}", iss.escape_debug(), known.join(", "));
        };
        let now = self.clock.seconds();
        match find_key(&issuer.keys, token.kid.as_deref()) {
            Ok(Some(key)) if key.verify(&token).is_ok() => {}
            Ok(Some(_)) => {
                let name = &issuer.rules.name;
                return format!("{} ({:?}, issuer {name})", in_words(refusal), token.algorithm);
            }
            Ok(None) | Err(_) if refusal == TokenRefusal::Unavailable => return in_words(refusal).to_owned(),
            Ok(None) | Err(_) => {
                let kid = token.kid.as_deref().map_or_else(|| "missing".to_owned(), |kid| format!("`{}`", kid.escape_debug()));
                return format!("kid is {kid}, and issuer {} has no such key", issuer.rules.name);
            }
        }
        match issuer.rules.check(token.claims.clone(), now, self.leeway) {
            Err(fault) => issuer.rules.explain(fault, &token.claims, now),
            Ok(_) => in_words(refusal).to_owned(),
        }
    }

    /// The whole verification; the inner error asks for keys.
    fn judge_anew(
        &self,
        token: &str,
        now: u64,
        kind: &mut IssuerKind,
    ) -> Result<Result<Principal, Arc<RemoteKeys>>, TokenRefusal> {
        let token = UnverifiedToken::parse(token)?;
        let issuer = self.issuers.get(token.issuer()?).ok_or(TokenRefusal::UnknownKey)?;
        *kind = issuer.kind;
        let key = match find_key(&issuer.keys, token.kid.as_deref()) {
            Ok(Some(key)) => key,
            Ok(None) => return Err(TokenRefusal::UnknownKey),
            Err(remote) => return Ok(Err(remote)),
        };
        key.verify(&token)?;
        let principal = issuer.rules.check(token.claims, now, self.leeway)?;
        if issuer.rules.own && !self.revoked.are_known() {
            return Err(TokenRefusal::Unavailable);
        }
        if issuer.rules.own && self.revoked.covers(&principal.subject, generation(&principal.claims).unwrap_or(0)) {
            return Err(TokenRefusal::Revoked);
        }
        Ok(Ok(principal))
    }
}

/// A refusal where there is nothing more exact to say.
fn in_words(refusal: TokenRefusal) -> &'static str {
    match refusal {
        TokenRefusal::Malformed => {
            "it is no JSON Web Token in compact form, or its header has a member that is refused (jku, x5u, x5c, jwk, crit, \
             b64, another typ)"
        }
        TokenRefusal::UnknownKey => "alg is not accepted for the key",
        TokenRefusal::BadSignature => "the signature does not verify",
        TokenRefusal::Expired => "it has expired",
        TokenRefusal::Immature => "it is not valid yet",
        TokenRefusal::WrongClaims => "a claim is missing or not accepted",
        TokenRefusal::Revoked => "it was revoked: its user was disabled, deleted, signed out or given a new password since",
        TokenRefusal::Unavailable => "the issuer's key set cannot be fetched; its log line says why",
    }
}

/// The key that a token names; the error is a source worth asking again.
fn find_key(keys: &KeySource, kid: Option<&str>) -> Result<Option<Arc<VerifyingKey>>, Arc<RemoteKeys>> {
    match keys {
        KeySource::Fixed(key) => Ok(Some(Arc::clone(key))),
        KeySource::Own(keys) => Ok(keys.verifying(kid)),
        KeySource::Remote(remote) => match remote.find(kid) {
            Known::Key(key) => Ok(Some(key)),
            Known::Unknown => Err(Arc::clone(remote)),
        },
    }
}
