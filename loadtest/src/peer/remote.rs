//! A peer's process, as the scenario sees it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::Addresses;
use crate::Outcome;

/// A peer's process. It ends with this value.
pub(crate) struct Peer {
    child: Child,
    /// Where it listens.
    pub addresses: Addresses,
}

impl Peer {
    /// Starts this binary again in the role of a peer.
    ///
    /// # Errors
    /// If it does not say where it listens.
    pub(crate) fn start(role: &[&str]) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("role")
            .args(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("a peer without output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        Ok(Self { child, addresses: serde_json::from_str(&line)? })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // If it cannot be killed it is gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
