//! The command line: wrong configuration ends with 64 and names every fault; help and defaults are worth reading.

use std::process::Output;

use countersign_tests::Plan;

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Checks a configuration, and starts a node with it: both must end with 64 and say all of this.
fn check_refused(what: &str, settings: &str, said: &[&str]) {
    let plan = Plan::new().toml(settings);
    for arguments in [&["config", "check"][..], &["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]] {
        let output = plan.cli(arguments, "");
        let text = stderr(&output) + &stdout(&output);
        assert_eq!(output.status.code(), Some(64), "{what} ({arguments:?}): {text}");
        for part in said {
            assert!(text.contains(part), "{what}: no {part:?} in: {text}");
        }
    }
}

#[test]
fn wrong_configuration_ends_with_64_and_says_what() {
    check_refused("an unknown key", "[gateway]\npaht = \"/ws\"", &["paht", "path"]);
    check_refused("an unknown table", "[gatway]\npath = \"/ws\"", &["gatway", "gateway"]);
    check_refused("a wrong type", "[gateway]\npath = 7", &["gateway.path"]);
    check_refused("a wildcard origin", "[gateway]\nallowed_origins = [\"https://*.example\"]", &["wildcard"]);
    check_refused("an origin with a slash", "[gateway]\nallowed_origins = [\"https://a.example/\"]", &["https://a.example"]);
    check_refused("a wrong choice", "[authorizer]\nrequire = \"nothing\"", &["nothing", "verified"]);
    check_refused("out of range", "[challenge]\nanswer_timeout_ms = 5", &["answer_timeout_ms"]);
    check_refused("a route of two kinds", "[routes.X]\nreply = \"a\"\necho = true", &["X"]);
    check_refused("a broken template", "[routes.X]\nreply = \"{{ unclosed\"", &["X"]);
}

#[test]
fn all_faults_are_named_at_once() {
    let settings = "[gateway]\npaht = \"/ws\"\nallowed_origins = [\"nonsense\"]\n[challenge]\nprogram_operations = 1\n\
                    [identity]\nleeway_seconds = 3600";
    check_refused("four faults", settings, &["paht", "nonsense", "program_operations", "leeway_seconds"]);
}

#[test]
fn files_flags_and_environment_are_checked_too() {
    let missing = Plan::bare().cli(&["serve", "--config", "/nowhere/at/all.toml"], "");
    assert_eq!(missing.status.code(), Some(64), "{}", stderr(&missing));
    assert!(stderr(&missing).contains("/nowhere/at/all.toml"));
    let flag = Plan::bare().cli(&["serve", "--listen", "somewhere"], "");
    assert_eq!(flag.status.code(), Some(64), "{}", stderr(&flag));
    let unknown = Plan::bare().cli(&["serv"], "");
    assert_eq!(unknown.status.code(), Some(64), "{}", stderr(&unknown));
    let environment = Plan::bare().env("COUNTERSIGN_SERVER__LISTTEN", "127.0.0.1:0").cli(&["config", "check"], "");
    assert_eq!(environment.status.code(), Some(64), "{}", stderr(&environment));
    assert!(stderr(&environment).contains("COUNTERSIGN_SERVER__LISTTEN"), "{}", stderr(&environment));
    let folder = Plan::new();
    std::fs::write(folder.folder().join("broken.toml"), "[gateway\npath").unwrap();
    let path = folder.folder().join("broken.toml").display().to_string();
    let broken = Plan::bare().cli(&["config", "check", "--config", &path], "");
    assert_eq!(broken.status.code(), Some(64), "{}", stderr(&broken));
}

#[tokio::test]
async fn environment_is_above_the_file_and_flags_above_both() {
    let plan = Plan::new().toml("[gateway]\npath = \"/from-file\"").env("COUNTERSIGN_GATEWAY__PATH", "/from-environment");
    // The listeners are flags here, and those of the environment would not even be free.
    let node = plan.env("COUNTERSIGN_SERVER__LISTEN", "192.0.2.1:1").start();
    assert_eq!(countersign_tests::http::get(&node.url("/from-file")).send().await.status, 404);
    assert!(matches!(countersign_tests::http::get(&node.url("/from-environment")).send().await.status, 400 | 426));
}

#[test]
fn the_printed_default_is_a_configuration() {
    let printed = Plan::bare().cli(&["config", "default"], "");
    assert!(printed.status.success());
    let text = stdout(&printed);
    for key in ["listen", "allowed_origins", "answer_timeout_ms", "cache_ttl_seconds"] {
        assert!(text.contains(key), "{key}");
    }
    let checked = Plan::new().toml(&text).cli(&["config", "check"], "");
    assert!(checked.status.success(), "{}", stderr(&checked));
    let names = stdout(&Plan::bare().cli(&["config", "env"], ""));
    assert!(names.contains("COUNTERSIGN_SERVER__LISTEN"), "{names}");
    assert!(names.lines().count() > 50);
}

#[test]
fn examples_are_right() {
    for name in ["secured-socket.toml", "domain-security.toml"] {
        let checked = Plan::example(name).cli(&["config", "check"], "");
        assert!(checked.status.success(), "{name}: {}", stderr(&checked));
    }
}

#[test]
fn help_and_version_go_to_standard_output_with_0() {
    for arguments in [&["--help"][..], &["--version"], &["user", "--help"], &["serve", "--help"]] {
        let output = Plan::bare().cli(arguments, "");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        assert!(!output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn user_commands_say_what_is_wrong_and_leave_no_password_behind() {
    let plan = Plan::new();
    let password = "Correct horse battery 1";
    assert!(plan.cli(&["user", "add", "ada", "--password-stdin", "--permanent"], password).status.success());
    for (what, arguments, input) in [
        ("twice", &["user", "add", "ada", "--password-stdin"][..], password),
        ("weak", &["user", "add", "bob", "--password-stdin"], "short"),
        ("unknown", &["user", "disable", "nobody"], ""),
        ("unknown to passwd", &["user", "passwd", "nobody", "--password-stdin"], password),
    ] {
        let output = plan.cli(arguments, input);
        assert!(!output.status.success(), "{what}");
        assert!(!stderr(&output).is_empty(), "{what}");
        assert!(!stderr(&output).contains("panicked"), "{what}: {}", stderr(&output));
    }
    let listed = plan.cli(&["user", "list", "--json"], "");
    assert!(listed.status.success());
    assert!(stdout(&listed).contains("ada") && !stdout(&listed).contains("bob"));
    for file in std::fs::read_dir(plan.data_dir()).unwrap().flatten().filter(|file| file.path().is_file()) {
        let bytes = std::fs::read(file.path()).unwrap();
        let found = bytes.windows(password.len()).any(|window| window == password.as_bytes());
        assert!(!found, "the password lies in {}", file.path().display());
    }
}

#[test]
fn secrets_on_disk_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let plan = Plan::new();
    let node = plan.start();
    let mut files = vec![plan.data_dir().join("api-key"), plan.data_dir().join("pool.db")];
    files.extend(std::fs::read_dir(plan.data_dir().join("keys")).unwrap().flatten().map(|file| file.path()));
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        let folder = std::fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777;
        assert!(mode & 0o077 == 0 || folder & 0o077 == 0, "{}: {mode:o} in {folder:o}", file.display());
    }
    drop(node);
}

#[tokio::test]
async fn a_second_node_on_the_same_port_says_so_and_ends() {
    let node = Plan::new().start();
    let taken = node.gateway.to_string();
    let output = Plan::new().cli(&["serve", "--listen", &taken, "--admin-listen", "127.0.0.1:0"], "");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains(&taken) || stderr(&output).contains("in use"), "{}", stderr(&output));
}
