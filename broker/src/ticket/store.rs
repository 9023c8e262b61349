//! The keys of a cluster, in Redis. Any node makes the next one, by a script and Redis's clock, so that all agree.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_node_proto::Layout;
use redis::{Cmd, Pipeline, Script, ServerErrorKind, Value};

use super::claims::{SKEW_MS, TTL_MS_MAX};
use super::keys::{KeyRing, Kid, NewKeyError, Scheduled, TicketKey, TicketKeys};
use crate::link::{CommandLink, LinkError};
use crate::telemetry::RedisCall;

/// Between two looks at the store.
const INTERVAL: Duration = Duration::from_secs(5);
/// The shortest pause between two, whoever asks: a ticket may name any key.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Names and secrets that one store may hold; more are somebody else's.
const KEYS_MAX: usize = 64;

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(TEXT));
const TEXT: &str = include_str!("redis/keys.lua");

/// When keys change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rotation {
    /// A key mints for so long.
    pub(super) period: Duration,
    /// It is known so long before it mints: far longer than a node needs to look, so that one that was cut off for minutes has
    /// heard of it too.
    pub(super) ahead: Duration,
    /// It is accepted so long after the next began to mint: until its last ticket expired.
    pub(super) kept: Duration,
}

impl Rotation {
    const DAILY: Self = Self {
        period: Duration::from_secs(86_400),
        ahead: Duration::from_secs(600),
        kept: Duration::from_millis(2 * (TTL_MS_MAX + SKEW_MS)),
    };
}

/// Why the keys were not told.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Key(#[from] NewKeyError),
    #[error("redis refused: {0}")]
    Refused(String),
    #[error("the store holds what is no ticket key")]
    Spoiled,
}

/// Keeps a node's [`TicketKeys`] equal to those of its cluster.
///
/// While Redis is away the known keys go on, and the one whose time comes mints. One that came back empty gets them back
/// from whoever looks first.
pub struct RedisKeyStore {
    link: CommandLink,
    key: String,
    rotation: Rotation,
    keys: Arc<TicketKeys>,
}

impl RedisKeyStore {
    /// The store under the cluster's names. Connects to nothing by itself.
    #[must_use]
    pub fn new(link: CommandLink, layout: &Layout) -> Arc<Self> {
        Self::rotating(link, layout, Rotation::DAILY)
    }

    pub(super) fn rotating(link: CommandLink, layout: &Layout, rotation: Rotation) -> Arc<Self> {
        Arc::new(Self { link, key: layout.tickets(), rotation, keys: TicketKeys::untold() })
    }

    /// What it keeps.
    #[must_use]
    pub fn keys(&self) -> &Arc<TicketKeys> {
        &self.keys
    }

    /// Looks once; tells whether the store answered.
    pub async fn refresh(&self) -> bool {
        match self.look().await {
            Ok((ring, told)) => {
                self.keys.set(ring, Some(told));
                true
            }
            Err(error) => {
                tracing::debug!(%error, "ticket keys were not told, going on with those known");
                false
            }
        }
    }

    /// Looks for ever; end it by dropping it.
    pub async fn maintain(&self) {
        loop {
            let before = Instant::now();
            if !self.refresh().await {
                self.go_on();
            }
            tokio::time::sleep(PAUSE_MIN).await;
            let rest = INTERVAL.saturating_sub(before.elapsed());
            tokio::select! {
                () = self.keys.missed.notified() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// Redis is away: lets the next key mint when its time comes. Nodes' clocks agree with Redis's to a second or two, and a
    /// key is known for minutes before, so the wall clock is good enough.
    fn go_on(&self) {
        let now_ms = crate::identity::Clock::system().millis();
        let ring = KeyRing::scheduled(self.keys.ring().keys().to_vec(), now_ms);
        self.keys.set(ring, None);
    }

    /// Gives what is known, and takes what there is.
    async fn look(&self) -> Result<(KeyRing, Instant), StoreError> {
        let fresh = TicketKey::random()?;
        let asked = Instant::now();
        let mut values = self.link.call(RedisCall::Keys, &self.call("EVALSHA", SCRIPT.get_hash(), &fresh)).await?;
        if values.first().is_some_and(is_unknown) {
            values = self.link.call(RedisCall::Keys, &self.call("EVAL", TEXT, &fresh)).await?;
        }
        let value = values.pop().ok_or(StoreError::Spoiled)?;
        if let Value::ServerError(error) = value {
            return Err(StoreError::Refused(error.code().to_owned()));
        }
        let texts: Vec<String> = redis::from_redis_value(value).map_err(|_| StoreError::Spoiled)?;
        Ok((read(&texts).ok_or(StoreError::Spoiled)?, asked))
    }

    fn call(&self, command: &str, script: &str, fresh: &TicketKey) -> Pipeline {
        let Rotation { period, ahead, kept } = self.rotation;
        let mut call: Cmd = redis::cmd(command);
        call.arg(script).arg(1).arg(&self.key).arg(fresh.kid().encode()).arg(URL_SAFE_NO_PAD.encode(fresh.secret()));
        for span in [period, ahead, kept] {
            call.arg(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        }
        for Scheduled { key, from_ms } in self.keys.ring().keys() {
            call.arg(key.kid().encode()).arg(format!("{from_ms}:{}", URL_SAFE_NO_PAD.encode(key.secret())));
        }
        let mut pipeline = Pipeline::new();
        pipeline.add_command(call);
        pipeline
    }
}

/// Reads the script's answer: the store's clock, then name and value of each key.
fn read(texts: &[String]) -> Option<KeyRing> {
    let (now_ms, pairs) = texts.split_first()?;
    if pairs.len() % 2 != 0 || pairs.len() / 2 > KEYS_MAX {
        return None;
    }
    let keys = pairs.chunks_exact(2).map(|pair| scheduled(&pair[0], &pair[1])).collect::<Option<Vec<_>>>()?;
    Some(KeyRing::scheduled(keys, now_ms.parse().ok()?))
}

fn scheduled(kid: &str, value: &str) -> Option<Scheduled> {
    let (from_ms, secret) = value.split_once(':')?;
    let kid: [u8; 8] = URL_SAFE_NO_PAD.decode(kid).ok()?.try_into().ok()?;
    let secret = zeroize::Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).ok()?);
    let key = TicketKey::from_parts(Kid::from_bytes(kid), secret.as_slice().try_into().ok()?);
    Some(Scheduled { key: Arc::new(key), from_ms: from_ms.parse().ok()? })
}

/// Did the server not know the script? Nothing has been done then.
fn is_unknown(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
