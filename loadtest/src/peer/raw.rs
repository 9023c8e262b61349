//! The physical limit of fan-out with one write per message: a loop of blocking writes over plain TCP.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use socket2::{Domain, Socket, Type};

use super::{Addresses, wait_for_end_of_input};
use crate::wire::server_text_frame;
use crate::{Outcome, output};

/// Connections that may wait to be accepted; the kernel caps it by its own setting.
const BACKLOG: i32 = 4_096;

/// Everyone who connected.
type Subscribers = Arc<Mutex<Vec<TcpStream>>>;

/// Writes the same frame to every connected socket, whenever the publisher says so.
///
/// The publisher's lines: `count` is answered with the number of sockets, `publish <n>` with `done` after n frames to each.
///
/// # Errors
/// If it cannot listen.
pub(crate) fn run(payload_len: usize) -> Outcome<()> {
    let public = listen()?;
    let publish = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    output::line(&Addresses { public: public.local_addr()?, inner: publish.local_addr()? })?;
    let subscribers = Subscribers::default();
    let accepted = Arc::clone(&subscribers);
    std::thread::spawn(move || accept(&public, &accepted));
    std::thread::spawn(move || {
        let frame = server_text_frame(&vec![b'x'; payload_len]);
        for publisher in publish.incoming().map_while(Result::ok) {
            // A publisher that goes away ends its turn; the next one is served.
            serve(&publisher, &subscribers, &frame).ok();
        }
    });
    wait_for_end_of_input();
    Ok(())
}

/// A listener with a long backlog: a client whose connection falls off the default one believes that it is connected.
fn listen() -> Outcome<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn accept(listener: &TcpListener, subscribers: &Subscribers) {
    for subscriber in listener.incoming().map_while(Result::ok) {
        subscriber.set_nodelay(true).ok();
        subscribers.lock().unwrap_or_else(PoisonError::into_inner).push(subscriber);
    }
}

fn serve(mut publisher: &TcpStream, subscribers: &Subscribers, frame: &[u8]) -> Outcome<()> {
    for line in BufReader::new(publisher).lines() {
        let line = line?;
        let mut subscribers = subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(times) = line.strip_prefix("publish ") {
            for _ in 0..times.parse::<u32>()? {
                write_to_all(&mut subscribers, frame)?;
            }
            publisher.write_all(b"done\n")?;
        } else {
            publisher.write_all(format!("{}\n", subscribers.len()).as_bytes())?;
        }
    }
    Ok(())
}

fn write_to_all(subscribers: &mut [TcpStream], frame: &[u8]) -> Outcome<()> {
    for subscriber in subscribers {
        subscriber.write_all(frame)?;
    }
    Ok(())
}
