//! The way from one node to Redis: it can be blocked and made slow, without either end being told.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc as queue, watch};
use tokio::time::Instant;

/// How a way is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    /// Nothing arrives, in either direction; what was sent arrives when this ends, as TCP repeats it.
    blocked: bool,
    /// What Redis says arrives this much later.
    answer_delay: Duration,
}

/// A TCP proxy on a thread of its own, so that a test that computes does not slow it down.
#[derive(Debug)]
pub struct Way {
    address: SocketAddr,
    state: Arc<watch::Sender<State>>,
}

impl Way {
    /// An open way to `target`.
    ///
    /// # Panics
    /// If it cannot be opened.
    #[must_use]
    pub fn to(target: SocketAddr) -> Self {
        let state = Arc::new(watch::Sender::new(State::default()));
        let (sender, receiver) = mpsc::channel();
        let on_thread = Arc::downgrade(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                sender.send(listener.local_addr().expect("an address")).expect("somebody waits");
                let Some(mut ended) = on_thread.upgrade().map(|state| state.subscribe()) else { return };
                let accepting = async {
                    while let Ok((client, _)) = listener.accept().await {
                        if let Some(state) = on_thread.upgrade() {
                            tokio::spawn(carry(client, target, state.subscribe()));
                        }
                    }
                };
                tokio::select! {
                    () = accepting => {}
                    () = async { while ended.changed().await.is_ok() {} } => {}
                }
            });
        });
        Self { address: receiver.recv().expect("the way opens"), state }
    }

    /// Where it begins.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing arrives, and nobody is told.
    pub fn block(&self) {
        self.state.send_modify(|state| state.blocked = true);
    }

    /// What was sent arrives, and what will be.
    pub fn unblock(&self) {
        self.state.send_modify(|state| state.blocked = false);
    }

    /// What Redis says takes this much longer from now on.
    pub fn delay_answers(&self, by: Duration) {
        self.state.send_modify(|state| state.answer_delay = by);
    }
}

/// Carries one connection until either end closes.
async fn carry(client: TcpStream, target: SocketAddr, state: watch::Receiver<State>) {
    if !open(&mut state.clone()).await {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    // They fail only on a socket that is gone.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = flow(from_client, to_server, state.clone(), |_| Duration::ZERO) => {}
        () = flow(from_server, to_client, state, |state| state.answer_delay) => {}
    }
}

/// Carries one direction: everything in order, each piece when its time has come and the way is open.
async fn flow(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    delay: impl Fn(&State) -> Duration,
) {
    let (sender, mut pieces) = queue::unbounded_channel::<(Instant, Vec<u8>)>();
    let mut seen = state.clone();
    let reading = async move {
        let mut buffer = vec![0; 65_536];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + delay(&seen.borrow_and_update());
            if sender.send((due, buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = pieces.recv().await {
            tokio::time::sleep_until(due).await;
            if !open(&mut state).await || to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}

/// Waits until the way is open; false if it is no more.
async fn open(state: &mut watch::Receiver<State>) -> bool {
    state.wait_for(|state| !state.blocked).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sent_over_a_blocked_way_arrives_when_it_opens() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let way = Way::to(listener.local_addr().unwrap());
        let mut client = TcpStream::connect(way.address()).await.unwrap();
        client.write_all(b"a").await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'a');
        way.block();
        client.write_all(b"b").await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(100), server.read_u8()).await;
        assert!(early.is_err(), "nothing arrives");
        way.unblock();
        assert_eq!(server.read_u8().await.unwrap(), b'b');
        way.delay_answers(Duration::from_millis(200));
        let asked = Instant::now();
        server.write_all(b"c").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'c');
        assert!(asked.elapsed() >= Duration::from_millis(150), "{:?}", asked.elapsed());
    }
}
