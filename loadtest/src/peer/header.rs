//! The limit of decisions: a bare actix handler that reads one header and says 200.

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

use super::{Addresses, wait_for_end_of_input};
use crate::{Outcome, output};

/// Serves `/authorize`.
///
/// # Errors
/// If it cannot listen.
pub(crate) fn run(workers: usize) -> Outcome<()> {
    actix_web::rt::System::new().block_on(serve(workers))
}

async fn serve(workers: usize) -> Outcome<()> {
    let app = || App::new().route("/authorize", web::get().to(answer));
    let server = HttpServer::new(app).workers(workers).tcp_nodelay(true).disable_signals().bind("127.0.0.1:0")?;
    let address = *server.addrs().first().ok_or("not bound")?;
    output::line(&Addresses { public: address, inner: address })?;
    std::thread::spawn(|| {
        wait_for_end_of_input();
        std::process::exit(0);
    });
    Ok(server.run().await?)
}

async fn answer(request: HttpRequest) -> HttpResponse {
    if request.headers().contains_key("connectionid") {
        HttpResponse::Ok().finish()
    } else {
        HttpResponse::Unauthorized().finish()
    }
}
