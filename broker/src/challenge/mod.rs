//! The one-time program that a browser runs to become verified.
//!
//! In reading order:
//!
//! - [`instruction`], [`program`]: the intermediate representation, and its strict byte form.
//! - [`tape`]: what a program reads: nonces, connection id, thumbprint, origin.
//! - [`generate`]: a seed becomes a program; frozen by golden vectors.
//! - [`evaluate`]: a program becomes lanes in Rust.
//! - [`bytecode`], [`print`]: the two forms in which it is delivered: bytes for an interpreter, and a JavaScript function.
//! - [`transcript`]: unambiguous bytes under every MAC.
//! - [`binding`], [`mac`]: what an answer is bound to (socket, host, offer, page, key), and the MAC that says so.
//! - [`work`]: puzzles that a busy node asks for beside the program; a rate limiter.
//! - [`files`]: what pages ship, of which a program may have to read a part.
//! - [`issue`]: a fresh challenge and the answer to expect.
//! - [`frame`]: what is signed of a challenge.
//! - [`held`]: programs that wait for a frame to fetch them.
//! - [`answer`], [`verdict`]: a client's claim, and the one judgement on it.
//! - [`session`]: the actor that holds the expected answer until a verdict.
//! - [`permits`], [`failures`]: the bounds on challenges that are pending, and on those that fail.
//!
//! Invariants: one attempt per challenge; nothing that a client sends chooses what is expected of it; no lossy operation
//! can collapse the lanes; nothing stays pending past its deadline and [`GRACE`]. A program proves neither a human nor a
//! browser: it can be emulated. Only [`session`] knows actix; the rest is pure.

mod answer;
mod binding;
mod bytecode;
mod evaluate;
mod failures;
mod files;
mod frame;
mod generate;
mod held;
mod instruction;
mod issue;
mod lanes;
mod mac;
mod page;
mod permits;
mod print;
mod program;
mod session;
mod tape;
mod transcript;
mod verdict;
mod work;

#[cfg(test)]
mod binding_tests;
#[cfg(test)]
mod regressions;

pub(crate) use answer::present;
pub use answer::{Answer, AnswerMac, AnswerSignature, ChallengeId, EchoAnswer, NativeAnswer, base64url};
pub use binding::{Binding, Hello, Terms, bind_message, hello_digest, program_digest};
pub use bytecode::{BytecodeError, Disguise};
pub use evaluate::{EvaluateError, evaluate};
pub use failures::{FailureRates, FailuresOf, TooManyFailures};
pub use files::{FileQuestion, Files, FilesError};
pub use frame::{FrameSignature, ProgramFrame, Signing};
pub use generate::{Constants, Shape, ShapeError, generate};
pub use held::{HeldProgram, HeldPrograms, ProgramHandle};
pub use instruction::{Binary, Instruction, Odd, Register, Shift, ShiftBy, Unary};
pub use issue::{Decoy, IssueError, Issued, Issuer};
pub use lanes::Lanes;
pub use mac::AnswerKey;
pub use page::PageOrigin;
pub use permits::{Claimant, Load, PendingFull, PendingPermit, PendingPermits};
pub use print::print;
pub use program::{FUEL_MAX, OPERATIONS_MAX, Program, ProgramError};
pub use session::{ChallengeSession, Concluded, GRACE, SessionHandle};
pub use tape::{ORIGIN_MAX, Tape, Tapes};
pub use transcript::Transcript;
pub use verdict::{BoundProof, Expected, ExpectedProof, Pending, Verdict};
pub use work::{Work, WorkBound};
