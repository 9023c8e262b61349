use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use arc_swap::ArcSwap;
use jsonwebtoken::Algorithm;
use tokio::sync::{Notify, watch};
use url::Url;

use super::key_table::{KeyTable, VerifyingKey};
use super::verifier::Epoch;
use super::{IdentityError, TokenRefusal};

/// How often key sets are fetched, and how long that may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct JwksTiming {
    /// A key set is fetched again after this.
    pub(super) refresh: Duration,
    /// An unknown key leads to a fetch only this long after the last one began.
    pub(super) cool_down: Duration,
    /// The first pause after a failure; it doubles up to the cool-down.
    pub(super) retry: Duration,
    /// Longest time of one fetch, from connecting to the last byte.
    pub(super) timeout: Duration,
    /// Keys are used this long while their issuer cannot be reached.
    pub(super) stale_max: Duration,
}

impl Default for JwksTiming {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(600),
            cool_down: Duration::from_secs(30),
            retry: Duration::from_secs(1),
            timeout: Duration::from_millis(1_500),
            stale_max: Duration::from_secs(86_400),
        }
    }
}

/// Longest key set in bytes.
const BODY_BYTES_MAX: usize = 150_000;

/// Grace beyond a fetch's own timeout, for whoever waits on it.
const WAIT_EXTRA: Duration = Duration::from_millis(500);

/// An issuer's key set, kept fresh by the fetcher and read without waiting.
#[derive(Debug)]
pub(super) struct RemoteKeys {
    url: Url,
    algorithms: Vec<Algorithm>,
    timing: JwksTiming,
    table: ArcSwap<KeyTable>,
    epoch: Arc<Epoch>,
    /// Asks the fetcher to try now.
    wanted: Notify,
    /// Counts finished attempts; verifications wait on it.
    attempts: watch::Sender<u64>,
    /// An attempt has succeeded, and its keys are not too old.
    usable: AtomicBool,
    begun: Mutex<Attempt>,
}

#[derive(Debug, Default)]
struct Attempt {
    /// When the last one began.
    at: Option<Instant>,
    running: bool,
}

/// What is known of a key.
pub(super) enum Known {
    /// It is here.
    Key(Arc<VerifyingKey>),
    /// It is not here.
    Unknown,
}

impl RemoteKeys {
    /// An empty set; a fetcher fills it.
    pub(super) fn new(url: Url, algorithms: Vec<Algorithm>, timing: JwksTiming, epoch: Arc<Epoch>) -> Arc<Self> {
        Arc::new(Self {
            url,
            algorithms,
            timing,
            table: ArcSwap::default(),
            epoch,
            wanted: Notify::new(),
            attempts: watch::Sender::new(0),
            usable: AtomicBool::new(false),
            begun: Mutex::new(Attempt::default()),
        })
    }

    /// Looks a key up; never waits.
    pub(super) fn find(&self, kid: Option<&str>) -> Known {
        self.table.load().find(kid).map_or(Known::Unknown, Known::Key)
    }

    /// Why a token cannot be verified whose key is not here.
    pub(super) fn without_key(&self) -> TokenRefusal {
        if self.usable.load(Ordering::SeqCst) { TokenRefusal::UnknownKey } else { TokenRefusal::Unavailable }
    }

    /// Waits for the running fetch, or has one begun unless the last is too recent, in which case it returns at once.
    ///
    /// However many tokens name unknown keys, there is one fetch for each cool-down.
    pub(super) async fn refetch(&self) {
        let mut attempts = self.attempts.subscribe();
        if !self.attempt_is_due() {
            return;
        }
        self.wanted.notify_one();
        let wait = self.timing.timeout + WAIT_EXTRA;
        // Late or not: the caller looks again and judges by what is here then.
        let _ = tokio::time::timeout(wait, attempts.changed()).await;
    }

    fn attempt_is_due(&self) -> bool {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.running || begun.at.is_none_or(|at| at.elapsed() >= self.timing.cool_down)
    }

    fn mark(&self, running: bool) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.running = running;
        if running {
            begun.at = Some(Instant::now());
        }
    }

    /// Fetches for as long as the node lives.
    async fn keep_fresh(self: Arc<Self>, client: awc::Client) {
        let mut fetched_at: Option<Instant> = None;
        let mut failures = 0_u32;
        loop {
            self.mark(true);
            let fetched = tokio::time::timeout(self.timing.timeout, self.fetch(&client)).await;
            match fetched.unwrap_or_else(|_| Err("timed out".to_owned())) {
                Ok(table) => {
                    self.table.store(Arc::new(table));
                    self.usable.store(true, Ordering::SeqCst);
                    self.epoch.advance();
                    (failures, fetched_at) = (0, Some(Instant::now()));
                }
                Err(reason) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(url = %self.url, reason, failures, "key set not fetched");
                    if fetched_at.is_some_and(|at| at.elapsed() > self.timing.stale_max) {
                        self.table.store(Arc::default());
                        self.usable.store(false, Ordering::SeqCst);
                        self.epoch.advance();
                    }
                }
            }
            self.mark(false);
            self.attempts.send_modify(|count| *count += 1);
            self.rest(failures).await;
        }
    }

    /// Sleeps until the next refresh or retry, or until a verification asks and the cool-down is over.
    async fn rest(&self, failures: u32) {
        let pause = match failures {
            0 => self.timing.refresh,
            n => self.timing.retry.saturating_mul(1 << (n - 1).min(16)).min(self.timing.cool_down),
        };
        let asked = async {
            loop {
                self.wanted.notified().await;
                // A request that came in while the last attempt ran has been answered by it.
                if self.attempt_is_due() {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(pause, asked).await;
    }

    async fn fetch(&self, client: &awc::Client) -> Result<KeyTable, String> {
        let request = client.get(self.url.as_str()).insert_header(("accept", "application/json"));
        let mut response = request.send().await.map_err(|error| error.to_string())?;
        if response.status() != StatusCode::OK {
            return Err(format!("answered {}", response.status().as_u16()));
        }
        let body = response.body().limit(BODY_BYTES_MAX).await.map_err(|error| error.to_string())?;
        KeyTable::from_key_set(&body, &self.algorithms).map_err(|error| error.to_string())
    }
}

/// The thread that fetches key sets. `awc` is bound to its thread, and a thread of its own keeps a busy worker from
/// delaying keys, and a slow issuer from delaying a worker. Ends when dropped.
#[derive(Debug)]
pub(super) struct Fetcher {
    stop: Arc<Notify>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Fetcher {
    /// Starts fetching all of these.
    pub(super) fn start(sources: Vec<Arc<RemoteKeys>>) -> Result<Self, IdentityError> {
        // awc builds its TLS connector from the process's default provider; `main` may have installed it already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(IdentityError::Thread)?;
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let serve = move || {
            let tasks = tokio::task::LocalSet::new();
            tasks.block_on(&runtime, async move {
                for source in sources {
                    let client = awc::Client::builder().disable_redirects().timeout(source.timing.timeout).finish();
                    tokio::task::spawn_local(source.keep_fresh(client));
                }
                stopped.notified().await;
            });
        };
        let thread = std::thread::Builder::new().name("jwks".to_owned()).spawn(serve).map_err(IdentityError::Thread)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported by the panic hook; there is nothing left to do about it here.
            let _ = thread.join();
        }
    }
}
