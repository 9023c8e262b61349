//! The parts together, with the smallest actor that can use them, over real sockets and raw frames.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext as _, StreamHandler};
use actix_http::ws::{Codec, Message, ProtocolError};
use actix_server::ServerHandle;
use actix_web::body::BodyStream;
use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_actors::ws::WebsocketContext;
use countersign_node_proto::ConnectionId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::*;
use crate::edge::{ListenerSpec, SocketControl, bind, serve};
use crate::hub::Outbox;
use crate::telemetry::{CutReason, Metrics};

const PATIENCE: Duration = Duration::from_secs(60);
const RATES: InboundRates = InboundRates { control_frames: 0, messages: 0 };
const QUEUE_MAX: usize = 50_000_000;

const DEADLINES: WatchdogSettings = WatchdogSettings {
    // Long beside what a client on a busy machine needs, short enough to be waited for.
    write_stall: Duration::from_secs(2),
    message_assembly: Duration::from_secs(5),
    ping_interval: Duration::ZERO,
    pong_timeout: Duration::ZERO,
    idle: Duration::ZERO,
    close: Duration::from_secs(2),
    age_max: Duration::ZERO,
};

/// What `flood` is answered with.
const FLOOD_BYTES: usize = 200_000;
/// More of them than the kernel holds for a client that does not read.
const FLOODS: usize = 200;

/// Answers what it gets: `flood` with much, `overflow` with more than the queue holds.
struct Echo {
    vitals: Rc<Vitals>,
    assembler: Assembler,
    stopped: mpsc::UnboundedSender<()>,
}

impl Actor for Echo {
    type Context = WebsocketContext<Self>;

    fn stopped(&mut self, _: &mut Self::Context) {
        self.stopped.send(()).unwrap();
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for Echo {
    fn handle(&mut self, item: Result<Message, ProtocolError>, ctx: &mut Self::Context) {
        let outbox = self.vitals.outbox();
        let assembled = item
            .map_err(|error| close_reason_for(&error, self.vitals.inbound().verdict()))
            .and_then(|message| self.assembler.accept(message, self.vitals.inbound().message_max()).map_err(Some));
        let _refused_when_closing = match assembled {
            Ok(Assembled::Text(text)) if text == "flood" => outbox.push_binary(&[0; FLOOD_BYTES]),
            Ok(Assembled::Text(text)) if text == "overflow" => {
                while outbox.push_binary(&[0; 1_000]).is_ok() {}
                Ok(())
            }
            Ok(Assembled::Text(text)) => outbox.push_text(&text),
            Ok(Assembled::Binary(bytes)) => outbox.push_binary(&bytes),
            Ok(Assembled::Ping(payload)) => outbox.push_pong(&payload),
            Ok(Assembled::Pong | Assembled::Incomplete) => Ok(()),
            Ok(Assembled::Close(code)) => {
                outbox.push_close_echo(code);
                ctx.stop();
                Ok(())
            }
            Err(reason) => {
                reason.map(|reason| outbox.push_close(reason));
                ctx.stop();
                Ok(())
            }
        };
    }
}

struct Server {
    address: SocketAddr,
    handle: ServerHandle,
    metrics: Arc<Metrics>,
    stopped: mpsc::UnboundedReceiver<()>,
    controls: mpsc::UnboundedReceiver<SocketControl>,
}

fn start() -> Server {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Arc::new(Metrics::new());
    let ((stopped_tx, stopped), (controls_tx, controls)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let spec = ListenerSpec {
        listener,
        workers: 1,
        connections_per_worker_max: 100,
        tls: None,
        request_head_timeout: Duration::from_secs(5),
        quiet_max: Duration::from_secs(60),
        shutdown_timeout: Duration::from_secs(1),
        send_buffer_bytes: None,
    };
    let shared = Arc::clone(&metrics);
    let server = serve(spec, move || {
        let watchdog = Watchdog::start(DEADLINES, Arc::clone(&shared));
        let (metrics, stopped, controls) = (Arc::clone(&shared), stopped_tx.clone(), controls_tx.clone());
        let open = move |request: HttpRequest, payload: web::Payload| {
            let control = request.conn_data::<SocketControl>().unwrap().clone();
            controls.send(control.clone()).unwrap();
            let outbox =
                Outbox::new(ConnectionId::from_bytes([1; 16]), crate::hub::Dialect::Plain, QUEUE_MAX, Arc::clone(&metrics));
            let vitals = Vitals::new(outbox, Inbound::new(70_000, 100_000), control);
            watchdog.watch(Rc::clone(&vitals));
            let guard = FrameGuard::new(payload, Rc::clone(vitals.inbound()), RATES, Arc::clone(&metrics));
            let echo = Echo { vitals: Rc::clone(&vitals), assembler: Assembler::default(), stopped: stopped.clone() };
            let stream = WebsocketContext::with_codec(echo, guard, Codec::new().max_size(100_000));
            let body = BodyStream::new(OutboundBody::new(stream, vitals));
            async move { switch_protocols(&request, None).body(body) as HttpResponse }
        };
        App::new().default_service(web::to(open))
    })
    .unwrap();
    let handle = server.handle();
    actix_rt::spawn(server);
    Server { address, handle, metrics, stopped, controls }
}

async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// A client that writes raw bytes.
struct Client(TcpStream);

impl Client {
    async fn open(address: SocketAddr) -> Self {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        let head = "GET /ws HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
            sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        tcp.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(soon("the 101", tcp.read_u8()).await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{answer}");
        assert!(!answer.contains("transfer-encoding") && !answer.contains("content-"), "{answer}");
        Self(tcp)
    }

    /// Sends a masked frame; a mask of zeros leaves the payload readable here.
    async fn send(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..=125 => frame.push(0x80 | u8::try_from(len).unwrap()),
            len @ 126..=0xFFFF => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(len).unwrap().to_be_bytes());
            }
            len => {
                frame.push(0x80 | 127);
                frame.extend((len as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend_from_slice(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next frame: its first byte and its payload.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        soon("a frame", async {
            let first = self.0.read_u8().await.unwrap();
            let len = match self.0.read_u8().await.unwrap() {
                126 => usize::from(self.0.read_u16().await.unwrap()),
                127 => usize::try_from(self.0.read_u64().await.unwrap()).unwrap(),
                len => usize::from(len),
            };
            let mut payload = vec![0; len];
            self.0.read_exact(&mut payload).await.unwrap();
            (first, payload)
        })
        .await
    }

    /// The close frame that must come next, and the end of the stream behind it.
    async fn close_code(&mut self) -> u16 {
        let (first, payload) = self.frame().await;
        assert_eq!(first, 0x88, "{payload:?}");
        let end = soon("the end", self.0.read_u8()).await;
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        u16::from_be_bytes([payload[0], payload[1]])
    }
}

#[actix_rt::test]
async fn messages_fragments_and_control_frames_come_back() {
    let mut server = start();
    let mut client = Client::open(server.address).await;
    client.send(0x81, "grüße".as_bytes()).await;
    assert_eq!(client.frame().await, (0x81, "grüße".as_bytes().to_vec()));
    for len in [0, 125, 126, 65_535, 65_536, 70_000] {
        client.send(0x82, &vec![7; len]).await;
        assert_eq!(client.frame().await, (0x82, vec![7; len]));
    }
    client.send(0x01, "gr\u{fc}".as_bytes().split_last().unwrap().1).await;
    client.send(0x89, &[1; 125]).await;
    assert_eq!(client.frame().await, (0x8A, vec![1; 125]), "a ping between fragments is answered at once");
    client.send(0x80, &[0xBC]).await;
    assert_eq!(client.frame().await, (0x81, "grü".as_bytes().to_vec()));
    client.send(0x88, &[0x0F, 0xA0]).await;
    assert_eq!(client.close_code().await, 4_000);
    soon("the actor stops", server.stopped.recv()).await.unwrap();
    server.handle.stop(false).await;
}

#[actix_rt::test]
async fn faults_are_closed_with_their_codes() {
    let mut server = start();
    let giant = [&[0x82, 0xFF][..], &(400_u64 << 20).to_be_bytes()].concat();
    let fragments = [&[0x02, 0xFE, 0xEA, 0x60, 0, 0, 0, 0][..], &[0; 60_000], &[0x80, 0xFE, 0xEA, 0x60]].concat();
    let cases: &[(&str, &[u8], u16)] = &[
        ("an announced giant", &giant, 1009),
        ("a message too large over its fragments", &fragments, 1009),
        ("an unmasked frame", &[0x81, 0x01, b'x'], 1002),
        ("a reserved bit", &[0xC1, 0x80, 0, 0, 0, 0], 1002),
        ("a reserved opcode", &[0x83, 0x80, 0, 0, 0, 0], 1002),
        ("a reserved control opcode", &[0x8B, 0x80, 0, 0, 0, 0], 1002),
        ("a fragmented ping", &[0x09, 0x80, 0, 0, 0, 0], 1002),
        ("a long ping", &[0x89, 0xFE, 0, 126], 1002),
        ("a continuation of nothing", &[0x80, 0x80, 0, 0, 0, 0], 1002),
        ("a message within a message", &[0x01, 0x80, 0, 0, 0, 0, 0x81, 0x80, 0, 0, 0, 0], 1002),
        ("a close with half a code", &[0x88, 0x81, 0, 0, 0, 0, 3], 1002),
        ("a close with a reserved code", &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xEE], 1002),
        ("text that is not UTF-8", &[0x81, 0x82, 0, 0, 0, 0, 0xC3, 0x28], 1007),
        ("a fragment that is not UTF-8", &[0x01, 0x81, 0, 0, 0, 0, 0xFF], 1007),
    ];
    for (what, bytes, code) in cases {
        let mut client = Client::open(server.address).await;
        client.0.write_all(bytes).await.unwrap();
        assert_eq!(client.close_code().await, *code, "{what}");
        soon(what, server.stopped.recv()).await.unwrap();
    }
    server.handle.stop(false).await;
}

/// Waits until the server has dropped a socket.
async fn gone(control: &SocketControl) {
    soon("the socket goes", async {
        while !control.is_gone() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[actix_rt::test]
async fn a_client_that_never_reads_is_cut() {
    let mut server = start();
    let mut client = Client::open(server.address).await;
    let control = server.controls.recv().await.unwrap();
    for _ in 0..FLOODS {
        client.send(0x81, b"flood").await;
    }
    gone(&control).await;
    soon("the actor stops", server.stopped.recv()).await.unwrap();
    assert!(control.written_bytes() < (FLOODS * FLOOD_BYTES) as u64, "it was frozen before it had all");
    assert_eq!(server.metrics.cuts.of(CutReason::WriteStall).get(), 1);
    server.handle.stop(false).await;
}

#[actix_rt::test]
async fn a_slow_consumer_gets_its_close_and_is_cut_without_an_answer() {
    let mut server = start();
    let mut client = Client::open(server.address).await;
    let control = server.controls.recv().await.unwrap();
    client.send(0x81, b"overflow").await;
    let (first, payload) = client.frame().await;
    assert_eq!((first, &payload[..2]), (0x88, &4429_u16.to_be_bytes()[..]));
    gone(&control).await;
    soon("the actor stops", server.stopped.recv()).await.unwrap();
    assert_eq!(server.metrics.slow_consumers.get(), 1);
    assert_eq!(server.metrics.cuts.of(CutReason::CloseTimeout).get(), 1);
    server.handle.stop(false).await;
}

#[actix_rt::test]
async fn a_client_that_vanishes_stops_its_actor() {
    let mut server = start();
    for polite in [true, false] {
        let client = Client::open(server.address).await;
        let control = server.controls.recv().await.unwrap();
        if !polite {
            socket2::SockRef::from(&client.0).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(client);
        soon("the actor stops", server.stopped.recv()).await.unwrap();
        gone(&control).await;
    }
    assert_eq!(server.metrics.cuts.of(CutReason::CloseTimeout).get(), 0);
    server.handle.stop(false).await;
}
