use std::fmt;
use std::sync::Arc;

use countersign_node_proto::ConnectionId;

use super::answer::ChallengeId;
use super::transcript::Transcript;
use crate::config::{ChallengeForm, Mode, SignPrograms};
use crate::page_key::PageKey;
use crate::program_key::{ProgramKey, Unsigned};

/// All that makes a challenge this one, as its signature covers it: a page that pins the node's keys runs no program that
/// was made for another socket, host, offer or moment, or that was changed on its way.
#[derive(Debug, Clone, Copy)]
pub struct ProgramFrame<'a> {
    /// The host under which the client reached this node.
    pub host: &'a str,
    /// SHA-256 of the `hello` as it was sent.
    pub hello: &'a [u8; 32],
    /// The socket.
    pub connection: ConnectionId,
    /// Which challenge.
    pub challenge_id: ChallengeId,
    /// Which one of this connection's it is.
    pub epoch: u32,
    /// How the program is delivered.
    pub form: ChallengeForm,
    /// The challenge's nonce.
    pub server_nonce: &'a [u8; 32],
    /// SHA-256 of the program's text, exactly as delivered.
    pub program: &'a [u8; 32],
    /// The least that the connection's REST calls will have to show.
    pub mode: Mode,
    /// Milliseconds that the answer may take.
    pub answer_ms: u32,
    /// Parameters of the work that is asked for, as T holds them.
    pub work: Option<&'a [u8]>,
    /// The question about a file, as T holds it.
    pub file: Option<&'a [u8]>,
}

/// Who signed, and the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameSignature {
    /// The key's name.
    pub signer: String,
    /// r and s.
    pub signature: [u8; PageKey::SIGNATURE_BYTES],
}

/// Signs with whichever key it is that signs at the moment.
type Sign = Arc<dyn Fn(&ProgramFrame<'_>) -> Result<FrameSignature, Unsigned> + Send + Sync>;

/// What an issuer signs, and how.
#[derive(Clone)]
pub struct Signing {
    which: SignPrograms,
    answer_ms: u32,
    sign: Sign,
}

impl Signing {
    /// Signs these forms. `answer_ms` is what challenges say of the time for an answer.
    pub fn new(
        which: SignPrograms,
        answer_ms: u32,
        sign: impl Fn(&ProgramFrame<'_>) -> Result<FrameSignature, Unsigned> + Send + Sync + 'static,
    ) -> Self {
        Self { which, answer_ms, sign: Arc::new(sign) }
    }

    /// Is this form signed?
    pub(super) fn covers(&self, form: ChallengeForm) -> bool {
        self.which.covers(form)
    }

    /// Milliseconds that an answer may take.
    pub(super) const fn answer_ms(&self) -> u32 {
        self.answer_ms
    }

    pub(super) fn sign(&self, frame: &ProgramFrame<'_>) -> Result<FrameSignature, Unsigned> {
        (self.sign)(frame)
    }
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signing").field("which", &self.which).finish_non_exhaustive()
    }
}

impl ProgramFrame<'_> {
    /// The bytes that are signed.
    ///
    /// Source: `countersign/frame/v1`, held by golden vectors.
    #[must_use]
    pub fn message(&self, signer: &str) -> Vec<u8> {
        Transcript::new("countersign/frame/v1")
            .field(signer.as_bytes())
            .field(self.host.as_bytes())
            .field(self.hello)
            .field(self.connection.as_bytes())
            .field(self.challenge_id.as_bytes())
            .field(&self.epoch.to_be_bytes())
            .field(self.form.name().as_bytes())
            .field(self.server_nonce)
            .field(self.program)
            .field(self.mode.name().as_bytes())
            .field(&self.answer_ms.to_be_bytes())
            .optional(self.work)
            .optional(self.file)
            .finish()
    }

    /// Signs it.
    ///
    /// # Errors
    /// [`Unsigned`]: the challenge must not be sent.
    pub fn sign(&self, key: &ProgramKey) -> Result<FrameSignature, Unsigned> {
        let signature = key.sign(&self.message(key.signer()))?;
        Ok(FrameSignature { signer: key.signer().to_owned(), signature })
    }
}

#[cfg(test)]
mod tests;
