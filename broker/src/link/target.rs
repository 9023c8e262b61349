use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_node_proto::PrefixError;
use redis::aio::{MultiplexedConnection, SendError};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion, PushInfo,
    RedisError, TlsCertificates,
};

use super::LinkError;
use crate::config::ClusterSettings;

/// Why a target cannot be made of the settings. Configuration checks show these before a node starts.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The settings name no Redis.
    #[error("cluster.redis is not set")]
    Unset,
    /// The URL, or its TLS.
    #[error("cluster.redis cannot be used: {0}")]
    Url(#[from] RedisError),
    /// The prefix.
    #[error("cluster.prefix cannot be used: {0}")]
    Prefix(#[from] PrefixError),
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
    client: Client,
    address: String,
    /// Longest wait for a connection, greeting included.
    pub(crate) connect_timeout: Duration,
    /// Longest wait for an answer.
    pub(crate) command_timeout: Duration,
}

impl RedisTarget {
    /// Reads the settings and the files that they name. Connects to nothing.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn new(settings: &ClusterSettings) -> Result<Self, TargetError> {
        let url = settings.redis.as_ref().ok_or(TargetError::Unset)?;
        let info = connection_info(&url.0, settings)?;
        let address = shown(info.addr());
        let client = match &settings.ca_file {
            Some(path) => {
                let root_cert = Some(std::fs::read(path).map_err(|error| file_error(path, error))?);
                Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })?
            }
            None => Client::open(info)?,
        };
        let connect_timeout = settings.connect_timeout_ms.duration();
        Ok(Self { client, address, connect_timeout, command_timeout: settings.command_timeout_ms.duration() })
    }

    /// Host and port, for people: no user, no password.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Connects once. `pushed` gets what comes unasked, the end of the connection included; it must not block.
    pub(crate) async fn connect(
        &self,
        pushed: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection, LinkError> {
        let push = move |info: PushInfo| -> Result<(), SendError> {
            pushed(info);
            Ok(())
        };
        // The deadlines are ours: the client's own do not cover a call that waits for a place in its queue.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(None)
            .set_push_sender(push);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config);
        match tokio::time::timeout(self.connect_timeout, connection).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) if error.is_timeout() => Err(LinkError::TimedOut),
            Ok(Err(error)) if error.is_io_error() => Err(LinkError::Broken(error.to_string())),
            Ok(Err(error)) => Err(LinkError::Refused(error.to_string())),
            Err(_) => Err(LinkError::TimedOut),
        }
    }
}

/// Everything but timeouts: address, credentials, RESP3 (pushes need it), and a socket that notices when the other end is gone.
fn connection_info(url: &str, settings: &ClusterSettings) -> Result<ConnectionInfo, TargetError> {
    let info = url.into_connection_info()?;
    // The library would tell its name: nobody asks for it, and it is one more permission.
    let mut redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
    if let Some(username) = &settings.username {
        redis = redis.set_username(username);
    }
    if let Some(path) = &settings.password_file {
        let text = std::fs::read_to_string(path).map_err(|error| file_error(path, error))?;
        let password = text.strip_suffix('\n').unwrap_or(&text);
        redis = redis.set_password(password.strip_suffix('\r').unwrap_or(password));
    }
    let keepalive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(2)).with_retries(3);
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    Ok(info.set_redis_settings(redis).set_tcp_settings(tcp))
}

fn shown(address: &ConnectionAddr) -> String {
    match address {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}"),
        ConnectionAddr::Unix(path) => path.display().to_string(),
        _ => "redis".to_owned(),
    }
}

fn file_error(path: &Path, error: std::io::Error) -> TargetError {
    TargetError::File { path: path.to_path_buf(), error }
}
