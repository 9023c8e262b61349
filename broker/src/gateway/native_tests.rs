use proptest::prelude::*;

use super::*;

/// A point on the curve.
const KEY: &str = "BNgN9yvWiAXGbBqI0ikK8aW3Wia91B-lAs0nfKQ8SVBQOYGGJDLo8zqHoGxTsO4PBU1CoTpu-wWKZV00TXlWGNI";

fn request(text: &str) -> Request {
    match parse(text) {
        Ok(NativeRequest { act: Act::Request(request), .. }) => request,
        other => panic!("{text}: {other:?}"),
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

#[test]
fn requests_are_read() {
    assert_eq!(request(r#"{"id":1,"action":"ping"}"#), Request::Ping);
    assert_eq!(request(r#" {"action":"subscribe","channel":"a","id":"x"}"#), Request::Subscribe(channel("a")));
    assert_eq!(request(r#"{"id":1,"action":"unsubscribe","channel":"a"}"#), Request::Unsubscribe(channel("a")));
    assert_eq!(
        request(r#"{"id":1,"action":"publish","channel":"a","data":{"b": [1, "x"]},"exclude":true}"#),
        Request::Publish { channel: channel("a"), data: r#"{"b": [1, "x"]}"#.to_owned(), exclude: true }
    );
    assert_eq!(
        request(r#"{"id":1,"action":"publish","channel":"a","data":null}"#),
        Request::Publish { channel: channel("a"), data: "null".to_owned(), exclude: false }
    );
    assert_eq!(request(r#"{"id":1,"action":"refresh","token":"t"}"#), Request::Refresh { token: Token("t".to_owned()) });
    let nonce = "A".repeat(43);
    let hello = |forms: &str, mode: &str| {
        let text = format!(r#" {{"id":1,"action":"hello","forms":[{forms}],"nonce":"{nonce}","key":"{KEY}"{mode}}}"#);
        match request(&text) {
            Request::Hello { offered, hello } => {
                assert_eq!(hello.digest, hello_digest(&text));
                assert_eq!((hello.nonce, hello.key.point()), ([0; 32], &base64url(KEY).unwrap()));
                (offered, hello.mode)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(hello(r#""vm","source""#, ""), (OfferedForms { vm: true, source: true, frame: false }, Mode::Bearer));
    assert_eq!(
        hello(r#""vm","hologram""#, r#","mode":"proof""#),
        (OfferedForms { vm: true, source: false, frame: false }, Mode::Proof)
    );
    assert_eq!(
        request(&format!(
            r#"{{"id":1,"action":"answer","challenge":"AAAAAAAAAAAAAAAAAAAAAA","epoch":0,"origin":"https://a","topOrigin":"https://b","mac":"{nonce}","signature":"{}"}}"#,
            "A".repeat(86)
        )),
        Request::Answer(Answer::Native(NativeAnswer {
            challenge: ChallengeId::from_bytes([0; 16]),
            epoch: 0,
            origin: "https://a".to_owned(),
            top_origin: Some("https://b".to_owned()),
            mac: AnswerMac([0; 32]),
            signature: AnswerSignature([0; 64]),
            work: None,
        }))
    );
    assert!(matches!(
        parse(r#"{"id":1,"action":"GREETING","anything":true}"#),
        Ok(NativeRequest { act: Act::Route { action }, .. }) if action == "GREETING"
    ));
}

#[test]
fn a_frame_without_object_id_or_action_is_fatal() {
    for text in [
        "",
        "no json",
        "5",
        "null",
        r#"[1,"ping"]"#,
        r#"{"id":1}"#,
        r#"{"action":"ping"}"#,
        r#"{"id":null,"action":"ping"}"#,
        r#"{"id":-1,"action":"ping"}"#,
        r#"{"id":1.0,"action":"ping"}"#,
        r#"{"id":18446744073709551616,"action":"ping"}"#,
        r#"{"id":[1],"action":"ping"}"#,
        r#"{"id":1,"action":7}"#,
        r#"{"id":1,"id":1,"action":"ping"}"#,
        r#"{"id":1,"action":"ping","action":"ping"}"#,
        r#"{"id":1,"action":"ping"} trailing"#,
        r#"{"id":1,"action":"ping""#,
        &format!(r#"{{"id":"{}","action":"ping"}}"#, "x".repeat(65)),
    ] {
        assert_eq!(parse(text), Err(Refused::Fatal), "{text}");
    }
}

#[test]
fn what_is_unknown_twice_missing_or_mistyped_is_refused_with_the_id() {
    let n43 = "A".repeat(43);
    for members in [
        r#""action":"ping","extra":1"#.to_owned(),
        r#""action":"subscribe""#.to_owned(),
        r#""action":"subscribe","channel":7"#.to_owned(),
        r#""action":"subscribe","channel":"a b""#.to_owned(),
        r#""action":"subscribe","channel":"a","channel":"b""#.to_owned(),
        r#""action":"publish","channel":"a""#.to_owned(),
        r#""action":"publish","channel":"a","data":1,"data":2"#.to_owned(),
        r#""action":"publish","channel":"a","data":1,"exclude":1"#.to_owned(),
        r#""action":"publish","channel":"a","data":1,"_frame":1"#.to_owned(),
        r#""action":"refresh","token":null"#.to_owned(),
        format!(r#""action":"hello","nonce":"{n43}","key":"{KEY}""#),
        format!(r#""action":"hello","forms":[],"nonce":"{n43}""#),
        format!(r#""action":"hello","forms":[],"nonce":"{n43}","key":null"#),
        format!(r#""action":"hello","forms":[],"nonce":"{n43}","key":"{}""#, &KEY[1..]),
        format!(r#""action":"hello","forms":[],"nonce":"{n43}","key":"{KEY}A""#),
        // Off the curve, and the same point compressed.
        format!(r#""action":"hello","forms":[],"nonce":"{n43}","key":"{}""#, KEY.replacen("BN", "BM", 1)),
        format!(r#""action":"hello","forms":[],"nonce":"{n43}","key":"{}""#, KEY.replacen('B', "A", 1)),
        format!(r#""action":"hello","forms":[],"nonce":"{n43}","key":"{KEY}","mode":"none""#),
        format!(r#""action":"hello","forms":[],"nonce":"{n43}","key":"{KEY}","mode":null"#),
        format!(r#""action":"hello","forms":[],"nonce":"{n43}","key":"{KEY}","key":"{KEY}""#),
        format!(r#""action":"hello","forms":"source","nonce":"{n43}","key":"{KEY}""#),
        format!(r#""action":"hello","forms":[],"nonce":"{n43}A","key":"{KEY}""#),
        format!(r#""action":"hello","forms":[],"nonce":"{n43}=","key":"{KEY}""#),
        format!(r#""action":"hello","forms":[],"nonce":"{}","key":"{KEY}""#, &n43[1..]),
        // Not canonical: trailing bits.
        format!(r#""action":"hello","forms":[],"nonce":"{}B","key":"{KEY}""#, &n43[1..]),
        // Not base64url.
        format!(r#""action":"hello","forms":[],"nonce":"+{}","key":"{KEY}""#, &n43[1..]),
    ] {
        let text = format!(r#"{{"id":"x",{members}}}"#);
        let refused = Refused::Reply(RequestId::Text("x".into()), ErrorCode::BadRequest.into());
        assert_eq!(parse(&text), Err(refused), "{text}");
    }
}

#[test]
fn a_malformed_answer_is_an_attempt() {
    let (n22, n43, n86) = ("A".repeat(22), "A".repeat(43), "A".repeat(86));
    for members in [
        String::new(),
        format!(r#","challenge":"{n22}","epoch":0,"origin":"o","mac":"{n43}""#),
        format!(r#","challenge":"{n22}","epoch":0,"origin":"o","signature":"{n86}""#),
        format!(r#","challenge":"{n22}","epoch":0,"origin":"o","mac":"{n43}","signature":null"#),
        format!(r#","challenge":"{n22}","epoch":0,"origin":"o","mac":"{n43}A","signature":"{n86}""#),
        format!(r#","challenge":"{n22}","epoch":0,"origin":"o","mac":"{n43}","signature":"{}B""#, &n86[1..]),
        format!(r#","challenge":"{n22}","epoch":0,"origin":null,"mac":"{n43}","signature":"{n86}""#),
        format!(r#","challenge":"{n22}","epoch":-1,"origin":"o","mac":"{n43}","signature":"{n86}""#),
        format!(r#","challenge":"{}B","epoch":0,"origin":"o","mac":"{n43}","signature":"{n86}""#, &n22[1..]),
        format!(r#","challenge":"{n22}","epoch":0,"origin":"o","topOrigin":null,"mac":"{n43}","signature":"{n86}""#),
        format!(r#","challenge":"{n22}","epoch":0,"origin":"o","mac":"{n43}","signature":"{n86}","more":1"#),
        format!(r#","challenge":"{n22}","epoch":0,"origin":"o","mac":"{n43}","signature":"{n86}","lanes":[1,2,3,4,5,6,7,8]"#),
        format!(r#","challenge":"{n22}","epoch":0,"epoch":0,"origin":"o","mac":"{n43}","signature":"{n86}""#),
        r#","error":"could not run the program""#.to_owned(),
    ] {
        let text = format!(r#"{{"id":1,"action":"answer"{members}}}"#);
        assert_eq!(request(&text), Request::Answer(Answer::Malformed), "{text}");
    }
}

#[test]
fn frames_are_what_the_contract_says() {
    let id = RequestId::Text("a\"b".into());
    assert_eq!(ok(&id, &serde_json::json!({})), r#"{"id":"a\"b","ok":{}}"#);
    assert_eq!(
        error(&RequestId::Number(7), &ErrorCode::AlreadySubscribed.into()),
        r#"{"id":7,"error":{"code":"already_subscribed","message":"already subscribed to this channel"}}"#
    );
    let connection_id = ConnectionId::from_bytes([0; 16]);
    assert_eq!(
        Push::Welcome { connection_id, challenge: "off", subject: None, expires_at: Some(9) }.encode(),
        r#"{"event":"welcome","connectionId":"AAAAAAAAAAAAAAAAAAAAAA","challenge":"off","subject":null,"expiresAt":9}"#
    );
    for (form, name, program) in [(ChallengeForm::Source, "source", "function(){}"), (ChallengeForm::Vm, "vm", "AQ")] {
        let (id, nonce) = ("A".repeat(22), "A".repeat(43));
        let decoy = crate::challenge::Decoy { index: 0, token: String::new() };
        let mut frame = ChallengeFrame {
            challenge_id: [0; 16],
            epoch: 0,
            server_nonce: [0; 32],
            form,
            program: program.to_owned(),
            program_hash: None,
            mode: Mode::Proof,
            signature: None,
            work: None,
            file: None,
            decoy,
        };
        let text = format!(
            r#"{{"event":"challenge","challenge":"{id}","epoch":0,"form":"{name}","nonce":"{nonce}","program":"{}","answerMs":10000,"mode":"proof""#,
            frame.program
        );
        assert_eq!(Push::challenge(&frame, 10_000).encode(), format!("{text}}}"));
        frame.signature = Some(crate::challenge::FrameSignature { signer: "key".to_owned(), signature: [0; 64] });
        let signed = format!(r#"{text},"signer":"key","signature":"{}"}}"#, "A".repeat(86));
        assert_eq!(Push::challenge(&frame, 10_000).encode(), signed);
        frame.program_hash = Some([0; 32]);
        let told = format!(r#""program":"{}","programHash":"{nonce}","#, frame.program);
        assert!(Push::challenge(&frame, 10_000).encode().contains(&told));
    }
    assert_eq!(Push::Verified { connection_id }.encode(), r#"{"event":"verified","connectionId":"AAAAAAAAAAAAAAAAAAAAAA"}"#);
    assert_eq!(Push::ChallengeFailed { unsubscribed: &[] }.encode(), r#"{"event":"challenge_failed"}"#);
    assert_eq!(Push::Message { data: "[1, 2]".into() }.encode(), r#"{"event":"message","data":[1, 2]}"#);
    assert_eq!(Push::Message { data: "a\"".into() }.encode(), r#"{"event":"message","data":"a\""}"#);
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn arbitrary_members_never_panic(
        action in prop::sample::select(vec!["hello", "answer", "ping", "subscribe", "publish", "refresh", "x"]),
        members in "[\\[\\]{}\",:a-z0-9 ]{0,60}",
    ) {
        let _ = parse(&format!(r#"{{"id":1,"action":"{action}",{members}}}"#));
    }

    #[test]
    fn an_id_comes_back_as_it_was_sent(number: u64, text in ".{0,16}") {
        for id in [RequestId::Number(number), RequestId::Text(text.into())] {
            let frame = format!(r#"{{"id":{},"action":"ping"}}"#, json(&id));
            let back = parse(&frame).map(|request| request.id);
            prop_assert_eq!(back, Ok(id));
        }
    }
}
