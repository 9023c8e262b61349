use std::io::Write as _;

use super::*;

/// What a command line ends in, and what it prints.
fn check(line: &str, environment: &[(&str, &str)]) -> (Result<Invocation, CliError>, String) {
    let environment = Environment::new(environment.iter().map(|(name, value)| (name.into(), value.into())));
    let mut output = Vec::new();
    let mut console = Console { input: &mut io::empty(), output: &mut output };
    let line = std::iter::once("countersign").chain(line.split_whitespace()).map(OsString::from);
    let result = run(line, &environment, &mut console);
    (result, String::from_utf8(output).unwrap())
}

fn refused(line: &str, environment: &[(&str, &str)]) -> CliError {
    check(line, environment).0.unwrap_err()
}

#[test]
fn serving_is_the_default_and_takes_the_flags() {
    for line in ["--listen 127.0.0.1:0 --data-dir d", "serve --data-dir d --listen 127.0.0.1:0"] {
        let Ok(Invocation::Serve(settings)) = check(line, &[]).0 else { panic!("{line}") };
        assert_eq!((settings.server.listen.port(), settings.server.data_dir.to_str()), (0, Some("d")));
        assert!(settings.server.demo_page);
    }
}

#[test]
fn the_redis_of_a_cluster_is_a_flag_too() {
    let Ok(Invocation::Serve(settings)) = check("--redis redis://127.0.0.1:1", &[]).0 else { panic!("no settings") };
    assert_eq!(settings.cluster.redis.unwrap().0, "redis://127.0.0.1:1");
    assert!(refused("--redis nowhere", &[]).message.contains("cluster.redis"));
}

#[test]
fn a_valid_configuration_is_said_to_be_valid() {
    let (result, output) = check("config check", &[]);
    assert!(matches!(result, Ok(Invocation::Done)));
    assert_eq!(output, "configuration is valid\n");
}

#[test]
fn a_wrong_configuration_ends_with_64_and_every_fault() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"[server]\nlistn = 1\n[challenge]\nanswer_timeout_ms = 1").unwrap();
    let config = format!("--config {}", file.path().display());
    for line in ["config check", "serve", "", "user list", "token inspect", "keys list"] {
        let error = refused(&format!("{line} {config}"), &[("COUNTERSIGN_GATEWAY__PATH", "ws")]);
        assert_eq!((error.exit, error.exit.code()), (ExitStatus::Usage, 64), "{line}");
        for told in ["did you mean `listen`?", "challenge.answer_timeout_ms", "COUNTERSIGN_GATEWAY__PATH: gateway.path"] {
            assert!(error.message.contains(told), "{}", error.message);
        }
    }
}

#[test]
fn pins_are_points_and_a_rotation_waits_until_pages_know_the_next_key() {
    let folder = tempfile::tempdir().unwrap();
    let keys = |command: &str| check(&format!("keys {command} --data-dir {}", folder.path().display()), &[]);
    let (result, pins) = keys("pins");
    assert!(matches!(result, Ok(Invocation::Done)));
    let pins: Vec<&str> = pins.lines().collect();
    assert!(
        pins.len() == 2 && pins[0] != pins[1] && pins.iter().all(|pin| pin.len() == 87 && pin.starts_with('B')),
        "{pins:?}"
    );
    let json: Vec<String> = serde_json::from_str(&keys("pins --json").1).unwrap();
    assert_eq!(json, pins);
    let error = keys("rotate-programs").0.unwrap_err();
    assert!(error.exit == ExitStatus::Failure && error.message.contains("must be published for"), "{}", error.message);
    assert_eq!(keys("pins").1.lines().collect::<Vec<_>>(), pins, "what was refused changed nothing");
    let rotated = keys("rotate-programs --now").1;
    assert_eq!(rotated.lines().next(), Some(pins[1]), "the next key signs");
    assert!(!pins.contains(&rotated.lines().last().unwrap()));
}

#[test]
fn a_wrong_command_line_ends_with_64() {
    for line in ["frobnicate", "--listen nowhere", "user", "user add", "config", "token mint", "--config"] {
        assert_eq!(refused(line, &[]).exit.code(), 64, "{line}");
    }
    assert!(refused("usr", &[]).message.contains("similar subcommand"));
}

#[test]
fn help_and_version_are_answers_and_no_faults() {
    for (line, told) in [("--help", "config env"), ("user add --help", "--password-stdin"), ("--version", "countersign ")] {
        let (result, output) = check(line, &[]);
        assert!(matches!(result, Ok(Invocation::Done)) && output.contains(told), "{output}");
    }
}

#[test]
fn the_default_can_be_printed_whatever_the_configuration_says() {
    let broken = [("COUNTERSIGN_NOPE", "1")];
    assert_eq!(check("config default", &broken).1, crate::config::DEFAULT_FILE);
    assert_eq!(check("config env", &broken).1, crate::config::environment_listing());
}

#[test]
fn a_printed_default_is_a_valid_configuration() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(check("config default", &[]).1.as_bytes()).unwrap();
    let line = format!("config check --config {}", file.path().display());
    assert_eq!(check(&line, &[]).1, "configuration is valid\n");
}
