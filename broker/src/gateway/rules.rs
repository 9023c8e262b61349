use countersign_node_proto::ChannelName;

use crate::config::{ChannelRule, Fault, Key, Requirement};
use crate::identity::Principal;

/// What a connection has shown so far.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// It answered its challenge.
    pub verified: bool,
    /// Whom its token names.
    pub principal: Option<&'a Principal>,
}

impl Standing<'_> {
    /// Is this enough for an act that requires `requirement`? An act that requires nothing named is nobody's.
    fn meets(&self, requirement: Option<&Requirement>) -> bool {
        match requirement {
            None => false,
            Some(Requirement::Anyone) => true,
            Some(Requirement::Authenticated) => self.principal.is_some(),
            Some(Requirement::Verified) => self.verified,
            Some(Requirement::AuthenticatedAndVerified) => self.verified && self.principal.is_some(),
            Some(Requirement::Claim { name, value }) => self.principal.is_some_and(|who| who.has_claim(name, value)),
        }
    }

    /// The texts that `{issuer}` and `{subject}` stand for. An empty subject stands for nobody.
    fn whose(&self) -> Option<Whose<'_>> {
        let whose = self.principal.map(|principal| Whose { issuer: &principal.issuer, subject: &principal.subject });
        whose.filter(|whose| !whose.subject.is_empty())
    }
}

/// A subject, and the issuer within which it is unique.
#[derive(Debug, Clone, Copy)]
struct Whose<'a> {
    issuer: &'a str,
    subject: &'a str,
}

/// The channel rules, compiled: the first whose pattern matches decides, and what none matches is denied.
#[derive(Debug, Clone, Default)]
pub struct ChannelRules {
    rules: Vec<(Pattern, ChannelRule)>,
}

impl ChannelRules {
    /// Compiles the configured rules.
    ///
    /// # Errors
    /// Every fault of every pattern and claim, each with the place of its rule.
    pub fn compile(rules: &[ChannelRule]) -> Result<Self, Vec<Fault>> {
        let mut compiled: Vec<(Pattern, ChannelRule)> = Vec::with_capacity(rules.len());
        let mut faults = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            let at = Key::from("channels").index(index);
            let pattern_at = at.clone().name("pattern");
            if compiled.iter().any(|(_, earlier)| earlier.pattern == rule.pattern) {
                let message = "an earlier rule has this pattern, so this one never decides";
                faults.push(Fault::new(pattern_at.clone(), message, "remove one of them"));
            }
            for (member, requirement) in [("subscribe", &rule.subscribe), ("publish", &rule.publish)] {
                if matches!(requirement, Some(Requirement::Claim { name, .. }) if name.is_empty()) {
                    let key = at.clone().name(member).name("claim").name("name");
                    faults.push(Fault::new(key, "it is empty", "name a claim"));
                }
            }
            match Pattern::compile(&rule.pattern) {
                Ok(pattern) => compiled.push((pattern, rule.clone())),
                Err(message) => faults.push(Fault::new(
                    pattern_at,
                    message,
                    "write a channel's name, with `*`, `**`, `{issuer}` and `{subject}` where it varies",
                )),
            }
        }
        if faults.is_empty() { Ok(Self { rules: compiled }) } else { Err(faults) }
    }

    /// May a connection of this standing subscribe to the channel?
    #[must_use]
    pub fn may_subscribe(&self, channel: &ChannelName, standing: &Standing<'_>) -> bool {
        self.deciding(channel, standing).is_some_and(|rule| standing.meets(rule.subscribe.as_ref()))
    }

    /// May a connection of this standing publish on the channel?
    #[must_use]
    pub fn may_publish(&self, channel: &ChannelName, standing: &Standing<'_>) -> bool {
        self.deciding(channel, standing).is_some_and(|rule| standing.meets(rule.publish.as_ref()))
    }

    /// The first rule whose pattern matches.
    fn deciding(&self, channel: &ChannelName, standing: &Standing<'_>) -> Option<&ChannelRule> {
        let whose = standing.whose();
        self.rules.iter().find(|(pattern, _)| pattern.matches(channel.as_str(), whose)).map(|(_, rule)| rule)
    }
}

/// One piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// This text.
    Literal(Box<str>),
    /// The configured name of the subject's issuer.
    Issuer,
    /// The subject, byte for byte: a `*` or `:` in it means nothing.
    Subject,
    /// `*`: any run without `:`.
    Segment,
    /// `**`: any run.
    Anything,
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern(Box<[Piece]>);

/// The placeholders.
const ISSUER: &str = "{issuer}";
const SUBJECT: &str = "{subject}";

impl Pattern {
    /// Reads a pattern; the error says what is wrong with it.
    fn compile(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > ChannelName::LEN_MAX {
            return Err(format!("a pattern has 1 to {} bytes", ChannelName::LEN_MAX));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("no channel name has white space or control characters".to_owned());
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, len) = next_piece(rest)?;
            pieces.push(piece);
            rest = &rest[len..];
        }
        Ok(Self(pieces.into()))
    }

    /// Does this pattern match the whole name?
    ///
    /// The reachable places of the name are carried from piece to piece, so the work is at most the bytes of the name
    /// times those of the pattern, both bounded by 255, whatever stars meet whatever name.
    fn matches(&self, name: &str, whose: Option<Whose<'_>>) -> bool {
        if let [Piece::Literal(literal)] = &*self.0 {
            return **literal == *name;
        }
        let mut places = Places::start();
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) => places.advance(name, literal),
                Piece::Issuer | Piece::Subject => match whose {
                    Some(Whose { issuer, .. }) if *piece == Piece::Issuer => places.advance(name, issuer),
                    Some(Whose { subject, .. }) => places.advance(name, subject),
                    None => return false,
                },
                Piece::Segment => places.spread(name, |byte| byte != b':'),
                Piece::Anything => places.spread(name, |_| true),
            }
        }
        places.reached(name.len())
    }
}

/// The first piece of a pattern's rest, and its bytes.
fn next_piece(rest: &str) -> Result<(Piece, usize), String> {
    if rest.starts_with("***") {
        return Err("three stars in a row: write `**` for any run".to_owned());
    }
    if rest.starts_with("**") {
        return Ok((Piece::Anything, 2));
    }
    if rest.starts_with('*') {
        return Ok((Piece::Segment, 1));
    }
    if rest.starts_with(SUBJECT) {
        return Ok((Piece::Subject, SUBJECT.len()));
    }
    if rest.starts_with(ISSUER) {
        return Ok((Piece::Issuer, ISSUER.len()));
    }
    if rest.starts_with(['{', '}']) {
        return Err(format!("`{ISSUER}` and `{SUBJECT}` are the only placeholders, and braces stand for nothing else"));
    }
    let len = rest.find(['*', '{', '}']).unwrap_or(rest.len());
    Ok((Piece::Literal(rest[..len].into()), len))
}

/// The places of a name (0 to its length in bytes) that the pieces so far can end at.
struct Places([bool; ChannelName::LEN_MAX + 1]);

impl Places {
    /// Before the first piece: the beginning.
    fn start() -> Self {
        let mut places = [false; ChannelName::LEN_MAX + 1];
        places[0] = true;
        Self(places)
    }

    /// Over exactly this text.
    fn advance(&mut self, name: &str, text: &str) {
        let name = name.as_bytes();
        let mut after = [false; ChannelName::LEN_MAX + 1];
        for place in 0..=name.len() {
            if self.0[place] && name[place..].starts_with(text.as_bytes()) {
                after[place + text.len()] = true;
            }
        }
        self.0 = after;
    }

    /// Over any run of bytes that the wildcard covers.
    fn spread(&mut self, name: &str, covers: impl Fn(u8) -> bool) {
        for (place, byte) in name.bytes().enumerate() {
            if self.0[place] && covers(byte) {
                self.0[place + 1] = true;
            }
        }
    }

    /// Can they end here?
    fn reached(&self, place: usize) -> bool {
        self.0[place]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn principal(subject: &str) -> Principal {
        Principal {
            subject: subject.to_owned(),
            username: subject.to_owned(),
            issuer: "pool".to_owned(),
            issued_at: 0,
            expires_at: 1,
            claims: serde_json::from_str(r#"{"groups":["ops","dev"]}"#).unwrap(),
        }
    }

    /// A subject of the node's own pool.
    const fn pool(subject: &str) -> Whose<'_> {
        Whose { issuer: "pool", subject }
    }

    fn check(pattern: &str, subject: Option<&str>, matching: &[&str], others: &[&str]) {
        let compiled = Pattern::compile(pattern).unwrap();
        let whose = subject.map(pool);
        for name in matching {
            assert!(compiled.matches(name, whose), "{pattern} should match {name}");
        }
        for name in others {
            assert!(!compiled.matches(name, whose), "{pattern} should not match {name}");
        }
    }

    #[test]
    fn a_star_stays_in_its_segment_and_two_stars_do_not() {
        check("greeting", None, &["greeting"], &["greetings", "greetin", "Greeting"]);
        check("room:*", None, &["room:", "room:1", "room:a/b"], &["room", "room:1:2", "xroom:1"]);
        check("room:*:log", None, &["room:1:log", "room::log"], &["room:1:2:log", "room:1:logs"]);
        check("room:**", None, &["room:", "room:1:2"], &["room"]);
        check("**:log", None, &[":log", "a:b:log", "log:log"], &["log", "a:log:b"]);
        check("*a*", None, &["a", "xay", "aaa"], &["x", "x:a"]);
        check("**", None, &["a", "a:b"], &[]);
        check("rä*e", None, &["räume", "räe"], &["raume"]);
    }

    #[test]
    fn the_subject_is_literal() {
        check("user:{subject}", Some("ada"), &["user:ada"], &["user:bob", "user:", "user:ada:x", "user:{subject}"]);
        check("user:{subject}", None, &[], &["user:", "user:ada", "user:{subject}"]);
        check("user:{subject}", Some("*"), &["user:*"], &["user:ada"]);
        check("user:{subject}:*", Some("a:b"), &["user:a:b:x"], &["user:a:c:x"]);
        check("{subject}{subject}", Some("ab"), &["abab"], &["ab", "abba"]);
    }

    #[test]
    fn the_same_subject_of_another_issuer_is_somebody_else() {
        check("user:{issuer}:{subject}", Some("ada"), &["user:pool:ada"], &["user:other:ada", "user:ada", "user:pool:bob"]);
        check("{issuer}:**", Some("ada"), &["pool:x"], &["other:x", "{issuer}:x"]);
        check("{issuer}:**", None, &[], &["pool:x", ":x"]);
    }

    #[test]
    fn an_empty_subject_is_nobody() {
        let rules = ChannelRules::compile(&[rule("user:{subject}", Some(Requirement::Anyone), None)]).unwrap();
        let nobody = principal("");
        let standing = Standing { verified: true, principal: Some(&nobody) };
        assert!(!rules.may_subscribe(&ChannelName::new("user:").unwrap(), &standing));
    }

    fn rule(pattern: &str, subscribe: Option<Requirement>, publish: Option<Requirement>) -> ChannelRule {
        ChannelRule { pattern: pattern.to_owned(), subscribe, publish }
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_none_denies() {
        let rules = ChannelRules::compile(&[
            rule("room:secret", None, None),
            rule("room:*", Some(Requirement::Anyone), Some(Requirement::Verified)),
            rule("**:ops", Some(Requirement::Claim { name: "groups".to_owned(), value: "ops".to_owned() }), None),
            rule("inbox", Some(Requirement::Authenticated), Some(Requirement::AuthenticatedAndVerified)),
        ])
        .unwrap();
        let ada = principal("ada");
        let stranger = Standing { verified: false, principal: None };
        let proved = Standing { verified: true, principal: None };
        let known = Standing { verified: false, principal: Some(&ada) };
        let both = Standing { verified: true, principal: Some(&ada) };
        let may = |name: &str, standing: &Standing<'_>| {
            let channel = ChannelName::new(name).unwrap();
            (rules.may_subscribe(&channel, standing), rules.may_publish(&channel, standing))
        };
        assert_eq!(may("room:secret", &both), (false, false));
        assert_eq!(may("room:1", &stranger), (true, false));
        assert_eq!(may("room:1", &proved), (true, true));
        assert_eq!(may("a:ops", &proved), (false, false));
        assert_eq!(may("a:ops", &known), (true, false));
        assert_eq!(may("inbox", &proved), (false, false));
        assert_eq!(may("inbox", &known), (true, false));
        assert_eq!(may("inbox", &both), (true, true));
        assert_eq!(may("elsewhere", &both), (false, false));
    }

    #[test]
    fn every_fault_is_reported_with_its_place() {
        let claim = Some(Requirement::Claim { name: String::new(), value: "x".to_owned() });
        let faults = ChannelRules::compile(&[
            rule("", None, None),
            rule("a b", None, None),
            rule("a***", None, None),
            rule("a{who}", None, None),
            rule("a}", None, None),
            rule("ok", claim, None),
            rule("ok", None, None),
        ])
        .unwrap_err();
        let places: Vec<String> = faults.iter().map(|fault| fault.key.to_string()).collect();
        assert_eq!(
            places,
            [
                "channels[0].pattern",
                "channels[1].pattern",
                "channels[2].pattern",
                "channels[3].pattern",
                "channels[4].pattern",
                "channels[5].subscribe.claim.name",
                "channels[6].pattern",
            ]
        );
    }

    #[test]
    fn a_pattern_full_of_stars_meets_the_longest_name_in_bounded_work() {
        let pattern = Pattern::compile(&"**a*a".repeat(50)).unwrap();
        let name = "a".repeat(62) + &"b".repeat(193);
        assert!(!pattern.matches(&name, None));
        assert!(pattern.matches(&"a".repeat(255), None));
    }

    /// The obvious matcher, exponential and small.
    fn slow(pieces: &[Piece], name: &str, subject: Option<&str>) -> bool {
        let Some((first, rest)) = pieces.split_first() else { return name.is_empty() };
        let literal = |text: &str| name.strip_prefix(text).is_some_and(|after| slow(rest, after, subject));
        let run = |stop: Option<char>| {
            let mut ends = name.char_indices().map(|(at, c)| (at, Some(c))).chain([(name.len(), None)]);
            let mut going = true;
            ends.by_ref().any(|(at, c)| {
                let found = going && slow(rest, &name[at..], subject);
                going &= c.is_some() && c != stop;
                found
            })
        };
        match first {
            Piece::Literal(text) => literal(text),
            Piece::Issuer => subject.is_some() && literal("pool"),
            Piece::Subject => subject.is_some_and(literal),
            Piece::Segment => run(Some(':')),
            Piece::Anything => run(None),
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_obvious_matcher(
            pieces in prop::collection::vec(prop::sample::select(vec!["a", "b", ":", "ä", "*", "{issuer}", "{subject}"]), 1..8),
            name in "([ab:ä]|pool){1,10}",
            subject in prop::option::of("[ab:*]{1,3}"),
        ) {
            let text = pieces.concat();
            if let Ok(pattern) = Pattern::compile(&text) {
                let subject = subject.as_deref();
                prop_assert_eq!(pattern.matches(&name, subject.map(pool)), slow(&pattern.0, &name, subject), "{}", text);
            }
        }

        #[test]
        fn compiling_and_matching_never_panic(pattern in ".{0,300}", name in "\\S{1,80}", subject in prop::option::of(".{0,300}")) {
            if let (Ok(pattern), Ok(name)) = (Pattern::compile(&pattern), ChannelName::new(&name)) {
                let _ = pattern.matches(name.as_str(), subject.as_deref().map(pool));
            }
        }
    }
}
