//! A headless Chromium, driven over WebDriver.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http;
use crate::node::root;
use crate::poll::eventually;

/// What Chromium is started with: nothing that reaches out, nothing that a container lacks.
const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1100,1500",
];

/// A browser with one window; dropped, it is closed.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    authority: String,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts the browser.
    ///
    /// # Panics
    /// If Chromium or its driver is missing or does not start.
    pub async fn start() -> Self {
        let (driver, port) = start_driver();
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut browser = Self { driver, authority: format!("127.0.0.1:{port}"), session: String::new(), _profile: profile };
        let mut flags: Vec<String> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
        flags.push(format!("--user-data-dir={}", browser._profile.path().display()));
        let mut options = json!({ "args": flags });
        if let Some(binary) = chromium() {
            options["binary"] = json!(binary);
        }
        let wanted =
            json!({ "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } });
        let session = browser.command("POST", "/session", &json!({ "capabilities": { "alwaysMatch": wanted } })).await;
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        browser
    }

    /// Opens a page.
    pub async fn goto(&self, url: &str) {
        self.post("url", &json!({ "url": url })).await;
    }

    /// The value of a script's `return`.
    pub async fn script(&self, script: &str) -> Value {
        self.call(script, &[]).await
    }

    /// The same, with `arguments`.
    pub async fn call(&self, script: &str, arguments: &[Value]) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": arguments })).await
    }

    /// Waits until a script's `return` is neither null, false nor empty; the value.
    pub async fn until(&self, what: &str, script: &str) -> Value {
        let empty = |value: &Value| matches!(value, Value::Null | Value::Bool(false)) || *value == json!("");
        eventually(what, || async { Some(self.script(script).await).filter(|value| !empty(value)) }).await
    }

    /// Clicks as a person does: the element must be visible.
    ///
    /// # Panics
    /// If there is none.
    pub async fn click(&self, selector: &str) {
        let found = self.post("element", &json!({ "using": "css selector", "value": selector })).await;
        let element = found.as_object().and_then(|map| map.values().next()).and_then(Value::as_str).expect("an element");
        self.post(&format!("element/{element}/click"), &json!({})).await;
    }

    /// Writes what the window shows to `target/screenshots/<name>.png`.
    ///
    /// # Panics
    /// If it cannot be written.
    pub async fn screenshot(&self, name: &str) -> PathBuf {
        let picture = self.command("GET", &format!("/session/{}/screenshot", self.session), &Value::Null).await;
        let bytes = STANDARD.decode(picture.as_str().expect("a picture")).expect("base64");
        let folder = root().join("target/screenshots");
        std::fs::create_dir_all(&folder).expect("the folder is made");
        let path = folder.join(format!("{name}.png"));
        std::fs::write(&path, bytes).expect("the picture is written");
        path
    }

    /// What the console has shown since the last call.
    pub async fn console(&self) -> Vec<String> {
        let entries = self.post("se/log", &json!({ "type": "browser" })).await;
        let text =
            |entry: &Value| format!("{} {}", entry["level"].as_str().unwrap_or(""), entry["message"].as_str().unwrap_or(""));
        entries.as_array().map(|entries| entries.iter().map(text).collect()).unwrap_or_default()
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        self.command("POST", &format!("/session/{}/{path}", self.session), body).await
    }

    async fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let url = format!("http://{}{path}", self.authority);
        let request = if method == "POST" { http::post(&url, body) } else { http::get(&url) };
        let response = request.send().await;
        let value = response.json()["value"].clone();
        assert_eq!(response.status, 200, "{path}: {}", value["message"]);
        value
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without this the browser would outlive its driver; if the driver is gone, there is nothing to end.
        if let Ok(mut stream) = std::net::TcpStream::connect(&self.authority) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let path = format!("/session/{}", self.session);
            let _ = write!(stream, "DELETE {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.authority);
            let _ = stream.read(&mut [0; 64]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Starts the driver on a port of its own choice.
///
/// It takes a free IPv6 port and then needs the same one of IPv4, which may be taken: beside thousands of sockets of other
/// tests that happens, and it exits. Only then it is started again.
fn start_driver() -> (Child, u16) {
    const ATTEMPTS: usize = 20;
    for _ in 0..ATTEMPTS {
        let command = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut driver = command.expect("`chromedriver` is on the PATH; tests/run installs it");
        match port_of(driver.stdout.take().expect("a pipe")) {
            Ok(port) => return (driver, port),
            Err(said) => assert!(said.contains("port not available"), "chromedriver did not start: {said}"),
        }
        // It has ended its output, so it ends.
        let _ = driver.wait();
    }
    panic!("chromedriver found no port in {ATTEMPTS} attempts")
}

/// The port that the driver chose; or what it said instead.
fn port_of(output: impl std::io::Read + Send + 'static) -> Result<u16, String> {
    let mut said = String::new();
    let mut lines = BufReader::new(output).lines();
    for line in lines.by_ref().map_while(Result::ok) {
        let number = line.strip_suffix('.').and_then(|line| line.rsplit_once("successfully on port "));
        if let Some(port) = number.and_then(|(_, number)| number.parse().ok()) {
            // The driver would block on a full pipe.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(port);
        }
        said.push_str(&line);
        said.push('\n');
    }
    Err(said)
}

/// Debian's name for the browser; elsewhere the driver finds its own.
fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("chromium")).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{Page, Port};

    #[tokio::test]
    async fn a_page_is_opened_clicked_and_read() {
        let html = "<!doctype html><title>t</title><button onclick='window.clicked = location.origin'>b</button>";
        let page = Page::serve(Port::reserve(), html);
        let browser = Browser::start().await;
        browser.goto(&format!("{}/", page.origin())).await;
        browser.click("button").await;
        assert_eq!(browser.until("the click", "return window.clicked || null").await, page.origin());
        assert!(browser.screenshot("harness").await.is_file());
    }
}
