//! What a session does for plain clients, and by the table of routes.

use super::*;

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
