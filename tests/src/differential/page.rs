//! The engine of a real browser: a page that fetches cases from the harness and posts what became of them.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tokio::runtime::Runtime;

use super::engine::Engine;
use crate::browser::Browser;
use crate::poll::PATIENCE;

/// Longest wait for the results of one piece: minutes of work, where programs are run until they are hot on a busy machine.
const RESULTS_WITHIN: Duration = Duration::from_secs(300);
/// What the page runs beside the runner.
const EXCHANGE: &str = include_str!("../../js/differential_page.js");

/// A browser with one page.
pub(super) struct Chromium {
    /// Results of the last cases, and where the next ones are to be written.
    posts: Receiver<(String, TcpStream)>,
    /// The request that waits for cases.
    waiting: TcpStream,
    _browser: Browser,
    _runtime: Runtime,
}

impl Chromium {
    pub(super) fn start(script: &str) -> Self {
        let html = format!(
            "<!doctype html><title>differential</title><link rel=icon href=data:,><script>{script}\n{EXCHANGE}</script>"
        );
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://localhost:{}/", listener.local_addr().expect("an address").port());
        let (sender, posts) = channel();
        std::thread::spawn(move || serve(&listener, &Arc::new(html), &sender));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let browser = runtime.block_on(async {
            let browser = Browser::start().await;
            browser.goto(&url).await;
            browser
        });
        let (_, waiting) = posts.recv_timeout(PATIENCE).expect("the page asks for cases");
        Self { posts, waiting, _browser: browser, _runtime: runtime }
    }
}

impl Engine for Chromium {
    fn run(&mut self, cases: &str) -> String {
        respond(&mut self.waiting, "application/json", cases).expect("the page reads its cases");
        let (results, waiting) = self.posts.recv_timeout(RESULTS_WITHIN).expect("the page posts its results");
        self.waiting = waiting;
        results
    }
}

/// Answers until nobody wants posts any more. Each request has a thread: a browser opens connections ahead of time and says
/// nothing on them for a while.
fn serve(listener: &TcpListener, html: &Arc<String>, posts: &Sender<(String, TcpStream)>) {
    for stream in listener.incoming().map_while(Result::ok) {
        let (html, posts) = (html.clone(), posts.clone());
        // A connection that the browser drops is no failure of the page.
        std::thread::spawn(move || drop(answer(stream, &html, &posts)));
    }
}

fn answer(mut stream: TcpStream, html: &str, posts: &Sender<(String, TcpStream)>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first)?;
    for line in reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    if first.starts_with("GET ") {
        return respond(&mut stream, "text/html; charset=utf-8", html);
    }
    if first.starts_with("POST ") {
        let mut results = vec![0; length];
        reader.read_exact(&mut results)?;
        // Nobody listens once the comparison is over.
        let _ = posts.send((String::from_utf8(results).map_err(io::Error::other)?, stream));
    }
    Ok(())
}

fn respond(stream: &mut TcpStream, kind: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}
