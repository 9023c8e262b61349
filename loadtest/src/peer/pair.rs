//! Two nodes in one process that share registry and bus: the second knows the first's connections from its cache only.

use std::path::Path;

use countersign::config::{Environment, Flag, Settings, load};
use countersign::node::{Backplane, Node};

use super::{Addresses, wait_for_end_of_input};
use crate::node::write_configuration;
use crate::{Outcome, output};

/// Runs both nodes: sockets go to the first, decisions are asked of the second.
///
/// # Errors
/// If one of them cannot start.
pub(crate) fn run() -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let configuration = write_configuration(directory.path())?;
    let [owner, other] = ["owner", "other"].map(|name| settings(&configuration, &directory.path().join(name)));
    let (owner, other) = (owner?, other?);
    actix_web::rt::System::new().block_on(async {
        let backplane = Backplane::local();
        let owner = Node::start(owner, &backplane).await?;
        let other = Node::start(other, &backplane).await?;
        output::line(&Addresses { public: owner.gateway_address(), inner: other.admin_address() })?;
        actix_web::rt::task::spawn_blocking(wait_for_end_of_input).await?;
        Ok(())
    })
}

/// The configuration of every scenario, with a data folder of its own.
fn settings(configuration: &Path, data: &Path) -> Outcome<Settings> {
    let data = Flag { name: "--data-dir", key: "server.data_dir", value: data.display().to_string() };
    Ok(load(Some(configuration), &Environment::default(), &[data], &[])?)
}
