//! Clients that mean ill, thousands of them in a process of their own, and one honest client after the other beside them.

mod attacker;
mod event_loop;
mod visitor;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use crate::Outcome;
use crate::swarm::Verified;

pub(crate) use event_loop::run;
pub(crate) use visitor::{Visits, visit_until};

/// What an attacker does, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Attack {
    /// Opens a socket and says nothing.
    Silence,
    /// Asks for a challenge and never answers.
    NoAnswer,
    /// Answers at once, with a MAC that is wrong.
    WrongAnswer,
    /// Answers with more than a frame may hold, by turns whole, announced and in fragments.
    TooLarge,
    /// Says hello a hundred and fifty times at once.
    Hellos,
    /// Opens a socket and resets it, by turns before its handshake is answered and after.
    Drop,
}

/// What a process of attackers should do; it answers with [`Ends`] when the time is over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FloodOrder {
    /// Where.
    pub server: SocketAddr,
    /// Of what kind.
    pub attack: Attack,
    /// Sockets at once; each that ends is followed by another.
    pub sockets: usize,
    /// The first of the networks 127.0.n.0/24 that they come from, and how many these are.
    pub networks: (u8, u8),
    /// For how long.
    pub seconds: f64,
    /// How a client gets in: attackers have tokens, as anybody who can sign in has.
    pub verified: Verified,
}

/// How sockets ended: by close code, by the status of a refused handshake, or without a word.
pub(crate) type Ends = BTreeMap<String, u64>;

impl Attack {
    /// Each with what it is called.
    pub(crate) const ALL: [(Self, &'static str); 6] = [
        (Self::Silence, "never say hello"),
        (Self::NoAnswer, "say hello, never answer"),
        (Self::WrongAnswer, "answer wrongly"),
        (Self::TooLarge, "answer with too much, whole, announced or in fragments"),
        (Self::Hellos, "say hello 150 times"),
        (Self::Drop, "open and reset"),
    ];
}

/// A socket whose next connection comes from this address.
fn bound(source: Ipv4Addr) -> Outcome<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    Ok(socket)
}
