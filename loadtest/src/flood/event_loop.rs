use std::io::{self, BufRead as _};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::attacker::{Attacker, Kit};
use super::{Ends, FloodOrder, bound};
use crate::wire::{Masker, Upgrade};
use crate::{Outcome, output, token};

/// Sockets opened between two looks at the others: a flood comes in waves, not in one block.
const DIALS_AT_ONCE: usize = 64;
/// What Linux says of a connection that is being made (`errno(3)`).
const EINPROGRESS: i32 = 115;
const EVENTS_MAX: usize = 1_024;
const READ_BUFFER: usize = 64 * 1024;
/// Longest wait for anything: the time may be over.
const LOOK_MAX: Duration = Duration::from_millis(20);

/// Follows orders until standard input ends.
///
/// # Errors
/// If the operating system refuses what an event loop needs.
pub(crate) fn run() -> Outcome<()> {
    for line in io::stdin().lock().lines() {
        let order: FloodOrder = serde_json::from_str(&line?)?;
        output::line(&Flood::new(&order)?.rage(&order)?)?;
    }
    Ok(())
}

/// One order under way.
struct Flood {
    poll: Poll,
    attackers: Vec<Option<Attacker>>,
    /// Places without a socket.
    free: Vec<usize>,
    /// Sockets so far.
    opened: usize,
    kit: Kit,
    ends: Ends,
}

impl Flood {
    fn new(order: &FloodOrder) -> Outcome<Self> {
        let (verified, host) = (&order.verified, order.server.to_string());
        // One token for all: what tokens cost is not what a flood is about.
        let token = token::mint(verified, usize::from(order.networks.0))?;
        let upgrade = Upgrade {
            target: &verified.path,
            host: &host,
            origin: Some(&verified.origin),
            subprotocol: Some("countersign.v1"),
            token: Some(&token),
            key: [7; 16],
        };
        let kit = Kit {
            attack: order.attack,
            request: upgrade.encode(),
            origin: verified.origin.clone(),
            masker: Masker::new(std::process::id()),
            buffer: vec![0; READ_BUFFER],
        };
        let attackers = (0..order.sockets).map(|_| None).collect();
        let free = (0..order.sockets).rev().collect();
        Ok(Self { poll: Poll::new()?, attackers, free, opened: 0, kit, ends: Ends::new() })
    }

    /// Keeps all places taken until the time is over.
    fn rage(mut self, order: &FloodOrder) -> Outcome<Ends> {
        let started = Instant::now();
        let mut events = Events::with_capacity(EVENTS_MAX);
        while started.elapsed().as_secs_f64() < order.seconds {
            for _ in 0..DIALS_AT_ONCE {
                let Some(place) = self.free.pop() else { break };
                self.dial(order, place)?;
            }
            let wait = if self.free.is_empty() { LOOK_MAX } else { Duration::ZERO };
            self.poll.poll(&mut events, Some(wait)).or_else(ignore_interrupt)?;
            for event in &events {
                self.turn(event.token().0);
            }
        }
        let open = self.attackers.iter().flatten().count();
        self.count("open at the end", open as u64);
        Ok(self.ends)
    }

    fn dial(&mut self, order: &FloodOrder, place: usize) -> Outcome<()> {
        let (first, networks) = order.networks;
        let network = first + u8::try_from(self.opened % usize::from(networks.max(1)))?;
        let socket = bound(Ipv4Addr::new(127, 0, network, 1))?;
        socket.set_nonblocking(true)?;
        match socket.connect(&order.server.into()) {
            Err(fault) if fault.raw_os_error() != Some(EINPROGRESS) => {
                self.count("not connected", 1);
                self.free.insert(0, place);
                return Ok(());
            }
            _ => {}
        }
        let mut stream = TcpStream::from_std(socket.into());
        self.poll.registry().register(&mut stream, Token(place), Interest::READABLE | Interest::WRITABLE)?;
        self.attackers[place] = Some(Attacker::new(stream, self.opened, order.server.to_string()));
        self.opened += 1;
        Ok(())
    }

    fn turn(&mut self, place: usize) {
        let Some(Some(attacker)) = self.attackers.get_mut(place) else { return };
        if let Err(end) = attacker.turn(&mut self.kit) {
            self.attackers[place] = None;
            self.free.push(place);
            self.count(&end, 1);
        }
    }

    fn count(&mut self, end: &str, more: u64) {
        *self.ends.entry(end.to_owned()).or_default() += more;
    }
}

fn ignore_interrupt(fault: io::Error) -> io::Result<()> {
    if fault.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(fault) }
}
