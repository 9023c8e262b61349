//! What `config default` and `config env` print is what the structs say.

use serde_json::Value;

use super::*;

/// The default file with its examples in force: a line that begins with `#` and no space is one.
fn with_examples() -> String {
    let lines = DEFAULT_FILE.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => setting,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_default_file_reads_as_the_defaults() {
    assert_eq!(read(DEFAULT_FILE.as_bytes(), &[], &[]).unwrap(), Settings::default());
}

#[test]
fn every_default_stands_in_the_default_file() {
    let written: Value = serde_json::to_value(toml::from_str::<toml::Table>(DEFAULT_FILE).unwrap()).unwrap();
    for (key, default) in print::leaves() {
        let pointer = format!("/{}", key.to_string().replace('.', "/"));
        let array_of_tables = ["identity.issuers", "routes", "channels", "protected"].contains(&key.to_string().as_str());
        if default.is_some() && !array_of_tables {
            assert!(written.pointer(&pointer).is_some(), "{key} is missing from default.toml");
        }
    }
}

#[test]
fn the_examples_show_every_setting_that_has_no_default() {
    let settings: Settings = toml::from_str(&with_examples()).unwrap();
    let shown = serde_json::to_value(&settings).unwrap();
    for (key, default) in print::leaves() {
        let pointer = format!("/{}", key.to_string().replace('.', "/"));
        let value = shown.pointer(&pointer).unwrap_or(&Value::Null);
        assert!(default.is_some() || !value.is_null(), "{key} has no example in default.toml");
    }
    for array in ["/identity/issuers", "/channels", "/protected"] {
        let members = shown.pointer(array).and_then(Value::as_array).unwrap();
        for name in members[0].as_object().unwrap().keys() {
            assert!(members.iter().any(|member| !member[name].is_null()), "{array}/*/{name} has no example in default.toml");
        }
    }
    let routes: Vec<_> = settings.routes.values().collect();
    assert!(routes.iter().any(|route| route.builtin.is_some()) && routes.iter().any(|route| route.reply.is_some()));
    assert!(routes.iter().any(|route| route.publish.is_some()) && routes.iter().any(|route| route.echo.is_some()));
}

#[test]
fn the_examples_make_sense_but_for_files_that_are_elsewhere() {
    let settings: Settings = toml::from_str(&with_examples()).unwrap();
    let faults = settings.validate().unwrap_err();
    assert!(faults.iter().all(|fault| fault.message.contains("cannot be read")), "{faults}");
}

#[test]
fn every_setting_has_its_comment() {
    let lines: Vec<_> = DEFAULT_FILE.lines().collect();
    let settings = DEFAULT_FILE.lines().take_while(|line| !line.starts_with("# Issuers of tokens beside")).enumerate();
    for (index, line) in settings.filter(|(_, line)| line.contains(" = ") && !line.starts_with("# ")) {
        assert!(index > 0 && lines[index - 1].starts_with("# "), "line {}: `{line}` has no comment", index + 1);
    }
}

#[test]
fn every_environment_name_is_listed_and_sets_its_default() {
    let listing = environment_listing();
    assert!(listing.contains("COUNTERSIGN_SERVER__LISTEN = \"127.0.0.1:8080\"\n"), "{listing}");
    assert!(listing.contains("COUNTERSIGN_GATEWAY__LIMITS__FRAME_MAX_BYTES = 65536\n"));
    assert!(listing.contains("COUNTERSIGN_IDENTITY__POOL__ISSUER = (unset)\n"));
    assert!(listing.contains("COUNTERSIGN_SERVER__TLS__KEY_FILE = (unset)\n"));
    let set = listing.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    let set: Vec<_> = set.filter(|(_, value)| *value != "(unset)").collect();
    assert!(set.len() > 80, "{}", set.len());
    assert_eq!(read(b"", &set, &[]).unwrap(), Settings::default());
}
