use actix_web::http::header::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_node_proto::{Generation, Invalidate, NodeId};

use super::super::demand::Demand;
use super::super::judge::tests::{Bench, bench, fresh_bench, office, principal};
use super::*;
use crate::config::Require;
use crate::identity::Clock;
use crate::registry::{Bound, ConnectionState, LiveConnections, RegistryUnavailable};
use crate::telemetry::{DecisionOutcome, ModeLabel};
use crate::ticket::tests::Page;
use crate::ticket::{Issued, TicketOffice};

/// The call that the bench decides on.
const CALL: Call<'_> = Call { method: "GET", target: "api.example/greeting" };

/// What a page holds once it is verified.
pub(in crate::authorizer) struct Held {
    page: Page,
    ticket: String,
    nonce: [u8; 32],
    pub(in crate::authorizer) claims: Claims,
}

impl Held {
    fn of(page: Page, issued: Issued, office: &TicketOffice) -> Self {
        let nonce = URL_SAFE_NO_PAD.decode(&issued.nonce).unwrap().try_into().unwrap();
        let claims = office.check(issued.ticket.as_bytes()).unwrap();
        Self { page, ticket: issued.ticket, nonce, claims }
    }

    fn proof(&self, counter: u64) -> Proof {
        self.page.sign(CALL, self.ticket.as_bytes(), counter, self.nonce, None)
    }

    pub(in crate::authorizer) fn headers(&self, proof: Option<&Proof>) -> HeaderMap {
        let proof = proof.map(Proof::encode);
        let proof = proof.as_deref().map(|proof| ("countersign-proof", proof));
        headers(&[Some(("countersign-ticket", self.ticket.as_str())), proof].into_iter().flatten().collect::<Vec<_>>())
    }
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// A verified page of the bench's own node.
fn own(bench: &Bench, number: u8, mode: Mode) -> Held {
    let (page, connection) = (Page::new(), bench.open(number, ConnectionState::Verified, Some(principal("ada", u64::MAX))));
    connection.bind(Bound { key: page.key.clone(), mode });
    let issued = bench.tickets.issue(&connection).unwrap();
    Held::of(page, issued, &bench.tickets)
}

/// A verified page of another node, of which the bench's node knows nothing.
pub(in crate::authorizer) fn foreign(number: u8, mode: Mode) -> Held {
    let there = Bench { live: std::sync::Arc::new(LiveConnections::new()), ..bench() };
    let (page, connection) = (Page::new(), there.open(number, ConnectionState::Verified, Some(principal("ada", u64::MAX))));
    connection.bind(Bound { key: page.key.clone(), mode });
    let office = office(NodeId::from_bytes([2; 8]), Clock::system());
    Held::of(page, office.issue(&connection).unwrap(), &office)
}

async fn decide(bench: &Bench, headers: &HeaderMap, mode: Mode) -> Decision {
    bench.ask(headers, Demand { require: Require::Verified, mode }).await
}

async fn refused(bench: &Bench, headers: &HeaderMap, mode: Mode) -> Refused {
    decide(bench, headers, mode).await.verdict.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn id_alone_is_not_enough() {
    let bench = bench();
    let held = own(&bench, 1, Mode::Bearer);
    let id = headers(&[("connectionid", &held.claims.connection.encode())]);
    assert!(decide(&bench, &id, Mode::Bearer).await.verdict.is_ok());
    assert_eq!(refused(&bench, &id, Mode::Ticket).await, Refused::TicketMissing);
    assert_eq!(refused(&bench, &id, Mode::Proof).await, Refused::TicketMissing);
    // A connection may have asked for more than its path does, and so may one of another node.
    for own_mode in [Mode::Ticket, Mode::Proof] {
        let strict = own(&bench, 2, own_mode);
        let id = headers(&[("connectionid", &strict.claims.connection.encode())]);
        assert_eq!(refused(&bench, &id, Mode::Bearer).await, Refused::ModeTooLow);
        let mut entry = bench.remote(3, 2);
        entry.mode = own_mode;
        *bench.registry.answer.lock().unwrap() = Ok(Some(entry.clone()));
        let id = headers(&[("connectionid", &entry.id.encode())]);
        for _ in 0..2 {
            assert_eq!(refused(&bench, &id, Mode::Bearer).await, Refused::ModeTooLow, "from the registry, then the cache");
        }
        bench.authorizer.invalidate_all();
    }
    let all = bench.metrics.mode_decisions.of(ModeLabel::Ticket, DecisionOutcome::Deny).get();
    assert_eq!((all, bench.metrics.mode_decisions.of(ModeLabel::Proof, DecisionOutcome::Deny).get()), (1, 1));
}

/// Floor of the path, the connection's own mode, what is shown, and what comes of it.
#[tokio::test(start_paused = true)]
async fn the_stronger_of_path_and_connection_decides_what_must_be_shown() {
    use Mode::{Bearer, Proof as Proved, Ticket};
    let bench = bench();
    for (floor, own_mode, effective) in [
        (Bearer, Bearer, Bearer),
        (Bearer, Ticket, Ticket),
        (Bearer, Proved, Proved),
        (Ticket, Bearer, Ticket),
        (Ticket, Ticket, Ticket),
        (Ticket, Proved, Proved),
        (Proved, Bearer, Proved),
        (Proved, Ticket, Proved),
        (Proved, Proved, Proved),
    ] {
        let held = own(&bench, 1, own_mode);
        let what = format!("floor {floor:?}, connection {own_mode:?}");
        let id = headers(&[("connectionid", &held.claims.connection.encode())]);
        let ticket = decide(&bench, &held.headers(None), floor).await;
        assert_eq!(decide(&bench, &id, floor).await.verdict.is_ok(), effective == Bearer, "{what}: id");
        assert_eq!(ticket.verdict.is_ok(), effective < Proved, "{what}: ticket");
        assert_eq!(ticket.mode, Some(effective), "{what}");
        assert!(decide(&bench, &held.headers(Some(&held.proof(1))), floor).await.verdict.is_ok(), "{what}: proof");
        assert_eq!(
            (ticket.source, bench.calls()),
            (if effective == Proved { DecisionSource::Request } else { DecisionSource::Owner }, 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn identity_is_what_the_ticket_says() {
    let bench = bench();
    for held in [own(&bench, 1, Mode::Bearer), foreign(1, Mode::Bearer)] {
        let identity = decide(&bench, &held.headers(None), Mode::Ticket).await.verdict.unwrap();
        assert_eq!(identity.headers.subject, "ada");
        assert_eq!(identity.headers.issuer, "pool");
        assert_eq!(identity.headers.origin, "https://app.example");
        assert_eq!(identity.connection, held.claims.connection.encode());
        assert!(matches!(identity.shown, Shown::Ticket { left_seconds: 13..=15 }), "{:?}", identity.shown);
    }
    let held = own(&bench, 2, Mode::Bearer);
    let with_token = headers(&[("countersign-ticket", &held.ticket), ("authorization", "Bearer token:eve")]);
    let both = Demand { require: Require::Both, mode: Mode::Ticket };
    assert_eq!(bench.ask(&with_token, both).await.verdict, Err(Refused::PrincipalMismatch));
    let with_token = headers(&[("countersign-ticket", &held.ticket), ("authorization", "Bearer token:ada")]);
    assert!(bench.ask(&with_token, both).await.verdict.is_ok());
    let token = headers(&[("authorization", "Bearer token:ada")]);
    assert_eq!(bench.ask(&token, both).await.verdict, Err(Refused::TicketMissing));
    let token_only = Demand { require: Require::Token, mode: Mode::Proof };
    assert!(bench.ask(&token, token_only).await.verdict.is_ok(), "no connection is asked for, so no proof of one");
}

#[tokio::test(start_paused = true)]
async fn another_nodes_ticket_is_taken_without_a_question() {
    let bench = bench();
    *bench.registry.answer.lock().unwrap() = Err(RegistryUnavailable("away".to_owned()));
    let decision = decide(&bench, &foreign(1, Mode::Bearer).headers(None), Mode::Ticket).await;
    assert!(decision.verdict.is_ok());
    assert_eq!((decision.source, bench.calls()), (DecisionSource::Ticket, 0));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_just_started_asks_about_tickets_from_before() {
    let bench = fresh_bench();
    let held = foreign(1, Mode::Bearer);
    let decision = decide(&bench, &held.headers(None), Mode::Ticket).await;
    assert_eq!((decision.verdict, decision.source), (Err(Refused::ConnectionUnknown), DecisionSource::Registry));
    let entry = bench.remote(2, 2);
    let standing = foreign(2, Mode::Bearer);
    assert_eq!(entry.id, standing.claims.connection);
    assert!(decide(&bench, &standing.headers(None), Mode::Ticket).await.verdict.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_ticket_of_a_node_that_is_not_heard_is_taken_only_while_its_lease_lives() {
    let bench = bench();
    let held = foreign(1, Mode::Bearer);
    bench.remote(1, 2);
    bench.bus.peers_silent.store(true, std::sync::atomic::Ordering::Relaxed);
    let decision = decide(&bench, &held.headers(None), Mode::Ticket).await;
    assert!(decision.verdict.is_ok());
    assert_eq!(decision.source, DecisionSource::Registry);
    *bench.registry.answer.lock().unwrap() = Ok(None);
    bench.authorizer.cache().forget_all();
    assert_eq!(refused(&bench, &held.headers(None), Mode::Ticket).await, Refused::ConnectionUnknown, "its lease is over");
    *bench.registry.answer.lock().unwrap() = Err(RegistryUnavailable("away".to_owned()));
    bench.authorizer.cache().forget_all();
    assert_eq!(refused(&bench, &held.headers(None), Mode::Ticket).await, Refused::RegistryUnavailable);
    // Nor is it asked about proofs: clients name it.
    let proof = refused(&bench, &held.headers(Some(&held.proof(1))), Mode::Proof).await;
    assert_eq!(proof, Refused::ProofUndecided);
    assert_eq!(bench.metrics.asks.of(crate::telemetry::AskOutcome::Unheard).get(), 2, "the denied ticket and the proof");
    assert!(bench.bus.sent.lock().unwrap().is_empty());
}

/// On the owner the bound is the close itself; elsewhere the invalidation, which sends the ticket to the registry.
#[tokio::test(start_paused = true)]
async fn revocation_bound() {
    let bench = bench();
    let held = own(&bench, 1, Mode::Bearer);
    assert!(decide(&bench, &held.headers(None), Mode::Ticket).await.verdict.is_ok());
    bench.live.get(held.claims.connection).unwrap().advance(ConnectionState::Closed);
    assert_eq!(refused(&bench, &held.headers(None), Mode::Ticket).await, Refused::ConnectionUnknown, "closed here");

    let held = foreign(2, Mode::Bearer);
    assert!(decide(&bench, &held.headers(None), Mode::Ticket).await.verdict.is_ok());
    bench.authorizer.invalidate(&Invalidate::Connection(held.claims.connection));
    let decision = decide(&bench, &held.headers(None), Mode::Ticket).await;
    assert_eq!((decision.verdict, decision.source), (Err(Refused::ConnectionUnknown), DecisionSource::Registry));
    let again = decide(&bench, &held.headers(None), Mode::Ticket).await;
    assert_eq!((again.verdict, again.source), (Err(Refused::ConnectionUnknown), DecisionSource::Cache));

    // A revoked principal's, and after a gap everybody's, likewise; when nobody can be asked nobody knows.
    let entry = bench.remote(3, 2);
    for doubt in [
        |bench: &Bench| bench.authorizer.invalidate(&Invalidate::Principal("ada".into())),
        |bench: &Bench| {
            bench.authorizer.invalidate_all();
        },
    ] {
        *bench.registry.answer.lock().unwrap() = Ok(Some(entry.clone()));
        let held = foreign(3, Mode::Bearer);
        doubt(&bench);
        assert_eq!(decide(&bench, &held.headers(None), Mode::Ticket).await.source, DecisionSource::Registry);
        *bench.registry.answer.lock().unwrap() = Err(RegistryUnavailable("away".to_owned()));
        doubt(&bench);
        assert_eq!(refused(&bench, &held.headers(None), Mode::Ticket).await, Refused::RegistryUnavailable);
    }
}

#[tokio::test(start_paused = true)]
async fn a_ticket_that_expired_or_is_none_is_refused() {
    let bench = bench();
    let held = own(&bench, 1, Mode::Bearer);
    let at = |now_ms: u64| {
        let clock = Clock::new(move || std::time::UNIX_EPOCH + std::time::Duration::from_millis(now_ms));
        let parts = office(NodeId::from_bytes([1; 8]), clock);
        parts.check(held.ticket.as_bytes()).map(drop)
    };
    assert_eq!(at(held.claims.expires_at_ms + 1_999), Ok(()));
    assert_eq!(at(held.claims.expires_at_ms + 2_000), Err(TicketError::Expired));
    let twice = headers(&[("countersign-ticket", &held.ticket), ("countersign-ticket", &held.ticket)]);
    assert_eq!(refused(&bench, &twice, Mode::Ticket).await, Refused::TicketInvalid);
    for wrong in ["", "undefined", &held.ticket[1..], &held.claims.connection.encode()] {
        assert_eq!(
            refused(&bench, &headers(&[("countersign-ticket", wrong)]), Mode::Bearer).await,
            Refused::TicketInvalid,
            "{wrong}"
        );
    }
    // The id does not help a ticket that does not count.
    let both = headers(&[("countersign-ticket", "x"), ("connectionid", &held.claims.connection.encode())]);
    assert_eq!(refused(&bench, &both, Mode::Bearer).await, Refused::TicketInvalid);
    // Of another life of the connection.
    bench.live.remove(held.claims.connection, Generation(1));
    own(&bench, 1, Mode::Bearer);
    assert_eq!(refused(&bench, &held.headers(None), Mode::Ticket).await, Refused::ConnectionUnknown, "another page's key");
}

#[tokio::test(start_paused = true)]
async fn a_proof_counts_once_and_for_its_call() {
    let bench = bench();
    let held = own(&bench, 1, Mode::Bearer);
    assert_eq!(refused(&bench, &held.headers(None), Mode::Proof).await, Refused::ProofMissing);
    let digest = [7; 32];
    let signed = held.page.sign(CALL, held.ticket.as_bytes(), 1, held.nonce, Some(digest));
    let identity = decide(&bench, &held.headers(Some(&signed)), Mode::Proof).await.verdict.unwrap();
    let Shown::Proof { body_digest: Some(told) } = identity.shown else { panic!("{:?}", identity.shown) };
    assert_eq!(told, URL_SAFE_NO_PAD.encode(digest), "for the service to compare");
    assert_eq!(refused(&bench, &held.headers(Some(&signed)), Mode::Proof).await, Refused::ProofReplayed);
    let other = held.page.sign(Call { method: "POST", ..CALL }, held.ticket.as_bytes(), 2, held.nonce, None);
    assert_eq!(refused(&bench, &held.headers(Some(&other)), Mode::Proof).await, Refused::ProofInvalid);
    let mut twice = held.headers(Some(&held.proof(3)));
    twice.append(PROOF, HeaderValue::try_from(held.proof(4).encode()).unwrap());
    assert_eq!(refused(&bench, &twice, Mode::Proof).await, Refused::ProofInvalid);
    let stolen = Page::new().sign(CALL, held.ticket.as_bytes(), 5, held.nonce, None);
    assert_eq!(refused(&bench, &held.headers(Some(&stolen)), Mode::Proof).await, Refused::ProofInvalid);
    // A call that nobody names cannot be judged.
    let uri = actix_web::http::Uri::from_static("/authorize");
    let unnamed = held.headers(Some(&held.proof(6)));
    let asked = Asked {
        headers: &unnamed,
        method: "GET",
        uri: &uri,
        prefix: "/authorize",
        from: crate::config::CallFrom::XOriginal,
        host: None,
    };
    let demand = Demand { require: Require::Verified, mode: Mode::Proof };
    assert_eq!(bench.authorizer.decide(&asked, demand).await.verdict, Err(Refused::CallMissing));
    assert!(
        decide(&bench, &held.headers(Some(&held.proof(6))), Mode::Proof).await.verdict.is_ok(),
        "none of them was remembered"
    );
}

#[tokio::test(start_paused = true)]
async fn a_proof_whose_owner_is_silent_is_not_known() {
    let bench = bench();
    let held = foreign(1, Mode::Proof);
    let decision = decide(&bench, &held.headers(Some(&held.proof(1))), Mode::Bearer).await;
    assert_eq!((decision.verdict, decision.source), (Err(Refused::ProofUndecided), DecisionSource::Peer));
    assert_eq!(bench.calls(), 0);
}

#[test]
fn every_verdict_of_a_peer_refuses_but_one() {
    for verdict in [
        ProofVerdict::TicketInvalid,
        ProofVerdict::TicketExpired,
        ProofVerdict::ConnectionUnknown,
        ProofVerdict::ConnectionExpired,
        ProofVerdict::ProofInvalid,
        ProofVerdict::ProofReplayed,
    ] {
        assert_eq!(refusal_of(verdict).map(verdict_of), Some(verdict), "told and heard alike");
    }
    assert_eq!(refusal_of(ProofVerdict::Unknown), Some(Refused::ProofUndecided));
    assert_eq!(refusal_of(ProofVerdict::Good), None);
}
