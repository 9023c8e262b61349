//! A client process, as the scenario sees it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::order::{Order, Reply};
use crate::Outcome;

/// A client process. It ends with this value.
pub(crate) struct Remote {
    child: Child,
    orders: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
}

impl Remote {
    /// Starts this binary again in the role of a client.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start(role: &str) -> Outcome<Self> {
        let mut child =
            Command::new(std::env::current_exe()?).args(["role", role]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take();
        let replies = BufReader::new(child.stdout.take().ok_or("a client process without output")?);
        Ok(Self { child, orders, replies })
    }

    /// Gives an order without waiting for its reply.
    ///
    /// # Errors
    /// If the process is gone.
    pub(crate) fn order(&mut self, order: &impl Serialize) -> Outcome<()> {
        let orders = self.orders.as_mut().ok_or("a client process without input")?;
        let mut line = serde_json::to_string(order)?;
        line.push('\n');
        Ok(orders.write_all(line.as_bytes())?)
    }

    /// Waits for the reply to the oldest order.
    ///
    /// # Errors
    /// If the process is gone.
    pub(crate) fn reply<R: DeserializeOwned>(&mut self) -> Outcome<R> {
        let mut line = String::new();
        self.replies.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(|fault| format!("a client process ended early: {fault}").into())
    }

    /// Gives an order to a swarm and waits until all its sockets did it.
    ///
    /// # Errors
    /// If a socket failed or was lost: what is measured then is not what was meant.
    pub(crate) fn do_all(&mut self, order: &Order) -> Outcome<Reply> {
        self.order(order)?;
        self.whole_reply()
    }

    /// The reply of a swarm of which no socket may be missing.
    ///
    /// # Errors
    /// As [`Remote::do_all`].
    pub(crate) fn whole_reply(&mut self) -> Outcome<Reply> {
        let reply: Reply = self.reply()?;
        match reply.fault {
            Some(fault) => Err(format!("{} sockets failed, {} were lost; the first: {fault}", reply.failed, reply.lost).into()),
            None => Ok(reply),
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // The end of its input ends the process; if that fails it is gone already.
        self.orders = None;
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
