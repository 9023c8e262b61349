//! What can be done with what was stolen from an honest page, while that page's socket is open.

use serde_json::{Value, json};

use super::Target;
use super::programs::pretend;
use crate::binding::{PageKey, proof_header};
use crate::http::{self, Request};
use crate::socket::Socket;

/// An honest page with a ticket, of which a thief has copied everything but the key: that cannot be read.
struct Victim {
    socket: Socket,
    ticket: String,
    nonce: String,
}

impl Victim {
    async fn arrive(target: &Target) -> Self {
        let mut socket = pretend(target).await;
        let mut hello = socket.hello();
        hello["mode"] = json!("ticket");
        socket.ok("hello", hello).await;
        let challenge = socket.event("challenge").await;
        socket.ok("answer", socket.answer(&challenge)).await;
        let pushed = socket.event("ticket").await;
        let text = |member: &str| pushed[member].as_str().expect("text").to_owned();
        Self { ticket: text("ticket"), nonce: text("nonce"), socket }
    }

    /// A proof of this call, by a key of the thief's or by the victim's own.
    fn proof(&self, key: &PageKey, call: (&str, &str), counter: u64) -> String {
        proof_header(key, call, &self.ticket, counter, &self.nonce)
    }
}

/// The resource that asks for this mode.
fn url(target: &Target, mode: &str) -> String {
    target.node.url(&format!("/{mode}"))
}

/// What a page signs of a URL: host, path, query.
fn signed(url: &str) -> &str {
    url.strip_prefix("http://").expect("an http URL")
}

async fn is_allowed(request: Request) -> bool {
    request.send().await.status == 200
}

/// A connection id where connection ids are all that is asked for: good until its socket closes, and no longer.
pub(super) async fn id_for_bearer(target: &Target, attempts: u32) -> u32 {
    let mut victim = pretend(target).await;
    victim.verify().await;
    let call = || http::get(&url(target, "bearer")).header("connectionId", &victim.id);
    let mut successes = 0;
    for _ in 0..attempts {
        successes += u32::from(is_allowed(call()).await);
    }
    let late = call();
    victim.close().await;
    assert!(!is_allowed(late).await, "the id of a closed connection was taken");
    successes
}

/// A connection id where tickets are asked for.
pub(super) async fn id_for_tickets(target: &Target, attempts: u32) -> u32 {
    let victim = Victim::arrive(target).await;
    let mut successes = 0;
    for mode in ["ticket", "proof", "bearer"].into_iter().cycle().take(attempts as usize) {
        successes += u32::from(is_allowed(http::get(&url(target, mode)).header("connectionId", &victim.socket.id)).await);
    }
    successes
}

/// A ticket where tickets are asked for: good until it expires, or until its socket closes.
pub(super) async fn ticket_for_tickets(target: &Target, attempts: u32) -> u32 {
    let victim = Victim::arrive(target).await;
    let call = || http::get(&url(target, "ticket")).header("Countersign-Ticket", &victim.ticket);
    let mut successes = 0;
    for _ in 0..attempts {
        successes += u32::from(is_allowed(call()).await);
    }
    let late = call();
    victim.socket.close().await;
    assert!(!is_allowed(late).await, "the ticket of a closed connection was taken by its own node");
    successes
}

/// A ticket where proofs are asked for: alone, and with a proof by a key of the thief's.
pub(super) async fn ticket_for_proofs(target: &Target, attempts: u32) -> u32 {
    let (victim, key, url) = (Victim::arrive(target).await, PageKey::new(), url(target, "proof"));
    let mut successes = 0;
    for attempt in 0..attempts {
        let call = http::get(&url).header("Countersign-Ticket", &victim.ticket);
        let own = victim.proof(&key, ("GET", signed(&url)), u64::from(attempt) + 1);
        let call = if attempt % 2 == 0 { call } else { call.header("Countersign-Proof", &own) };
        successes += u32::from(is_allowed(call).await);
    }
    successes
}

/// Proofs that the victim has used: again, and for other calls.
pub(super) async fn proof_again(target: &Target, attempts: u32) -> u32 {
    let (victim, url) = (Victim::arrive(target).await, url(target, "proof"));
    let mut successes = 0;
    for attempt in 0..attempts {
        let proof = victim.proof(&victim.socket.key, ("GET", signed(&url)), u64::from(attempt) + 1);
        let call = |url: &str| http::get(url).header("Countersign-Ticket", &victim.ticket).header("Countersign-Proof", &proof);
        // Before it was used it could be for another call; the counter would still be fresh.
        successes += u32::from(is_allowed(call(&format!("{url}?as=admin"))).await);
        assert!(is_allowed(call(&url)).await, "the victim's own call");
        successes += u32::from(is_allowed(call(&url)).await);
    }
    successes
}

/// The resources that the thieves want.
pub(super) fn settings() -> String {
    let resource = |mode: &str| {
        let body: Value = json!({ "mode": mode });
        format!(
            "[[protected]]\npath = \"/{mode}\"\nrequire = \"verified\"\nmode = \"{mode}\"\nbody = {{ mode = {} }}\n",
            body["mode"]
        )
    };
    ["bearer", "ticket", "proof"].map(resource).concat()
}
