//! The file that keeps what was found: the last quick run, and below it the last of each long one.

use std::fs;
use std::path::Path;

use crate::report::Report;
use crate::{Outcome, proc_stat};

/// Where it is, from the root of the repository.
const RESULTS: &str = "loadtest/RESULTS.md";
/// What the second part begins with.
const LONG: &str = "# Long runs\n";

/// Replaces the first part.
///
/// # Errors
/// If there is no such folder, or it cannot be written.
pub(crate) fn write_quick(text: &str) -> Outcome<()> {
    let kept = fs::read_to_string(Path::new(RESULTS)).unwrap_or_default();
    write(&with_quick(&kept, text))
}

/// Replaces the sections of these reports in the second part.
///
/// # Errors
/// As [`write_quick`].
pub(crate) fn write_long(reports: &[Report]) -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let source = format!("Command: `target/release/loadtest {}`; {}.", arguments.join(" "), proc_stat::machine());
    let kept = fs::read_to_string(Path::new(RESULTS)).unwrap_or_default();
    write(&reports.iter().fold(kept, |kept, report| with_long(&kept, report, &source)))
}

fn write(text: &str) -> Outcome<()> {
    fs::write(Path::new(RESULTS), text).map_err(|fault| format!("{RESULTS} cannot be written from this folder: {fault}").into())
}

fn with_quick(kept: &str, text: &str) -> String {
    kept.find(LONG).map_or_else(|| text.to_owned(), |long| format!("{text}\n{}", &kept[long..]))
}

fn with_long(kept: &str, report: &Report, source: &str) -> String {
    let (quick, long) = kept.split_at(kept.find(LONG).unwrap_or(kept.len()));
    let head = format!("## {}\n", report.scenario);
    let others = long.split("\n## ").skip(1).map(|section| format!("## {}\n", section.trim_end()));
    let mut sections: Vec<String> = others.filter(|section| !section.starts_with(&head)).collect();
    sections.push(format!("{}\n{source}\n", report.to_markdown()));
    sections.sort();
    format!("{}\n\n{LONG}\n{}", quick.trim_end(), sections.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(scenario: &str, setup: &str) -> Report {
        Report::new(scenario, setup.to_owned(), &["server"])
    }

    #[test]
    fn each_run_replaces_its_own_part_and_keeps_the_rest() {
        let quick = "# The last run\n\n## idle\n\nfirst\n";
        let one = with_long(quick, &report("refill", "old"), "by hand");
        let two = with_long(&one, &report("churn", "gone"), "by hand");
        let three = with_long(&two, &report("refill", "new"), "by hand");
        assert!(three.starts_with(quick) && !three.contains("old"), "{three}");
        assert!(three.find("gone").unwrap() < three.find("new").unwrap(), "{three}");
        assert_eq!(three.matches("## refill").count(), 1);
        let again = with_quick(&three, "# The last run\n\nsecond\n");
        assert!(
            again.starts_with("# The last run\n\nsecond\n\n# Long runs\n") && again.contains("gone") && again.contains("new")
        );
        assert_eq!(with_quick("", "text"), "text");
    }
}
