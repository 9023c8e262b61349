//! Further challenges of a verified connection.

use super::tests::{ANSWER, Bench, NATIVE, native, verified};
use super::*;

/// A verified connection with a further challenge under way.
fn challenged_again(bench: Bench) -> Bench {
    bench.check(&verified()).check(
        r#"
        @ again
        ! issue again 1 for messages
        @ issued
        ! challenged
        < {"event":"challenge","challenge":"AAAAAAAAAAAAAAAAAAAAAA","epoch":1,"form":"source","nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","program":"function(keys){}","answerMs":10000,"mode":"ticket"}
        "#,
    )
}

fn staying() -> Bench {
    Bench::new(&format!("challenge.on_failure = 'stay_unverified'\n{NATIVE}"), Dialect::Native)
}

#[test]
fn a_connection_that_is_challenged_again_stays_verified_and_answers_once() {
    let bench = challenged_again(native());
    assert!(bench.session.is_verified());
    let bench = bench.check("@ again").check(&format!(
        r#"> {ANSWER}
        ! judge https://app.example 7
        @ verdict verified
        ! still verified
        < {{"id":2,"ok":{{}}}}
        < {{"event":"verified","connectionId":"ID"}}
        ! start tickets
        > {ANSWER}
        < {{"id":2,"error":{{"code":"denied","message":"already answered, the connection is verified"}}}}
        @ verdict verified
        @ verdict wrong_answer
        @ again
        ! issue again 2 for messages"#
    ));
    assert!(bench.session.is_verified());
}

#[test]
fn a_further_challenge_that_fails_ends_the_connection() {
    for (verdict, code) in
        [("wrong_answer", 4403), ("bad_signature", 4403), ("origin_mismatch", 4403), ("late", 4408), ("internal", 4500)]
    {
        let bench = challenged_again(native()).check(&format!("@ verdict {verdict}\n! close {code}"));
        bench.check(&format!("> {ANSWER}\n@ verdict verified\n@ again\n@ gone"));
    }
}

#[test]
fn a_connection_that_stays_is_verified_no_more_before_it_is_told() {
    let bench = challenged_again(staying()).check(&format!(
        r#"> {ANSWER}
        ! judge https://app.example 7
        @ verdict wrong_answer
        ! lapsed
        < {{"id":2,"error":{{"code":"denied","message":"challenge failed"}}}}
        < {{"event":"challenge_failed"}}
        @ verdict verified
        @ again"#
    ));
    assert!(!bench.session.is_verified());
    bench.check(
        r#"> {"id":9,"action":"publish","channel":"open","data":1}
        < {"id":9,"error":{"code":"denied","message":"not allowed on this connection"}}"#,
    );
    let late = challenged_again(staying()).check("@ verdict late\n! lapsed\n< {\"event\":\"challenge_failed\"}");
    assert!(!late.session.is_verified());
    late.check(&format!("> {ANSWER}\n! close 4403"));
}

#[test]
fn a_lapsed_connection_loses_the_subscriptions_that_need_a_verified_one() {
    let rules = r#"
        [[channels]]
        pattern = "for-verified:*"
        subscribe = "verified"
        [gateway.limits]
        subscriptions_max = 3"#;
    let bench = Bench::new(&format!("challenge.on_failure = 'stay_unverified'\n{NATIVE}{rules}"), Dialect::Native);
    let subscribe = |channel: &str| {
        let request = format!("> {{\"id\":7,\"action\":\"subscribe\",\"channel\":\"{channel}\"}}");
        format!("{request}\n! subscribe {channel}\n< {{\"id\":7,\"ok\":{{}}}}\n")
    };
    let all: String = ["for-verified:1", "open", "for-verified:2"].map(subscribe).concat();
    let bench = bench.check(&verified()).check(&all).check(
        r#"
        @ again
        ! issue again 1 for messages
        @ issued
        ! challenged
        < {"event":"challenge","challenge":"AAAAAAAAAAAAAAAAAAAAAA","epoch":1,"form":"source","nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","program":"function(keys){}","answerMs":10000,"mode":"ticket"}
        @ verdict late
        ! lapsed
        ! unsubscribe for-verified:1
        ! unsubscribe for-verified:2
        < {"event":"challenge_failed","unsubscribed":["for-verified:1","for-verified:2"]}
        "#,
    );
    // One of three is held: two more, and no third.
    bench.check(&["limited:1", "limited:2"].map(subscribe).concat()).check(
        r#"> {"id":8,"action":"subscribe","channel":"limited:3"}
        ! limit subscriptions
        < {"id":8,"error":{"code":"limit","message":"too many subscriptions on this connection"}}"#,
    );
}

#[test]
fn a_verdict_on_an_older_challenge_means_nothing() {
    let bench = challenged_again(staying());
    let bench = bench.check("@ verdict verified of 0\n@ verdict wrong_answer of 0\n@ verdict late of 2");
    assert!(bench.session.is_verified());
    bench.check("@ verdict late of 1\n! lapsed\n< {\"event\":\"challenge_failed\"}");
}

#[test]
fn a_second_answer_before_the_verdict_closes() {
    challenged_again(native())
        .check(&format!("> {ANSWER}\n! judge https://app.example 7\n> {ANSWER}\n! close 4403\n@ verdict verified"));
}

#[test]
fn a_close_while_a_further_challenge_is_pending_is_the_end() {
    challenged_again(native()).check("@ gone\n@ verdict late\n@ verdict verified\n@ again");
    let raced = challenged_again(native())
        .check(&format!("> {ANSWER}\n! judge https://app.example 7\n@ closed elsewhere\n@ verdict verified\n@ again"));
    assert!(raced.session.is_closing());
}

#[test]
fn faults_of_the_node_fail_closed_here_too() {
    let asked = || native().check(&verified()).check("@ again\n! issue again 1 for messages");
    asked().check("@ issue failed\n! close 4500");
    challenged_again(native()).check("@ verdict verified\n! close 4500");
}

#[test]
fn only_verified_native_clients_are_challenged_again() {
    native().check("@ again");
    let echo = "challenge.carrier = 'echo_function'\nroutes.OnMessage.builtin = 'answer'";
    let bench = Bench::new(echo, Dialect::Plain).check(
        r#"
        @ open
        < Echo: ID
        ! issue challenge
        @ again
        @ issued
        ! challenged
        < {"token":"decoy","func":"function(keys){}","index":3}
        > {"action":"OnMessage","msg":{"origin":"o","key":"0000000700000000000000000000000000000000000000000000000000000000"}}
        ! judge o 7
        @ verdict verified
        ! verified
        ! raise limits
        @ again
        "#,
    );
    assert!(bench.session.is_verified());
}
