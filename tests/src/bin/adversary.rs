//! Attacks a node of its own with every adversary, and says how often each succeeded and what an attempt cost it.
//!
//! `cargo run -p countersign-tests --bin adversary -- [--attempts 100]`
//!
//! Exit code 0: each did as expected. Those that succeed by the nature of things are expected to.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command")]

use std::process::ExitCode;

use countersign_tests::adversary::{Adversary, Expected, Outcome, Target};

/// Attempts, where none are asked for.
const ATTEMPTS: u32 = 100;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let attempts = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Some(ATTEMPTS),
        ["--attempts", number] => number.parse().ok().filter(|&number| number > 0),
        _ => None,
    };
    let Some(attempts) = attempts else {
        eprintln!("adversary [--attempts N]");
        return ExitCode::from(64);
    };
    let target = Target::start().await;
    println!(
        "| adversary | attempts | succeeded | expected | processor time an attempt | time an attempt |\n|---|---|---|---|---|---|"
    );
    let mut as_expected = true;
    for adversary in Adversary::ALL {
        let outcome = adversary.attack(&target, adversary.attempts(attempts)).await;
        println!("{}", row(adversary, &outcome));
        as_expected &= outcome.is(adversary.expected());
    }
    if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn row(adversary: Adversary, outcome: &Outcome) -> String {
    let Outcome { attempts, successes, processor, took } = outcome;
    let expected = match adversary.expected() {
        Expected::Succeeds => "to succeed",
        Expected::Fails => "to fail",
    };
    let each = |time: &std::time::Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3 / f64::from(*attempts));
    format!("| {adversary:?} | {attempts} | {successes} | {expected} | {} | {} |", each(processor), each(took))
}
