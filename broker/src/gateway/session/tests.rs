//! The bench, and what a session does whatever the configuration.
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
fn a_native_connection_is_challenged_and_verified() {
    let bench = native().check(&verified());
    assert!(bench.session.is_verified());
    bench.check("@ gone").check("> anything").check("@ open");
}

#[test]
fn rules_see_the_connection_as_it_stands_at_each_act() {
    let publish = r#"> {"id":9,"action":"publish","channel":"open","data":{"a": 1},"exclude":true}"#;
    native().check(OPENED).check(&format!(
        "{publish}\n< {{\"id\":9,\"error\":{{\"code\":\"denied\",\"message\":\"not allowed on this connection\"}}}}"
    ));
    native().check(&verified()).check(&format!(
        r#"{publish}
        ! publish to others on open: {{"a": 1}}
        < {{"id":9,"ok":{{}}}}"#
    ));
}

#[test]
fn an_answer_before_a_challenge_or_a_second_one_before_the_verdict_closes() {
    let early = format!("> {ANSWER}\n! close 4403\n> {ANSWER}\n@ gone");
    native().check(OPENED).check(&early);
    native().check(OPENED).check(&format!("> {HELLO}\n< {{\"id\":1,\"ok\":{{}}}}\n! issue challenge over hello")).check(&early);
    native().check(&answered()).check(&early);
}

#[test]
fn an_answer_after_the_verdict_is_refused_and_changes_nothing() {
    let message = "already answered, the connection is verified";
    let bench = native().check(&verified()).check(&format!(
        "> {ANSWER}\n< {{\"id\":2,\"error\":{{\"code\":\"denied\",\"message\":\"{message}\"}}}}\n@ verdict wrong_answer"
    ));
    assert!(bench.session.is_verified());
}

#[test]
fn a_wrong_or_late_answer_closes_by_default() {
    for (verdict, code) in [("wrong_answer", 4403), ("origin_mismatch", 4403), ("late", 4408), ("internal", 4500)] {
        let bench = native().check(&answered()).check(&format!("@ verdict {verdict}\n! close {code}\n@ verdict verified"));
        assert!(!bench.session.is_verified());
    }
    native().check(&greeted()).check("@ verdict late\n! close 4408");
    native().check(&greeted()).check("@ verdict abandoned");
}

#[test]
fn a_failed_challenge_may_leave_the_socket_open_but_never_gives_a_second_try() {
    let stay = || Bench::new("challenge.on_failure = \"stay_unverified\"", Dialect::Native);
    let failed = r#"< {"event":"challenge_failed"}"#;
    stay().check(&answered()).check(&format!(
        r#"@ verdict wrong_answer
        < {{"id":2,"error":{{"code":"denied","message":"challenge failed"}}}}
        {failed}
        @ verdict verified
        > {{"id":3,"action":"ping"}}
        < {{"id":3,"ok":{{}}}}
        > {ANSWER}
        ! close 4403"#
    ));
    stay().check(&greeted()).check(&format!("@ verdict late\n{failed}\n> {ANSWER}\n! close 4403"));
    stay().check(OPENED).check(&format!(
        r#"@ hello deadline
        {failed}
        > {HELLO}
        < {{"id":1,"error":{{"code":"bad_request","message":"hello was said before"}}}}"#
    ));
}

#[test]
fn hello_comes_once_and_in_time() {
    native().check(OPENED).check("@ hello deadline\n! close 4408");
    native().check(&greeted()).check("@ hello deadline").check(&format!(
        "> {HELLO}\n< {{\"id\":1,\"error\":{{\"code\":\"bad_request\",\"message\":\"hello was said before\"}}}}"
    ));
    native().check(OPENED).check(&format!(
        r#"> {}
        < {{"id":1,"error":{{"code":"not_available","message":"none of these forms is offered here"}}}}
        > {HELLO}
        < {{"id":1,"ok":{{}}}}
        ! issue challenge over hello"#,
        HELLO.replace("source", "hologram")
    ));
}

#[test]
fn the_node_chooses_the_form_by_its_own_order() {
    let chosen = |forms: &str, offered: &str, act: &str| {
        let settings = format!("challenge.forms = [{forms}]");
        let hello = HELLO.replace(r#"["source"]"#, offered);
        let opened = Bench::new(&settings, Dialect::Native).check(OPENED);
        opened.check(&format!("> {hello}\n< {{\"id\":1,\"ok\":{{}}}}\n! issue challenge{act} over hello"));
    };
    chosen("'vm', 'source'", r#"["source","vm"]"#, " as bytecode");
    chosen("'vm', 'source'", r#"["source"]"#, "");
    chosen("'source', 'vm'", r#"["vm","source"]"#, "");
    chosen("'vm'", r#"["source","vm"]"#, " as bytecode");
    Bench::new("challenge.forms = ['vm']", Dialect::Native).check(OPENED).check(&format!(
        "> {HELLO}\n< {{\"id\":1,\"error\":{{\"code\":\"not_available\",\"message\":\"none of these forms is offered here\"}}}}"
    ));
}

#[test]
fn mode_is_the_stronger_of_the_clients_and_the_nodes() {
    let asks = |floor: Mode, member: &str, act: &str| {
        let mut bench = native();
        let mut config = SessionConfig::compile(&Settings::default()).unwrap();
        config.mode = floor;
        bench.session.config = Arc::new(config);
        let hello = HELLO.replace(r#""forms""#, &format!(r#"{member}"forms""#));
        bench.check(OPENED).check(&format!("> {hello}\n< {{\"id\":1,\"ok\":{{}}}}\n! issue challenge over hello{act}"));
    };
    asks(Mode::Bearer, "", "");
    asks(Mode::Bearer, r#""mode":"bearer","#, "");
    asks(Mode::Bearer, r#""mode":"proof","#, " in mode proof");
    asks(Mode::Ticket, "", " in mode ticket");
    asks(Mode::Ticket, r#""mode":"bearer","#, " in mode ticket");
    asks(Mode::Ticket, r#""mode":"proof","#, " in mode proof");
    asks(Mode::Proof, r#""mode":"ticket","#, " in mode proof");
}

#[test]
fn a_hello_with_a_point_off_the_curve_is_refused_and_may_be_said_again() {
    let wrong = HELLO.replace("\"BN", "\"BM");
    native().check(OPENED).check(&format!(
        r#"> {wrong}
        < {{"id":1,"error":{{"code":"bad_request","message":"a member is missing, unknown, given twice or not of its kind"}}}}
        > {HELLO}
        < {{"id":1,"ok":{{}}}}
        ! issue challenge over hello"#
    ));
}

#[test]
fn faults_of_the_node_fail_closed() {
    let asked = format!("{OPENED}\n> {HELLO}\n< {{\"id\":1,\"ok\":{{}}}}\n! issue challenge over hello");
    native().check(&asked).check("@ issue failed\n! close 4500\n@ issued");
    let unasked = native().check(&greeted()).check("@ verdict verified\n! close 4500");
    assert!(!unasked.session.is_verified());
    let raced = native().check(&answered()).check("@ closed elsewhere\n@ verdict verified\n> x\n@ gone");
    assert!(!raced.session.is_verified());
}

#[test]
fn without_a_challenge_nobody_is_verified() {
    let bench = Bench::new("challenge.enabled = false", Dialect::Native).check(&format!(
        r#"@ open
        ! raise limits
        < {{"event":"welcome","connectionId":"ID","challenge":"off","subject":null,"expiresAt":null}}
        > {HELLO}
        < {{"id":1,"error":{{"code":"not_available","message":"no challenge is due here"}}}}
        > {ANSWER}
        < {{"id":2,"error":{{"code":"not_available","message":"no challenge is due here"}}}}
        @ issued
        @ verdict verified
        @ hello deadline"#
    ));
    assert!(!bench.session.is_verified());
    Bench::new("", Dialect::Plain).check("@ open\n! raise limits");
}

#[test]
fn native_channels_keep_their_rules_and_limits() {
    let limited = format!("{NATIVE}\n[gateway.limits]\nsubscriptions_max = 2");
    Bench::new(&limited, Dialect::Native).of("ada", 50).check(
        r#"
        @ open
        ! arm expiry 50
        < {"event":"welcome","connectionId":"ID","challenge":"required","subject":"ada","expiresAt":50}
        ! arm hello deadline
        > {"id":"a","action":"subscribe","channel":"user:ada"}
        ! subscribe user:ada
        < {"id":"a","ok":{}}
        > {"id":"b","action":"subscribe","channel":"user:bob"}
        < {"id":"b","error":{"code":"denied","message":"not allowed on this connection"}}
        > {"id":"c","action":"subscribe","channel":"user:ada"}
        < {"id":"c","error":{"code":"already_subscribed","message":"already subscribed to this channel"}}
        > {"id":"d","action":"unsubscribe","channel":"open"}
        < {"id":"d","error":{"code":"not_subscribed","message":"not subscribed to this channel"}}
        > {"id":"e","action":"subscribe","channel":"open"}
        ! subscribe open
        < {"id":"e","ok":{}}
        > {"id":"f","action":"subscribe","channel":"limited:1"}
        ! limit subscriptions
        < {"id":"f","error":{"code":"limit","message":"too many subscriptions on this connection"}}
        > {"id":"g","action":"unsubscribe","channel":"open"}
        ! unsubscribe open
        < {"id":"g","ok":{}}
        > {"id":"h","action":"subscribe","channel":"limited:1"}
        ! subscribe limited:1
        < {"id":"h","ok":{}}
        @ hub overloaded
        > {"id":"i","action":"publish","channel":"user:ada","data":1}
        < {"id":"i","error":{"code":"overloaded","message":"too much to do, try again later"}}
        > {"id":"j","action":"nonsense"}
        < {"id":"j","error":{"code":"unknown_action","message":"no such action"}}
        > {"id":"k","action":"ping","x":1}
        < {"id":"k","error":{"code":"bad_request","message":"a member is missing, unknown, given twice or not of its kind"}}
        "#,
    );
}

#[test]
fn native_clients_close_on_what_is_no_request() {
    native().check(OPENED).check("> no json\n! close 4400\n> {\"id\":1,\"action\":\"ping\"}");
    native().check(OPENED).check("@ binary x\n! close 1003\n@ gone");
}

#[test]
fn a_refresh_keeps_the_principal_and_moves_the_expiry() {
    let opened = r#"
        @ open
        ! arm expiry 50
        < {"event":"welcome","connectionId":"ID","challenge":"required","subject":"ada","expiresAt":50}
        ! arm hello deadline
        > {"id":1,"action":"refresh","token":"t"}
        ! verify token t
    "#;
    let invalid = r#"< {"id":1,"error":{"code":"token_invalid","message":"token is not valid for this connection"}}"#;
    let ada = || native().of("ada", 50).check(opened);
    ada().check(
        r#"
        > {"id":2,"action":"refresh","token":"u"}
        < {"id":2,"error":{"code":"limit","message":"another token is being verified"}}
        @ token ada 99
        ! principal ada until 99
        ! arm expiry 99
        < {"id":1,"ok":{"expiresAt":99}}
        @ token ada 200
        "#,
    );
    ada().check(&format!("@ token bob 99\n{invalid}"));
    ada().check(&format!("@ token refused\n{invalid}"));
    ada().check(
        r#"@ token unjudged
        < {"id":1,"error":{"code":"not_available","message":"not available on this connection"}}"#,
    );
    native().check(OPENED).check(
        r#"> {"id":1,"action":"refresh","token":"t"}
        < {"id":1,"error":{"code":"not_available","message":"this connection was opened without a token"}}"#,
    );
}

#[test]
fn the_channel_of_the_handshake_keeps_the_rules_and_a_refusal_leaves_the_socket_open() {
    Bench::new(NATIVE, Dialect::Plain).naming("open").check("@ open\n! raise limits\n! subscribe open");
    Bench::new(NATIVE, Dialect::Plain).naming("user:ada").check(
        r#"
        @ open
        ! raise limits
        < {"message":"Forbidden","connectionId":"ID","requestId":"0"}
        > {"action":"ping"}
        < {"action":"ping","ok":{}}
        "#,
    );
    Bench::new(NATIVE, Dialect::Plain)
        .naming("a b")
        .check("@ open\n! raise limits\n< {\"message\":\"Bad request\",\"connectionId\":\"ID\",\"requestId\":\"0\"}");
    native().naming("user:ada").check(
        r#"
        @ open
        < {"event":"welcome","connectionId":"ID","challenge":"required","subject":null,"expiresAt":null}
        < {"event":"subscribe_refused","channel":"user:ada","error":{"code":"denied","message":"not allowed on this connection"}}
        ! arm hello deadline
        "#,
    );
}

#[test]
fn plain_builtins_answer_under_the_action_as_sent() {
    let plain = || Bench::new(NATIVE, Dialect::Plain).of("ada", 50);
    plain().check(
        r#"
        @ open
        ! raise limits
        ! arm expiry 50
        > {"action":"subscribe","channel":"user:ada"}
        ! subscribe user:ada
        < {"action":"subscribe","ok":{}}
        > {"action":"publish","channel":"user:ada","data":"hi"}
        ! publish to all on user:ada: "hi"
        < {"action":"publish","ok":{}}
        > {"action":"publish","channel":"open","data":"hi"}
        < {"action":"publish","error":{"code":"denied","message":"not allowed on this connection"}}
        > {"action":"subscribe"}
        < {"action":"subscribe","error":{"code":"bad_request","message":"a member is missing, unknown, given twice or not of its kind"}}
        > {"action":"unsubscribe","channel":"user:ada"}
        ! unsubscribe user:ada
        < {"action":"unsubscribe","ok":{}}
        > {"action":"refresh","token":"t"}
        ! verify token t
        @ token ada 60
        ! principal ada until 60
        ! arm expiry 60
        < {"action":"refresh","ok":{"expiresAt":60}}
        > {"action":"answer"}
        < {"action":"answer","error":{"code":"not_available","message":"no challenge is due here"}}
        > {"action":"other"}
        < {"message":"Forbidden","connectionId":"ID","requestId":"8"}
        > no json
        < {"message":"Forbidden","connectionId":"ID","requestId":"9"}
        @ binary x
        ! close 1003
        "#,
    );
}

const ROUTED: &str = r#"
    routes.HELLO.reply = '{"hello":{{ connection.subject }},"from":{{ connection.origin }}}'
    routes.SAY.publish = { channel = "room:{{ message.room }}", template = '{{ message.text }}', exclude_sender = true }
    routes.BIG.reply = "{{ message.x }}{{ message.x }}{{ message.x }}{{ message.x }}"
    routes."1".reply = "one"
    routes."$connect".reply = '{"welcome":{{ connection.username }}}'
    routes."$disconnect".publish = { channel = "gone", template = '{{ connection.id }}' }
    routes."$default".echo = true
    gateway.limits.message_max_bytes = 60
    challenge.enabled = false
    [[channels]]
    pattern = "room:*"
    publish = "anyone"
"#;

#[test]
fn routes_do_what_the_table_says_for_plain_clients() {
    Bench::new(ROUTED, Dialect::Plain).of("ada", 5).check(
        r#"
        @ open
        ! raise limits
        ! arm expiry 5
        < {"welcome":"ada@example"}
        > {"action":"HELLO"}
        < {"hello":"ada","from":"https://app.example"}
        > {"action":"SAY","room":"blue","text":["hi"]}
        ! publish to others on room:blue: ["hi"]
        > {"action":"SAY","room":"a:b","text":1}
        < {"action":"SAY","error":{"code":"denied","message":"not allowed on this connection"}}
        > {"action":"SAY"}
        < {"action":"SAY","error":{"code":"bad_request","message":"the message does not name a channel"}}
        > {"action":"BIG","x":"0123456789abcdef"}
        ! route BIG too large
        < {"message":"Internal server error","connectionId":"ID","requestId":"5"}
        > {"action":1}
        < one
        > {"action":"$disconnect"}
        < {"action":"$disconnect"}
        > no json
        < no json
        @ binary bytes
        < b"bytes"
        @ gone
        ! publish to all on gone: "ID"
        @ gone
        "#,
    );
}

#[test]
fn routes_do_what_the_table_says_for_native_clients() {
    Bench::new(ROUTED, Dialect::Native).check(
        r#"
        @ open
        ! raise limits
        < {"event":"welcome","connectionId":"ID","challenge":"off","subject":null,"expiresAt":null}
        < {"event":"message","data":{"welcome":null}}
        > {"id":1,"action":"HELLO"}
        < {"id":1,"ok":{"data":{"hello":null,"from":"https://app.example"}}}
        > {"id":2,"action":"1"}
        < {"id":2,"ok":{"data":"one"}}
        > {"id":3,"action":"SAY","room":"blue","text":"hi"}
        ! publish to others on room:blue: "hi"
        < {"id":3,"ok":{}}
        > {"id":4,"action":"BIG","x":"0123456789abcdef"}
        ! route BIG too large
        < {"id":4,"error":{"code":"internal","message":"the route failed on this message"}}
        > {"id":5,"action":"other"}
        < {"id":5,"error":{"code":"unknown_action","message":"no such action"}}
        > broken
        ! close 4400
        @ gone
        ! publish to all on gone: "ID"
        "#,
    );
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

/// Everything that can happen, in the words of the scripts.
fn any_input() -> impl Strategy<Value = String> {
    let events = [
        "@ open",
        "@ binary x",
        "@ issued",
        "@ issue failed",
        "@ hello deadline",
        "@ token ada 99",
        "@ token bob 99",
        "@ token refused",
        "@ token unjudged",
        "@ gone",
        "@ hub overloaded",
        "@ closed elsewhere",
        "@ again",
        "@ again",
        "@ verdict verified of 0",
    ];
    let texts = [
        HELLO,
        ANSWER,
        r#"{"id":1,"action":"subscribe","channel":"open"}"#,
        r#"{"id":1,"action":"unsubscribe","channel":"open"}"#,
        r#"{"id":1,"action":"publish","channel":"open","data":1}"#,
        r#"{"id":1,"action":"refresh","token":"t"}"#,
        r#"{"action":"OnMessage","msg":{"origin":"o","key":"0000000700000000000000000000000000000000000000000000000000000000"},"token":"t"}"#,
        r#"{"action":"SAY","room":"blue"}"#,
        "no json",
    ];
    let verdicts = VerdictLabel::ALL.iter().map(|label| format!("@ verdict {}", label.name())).collect::<Vec<_>>();
    prop_oneof![
        3 => prop::sample::select(verdicts),
        4 => prop::sample::select(events.to_vec()).prop_map(str::to_owned),
        5 => prop::sample::select(texts.to_vec()).prop_map(|text| format!("> {text}")),
        1 => ".{0,40}".prop_map(|text| format!("> {text}")),
    ]
}

/// The way to an answer, so that chance need not find it.
fn likely_start() -> impl Strategy<Value = Vec<String>> {
    let steps = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let function = r#"> {"action":"OnMessage","msg":{"origin":"o","key":"0000000700000000000000000000000000000000000000000000000000000000"}}"#;
    let (hello, answer) = (format!("> {HELLO}"), format!("> {ANSWER}"));
    prop_oneof![
        Just(Vec::new()),
        Just(steps(&["@ open"])),
        Just(steps(&["@ open", &hello, "@ issued", &answer])),
        Just(steps(&["@ open", "@ issued", function])),
        Just(steps(&["@ open", &hello, "@ issued", &answer, "@ verdict verified", "@ again", "@ issued"])),
    ]
}

proptest! {
    #[test]
    fn no_sequence_of_events_breaks_an_invariant(
        native: bool,
        stays: bool,
        start in likely_start(),
        rest in prop::collection::vec(any_input(), 0..24),
    ) {
        let failure = if stays { "stay_unverified" } else { "close" };
        let settings = format!(
            r#"
            challenge = {{ carrier = "echo_function", on_failure = "{failure}" }}
            routes.OnMessage.builtin = "answer"
            routes.SAY.publish = {{ channel = "room:{{{{ message.room }}}}", template = "x" }}
            routes."$disconnect".publish = {{ channel = "gone", template = "bye" }}
            {NATIVE}
            "#
        );
        let dialect = if native { Dialect::Native } else { Dialect::Plain };
        let mut bench = Bench::new(&settings, dialect).of("ada", 50);
        let mut lived: Vec<String> = Vec::new();
        for input in start.iter().chain(&rest) {
            let verified_before = bench.session.is_verified();
            bench.play(input);
            if bench.session.is_verified() && !verified_before {
                prop_assert!(input.starts_with("@ verdict verified"), "verified by {input}");
            }
            if verified_before && !bench.session.is_verified() {
                prop_assert!(native && input.starts_with("@ verdict ") && !input.contains("verified"), "lost by {input}");
            }
            lived.append(&mut bench.recorder.lines);
        }
        let place = |act: &str| lived.iter().position(|line| line.starts_with(act));
        let times = |act: &str| lived.iter().filter(|line| line.starts_with(act)).count();
        for once in ["! close", "! verified", "! lapsed", "! issue challenge", "! publish to all on gone"] {
            prop_assert!(times(once) <= 1, "{} twice in {:?}", once, lived);
        }
        let epochs = times("! issue challenge") + times("! issue again");
        prop_assert!(times("! judge") <= times("! challenged") && times("! challenged") <= epochs, "{:?}", lived);
        prop_assert!(times("! verified") + times("! still verified") <= times("! judge"), "one verification per answer");
        prop_assert!(times("! verified") == 1 || !bench.session.is_verified());
        prop_assert!(times("! issue again") == 0 || native && times("! verified") == 1, "{:?}", lived);
        prop_assert!(times("! lapsed") == 0 || !bench.session.is_verified());
        if let Some(verified) = place("! verified") {
            prop_assert!(place("! challenged") < place("! judge") && place("! judge") < Some(verified));
        }
        if let Some(closed) = place("! close") {
            let allowed = |line: &&String| line.starts_with("! publish to all on gone") || line.starts_with("! route $disconnect");
            let after: Vec<_> = lived[closed + 1..].iter().filter(|line| !allowed(line)).collect();
            prop_assert!(after.is_empty(), "after the close: {:?}", after);
        }
    }
}
