//! A small HTTP/1.1 client: one request, one connection, nothing hidden.

use std::io;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::poll::{PATIENCE, within};

/// A request to be sent.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    authority: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// A whole response.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header fields in the order of the wire.
    pub headers: Vec<(String, String)>,
    /// Decoded body.
    pub body: Vec<u8>,
}

/// The head of a response, and the bytes that came after it.
#[derive(Debug)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Header fields in the order of the wire.
    pub headers: Vec<(String, String)>,
    /// What was read beyond the head.
    pub rest: Vec<u8>,
}

/// Starts a `GET`.
#[must_use]
pub fn get(url: &str) -> Request {
    Request::new("GET", url)
}

/// Starts a `POST` with a JSON body.
#[must_use]
pub fn post(url: &str, body: &Value) -> Request {
    Request::new("POST", url).header("Content-Type", "application/json").body(body.to_string().into_bytes())
}

impl Request {
    /// A request of any method to an `http://authority/target`.
    ///
    /// # Panics
    /// If the URL is none.
    #[must_use]
    pub fn new(method: &str, url: &str) -> Self {
        let rest = url.strip_prefix("http://").expect("an http URL");
        let at = rest.find('/').unwrap_or(rest.len());
        let (authority, target) = rest.split_at(at);
        let target = if target.is_empty() { "/" } else { target };
        Self {
            method: method.to_owned(),
            authority: authority.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a header field. A `Host` stands in place of the one that the URL tells.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it and reads the whole response.
    ///
    /// # Panics
    /// If there is no response.
    pub async fn send(self) -> Response {
        let what = format!("{} http://{}{}", self.method, self.authority, self.target);
        within(PATIENCE, &what, self.try_send()).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Sends it and reads the whole response.
    ///
    /// # Errors
    /// If the connection fails or ends too early.
    pub async fn try_send(self) -> io::Result<Response> {
        let mut stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&self.encode()).await?;
        let head = read_head(&mut stream).await?;
        let body = read_body(&mut stream, &head, self.method == "HEAD").await?;
        Ok(Response { status: head.status, headers: head.headers, body })
    }

    /// The bytes on the wire.
    fn encode(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            text.push_str(&format!("Host: {}\r\n", self.authority));
        }
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let named = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if !named && (!self.body.is_empty() || self.method == "POST") {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

impl Response {
    /// The first field of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The first field of that name.
#[must_use]
pub fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Reads up to the empty line, past interim responses other than 101.
///
/// # Errors
/// If the stream fails, ends first, or does not speak HTTP/1.
pub async fn read_head(stream: &mut TcpStream) -> io::Result<Head> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            let (status, headers) = parse_head(&bytes).ok_or_else(|| io::Error::other("not an HTTP response"))?;
            if (100..200).contains(&status) && status != 101 {
                bytes = rest;
                continue;
            }
            return Ok(Head { status, headers, rest });
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "connection ended inside the head of a response"));
        }
    }
}

/// Status and fields of a head.
fn parse_head(bytes: &[u8]) -> Option<(u16, Vec<(String, String)>)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let fields = lines.filter_map(|line| line.split_once(':'));
    Some((status, fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()))
}

/// Reads the body that a head announces.
async fn read_body(stream: &mut TcpStream, head: &Head, head_only: bool) -> io::Result<Vec<u8>> {
    let mut bytes = head.rest.clone();
    if head_only || matches!(head.status, 101 | 204 | 304) {
        return Ok(Vec::new());
    }
    if let Some(length) = find(&head.headers, "content-length").and_then(|value| value.parse::<usize>().ok()) {
        while bytes.len() < length {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "body too short"));
            }
        }
        return Ok(bytes);
    }
    stream.read_to_end(&mut bytes).await?;
    if find(&head.headers, "transfer-encoding").is_some() {
        return unchunk(&bytes).ok_or_else(|| io::Error::other("bad chunks"));
    }
    Ok(bytes)
}

/// Decodes a chunked body.
fn unchunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).ok()?.split(';').next()?, 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(bytes.get(end + 2..end + 2 + size)?);
        bytes = bytes.get(end + 4 + size..)?;
    }
}

/// Reads a request's head and drops it.
///
/// # Errors
/// If the stream fails or ends first.
pub async fn read_request_head(stream: &mut TcpStream) -> io::Result<()> {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "connection ended inside the head of a request"));
        }
    }
    Ok(())
}
