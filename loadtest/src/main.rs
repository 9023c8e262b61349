//! Measures Countersign beside the limits of the same machine in the same run.
//!
//! - `scenario`: connect, idle, fanout, authorize, challenge, tickets, which `quick` runs; refill, floods, and page in a real browser; and revocation and churn, which need a `redis-server`.
//! - `swarm`: the client processes; `flood`: those that mean ill; `peer`: the limits; `node`: the node under test; `redis`: what two of them share. Each is a process of its own, started
//!   from this binary (a hidden `role` command) or from the node's.
//! - `wire`, `solver`, `token`: what a client needs to say, without a library that would cost more than the server.
//! - `proc_stat`, `stats`, `report`: what is read and how it is told.
//!
//! Nothing here asserts a time: a scenario reports ratios to a limit that ran beside it, and people judge them.

mod cli;
mod flood;
mod node;
mod output;
mod peer;
mod proc_stat;
mod quick;
mod redis;
mod report;
mod results;
mod scenario;
mod solver;
mod stats;
mod swarm;
mod token;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;

use cli::{Cli, Role, Task};
use report::Report;
use scenario::Bench;

/// Faults are only reported here, never told apart, so they stay boxed.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            // Standard error is the last resort: if it is closed there is nobody to tell.
            std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("loadtest: {fault}\n")).ok();
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Outcome<()> {
    let json = cli.json;
    let show = |report: &Report| if json { Ok(()) } else { output::text(&report.to_text()) };
    let bench = || Outcome::Ok(Bench::new(cli.server.clone().map_or_else(beside_this_binary, Ok)?));
    let reports = match &cli.task {
        Task::Role(role) => return play(role),
        Task::Quick(options) => {
            let started = Instant::now();
            let reports = quick::run(&bench()?, show)?;
            if options.write {
                quick::write(&reports, started)?;
            }
            reports
        }
        Task::Connect(options) => shown(scenario::connect(&bench()?, options)?, show)?,
        Task::Idle(options) => shown(scenario::idle(&bench()?, options)?, show)?,
        Task::Fanout(options) => shown(scenario::fanout(&bench()?, options)?, show)?,
        Task::Authorize(options) => shown(scenario::authorize(&bench()?, options)?, show)?,
        Task::Challenge(options) => shown(scenario::challenge(options)?, show)?,
        Task::Tickets(options) => shown(scenario::tickets(options)?, show)?,
        Task::Revocation(options) => shown(scenario::revocation(&bench()?, options)?, show)?,
        Task::Churn(options) => kept(shown(scenario::churn(&bench()?, options)?, show)?, options.write)?,
        Task::Floods(options) => kept(shown(scenario::floods(&bench()?, options)?, show)?, options.write)?,
        Task::Page(options) => kept(shown(scenario::page(&bench()?, options)?, show)?, options.write)?,
        Task::Refill(options) => kept(shown(scenario::refill(&bench()?, options)?, show)?, options.write)?,
    };
    if json { output::line(&reports) } else { Ok(()) }
}

fn shown(report: Report, show: impl Fn(&Report) -> Outcome<()>) -> Outcome<Vec<Report>> {
    show(&report)?;
    Ok(vec![report])
}

/// Keeps the reports in the file of results, if that is wanted.
fn kept(reports: Vec<Report>, wanted: bool) -> Outcome<Vec<Report>> {
    if wanted {
        results::write_long(&reports)?;
    }
    Ok(reports)
}

fn play(role: &Role) -> Outcome<()> {
    match role {
        Role::Sockets => swarm::run_sockets(),
        Role::Flood => flood::run(),
        Role::Requests => swarm::run_requests(),
        Role::Raw { payload_len } => peer::run_raw(*payload_len),
        Role::Echo { workers } => peer::run_echo(*workers),
        Role::Pair => peer::run_pair(),
        Role::Header { workers } => peer::run_header(*workers),
    }
}

/// The node's binary, where cargo puts both.
fn beside_this_binary() -> Outcome<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("countersign"))
}
