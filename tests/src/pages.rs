//! Web pages of other origins: a server for one page, on a free port.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::http::read_request_head;

/// A served page; dropped, its server ends.
#[derive(Debug)]
pub struct Page {
    /// Where it is served.
    pub address: SocketAddr,
    server: JoinHandle<()>,
}

impl Page {
    /// Takes a free port and serves a page there that is made for it.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn serve(html: impl Into<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let html = html.into();
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // A browser that leaves early is no failure of the page.
                let _ = read_request_head(&mut stream).await;
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    html.len()
                );
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(html.as_bytes()).await;
            }
        });
        Self { address, server }
    }

    /// The page's origin under the name `localhost`, as developers' pages have it.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://localhost:{}", self.address.port())
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
