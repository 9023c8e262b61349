//! The node under test: the release binary, with a configuration of its own on ports that the system chooses.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;

use crate::Outcome;
use crate::swarm::{Approach, Shows, Verified};

/// Path of sockets.
pub(crate) const SOCKET_PATH: &str = "/ws";
/// Channel of every scenario.
pub(crate) const CHANNEL: &str = "load:all";
/// The page's origin.
const ORIGIN: &str = "https://load.example";
/// The load test's own issuer of tokens.
const ISSUER: &str = "https://issuer.load.example";
/// Audience of its tokens.
const AUDIENCE: &str = "load";
/// Its secret. It protects nothing: the node lives for one run, on loopback.
const SECRET: &str = "a secret that only a load test would ever use";

/// A running node. It ends with this value, and its files go.
pub(crate) struct Node {
    child: Child,
    directory: TempDir,
    /// The public listener.
    pub gateway: SocketAddr,
    /// The administrative listener.
    pub admin: SocketAddr,
}

impl Node {
    /// Starts the binary at `server` and waits until it names its addresses.
    ///
    /// # Errors
    /// If it ends or says something else first; the end of its log is in the message.
    pub(crate) fn start(server: &Path) -> Outcome<Self> {
        Self::start_with(server, &[])
    }

    /// The same with further arguments.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub(crate) fn start_with(server: &Path, arguments: &[&str]) -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        let log = fs::File::create(log_path(directory.path()))?;
        let mut child = Command::new(server)
            .arg("--config")
            .arg(write_configuration(directory.path())?)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|fault| format!("{} cannot be started: {fault}", server.display()))?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("a node without output")?);
        let addresses = address(&mut lines, "gateway").and_then(|gateway| Ok((gateway, address(&mut lines, "admin")?)));
        match addresses {
            Ok((gateway, admin)) => Ok(Self { child, directory, gateway, admin }),
            Err(fault) => {
                child.kill().ok();
                child.wait().ok();
                let log = fs::read_to_string(log_path(directory.path())).unwrap_or_default();
                Err(format!("the node did not start: {fault}\n{log}").into())
            }
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The key of the server API.
    ///
    /// # Errors
    /// If the node made none.
    pub(crate) fn api_key(&self) -> Outcome<String> {
        Ok(fs::read_to_string(self.directory.path().join("data/api-key"))?.trim().to_owned())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // If it cannot be killed it is gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The way of a client to a verified connection on such a node.
pub(crate) fn approach(channel: Option<&str>) -> Approach {
    Approach::Verified(verified(channel))
}

/// What such a client says.
pub(crate) fn verified(channel: Option<&str>) -> Verified {
    Verified {
        path: SOCKET_PATH.to_owned(),
        origin: ORIGIN.to_owned(),
        secret: SECRET.to_owned(),
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
        channel: channel.map(str::to_owned),
        shows: Shows::Id,
    }
}

/// Writes secret and configuration into `directory`; the configuration's path.
pub(crate) fn write_configuration(directory: &Path) -> Outcome<PathBuf> {
    let secret = directory.join("issuer-secret");
    fs::write(&secret, SECRET)?;
    let path = directory.join("countersign.toml");
    fs::write(&path, configuration(&directory.join("data"), &secret))?;
    Ok(path)
}

fn configuration(data: &Path, secret: &Path) -> String {
    // Debug of a path's text is a TOML basic string for every path that a temporary folder has.
    format!(
        r#"[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
data_dir = {data:?}

[gateway]
path = "{SOCKET_PATH}"
allowed_origins = ["{ORIGIN}"]

[gateway.token]
required = true

[[identity.issuers]]
name = "load"
issuer = "{ISSUER}"
audiences = ["{AUDIENCE}"]
algorithms = ["HS256"]
hmac_secret_file = {secret:?}

# Most clients show connection ids.
[authorizer]
mode = "bearer"

# Those that show tickets show their first throughout a measurement.
[authorizer.ticket]
ttl_ms = 60_000

[telemetry]
log_filter = "warn"

[[channels]]
pattern = "load:**"
subscribe = "verified"
"#
    )
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("log")
}

/// The address in the next line, which must read `<name>  http://<address>/`.
fn address(lines: &mut BufReader<ChildStdout>, name: &str) -> Outcome<SocketAddr> {
    let mut line = String::new();
    lines.read_line(&mut line)?;
    parse_address(&line, name).ok_or_else(|| format!("expected the address of {name}, got {line:?}").into())
}

fn parse_address(line: &str, name: &str) -> Option<SocketAddr> {
    let url = line.strip_prefix(name)?.trim();
    url.strip_prefix("http://")?.strip_suffix('/')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_addresses_are_read() {
        let address = parse_address("gateway  http://127.0.0.1:4711/\n", "gateway");
        assert_eq!(address, Some(SocketAddr::from(([127, 0, 0, 1], 4711))));
        assert_eq!(parse_address("admin    http://127.0.0.1:4711/\n", "gateway"), None);
        assert_eq!(parse_address("", "gateway"), None);
    }
}
