use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end a node, and the one that must not: a terminal that closes, or a habit from other servers, sends
/// SIGHUP. SIGQUIT keeps its meaning.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on the signals do not end the process by themselves.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The name of the next one that ends the node.
    pub(super) async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => {
                    tracing::info!("SIGHUP changes nothing: certificates and keys are read again when their files change");
                }
            }
        }
    }
}
