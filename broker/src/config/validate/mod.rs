//! What makes sense: the checks that types cannot make, each naming its key and what helps.

mod cluster;
mod gateway;
mod identity;
mod paths;
mod routing;
mod server;

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;

use super::fault::{ConfigFaults, Fault};
use super::key::Key;
use super::{Millis, Seconds, Settings};

/// Collects faults, so that a check reads as one line.
#[derive(Debug, Default)]
struct Findings(Vec<Fault>);

impl Settings {
    /// Checks what types cannot say: ranges, paths that clash, keys that exclude each other, files that are not there.
    ///
    /// Reads the files that it names (certificates, keys, secrets) and binds nothing.
    ///
    /// # Errors
    /// Every fault at once. Templates of routes are compiled elsewhere: see [`super::Check`].
    pub fn validate(&self) -> Result<(), ConfigFaults> {
        let mut findings = Findings::default();
        server::check(self, &mut findings);
        cluster::check(self, &mut findings);
        gateway::check(self, &mut findings);
        identity::check(self, &mut findings);
        routing::check(self, &mut findings);
        paths::check(self, &mut findings);
        ConfigFaults::none(findings.0)
    }
}

impl Findings {
    fn add(&mut self, key: impl Into<Key>, message: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Fault::new(key, message, remedy));
    }

    /// A number outside its range.
    fn range<T: PartialOrd + Display>(&mut self, key: impl Into<Key>, value: T, range: RangeInclusive<T>) {
        if !range.contains(&value) {
            self.add(key, format!("{value} is out of range"), format!("write {} to {}", range.start(), range.end()));
        }
    }

    fn millis(&mut self, key: &str, value: Millis, range: RangeInclusive<u64>) {
        self.range(key, value.0, range);
    }

    fn seconds(&mut self, key: &str, value: Seconds, range: RangeInclusive<u64>) {
        self.range(key, value.0, range);
    }

    /// A number that must not pass another setting.
    fn at_most<T: PartialOrd + Display>(&mut self, key: &str, value: T, other_key: &str, other: T) {
        if value > other {
            self.add(key, format!("{value} is above {other_key}, which is {other}"), "lower this or raise that");
        }
    }

    /// A text that must say something.
    fn text(&mut self, key: impl Into<Key>, value: &str) {
        if value.trim().is_empty() {
            self.add(key, "the text is empty", "write one, or leave the key out if it has a default");
        }
    }

    /// A folder that is there or can be made.
    fn folder(&mut self, key: impl Into<Key>, path: &Path) {
        if path.exists() && !path.is_dir() {
            self.add(key, format!("`{}` is no folder", path.display()), "name a folder, or one that can be made");
        }
    }

    /// A file that must be there, readable, and at least so long.
    fn file(&mut self, key: impl Into<Key>, path: &Path, bytes_min: u64) {
        let opened = std::fs::File::open(path).and_then(|file| file.metadata());
        match opened {
            Err(error) => self.add(key, format!("`{}` cannot be read: {error}", path.display()), "name a readable file"),
            Ok(metadata) if !metadata.is_file() => {
                self.add(key, format!("`{}` is no file", path.display()), "name a file");
            }
            Ok(metadata) if metadata.len() < bytes_min => {
                let message = format!("`{}` has {} bytes", path.display(), metadata.len());
                self.add(key, message, format!("it needs at least {bytes_min}"));
            }
            Ok(_) => {}
        }
    }
}

/// The longest span that a setting may have: ten years. Longer ones overflow clocks without meaning anything.
const SECONDS_MAX: u64 = 315_360_000;
/// The same in milliseconds, for the short waits: a day.
const MILLIS_MAX: u64 = 86_400_000;

#[cfg(test)]
mod tests;
