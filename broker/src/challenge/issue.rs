use std::fmt;
use std::sync::Arc;

use aws_lc_rs::{error::Unspecified, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_node_proto::ConnectionId;

use super::answer::ChallengeId;
use super::binding::{Binding, program_digest};
use super::bytecode::Disguise;
use super::evaluate::{EvaluateError, evaluate};
use super::files::{FileQuestion, Files};
use super::frame::{FrameSignature, ProgramFrame, Signing};
use super::generate::{Constants, Shape, ShapeError, generate};
use super::lanes::Lanes;
use super::mac::AnswerKey;
use super::page::PageOrigin;
use super::print::print;
use super::program::ProgramError;
use super::tape::Tapes;
use super::transcript::Transcript;
use super::verdict::{BoundProof, Expected, ExpectedProof};
use super::work::Work;
use crate::config::ChallengeForm;
use crate::program_key::Unsigned;

/// Fills with randomness or fails.
type Fill = fn(&mut [u8]) -> Result<(), Unspecified>;

/// Makes a node's challenges. One for the whole node, shared by its threads.
///
/// Its key is drawn when the node starts and never leaves it: who does not hold it cannot tell the next program from the
/// identifiers and nonces on the wire.
pub struct Issuer {
    key: hmac::Key,
    shape: Shape,
    fill: Fill,
    files: Option<Arc<Files>>,
    signing: Option<Signing>,
}

/// A fresh challenge.
#[derive(Debug)]
pub struct Issued {
    /// Which one it is; the answer names it.
    pub challenge_id: ChallengeId,
    /// Which one of this connection's it is, from 0.
    pub epoch: u32,
    /// 32 fresh bytes.
    pub server_nonce: [u8; 32],
    /// How the program is delivered.
    pub form: ChallengeForm,
    /// The program: the printed function, or bytecode in base64url.
    pub program: String,
    /// The node's, over all of this, where the form is signed.
    pub signature: Option<FrameSignature>,
    /// Filling for the echo carrier.
    pub decoy: Decoy,
    /// What an answer is judged by. It never goes on the wire.
    pub expected: Expected,
}

/// `index` and `token` of the echo carrier's message. Its clients send them back; they choose nothing and are never read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoy {
    /// 0 to 9.
    pub index: u8,
    /// 22 characters.
    pub token: String,
}

/// Why no challenge could be made. The connection must not stay open as if it had been challenged: fail closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The system's generator failed; the node must not go on issuing.
    #[error("no randomness to be had")]
    Randomness,
    /// The handshake's origin is nothing that a program can be bound to: not ASCII, or too long.
    #[error("origin cannot be bound to a program")]
    Origin,
    /// A setting out of its range.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A generated program broke a bound: a fault of this module.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A generated program cannot be run: a fault of this module.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// It must be signed, and cannot be.
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
}

impl Issuer {
    /// An issuer of programs of `challenge.program_operations`, with a key of its own.
    ///
    /// # Errors
    /// [`IssueError::Shape`] for a length outside 32 to 1,024; [`IssueError::Randomness`].
    pub fn new(operations: usize) -> Result<Self, IssueError> {
        Self::with_randomness(operations, aws_lc_rs::rand::fill)
    }

    /// The same over another source of randomness.
    pub(super) fn with_randomness(operations: usize, fill: Fill) -> Result<Self, IssueError> {
        let shape = Shape::new(operations, Constants::Uniform)?;
        let key: [u8; 32] = draw(fill)?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key), shape, fill, signing: None, files: None })
    }

    /// Signs native clients' challenges from now on, and issues none unsigned that has to be signed.
    #[must_use]
    pub fn signing(self, signing: Signing) -> Self {
        Self { signing: Some(signing), ..self }
    }

    /// Asks pages about these files too, in the form `vm`: a printed function returns at once and can read none.
    #[must_use]
    pub fn asking_about(self, files: Option<Arc<Files>>) -> Self {
        Self { files, ..self }
    }

    /// What to ask of this page, if anything.
    fn file_question(&self, page: &PageOrigin, form: ChallengeForm, native: bool) -> Result<Option<FileQuestion>, IssueError> {
        match &self.files {
            Some(files) if native && form == ChallengeForm::Vm => {
                files.ask(page, self.fill).map_err(|Unspecified| IssueError::Randomness)
            }
            _ => Ok(None),
        }
    }

    /// A challenge for one connection, in this form. `origin` is the handshake's, which the allow-list has passed; `binding`
    /// is a native client's, and clients of the echo carrier have none.
    ///
    /// All that an answer is judged by, but for the origin of the top-level page, is computed here.
    ///
    /// # Errors
    /// [`IssueError`]: the caller closes the connection as after an internal fault.
    pub fn issue(
        &self,
        connection: ConnectionId,
        epoch: u32,
        origin: Option<&str>,
        form: ChallengeForm,
        binding: Option<&Arc<Binding>>,
    ) -> Result<Issued, IssueError> {
        self.issue_asking(connection, epoch, origin, form, binding, None)
    }

    /// The same, which asks a native client for work too: T and the signature hold it, and the answer must show it.
    ///
    /// # Errors
    /// As of [`Issuer::issue`].
    pub fn issue_asking(
        &self,
        connection: ConnectionId,
        epoch: u32,
        origin: Option<&str>,
        form: ChallengeForm,
        binding: Option<&Arc<Binding>>,
        work: Option<Work>,
    ) -> Result<Issued, IssueError> {
        let page = PageOrigin::of_handshake(origin).ok_or(IssueError::Origin)?;
        let server_nonce: [u8; 32] = draw(self.fill)?;
        let file = self.file_question(&page, form, binding.is_some())?;
        let tapes = Tapes {
            server_nonce: &server_nonce,
            client_nonce: binding.map(|binding| &binding.hello.nonce),
            connection: &connection,
            thumbprint: binding.map(|binding| binding.hello.key.thumbprint()),
            origin: page.tape(),
            file: file.as_ref().map(|question| &question.digest),
        };
        let seed = seed(&self.key, epoch, &tapes);
        let program = generate(&seed, if file.is_some() { self.shape.reading_file() } else { self.shape })?;
        let lanes = evaluate(&program, &tapes)?;
        let program = match form {
            ChallengeForm::Vm | ChallengeForm::Frame => URL_SAFE_NO_PAD.encode(Disguise::draw(&seed).encode(&program)),
            ChallengeForm::Source => print(&program, &tapes, &page),
        };
        let challenge_id = ChallengeId::from_bytes(draw(self.fill)?);
        let decoy = Decoy::draw(self.fill)?;
        let mut issued = Issued {
            challenge_id,
            epoch,
            server_nonce,
            form,
            program,
            signature: None,
            decoy,
            expected: Expected { page, proof: ExpectedProof::Lanes(lanes) },
        };
        if let Some(binding) = binding {
            self.bind(&mut issued, connection, binding, &lanes, (work, file))?;
        }
        Ok(issued)
    }

    /// Makes a challenge a native client's: what it expects, and its signature.
    fn bind(
        &self,
        issued: &mut Issued,
        connection: ConnectionId,
        to: &Arc<Binding>,
        lanes: &Lanes,
        (work, file): (Option<Work>, Option<FileQuestion>),
    ) -> Result<(), IssueError> {
        let program = program_digest(&issued.program);
        let Issued { challenge_id, epoch, form, server_nonce, .. } = *issued;
        if let Some(signing) = self.signing.as_ref().filter(|signing| signing.covers(form)) {
            let (work_field, file_field) = (work.map(Work::field), file.as_ref().map(FileQuestion::field));
            let frame = ProgramFrame {
                host: &to.host,
                hello: &to.hello.digest,
                connection,
                challenge_id,
                epoch,
                form,
                server_nonce: &server_nonce,
                program: &program,
                mode: to.hello.mode,
                answer_ms: signing.answer_ms(),
                work: work_field.as_ref().map(<[u8; 2]>::as_slice),
                file: file_field.as_deref(),
            };
            issued.signature = Some(signing.sign(&frame)?);
        }
        let (binding, key) = (Arc::clone(to), AnswerKey::derive(&program, lanes));
        issued.expected.proof =
            ExpectedProof::Bound(BoundProof { key, binding, form, server_nonce, program, work, file: file.map(Box::new) });
        Ok(())
    }
}

impl Issued {
    /// The question about a file.
    #[must_use]
    pub fn file(&self) -> Option<&FileQuestion> {
        match &self.expected.proof {
            ExpectedProof::Bound(proof) => proof.file.as_deref(),
            ExpectedProof::Lanes(_) => None,
        }
    }

    /// The work that is asked for.
    #[must_use]
    pub const fn work(&self) -> Option<Work> {
        match &self.expected.proof {
            ExpectedProof::Bound(proof) => proof.work,
            ExpectedProof::Lanes(_) => None,
        }
    }
}

impl Decoy {
    fn draw(fill: Fill) -> Result<Self, IssueError> {
        let bytes: [u8; 17] = draw(fill)?;
        let (index, token) = (bytes[0] % 10, URL_SAFE_NO_PAD.encode(&bytes[1..]));
        Ok(Self { index, token })
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("shape", &self.shape).finish_non_exhaustive()
    }
}

/// The seed of a program: HMAC-SHA256 under the node's key over all that makes the challenge this one.
///
/// Source: `countersign/program/v1`, held by golden vectors.
pub(super) fn seed(key: &hmac::Key, epoch: u32, tapes: &Tapes<'_>) -> [u8; 32] {
    let transcript = Transcript::new("countersign/program/v1")
        .field(tapes.connection.as_bytes())
        .field(&epoch.to_be_bytes())
        .field(tapes.server_nonce)
        .optional(tapes.client_nonce.map(<[u8; 32]>::as_slice))
        .optional(tapes.thumbprint.map(<[u8; 32]>::as_slice))
        .finish();
    let tag = hmac::sign(key, &transcript);
    let mut seed = [0; 32];
    // Both are 32 bytes: the length of a SHA-256 tag.
    seed.copy_from_slice(tag.as_ref());
    seed
}

fn draw<const N: usize>(fill: Fill) -> Result<[u8; N], IssueError> {
    let mut bytes = [0; N];
    fill(&mut bytes).map_err(|Unspecified| IssueError::Randomness)?;
    Ok(bytes)
}
