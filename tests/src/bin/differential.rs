//! Compares the evaluator of challenge programs with JavaScript engines, over as many programs as wanted.
//!
//! `cargo run --release -p countersign-tests --bin differential -- --programs 1000000 [--from 0] [--engine node]...`
//!
//! Exit code 0: all agree. 1: the smallest program that shows a mismatch is printed.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command")]

use std::process::ExitCode;

use countersign_tests::differential::{Kind, Scene, Tally, compare, shrink};

/// What the command line says.
struct Wanted {
    programs: u64,
    from: u64,
    engines: Vec<Kind>,
}

fn main() -> ExitCode {
    let wanted = match parse(std::env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(fault) => {
            eprintln!("{fault}\ndifferential [--programs N] [--from N] [--engine node|chromium|quickjs]...");
            return ExitCode::from(64);
        }
    };
    let tallies = compare(&wanted.engines, wanted.from..wanted.from.saturating_add(wanted.programs), None);
    tallies.iter().for_each(report);
    let clean = tallies.iter().all(|tally| tally.compared == wanted.programs && tally.first.is_none());
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let mut wanted = Wanted { programs: 1_000_000, from: 0, engines: Vec::new() };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{name} needs a number, not {value}"));
        match name.as_str() {
            "--programs" => wanted.programs = number()?,
            "--from" => wanted.from = number()?,
            "--engine" => wanted.engines.push(engine(&value)?),
            _ => return Err(format!("there is no {name}")),
        }
    }
    if wanted.engines.is_empty() {
        wanted.engines.extend(Kind::ALL);
    }
    Ok(wanted)
}

fn engine(name: &str) -> Result<Kind, String> {
    let named = |kind: &Kind| format!("{kind:?}").eq_ignore_ascii_case(name);
    Kind::ALL.into_iter().find(named).ok_or_else(|| format!("there is no engine {name}"))
}

fn report(tally: &Tally) {
    println!(
        "{:<8} {} programs in both forms, mismatches: {} source, {} vm; {:.1} s",
        format!("{:?}", tally.engine),
        tally.compared,
        tally.source,
        tally.vm,
        tally.took.as_secs_f64()
    );
    if let Some((form, number, ran)) = &tally.first {
        let least = shrink(tally.engine, *form, None, &Scene::of(*number));
        let case = least.case();
        println!("program {number} as {form:?}: {ran:?}");
        println!("the least that disagrees: {:#?}", least.program.instructions());
        println!("expected {:?}\n{}", case.lanes.values(), case.source);
    }
}
