use std::io::Read as _;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{CliError, Console, TokenArgs, TokenCommand, TokenMintArgs, TokenUse};
use crate::config::Settings;
use crate::identity::{Identity, TokenRefusal, mint};
use crate::telemetry::{Label as _, Metrics};

/// Longest token read from standard input, in bytes; configuration allows far shorter ones.
const TOKEN_BYTES_MAX: u64 = 65_536;

/// Does what `countersign token` was asked to.
///
/// # Errors
/// What could not be done, with its exit code.
pub(super) fn run(args: &TokenArgs, settings: &Settings, console: &mut Console<'_>) -> Result<(), CliError> {
    match &args.command {
        TokenCommand::Mint(args) => run_mint(args, settings, console),
        TokenCommand::Inspect { token: Some(token) } => inspect(token, settings, console),
        TokenCommand::Inspect { token: None } => {
            let mut token = String::new();
            (&mut *console.input).take(TOKEN_BYTES_MAX).read_to_string(&mut token)?;
            inspect(&token, settings, console)
        }
    }
}

fn run_mint(args: &TokenMintArgs, settings: &Settings, console: &mut Console<'_>) -> Result<(), CliError> {
    let mut further = Map::new();
    for claim in &args.claims {
        if further.insert(claim.name.clone(), claim.value.clone()).is_some() {
            return Err(CliError::usage(format!("claim `{}` is given twice", claim.name)));
        }
    }
    let access = args.token_use == TokenUse::Access;
    let token = mint(settings, &args.user, access, args.lifetime_seconds, further)?;
    Ok(writeln!(console.output, "{token}")?)
}

/// Verifies as a handshake would. Whoever may read the data folder may also know why a token is refused.
fn inspect(token: &str, settings: &Settings, console: &mut Console<'_>) -> Result<(), CliError> {
    let identity = Identity::start(settings, Arc::new(Metrics::new()), settings.server.listen, |_| {})?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let verified = runtime.block_on(async { identity.verifier().verify(token.trim()).await });
    let principal =
        verified.map_err(|refusal: TokenRefusal| CliError::failure(format!("token refused: {}", refusal.outcome().name())))?;
    let shown = json!({
        "issuer": principal.issuer,
        "subject": principal.subject,
        "username": principal.username,
        "claims": Value::Object(principal.claims.clone()),
    });
    let shown = serde_json::to_string_pretty(&shown).map_err(|error| CliError::failure(error.to_string()))?;
    Ok(writeln!(console.output, "{shown}")?)
}
