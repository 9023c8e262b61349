//! What a session does for native clients.

use super::*;

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
