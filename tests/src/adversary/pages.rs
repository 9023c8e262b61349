//! Adversaries with a browser.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::{Target, sdk};
use crate::pages::{Page, Port};

/// A page that connects by this SDK, and says in `outcome` how that ended.
pub(super) fn html(sdk: &str, socket: &str) -> String {
    format!(
        "<!doctype html><link rel=icon href=data:,><script>{sdk}</script><script>\
         const connection = countersign.connect('{socket}', {{ reconnect: false }});\
         connection.on('verified', () => {{ globalThis.outcome = 'verified' }});\
         connection.closed.then((error) => {{ globalThis.outcome ??= error.code }})</script>"
    )
}

/// Opens the honest page again and again.
pub(super) async fn browse(target: &Target, attempts: u32) -> u32 {
    opened(target, &format!("{}/", target.page.origin()), attempts).await
}

/// Opens a look-alike page, whose socket goes through the proxy.
pub(super) async fn look_alike(target: &Target, attempts: u32, patched: bool) -> u32 {
    let origin = target.page.origin();
    let proxy = rewriting_proxy(target.node.gateway, &origin).await;
    let mut sdk = sdk(&target.node).await;
    if patched {
        for (honest, patch) in [
            ("this.#url.host,", format!("'{}',", target.node.gateway)),
            ("origin = pageOrigin()", format!("origin = '{origin}'")),
        ] {
            assert!(sdk.contains(honest), "the SDK has no {honest}: the patch is out of date");
            sdk = sdk.replace(honest, &patch);
        }
    }
    let page = Page::serve(Port::reserve(), html(&sdk, &format!("ws://{proxy}/ws")));
    opened(target, &format!("{}/", page.origin()), attempts).await
}

async fn opened(target: &Target, url: &str, attempts: u32) -> u32 {
    let mut successes = 0;
    for _ in 0..attempts {
        target.browser.goto(url).await;
        let outcome = target.browser.until("the page has an outcome", "return globalThis.outcome").await;
        successes += u32::from(outcome == json!("verified"));
    }
    successes
}

/// A proxy that lets the node believe that it was dialed by the honest page.
async fn rewriting_proxy(node: SocketAddr, origin: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let origin: Arc<str> = origin.into();
    tokio::spawn(async move {
        while let Ok((page, _)) = listener.accept().await {
            // A page that leaves ends its own connection alone.
            let origin = origin.clone();
            tokio::spawn(async move { forward(page, node, &origin).await.ok() });
        }
    });
    address
}

/// Forwards one connection, after the head of its request was rewritten.
async fn forward(mut page: TcpStream, node: SocketAddr, origin: &str) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if page.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head);
    let rewritten: Vec<String> = head.trim_end().split("\r\n").map(|line| rewrite(line, node, origin)).collect();
    let mut upstream = TcpStream::connect(node).await?;
    upstream.write_all((rewritten.join("\r\n") + "\r\n\r\n").as_bytes()).await?;
    copy_bidirectional(&mut page, &mut upstream).await?;
    Ok(())
}

fn rewrite(line: &str, node: SocketAddr, origin: &str) -> String {
    match line.split_once(':') {
        Some((name, _)) if name.eq_ignore_ascii_case("origin") => format!("Origin: {origin}"),
        Some((name, _)) if name.eq_ignore_ascii_case("host") => format!("Host: {node}"),
        _ => line.to_owned(),
    }
}
