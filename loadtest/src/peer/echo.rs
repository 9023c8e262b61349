//! The bare actix-web-actors server: an echo, and one list of addresses with a `do_send` to each for what is published.

use std::sync::{Arc, Mutex, PoisonError};

use actix::{Actor, Addr, AsyncContext as _, Handler, Message, StreamHandler};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use actix_web_actors::ws;
use bytestring::ByteString;

use super::{Addresses, wait_for_end_of_input};
use crate::{Outcome, output};

/// Everyone who is connected.
type Subscribers = Arc<Mutex<Vec<Addr<Session>>>>;

/// A message for a client; cloning shares its text.
#[derive(Clone, Message)]
#[rtype(result = "()")]
struct Deliver(ByteString);

/// One socket.
struct Session {
    subscribers: Subscribers,
}

impl Actor for Session {
    type Context = ws::WebsocketContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).push(ctx.address());
    }
}

impl Handler<Deliver> for Session {
    type Result = ();

    fn handle(&mut self, message: Deliver, ctx: &mut Self::Context) {
        ctx.text(message.0);
    }
}

impl StreamHandler<Result<ws::Message, ws::ProtocolError>> for Session {
    fn handle(&mut self, message: Result<ws::Message, ws::ProtocolError>, ctx: &mut Self::Context) {
        match message {
            Ok(ws::Message::Text(text)) => ctx.text(text),
            Ok(ws::Message::Binary(bytes)) => ctx.binary(bytes),
            Ok(ws::Message::Ping(bytes)) => ctx.pong(&bytes),
            _ => {}
        }
    }
}

/// Serves sockets on `/ws` and publishes the body of each `POST /publish`.
///
/// # Errors
/// If it cannot listen.
pub(crate) fn run(workers: usize) -> Outcome<()> {
    actix_web::rt::System::new().block_on(serve(workers))
}

async fn serve(workers: usize) -> Outcome<()> {
    let subscribers = web::Data::new(Subscribers::default());
    let app = move || {
        App::new().app_data(subscribers.clone()).route("/ws", web::get().to(open)).route("/publish", web::post().to(publish))
    };
    let server =
        HttpServer::new(app).workers(workers).backlog(4_096).tcp_nodelay(true).disable_signals().bind("127.0.0.1:0")?;
    let address = *server.addrs().first().ok_or("not bound")?;
    output::line(&Addresses { public: address, inner: address })?;
    std::thread::spawn(|| {
        wait_for_end_of_input();
        std::process::exit(0);
    });
    Ok(server.run().await?)
}

async fn open(
    request: HttpRequest,
    body: web::Payload,
    subscribers: web::Data<Subscribers>,
) -> actix_web::Result<HttpResponse> {
    ws::start(Session { subscribers: subscribers.get_ref().clone() }, &request, body)
}

async fn publish(body: String, subscribers: web::Data<Subscribers>) -> HttpResponse {
    let message = Deliver(body.into());
    for subscriber in subscribers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        subscriber.do_send(message.clone());
    }
    HttpResponse::Ok().finish()
}
