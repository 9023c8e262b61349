//! All scenarios in one go, and the file that keeps what they found.

use std::time::{Duration, Instant};

use crate::report::Report;
use crate::scenario::{self, Authorize, Bench, Challenges, Connects, Fanout, Idle, Tickets};
use crate::{Outcome, proc_stat, results};

/// The command whose results those are.
const COMMAND: &str = "cargo build --release -p countersign -p countersign-loadtest && target/release/loadtest quick --write";

/// Runs every scenario, briefly; `each` sees every report as soon as it is there.
///
/// # Errors
/// If a server or a client failed.
pub(crate) fn run(bench: &Bench, mut each: impl FnMut(&Report) -> Outcome<()>) -> Outcome<Vec<Report>> {
    let mut reports = Vec::new();
    let mut keep = |report: Report| {
        each(&report)?;
        reports.push(report);
        Outcome::Ok(())
    };
    keep(scenario::connect(bench, &Connects { sockets: 2_000, rounds: 4 })?)?;
    keep(scenario::idle(bench, &Idle { sockets: 8_000 })?)?;
    for subscribers in [2_000, 8_000] {
        keep(scenario::fanout(bench, &Fanout { subscribers, passes: 3, seconds: 1.5 })?)?;
    }
    keep(scenario::authorize(bench, &Authorize { sockets: 1_000, callers: 64, calls: 100_000, passes: 3 })?)?;
    keep(scenario::challenge(&Challenges { challenges: 4_000, passes: 5 })?)?;
    keep(scenario::tickets(&Tickets { tickets: 200_000, proofs: 4_000, passes: 5 })?)?;
    Ok(reports)
}

/// Keeps the reports in loadtest/RESULTS.md below the working directory.
///
/// # Errors
/// If there is no such folder, or it cannot be written.
pub(crate) fn write(reports: &[Report], started: Instant) -> Outcome<()> {
    results::write_quick(&results(reports, &proc_stat::machine(), started.elapsed()))
}

fn results(reports: &[Report], machine: &str, took: Duration) -> String {
    let mut text = format!(
        "# The last run of the load test\n\nCommand: `{COMMAND}`\n\nMachine: {machine}; servers and clients share it. The whole run took {} s.\n\n\
         Rates are per second of the server process's own processor time (user and kernel), read from `/proc`. They differ \
         between machines and hours; the ratios, taken in one run, are what is promised.\n",
        took.as_secs()
    );
    for report in reports {
        text.push('\n');
        text.push_str(&report.to_markdown());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_name_command_and_machine() {
        let report = Report::new("idle", "8 sockets".to_owned(), &["server"]);
        let text = results(&[report], "a machine", Duration::from_secs(99));
        assert!(text.contains(COMMAND) && text.contains("a machine") && text.contains("99 s") && text.contains("## idle"));
    }
}
