use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_node_proto::NodeId;

use super::issue::IssueError;

/// Names a program that a frame fetches: the node that holds it, and 128 random bits.
///
/// Text form: 32 characters, base64url without padding. Who has it has the program, once: it goes to the socket's page alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ProgramHandle {
    node: NodeId,
    secret: [u8; 16],
}

/// The programs that frames have not fetched yet, of one node.
///
/// Each is held by its pending challenge and goes with it, so their number is bounded by `challenge.pending_max` and their
/// size by that of a program.
#[derive(Default)]
pub struct HeldPrograms(Mutex<HashMap<[u8; 16], String>>);

/// Keeps a program to be fetched for as long as it lives.
#[derive(Debug)]
pub struct HeldProgram {
    held: Arc<HeldPrograms>,
    handle: ProgramHandle,
}

impl ProgramHandle {
    /// A fresh handle of this node.
    ///
    /// # Errors
    /// [`IssueError::Randomness`]: the challenge must not be sent.
    pub fn draw(node: NodeId) -> Result<Self, IssueError> {
        let mut secret = [0; 16];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| IssueError::Randomness)?;
        Ok(Self { node, secret })
    }

    /// The node that holds the program.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// The text form.
    #[must_use]
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode([self.node.as_bytes().as_slice(), &self.secret].concat())
    }

    /// Reads the text form; nothing if it is not canonical.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 24] = super::base64url(text)?;
        let (node, secret) = bytes.split_at(8);
        Some(Self { node: NodeId::from_bytes(node.try_into().ok()?), secret: secret.try_into().ok()? })
    }
}

impl fmt::Debug for ProgramHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProgramHandle({:?}, …)", self.node)
    }
}

impl HeldPrograms {
    /// Holds a program until it is taken, or what this returns is dropped.
    #[must_use]
    pub fn hold(self: &Arc<Self>, handle: ProgramHandle, program: String) -> HeldProgram {
        self.lock().insert(handle.secret, program);
        HeldProgram { held: Arc::clone(self), handle }
    }

    /// Gives the program away, once.
    #[must_use]
    pub fn take(&self, handle: &ProgramHandle) -> Option<String> {
        self.lock().remove(&handle.secret)
    }

    /// As [`HeldPrograms::take`], by the text of a handle that another node was asked for.
    #[must_use]
    pub fn take_by_text(&self, handle: &str) -> Option<String> {
        self.take(&ProgramHandle::parse(handle)?)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 16], String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldProgram {
    /// What the program is fetched with.
    #[must_use]
    pub const fn handle(&self) -> ProgramHandle {
        self.handle
    }
}

impl fmt::Debug for HeldPrograms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeldPrograms({})", self.lock().len())
    }
}

impl Drop for HeldProgram {
    fn drop(&mut self) {
        // Where it was fetched there is nothing left to drop.
        drop(self.held.take(&self.handle));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(secret: u8) -> ProgramHandle {
        ProgramHandle { node: NodeId::from_bytes([7; 8]), secret: [secret; 16] }
    }

    #[test]
    fn a_handle_works_once() {
        let held = Arc::<HeldPrograms>::default();
        let _pending = held.hold(handle(1), "program".to_owned());
        assert_eq!(held.take(&handle(2)), None);
        assert_eq!(held.take(&handle(1)).as_deref(), Some("program"));
        assert_eq!(held.take(&handle(1)), None);
    }

    #[test]
    fn nothing_is_held_beyond_its_challenge() {
        let held = Arc::<HeldPrograms>::default();
        let pending = [1, 2].map(|secret| held.hold(handle(secret), "program".to_owned()));
        assert_eq!(format!("{held:?}"), "HeldPrograms(2)");
        drop(pending);
        assert_eq!(held.take(&handle(1)), None);
        assert_eq!(format!("{held:?}"), "HeldPrograms(0)");
    }

    #[test]
    fn a_handle_is_read_as_it_was_written_and_prints_no_secret() {
        let text = handle(0xab).encode();
        assert_eq!((text.len(), ProgramHandle::parse(&text)), (32, Some(handle(0xab))));
        for wrong in ["", &text[1..], &format!("{text}A"), &format!("+{}", &text[1..])] {
            assert_eq!(ProgramHandle::parse(wrong), None, "{wrong}");
        }
        assert!(!format!("{:?}", handle(0xab)).contains(&URL_SAFE_NO_PAD.encode([0xab; 16])[..8]));
    }
}
