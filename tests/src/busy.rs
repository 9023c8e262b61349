//! What a busy machine added to a time: how long those who could have run waited for a processor.
//!
//! A promise that is a time holds for a node that gets its share of a machine. Where tests measure one, they allow for what others took of it
//! meanwhile and for nothing else: on an idle machine that is next to nothing.

use std::collections::HashMap;
use std::time::Duration;

/// Waits of threads up to some moment.
#[derive(Debug, Clone, Default)]
pub struct Busy {
    /// Nanoseconds on a run queue, by process and thread.
    waits: HashMap<(u32, String), u64>,
    /// Ticks of a hundredth of a second in which somebody else had this machine's processors.
    stolen: u64,
}

impl Busy {
    /// Up to now, of these processes and the calling thread: a test runs all of its own on one.
    #[must_use]
    pub fn now(processes: &[u32]) -> Self {
        let mut waits = HashMap::new();
        for process in processes {
            let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
            for thread in threads {
                let name = thread.file_name().to_string_lossy().into_owned();
                waits.insert((*process, name), waited(&thread.path().join("schedstat").to_string_lossy()));
            }
        }
        waits.insert((0, String::new()), waited("/proc/thread-self/schedstat"));
        Self { waits, stolen: stolen() }
    }

    /// What was added from `self` to `later`. Of a process that began meanwhile, all counts.
    #[must_use]
    pub fn until(&self, later: &Self) -> Duration {
        let added = later.waits.iter().map(|(thread, wait)| wait.saturating_sub(self.waits.get(thread).copied().unwrap_or(0)));
        Duration::from_nanos(added.sum()) + Duration::from_millis(later.stolen.saturating_sub(self.stolen) * 10)
    }
}

/// The second number of a thread's `schedstat`; 0 where there is none, or none any more.
fn waited(path: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The eighth number of the machine's line.
fn stolen() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    text.lines().next().and_then(|line| line.split_whitespace().nth(8)?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waited_before_does_not_count_and_what_began_meanwhile_does() {
        let sample = |waits: &[(u32, u64)], stolen| Busy {
            waits: waits.iter().map(|(process, wait)| ((*process, "1".to_owned()), *wait)).collect(),
            stolen,
        };
        let (before, after) = (sample(&[(1, 5), (2, 7)], 3), sample(&[(1, 1_000_005), (3, 2_000_000)], 4));
        assert_eq!(before.until(&after), Duration::from_millis(13));
        assert!(!Busy::now(&[std::process::id()]).waits.is_empty());
    }
}
