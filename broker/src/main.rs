//! The `countersign` binary: crypto providers, command line and configuration, logging, then the node.

use std::io::Write as _;
use std::process::ExitCode;

use countersign::cli::{self, CliError, Console, Invocation};
use countersign::config::{Environment, Settings};
use countersign::{node, telemetry};

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if standard error is closed.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(error.exit.code())
        }
    }
}

fn start() -> Result<(), CliError> {
    install_crypto()?;
    // The only place that reads the process's environment.
    let environment = Environment::new(std::env::vars_os());
    let (mut input, mut output) = (std::io::stdin(), std::io::stdout());
    let mut console = Console { input: &mut input, output: &mut output };
    let invocation = cli::run(std::env::args_os(), &environment, &mut console)?;
    output.flush()?;
    match invocation {
        Invocation::Done => Ok(()),
        Invocation::Serve(settings) => serve(*settings),
    }
}

/// Each library takes one provider per process, chosen before its first use; both are the same implementation.
fn install_crypto() -> Result<(), CliError> {
    let taken = |_| CliError::failure("a crypto provider is installed already");
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(|_| taken(()))?;
    jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default().map_err(|_| taken(()))
}

fn serve(settings: Settings) -> Result<(), CliError> {
    telemetry::init_logging(&settings.telemetry).map_err(|error| CliError::failure(error.to_string()))?;
    let system = actix_rt::System::new();
    system.block_on(node::serve(settings)).map_err(|error| CliError::failure(error.to_string()))
}
