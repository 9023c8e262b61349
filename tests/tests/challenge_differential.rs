//! The Rust evaluator against real JavaScript engines, two implementations in three embeddings: V8 in Node.js, V8 in a
//! Chromium, and QuickJS. That the comparison can fail is shown by mutants in each of them.
//!
//! `cargo run -p countersign-tests --bin differential -- --programs 1000000` is the same over more programs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test says what broke by panicking")]

use countersign_tests::differential::mutant::MUTANTS;
use countersign_tests::differential::{Form, Kind, Mutant, Scene, compare, compare_cases, shrink};

const PROGRAMS: u64 = 100_000;
const MUTATED: u64 = 1_000;
/// Few, but each until the engine has compiled it as well as it can.
const HOT: u64 = 6;
const RERUNS: u32 = 100_000;

#[test]
fn javascript_and_rust_compute_the_same_lanes() {
    for tally in compare(&Kind::ALL, 0..PROGRAMS, None) {
        println!("{:?}: {} programs in both forms, {:?}", tally.engine, tally.compared, tally.took);
        if let Some((form, number, ran)) = &tally.first {
            let least = shrink(tally.engine, *form, None, &Scene::of(*number));
            println!("program {number}, {form:?}: {ran:?}; the least that disagrees:\n{:#?}", least.program.instructions());
        }
        assert_eq!((tally.compared, tally.source, tally.vm), (PROGRAMS, 0, 0), "{:?}", tally.engine);
    }
}

#[test]
fn hot_programs_go_on_computing_the_same() {
    let cases = (0..HOT).map(|number| {
        let mut case = Scene::of(number).case();
        case.reruns = RERUNS;
        case
    });
    // QuickJS compiles nothing; there a program is never hotter than at first.
    for tally in compare_cases(&[Kind::Node, Kind::Chromium], cases, None) {
        println!("{:?}: {} programs {RERUNS} times in both forms, {:?}", tally.engine, tally.compared, tally.took);
        assert_eq!((tally.compared, tally.source, tally.vm), (HOT, 0, 0), "{:?}: {:?}", tally.engine, tally.first);
    }
}

#[test]
fn mutants_are_caught_in_every_engine() {
    for mutant in MUTANTS {
        let Mutant { form, text, mistake } = mutant;
        for tally in compare(&Kind::ALL, 0..MUTATED, Some(mutant)) {
            let (engine, caught) = (tally.engine, tally.mismatches(form));
            println!("{form:?}, `{text}` as `{mistake}` in {engine:?}: caught by {caught} of {MUTATED} programs");
            assert!(caught > MUTATED / 50, "`{text}` as `{mistake}` in {engine:?} caught by {caught} of {MUTATED} only");
            let other = if form == Form::Source { Form::Vm } else { Form::Source };
            assert_eq!(tally.mismatches(other), 0, "the other form has no mistake in it: {:?}", tally.first);
        }
    }
}

#[test]
fn a_mismatch_shrinks_to_the_instructions_that_show_it() {
    let mutant = MUTANTS.into_iter().find(|mutant| mutant.form == Form::Source && mutant.text == ">>>").unwrap();
    let scene = Scene::of(0);
    let least = shrink(Kind::QuickJs, mutant.form, Some(mutant), &scene);
    println!(
        "{} of {} instructions: {:#?}",
        least.program.instructions().len(),
        scene.program.instructions().len(),
        least.program
    );
    assert!(least.program.instructions().len() <= 4, "{:#?}", least.program);
    assert!(!least.program.instructions().is_empty());
    // Without the mistake there is nothing to shrink.
    assert_eq!(
        shrink(Kind::QuickJs, Form::Source, None, &scene).program.instructions().len(),
        scene.program.instructions().len()
    );
}
