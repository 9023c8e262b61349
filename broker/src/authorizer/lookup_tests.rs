use countersign_node_proto::{Invalidate, OwnedConnection};

use super::super::judge::tests::{Bench, bench, fresh_bench, principal};
use super::super::tickets::tests::foreign;
use super::*;
use crate::authorizer::{Decision, Demand, Refused};
use crate::config::Require;
use crate::registry::{Bound, ConnectionState, Entry};
use crate::ticket::tests::Page;

fn good() -> Option<OwnedConnection> {
    Some(OwnedConnection {
        verified: true,
        mode: "bearer".to_owned(),
        expires_at: None,
        subject: Some("ada".to_owned()),
        issuer: Some("pool".to_owned()),
        origin: None,
    })
}

async fn by_id(bench: &Bench, id: ConnectionId) -> Decision {
    let mut headers = actix_web::http::header::HeaderMap::new();
    let value = actix_web::http::header::HeaderValue::from_str(&id.encode()).unwrap();
    headers.insert(actix_web::http::header::HeaderName::from_static("connectionid"), value);
    bench.ask(&headers, Demand { require: Require::Verified, mode: Mode::Bearer }).await
}

/// A page calls as soon as it holds a ticket; the registry may hear of it later than the node that is asked.
#[tokio::test(start_paused = true)]
async fn a_ticket_that_is_ahead_of_the_registry_counts_by_its_owners_word() {
    let bench = fresh_bench();
    let held = foreign(1, Mode::Bearer);
    let owner = (held.claims.owner, held.claims.connection);
    let headers = held.headers(None);
    let demand = Demand { require: Require::Verified, mode: Mode::Ticket };
    let behind = Entry { verified: false, ..bench.remote(1, 2) };
    for found in [None, Some(behind)] {
        *bench.registry.answer.lock().unwrap() = Ok(found);
        bench.authorizer.cache().forget_all();
        let allowed = bench.with_owners_word(owner, good(), bench.ask(&headers, demand)).await;
        assert!(allowed.verdict.is_ok());
        let calls = bench.calls();
        let again = bench.ask(&headers, demand).await;
        assert!(again.verdict.is_ok());
        assert_eq!(bench.calls(), calls, "remembered");
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_ahead_of_the_registry_counts_by_its_owners_word() {
    let bench = bench();
    let entry = Entry { verified: false, ..bench.remote(1, 2) };
    *bench.registry.answer.lock().unwrap() = Ok(Some(entry.clone()));
    let allowed = bench.with_owners_word((entry.node, entry.id), good(), by_id(&bench, entry.id)).await;
    assert!(allowed.verdict.is_ok());
    // Nobody knows who would own an id that the registry does not have.
    *bench.registry.answer.lock().unwrap() = Ok(None);
    bench.authorizer.cache().forget_all();
    assert_eq!(by_id(&bench, entry.id).await.verdict, Err(Refused::ConnectionUnknown));
    assert!(bench.bus.sent.lock().unwrap().is_empty());
}

/// A server that refuses writes keeps saying that a closed connection is verified, for as long as its lease lives; what was
/// remembered then would outlive that.
#[tokio::test(start_paused = true)]
async fn what_was_heard_against_a_connection_counts_though_the_registry_has_not_heard_it() {
    let bench = bench();
    let entry = bench.remote(1, 2);
    let owner = (entry.node, entry.id);
    assert!(by_id(&bench, entry.id).await.verdict.is_ok(), "nothing was heard, nobody is asked");
    bench.authorizer.invalidate(&Invalidate::Connection(entry.id));
    let denied = bench.with_owners_word(owner, None, by_id(&bench, entry.id)).await;
    assert_eq!(denied.verdict, Err(Refused::ConnectionUnknown));
    // Its ticket, and a principal's end, likewise.
    let held = foreign(1, Mode::Bearer);
    let subject = entry.principal.clone().unwrap();
    bench.authorizer.invalidate(&Invalidate::Principal(subject.as_str().into()));
    bench.authorizer.cache().forget_all();
    bench.authorizer.invalidate(&Invalidate::Connection(entry.id));
    let headers = held.headers(None);
    let asked = bench.ask(&headers, Demand { require: Require::Verified, mode: Mode::Ticket });
    assert_eq!(bench.with_owners_word(owner, None, asked).await.verdict, Err(Refused::ConnectionUnknown));
}

/// Then the registry's word is all there is; it is not relied on for longer than a denial.
#[tokio::test(start_paused = true)]
async fn a_doubtful_allow_is_remembered_as_shortly_as_a_denial() {
    let bench = bench();
    let entry = bench.remote(1, 2);
    bench.authorizer.invalidate(&Invalidate::Connection(entry.id));
    assert!(by_id(&bench, entry.id).await.verdict.is_ok(), "the owner does not answer");
    *bench.registry.answer.lock().unwrap() = Ok(None);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(by_id(&bench, entry.id).await.verdict, Err(Refused::ConnectionUnknown), "its lease is over");
}

/// Whoever calls with a ticket of a closed connection does not make a question of each call.
#[tokio::test(start_paused = true)]
async fn a_denial_is_asked_for_once_however_often_it_is_called() {
    let bench = fresh_bench();
    let held = foreign(1, Mode::Bearer);
    let headers = held.headers(None);
    let demand = Demand { require: Require::Verified, mode: Mode::Ticket };
    let owner = (held.claims.owner, held.claims.connection);
    let all = futures_util::future::join_all((0..100).map(|_| bench.ask(&headers, demand)));
    for denied in bench.with_owners_word(owner, None, all).await {
        assert_eq!(denied.verdict, Err(Refused::ConnectionUnknown));
    }
    assert_eq!(bench.ask(&headers, demand).await.verdict, Err(Refused::ConnectionUnknown));
    assert!(bench.bus.sent.lock().unwrap().is_empty());
    assert_eq!(bench.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_owner_says_how_its_connection_stands() {
    let bench = bench();
    let connection = bench.open(1, ConnectionState::Verified, Some(principal("ada", 77)));
    connection.bind(Bound { key: Page::new().key, mode: Mode::Ticket });
    let told = bench.authorizer.own_connection(connection.id).unwrap();
    assert_eq!((told.verified, told.mode.as_str(), told.expires_at), (true, "ticket", Some(77)));
    assert_eq!((told.subject.as_deref(), told.issuer.as_deref()), (Some("ada"), Some("pool")));
    assert_eq!(told.origin.as_deref(), Some("https://app.example"));
    connection.advance(ConnectionState::Lapsed);
    assert!(!bench.authorizer.own_connection(connection.id).unwrap().verified);
    connection.advance(ConnectionState::Closed);
    assert_eq!(bench.authorizer.own_connection(connection.id), None);
    assert_eq!(bench.authorizer.own_connection(ConnectionId::from_bytes([9; 16])), None);
}

#[test]
fn a_mode_that_is_not_known_is_the_strictest() {
    let told = OwnedConnection { mode: "oath".to_owned(), ..good().unwrap() };
    assert_eq!(known(NodeId::from_bytes([2; 8]), told).mode, Mode::Proof);
}
