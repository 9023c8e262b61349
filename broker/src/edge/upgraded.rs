//! Sockets that ask to become WebSockets: they leave the HTTP dispatcher before the application has answered.
//!
//! The dispatcher keeps a read and a write buffer of 8 KiB for the life of a connection and copies every byte through
//! both. Here a socket has no buffer of its own: what it reads goes through one buffer of its thread, and the slices that
//! the answer's body yields are written as they are. The application, its routes and its handlers are the same.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};

use actix_codec::{Encoder as _, Framed};
use actix_http::body::{BodySize, BoxBody, MessageBody, to_bytes};
use actix_http::error::PayloadError;
use actix_http::h1::{Codec, Message};
use actix_http::header::CONTENT_LENGTH;
use actix_http::{ConnectionType, HttpMessage as _, Method, Payload, Request, Response, StatusCode};
use actix_service::{Service, ServiceFactory};
use bytes::{Buf as _, Bytes, BytesMut};
use futures_core::Stream;
use futures_core::future::LocalBoxFuture;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::sync::OnceCell;

use super::Socket;
use super::listener::DISCONNECT_TIMEOUT;

/// Bytes that a thread reads at once.
const READ_BUFFER_BYTES: usize = 16 * 1024;
/// Bytes that one socket may read before others get their turn. The parser behind it reads until there is nothing more.
const READ_TURN_BYTES: usize = 64 * 1024;

thread_local! {
    /// Read into by all sockets of this thread in turn; none keeps what is in it.
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BUFFER_BYTES].into_boxed_slice());
}

/// The way to a socket around its task, for whoever is on its thread and has whole frames for it.
///
/// A task that is woken to write polls its actor and its stream first, all of it cold memory when thousands are woken.
pub trait DirectWrite {
    /// Writes at once. How many bytes the kernel took: none while the socket's own task is in the middle of a slice.
    fn write(&self, bytes: &[u8]) -> usize;
}

/// A handler of an upgraded socket finds this in its request's extensions. It keeps no socket alive.
#[derive(Clone)]
pub struct DirectWriter(Weak<dyn DirectWrite>);

impl DirectWriter {
    /// The way, while the socket lives.
    #[must_use]
    pub fn get(&self) -> Option<Rc<dyn DirectWrite>> {
        self.0.upgrade()
    }
}

impl<T: DirectWrite + 'static> From<&Rc<T>> for DirectWriter {
    fn from(socket: &Rc<T>) -> Self {
        let weak: Weak<T> = Rc::downgrade(socket);
        Self(weak)
    }
}

/// An upgraded socket.
struct Carrier {
    socket: RefCell<Socket>,
    /// The task has written a part of a slice, or has not begun: what is written around it would stand in the wrong place.
    is_busy: Cell<bool>,
}

impl DirectWrite for Carrier {
    fn write(&self, bytes: &[u8]) -> usize {
        if self.is_busy.get() { 0 } else { self.socket.borrow().write_now(bytes) }
    }
}

/// An application that answers both the dispatcher and upgraded sockets: it is made once for both.
pub(super) struct SharedApp<F: ServiceFactory<Request, Config = ()>> {
    factory: Rc<F>,
    made: Rc<OnceCell<Rc<F::Service>>>,
}

/// The same application, for sockets that leave the dispatcher.
pub(super) struct AppForUpgrades<F: ServiceFactory<Request, Config = ()>, B> {
    app: SharedApp<F>,
    body: PhantomData<B>,
}

/// One application, in several hands.
pub(super) struct Shared<S>(Rc<S>);

/// Answers the requests of sockets that leave the dispatcher.
pub(super) struct Upgrades<S, B> {
    app: Rc<S>,
    body: PhantomData<B>,
}

impl<F: ServiceFactory<Request, Config = ()>> SharedApp<F> {
    /// Shares what `factory` will make.
    pub(super) fn new(factory: F) -> Self {
        Self { factory: Rc::new(factory), made: Rc::default() }
    }

    /// The same, for sockets that leave the dispatcher.
    pub(super) fn for_upgrades<B>(&self) -> AppForUpgrades<F, B> {
        AppForUpgrades { app: self.clone(), body: PhantomData }
    }

    async fn make(self) -> Result<Rc<F::Service>, F::InitError> {
        self.made.get_or_try_init(async || self.factory.new_service(()).await.map(Rc::new)).await.cloned()
    }
}

impl<F: ServiceFactory<Request, Config = ()>> Clone for SharedApp<F> {
    fn clone(&self) -> Self {
        Self { factory: Rc::clone(&self.factory), made: Rc::clone(&self.made) }
    }
}

impl<F> ServiceFactory<Request> for SharedApp<F>
where
    F: ServiceFactory<Request, Config = ()> + 'static,
{
    type Response = F::Response;
    type Error = F::Error;
    type Config = ();
    type Service = Shared<F::Service>;
    type InitError = F::InitError;
    type Future = LocalBoxFuture<'static, Result<Self::Service, Self::InitError>>;

    fn new_service(&self, (): ()) -> Self::Future {
        let app = self.clone();
        Box::pin(async move { app.make().await.map(Shared) })
    }
}

impl<F, B> ServiceFactory<(Request, Framed<Socket, Codec>)> for AppForUpgrades<F, B>
where
    F: ServiceFactory<Request, Config = ()> + 'static,
    F::Response: Into<Response<B>>,
    F::Service: 'static,
    F::Error: Into<Response<BoxBody>>,
    B: MessageBody + 'static,
{
    type Response = ();
    type Error = actix_web::Error;
    type Config = ();
    type Service = Upgrades<F::Service, B>;
    type InitError = F::InitError;
    type Future = LocalBoxFuture<'static, Result<Self::Service, Self::InitError>>;

    fn new_service(&self, (): ()) -> Self::Future {
        let app = self.app.clone();
        Box::pin(async move { app.make().await.map(|app| Upgrades { app, body: PhantomData }) })
    }
}

impl<S: Service<Request>> Service<Request> for Shared<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&self, request: Request) -> S::Future {
        self.0.call(request)
    }
}

impl<S, B> Service<(Request, Framed<Socket, Codec>)> for Upgrades<S, B>
where
    S: Service<Request> + 'static,
    S::Response: Into<Response<B>>,
    S::Error: Into<Response<BoxBody>>,
    B: MessageBody + 'static,
{
    type Response = ();
    /// Never returned: a socket that breaks is no fault of the server's.
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<(), actix_web::Error>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // The dispatcher asks the application itself, which is the same.
        Poll::Ready(Ok(()))
    }

    fn call(&self, (request, framed): (Request, Framed<Socket, Codec>)) -> Self::Future {
        let app = Rc::clone(&self.app);
        Box::pin(async move {
            // A broken socket drops the answer's body, and that is how its actor learns of it.
            let _ = answer(&*app, request, framed).await;
            Ok(())
        })
    }
}

/// Has the application answer a request, and carries its answer until it ends.
async fn answer<S, B>(app: &S, request: Request, framed: Framed<Socket, Codec>) -> io::Result<()>
where
    S: Service<Request>,
    S::Response: Into<Response<B>>,
    S::Error: Into<Response<BoxBody>>,
    B: MessageBody,
{
    let parts = framed.into_parts();
    let (mut codec, mut head) = (parts.codec, parts.write_buf);
    let socket = Rc::new(Carrier { socket: RefCell::new(parts.io), is_busy: Cell::new(true) });
    // Copied: what the client sent early is a few bytes in a buffer of 8 KiB.
    let left = Left::of(&request);
    let inbound =
        InboundBytes { socket: Rc::clone(&socket), early: Bytes::copy_from_slice(&parts.read_buf), left, turn_bytes: 0 };
    drop(parts.read_buf);
    request.extensions_mut().insert(DirectWriter::from(&socket));
    let (request, _) = request.replace_payload(Payload::Stream { payload: Box::pin(inbound) as Pin<Box<_>> });
    match app.call(request).await {
        Ok(response) => respond(&socket, &mut codec, &mut head, response.into()).await?,
        Err(error) => respond(&socket, &mut codec, &mut head, error.into()).await?,
    }
    farewell(&socket).await;
    Ok(())
}

/// Writes head and body. Whatever is not the switch of protocols is the last answer on this socket.
async fn respond<B: MessageBody>(
    socket: &Carrier,
    codec: &mut Codec,
    head: &mut BytesMut,
    response: Response<B>,
) -> io::Result<()> {
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let (mut response, body) = response.into_parts();
    if !switched {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    let size = body.size();
    codec.encode(Message::Item((response, size)), head)?;
    if switched {
        return carry(socket, std::mem::take(head).freeze(), body).await;
    }
    // Head and body leave together: a client that reads once must see why it was refused. Refusals are short.
    let body = to_bytes(body).await.map_err(|_| io::ErrorKind::Other)?;
    if size != BodySize::None {
        codec.encode(Message::Chunk(Some(body)), head)?;
        codec.encode(Message::Chunk(None), head)?;
    }
    carry(socket, std::mem::take(head).freeze(), ()).await
}

/// Writes `first`, then what the body yields, each slice as it is. While the socket takes nothing, the body is not polled.
async fn carry<B: MessageBody>(socket: &Carrier, first: Bytes, body: B) -> io::Result<()> {
    let mut body = pin!(body);
    let mut slice = first;
    poll_fn(|cx| {
        socket.is_busy.set(true);
        loop {
            while !slice.is_empty() {
                match ready!(Pin::new(&mut *socket.socket.borrow_mut()).poll_write(cx, &slice))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => slice.advance(written),
                }
            }
            match body.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(bytes))) => slice = bytes,
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(io::ErrorKind::Other.into())),
                Poll::Ready(None) => return Pin::new(&mut *socket.socket.borrow_mut()).poll_flush(cx),
                Poll::Pending => {
                    ready!(Pin::new(&mut *socket.socket.borrow_mut()).poll_flush(cx))?;
                    socket.is_busy.set(false);
                    return Poll::Pending;
                }
            }
        }
    })
    .await
}

/// Ends our half, and reads what still comes for a while: unread bytes would turn the end into a reset, and the client
/// might lose what was sent last.
async fn farewell(socket: &Carrier) {
    let leave = async {
        poll_fn(|cx| Pin::new(&mut *socket.socket.borrow_mut()).poll_shutdown(cx)).await?;
        poll_fn(|cx| {
            loop {
                if ready!(poll_read(socket, cx, |bytes| bytes.len()))? == 0 {
                    return Poll::Ready(io::Result::Ok(()));
                }
            }
        })
        .await
    };
    // The client has gone, or it had its time.
    let _ = tokio::time::timeout(DISCONNECT_TIMEOUT, leave).await;
}

/// Reads into the thread's buffer; `take` sees what came, nothing at the end.
fn poll_read<T>(socket: &Carrier, cx: &mut Context<'_>, take: impl FnOnce(&[u8]) -> T) -> Poll<io::Result<T>> {
    READ_BUFFER.with_borrow_mut(|buffer| {
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(&mut *socket.socket.borrow_mut()).poll_read(cx, &mut read))?;
        Poll::Ready(Ok(take(read.filled())))
    })
}

/// What the client sends, read when it is asked for.
struct InboundBytes {
    socket: Rc<Carrier>,
    /// What came with the request.
    early: Bytes,
    left: Left,
    /// Read since this socket last had nothing to read, or gave way.
    turn_bytes: usize,
}

/// What may still come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Whatever the client sends until it ends.
    Stream,
    /// So many bytes of a body.
    Body(u64),
}

impl Left {
    /// Of a request that asked for the upgrade. Only GET opens a WebSocket; of every other method the server goes on as if it had not
    /// been asked, and then `Content-Length` tells the body's end. Chunked bodies stay with the dispatcher.
    ///
    /// Source: RFC 6455, section 4.1; RFC 9110, section 7.8; RFC 9112, section 6.3.
    fn of(request: &Request) -> Self {
        if request.method() == Method::GET {
            return Self::Stream;
        }
        let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        // The dispatcher has refused one that is no number.
        Self::Body(length.unwrap_or_default())
    }

    /// As much of these bytes as is part of it.
    fn take(&mut self, bytes: Bytes) -> Bytes {
        let Self::Body(left) = self else { return bytes };
        let len = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
        *left -= len as u64;
        bytes.slice(..len)
    }
}

impl Stream for InboundBytes {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == Left::Body(0) {
            return Poll::Ready(None);
        }
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            return Poll::Ready(Some(Ok(self.left.take(early))));
        }
        if self.turn_bytes >= READ_TURN_BYTES {
            self.turn_bytes = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match poll_read(&self.socket, cx, Bytes::copy_from_slice) {
            Poll::Ready(Ok(bytes)) if bytes.is_empty() => Poll::Ready(match self.left {
                Left::Stream => None,
                Left::Body(_) => Some(Err(PayloadError::Incomplete(None))),
            }),
            Poll::Ready(Ok(bytes)) => {
                self.turn_bytes += bytes.len();
                Poll::Ready(Some(Ok(self.left.take(bytes))))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(PayloadError::Io(error)))),
            Poll::Pending => {
                self.turn_bytes = 0;
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
#[path = "upgraded_tests.rs"]
mod tests;
