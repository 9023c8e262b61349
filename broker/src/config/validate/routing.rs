use countersign_node_proto::ChannelName;

use super::Findings;
use crate::config::key::Key;
use crate::config::{ChannelRule, Mode, Require, Requirement, RouteSettings, Settings};

/// Names of routes that are no action of a client.
const SPECIAL: &[&str] = &["$connect", "$disconnect", "$default"];

/// Routes and channel rules. That templates compile is checked by who renders them.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    for (name, route) in &settings.routes {
        check_route(name, route, findings);
    }
    for (index, rule) in settings.channels.iter().enumerate() {
        let key = Key::from("channels").index(index);
        check_pattern(&key.clone().name("pattern"), &rule.pattern, findings);
        for (member, requirement) in [("subscribe", &rule.subscribe), ("publish", &rule.publish)] {
            if let Some(Requirement::Claim { name, .. }) = requirement {
                findings.text(key.clone().name(member).name("claim").name("name"), name);
            }
        }
        check_reached(&settings.channels, index, findings);
    }
    for (index, resource) in settings.protected.iter().enumerate() {
        let token_alone = resource.require.unwrap_or(settings.authorizer.require) == Require::Token;
        if let (true, Some(mode @ (Mode::Ticket | Mode::Proof))) = (token_alone, resource.mode) {
            let message = format!("`{}` is shown of a connection, and none is required here", mode.name());
            let key = Key::from("protected").index(index).name("mode");
            findings.add(key, message, "write `require = \"both\"` or \"verified\", or leave the mode out");
        }
    }
}

fn check_route(name: &str, route: &RouteSettings, findings: &mut Findings) {
    let key = Key::from("routes").name(name);
    if name.is_empty() || (name.starts_with('$') && !SPECIAL.contains(&name)) {
        let message = "it is no action and no special route".to_owned();
        findings.add(key.clone(), message, format!("write an action's name or one of {}", SPECIAL.join(", ")));
    }
    let members = [
        ("builtin", route.builtin.is_some()),
        ("reply", route.reply.is_some()),
        ("publish", route.publish.is_some()),
        ("echo", route.echo.is_some()),
    ];
    let set: Vec<&str> = members.into_iter().filter_map(|(member, is_set)| is_set.then_some(member)).collect();
    match set.as_slice() {
        [_] => {}
        [] => findings.add(key.clone(), "the route does nothing", "set one of builtin, reply, publish and echo"),
        _ => findings.add(key.clone(), format!("{} exclude each other", set.join(" and ")), "keep one of them"),
    }
    if route.echo == Some(false) {
        findings.add(key.clone().name("echo"), "`false` says nothing", "write `true`, or remove the route");
    }
    if let Some(publish) = &route.publish {
        findings.text(key.name("publish").name("channel"), &publish.channel);
    }
}

fn check_pattern(key: &Key, pattern: &str, findings: &mut Findings) {
    if let Err(error) = ChannelName::new(pattern) {
        findings.add(key.clone(), error.to_string(), "write a channel's name, with `*` and `**` where it varies");
    }
    if pattern.replace("{issuer}", "").replace("{subject}", "").contains(['{', '}']) {
        findings.add(
            key.clone(),
            "braces name something unknown",
            "`{issuer}` and `{subject}` are all that can stand in braces",
        );
    }
}

/// The first rule that matches decides, so a second one of the same pattern never does.
fn check_reached(rules: &[ChannelRule], index: usize, findings: &mut Findings) {
    let pattern = &rules[index].pattern;
    let everything = |rule: &ChannelRule| rule.pattern == "**";
    if rules[..index].iter().any(|rule| rule.pattern == *pattern || everything(rule)) {
        let key = Key::from("channels").index(index).name("pattern");
        findings.add(key, "an earlier rule matches all that this one does", "put the narrower rule first, or remove one");
    }
}
