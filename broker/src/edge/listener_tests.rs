use std::convert::Infallible;
use std::fs;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_server::ServerHandle;
use actix_web::body::BodyStream;
use actix_web::{App, HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::*;
use crate::config::TlsSettings;
use crate::edge::SocketControl;

/// Longest that a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest silence of these servers: nothing here but the test of it comes near.
const QUIET_MAX: Duration = Duration::from_secs(3);

/// Starts a server on a free port.
fn start<F>(tls: Option<Tls>, configure: F) -> (SocketAddr, ServerHandle)
where
    F: Fn(&mut web::ServiceConfig) + Send + Clone + 'static,
{
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let spec = ListenerSpec {
        listener,
        workers: 1,
        connections_per_worker_max: 1_000,
        tls,
        request_head_timeout: Duration::from_secs(5),
        quiet_max: QUIET_MAX,
        shutdown_timeout: Duration::from_secs(1),
        send_buffer_bytes: None,
    };
    let server = serve(spec, move || App::new().configure(configure.clone())).unwrap();
    let handle = server.handle();
    actix_rt::spawn(server);
    (address, handle)
}

async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Counts the bodies that live.
struct Alive(Arc<AtomicUsize>, mpsc::UnboundedSender<()>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
        let _ = self.1.send(());
    }
}

/// A handler whose answer never ends, fast or silent, with the kill switch handed out.
fn endless(
    configuration: &mut web::ServiceConfig,
    alive: Arc<AtomicUsize>,
    started: mpsc::UnboundedSender<SocketControl>,
    ended: mpsc::UnboundedSender<()>,
) {
    let handler = move |request: HttpRequest| {
        alive.fetch_add(1, Ordering::SeqCst);
        started.send(request.conn_data::<SocketControl>().unwrap().clone()).unwrap();
        let guard = Alive(Arc::clone(&alive), ended.clone());
        let silent = request.path() == "/silent";
        let body = stream::poll_fn(move |_| {
            let _alive = &guard;
            if silent {
                std::task::Poll::Pending
            } else {
                std::task::Poll::Ready(Some(Ok::<_, Infallible>(Bytes::from_static(&[0; 4_096]))))
            }
        });
        async move { HttpResponse::Ok().body(BodyStream::new(body)) }
    };
    configuration.default_service(web::to(handler));
}

/// Waits until the kernel takes nothing more for a client that does not read.
async fn until_nothing_is_taken(control: &SocketControl) {
    let (mut looks, mut written) = (tokio::time::interval(Duration::from_millis(100)), 0);
    loop {
        looks.tick().await;
        let before = std::mem::replace(&mut written, control.written_bytes());
        if written > 0 && written == before {
            return;
        }
    }
}

/// Opens a connection that asks and never reads, and cuts it from another thread.
async fn cut_ends(path: &str, frozen: bool) {
    let alive = Arc::new(AtomicUsize::new(0));
    let (started_tx, mut started) = mpsc::unbounded_channel();
    let (ended_tx, mut ended) = mpsc::unbounded_channel();
    let counted = Arc::clone(&alive);
    let (address, handle) = start(None, move |configuration| {
        endless(configuration, Arc::clone(&counted), started_tx.clone(), ended_tx.clone());
    });
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let control = soon("handler runs", started.recv()).await.unwrap();
    if frozen {
        until_nothing_is_taken(&control).await;
    }
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    let switch = control.clone();
    std::thread::spawn(move || switch.cut()).join().unwrap();
    soon("body is dropped", ended.recv()).await.unwrap();
    soon("socket is gone", async {
        while !control.is_gone() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut rest = Vec::new();
    let read = soon("client is reset", client.read_to_end(&mut rest)).await;
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    control.cut();
    handle.stop(false).await;
}

#[actix_rt::test]
async fn cut_ends_a_frozen_client_at_once() {
    cut_ends("/fast", true).await;
}

#[actix_rt::test]
async fn cut_ends_a_silent_connection_at_once() {
    cut_ends("/silent", false).await;
}

/// Writes a fresh self-signed certificate; the client that trusts it.
fn certify(files: &TlsSettings) -> TlsConnector {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(&files.cert_file, certified.cert.pem()).unwrap();
    fs::write(&files.key_file, certified.signing_key.serialize_pem()).unwrap();
    trusting(&files.cert_file)
}

fn trusting(cert_file: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(cert_file).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    // A resumed session would not look at the certificate again.
    config.resumption = rustls::client::Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

/// A request over TLS; fails if the server's certificate is not the trusted one.
async fn status_line(connector: &TlsConnector, address: SocketAddr) -> io::Result<String> {
    let tcp = TcpStream::connect(address).await?;
    let mut tls = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await?;
    tls.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    // The server may end without TLS's own goodbye; what came before counts.
    let _ = tls.read_to_string(&mut answer).await;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

fn tls_files(dir: &tempfile::TempDir) -> TlsSettings {
    TlsSettings { cert_file: dir.path().join("cert.pem"), key_file: dir.path().join("key.pem") }
}

fn ok(configuration: &mut web::ServiceConfig) {
    configuration.default_service(web::to(|request: HttpRequest| async move {
        assert!(request.conn_data::<SocketControl>().is_some());
        HttpResponse::Ok().finish()
    }));
}

#[actix_rt::test]
async fn changed_certificate_is_served_and_a_bad_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let files = tls_files(&dir);
    let first = certify(&files);
    let tls = Tls::load(&files).unwrap();
    let (address, handle) = start(Some(tls.clone()), ok);
    assert_eq!(status_line(&first, address).await.unwrap(), "HTTP/1.1 200 OK");

    fs::write(&files.cert_file, "-----BEGIN CERTIFICATE-----\nnonsense").unwrap();
    tls.refresh();
    assert_eq!(status_line(&first, address).await.unwrap(), "HTTP/1.1 200 OK", "the old certificate stays");

    let second = certify(&files);
    // The watching thread may have been faster; either way the new one is served now.
    tls.refresh();
    assert_eq!(status_line(&second, address).await.unwrap(), "HTTP/1.1 200 OK");
    assert!(status_line(&first, address).await.is_err());
    assert!(!tls.refresh(), "unchanged files are not read again");
    handle.stop(false).await;
}

#[actix_rt::test]
async fn a_stalled_tls_handshake_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let files = tls_files(&dir);
    let connector = certify(&files);
    let (address, handle) = start(Some(Tls::load(&files).unwrap()), ok);
    let mut stalled = Vec::new();
    for _ in 0..50 {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(&[0x16]).await.unwrap();
        stalled.push(tcp);
    }
    let answer = soon("a handshake beside stalled ones", status_line(&connector, address)).await;
    assert_eq!(answer.unwrap(), "HTTP/1.1 200 OK");
    handle.stop(false).await;
}

/// Sends a request, then the beginning of another, and goes on with it for ever.
#[actix_rt::test]
async fn a_second_request_that_never_ends_is_not_waited_for() {
    let (address, handle) = start(None, ok);
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nx: ").await.unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let (mut reading, mut writing) = client.into_split();
    let trickle = actix_rt::spawn(async move {
        while writing.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut rest = Vec::new();
    // A reset, where bytes were on their way, is as good an end as any.
    let _ = soon("the node ends the connection", reading.read_to_end(&mut rest)).await;
    soon("its client notices", trickle).await.unwrap();
    handle.stop(false).await;
}

/// A connection that is a WebSocket has other deadlines.
#[actix_rt::test]
async fn an_upgraded_connection_may_be_silent() {
    let (address, handle) = start(None, |configuration| {
        configuration.default_service(web::to(|request: HttpRequest| async move {
            request.conn_data::<SocketControl>().unwrap().upgraded();
            let silence = tokio::time::sleep(QUIET_MAX * 2);
            let late = stream::once(async move {
                silence.await;
                Ok::<_, Infallible>(Bytes::from_static(b"late"))
            });
            HttpResponse::Ok().body(BodyStream::new(late))
        }));
    });
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    soon("the late answer", client.read_to_end(&mut answer)).await.unwrap();
    assert!(String::from_utf8(answer).unwrap().contains("late"));
    handle.stop(false).await;
}

#[test]
fn files_that_cannot_be_served_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let files = tls_files(&dir);
    let error = |files| Tls::load(files).err().unwrap().to_string();
    assert!(error(&files).contains("cert.pem"));
    certify(&files);
    fs::write(&files.cert_file, "").unwrap();
    assert!(error(&files).contains("no certificate"));
    certify(&files);
    fs::remove_file(&files.key_file).unwrap();
    assert!(error(&files).contains("key.pem"));
    let other = TlsSettings { key_file: dir.path().join("other.pem"), ..files.clone() };
    certify(&files);
    fs::copy(&files.key_file, &other.key_file).unwrap();
    certify(&files);
    assert!(error(&other).contains("do not belong together"));
}
