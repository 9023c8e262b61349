//! What a verified page is pushed for its REST calls, and how it signs them: written from the protocol's description, without
//! a node's code.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::binding::{bytes, laid_out, sha256};
use crate::http::Request;
use crate::socket::Socket;

/// A ticket and the nonce that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Its text.
    pub text: String,
    /// The nonce's.
    pub nonce: String,
    /// How long it is good.
    pub expires_in_ms: u64,
}

/// Header of a ticket.
pub const TICKET: &str = "Countersign-Ticket";
/// Header of a proof.
pub const PROOF: &str = "Countersign-Proof";

impl Socket {
    /// The next ticket that the page is pushed.
    ///
    /// # Panics
    /// If the event is none.
    pub async fn ticket(&mut self) -> Ticket {
        let event = self.event("ticket").await;
        let text = |member: &str| event[member].as_str().unwrap_or_else(|| panic!("no {member}: {event}")).to_owned();
        let expires_in_ms = event["expiresInMs"].as_u64().expect("a time");
        Ticket { text: text("ticket"), nonce: text("nonce"), expires_in_ms }
    }

    /// The page's proof of a call: `target` is host, path and query.
    #[must_use]
    pub fn prove(&self, ticket: &Ticket, method: &str, target: &str, counter: u64) -> String {
        self.prove_body(ticket, method, target, counter, None)
    }

    /// The page's proof of a call with a body.
    #[must_use]
    pub fn prove_body(&self, ticket: &Ticket, method: &str, target: &str, counter: u64, body: Option<&[u8]>) -> String {
        let digest = body.map(sha256).unwrap_or_default();
        let message = laid_out(&[
            b"countersign/proof/v1",
            method.as_bytes(),
            target.as_bytes(),
            &sha256(ticket.text.as_bytes()),
            &counter.to_be_bytes(),
            &bytes(&ticket.nonce),
            &digest,
        ]);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        format!("v1.{counter}.{}.{}.{}", ticket.nonce, encode(&digest), encode(&self.key.sign(&message)))
    }
}

impl Request {
    /// Shows a ticket.
    #[must_use]
    pub fn ticket(self, ticket: &Ticket) -> Self {
        self.header(TICKET, &ticket.text)
    }

    /// Shows a ticket and a proof.
    #[must_use]
    pub fn proof(self, ticket: &Ticket, proof: &str) -> Self {
        self.ticket(ticket).header(PROOF, proof)
    }
}
