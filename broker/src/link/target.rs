use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign_node_proto::{Layout, PrefixError};
use redis::aio::{MultiplexedConnection, SendError};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo as _, ProtocolVersion, PushInfo,
    RedisConnectionInfo, RedisError, TlsCertificates,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::route::{Place, Route, RouteError, To};
use super::slots::{self, Known, SlotMap};
use super::{LinkError, sentinel};
use crate::config::ClusterSettings;

/// Why a target cannot be made of the settings. Configuration checks show these before a node starts.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The settings name no Redis.
    #[error("cluster.redis is not set")]
    Unset,
    /// The URL.
    #[error("cluster.redis cannot be used: {0}")]
    Url(#[from] RouteError),
    /// Its TLS.
    #[error("TLS towards redis cannot be used: {0}")]
    Tls(#[from] RedisError),
    /// The prefix.
    #[error("cluster.prefix cannot be used: {0}")]
    Prefix(#[from] PrefixError),
    /// A file of authorities that holds none: nobody would be believed.
    #[error("{}: no certificate in it", path.display())]
    NoCertificate {
        /// Which.
        path: PathBuf,
    },
    /// A file of the settings.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
}

/// Where Redis is, how to get in, and how long to wait for it.
#[derive(Clone)]
pub struct RedisTarget {
    to: Arc<To>,
    keys: Arc<Keys>,
    address: Arc<str>,
    /// The slot of all keys, and who can be asked for its server, in a Redis Cluster.
    slot: u16,
    known: Arc<Known>,
    /// Longest wait for a connection, greeting included.
    pub(crate) connect_timeout: Duration,
    /// Longest wait for an answer.
    pub(crate) command_timeout: Duration,
}

/// What opens any server of the target.
struct Keys {
    tls: Option<TlsCertificates>,
    uses_tls: bool,
    /// What nodes sign in to Redis as.
    login: RedisConnectionInfo,
    /// The same for sentinels, which have users of their own.
    sentinel_login: RedisConnectionInfo,
}

/// A connection, and the server at its other end.
pub(crate) struct Reached {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) server: Arc<str>,
}

/// What came of looking for the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// It is the server of the present connection.
    Here,
    /// It is another server, and lets us in.
    Elsewhere,
    /// There is none at the moment, or nobody to ask.
    Unknown,
}

/// Gets what comes unasked; must not block.
type Pushed = Arc<dyn Fn(PushInfo) + Send + Sync>;

impl RedisTarget {
    /// Reads the settings and the files that they name. Connects to nothing.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn new(settings: &ClusterSettings) -> Result<Self, TargetError> {
        let url = settings.redis.as_ref().ok_or(TargetError::Unset)?;
        let route = Route::parse(&url.0)?;
        let sentinel = (&settings.sentinel_username, &settings.sentinel_password_file);
        let keys = Keys {
            tls: certificates(settings)?,
            uses_tls: route.tls,
            login: login(route.login, &settings.username, &settings.password_file)?,
            sentinel_login: login(RedisConnectionInfo::default(), sentinel.0, sentinel.1)?,
        };
        // What they hold is read now: a fault in it belongs to the start.
        if route.tls {
            keys.client(Place::new("localhost", 1).address(true), &keys.login)?;
        }
        let seeds = if let To::Cluster(seeds) = &route.to { seeds.as_slice() } else { &[] };
        Ok(Self {
            slot: Layout::new(&settings.prefix)?.slot(),
            known: Arc::new(Known::new(seeds)),
            address: route.to.to_string().into(),
            to: Arc::new(route.to),
            keys: Arc::new(keys),
            connect_timeout: settings.connect_timeout_ms.duration(),
            command_timeout: settings.command_timeout_ms.duration(),
        })
    }

    /// Where it leads, for people: no user, no password.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Longest wait for [`RedisTarget::connect`]: who must be asked for the way first takes as long again.
    pub(crate) fn reach_timeout(&self) -> Duration {
        match *self.to {
            To::One(_) => self.connect_timeout,
            To::Sentinel { .. } | To::Cluster(_) => self.connect_timeout * 2,
        }
    }

    /// Connects once. `pushed` gets what comes unasked, the end of the connection included; it must not block.
    pub(crate) async fn connect(&self, pushed: impl Fn(PushInfo) + Send + Sync + 'static) -> Result<Reached, LinkError> {
        let pushed: Pushed = Arc::new(pushed);
        match &*self.to {
            To::One(address) => {
                let connection = self.open(address.clone(), &self.keys.login, &pushed).await?;
                Ok(Reached { connection, server: Arc::clone(&self.address) })
            }
            To::Sentinel { sentinels, master } => {
                let reach = sentinel::reach_master(self, sentinels, master, &pushed);
                tokio::time::timeout(self.reach_timeout(), reach).await.unwrap_or(Err(LinkError::TimedOut))
            }
            To::Cluster(_) => {
                let reach = self.reach_keys(&pushed);
                tokio::time::timeout(self.reach_timeout(), reach).await.unwrap_or(Err(LinkError::TimedOut))
            }
        }
    }

    /// Where the master is, as seen from a server that is in doubt.
    ///
    /// A master that refuses writes for a while is not left; one that became a replica is, as soon as there is another.
    pub(crate) async fn look(&self, present: &MultiplexedConnection, server: &str) -> Whereabouts {
        let timeout = self.command_timeout;
        match &*self.to {
            To::One(_) => {
                if sentinel::is_master(present, timeout).await == Ok(true) {
                    return Whereabouts::Here;
                }
                // The name may lead to another server than it did.
                let Ok(reached) = self.connect(|_| {}).await else { return Whereabouts::Unknown };
                if sentinel::is_master(&reached.connection, timeout).await != Ok(true) {
                    return Whereabouts::Unknown;
                }
                // Both may be one server, which became master between the two questions.
                match sentinel::is_master(present, timeout).await {
                    Ok(true) => Whereabouts::Here,
                    _ => Whereabouts::Elsewhere,
                }
            }
            To::Sentinel { sentinels, master } => match sentinel::named(self, sentinels, master).await {
                None => Whereabouts::Unknown,
                Some(place) if place.to_string() == server => Whereabouts::Here,
                Some(_) => match self.connect(|_| {}).await {
                    Ok(reached) if *reached.server != *server => Whereabouts::Elsewhere,
                    _ => Whereabouts::Unknown,
                },
            },
            To::Cluster(_) => match self.keeper().await {
                Err(_) => Whereabouts::Unknown,
                Ok(place) if place.to_string() == server => Whereabouts::Here,
                Ok(place) => match self.open_server(&place).await {
                    Ok(_) => Whereabouts::Elsewhere,
                    Err(_) => Whereabouts::Unknown,
                },
            },
        }
    }

    /// Which server has which slot. Of a Redis Cluster only.
    pub(crate) async fn slots(&self) -> Result<SlotMap, LinkError> {
        slots::discover(self, &self.known).await
    }

    /// One server of the Redis Cluster, whatever it has.
    pub(crate) fn at(&self, place: &Place) -> Self {
        let to = To::One(place.address(self.keys.uses_tls));
        Self { address: to.to_string().into(), to: Arc::new(to), ..self.clone() }
    }

    /// Is it a Redis Cluster?
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(*self.to, To::Cluster(_))
    }

    /// The server that has the slot of all keys.
    async fn keeper(&self) -> Result<Place, LinkError> {
        let nobody = || LinkError::Refused(format!("no server of the redis cluster has slot {}", self.slot));
        self.slots().await?.master_of(self.slot).cloned().ok_or_else(nobody)
    }

    async fn reach_keys(&self, pushed: &Pushed) -> Result<Reached, LinkError> {
        let place = self.keeper().await?;
        self.open_if(&place, pushed, async |_| Ok(())).await
    }

    /// Connects to a server for one question.
    pub(super) async fn open_server(&self, place: &Place) -> Result<MultiplexedConnection, LinkError> {
        let nothing: Pushed = Arc::new(|_| {});
        self.open(place.address(self.keys.uses_tls), &self.keys.login, &nothing).await
    }

    /// Is it one address, at which nobody is asked for the way?
    pub(crate) fn is_one(&self) -> bool {
        matches!(*self.to, To::One(_))
    }

    /// Is the way asked for at sentinels?
    pub(crate) fn has_sentinels(&self) -> bool {
        matches!(*self.to, To::Sentinel { .. })
    }

    /// Connects to a sentinel.
    pub(super) async fn open_sentinel(&self, place: &Place) -> Result<MultiplexedConnection, LinkError> {
        let nothing: Pushed = Arc::new(|_| {});
        self.open(place.address(self.keys.uses_tls), &self.keys.sentinel_login, &nothing).await
    }

    /// Connects to a server, and keeps the connection if `accept` does: what a rejected one pushes reaches nobody.
    pub(super) async fn open_if(
        &self,
        place: &Place,
        pushed: &Pushed,
        accept: impl AsyncFnOnce(&MultiplexedConnection) -> Result<(), LinkError>,
    ) -> Result<Reached, LinkError> {
        let accepted = Arc::new(AtomicBool::new(true));
        let gate: Pushed = {
            let (accepted, pushed) = (Arc::clone(&accepted), Arc::clone(pushed));
            Arc::new(move |info| {
                if accepted.load(Ordering::Acquire) {
                    pushed(info);
                }
            })
        };
        let connection = self.open(place.address(self.keys.uses_tls), &self.keys.login, &gate).await?;
        match accept(&connection).await {
            Ok(()) => Ok(Reached { connection, server: place.to_string().into() }),
            Err(error) => {
                accepted.store(false, Ordering::Release);
                Err(error)
            }
        }
    }

    async fn open(
        &self,
        address: ConnectionAddr,
        login: &RedisConnectionInfo,
        pushed: &Pushed,
    ) -> Result<MultiplexedConnection, LinkError> {
        let client = self.keys.client(address, login).map_err(|error| LinkError::Refused(error.to_string()))?;
        let pushed = Arc::clone(pushed);
        let push = move |info: PushInfo| -> Result<(), SendError> {
            pushed(info);
            Ok(())
        };
        // The deadlines are ours: the client's own do not cover a call that waits for a place in its queue.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(None)
            .set_push_sender(push);
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        match tokio::time::timeout(self.connect_timeout, connection).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) if error.is_timeout() => Err(LinkError::TimedOut),
            Ok(Err(error)) if error.to_string().contains("peer certificate") => Err(LinkError::Untrusted(error.to_string())),
            Ok(Err(error)) if error.is_io_error() => Err(LinkError::Broken(error.to_string())),
            Ok(Err(error)) => Err(LinkError::Refused(error.to_string())),
            Err(_) => Err(LinkError::TimedOut),
        }
    }
}

impl Keys {
    /// A client of one server, with a socket that notices when the other end is gone.
    fn client(&self, address: ConnectionAddr, login: &RedisConnectionInfo) -> Result<Client, RedisError> {
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(5))
            .with_interval(Duration::from_secs(2))
            .with_retries(3);
        let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
        let info = address.into_connection_info()?.set_redis_settings(login.clone()).set_tcp_settings(tcp);
        match &self.tls {
            Some(certificates) if self.uses_tls => Client::build_with_tls(info, certificates.clone()),
            _ => Client::open(info),
        }
    }
}

/// Credentials above those of the URL, and RESP3 (pushes need it).
fn login(
    from_url: RedisConnectionInfo,
    username: &Option<String>,
    password_file: &Option<PathBuf>,
) -> Result<RedisConnectionInfo, TargetError> {
    // The library would tell its name: nobody asks for it, and it is one more permission.
    let mut login = from_url.set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
    if let Some(username) = username {
        login = login.set_username(username);
    }
    if let Some(path) = password_file {
        let text = std::fs::read_to_string(path).map_err(|error| file_error(path, error))?;
        let password = text.strip_suffix('\n').unwrap_or(&text);
        login = login.set_password(password.strip_suffix('\r').unwrap_or(password));
    }
    Ok(login)
}

/// Whom to believe and what to show, if the settings say either.
fn certificates(settings: &ClusterSettings) -> Result<Option<TlsCertificates>, TargetError> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| file_error(path, error));
    let root_cert = settings.ca_file.as_ref().map(read).transpose()?;
    if let (Some(path), Some(text)) = (&settings.ca_file, &root_cert)
        && CertificateDer::pem_slice_iter(text).next().is_none()
    {
        return Err(TargetError::NoCertificate { path: path.clone() });
    }
    let client_tls = match (&settings.cert_file, &settings.key_file) {
        (Some(cert), Some(key)) => Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
        _ => None,
    };
    let some = root_cert.is_some() || client_tls.is_some();
    Ok(some.then_some(TlsCertificates { client_tls, root_cert }))
}

fn file_error(path: &Path, error: std::io::Error) -> TargetError {
    TargetError::File { path: path.to_path_buf(), error }
}
