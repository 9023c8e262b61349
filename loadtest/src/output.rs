//! Standard output: lines for the process that reads it, tables for people.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::Outcome;

/// Writes one JSON value and a line end, at once.
///
/// # Errors
/// If nobody reads it any more.
pub(crate) fn line(value: &impl Serialize) -> Outcome<()> {
    text(&serde_json::to_string(value)?)
}

/// Writes a line of text.
///
/// # Errors
/// If nobody reads it any more.
pub(crate) fn text(line: &str) -> Outcome<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
