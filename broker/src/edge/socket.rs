use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;

/// Somebody asked for the end of this socket.
const CUT: u8 = 1;
/// The socket is dropped: its descriptor is free.
const GONE: u8 = 2;
/// What is written now is the last.
const FINISHING: u8 = 4;
/// The connection is a WebSocket from here on.
const UPGRADED: u8 = 8;

/// A kill switch for one socket, usable from any thread.
///
/// While a client does not read, its task waits for the kernel: neither its actor nor a timer in it runs. So the switch
/// works on the socket itself. It costs no second descriptor, and no descriptor is ever touched after its reuse, since
/// only the socket's own task acts.
#[derive(Clone, Default)]
pub struct SocketControl(Arc<Switch>);

#[derive(Default)]
struct Switch {
    flags: AtomicU8,
    written_bytes: AtomicU64,
    waker: AtomicWaker,
}

impl SocketControl {
    /// Ends the socket without a closing handshake: its task is woken, fails with a reset, and drops it with a linger
    /// time of zero, so that nothing stays behind in the kernel. Doing so twice, or after the end, is harmless.
    pub fn cut(&self) {
        self.0.flags.fetch_or(CUT, Ordering::AcqRel);
        self.0.waker.wake();
    }

    /// Ends the outbound half as soon as everything written so far is flushed, while the inbound half is still read.
    ///
    /// The dispatcher reads on for a while after a closing handshake, lest unread bytes turn the end into a reset, and
    /// ends its half only then. Browsers wait for that end before they tell the page: it must not wait for theirs.
    /// Call it from the socket's own task, before the last flush.
    pub fn finish(&self) {
        self.0.flags.fetch_or(FINISHING, Ordering::AcqRel);
    }

    /// The connection is a WebSocket from here on: others see to its deadlines.
    pub fn upgraded(&self) {
        self.0.flags.fetch_or(UPGRADED, Ordering::AcqRel);
    }

    /// [`SocketControl::cut`] was called.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.0.flags.load(Ordering::Acquire) & CUT != 0
    }

    /// The socket is dropped.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.0.flags.load(Ordering::Acquire) & GONE != 0
    }

    /// The socket is being dropped.
    pub(crate) fn mark_gone(&self) {
        self.0.flags.fetch_or(GONE, Ordering::AcqRel);
    }

    /// Bytes that the kernel took so far, TLS records not counted.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.0.written_bytes.load(Ordering::Relaxed)
    }

    /// Passes an outcome on, unless the socket was cut; a task that waits is then woken by the cut.
    fn pass<T>(&self, cx: &Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_pending() {
            self.0.waker.register(cx.waker());
        }
        // After registering: a cut between the two would otherwise wake nobody.
        if self.is_cut() { Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())) } else { outcome }
    }
}

impl fmt::Debug for SocketControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketControl").field("cut", &self.is_cut()).field("gone", &self.is_gone()).finish()
    }
}

/// An accepted connection: TCP, or TLS over TCP, that obeys a [`SocketControl`].
pub struct Socket {
    stream: Stream,
    control: SocketControl,
    outbound_ended: bool,
    /// Until the connection is a WebSocket.
    quiet: Option<Quiet>,
}

/// Ends a connection on which the node has answered nothing for too long.
///
/// The server bounds the head of a connection's first request only: a later head, or a body that nobody reads, could stay
/// incomplete for ever.
struct Quiet {
    longest: Duration,
    answered_at: Instant,
    /// Runs out at the earliest when it is time, and is set again where an answer came meanwhile.
    timer: Pin<Box<Sleep>>,
}

impl Quiet {
    /// Is it time? If not, the task of `cx` is woken then.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        while self.timer.as_mut().poll(cx).is_ready() {
            let end = self.answered_at + self.longest;
            if Instant::now() >= end {
                return true;
            }
            self.timer.as_mut().reset(end);
        }
        false
    }
}

/// TLS state is some kilobytes: boxed, so that plain sockets do not carry it.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// A plain connection.
    #[must_use]
    pub fn plain(stream: TcpStream) -> Self {
        Self { stream: Stream::Plain(stream), control: SocketControl::default(), outbound_ended: false, quiet: None }
    }

    /// A connection whose TLS handshake is done.
    #[must_use]
    pub fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self { stream: Stream::Tls(Box::new(stream)), control: SocketControl::default(), outbound_ended: false, quiet: None }
    }

    /// Ends it when nothing was written for this long, unless it is a WebSocket by then.
    #[must_use]
    pub fn quiet_for(mut self, longest: Duration) -> Self {
        let timer = Box::pin(tokio::time::sleep(longest));
        self.quiet = Some(Quiet { longest, answered_at: Instant::now(), timer });
        self
    }

    /// Its kill switch.
    #[must_use]
    pub fn control(&self) -> &SocketControl {
        &self.control
    }

    /// The other end's address.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.tcp().peer_addr().ok()
    }

    /// Has it been too long since the node's last answer?
    fn is_quiet_too_long(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(quiet) = &mut self.quiet else { return false };
        if self.control.0.flags.load(Ordering::Acquire) & UPGRADED != 0 {
            self.quiet = None;
            return false;
        }
        quiet.is_over(cx)
    }

    /// Writes at once as much as the kernel takes: nothing if it takes nothing, or if this cannot be told without waiting.
    ///
    /// No task is woken later. What fails here fails again, with its reason, when the socket's task writes.
    pub(super) fn write_now(&self, bytes: &[u8]) -> usize {
        let Stream::Plain(tcp) = &self.stream else { return 0 };
        if self.control.is_cut() {
            return 0;
        }
        let written = tcp.try_write(bytes).unwrap_or(0);
        self.control.0.written_bytes.fetch_add(written as u64, Ordering::Relaxed);
        written
    }

    /// The TCP socket beneath.
    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.control.is_cut() {
            // Otherwise megabytes for a client that does not read stay in the kernel. If it fails, they do.
            let _ = SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO));
        }
        self.control.mark_gone();
    }
}

/// Polls the stream within, whichever it is.
macro_rules! poll_stream {
    ($socket:expr, $method:ident($($argument:expr),*)) => {
        match &mut $socket.stream {
            Stream::Plain(tcp) => Pin::new(tcp).$method($($argument),*),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_quiet_too_long(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let outcome = poll_stream!(self, poll_read(cx, buf));
        self.control.pass(cx, outcome)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = poll_stream!(self, poll_write(cx, buf));
        if let Poll::Ready(Ok(written)) = outcome {
            self.control.0.written_bytes.fetch_add(written as u64, Ordering::Relaxed);
            if let Some(quiet) = &mut self.quiet {
                quiet.answered_at = Instant::now();
            }
        }
        self.control.pass(cx, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = poll_stream!(self, poll_flush(cx));
        if self.control.0.flags.load(Ordering::Acquire) & FINISHING == 0 || !matches!(flushed, Poll::Ready(Ok(()))) {
            return self.control.pass(cx, flushed);
        }
        self.poll_shutdown(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outbound_ended {
            return self.control.pass(cx, Poll::Ready(Ok(())));
        }
        let outcome = poll_stream!(self, poll_shutdown(cx));
        self.outbound_ended = matches!(outcome, Poll::Ready(Ok(())));
        self.control.pass(cx, outcome)
    }
}
