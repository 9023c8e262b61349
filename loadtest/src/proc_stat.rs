//! What the kernel says of a process: processor time and resident memory.

use std::fs;

use crate::Outcome;

/// Ticks per second in `/proc/<pid>/stat`: `USER_HZ`, which Linux fixes at 100 on every architecture that runs this.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processor time that a process has spent, in user and kernel mode, over all its threads.
///
/// # Errors
/// If the process is gone.
pub(crate) fn cpu_seconds(pid: u32) -> Outcome<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_cpu_seconds(&stat).ok_or_else(|| format!("/proc/{pid}/stat is not understood").into())
}

/// Resident memory of a process in bytes, without what the kernel keeps for its sockets.
///
/// # Errors
/// If the process is gone.
pub(crate) fn resident_bytes(pid: u32) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_resident_bytes(&status).ok_or_else(|| format!("/proc/{pid}/status is not understood").into())
}

/// Open descriptors of a process.
///
/// # Errors
/// If the process is gone.
pub(crate) fn descriptors(pid: u32) -> Outcome<u64> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64)
}

/// Threads of a process.
///
/// # Errors
/// If the process is gone.
pub(crate) fn threads(pid: u32) -> Outcome<u64> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count() as u64)
}

/// The machine, as a reader of the results needs it: processor, cores, kernel.
pub(crate) fn machine() -> String {
    let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = parse_model(&cpu_info).unwrap_or("unknown processor");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

/// Fields 14 and 15, counted after the command's closing parenthesis: the command may hold spaces and parentheses.
fn parse_cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_command) = stat.rsplit_once(')')?;
    let mut fields = after_command.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn parse_resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn parse_model(cpu_info: &str) -> Option<&str> {
    let line = cpu_info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_a_hostile_command_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 3 0 100 1 2";
        assert_eq!(parse_cpu_seconds(stat), Some(4.0));
        assert_eq!(parse_cpu_seconds("42 (x) S 1"), None);
        assert_eq!(parse_cpu_seconds(""), None);
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(parse_resident_bytes("VmSize:\t 9 kB\nVmRSS:\t  12 kB\n"), Some(12 * 1024));
        assert_eq!(parse_resident_bytes("VmSize:\t 9 kB\n"), None);
    }

    #[test]
    fn own_process_can_be_read() {
        let own = std::process::id();
        assert!(cpu_seconds(own).is_ok());
        assert!(resident_bytes(own).unwrap() > 0);
        assert!(descriptors(own).unwrap() > 2 && threads(own).unwrap() > 0);
    }
}
