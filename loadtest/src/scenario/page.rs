//! What a page in a real browser waits from its open socket to `verified`, beside a bare echo in the same page.

use std::process::{Command, Stdio};

use clap::Args;
use serde::Deserialize;

use super::Bench;
use crate::Outcome;
use crate::report::{Bar, Finding, Report};
use crate::stats::ratio;

/// Bytes that a page may have to load, with gzip.
const SDK_MAX: f64 = 8_000.0;

/// Options of `page`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Pages {
    /// Loads of the page; medians count
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    pub loads: u16,
    /// Keep the report in loadtest/RESULTS.md of the working directory
    #[arg(long)]
    pub write: bool,
}

/// What the suite's command prints.
#[derive(Debug, Deserialize)]
struct Told {
    loads: u64,
    open_ms: f64,
    verified_ms: f64,
    echo_ms: f64,
    sdk_gzip_bytes: f64,
}

/// Runs the scenario: the browser and its harness are the end-to-end suite's.
///
/// # Errors
/// If the suite's command cannot be built, or no page was verified.
pub(crate) fn run(bench: &Bench, options: &Pages) -> Outcome<Report> {
    let server = std::path::absolute(&bench.server)?;
    let output = Command::new("cargo")
        .args(["run", "--quiet", "-p", "countersign-tests", "--bin", "page_times", "--", "--loads"])
        .arg(options.loads.to_string())
        .env("NODE_UNDER_TEST", server)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("page_times ended with {}", output.status).into());
    }
    Ok(report(&serde_json::from_slice(&output.stdout)?))
}

fn report(told: &Told) -> Report {
    let setup = format!(
        "Headless Chromium on loopback, {} loads of a page; medians of the page's own clock, which has steps of 0.1 ms. Hello and answer \
         are two round trips, program and signature run between them.",
        told.loads
    );
    let mut report = Report::new("page", setup, &["what", "milliseconds", "in echoes"]);
    let rows = [
        ("bare echo on an open socket", told.echo_ms),
        ("dialing to open", told.open_ms),
        ("open to verified", told.verified_ms),
    ];
    for (name, millis) in rows {
        report.row([name.to_owned(), format!("{millis:.1}"), format!("{:.1}", ratio(millis, told.echo_ms))]);
    }
    report.findings.push(Finding::plain("open to verified, in echoes", ratio(told.verified_ms, told.echo_ms)));
    report.findings.push(Finding::new("bytes of the SDK with gzip", told.sdk_gzip_bytes, Bar::AtMost(SDK_MAX)));
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_suite_prints_is_told() {
        let told = r#"{"loads":3,"open_ms":4.0,"verified_ms":6.0,"echo_ms":2.0,"sdk_gzip_bytes":7900.0}"#;
        let text = report(&serde_json::from_str(told).unwrap()).to_text();
        assert!(
            text.contains("open to verified, in echoes: 3.00") && text.contains("7900.00 (at most 8000.00: met)"),
            "{text}"
        );
    }
}
