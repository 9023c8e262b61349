//! Whatever happens in whichever order, a session keeps its invariants.

use super::*;

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
