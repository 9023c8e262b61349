use std::time::SystemTime;

use countersign_node_proto::{ConnectionId, Generation, Payload};

use super::super::keys::{KeyRing, Kid, TicketKey};
use super::super::proof::tests::Page;
use super::*;
use crate::close::CloseReason;
use crate::identity::Principal;
use crate::registry::{Bound, Mailbox, PostError};

struct NoMailbox;

impl Mailbox for NoMailbox {
    fn post(&self, _: Payload) -> Result<(), PostError> {
        Err(PostError::Gone)
    }
    fn close(&self, _: CloseReason) {}
    fn cut(&self) {}
}

/// A clock that stands still: milliseconds since the Unix epoch.
const NOW: u64 = 1_700_000_000_000;
const CALL: Call<'_> = Call { method: "GET", target: "api.example/greeting" };

fn office(settings: &Settings, now_ms: u64) -> Arc<TicketOffice> {
    let keys = TicketKeys::fixed(KeyRing::single(TicketKey::from_parts(Kid::from_bytes([1; 8]), &[2; 32])));
    let clock = Clock::new(move || SystemTime::UNIX_EPOCH + Duration::from_millis(now_ms));
    TicketOffice::new(settings, NodeId::from_bytes([3; 8]), keys, clock, Arc::new(Metrics::new()))
}

fn connection(page: &Page, mode: Mode, expires_at: Option<u64>) -> LiveConnection {
    let principal = expires_at.map(|expires_at| {
        Arc::new(Principal {
            subject: "ada".to_owned(),
            username: "ada".to_owned(),
            issuer: "pool".to_owned(),
            issued_at: 0,
            expires_at,
            claims: serde_json::Map::new(),
        })
    });
    let id = ConnectionId::from_bytes([4; 16]);
    let connection = LiveConnection::new(id, Generation(5), None, None, principal, NOW, Box::new(NoMailbox));
    connection.bind(Bound { key: page.key.clone(), mode });
    connection.advance(ConnectionState::Verified);
    connection
}

fn nonce_of(issued: &Issued) -> [u8; 32] {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&issued.nonce).unwrap().try_into().unwrap()
}

#[test]
fn only_a_verified_page_with_a_key_gets_tickets_and_only_where_ids_do_not_do() {
    let page = Page::new();
    for (floor, own, serves) in [
        (Mode::Bearer, Mode::Bearer, false),
        (Mode::Bearer, Mode::Ticket, true),
        (Mode::Ticket, Mode::Bearer, true),
        (Mode::Proof, Mode::Bearer, true),
        (Mode::Bearer, Mode::Proof, true),
    ] {
        let mut settings = Settings::default();
        settings.authorizer.mode = floor;
        assert_eq!(office(&settings, NOW).serves(&connection(&page, own, None)), serves, "{floor:?} {own:?}");
    }
    let office = office(&Settings::default(), NOW);
    let unbound =
        LiveConnection::new(ConnectionId::from_bytes([4; 16]), Generation(5), None, None, None, NOW, Box::new(NoMailbox));
    unbound.advance(ConnectionState::Verified);
    assert!(!office.serves(&unbound) && office.issue(&unbound).is_none());
    let connection = connection(&page, Mode::Ticket, None);
    assert!(office.issue(&connection).is_some());
    connection.advance(ConnectionState::Closed);
    assert!(office.issue(&connection).is_none());
}

#[test]
fn a_ticket_never_outlives_the_token_and_a_refreshed_one_gives_it_its_new_end() {
    let (page, settings) = (Page::new(), Settings::default());
    let office = office(&settings, NOW);
    let issued = office.issue(&connection(&page, Mode::Ticket, Some(NOW / 1_000 + 4))).unwrap();
    assert_eq!((issued.expires_in_ms, issued.renew_in), (4_000, Duration::from_secs(2)));
    let connection = connection(&page, Mode::Ticket, Some(NOW / 1_000));
    assert!(office.issue(&connection).is_none(), "expired");
    let refreshed = Principal { expires_at: NOW / 1_000 + 600, ..(*connection.principal().unwrap()).clone() };
    connection.set_principal(Arc::new(refreshed));
    let issued = office.issue(&connection).unwrap();
    assert_eq!((issued.expires_in_ms, issued.renew_in), (15_000, Duration::from_millis(7_500)));
    let claims = office.check(issued.ticket.as_bytes()).unwrap();
    assert_eq!((claims.subject.as_deref(), claims.expires_at_ms), (Some("ada"), NOW + 15_000));

    let mut lives_on = Settings::default();
    lives_on.gateway.token.expiry_ends_connection = false;
    let office = self::office(&lives_on, NOW);
    assert!(office.issue(&self::connection(&page, Mode::Ticket, Some(1))).is_some(), "its token does not end it");
}

#[test]
fn long_tickets_are_renewed_while_their_nonce_is_good() {
    let mut settings = Settings::default();
    settings.authorizer.ticket.ttl_ms.0 = 60_000;
    let issued = office(&settings, NOW).issue(&connection(&Page::new(), Mode::Proof, None)).unwrap();
    assert_eq!(issued.expires_in_ms, 60_000);
    assert!(issued.renew_in < Duration::from_millis(NONCE_WINDOW_MS));
}

/// What of RFC 9449, section 4.3 applies to a proof of ours: each row breaks one thing.
#[test]
fn a_proof_that_is_wrong_in_one_thing_is_refused() {
    let (page, settings) = (Page::new(), Settings::default());
    let office = office(&settings, NOW);
    let connection = connection(&page, Mode::Proof, None);
    let issued = office.issue(&connection).unwrap();
    let (ticket, nonce) = (issued.ticket.as_bytes(), nonce_of(&issued));
    let claims = office.check(ticket).unwrap();
    let judge = |proof: &Proof, call| office.judge_proof(&connection, (ticket, &claims), proof, call);
    let sign = |counter, nonce| page.sign(CALL, ticket, counter, nonce, None);

    assert_eq!(judge(&Page::new().sign(CALL, ticket, 1, nonce, None), CALL), Err(ProofError::Invalid), "another key");
    assert_eq!(judge(&sign(1, nonce), Call { method: "POST", ..CALL }), Err(ProofError::Invalid), "htm");
    assert_eq!(judge(&sign(1, nonce), Call { target: "api.example/other", ..CALL }), Err(ProofError::Invalid), "htu");
    assert_eq!(judge(&sign(1, [0; 32]), CALL), Err(ProofError::Invalid), "nonce");
    let other_ticket = page.sign(CALL, b"another", 1, nonce, None);
    assert_eq!(judge(&other_ticket, CALL), Err(ProofError::Invalid), "ath");
    let stale = Nonce::at(office.keys.ring().minting().unwrap(), connection.id, 0, NOW - 2 * NONCE_WINDOW_MS);
    assert_eq!(judge(&sign(1, *stale.as_bytes()), CALL), Err(ProofError::Invalid), "iat");
    let stranger = Nonce::at(office.keys.ring().minting().unwrap(), ConnectionId::from_bytes([9; 16]), 0, NOW);
    assert_eq!(judge(&sign(1, *stranger.as_bytes()), CALL), Err(ProofError::Invalid), "another connection's nonce");
    // None of them has moved the window.
    assert_eq!(judge(&sign(1, nonce), CALL), Ok(()));
    assert_eq!(judge(&sign(1, nonce), CALL), Err(ProofError::Replayed), "jti");
    assert_eq!(office.metrics.proof_replays.get(), 1);
    assert_eq!(judge(&sign(5_000, nonce), CALL), Ok(()), "a jump");
    assert_eq!(judge(&sign(2, nonce), CALL), Err(ProofError::Replayed), "older than is remembered");
    assert_eq!(judge(&sign(4_999, nonce), CALL), Ok(()), "out of order");
}

#[test]
fn a_ticket_is_of_one_life_of_one_connection_and_its_page() {
    let (page, settings) = (Page::new(), Settings::default());
    let office = office(&settings, NOW);
    let own = connection(&page, Mode::Ticket, None);
    let claims = office.check(office.issue(&own).unwrap().ticket.as_bytes()).unwrap();
    assert!(office.is_of(&claims, &own));
    assert!(!office.is_of(&claims, &connection(&Page::new(), Mode::Ticket, None)), "another page's key");
    assert!(!office.is_of(&Claims { generation: Generation(6), ..claims.clone() }, &own));
    assert!(!office.is_of(&Claims { owner: NodeId::from_bytes([9; 8]), ..claims }, &own));
}
