use std::net::SocketAddr;
use std::time::Duration;

use actix_web::body::BodyStream;
use actix_web::{App, HttpRequest, HttpResponse, web};
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::edge::{ListenerSpec, bind, serve};

/// A request that leaves the dispatcher.
/// Longest that a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);
const UPGRADE: &str = "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

/// Sends back what comes, after a `w` if the way around the task was there, until the client ends.
async fn echo(request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let found = request.extensions().get::<DirectWriter>().is_some_and(|writer| writer.get().is_some());
    let first = Bytes::from_static(if found { b"w" } else { b"-" });
    let body = futures_util::stream::iter([Ok(first)]).chain(payload);
    HttpResponse::SwitchingProtocols().upgrade("websocket").body(BodyStream::new(body))
}

/// A client of a server that echoes on `/ws` and refuses everywhere else.
async fn client() -> TcpStream {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let spec = ListenerSpec {
        quiet_max: std::time::Duration::from_secs(60),
        listener,
        workers: 1,
        connections_per_worker_max: 100,
        tls: None,
        request_head_timeout: Duration::from_secs(5),
        shutdown_timeout: Duration::from_secs(1),
        send_buffer_bytes: None,
    };
    let app =
        || App::new().route("/ws", web::get().to(echo)).route("/read", web::post().to(read)).default_service(web::to(refuse));
    actix_rt::spawn(serve(spec, app).unwrap());
    TcpStream::connect(address).await.unwrap()
}

/// The body that it was sent.
async fn read(body: Bytes) -> HttpResponse {
    HttpResponse::Ok().body(body)
}

async fn refuse() -> HttpResponse {
    HttpResponse::Forbidden().body("no")
}

/// All that the server sends until it ends, of a client that says `said` and then ends.
async fn conversation(said: &[u8]) -> String {
    let mut client = client().await;
    client.write_all(said).await.unwrap();
    client.shutdown().await.unwrap();
    let mut heard = Vec::new();
    tokio::time::timeout(PATIENCE, client.read_to_end(&mut heard)).await.unwrap().unwrap();
    String::from_utf8(heard).unwrap()
}

#[actix_rt::test]
async fn bytes_that_came_with_the_request_are_the_first_of_the_stream() {
    let heard = conversation(format!("{UPGRADE}early").as_bytes()).await;
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(body, "wearly");
}

#[actix_rt::test]
async fn more_than_a_turn_reads_comes_through() {
    let much = "x".repeat(5 * READ_TURN_BYTES);
    let mut client = client().await;
    client.write_all(UPGRADE.as_bytes()).await.unwrap();
    let (mut read, mut write) = client.split();
    let mut heard = Vec::new();
    let all = async {
        write.write_all(much.as_bytes()).await.unwrap();
        write.shutdown().await.unwrap();
    };
    tokio::join!(all, async { read.read_to_end(&mut heard).await.unwrap() });
    assert!(heard.ends_with(format!("\r\n\r\nw{much}").as_bytes()));
}

#[actix_rt::test]
async fn a_refusal_is_whole_and_the_last_answer() {
    let heard = conversation(UPGRADE.replace("/ws", "/other").as_bytes()).await;
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 403 ") && head.contains("connection: close"), "{head}");
    assert_eq!(body, "no");
}

#[actix_rt::test]
async fn answers_to_earlier_requests_come_first() {
    let heard = conversation(format!("GET /other HTTP/1.1\r\nhost: x\r\n\r\n{UPGRADE}").as_bytes()).await;
    let (refused, rest) = heard.split_once("\r\n\r\nno").unwrap();
    assert!(refused.starts_with("HTTP/1.1 403 ") && rest.starts_with("HTTP/1.1 101 "), "{heard}");
}

#[actix_rt::test]
async fn a_post_that_asks_for_an_upgrade_is_answered_once_its_body_is_there() {
    let post = "POST /read HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
    let parts: [&[&str]; 4] = [
        &["content-length: 4\r\n\r\nbody"],
        &["content-length: 4\r\n\r\nbody and more"],
        &["content-length: 4\r\n\r\n", "bo", "dy"],
        &["transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"],
    ];
    for parts in parts {
        let mut client = client().await;
        client.write_all(post.as_bytes()).await.unwrap();
        for part in parts {
            client.write_all(part.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
        // It does not end: the answer must not wait for that.
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\nbody") {
            let read = tokio::time::timeout(PATIENCE, client.read_buf(&mut heard)).await.unwrap().unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&heard));
        }
        assert!(heard.starts_with(b"HTTP/1.1 200 "));
    }
    let none = conversation(format!("{post}\r\nstray").as_bytes()).await;
    assert!(none.starts_with("HTTP/1.1 200 ") && none.ends_with("\r\n\r\n"), "{none}");
    let short = conversation(format!("{post}content-length: 4\r\n\r\nbo").as_bytes()).await;
    assert!(short.starts_with("HTTP/1.1 400 "), "{short}");
}
