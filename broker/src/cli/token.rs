use std::io::Read as _;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{CliError, Console, TokenArgs, TokenCommand, TokenMintArgs, TokenUse};
use crate::config::Settings;
use crate::identity::{Identity, mint};
use crate::telemetry::Metrics;

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
    let principal = verified
        .map_err(|refusal| CliError::failure(format!("refused: {}", identity.verifier().explain(token.trim(), refusal))))?;
    let shown = json!({
        "issuer": principal.issuer,
        "subject": principal.subject,
        "username": principal.username,
        "claims": Value::Object(principal.claims.clone()),
    });
    let shown = serde_json::to_string_pretty(&shown).map_err(|error| CliError::failure(error.to_string()))?;
    Ok(writeln!(console.output, "{shown}")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{ClaimArg, KeysArgs, KeysCommand};
    use crate::config::{PoolAlgorithm, Seconds};
    use crate::identity::{GivenPassword, UserAdmin};

    fn settings(folder: &tempfile::TempDir) -> Settings {
        let mut settings = Settings::default();
        settings.server.data_dir = folder.path().join("data");
        settings.identity.pool.argon2_memory_kib = 8;
        settings.identity.pool.argon2_iterations = 1;
        settings.identity.pool.algorithm = PoolAlgorithm::Es256;
        settings.identity.pool.key_publish_ahead_seconds = Seconds(0);
        settings
    }

    fn output(work: impl FnOnce(&mut Console<'_>) -> Result<(), CliError>) -> Result<String, CliError> {
        let mut output = Vec::new();
        work(&mut Console { input: &mut std::io::empty(), output: &mut output })?;
        Ok(String::from_utf8(output).unwrap())
    }

    fn check(settings: &Settings, command: TokenCommand) -> Result<String, CliError> {
        output(|console| run(&TokenArgs { command }, settings, console))
    }

    fn mint_with(claims: Vec<ClaimArg>) -> TokenCommand {
        let user = "ada".to_owned();
        TokenCommand::Mint(TokenMintArgs { user, token_use: TokenUse::Id, lifetime_seconds: Some(60), claims })
    }

    #[test]
    fn a_minted_token_is_inspected_before_and_after_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        assert!(check(&settings, mint_with(Vec::new())).unwrap_err().message.contains("no user"));
        let password = GivenPassword::Permanent("violets are blue".to_owned().into());
        UserAdmin::open(&settings).unwrap().add("ada", None, password).unwrap();
        let team = || ClaimArg { name: "team".to_owned(), value: json!("blue") };
        assert!(check(&settings, mint_with(vec![team(), team()])).is_err());
        let token = check(&settings, mint_with(vec![team()])).unwrap();
        let keys = |command| output(|console| crate::cli::keys::run(&KeysArgs { command }, &settings, console)).unwrap();
        keys(KeysCommand::Rotate { algorithm: Some(PoolAlgorithm::Rs256) });
        let shown = check(&settings, TokenCommand::Inspect { token: Some(token.clone()) }).unwrap();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!((&shown["issuer"], &shown["claims"]["team"]), (&json!("pool"), &json!("blue")));
        let listed: Value = serde_json::from_str(&keys(KeysCommand::List { json: true })).unwrap();
        assert_eq!((&listed[0]["state"], &listed[1]["state"]), (&json!("verifies"), &json!("signs")));
        assert_eq!(keys(KeysCommand::List { json: false }).lines().count(), 2);
        UserAdmin::open(&settings).unwrap().set_disabled("ada", true).unwrap();
        let refused = check(&settings, TokenCommand::Inspect { token: Some(token) }).unwrap_err();
        assert!(refused.message.starts_with("refused: it was revoked"), "{}", refused.message);
    }

    #[test]
    fn a_refusal_names_the_claim_or_the_check_that_failed() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        let password = GivenPassword::Permanent("violets are blue".to_owned().into());
        UserAdmin::open(&settings).unwrap().add("ada", None, password).unwrap();
        let mint = |token_use| {
            let (user, lifetime_seconds) = ("ada".to_owned(), Some(60));
            let args = TokenMintArgs { user, token_use, lifetime_seconds, claims: Vec::new() };
            check(&settings, TokenCommand::Mint(args)).unwrap().trim().to_owned()
        };
        let inspect = |settings: &Settings, token: &str| {
            check(settings, TokenCommand::Inspect { token: Some(token.to_owned()) }).unwrap_err().message
        };
        assert_eq!(inspect(&settings, &mint(TokenUse::Access)), "refused: token_use is `access`, accepted are: id");
        let id = mint(TokenUse::Id);
        let mut other = settings.clone();
        other.identity.pool.client_id = "another".to_owned();
        let audience = inspect(&other, &id);
        assert!(audience.starts_with("refused: aud is `") && audience.ends_with("accepted are: another"), "{audience}");
        other.identity.pool.issuer = Some("https://other.example".to_owned());
        let issuer = inspect(&other, &id);
        assert!(issuer.starts_with("refused: iss is `") && issuer.ends_with("https://other.example"), "{issuer}");
        let (signed, signature) = id.rsplit_once('.').unwrap();
        let forged = format!("{signed}.{}", signature.chars().rev().collect::<String>());
        assert!(inspect(&settings, &forged).contains("the signature does not verify"));
        assert!(inspect(&settings, "nonsense").contains("no JSON Web Token"));
    }
}
