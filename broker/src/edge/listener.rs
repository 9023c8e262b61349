use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_http::body::MessageBody;
use actix_http::error::DispatchError;
use actix_http::{HttpServiceBuilder, Request, Response};
use actix_server::Server;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::AppConfig;
use futures_util::FutureExt as _;
use socket2::{Domain, Protocol, SockRef, Type};
use tokio::net::TcpStream;

use super::upgraded::SharedApp;
use super::{Socket, Tls};

/// Connections that wait to be accepted; the kernel caps it by its own setting.
const BACKLOG: u16 = 4_096;
/// A peer that acknowledges nothing for this long is gone: the last net under every other deadline.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two requests on one connection.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Between the end of a response that closes the connection and the end of the connection.
pub(super) const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Write buffer of one connection; what is above it stays in the queues that are bounded.
const WRITE_BUFFER_BYTES: usize = 8 * 1024;
/// Worker threads that the accept loop can serve.
const WORKERS_MAX: usize = 512;

/// A server to be: one socket and how it is served.
pub struct ListenerSpec {
    /// A bound socket, from [`bind`].
    pub listener: TcpListener,
    /// Worker threads; 0 means one per core.
    pub workers: usize,
    /// When a worker holds so many connections it accepts no more, and new ones wait: admission must refuse below it.
    pub connections_per_worker_max: usize,
    /// TLS, if it is spoken.
    pub tls: Option<Tls>,
    /// From the first byte of a request to the end of its head; then 408.
    pub request_head_timeout: Duration,
    /// Longest time without an answer on a connection that is no WebSocket; it must be longer than any answer takes. Above
    /// the time between two requests, which ends idle connections in good order.
    pub quiet_max: Duration,
    /// How long a graceful stop waits for connections, in whole seconds, rounded up.
    pub shutdown_timeout: Duration,
    /// Kernel send buffer per socket; none leaves it to the system, which grows it to megabytes.
    pub send_buffer_bytes: Option<usize>,
}

/// Binds a listening socket. Port 0 lets the system choose.
///
/// # Errors
/// If the address is taken or not ours.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A node that restarts must get its port back while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Starts a server for the apps that `app` makes, one on each worker thread.
///
/// It is the accept loop of actix-web's own `HttpServer` with two differences: each connection is a [`Socket`], whose
/// [`SocketControl`](super::SocketControl) a handler gets by `request.conn_data()`; and a socket that asks to become a
/// WebSocket leaves the HTTP dispatcher and its buffers (see `upgraded`). HTTP/1.1 only, no signal handlers.
/// The server runs when it is polled or not; its handle stops it.
///
/// # Errors
/// If the socket cannot be put to use.
pub fn serve<F, I, S, B>(spec: ListenerSpec, app: F) -> io::Result<Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Future: 'static,
    S::Service: 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let ListenerSpec { listener, workers, tls, send_buffer_bytes, request_head_timeout, quiet_max, .. } = spec;
    let local = listener.local_addr()?;
    let seconds = spec.shutdown_timeout.as_millis().div_ceil(1_000);
    let builder = Server::build()
        .workers(worker_count(workers))
        .backlog(BACKLOG.into())
        .max_concurrent_connections(spec.connections_per_worker_max)
        .shutdown_timeout(u64::try_from(seconds).unwrap_or(u64::MAX))
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let builder = builder.listen("http", listener, move || {
        let app = app().into_factory().map_err(|error| error.into().error_response());
        let app = SharedApp::new(map_config(app, |()| AppConfig::default()));
        let (tls, stopping) = (tls.clone(), stopping.clone());
        let http = HttpServiceBuilder::default()
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(request_head_timeout)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .h1_allow_half_closed(false)
            .h1_write_buffer_size(WRITE_BUFFER_BYTES)
            .local_addr(local)
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .on_connect_ext(|socket: &Socket, data| {
                data.insert(socket.control().clone());
            })
            .upgrade(app.for_upgrades())
            .h1(app);
        fn_service(move |tcp| prepare(tcp, send_buffer_bytes, quiet_max, tls.clone()).boxed_local()).and_then(http)
    })?;
    Ok(builder.run())
}

/// Worker threads for a setting of which 0 means one per core.
#[must_use]
pub fn worker_count(setting: usize) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    (if setting == 0 { cores() } else { setting }).min(WORKERS_MAX)
}

/// Sets the socket's options and does the TLS handshake, in the connection's own task: a slow one holds up no other.
async fn prepare(
    tcp: TcpStream,
    send_buffer_bytes: Option<usize>,
    quiet_max: Duration,
    tls: Option<Tls>,
) -> Result<(Socket, Option<SocketAddr>), DispatchError> {
    let peer = tcp.peer_addr().ok();
    // Each is worth having and none worth refusing a connection for: a peer that has left already makes them fail.
    let _ = tcp.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(&tcp).set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
    if let Some(bytes) = send_buffer_bytes {
        let _ = SockRef::from(&tcp).set_send_buffer_size(bytes);
    }
    let socket = match tls {
        None => Socket::plain(tcp),
        Some(tls) => Socket::tls(tls.accept(tcp).await?),
    };
    Ok((socket.quiet_for(quiet_max), peer))
}

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
