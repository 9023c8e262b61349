//! Tickets and proofs: what a call shows instead of a connection id.

use countersign_tests::http::{self, Request, Response};
use countersign_tests::socket::{Dial, Socket};
use countersign_tests::tickets::Ticket;
use countersign_tests::tokens::Issuer;
use countersign_tests::{Node, Plan, eventually};
use serde_json::json;

/// Three resources, each with a floor of its own.
const RESOURCES: &str = r#"
[[protected]]
path = "/by-id"
mode = "bearer"
body = { shown = "id" }
[[protected]]
path = "/by-ticket"
body = { shown = "ticket" }
[[protected]]
path = "/by-proof"
mode = "proof"
body = { shown = "proof" }
"#;

fn plan() -> Plan {
    Plan::new().toml("[authorizer]\nmode = \"ticket\"").toml(RESOURCES)
}

async fn page(node: &Node) -> (Socket, Ticket) {
    let mut socket = Dial::page(node).verified().await;
    let ticket = socket.ticket().await;
    (socket, ticket)
}

/// A page that dialed `dialed`, of which a proxy made `sent`.
async fn page_at(node: &Node, dialed: &str, sent: &str) -> (Socket, Ticket) {
    let mut socket = Dial::page(node).header("host", sent).welcomed().await;
    let challenge = socket.challenge().await;
    let mut view = socket.view();
    view.host = dialed.to_owned();
    socket.ok("answer", view.answer(&challenge, &socket.key)).await;
    let ticket = socket.ticket().await;
    (socket, ticket)
}

/// The code of a refusal, and what every one has.
#[track_caller]
fn refused(response: &Response, status: u16) -> String {
    assert_eq!(response.status, status, "{}", response.text());
    assert_eq!(response.header("www-authenticate").is_some(), status == 401);
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.header("x-countersign-subject"), None);
    response.json()["error"].as_str().expect("a code").to_owned()
}

/// `host/path` of a resource of the node, as its page calls it.
fn target(node: &Node, path: &str) -> String {
    format!("{}{path}", node.gateway)
}

#[tokio::test]
async fn id_alone_is_not_enough() {
    let node = plan().start();
    let (socket, ticket) = page(&node).await;
    let stolen = async |path: &str| http::get(&node.url(path)).header("connectionId", &socket.id).send().await;
    assert_eq!(refused(&stolen("/by-ticket").await, 401), "ticket_missing");
    assert_eq!(refused(&stolen("/by-proof").await, 401), "ticket_missing");
    assert_eq!(refused(&node.authorize(&socket.id).await, 401), "ticket_missing");
    let ask = http::get(&node.admin_url("/authorize")).ticket(&ticket).send().await;
    assert_eq!(ask.status, 200, "{}", ask.text());
    for (name, value) in [
        ("x-countersign-subject", "-"),
        ("x-countersign-connection-id", socket.id.as_str()),
        ("x-countersign-origin", &node.origin()),
        ("x-countersign-body-digest", "-"),
    ] {
        assert_eq!(ask.header(name), Some(value), "{name}");
    }
    node.metric_reaches("countersign_mode_decisions_total", &[("mode", "ticket"), ("outcome", "allow")], 1.0).await;
    node.metric_reaches("countersign_mode_decisions_total", &[("mode", "ticket"), ("outcome", "deny")], 2.0).await;
    node.metric_at_least("countersign_tickets_minted_total", &[], 1.0).await;
}

#[tokio::test]
async fn each_path_asks_for_what_it_asks_for() {
    let node = plan().start();
    let (socket, ticket) = page(&node).await;
    let mut counter = 0;
    // In an order in which a remembered answer of one path would betray itself on the next.
    for _ in 0..2 {
        for (path, allowed) in
            [("/by-id", [true, true, true]), ("/by-proof", [false, false, true]), ("/by-ticket", [false, true, true])]
        {
            counter += 1;
            let proof = socket.prove(&ticket, "GET", &target(&node, path), counter);
            let get = || http::get(&node.url(path));
            let shown = [get().header("connectionId", &socket.id), get().ticket(&ticket), get().proof(&ticket, &proof)];
            for (request, allowed) in shown.into_iter().zip(allowed) {
                assert_eq!(request.send().await.status == 200, allowed, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn a_connection_can_ask_that_its_id_never_be_enough() {
    let node = plan().start();
    for (wish, codes) in [("ticket", ["mode_too_low", ""]), ("proof", ["mode_too_low", "proof_missing"])] {
        let mut socket = Dial::page(&node).welcomed().await;
        let mut hello = socket.hello();
        hello["mode"] = json!(wish);
        socket.ok("hello", hello).await;
        let challenge = socket.event("challenge").await;
        assert_eq!(challenge["mode"], wish);
        socket.ok("answer", socket.answer(&challenge)).await;
        let ticket = socket.ticket().await;
        let url = node.url("/by-id");
        assert_eq!(refused(&http::get(&url).header("connectionId", &socket.id).send().await, 401), codes[0]);
        let by_ticket = http::get(&url).ticket(&ticket).send().await;
        assert_eq!(if by_ticket.status == 200 { String::new() } else { refused(&by_ticket, 401) }, codes[1]);
        let proof = socket.prove(&ticket, "GET", &target(&node, "/by-id"), 1);
        assert_eq!(http::get(&url).proof(&ticket, &proof).send().await.status, 200);
    }
}

#[tokio::test]
async fn no_tickets_are_pushed_where_ids_do() {
    let node = Node::start("");
    let mut socket = Dial::page(&node).verified().await;
    socket.ok("ping", json!({})).await;
    assert_eq!(node.metrics().await.sum("countersign_tickets_minted_total", &[]), 0.0);
    assert_eq!(node.authorize(&socket.id).await.status, 200);
}

#[tokio::test]
async fn a_closed_sockets_ticket_is_refused_at_once() {
    let node = plan().start();
    for round in 0..10 {
        let (socket, ticket) = page(&node).await;
        let ask = async || http::get(&node.admin_url("/authorize")).ticket(&ticket).send().await;
        assert_eq!(ask().await.status, 200);
        socket.close().await;
        assert_eq!(refused(&ask().await, 401), "connection_unknown", "round {round}");
    }
}

#[tokio::test]
async fn tickets_are_renewed_before_they_expire_and_end() {
    let node = plan().toml("[authorizer.ticket]\nttl_ms = 10000").start();
    let (mut socket, first) = page(&node).await;
    assert!((9_000..=10_000).contains(&first.expires_in_ms));
    let ask = async |ticket: &Ticket| http::get(&node.admin_url("/authorize")).ticket(ticket).send().await;
    let second = socket.ticket().await;
    assert_ne!(first.text, second.text);
    assert_eq!((ask(&first).await.status, ask(&second).await.status), (200, 200), "they overlap");
    eventually("the first expires", || async { (ask(&first).await.status == 401).then_some(()) }).await;
    assert_eq!(refused(&ask(&first).await, 401), "ticket_expired");
    let third = socket.ticket().await;
    assert_eq!(ask(&third).await.status, 200, "the socket lives on");
    let age = node.metrics().await.sum("countersign_tickets_minted_total", &[]);
    assert!(age >= 3.0);
}

#[tokio::test]
async fn a_ticket_ends_with_its_token_and_a_refresh_gives_the_next_a_new_end() {
    let issuer = Issuer::new();
    let node = plan().toml(&issuer.settings()).start();
    let mut socket = Dial::page(&node).bearer(&issuer.token("ada", 12)).verified().await;
    let short = socket.ticket().await;
    assert!(short.expires_in_ms <= 12_000, "{}", short.expires_in_ms);
    socket.ok("refresh", json!({ "token": issuer.token("ada", 600) })).await;
    let mut next = socket.ticket().await;
    while next.expires_in_ms <= 12_000 {
        next = socket.ticket().await;
    }
    let ask = http::get(&node.admin_url("/authorize")).ticket(&next).send().await;
    assert_eq!(ask.header("x-countersign-subject"), Some("ada"), "{}", ask.text());
}

#[tokio::test]
async fn a_proof_is_of_one_call_and_counts_once() {
    let node = plan().start();
    let (socket, ticket) = page(&node).await;
    let target = target(&node, "/by-proof?x=1");
    let call = async |proof: &str| http::get(&node.url("/by-proof?x=1")).proof(&ticket, proof).send().await;
    let good = socket.prove(&ticket, "GET", &target, 1);
    assert_eq!(call(&good).await.status, 200);
    assert_eq!(refused(&call(&good).await, 401), "proof_replayed");
    node.metric_reaches("countersign_proof_replays_total", &[], 1.0).await;
    let (other, other_ticket) = page(&node).await;
    for (what, proof) in [
        ("another method", socket.prove(&ticket, "POST", &target, 2)),
        ("another query", socket.prove(&ticket, "GET", &target.replace("x=1", "x=2"), 2)),
        ("another host", socket.prove(&ticket, "GET", "elsewhere.example/by-proof?x=1", 2)),
        ("another ticket", socket.prove(&other_ticket, "GET", &target, 2)),
        ("another page", other.prove(&ticket, "GET", &target, 2)),
        (
            "another page's nonce",
            socket.prove(&Ticket { nonce: other_ticket.nonce.clone(), ..ticket.clone() }, "GET", &target, 2),
        ),
        ("another counter", good.replacen("v1.1.", "v1.2.", 1)),
        ("no proof", "v1".to_owned()),
    ] {
        assert_eq!(refused(&call(&proof).await, 401), "proof_invalid", "{what}");
    }
    // A host that somebody in front claims is no host of the call.
    let elsewhere = socket.prove(&ticket, "GET", "elsewhere.example/by-proof?x=1", 2);
    let forwarded = http::get(&node.url("/by-proof?x=1")).proof(&ticket, &elsewhere);
    let forwarded = forwarded
        .header("X-Forwarded-Host", "elsewhere.example")
        .header("X-Original-URL", "http://elsewhere.example/by-proof?x=1");
    assert_eq!(refused(&forwarded.send().await, 401), "proof_invalid");
    assert_eq!(call(&socket.prove(&ticket, "GET", &target, 2)).await.status, 200, "none of them was remembered");
    assert_eq!(refused(&http::get(&node.url("/by-proof")).ticket(&ticket).send().await, 401), "proof_missing");
}

#[tokio::test]
async fn a_proof_counts_for_the_hosts_of_the_node_only() {
    let node = plan().toml("[gateway]\nhosts = [\"a.example\", \"b.example:8080\"]").start();
    let (socket, ticket) = page_at(&node, "a.example", "a.example").await;
    let call = async |host: &str, signed: &str, counter: u64| {
        let proof = socket.prove(&ticket, "GET", &format!("{signed}/by-proof"), counter);
        http::get(&node.url("/by-proof")).header("Host", host).proof(&ticket, &proof).send().await
    };
    for (counter, host) in [(1, "a.example"), (2, "b.example:8080")] {
        assert_eq!(call(host, host, counter).await.status, 200, "{host}");
    }
    let own = node.gateway.to_string();
    for (counter, host) in [(3, "evil.example"), (4, "b.example"), (5, "a.example.evil.example"), (6, own.as_str())] {
        // The page signed for this very host: whoever carries the call here is refused like a handshake.
        let refused = call(host, host, counter).await;
        assert_eq!((refused.status, refused.json()["error"].clone()), (421, json!("host_refused")), "{host}");
    }
    assert_eq!(self::refused(&call("a.example", "b.example:8080", 7).await, 401), "proof_invalid");
    for path in ["/by-id", "/by-ticket"] {
        let elsewhere = http::get(&node.url(path)).header("Host", "evil.example").ticket(&ticket).send().await;
        assert_eq!(elsewhere.status, 421, "{path}");
    }
}

#[tokio::test]
async fn one_name_stands_for_what_a_proxy_made_of_the_host_of_a_call_too() {
    let node = plan().toml("[gateway]\nhosts = [\"a.example\"]").start();
    let (socket, ticket) = page_at(&node, "a.example", "inner:8080").await;
    let call = async |signed: &str, counter: u64| {
        let proof = socket.prove(&ticket, "GET", &format!("{signed}/by-proof"), counter);
        http::get(&node.url("/by-proof")).header("Host", "inner:8080").proof(&ticket, &proof).send().await
    };
    assert_eq!(call("a.example", 1).await.status, 200);
    assert_eq!(refused(&call("inner:8080", 2).await, 401), "proof_invalid");
}

#[tokio::test]
async fn a_proxy_says_which_call_it_asks_about_where_the_settings_say() {
    let target = "api.example:8443/orders?id=7";
    let x_original: &[(&str, &str)] =
        &[("X-Original-Method", "PUT"), ("X-Original-URL", "https://api.example:8443/orders?id=7")];
    let x_forwarded: &[(&str, &str)] =
        &[("X-Forwarded-Method", "PUT"), ("X-Forwarded-Host", "api.example:8443"), ("X-Forwarded-Uri", "/orders?id=7")];
    for (call_from, own, other) in [("x_original", x_original, x_forwarded), ("x_forwarded", x_forwarded, x_original)] {
        let node = plan().toml(&format!("[authorizer]\ncall_from = \"{call_from}\"")).start();
        let (socket, ticket) = page(&node).await;
        let body = b"{\"order\":7}".as_slice();
        let ask = async |headers: &[(&str, &str)], counter| {
            let proof = socket.prove_body(&ticket, "PUT", target, counter, Some(body));
            let request = http::get(&node.admin_url("/authorize?mode=proof")).proof(&ticket, &proof);
            headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send().await
        };
        let allowed = ask(own, 1).await;
        assert_eq!(allowed.status, 200, "{call_from}: {}", allowed.text());
        let digest = allowed.header("x-countersign-body-digest").expect("a digest");
        assert_eq!(digest.len(), 43, "{digest}");
        assert_eq!(refused(&ask(other, 2).await, 401), "call_missing", "{call_from}");
        assert_eq!(refused(&ask(&[own, &own[..1]].concat(), 3).await, 401), "call_missing", "twice");
        eventually("the operator is told", || async { node.log().contains("authorizer.call_from").then_some(()) }).await;
        assert_eq!(node.log().matches("authorizer.call_from").count(), 1, "once a minute");
    }
    let node = plan().toml("[authorizer]\ncall_from = \"request\"").start();
    let (socket, ticket) = page(&node).await;
    let proof = socket.prove(&ticket, "PUT", &format!("{}/orders?mode=proof", node.admin), 1);
    let ask = Request::new("PUT", &node.admin_url("/authorize/orders?mode=proof")).proof(&ticket, &proof).send().await;
    assert_eq!(ask.status, 200, "{}", ask.text());
}

#[tokio::test]
async fn a_query_raises_what_must_be_shown_and_never_lowers_it() {
    let node = plan().start();
    let (socket, ticket) = page(&node).await;
    for (query, code) in [
        ("mode=bearer", ""),
        ("mode=ticket", ""),
        ("mode=proof", "proof_missing"),
        ("mode=strict", "proof_missing"),
        ("require=both", "token_missing"),
    ] {
        let url = node.admin_url(&format!("/authorize?{query}"));
        let answer = http::get(&url).ticket(&ticket).send().await;
        assert_eq!(if answer.status == 200 { String::new() } else { refused(&answer, 401) }, code, "{query}");
        let by_id = http::get(&url).header("connectionId", &socket.id).send().await;
        assert_eq!(by_id.status, 401, "{query}");
    }
}

#[tokio::test]
async fn an_allow_is_kept_no_longer_than_its_ticket_and_a_proof_not_at_all() {
    let node = plan().toml("[authorizer]\nallow_max_age_seconds = 300").start();
    let (socket, ticket) = page(&node).await;
    let by_ticket = http::get(&node.admin_url("/authorize")).ticket(&ticket).send().await;
    let age = by_ticket.header("cache-control").and_then(|value| value.strip_prefix("max-age=")).expect("an age");
    assert!(age.parse::<u64>().unwrap() <= 15, "{age}");
    assert!(by_ticket.header("vary").unwrap().contains("Countersign-Ticket"));
    let proof = socket.prove(&ticket, "GET", "api.example/x", 1);
    let ask = http::get(&node.admin_url("/authorize?mode=proof")).header("X-Original-Method", "GET");
    let by_proof = ask.header("X-Original-URL", "https://api.example/x").proof(&ticket, &proof).send().await;
    assert_eq!((by_proof.status, by_proof.header("cache-control")), (200, Some("no-store")));
}

#[tokio::test]
async fn the_query_of_a_call_is_not_the_proxys_where_the_request_is_the_call() {
    let node = plan().toml("[authorizer]\ncall_from = \"request\"").start();
    let (_socket, ticket) = page(&node).await;
    for query in ["mode=fast", "require=x", "mode=proof"] {
        let called = http::get(&node.admin_url(&format!("/authorize/search?{query}"))).ticket(&ticket).send().await;
        assert_eq!(called.status, 200, "{query}: {}", called.text());
    }
}

#[test]
fn clients_without_a_key_cannot_be_asked_for_a_ticket() {
    let plan = Plan::example("domain-security.toml");
    assert!(plan.cli(&["config", "check"], "").status.success());
    for mode in ["ticket", "proof"] {
        let checked = plan.clone().toml(&format!("[authorizer]\nmode = \"{mode}\"")).cli(&["config", "check"], "");
        let told = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert_eq!(checked.status.code(), Some(64), "{told}");
        assert!(told.contains("authorizer.mode") && told.contains("echo_function") && told.contains("bearer"), "{told}");
    }
}
