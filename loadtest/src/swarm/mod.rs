//! The client process: thousands of sockets on one thread, one buffer and one set of events.
//!
//! It is a process of its own so that its processor time is never taken for the server's, and so that both have their full
//! number of descriptors. Orders come in on standard input and are answered on standard output; when the input ends, so
//! does the process.

mod connection;
mod dialogue;
mod event_loop;
mod leaving;
mod order;
mod remote;
mod requests;

pub(crate) use dialogue::{Dialogue, Next};
pub(crate) use event_loop::run as run_sockets;
pub(crate) use order::{Approach, Connect, Order, RequestOrder, RequestReply, Shows, Verified};
pub(crate) use remote::Remote;
pub(crate) use requests::run as run_requests;

/// Sockets of one client process: it stays well below a limit of 10,000 descriptors.
pub(crate) const SOCKETS_MAX: usize = 9_000;
