//! How long a page in a real Chromium takes from the open socket to `verified`, beside the round trip of a bare echo.
//!
//! `cargo run -p countersign-tests --bin page_times -- [--loads 30]`; the node is `NODE_UNDER_TEST`, or a build for tests.
//!
//! Prints one line of JSON: medians over the page loads in milliseconds, and the SDK's bytes. `loadtest page` reads it.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::expect_used, reason = "a command")]

use std::process::ExitCode;

use countersign_tests::Node;
use countersign_tests::browser::Browser;
use countersign_tests::pages::{Page, Port};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Loads, where none are asked for.
const LOADS: usize = 30;

/// What each load does. An echo is as long as an answer, and the median of twenty.
const PAGE: &str = r#"<!doctype html><link rel=icon href=data:,>
<script>
    const Bare = WebSocket;
    const seen = {};
    globalThis.seen = seen;
    globalThis.WebSocket = class extends Bare {
        constructor(...given) {
            super(...given);
            this.addEventListener('open', () => { seen.opened ??= performance.now() });
        }
    };
    const echo = () => new Promise((resolve) => {
        const socket = new Bare('ECHO');
        const trips = [];
        let sent;
        const say = () => { sent = performance.now(); socket.send('e'.repeat(400)) };
        socket.onopen = say;
        socket.onmessage = () => {
            trips.push(performance.now() - sent);
            if (trips.length < 20) return say();
            socket.close();
            resolve(trips.sort((a, b) => a - b)[10]);
        };
    });
    const squeezed = async (url) => {
        const response = await fetch(url);
        return (await new Response(response.body.pipeThrough(new CompressionStream('gzip'))).arrayBuffer()).byteLength;
    };
</script>
<script type=module>
    import { connect } from 'NODE/sdk/countersign.min.js';
    const dialed = performance.now();
    const connection = connect('NODE/ws');
    connection.on('state', async (state) => {
        if (state !== 'verified' || seen.verified) return;
        seen.verified = performance.now();
        const echoed = await echo();
        const bytes = await squeezed('NODE/sdk/countersign.min.js');
        seen.told = { open: seen.opened - dialed, verified: seen.verified - seen.opened, echo: echoed, bytes };
    });
</script>"#;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let loads = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Some(LOADS),
        ["--loads", number] => number.parse().ok().filter(|&number| number > 0),
        _ => None,
    };
    let Some(loads) = loads else {
        eprintln!("page_times [--loads N]");
        return ExitCode::from(64);
    };
    let port = Port::reserve();
    let node = Node::start(&format!("[gateway]\nallowed_origins = [\"{}\"]", port.origin()));
    let html = PAGE.replace("NODE", &node.origin()).replace("ECHO", &echo().await);
    let page = Page::serve(port, html);
    let browser = Browser::start().await;
    let mut told = Vec::new();
    for _ in 0..loads {
        browser.goto(&format!("{}/", page.origin())).await;
        told.push(browser.until("a verified page", "return seen.told || null").await);
    }
    let median = |name: &str| median(&told, name);
    println!(
        "{}",
        json!({
            "loads": loads, "open_ms": median("open"), "verified_ms": median("verified"), "echo_ms": median("echo"),
            "sdk_gzip_bytes": median("bytes"),
        })
    );
    ExitCode::SUCCESS
}

/// Serves an echo to any number of sockets; its address.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("a socket");
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() && socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    format!("ws://{address}/")
}

fn median(told: &[Value], name: &str) -> f64 {
    let mut numbers: Vec<f64> = told.iter().filter_map(|load| load[name].as_f64()).collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}
