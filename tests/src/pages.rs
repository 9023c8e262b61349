//! Web pages of other origins: a server for one page, on a free port.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::http::read_request_head;

/// A port that is taken but not served yet: a node may have to know a page's origin before the page can name the node.
#[derive(Debug)]
pub struct Port(std::net::TcpListener);

impl Port {
    /// Takes a free port.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn reserve() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener for the runtime");
        Self(listener)
    }

    /// The origin that a page on this port will have.
    ///
    /// # Panics
    /// Never: a bound listener has an address.
    #[must_use]
    pub fn origin(&self) -> String {
        origin(self.0.local_addr().expect("an address"))
    }
}

/// The origin of an address under the name `localhost`.
fn origin(address: SocketAddr) -> String {
    format!("http://localhost:{}", address.port())
}

/// A served page; dropped, its server ends.
#[derive(Debug)]
pub struct Page {
    /// Where it is served.
    pub address: SocketAddr,
    server: JoinHandle<()>,
}

impl Page {
    /// Serves a page on a reserved port.
    ///
    /// # Panics
    /// If the port was already given to somebody else.
    #[must_use]
    pub fn serve(port: Port, html: impl Into<String>) -> Self {
        let listener = TcpListener::from_std(port.0).expect("the runtime takes a listener");
        let address = listener.local_addr().expect("an address");
        let html = Arc::new(html.into());
        let server = tokio::spawn(async move {
            // Each on its own: a browser opens sockets ahead of time and says nothing on them for a while.
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, html.clone()));
            }
        });
        Self { address, server }
    }

    /// The page's origin under the name `localhost`, as developers' pages have it.
    #[must_use]
    pub fn origin(&self) -> String {
        origin(self.address)
    }

    /// The same page under the address: another origin.
    #[must_use]
    pub fn other_origin(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Answers one request with the page. A browser that leaves early is no failure of the page.
async fn answer(mut stream: TcpStream, html: Arc<String>) {
    let _ = read_request_head(&mut stream).await;
    let length = html.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(html.as_bytes()).await;
}
