//! What an attack costs whoever makes it.

use std::collections::HashMap;
use std::time::Duration;

/// Linux counts in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// Processor time of this process and of all that it started, but for one of them.
#[must_use]
pub fn without(other: u32) -> Duration {
    let processes = processes();
    let ticks: u64 =
        processes.iter().filter(|(id, _)| is_ours(**id, other, &processes)).map(|(_, process)| process.ticks).sum();
    TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
}

/// What the system says of a process.
struct Process {
    parent: u32,
    /// Its own, and those of its children that have ended.
    ticks: u64,
}

fn processes() -> HashMap<u32, Process> {
    let folders = std::fs::read_dir("/proc").expect("Linux").filter_map(Result::ok);
    folders.filter_map(|folder| read(folder.file_name().to_str()?.parse().ok()?)).collect()
}

/// None if it has ended meanwhile.
fn read(id: u32) -> Option<(u32, Process)> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name before the parenthesis may hold anything. After it: state, parent, ten others, four kinds of ticks.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some((id, Process { parent: fields.get(1)?.parse().ok()?, ticks }))
}

/// Is it this process or one below it, and not below `other`?
fn is_ours(mut id: u32, other: u32, processes: &HashMap<u32, Process>) -> bool {
    loop {
        if id == other {
            return false;
        }
        if id == std::process::id() {
            return true;
        }
        match processes.get(&id) {
            Some(process) => id = process.parent,
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_a_child_counts_unless_it_is_the_other() {
        let mut busy = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let started = (without(0), without(busy.id()));
        let used = || (without(0) - started.0, without(busy.id()).saturating_sub(started.1));
        while used().0 < TICK * 30 {
            std::thread::yield_now();
        }
        let (with, without) = used();
        busy.kill().unwrap();
        busy.wait().unwrap();
        assert!(with > without, "{with:?}, {without:?}");
    }
}
