//! What a scenario found: a table for people, the same as Markdown and JSON.

use std::fmt::Write as _;

use serde::Serialize;

/// Where a number should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bar {
    /// The more the better.
    AtLeast(f64),
    /// The less the better.
    AtMost(f64),
}

/// A number that a scenario is run for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Finding {
    /// What it is.
    pub what: String,
    /// Its value.
    pub value: f64,
    /// Where it should be, if that was said.
    pub bar: Option<Bar>,
}

/// The outcome of one scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    /// Name of the scenario.
    pub scenario: String,
    /// How it was run.
    pub setup: String,
    /// Heads of the table's columns.
    pub columns: Vec<String>,
    /// Its rows.
    pub rows: Vec<Vec<String>>,
    /// What it was run for.
    pub findings: Vec<Finding>,
}

impl Finding {
    /// A number and its bar.
    pub(crate) fn new(what: &str, value: f64, bar: Bar) -> Self {
        Self { what: what.to_owned(), value, bar: Some(bar) }
    }

    /// A number that is only worth knowing.
    pub(crate) fn plain(what: &str, value: f64) -> Self {
        Self { what: what.to_owned(), value, bar: None }
    }

    /// It is where it should be.
    pub(crate) fn holds(&self) -> bool {
        match self.bar {
            Some(Bar::AtLeast(least)) => self.value >= least,
            Some(Bar::AtMost(most)) => self.value <= most,
            None => true,
        }
    }

    fn sentence(&self) -> String {
        let bar = match self.bar {
            Some(Bar::AtLeast(least)) => format!(" (at least {least:.2}: {})", self.verdict()),
            Some(Bar::AtMost(most)) => format!(" (at most {most:.2}: {})", self.verdict()),
            None => String::new(),
        };
        format!("{}: {:.2}{bar}", self.what, self.value)
    }

    fn verdict(&self) -> &'static str {
        if self.holds() { "met" } else { "missed" }
    }
}

impl Report {
    /// A report without rows.
    pub(crate) fn new(scenario: &str, setup: String, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        Self { scenario: scenario.to_owned(), setup, columns, rows: Vec::new(), findings: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Aligned text.
    pub(crate) fn to_text(&self) -> String {
        let widths: Vec<usize> = (0..self.columns.len()).map(|column| self.width(column)).collect();
        let mut text = format!("{}: {}\n", self.scenario, self.setup);
        for row in std::iter::once(&self.columns).chain(&self.rows) {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            writeln!(text, "  {}", line.trim_end()).ok();
        }
        for finding in &self.findings {
            writeln!(text, "  => {}", finding.sentence()).ok();
        }
        text
    }

    /// A section of Markdown.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = format!("## {}\n\n{}\n\n", self.scenario, self.setup);
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        text.push_str(&line(&self.columns));
        text.push_str(&line(&vec!["---".to_owned(); self.columns.len()]));
        self.rows.iter().for_each(|row| text.push_str(&line(row)));
        text.push('\n');
        for finding in &self.findings {
            writeln!(text, "- {}", finding.sentence()).ok();
        }
        text
    }

    fn width(&self, column: usize) -> usize {
        let cells = std::iter::once(&self.columns).chain(&self.rows).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Report {
        let mut report = Report::new("idle", "2 sockets".to_owned(), &["server", "memory"]);
        report.row(["countersign".to_owned(), "9 KB".to_owned()]);
        report.findings.push(Finding::new("KB a connection", 9.0, Bar::AtMost(13.0)));
        report.findings.push(Finding::new("of the limit", 0.5, Bar::AtLeast(0.65)));
        report.findings.push(Finding::plain("of the peer", 0.75));
        report
    }

    #[test]
    fn text_is_aligned_and_judged() {
        let expected = "idle: 2 sockets\n  server       memory\n  countersign  9 KB\n  => KB a connection: 9.00 (at most 13.00: met)\n  \
                        => of the limit: 0.50 (at least 0.65: missed)\n  => of the peer: 0.75\n";
        assert_eq!(sample().to_text(), expected);
    }

    #[test]
    fn markdown_is_a_table() {
        let text = sample().to_markdown();
        assert!(text.starts_with("## idle\n\n2 sockets\n\n| server | memory |\n| --- | --- |\n| countersign | 9 KB |\n\n- KB"));
    }
}
