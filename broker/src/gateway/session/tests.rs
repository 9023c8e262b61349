//! The bench of the sessions' tests.
//!
//! A script is the wire read aloud. `> text` is a message of the client and `@ event` anything else that happens; the
//! lines after it are all that the session did about it, in order: `< text` is a frame to the client, `! act` an effect.

use std::collections::HashSet;

use bytes::Bytes;
use countersign_node_proto::{ChannelName, Payload, Publication};
use proptest::prelude::*;

use super::*;
use crate::challenge::{Answer, Decoy, Hello};
use crate::close::CloseReason;
use crate::config::Mode;
use crate::gateway::request::Token;
use crate::gateway::template::TemplateError;
use crate::telemetry::{AgainCause, Label as _, LimitHit};

mod any_input;
mod native;
mod plain;

/// Does what it is told, and keeps a line of it.
#[derive(Default)]
pub(super) struct Recorder {
    lines: Vec<String>,
    subscribed: HashSet<ChannelName>,
    overloaded: bool,
    closed_elsewhere: bool,
}

impl Recorder {
    fn act(&mut self, line: impl Into<String>) {
        self.lines.push(format!("! {}", line.into()));
    }
}

impl Effects for Recorder {
    fn send_text(&mut self, text: String) {
        self.lines.push(format!("< {text}"));
    }

    fn send_binary(&mut self, payload: Bytes) {
        self.lines.push(format!("< {payload:?}"));
    }

    fn subscribe(&mut self, channel: &ChannelName) -> Result<(), SubscribeError> {
        if self.overloaded {
            return Err(SubscribeError::Overloaded);
        }
        if !self.subscribed.insert(channel.clone()) {
            return Err(SubscribeError::Already);
        }
        self.act(format!("subscribe {channel}"));
        Ok(())
    }

    fn unsubscribe(&mut self, channel: &ChannelName) -> bool {
        let there = self.subscribed.remove(channel);
        if there {
            self.act(format!("unsubscribe {channel}"));
        }
        there
    }

    fn subscriptions(&self) -> Vec<ChannelName> {
        let mut channels: Vec<_> = self.subscribed.iter().cloned().collect();
        channels.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        channels
    }

    fn publish(&mut self, publication: Publication) -> Result<(), PublishError> {
        if self.overloaded {
            return Err(PublishError::Overloaded);
        }
        let Publication { channel, payload, exclude } = publication;
        let Payload::Text(text) = payload else { panic!("binary publication") };
        let whom = if exclude.is_some() { "others on" } else { "all on" };
        self.act(format!("publish to {whom} {channel}: {text}"));
        Ok(())
    }

    fn arm_hello_deadline(&mut self) {
        self.act("arm hello deadline");
    }

    fn issue_challenge(&mut self, form: ChallengeForm, hello: Option<Hello>) {
        let over = match hello {
            Some(hello) if hello.mode > Mode::Bearer => format!(" over hello in mode {}", hello.mode.name()),
            Some(_) => " over hello".to_owned(),
            None => String::new(),
        };
        let form = if form == ChallengeForm::Vm { " as bytecode" } else { "" };
        self.act(format!("issue challenge{form}{over}"));
    }

    fn mark_challenged(&mut self) {
        self.act("challenged");
    }

    fn judge(&mut self, answer: Answer) {
        self.act(match answer {
            Answer::Native(answer) => format!("judge {} {}", answer.origin, answer.mac.0[0]),
            Answer::Echo(answer) => format!("judge {} {}", answer.origin, answer.lanes.values()[0]),
            Answer::Malformed => "judge malformed".to_owned(),
        });
    }

    fn mark_verified(&mut self) -> bool {
        if !self.closed_elsewhere {
            self.act("verified");
        }
        !self.closed_elsewhere
    }

    fn issue_again(&mut self, _: ChallengeForm, epoch: u32, cause: AgainCause) {
        self.act(format!("issue again {epoch} for {}", cause.name()));
    }

    fn still_verified(&mut self, _: u32) -> bool {
        if !self.closed_elsewhere {
            self.act("still verified");
        }
        !self.closed_elsewhere
    }

    fn mark_lapsed(&mut self) {
        self.act("lapsed");
    }

    fn start_tickets(&mut self) {
        self.act("start tickets");
    }

    fn raise_limits(&mut self) {
        self.act("raise limits");
    }

    fn verify_token(&mut self, token: Token) {
        self.act(format!("verify token {}", token.0));
    }

    fn replace_principal(&mut self, principal: &Arc<Principal>) {
        self.act(format!("principal {} until {}", principal.subject, principal.expires_at));
    }

    fn arm_expiry(&mut self, expires_at: u64) {
        self.act(format!("arm expiry {expires_at}"));
    }

    fn limit_hit(&mut self, limit: LimitHit) {
        self.act(format!("limit {}", limit.name()));
    }

    fn route_failed(&mut self, route: &str, error: &TemplateError) {
        let why = if *error == TemplateError::TooLarge { "too large" } else { "failed" };
        self.act(format!("route {route} {why}"));
    }

    fn close(&mut self, reason: CloseReason) {
        self.act(format!("close {}", reason.code()));
    }
}

pub(super) fn principal(subject: &str, expires_at: u64) -> Arc<Principal> {
    Arc::new(Principal {
        subject: subject.to_owned(),
        username: format!("{subject}@example"),
        issuer: "pool".to_owned(),
        issued_at: 0,
        expires_at,
        claims: serde_json::Map::new(),
    })
}

/// One session and its recorder.
pub(super) struct Bench {
    pub(super) session: Session,
    recorder: Recorder,
}

/// The connection id of every bench; scripts write `ID`.
const ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

impl Bench {
    pub(super) fn new(settings: &str, dialect: Dialect) -> Self {
        let settings: Settings = toml::from_str(settings).unwrap();
        let config = SessionConfig { mode: Mode::Bearer, ..SessionConfig::compile(&settings).unwrap() };
        let config = Arc::new(config);
        let facts = Facts {
            id: ConnectionId::from_bytes([0; 16]),
            dialect,
            origin: Some("https://app.example".to_owned()),
            principal: None,
            subscribe: None,
        };
        Self { session: Session::new(config, facts), recorder: Recorder::default() }
    }

    pub(super) fn of(mut self, subject: &str, expires_at: u64) -> Self {
        self.session.state.facts.principal = Some(principal(subject, expires_at));
        self
    }

    pub(super) fn without_origin(mut self) -> Self {
        self.session.state.facts.origin = None;
        self
    }

    pub(super) fn naming(mut self, channel: &str) -> Self {
        self.session.state.facts.subscribe = Some(channel.to_owned());
        self
    }

    /// Plays a script, and holds the session to it line by line.
    pub(super) fn check(mut self, script: &str) -> Self {
        let lines: Vec<String> =
            script.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| line.replace("ID", ID)).collect();
        let mut at = 0;
        while at < lines.len() {
            let input = &lines[at];
            let is_input = |line: &&String| line.starts_with(['>', '@']);
            let expected: Vec<String> = lines[at + 1..].iter().take_while(|line| !is_input(line)).cloned().collect();
            self.play(input);
            assert_eq!(std::mem::take(&mut self.recorder.lines), expected, "after {input}");
            at += 1 + expected.len();
        }
        self
    }

    fn play(&mut self, input: &str) {
        if let Some(text) = input.strip_prefix("> ") {
            return self.session.on(Event::Text(text), &mut self.recorder);
        }
        let words: Vec<&str> = input.trim_start_matches("@ ").split(' ').collect();
        let verdict = |name: &str| VerdictLabel::ALL.iter().copied().find(|label| label.name() == name).unwrap();
        let event = match words[..] {
            ["open"] => Event::Opened,
            ["binary", text] => Event::Binary(Bytes::copy_from_slice(text.as_bytes())),
            ["issued"] => Event::Issued(Box::new(challenge(self.session.state.epoch))),
            ["issue", "failed"] => Event::IssueFailed,
            ["verdict", name] => Event::Verdict { epoch: self.session.state.epoch, verdict: verdict(name) },
            ["verdict", name, "of", epoch] => Event::Verdict { epoch: epoch.parse().unwrap(), verdict: verdict(name) },
            ["again"] => Event::ChallengeAgain(AgainCause::Messages),
            ["hello", "deadline"] => Event::HelloDeadline,
            ["token", "refused"] => Event::TokenRefused,
            ["token", "unjudged"] => Event::TokenUnjudged,
            ["token", subject, expires_at] => Event::TokenVerified(principal(subject, expires_at.parse().unwrap())),
            ["gone"] => Event::Closed,
            ["hub", "overloaded"] => {
                self.recorder.overloaded = true;
                return;
            }
            ["closed", "elsewhere"] => {
                self.recorder.closed_elsewhere = true;
                return;
            }
            _ => panic!("no such event: {input}"),
        };
        self.session.on(event, &mut self.recorder);
    }
}

/// What a challenge carries to be ignored.
fn decoy() -> Decoy {
    Decoy { index: 3, token: "decoy".to_owned() }
}

fn challenge(epoch: u32) -> ChallengeFrame {
    let (form, program) = (ChallengeForm::Source, "function(keys){}".to_owned());
    ChallengeFrame {
        challenge_id: [0; 16],
        epoch,
        server_nonce: [0; 32],
        form,
        program,
        program_hash: None,
        mode: Mode::Ticket,
        signature: None,
        work: None,
        file: None,
        decoy: decoy(),
    }
}

pub(super) const NATIVE: &str = r#"
    [[channels]]
    pattern = "open"
    subscribe = "anyone"
    publish = "verified"
    [[channels]]
    pattern = "user:{subject}"
    subscribe = "authenticated"
    publish = "authenticated"
    [[channels]]
    pattern = "limited:*"
    subscribe = "anyone"
"#;

const HELLO: &str = r#"{"id":1,"action":"hello","forms":["source"],"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","key":"BNgN9yvWiAXGbBqI0ikK8aW3Wia91B-lAs0nfKQ8SVBQOYGGJDLo8zqHoGxTsO4PBU1CoTpu-wWKZV00TXlWGNI"}"#;
pub(super) const ANSWER: &str = r#"{"id":2,"action":"answer","challenge":"AAAAAAAAAAAAAAAAAAAAAA","epoch":0,"origin":"https://app.example","mac":"BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","signature":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;
const OPENED: &str = r#"
    @ open
    < {"event":"welcome","connectionId":"ID","challenge":"required","subject":null,"expiresAt":null}
    ! arm hello deadline
"#;

fn greeted() -> String {
    format!(
        r#"{OPENED}
        > {HELLO}
        < {{"id":1,"ok":{{}}}}
        ! issue challenge over hello
        @ issued
        ! challenged
        < {{"event":"challenge","challenge":"AAAAAAAAAAAAAAAAAAAAAA","epoch":0,"form":"source","nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","program":"function(keys){{}}","answerMs":10000,"mode":"ticket"}}
        "#
    )
}

fn answered() -> String {
    let greeted = greeted();
    format!(
        r"{greeted}
        > {ANSWER}
        ! judge https://app.example 7
        "
    )
}

pub(super) fn verified() -> String {
    let answered = answered();
    format!(
        r#"{answered}
        @ verdict verified
        ! verified
        ! raise limits
        < {{"id":2,"ok":{{}}}}
        < {{"event":"verified","connectionId":"ID"}}
        ! start tickets
        "#
    )
}

pub(super) fn native() -> Bench {
    Bench::new(NATIVE, Dialect::Native)
}

#[test]
fn every_fault_of_the_configuration_is_found_at_once() {
    let settings: Settings = toml::from_str(
        r#"
        challenge.carrier = "echo_function"
        routes.X.reply = "{{ a"
        [[channels]]
        pattern = "***"
        "#,
    )
    .unwrap();
    let faults = SessionConfig::compile(&settings).unwrap_err();
    let paths: Vec<String> = faults.iter().map(|fault| fault.key.to_string()).collect();
    assert_eq!(paths, ["routes.X.reply", "channels[0].pattern", "challenge.carrier"]);
    assert!(faults[1].message.starts_with("three stars"));
    assert_eq!(SessionConfig::check(&settings), faults);
}
