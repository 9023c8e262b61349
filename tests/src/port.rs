//! Ports for servers that must know theirs before they start.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// First port that is tried, and how many: below the range from which Linux takes ports of outgoing connections, so that a
/// server that is killed and started again finds its own still free.
const FIRST: u16 = 18_000;
const COUNT: u16 = 12_000;

/// The first of `count` ports in a row, likewise.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn free_row(count: u16) -> u16 {
    let mut row = vec![free()];
    while row.len() < usize::from(count) {
        let next = free();
        if row.last().is_some_and(|last| last + 1 != next) {
            row.clear();
        }
        row.push(next);
    }
    row[0]
}

/// A port on loopback that nobody listens on, never given out twice by one process.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other test processes look for ports at the same time: each begins elsewhere.
    let offset = u16::try_from(std::process::id() * 97 % u32::from(COUNT)).expect("below the count");
    for _ in 0..COUNT {
        let port = FIRST + (offset + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}
