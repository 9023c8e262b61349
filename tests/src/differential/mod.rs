//! The Rust evaluator against JavaScript engines: the same programs, printed as text and as bytecode for the SDK's
//! interpreter, must give the same lanes in each of them.
//!
//! - [`corpus`]: programs by number, the same ones in every run, with constants biased to the edges of 32-bit arithmetic.
//! - [`engine`]: V8 in Node.js, V8 in a real Chromium, and QuickJS within this process.
//! - [`mutant`]: mistakes that an author could well make, which must be noticed in each engine.
//! - [`shrink`]: the smallest program that still shows a mismatch.
//!
//! [`compare`] is all of it at once; the test `challenge_differential` and the command `differential` call it.

pub mod corpus;
pub mod engine;
pub mod mutant;
mod page;
pub mod shrink;

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

pub use corpus::{Case, Scene};
pub use engine::{Both, Kind, Ran};
pub use mutant::Mutant;
pub use shrink::shrink;

/// Programs that go to an engine in one piece.
const BATCH: u64 = 1_000;
/// Pieces that wait for an engine: the fastest is held back by the slowest, and memory stays bounded.
const AHEAD: usize = 2;

/// One of the two forms in which a program is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A printed function.
    Source,
    /// Bytecode for the SDK's interpreter.
    Vm,
}

/// What an engine made of the corpus.
#[derive(Debug)]
pub struct Tally {
    /// Which engine.
    pub engine: Kind,
    /// Programs that went through it, each in both forms.
    pub compared: u64,
    /// Programs whose printed text gave something else than the reference.
    pub source: u64,
    /// Programs whose bytecode did.
    pub vm: u64,
    /// The first of them: the form, the number of the program, and what the engine said.
    pub first: Option<(Form, u64, Ran)>,
    /// From the start of the engine to its last result.
    pub took: Duration,
}

impl Tally {
    /// Programs that did not give what the reference gives, by form.
    #[must_use]
    pub fn mismatches(&self, form: Form) -> u64 {
        match form {
            Form::Source => self.source,
            Form::Vm => self.vm,
        }
    }

    fn judge(&mut self, case: &Case, ran: Both) {
        self.compared += 1;
        for (form, ran) in [(Form::Source, ran.source), (Form::Vm, ran.vm)] {
            if ran.agrees(case, form) {
                continue;
            }
            match form {
                Form::Source => self.source += 1,
                Form::Vm => self.vm += 1,
            }
            self.first.get_or_insert((form, case.number, ran));
        }
    }
}

/// Cases and their JSON, made once for all engines.
struct Batch {
    cases: Vec<Case>,
    json: String,
}

/// Runs the programs of these numbers through every engine, with a mistake in what they get, or with none. Engines run at the
/// same time, each on a thread of its own.
///
/// # Panics
/// If an engine is missing or ends early.
#[must_use]
pub fn compare(engines: &[Kind], numbers: Range<u64>, mutant: Option<Mutant>) -> Vec<Tally> {
    compare_cases(engines, numbers.map(corpus::Scene::of).map(|scene| scene.case()), mutant)
}

/// The same of any cases.
///
/// # Panics
/// If an engine is missing or ends early.
#[must_use]
pub fn compare_cases(engines: &[Kind], cases: impl Iterator<Item = Case>, mutant: Option<Mutant>) -> Vec<Tally> {
    std::thread::scope(|scope| {
        let lines: Vec<_> = engines.iter().map(|_| sync_channel::<Arc<Batch>>(AHEAD)).collect();
        let (senders, receivers): (Vec<_>, Vec<_>) = lines.into_iter().unzip();
        let work = |(engine, batches): (&Kind, _)| {
            let engine = *engine;
            scope.spawn(move || run(engine, &batches, mutant))
        };
        let running: Vec<_> = engines.iter().zip(receivers).map(work).collect();
        let mut cases = cases.map(|case| mutant.map_or(case.clone(), |mutant| mutant.printed(case))).peekable();
        while cases.peek().is_some() {
            let cases: Vec<Case> = cases.by_ref().take(BATCH as usize).collect();
            let batch = Arc::new(Batch { json: serde_json::to_string(&cases).expect("cases are JSON"), cases });
            // An engine that is gone has panicked; joining it says why.
            senders.iter().for_each(|line| drop(line.send(batch.clone())));
        }
        drop(senders);
        running.into_iter().map(|engine| engine.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// One engine over all that comes down the line.
fn run(kind: Kind, batches: &Receiver<Arc<Batch>>, mutant: Option<Mutant>) -> Tally {
    let started = Instant::now();
    let mut engine = kind.start(mutant);
    let mut tally = Tally { engine: kind, compared: 0, source: 0, vm: 0, first: None, took: Duration::ZERO };
    for batch in batches {
        let ran: Vec<Both> = serde_json::from_str(&engine.run(&batch.json)).expect("results in JSON");
        assert_eq!(ran.len(), batch.cases.len(), "{kind:?} left cases out");
        batch.cases.iter().zip(ran).for_each(|(case, ran)| tally.judge(case, ran));
    }
    tally.took = started.elapsed();
    tally
}
