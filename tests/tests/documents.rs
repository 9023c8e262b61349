//! What the documents name is there.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what broke by panicking")]

use std::collections::HashSet;
use std::path::Path;

use countersign_tests::node::root;

/// Rows of the table of attacks; fewer would mean that it was not read.
const ATTACKS_MIN: usize = 15;

/// Faults that challenges of this kind have had; each has a test under its own name, which no change may lose.
const FAULTS: [&str; 18] = [
    "client_chooses_question",
    "absence_is_not_equality",
    "internal_error_fails_closed",
    "no_public_secret",
    "origin_is_checked",
    "scheme_and_port_count",
    "deadline_enforced",
    "answer_bound_to_socket",
    "no_zombie_verified",
    "records_expire",
    "record_before_challenge",
    "no_fixed_sleep",
    "revocation_bound",
    "per_route_decision",
    "id_alone_is_not_enough",
    "failure_has_effect",
    "no_secrets_in_logs",
    "no_eval_by_default",
];

#[test]
fn every_fault_of_the_replaced_system_has_its_test() {
    let tests = tests_below(&root());
    let lost: Vec<&str> = FAULTS.into_iter().filter(|fault| !tests.contains(*fault)).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let document = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let tests = tests_below(&root());
    let attacks = document.split("## Attacks").nth(1).expect("the attacks").split("\n## ").next().unwrap();
    let rows: Vec<&str> = attacks.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() >= ATTACKS_MIN, "{} attacks", rows.len());
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 4, "attack, what is done, what is left, tests: {row}");
        let named: Vec<&str> = cells[3].split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test: {row}");
        for name in named {
            assert!(tests.contains(name), "there is no test `{name}`: {}", cells[0]);
        }
    }
}

/// The names of all tests in Rust.
fn tests_below(folder: &Path) -> HashSet<String> {
    let mut tests = HashSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() && name != "target" && name != "node_modules" && !name.to_string_lossy().starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                tests.extend(tests_in(&std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    tests
}

/// A function counts if the attribute of a test stands right above it, or above its other attributes.
fn tests_in(source: &str) -> Vec<String> {
    let mut is_test = false;
    let mut names = Vec::new();
    for line in source.lines().map(str::trim) {
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        match function.and_then(|rest| rest.split_once('(')) {
            Some((name, _)) if is_test => names.push(name.to_owned()),
            _ if line.starts_with("#[") => is_test |= line == "#[test]" || line.contains("::test]") || line.contains("::test("),
            _ => is_test = false,
        }
    }
    names
}

#[test]
fn only_functions_under_the_attribute_of_a_test_count() {
    let source =
        "#[test]\nfn one() {\n}\nfn two() {}\n#[tokio::test(x)]\n#[allow(x)]\nasync fn three() {}\n// #[test]\nfn four() {}";
    assert_eq!(tests_in(source), ["one", "three"]);
}
