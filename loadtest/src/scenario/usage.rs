use std::time::Instant;

use crate::stats::ratio;
use crate::{Outcome, proc_stat};

/// What a server spent on something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// How often it was done.
    pub units: f64,
    /// Processor time of the server.
    pub cpu_seconds: f64,
    /// Wall time.
    pub wall_seconds: f64,
}

impl Usage {
    /// Measures what the process `pid` spends while `work` runs; `work` tells how much was done.
    ///
    /// # Errors
    /// If the work failed or the process is gone.
    pub(super) fn of(pid: u32, work: impl FnOnce() -> Outcome<f64>) -> Outcome<Self> {
        let (cpu_before, started) = (proc_stat::cpu_seconds(pid)?, Instant::now());
        let units = work()?;
        let wall_seconds = started.elapsed().as_secs_f64();
        Ok(Self { units, cpu_seconds: proc_stat::cpu_seconds(pid)? - cpu_before, wall_seconds })
    }

    /// Units per second of the server's processor time.
    pub(super) fn per_cpu_second(&self) -> f64 {
        ratio(self.units, self.cpu_seconds)
    }

    /// Units per second.
    pub(super) fn per_second(&self) -> f64 {
        ratio(self.units, self.wall_seconds)
    }
}
