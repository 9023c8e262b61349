use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::Value;

use crate::config::{ADDRESS_WANTED, PoolAlgorithm};

/// Self-hosted WebSocket gateway and broker: authenticates, challenges and registers sockets, authorizes REST calls by
/// connection id, delivers messages.
///
/// Without a subcommand it serves. Without a configuration file it serves a trial node: listeners on loopback, a demo page
/// under `/`, data in `./data`.
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(name = "countersign", version, after_help = EXIT_CODES, propagate_version = true)]
pub struct Arguments {
    /// What every subcommand takes.
    #[command(flatten)]
    pub overrides: Overrides,
    /// What to do; nothing means serve.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The end of every `--help`.
const EXIT_CODES: &str = "Configuration: TOML file < COUNTERSIGN_* environment < flags; `countersign config env` lists the names.\n\
                          Exit codes: 0 done, 64 wrong usage or configuration, 1 anything else.";

/// Flags that stand above the configuration file and the environment. They may come before or after a subcommand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Configuration")]
pub struct Overrides {
    /// TOML file to read. Otherwise the one that COUNTERSIGN_CONFIG names; without either, a trial node
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of sockets, sign-in and protected resources; port 0 lets the system choose
    #[arg(long, global = true, value_name = "ADDRESS", value_parser = listen_address)]
    pub listen: Option<SocketAddr>,
    /// Address of decisions, metrics, health and administration; port 0 lets the system choose
    #[arg(long, global = true, value_name = "ADDRESS", value_parser = listen_address)]
    pub admin_listen: Option<SocketAddr>,
    /// Folder of users, refresh tokens and signing keys
    #[arg(long, global = true, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Redis that this node shares with others, such as redis://127.0.0.1:6379; without one it is alone
    #[arg(long, global = true, value_name = "URL")]
    pub redis: Option<String>,
}

/// The subcommands.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Command {
    /// Run a node until SIGTERM or SIGINT, then drain it (the default)
    Serve,
    /// Check and show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Keep the user pool; works beside a running node that has the same data folder
    User(UserArgs),
    /// Make and look into tokens
    Token(TokenArgs),
    /// Keep the keys that sign the pool's tokens, and those that sign programs
    Keys(KeysArgs),
}

/// `countersign config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Read file, environment and flags, report every fault at once, bind nothing
    Check,
    /// Print the default configuration as a commented TOML file
    Default,
    /// Print every environment name with its default
    Env,
}

/// `countersign user`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct UserArgs {
    /// What to do with the pool.
    #[command(subcommand)]
    pub command: UserCommand,
}

/// What `countersign user` does.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum UserCommand {
    /// Create a user
    ///
    /// Without --password-stdin a temporary password is generated and printed once; the user must replace it at the first
    /// sign-in.
    #[command(after_help = "Example: printf %s \"$PASSWORD\" | countersign user add ada --password-stdin --permanent")]
    Add(UserAddArgs),
    /// List the users
    List {
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Refuse a user's sign-ins and tokens, and end that user's connections
    Disable(UserNameArgs),
    /// Undo `disable`
    Enable(UserNameArgs),
    /// Set a user's password and end the user's refresh tokens
    ///
    /// Without --password-stdin a temporary password is generated and printed once.
    Passwd(UserPasswdArgs),
    /// Remove a user for good, and end that user's connections
    Delete(UserNameArgs),
}

/// `countersign user add`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct UserAddArgs {
    /// Name to sign in with
    pub name: String,
    /// Address for the `email` claim of id tokens
    #[arg(long)]
    pub email: Option<String>,
    /// How the password is given.
    #[command(flatten)]
    pub password: PasswordArgs,
}

/// `countersign user passwd`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct UserPasswdArgs {
    /// Name of the user
    pub name: String,
    /// How the password is given.
    #[command(flatten)]
    pub password: PasswordArgs,
}

/// A user by name.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct UserNameArgs {
    /// Name of the user
    pub name: String,
}

/// How a password is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
pub struct PasswordArgs {
    /// Take the password from standard input: all of it, without one line break at its end
    #[arg(long)]
    pub password_stdin: bool,
    /// The password stands; otherwise it is temporary and must be replaced at the first sign-in
    #[arg(long, requires = "password_stdin")]
    pub permanent: bool,
}

/// `countersign token`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct TokenArgs {
    /// What to do with a token.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What `countersign token` does.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum TokenCommand {
    /// Sign a token of a pool user with the current key and print it
    ///
    /// Meant for trials and for services: it asks for no password, only for read access to the data folder.
    #[command(after_help = "Example: countersign token mint --user ada --use access --lifetime-seconds 300 --claim team=blue")]
    Mint(TokenMintArgs),
    /// Verify a token as a handshake would, print its claims, or say why it is refused
    Inspect {
        /// The token; standard input if it is left out, which keeps it out of the process list
        token: Option<String>,
    },
}

/// `countersign token mint`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct TokenMintArgs {
    /// Name of the pool user that the token names
    #[arg(long, value_name = "NAME")]
    pub user: String,
    /// Kind of token
    #[arg(long = "use", value_enum, default_value_t = TokenUse::Id)]
    pub token_use: TokenUse,
    /// Life of the token; by default identity.pool.token_lifetime_seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub lifetime_seconds: Option<u64>,
    /// A further claim; the value is JSON if it reads as JSON, else text. May be repeated
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = ClaimArg::parse)]
    pub claims: Vec<ClaimArg>,
}

/// The value of a token's `token_use`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenUse {
    /// Who the user is
    Id,
    /// What the user's client may do
    Access,
}

impl TokenUse {
    /// The text of the claim.
    #[must_use]
    pub const fn claim(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Access => "access",
        }
    }
}

/// A claim given on the command line.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimArg {
    /// Name of the claim; never empty.
    pub name: String,
    /// Its value.
    pub value: Value,
}

impl ClaimArg {
    /// Reads `NAME=VALUE`.
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self {
                name: name.to_owned(),
                value: serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned())),
            }),
            _ => Err("write NAME=VALUE".to_owned()),
        }
    }
}

/// `countersign keys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct KeysArgs {
    /// What to do with the keys.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What `countersign keys` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum KeysCommand {
    /// List the keys that sign tokens: id, algorithm, age, and which one signs
    List {
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Make a new key that signs tokens
    ///
    /// It is published at once and signs after identity.pool.key_publish_ahead_seconds; the old key stays published until
    /// the last token that it signed has expired.
    Rotate {
        /// Signature algorithm of the new key; by default identity.pool.algorithm
        #[arg(long, value_name = "ALGORITHM", value_parser = pool_algorithm())]
        algorithm: Option<PoolAlgorithm>,
    },
    /// Print what pages pin: the key that signs programs, and the next one
    ///
    /// One point of P-256 a line, in base64url, for the option `pins` of the SDK. Pages pin both, so that a rotation breaks none.
    Pins {
        /// One JSON array instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Let the next key sign programs, make another next one, and print the new pins
    ///
    /// Refused until the next key was published for challenge.signing_key_publish_ahead_seconds. Running nodes follow within
    /// seconds; pages that pin the old pair go on, and should have the new one before the rotation after this.
    RotatePrograms {
        /// However short a time the next key was published: for a key that became known
        #[arg(long)]
        now: bool,
    },
}

/// Reads the address of a listener.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("write {ADDRESS_WANTED}"))
}

/// Reads `RS256` or `ES256`.
fn pool_algorithm() -> impl clap::builder::TypedValueParser<Value = PoolAlgorithm> {
    PossibleValuesParser::new(["RS256", "ES256"]).map(|name| match name.as_str() {
        "ES256" => PoolAlgorithm::Es256,
        _ => PoolAlgorithm::Rs256,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Arguments {
        Arguments::try_parse_from(std::iter::once("countersign").chain(line.split_whitespace())).unwrap()
    }

    #[test]
    fn the_definition_is_consistent_and_every_argument_has_help() {
        fn walk(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} of {} has no help", argument.get_id(), command.get_name());
            }
            command.get_subcommands().for_each(walk);
        }
        Arguments::command().debug_assert();
        walk(&Arguments::command());
    }

    #[test]
    fn an_address_that_is_none_is_told_what_one_looks_like() {
        let refused = Arguments::try_parse_from(["countersign", "--listen", "localhost"]).unwrap_err().to_string();
        assert!(refused.contains("an IP address with a port, such as 127.0.0.1:8080"), "{refused}");
    }

    #[test]
    fn flags_stand_before_or_after_the_subcommand() {
        assert_eq!(parse("").command, None);
        let expected = Overrides { config: Some("a.toml".into()), data_dir: Some("d".into()), ..Overrides::default() };
        for line in ["--config a.toml --data-dir d serve", "serve --data-dir d --config a.toml"] {
            assert_eq!(parse(line), Arguments { overrides: expected.clone(), command: Some(Command::Serve) }, "{line}");
        }
        assert_eq!(parse("user list --data-dir d --config a.toml").overrides, expected);
    }

    #[test]
    fn passwords_come_from_standard_input_only() {
        let Some(Command::User(user)) = parse("user add ada --email a@b.example --password-stdin --permanent").command else {
            panic!("not a user command")
        };
        let password = PasswordArgs { password_stdin: true, permanent: true };
        let add = UserAddArgs { name: "ada".into(), email: Some("a@b.example".into()), password };
        assert_eq!(user.command, UserCommand::Add(add));
        assert!(Arguments::try_parse_from(["countersign", "user", "add", "ada", "--permanent"]).is_err());
        assert!(Arguments::try_parse_from(["countersign", "user", "add", "ada", "--password", "x"]).is_err());
    }

    #[test]
    fn claims_are_json_where_they_read_as_json() {
        let Some(Command::Token(token)) = parse("token mint --user ada --claim n=1 --claim t=blue --claim e=").command else {
            panic!("not a token command")
        };
        let TokenCommand::Mint(mint) = token.command else { panic!("not a mint") };
        let values: Vec<_> = mint.claims.into_iter().map(|claim| claim.value).collect();
        assert_eq!(values, [Value::from(1), Value::from("blue"), Value::from("")]);
        assert!(Arguments::try_parse_from(["countersign", "token", "mint", "--user", "ada", "--claim", "=x"]).is_err());
    }

    #[test]
    fn program_keys_are_pinned_and_rotated_beside_the_pools() {
        let keys = |command| Some(Command::Keys(KeysArgs { command }));
        assert_eq!(parse("keys pins").command, keys(KeysCommand::Pins { json: false }));
        assert_eq!(parse("keys rotate-programs --now").command, keys(KeysCommand::RotatePrograms { now: true }));
    }

    #[test]
    fn keys_rotate_takes_the_pools_algorithms_only() {
        let rotate = KeysCommand::Rotate { algorithm: Some(PoolAlgorithm::Es256) };
        assert_eq!(parse("keys rotate --algorithm ES256").command, Some(Command::Keys(KeysArgs { command: rotate })));
        assert!(Arguments::try_parse_from(["countersign", "keys", "rotate", "--algorithm", "none"]).is_err());
    }
}
