use super::Findings;
use crate::config::key::Key;
use crate::config::{ChallengeForm, Settings};

/// A path that something answers.
struct Claim {
    key: Key,
    path: String,
    /// Everything below it too.
    below: bool,
}

impl Claim {
    fn new(key: impl Into<Key>, path: &str, below: bool) -> Self {
        Self { key: key.into(), path: path.to_owned(), below }
    }

    /// A path that no setting can move.
    fn fixed(path: &str, below: bool) -> Self {
        Self::new(Key::default(), path, below)
    }

    fn covers(&self, path: &str) -> bool {
        let below = path.strip_prefix(&self.path).is_some_and(|rest| rest.starts_with('/') || self.path == "/");
        self.path == path || (self.below && below)
    }
}

/// Every path begins with `/`, and no two things of one listener answer the same.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    let mut shapes = configured(settings);
    // The authorizer answers on both listeners: its shape is told once.
    shapes.iter().for_each(|claim| check_shape(claim, findings));
    shapes.extend(fixed_public(settings));
    check_clashes(&shapes, findings);
    let mut admin = vec![Claim::new("authorizer.path", &settings.authorizer.path, true)];
    let fixed = [Claim::fixed("/metrics", false), Claim::fixed("/health", true), Claim::fixed("/api/v1", true)];
    admin.splice(0..0, fixed);
    check_clashes(&admin, findings);
}

/// What settings put on the public listener.
fn configured(settings: &Settings) -> Vec<Claim> {
    let mut claims = vec![
        Claim::new("gateway.path", &settings.gateway.path, false),
        Claim::new("authorizer.path", &settings.authorizer.path, true),
    ];
    if settings.identity.pool.enabled {
        claims.push(Claim::new("identity.pool.auth_path", &settings.identity.pool.auth_path, true));
    }
    claims.extend(
        settings
            .protected
            .iter()
            .enumerate()
            .map(|(index, resource)| Claim::new(Key::from("protected").index(index).name("path"), &resource.path, false)),
    );
    claims
}

/// What stands on the public listener by itself.
fn fixed_public(settings: &Settings) -> Vec<Claim> {
    let mut claims =
        vec![Claim::fixed("/.well-known/jwks.json", false), Claim::fixed("/.well-known/openid-configuration", false)];
    claims.push(Claim::fixed("/sdk", true));
    if settings.challenge.offers(ChallengeForm::Frame) {
        claims.push(Claim::fixed("/challenge", true));
    }
    if settings.server.demo_page {
        claims.push(Claim::fixed("/", false));
    }
    if settings.management.on_public_listener {
        claims.push(Claim::fixed("/api/v1", true));
    }
    claims
}

fn check_shape(claim: &Claim, findings: &mut Findings) {
    let path = &claim.path;
    // What RFC 3986, 3.3 lets stand in a path as it is, so that no two spellings of one path differ; braces and
    // percent signs would be patterns to the router.
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte);
    let message = match () {
        () if !path.starts_with('/') => "a path begins with `/`",
        () if path.contains("//") || path.split('/').any(|part| part == "." || part == "..") => "the path is not normal",
        () if path.len() > 1 && path.ends_with('/') => "the path ends with `/`",
        () if !path.bytes().all(legal) => "the path has a character that would need escaping",
        () => return,
    };
    findings.add(claim.key.clone(), format!("{message}: `{path}`"), "write a plain path, such as `/ws`");
}

/// Each pair once; told of the one that a setting can move.
fn check_clashes(claims: &[Claim], findings: &mut Findings) {
    for (index, second) in claims.iter().enumerate() {
        for first in &claims[..index] {
            if !first.covers(&second.path) && !second.covers(&first.path) {
                continue;
            }
            let (movable, other) = if second.key.steps().is_empty() { (first, second) } else { (second, first) };
            if movable.key.steps().is_empty() {
                continue;
            }
            let owner = if other.key.steps().is_empty() { "the node's own".to_owned() } else { other.key.to_string() };
            let message = format!("`{}` clashes with `{}` ({owner})", movable.path, other.path);
            findings.add(movable.key.clone(), message, "choose a path of its own");
        }
    }
}
