//! A real browser, headless Chromium, driven over WebDriver (<https://www.w3.org/TR/webdriver2/>) by chromedriver.
//!
//! The protocol is a few requests with JSON; crates for it bring a licence that is not ours, or a second HTTP stack.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::lab::{Namespace, Process, wait_for};

/// Where chromedriver listens within the namespace.
const DRIVER: &str = "127.0.0.1:9515";
/// Chromium takes a while to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// Width and height of the window.
const WINDOW: (u32, u32) = (1280, 1400);

/// A browser with one tab; it ends with this.
pub struct Browser<'n> {
    namespace: &'n Namespace,
    session: String,
    _driver: Process,
}

impl<'n> Browser<'n> {
    /// Starts one inside.
    ///
    /// # Errors
    /// It did not start.
    pub fn start(namespace: &'n Namespace) -> Result<Self> {
        let directory = namespace.directory();
        fs::create_dir_all(&directory)?;
        let (_, port) = DRIVER.split_once(':').context("a port")?;
        let mut command = namespace.command("chromedriver");
        command.arg(format!("--port={port}")).env("HOME", &directory);
        let log = fs::File::create(directory.join("chromedriver.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let driver = Process::new(command.spawn().context("chromedriver")?);
        let mut browser = Self { namespace, session: String::new(), _driver: driver };
        wait_for("chromedriver is ready", PATIENCE, || {
            (browser.request("GET", "/status", None).ok()?["ready"] == true).then_some(())
        })?;
        let (width, height) = WINDOW;
        let arguments = [
            // The tests run as root, in a namespace that is theirs.
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            // A container may have a small /dev/shm.
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            &format!("--window-size={width},{height}"),
            &format!("--user-data-dir={}", directory.join("chromium").display()),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        }}});
        let session = browser.request("POST", "/session", Some(&wanted))?;
        session["sessionId"].as_str().context("a session")?.clone_into(&mut browser.session);
        Ok(browser)
    }

    /// Opens a page.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn open(&self, url: &str) -> Result<()> {
        self.command("url", &json!({ "url": url })).map(drop)
    }

    /// Runs the body of a function in the page, and gives what it returns.
    ///
    /// # Errors
    /// It threw.
    pub fn run(&self, script: &str) -> Result<Value> {
        self.command("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression in the page is true.
    ///
    /// # Errors
    /// It is not in time; the text of the page is part of the error.
    pub fn sees(&self, expression: &str) -> Result<()> {
        let seen = wait_for(expression, PATIENCE, || {
            (self.run(&format!("return {expression}")).ok()? == true).then_some(())
        });
        seen.with_context(|| {
            let text = self.run("return document.body.innerText").unwrap_or_default();
            format!("the page says: {}", text.as_str().unwrap_or_default())
        })
    }

    /// Asks the browser itself, by the protocol of its developer tools.
    ///
    /// # Errors
    /// It refuses.
    pub fn devtools(&self, command: &str, parameters: &Value) -> Result<Value> {
        self.command("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Warnings and errors on the console since they were asked for last.
    ///
    /// # Errors
    /// The browser does not say.
    pub fn complaints(&self) -> Result<Vec<String>> {
        let log = self.command("se/log", &json!({ "type": "browser" }))?;
        let entries = log.as_array().context("a list")?.iter();
        let complaints = entries.filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING");
        Ok(complaints.map(ToString::to_string).collect())
    }

    /// The page from its beginning to its end, as PNG.
    ///
    /// # Errors
    /// The browser does not say.
    pub fn picture(&self) -> Result<Vec<u8>> {
        let size =
            self.run("return [document.documentElement.clientWidth, document.documentElement.scrollHeight]")?;
        // Zero: as it is.
        let size = json!({ "width": size[0], "height": size[1], "deviceScaleFactor": 0, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &size)?;
        let picture = self.request("GET", &format!("/session/{}/screenshot", self.session), None)?;
        Ok(STANDARD.decode(picture.as_str().context("a picture")?)?)
    }

    fn command(&self, name: &str, body: &Value) -> Result<Value> {
        self.request("POST", &format!("/session/{}/{name}", self.session), Some(body))
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let (head, body) = self.namespace.enter(|| {
            let mut stream = TcpStream::connect(DRIVER)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(
                stream,
                "{method} {path} HTTP/1.1\r\nHost: {DRIVER}\r\nConnection: close\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )?;
            let mut reader = BufReader::new(stream);
            let (mut head, mut length) = (String::new(), 0);
            // chromedriver says that it closes the connection, and does not.
            while !head.ends_with("\r\n\r\n") {
                let start = head.len();
                ensure!(reader.read_line(&mut head)? > 0, "it ended: {head}");
                if let Some(("content-length", value)) = head[start..].to_lowercase().split_once(':') {
                    length = value.trim().parse()?;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            Ok((head, body))
        })?;
        let mut body: Value = serde_json::from_slice(&body)?;
        let value = body["value"].take();
        ensure!(head.starts_with("HTTP/1.1 200"), "{path}: {value}");
        if let Some(error) = value["error"].as_str() {
            bail!("{path}: {error}: {value}");
        }
        Ok(value)
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        // So that Chromium ends in its own time; whatever is left of it ends with the namespace.
        let _ = self.request("DELETE", &format!("/session/{}", self.session), None);
    }
}
