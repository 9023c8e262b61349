use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use countersign_node_proto::ConnectionId;

use super::answer::ChallengeId;
use super::transcript::Transcript;
use crate::config::{ChallengeForm, Mode};
use crate::page_key::PageKey;

/// The protocol version that transcripts hold: a client that was talked into another one signs another transcript.
const VERSION: &str = "countersign.v1";

/// What a native client's `hello` says of itself, once for all challenges of its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The client's contribution to the seeds of its programs.
    pub nonce: [u8; 32],
    /// SHA-256 of the text frame as it was received: whoever changes the offer on its way changes this.
    pub digest: [u8; 32],
    /// The page's key.
    pub key: PageKey,
    /// What the client asked that REST calls in its name must at least show, whatever their path asks for.
    pub wish: Mode,
    /// What calls must show where their path asks for nothing else: the stronger of the client's wish and the node's floor.
    pub mode: Mode,
}

/// What every challenge of a native connection is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// What the client said.
    pub hello: Hello,
    /// The node's host as this client dialed it, written as `URL.host`: lower case, without a default port.
    pub host: Arc<str>,
}

/// The fields of T, the transcript that an answer's MAC and signature are over.
///
/// Client and node lay it out each for itself and never send it: what they see differently, such as a form or a host that
/// somebody between them changed, makes another MAC.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// How the program was delivered.
    pub form: ChallengeForm,
    /// As in [`Binding`].
    pub host: &'a str,
    /// The socket.
    pub connection: &'a ConnectionId,
    /// Which challenge.
    pub challenge: &'a ChallengeId,
    /// Which of this connection's.
    pub epoch: u32,
    /// SHA-256 of the `hello` frame.
    pub hello: &'a [u8; 32],
    /// The node's nonce.
    pub server_nonce: &'a [u8; 32],
    /// [`program_digest`] of the program as delivered.
    pub program: &'a [u8; 32],
    /// The handshake's `Origin`; empty if it had none.
    pub origin: &'a str,
    /// The origin of the top-level page, where the client claims one. The one field that the node takes from the client.
    pub top_origin: Option<&'a str>,
    /// SHA-256 of the page's key.
    pub thumbprint: &'a [u8; 32],
    /// The least that REST calls must show.
    pub mode: Mode,
    /// Parameters of the work that was asked for.
    pub work: Option<&'a [u8]>,
    /// The question about a file that was asked.
    pub file: Option<&'a [u8]>,
}

impl Terms<'_> {
    /// T.
    ///
    /// Source: `countersign/answer/v1`, held by golden vectors.
    #[must_use]
    pub fn transcript(&self) -> Vec<u8> {
        Transcript::new("countersign/answer/v1")
            .field(VERSION.as_bytes())
            .field(self.form.name().as_bytes())
            .field(self.host.as_bytes())
            .field(self.connection.as_bytes())
            .field(self.challenge.as_bytes())
            .field(&self.epoch.to_be_bytes())
            .field(self.hello)
            .field(self.server_nonce)
            .field(self.program)
            .field(self.origin.as_bytes())
            .optional(self.top_origin.map(str::as_bytes))
            .field(self.thumbprint)
            .field(self.mode.name().as_bytes())
            .optional(self.work)
            .optional(self.file)
            .finish()
    }
}

/// SHA-256 of a program's text exactly as the challenge carries it.
#[must_use]
pub fn program_digest(program: &str) -> [u8; 32] {
    sha256(program.as_bytes())
}

/// SHA-256 of the text frame of a `hello`.
#[must_use]
pub fn hello_digest(frame: &str) -> [u8; 32] {
    sha256(frame.as_bytes())
}

/// What the page's key signs: T and its MAC.
///
/// Source: `countersign/bind/v1`, held by golden vectors.
#[must_use]
pub fn bind_message(transcript: &[u8], mac: &[u8; 32]) -> Vec<u8> {
    Transcript::new("countersign/bind/v1").field(transcript).field(mac).finish()
}

/// SHA-256 as an array.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut array = [0; 32];
    // Both are 32 bytes.
    array.copy_from_slice(digest(&SHA256, bytes).as_ref());
    array
}
