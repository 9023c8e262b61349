//! The client process of decisions: keep-alive connections, each with one request on its way.

use std::io::{self, BufRead as _, Read, Write};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::order::{RequestOrder, RequestReply};
use crate::wire::parse_head;
use crate::{Outcome, output};

/// Bytes of a whole answer; every one that is asked for here is far smaller.
const ANSWER_MAX: usize = 16 * 1024;

/// Follows orders until standard input ends.
///
/// # Errors
/// If the operating system refuses what an event loop needs.
pub(crate) fn run() -> Outcome<()> {
    for line in io::stdin().lock().lines() {
        let order: RequestOrder = serde_json::from_str(&line?)?;
        output::line(&Round::new(&order)?.finish(&order)?)?;
    }
    Ok(())
}

/// One keep-alive connection.
struct Caller {
    stream: TcpStream,
    answer: Vec<u8>,
}

/// One order under way.
struct Round {
    poll: Poll,
    callers: Vec<Caller>,
    requests: Vec<Vec<u8>>,
    sent: u64,
    reply: RequestReply,
}

impl Round {
    fn new(order: &RequestOrder) -> Outcome<Self> {
        let poll = Poll::new()?;
        let mut callers = Vec::with_capacity(order.connections);
        for place in 0..order.connections {
            // Connecting blocks: it is no part of what is measured.
            let blocking = std::net::TcpStream::connect(order.server)?;
            blocking.set_nodelay(true)?;
            blocking.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(blocking);
            poll.registry().register(&mut stream, Token(place), Interest::READABLE)?;
            callers.push(Caller { stream, answer: Vec::with_capacity(1_024) });
        }
        Ok(Self { poll, callers, requests: requests(order), sent: 0, reply: RequestReply::default() })
    }

    /// Sends all requests and waits for all answers.
    fn finish(mut self, order: &RequestOrder) -> Outcome<RequestReply> {
        let started = Instant::now();
        let mut events = Events::with_capacity(order.connections.max(1));
        for place in 0..self.callers.len() {
            self.ask(place, order.requests)?;
        }
        while self.answered() < order.requests && self.reply.fault.is_none() {
            self.poll.poll(&mut events, None)?;
            for event in &events {
                if let Err(fault) = self.hear(event.token().0, order.requests) {
                    self.reply.fault.get_or_insert(fault.to_string());
                }
            }
        }
        self.reply.elapsed_seconds = started.elapsed().as_secs_f64();
        Ok(self.reply)
    }

    const fn answered(&self) -> u64 {
        self.reply.allowed + self.reply.refused
    }

    /// Sends the next request, if there is one to send.
    fn ask(&mut self, place: usize, requests_max: u64) -> Outcome<()> {
        if self.sent == requests_max {
            return Ok(());
        }
        let turn = usize::try_from(self.sent)? % self.requests.len();
        self.sent += 1;
        self.callers[place].stream.write_all(&self.requests[turn])?;
        Ok(())
    }

    fn hear(&mut self, place: usize, requests_max: u64) -> Outcome<()> {
        let caller = &mut self.callers[place];
        let mut buffer = [0; ANSWER_MAX];
        match caller.stream.read(&mut buffer) {
            Ok(0) => return Err("the server closed the connection".into()),
            Ok(len) => caller.answer.extend_from_slice(&buffer[..len]),
            Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(fault) => return Err(fault.into()),
        }
        let Some(head) = parse_head(&caller.answer)? else { return Ok(()) };
        if caller.answer.len() < head.head_len + head.body_len {
            return Ok(());
        }
        caller.answer.clear();
        match head.status {
            200 => self.reply.allowed += 1,
            _ => self.reply.refused += 1,
        }
        self.ask(place, requests_max)
    }
}

/// One request for each id, written once.
fn requests(order: &RequestOrder) -> Vec<Vec<u8>> {
    let request = |id: &String| {
        format!("GET {} HTTP/1.1\r\nHost: {}\r\n{}: {id}\r\n\r\n", order.path, order.server, order.header).into_bytes()
    };
    order.ids.iter().map(request).collect()
}
