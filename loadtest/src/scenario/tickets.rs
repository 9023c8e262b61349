//! What it costs one core to check a ticket and a proof, without HTTP, beside the cryptography in them.

use std::hint::black_box;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
};
use clap::Args;
use countersign::config::Mode;
use countersign::page_key::PageKey;
use countersign::ticket::{Call, Claims, KeyRing, Nonce, Proof, ReplayWindow, TicketKey};
use countersign_node_proto::{ConnectionId, Generation, NodeId};

use super::challenge::each;
use crate::Outcome;
use crate::report::{Bar, Finding, Report};
use crate::stats::{median, rate_text, ratio};

/// Thousands of tickets, and of proofs, that a core should check in a second.
const TICKETS_MIN: f64 = 500.0;
const PROOFS_MIN: f64 = 15.0;
/// A moment within a ticket's life: the checks are given the time.
const NOW_MS: u64 = 1_700_000_005_000;
const CALL: Call<'static> = Call { method: "GET", target: "api.example:8443/greeting?x=1" };

/// Options of `tickets`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Tickets {
    /// Tickets of one measurement
    #[arg(long, default_value_t = 200_000)]
    pub tickets: usize,
    /// Proofs of one measurement
    #[arg(long, default_value_t = 4_000)]
    pub proofs: usize,
    /// Passes over everything that is measured; medians count
    #[arg(long, default_value_t = 7)]
    pub passes: usize,
}

/// Seconds of a core, pass by pass.
#[derive(Debug, Default)]
struct Measured {
    tag: Vec<f64>,
    ticket: Vec<f64>,
    forged: Vec<f64>,
    verification: Vec<f64>,
    proof: Vec<f64>,
}

struct Stage {
    keys: KeyRing,
    pair: EcdsaKeyPair,
    page: PageKey,
    connection: ConnectionId,
    ticket: String,
}

/// Runs the scenario.
///
/// # Errors
/// If something was not judged as it should be, or there is no randomness.
pub(crate) fn run(options: &Tickets) -> Outcome<Report> {
    let stage = Stage::new()?;
    let mut measured = Measured::default();
    for _ in 0..options.passes {
        measured.tag.push(stage.bare_tag(options.tickets));
        measured.ticket.push(stage.tickets(options.tickets, true)?);
        measured.forged.push(stage.tickets(options.tickets, false)?);
        measured.verification.push(stage.bare_verification(options.proofs)?);
        measured.proof.push(stage.proofs(options.proofs)?);
    }
    Ok(report(options, &measured, stage.ticket.len()))
}

impl Stage {
    fn new() -> Outcome<Self> {
        let keys = KeyRing::single(TicketKey::random()?);
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| "no key")?;
        let page = PageKey::parse(pair.public_key().as_ref().try_into()?).ok_or("a key off its curve")?;
        let connection = ConnectionId::from_bytes([9; 16]);
        let claims = Claims {
            connection,
            owner: NodeId::from_bytes([1; 8]),
            generation: Generation(1),
            epoch: 0,
            origin: Some("https://app.example".to_owned()),
            thumbprint: *page.thumbprint(),
            mode: Mode::Proof,
            subject: Some("d3b07384-d9a0-4c9b-8f6e-1f0d5c6a7b88".to_owned()),
            issuer: Some("https://issuer.example".to_owned()),
            issued_at_ms: NOW_MS - 5_000,
            expires_at_ms: NOW_MS + 10_000,
        };
        let ticket = keys.minting().and_then(|key| claims.mint(key)).ok_or("a ticket too long")?;
        Ok(Self { keys, pair, page, connection, ticket })
    }

    /// HMAC-SHA256 of as many bytes as a ticket has, under a key that is prepared.
    fn bare_tag(&self, times: usize) -> f64 {
        let (key, body) = (hmac::Key::new(hmac::HMAC_SHA256, &[3; 32]), vec![5; self.ticket.len() * 3 / 4 - 32]);
        let work = || {
            for _ in 0..times {
                black_box(hmac::sign(&key, black_box(&body)));
            }
        };
        each(times, work).0
    }

    fn tickets(&self, times: usize, good: bool) -> Outcome<f64> {
        let mut text = self.ticket.clone().into_bytes();
        if !good {
            // Within the tag, and still base64url.
            let place = text.len() - 5;
            text[place] = if text[place] == b'A' { b'B' } else { b'A' };
        }
        let check = || Claims::check(black_box(&text), &self.keys, NOW_MS).is_ok() == good;
        let (seconds, right) = each(times, || (0..times).filter(|_| check()).count());
        if right == times { Ok(seconds) } else { Err("a ticket was judged otherwise".into()) }
    }

    /// One verification of an ECDSA signature under a key that is parsed already.
    fn bare_verification(&self, times: usize) -> Outcome<f64> {
        let (message, key) = ([5; 200], ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.page.point())?);
        let signature = self.sign(&message)?;
        let verify = || key.verify_sig(black_box(&message), &signature).is_ok();
        let (seconds, right) = each(times, || (0..times).filter(|_| verify()).count());
        if right == times { Ok(seconds) } else { Err("a good signature was refused".into()) }
    }

    /// Calls with ticket and proof, each with a counter of its own; headers are made between the measurements.
    fn proofs(&self, times: usize) -> Outcome<f64> {
        let headers = (1..=times as u64).map(|counter| self.proof(counter)).collect::<Outcome<Vec<_>>>()?;
        let mut window = ReplayWindow::default();
        let (seconds, right) = each(times, || headers.iter().filter(|header| self.judge(header, &mut window)).count());
        if right == times { Ok(seconds) } else { Err("a good proof was refused".into()) }
    }

    /// Everything that the owner of a connection does for such a call, but finding the connection.
    fn judge(&self, header: &str, window: &mut ReplayWindow) -> bool {
        let ticket = self.ticket.as_bytes();
        let (Ok(claims), Ok(proof)) = (Claims::check(ticket, &self.keys, NOW_MS), Proof::parse(header.as_bytes())) else {
            return false;
        };
        let key = Claims::kid_of(ticket).and_then(|kid| self.keys.find(kid));
        key.is_some_and(|key| Nonce::is_good(&proof.nonce, key, claims.connection, claims.epoch, NOW_MS))
            && proof.is_signed(CALL, ticket, &self.page)
            && window.take(proof.counter).is_ok()
    }

    fn proof(&self, counter: u64) -> Outcome<String> {
        let key = self.keys.minting().ok_or("no key")?;
        let nonce = *Nonce::at(key, self.connection, 0, NOW_MS).as_bytes();
        let mut proof = Proof { counter, nonce, body_digest: None, signature: [0; PageKey::SIGNATURE_BYTES] };
        proof.signature = self.sign(&proof.message(CALL, self.ticket.as_bytes()))?.try_into().map_err(|_| "no signature")?;
        Ok(proof.encode())
    }

    fn sign(&self, message: &[u8]) -> Outcome<Vec<u8>> {
        Ok(self.pair.sign(&SystemRandom::new(), message).map_err(|_| "no signature")?.as_ref().to_vec())
    }
}

fn report(options: &Tickets, measured: &Measured, length: usize) -> Report {
    let setup = format!(
        "One thread, in process: no HTTP. {} passes of {} tickets of {length} characters and {} proofs, medians of the thread's own \
         processor time. A proof is judged with its ticket: nonce, signature and replay window of the owner.",
        options.passes, options.tickets, options.proofs
    );
    let mut report = Report::new("tickets", setup, &["what", "microseconds", "a second", "of the bare"]);
    let [tag, ticket, forged, verification, proof] =
        [&measured.tag, &measured.ticket, &measured.forged, &measured.verification, &measured.proof]
            .map(|passes| median(passes));
    let rows = [
        ("bare: HMAC-SHA256 of a ticket's bytes", tag, tag),
        ("check a ticket", ticket, tag),
        ("check a forged ticket", forged, tag),
        ("bare: P-256 verification, key parsed before", verification, verification),
        ("check a ticket and a proof", proof, verification),
    ];
    for (name, seconds, bare) in rows {
        let texts = [format!("{:.2}", seconds * 1e6), rate_text(ratio(1.0, seconds)), format!("{:.2}", ratio(seconds, bare))];
        report.row([name.to_owned()].into_iter().chain(texts));
    }
    report.findings.push(Finding::new("tickets, thousands a second", ratio(0.001, ticket), Bar::AtLeast(TICKETS_MIN)));
    report.findings.push(Finding::new("proofs, thousands a second", ratio(0.001, proof), Bar::AtLeast(PROOFS_MIN)));
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_and_proofs_are_judged_as_they_should_be() {
        let report = run(&Tickets { tickets: 3, proofs: 3, passes: 1 }).unwrap();
        assert_eq!((report.rows.len(), report.findings.len()), (5, 2));
    }
}
