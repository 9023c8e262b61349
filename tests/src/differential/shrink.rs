//! The smallest program that still shows a mismatch.

use countersign::challenge::Instruction;

use super::corpus::Scene;
use super::engine::{Both, Engine, Kind};
use super::{Form, Mutant};

/// Takes instructions out of a scene's program, ever smaller runs of them, for as long as the engine goes on to disagree with
/// the reference. What is left cannot lose any single instruction.
///
/// A scene that shows no mismatch comes back as it is.
///
/// # Panics
/// If the engine is missing or ends early.
#[must_use]
pub fn shrink(kind: Kind, form: Form, mutant: Option<Mutant>, scene: &Scene) -> Scene {
    let mut engine = kind.start(mutant);
    let mut least = scene.clone();
    let mut run = least.program.instructions().len();
    while run > 0 {
        let smaller = without_a_run(&least, run).find(|smaller| disagrees(engine.as_mut(), form, mutant, smaller));
        match smaller {
            Some(smaller) => least = smaller,
            None => run /= 2,
        }
    }
    least
}

/// The scene without each run of that many instructions.
fn without_a_run(scene: &Scene, run: usize) -> impl Iterator<Item = Scene> {
    let instructions: Vec<Instruction> = scene.program.instructions().to_vec();
    (0..instructions.len().div_ceil(run)).filter_map(move |place| {
        let (from, to) = (place * run, ((place + 1) * run).min(instructions.len()));
        scene.with([&instructions[..from], &instructions[to..]].concat())
    })
}

fn disagrees(engine: &mut dyn Engine, form: Form, mutant: Option<Mutant>, scene: &Scene) -> bool {
    let case = scene.case();
    let sent = mutant.map_or(case.clone(), |mutant| mutant.printed(case.clone()));
    let json = serde_json::to_string(&[sent]).expect("a case is JSON");
    let mut ran: Vec<Both> = serde_json::from_str(&engine.run(&json)).expect("results in JSON");
    let both = ran.pop().expect("one result");
    let ran = match form {
        Form::Source => both.source,
        Form::Vm => both.vm,
    };
    !ran.agrees(&case, form)
}
