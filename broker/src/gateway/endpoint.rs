use std::rc::Rc;
use std::sync::Arc;

use actix_http::ws::Codec;
use actix_web::body::BodyStream;
use actix_web::http::StatusCode;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};
use actix_web_actors::ws::WebsocketContext;

use super::connection::{Birth, Connection};
use super::handshake::{HandshakeRefusal, HandshakeRequest, check_handshake, switch_protocols};
use super::session::{Facts, Session};
use super::shared::{Gateway, Worker};
use super::supervisor::{Admission, AdmissionRefused};
use super::{FrameGuard, Inbound, InboundRates, OutboundBody, Vitals};
use crate::challenge::{Claimant, PendingPermit};
use crate::edge::{DirectWriter, SocketControl};
use crate::hub::Outbox;
use crate::identity::{Principal, TokenRefusal};
use crate::telemetry::HandshakeOutcome;

/// Serves the WebSocket endpoint of a worker at its configured path.
pub fn configure(worker: Rc<Worker>, config: &mut web::ServiceConfig) {
    let path = worker.gateway.settings.path.clone();
    let route = web::to(move |request: HttpRequest, payload: web::Payload| {
        let worker = Rc::clone(&worker);
        async move { handshake(&worker, &request, payload).await }
    });
    config.service(web::resource(path).route(route));
}

/// What a handshake won on its way: each is given back when it is dropped.
struct Won {
    principal: Option<Arc<Principal>>,
    admission: Admission,
    permit: Option<PendingPermit>,
}

/// Answers a handshake: 101 with the socket's body, or a refusal.
async fn handshake(worker: &Rc<Worker>, request: &HttpRequest, payload: web::Payload) -> HttpResponse {
    let gateway = &worker.gateway;
    let outcome = match judge(gateway, request).await {
        Ok((asked, won)) => upgrade(worker, request, payload, asked, won),
        Err(refusal) => Err(refusal),
    };
    let handshakes = &gateway.metrics.handshakes;
    match outcome {
        Ok(response) => {
            handshakes.of(HandshakeOutcome::Accepted).inc();
            response
        }
        Err(refusal) => {
            handshakes.of(refusal.outcome).inc();
            let address = gateway.addresses.of(request).map(tracing::field::display);
            tracing::debug!(error = refusal.error, address, "handshake refused");
            refusal.respond(request, &gateway.cors)
        }
    }
}

/// Everything that is checked before the 101, cheapest first.
async fn judge(gateway: &Arc<Gateway>, request: &HttpRequest) -> Result<(HandshakeRequest, Won), HandshakeRefusal> {
    let asked = check_handshake(request, &gateway.settings, &gateway.origins, &gateway.hosts)?;
    if gateway.supervisor.is_draining() {
        return Err(HandshakeRefusal::UNAVAILABLE);
    }
    let address = gateway.addresses.of(request);
    let claimant = gateway.session.challenges(asked.dialect).then(|| Claimant::new(address, asked.origin.as_deref()));
    if let Some(claimant) = &claimant {
        let now = tokio::time::Instant::now().into_std();
        gateway.permits.judge(claimant, now).map_err(|failed| HandshakeRefusal::failures(failed.retry_after_seconds))?;
    }
    let principal = match &asked.token {
        Some(token) => Some(verify(gateway, token).await?),
        None => None,
    };
    let whose = principal.as_ref().map(|principal| (principal.issuer.as_str(), principal.subject.as_str()));
    let admission = gateway.supervisor.admit(address, whose).map_err(refused)?;
    let permit = claimant.map(|claimant| gateway.permits.try_acquire(claimant)).transpose();
    let permit = permit.map_err(|_full| HandshakeRefusal::CHALLENGES_FULL)?;
    Ok((asked, Won { principal, admission, permit }))
}

/// Verifies the token, if there is room for one more handshake under way.
async fn verify(gateway: &Gateway, token: &str) -> Result<Arc<Principal>, HandshakeRefusal> {
    let _room = gateway.handshakes.try_acquire().map_err(|_| HandshakeRefusal::UNAVAILABLE)?;
    gateway.verifier.verify(token).await.map_err(|refusal| match refusal {
        TokenRefusal::Unavailable => HandshakeRefusal::UNAVAILABLE,
        _ => HandshakeRefusal::TOKEN_INVALID,
    })
}

/// The answer to a handshake that finds no place.
fn refused(refused: AdmissionRefused) -> HandshakeRefusal {
    match refused {
        AdmissionRefused::Full | AdmissionRefused::Draining => HandshakeRefusal::UNAVAILABLE,
        AdmissionRefused::AddressQuota | AdmissionRefused::PrincipalQuota => HandshakeRefusal::QUOTA,
    }
}

/// Answers 101 and makes the body that is the connection.
fn upgrade(
    worker: &Rc<Worker>,
    request: &HttpRequest,
    payload: web::Payload,
    asked: HandshakeRequest,
    won: Won,
) -> Result<HttpResponse, HandshakeRefusal> {
    const INTERNAL: HandshakeRefusal = HandshakeRefusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "internal",
        "the node could not open the connection",
        HandshakeOutcome::Unavailable,
    );
    let gateway = &worker.gateway;
    let limits = &gateway.settings.limits;
    let id = Gateway::draw_id().map_err(|_| INTERNAL)?;
    let control = request.conn_data::<SocketControl>().cloned().ok_or(INTERNAL)?;
    let outbox = Outbox::new(id, asked.dialect, limits.outbound_queue_max_bytes, Arc::clone(&gateway.metrics));
    if let Some(writer) = request.extensions().get::<DirectWriter>() {
        outbox.write_through(writer.clone());
    }
    let first = limits.unverified_message_max_bytes;
    let inbound = Inbound::new(first.min(limits.frame_max_bytes), first.min(limits.message_max_bytes));
    let vitals = Vitals::new(outbox, Rc::clone(&inbound), control);
    let Won { principal, admission, permit } = won;
    let address = gateway.addresses.of(request);
    let facts = Facts { id, dialect: asked.dialect, origin: asked.origin, principal, subscribe: asked.subscribe };
    let session = Session::new(Arc::clone(&gateway.session), facts);
    let host = asked.host;
    let birth = Birth { worker: Rc::clone(worker), session, vitals: Rc::clone(&vitals), permit, admission, address, host };

    let rates = InboundRates::from(limits);
    let guarded = FrameGuard::new(payload, inbound, rates, Arc::clone(&gateway.metrics));
    // The guard bounds each frame before it is buffered; the codec's own bound only has to lie above it.
    let codec = Codec::new().max_size(limits.frame_max_bytes.max(1));
    let stream = WebsocketContext::with_codec(Connection::new(birth), guarded, codec);
    vitals.control().upgraded();
    let mut response = switch_protocols(request, asked.selected_protocol);
    Ok(response.body(BodyStream::new(OutboundBody::new(stream, vitals))))
}
