use std::io::{self, BufRead as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, Socket, Type};

use super::Dialogue;
use super::connection::{Connection, Phase, Shared};
use super::leaving;
use super::order::{Approach, Connect, Order, Reply, Shows};
use crate::wire::{Masker, Upgrade};
use crate::{Outcome, output, token};

/// Readiness of the channel from standard input; sockets are numbered from 0.
const ORDERS: Token = Token(usize::MAX - 1);

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 1_024;

/// What Linux says of a connection that is being made (`errno(3)`).
const EINPROGRESS: i32 = 115;

/// Bytes of the shared read buffer.
const READ_BUFFER: usize = 64 * 1024;

/// An order that comes no nearer to its goal for this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Follows orders until standard input ends.
///
/// # Errors
/// If the operating system refuses what an event loop needs.
pub(crate) fn run() -> Outcome<()> {
    let mut poll = Poll::new()?;
    // Kept here as well: a waker that goes takes its last wake-up with it.
    let waker = Arc::new(Waker::new(poll.registry(), ORDERS)?);
    let orders = read_orders(Arc::clone(&waker));
    let mut swarm = Swarm::new();
    let mut events = Events::with_capacity(EVENTS_MAX);
    loop {
        poll.poll(&mut events, Some(PATIENCE)).or_else(ignore_interrupt)?;
        for event in &events {
            if event.token() != ORDERS {
                swarm.handle(event.token().0, event.is_writable());
            }
        }
        if swarm.obey(&orders)? == Flow::End {
            return Ok(());
        }
        swarm.dial(&poll)?;
        swarm.watch_progress();
        swarm.answer_if_done()?;
    }
}

/// Starts a TCP connection from the address whose turn it is.
fn connect(wanted: &Connect, place: usize) -> Outcome<TcpStream> {
    let turn = place % usize::from(wanted.sources.max(1));
    if turn == 0 {
        return Ok(TcpStream::connect(wanted.server)?);
    }
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    let source = Ipv4Addr::new(127, 0, 0, 1 + u8::try_from(turn)?);
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    match socket.connect(&wanted.server.into()) {
        // It is on its way, as it should be; how it ends is seen when the socket can be written.
        Err(fault) if fault.raw_os_error() != Some(EINPROGRESS) => Err(fault.into()),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

fn ignore_interrupt(fault: io::Error) -> io::Result<()> {
    if fault.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(fault) }
}

/// Lines of standard input, each of which wakes the event loop.
fn read_orders(waker: Arc<Waker>) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let taken = sender.send(line).is_ok() && waker.wake().is_ok();
            if !taken {
                return;
            }
        }
        drop(sender);
        // The loop is gone already if this fails, and then nobody is left to be told.
        waker.wake().ok();
    });
    receiver
}

/// Whether there will be more orders.
#[derive(Debug, PartialEq, Eq)]
enum Flow {
    GoOn,
    End,
}

/// What the current order waits for.
enum Goal {
    /// Every socket that was asked for is ready.
    Connected,
    /// So many messages came in.
    Messages(u64),
}

struct Swarm {
    connections: Vec<Option<Connection>>,
    shared: Shared,
    wanted: Option<Connect>,
    /// Sockets of the current order that have not been started.
    to_dial: usize,
    /// Sockets that were started and are not ready.
    on_their_way: usize,
    goal: Option<Goal>,
    /// Sockets and messages so far, and since when that is the number.
    progress: (u64, Instant),
    reply: Reply,
}

impl Swarm {
    fn new() -> Self {
        let shared = Shared {
            approach: Approach::Tcp,
            masker: Masker::new(std::process::id()),
            buffer: vec![0; READ_BUFFER],
            messages: 0,
            ids: Vec::new(),
        };
        Self {
            connections: Vec::new(),
            shared,
            wanted: None,
            to_dial: 0,
            on_their_way: 0,
            goal: None,
            progress: (0, Instant::now()),
            reply: Reply::default(),
        }
    }

    /// Takes the orders that came in.
    fn obey(&mut self, orders: &Receiver<String>) -> Outcome<Flow> {
        loop {
            match orders.try_recv() {
                Ok(line) => self.begin(serde_json::from_str(&line)?)?,
                Err(TryRecvError::Empty) => return Ok(Flow::GoOn),
                Err(TryRecvError::Disconnected) => return Ok(Flow::End),
            }
        }
    }

    fn begin(&mut self, order: Order) -> Outcome<()> {
        self.progress.1 = Instant::now();
        match order {
            Order::Connect(connect) => {
                self.shared.approach = connect.approach.clone();
                self.to_dial = connect.sockets;
                self.wanted = Some(connect);
                self.goal = Some(Goal::Connected);
            }
            Order::Await { messages } => self.goal = Some(Goal::Messages(messages)),
            Order::Ids => output::line(&Reply { ids: self.shared.ids.clone(), ..self.reply.clone() })?,
            Order::Leave => self.leave()?,
        }
        Ok(())
    }

    /// Ends every socket and forgets it.
    fn leave(&mut self) -> Outcome<()> {
        let streams = self.connections.drain(..).flatten().map(|connection| connection.stream);
        leaving::end(streams, &mut self.shared.masker)?;
        self.shared.ids.clear();
        self.reply.ready = 0;
        output::line(&self.reply)
    }

    /// Starts as many sockets as may be on their way.
    fn dial(&mut self, poll: &Poll) -> Outcome<()> {
        let Some(wanted) = self.wanted.clone().filter(|_| self.to_dial > 0) else { return Ok(()) };
        while self.to_dial > 0 && self.on_their_way < wanted.concurrency {
            let place = self.connections.len();
            let mut connection = self.new_connection(&wanted, place)?;
            poll.registry().register(&mut connection.stream, Token(place), Interest::READABLE | Interest::WRITABLE)?;
            self.connections.push(Some(connection));
            self.to_dial -= 1;
            self.on_their_way += 1;
        }
        Ok(())
    }

    fn new_connection(&self, wanted: &Connect, place: usize) -> Outcome<Connection> {
        let (mut key, mut nonce) = ([0; 16], [0; 32]);
        getrandom::fill(&mut key)?;
        getrandom::fill(&mut nonce)?;
        let host = wanted.server.to_string();
        let request = match &wanted.approach {
            Approach::Tcp => Vec::new(),
            Approach::Upgrade { path } => {
                Upgrade { target: path, host: &host, origin: None, subprotocol: None, token: None, key }.encode()
            }
            Approach::Verified(verified) => {
                let token = token::mint(verified, place)?;
                let origin = Some(verified.origin.as_str());
                let subprotocol = Some("countersign.v1");
                Upgrade { target: &verified.path, host: &host, origin, subprotocol, token: Some(&token), key }.encode()
            }
        };
        let shows = match &wanted.approach {
            Approach::Verified(verified) => verified.shows,
            Approach::Tcp | Approach::Upgrade { .. } => Shows::Id,
        };
        Ok(Connection::new(connect(wanted, place)?, request, Dialogue::new(nonce, host, shows)))
    }

    /// Serves one socket's readiness.
    fn handle(&mut self, place: usize, writable: bool) {
        let Some(Some(connection)) = self.connections.get_mut(place) else { return };
        let before = connection.phase();
        let mut outcome = if writable && before == Phase::Dialing { connection.writable(&self.shared) } else { Ok(()) };
        if outcome.is_ok() && connection.phase() != Phase::Dialing {
            outcome = connection.readable(&mut self.shared);
        }
        self.account(place, before, outcome);
    }

    fn account(&mut self, place: usize, before: Phase, outcome: Result<(), String>) {
        let after = self.connections[place].as_ref().map(Connection::phase);
        if before != Phase::Ready && after == Some(Phase::Ready) {
            self.on_their_way -= 1;
            self.reply.ready += 1;
        }
        let Err(fault) = outcome else { return };
        self.connections[place] = None;
        self.reply.fault.get_or_insert(fault);
        if after == Some(Phase::Ready) {
            self.reply.ready -= 1;
            self.reply.lost += 1;
        } else {
            self.on_their_way -= 1;
            self.reply.failed += 1;
        }
    }

    /// Gives up what the current order waits for, if it came no nearer for too long.
    fn watch_progress(&mut self) {
        let Some(goal) = &self.goal else { return };
        let progress = self.shared.messages + (self.reply.ready + self.reply.failed) as u64;
        if progress != self.progress.0 || self.progress.1.elapsed() < PATIENCE {
            self.progress = if progress == self.progress.0 { self.progress } else { (progress, Instant::now()) };
            return;
        }
        let missing = match goal {
            Goal::Connected => format!("{} sockets are not ready", self.to_dial + self.on_their_way),
            Goal::Messages(messages) => format!("{} of {messages} messages came", self.shared.messages),
        };
        self.reply.fault.get_or_insert(format!("{missing}, and nothing more for {} s", PATIENCE.as_secs()));
    }

    fn answer_if_done(&mut self) -> Outcome<()> {
        let done = match self.goal {
            Some(_) if self.reply.lost > 0 || self.reply.fault.is_some() => true,
            Some(Goal::Connected) => self.to_dial == 0 && self.on_their_way == 0,
            Some(Goal::Messages(messages)) => self.shared.messages >= messages,
            None => false,
        };
        if done {
            self.goal = None;
            self.reply.messages = self.shared.messages;
            output::line(&self.reply)?;
        }
        Ok(())
    }
}
