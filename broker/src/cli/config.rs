use super::{CliError, ConfigCommand, Console, Overrides};
use crate::config::{self, Check, Environment, Flag, Settings};
use crate::edge::Tls;
use crate::gateway::SessionConfig;

/// What other modules know to be wrong with settings, beside what the configuration knows itself.
const CHECKS: &[Check] = &[SessionConfig::check, Tls::check];

/// The settings that file, environment and flags make.
///
/// # Errors
/// Exit code 64 with every fault.
pub(super) fn settings(overrides: &Overrides, environment: &Environment) -> Result<Settings, CliError> {
    config::load(overrides.config.as_deref(), environment, &flags(overrides), CHECKS)
        .map_err(|faults| CliError::usage(faults.to_string()))
}

/// Does what `countersign config` was asked to.
///
/// # Errors
/// Exit code 64 with every fault of the configuration.
pub(super) fn run(
    command: ConfigCommand,
    overrides: &Overrides,
    environment: &Environment,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    match command {
        ConfigCommand::Check => {
            settings(overrides, environment)?;
            writeln!(console.output, "configuration is valid")?;
        }
        ConfigCommand::Default => console.output.write_all(config::DEFAULT_FILE.as_bytes())?,
        ConfigCommand::Env => console.output.write_all(config::environment_listing().as_bytes())?,
    }
    Ok(())
}

/// The flags that stand for settings.
fn flags(overrides: &Overrides) -> Vec<Flag> {
    let Overrides { config: _, listen, admin_listen, data_dir, redis } = overrides;
    let address = |value: &Option<std::net::SocketAddr>| value.map(|address| address.to_string());
    let folder = data_dir.as_ref().map(|path| path.to_string_lossy().into_owned());
    let given = [
        ("--listen", "server.listen", address(listen)),
        ("--admin-listen", "server.admin_listen", address(admin_listen)),
        ("--data-dir", "server.data_dir", folder),
        ("--redis", "cluster.redis", redis.clone()),
    ];
    given.into_iter().filter_map(|(name, key, value)| value.map(|value| Flag { name, key, value })).collect()
}
