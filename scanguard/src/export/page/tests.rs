use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use super::*;
use crate::{
    control::{Answer, Ask, Request, listing::Picture, server::QUEUE},
    metrics::Register,
    respond::report::Done,
};

const PATIENCE: Duration = Duration::from_secs(20);
const TOKEN: &str = "0123456789abcdef";

/// A sample answer of the agent, with data that an attacker would want and an operator would hide.
fn picture(uptime: u64) -> Picture {
    serde_json::from_value(json!({
        "status": {
            "version": "0.1.0", "pid": 4711, "uptime_seconds": uptime, "interfaces": [["edge0", "native"]],
            "packets": [["probe", 12]], "probes": [["syn", 12]], "findings_open": 1,
            "response": {
                "mode": "dry-run", "mode_cause": {"by": "configuration"}, "mode_since": "2026-01-01T00:00:00Z",
                "mode_configured": "dry-run", "confirm_seconds_left": null, "drop": "new", "reflex": null,
                "bans": {"rule": 0, "hand": 0, "crowdsec": 0, "adopted": 0}, "max_bans": 100, "feed_networks": 0,
                "feed_networks_left_out": 0, "allowed": [{"net": "203.0.113.9/32", "why": "logged in by SSH"}],
                "bans_last_minute": 0, "max_per_minute": 60, "circuit_breaker_open": false,
                "state_file": "/var/lib/scanguard/state.json", "state_file_error": null
            }
        },
        "sources": {
            "polled": "2026-01-01T00:00:00Z", "packets": 12, "probes": 12, "remembered": 1, "active": 0, "sources": []
        },
        "findings": {"open": 1, "findings": [{
            "source": "192.0.2.7/32", "sources": 0, "country": null, "id": "1-0", "rule": "web_scan",
            "severity": "medium", "confidence": "high", "spoofable": "no", "first_seen": "2026-01-01T00:00:00Z",
            "last_seen": "2026-01-01T00:00:50Z", "probes": 12, "reason": "<img src=x>\n\nevent: bans", "policy": ""
        }]},
        "bans": {"mode": "dry-run", "feed_networks": 0, "bans": []}
    }))
    .unwrap()
}

/// A page whose main task echoes each order.
struct Site {
    address: SocketAddr,
    page: Page,
    metrics: Arc<PageMetrics>,
    stop: watch::Sender<()>,
    /// How often a picture was requested.
    asked: watch::Receiver<u64>,
}

impl Site {
    async fn start(max_clients: u32, token: Option<&str>) -> Self {
        let register = Register::default();
        let metrics = Arc::new(PageMetrics::new(&register).unwrap());
        let control = Arc::new(ControlMetrics::new(&register).unwrap());
        let settings = Settings {
            max_clients,
            admin_token: token.map(|token| Secret::from(token.to_owned())),
            ..Settings::default()
        };
        let page = Page::new(&settings, Arc::clone(&metrics)).unwrap();
        let (requests, mut requested) = mpsc::channel::<Request>(QUEUE);
        let (count, asked) = watch::channel(0);
        tokio::spawn(async move {
            while let Some(request) = requested.recv().await {
                let answer = if request.ask == Ask::Picture(50) {
                    count.send_modify(|count| *count += 1);
                    Answer::Picture(Box::new(picture(*count.borrow())))
                } else {
                    Answer::Done(Done { said: format!("{:?}", request.ask), notes: Vec::new() })
                };
                let _ = request.answer.send(answer);
            }
        });
        let (stop, stopped) = watch::channel(());
        let router = page.serve(AgentHandle::new(requests), control, stopped);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, page, metrics, stop, asked }
    }

    async fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// A whole answer.
    async fn ask(&self, request: &str) -> String {
        let mut answer = String::new();
        let mut stream = self.send(request).await;
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer").unwrap();
        answer
    }

    async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: sensor\r\nConnection: close\r\n\r\n")).await
    }

    async fn order(&self, order: &str, headers: &str, body: &str) -> String {
        self.ask(&format!(
            "POST /page/orders/{order} HTTP/1.1\r\nHost: sensor\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await
    }

    async fn look(&self) -> Browser {
        Browser(self.send("GET /page/events HTTP/1.1\r\nHost: sensor\r\n\r\n").await, String::new())
    }
}

/// An open stream of events, and the events so far.
struct Browser(TcpStream, String);

impl Browser {
    /// Reads until this text has arrived, and returns everything up to it.
    async fn reads(&mut self, text: &str) -> String {
        let Self(stream, said) = self;
        let read = async {
            let mut buffer = [0; 4096];
            loop {
                if let Some(at) = said.find(text) {
                    let rest = said.split_off(at + text.len());
                    return std::mem::replace(said, rest);
                }
                let length = stream.read(&mut buffer).await.unwrap();
                assert!(length > 0, "it ended: {said}");
                said.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
            }
        };
        timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("{text} does not come"))
    }
}

#[tokio::test]
async fn every_answer_forbids_what_is_not_ours() {
    let site = Site::start(1, None).await;
    for (path, content_type) in [
        ("/", "text/html"),
        ("/page/style.css", "text/css"),
        ("/page/page.js", "text/javascript"),
        ("/page/icon.svg", "image/svg+xml"),
        ("/page/history", "application/json"),
    ] {
        let answer = site.get(path).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        assert!(answer.contains(&format!("content-type: {content_type}")), "{path}: {answer}");
        for (name, value) in HEADERS {
            assert!(answer.contains(&format!("{name}: {value}\r\n")), "{path}: {name}");
        }
    }
    assert!(!POLICY.contains("unsafe") && POLICY.starts_with("default-src 'none'"));
}

#[test]
fn the_files_need_nothing_from_outside_and_make_no_markup_of_text() {
    for (file, text) in [("index.html", HTML), ("style.css", STYLE), ("page.js", SCRIPT)] {
        let outside = text.match_indices("//").filter(|(at, _)| text[..*at].ends_with("http:"));
        let foreign: Vec<_> =
            outside.filter(|(at, _)| !text[*at..].starts_with("//www.w3.org/2000/svg")).collect();
        assert!(
            foreign.is_empty() && !text.contains("https:") && !text.contains("@import"),
            "{file}: {foreign:?}"
        );
    }
    for word in
        ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "DOMParser"]
    {
        assert!(!SCRIPT.contains(word), "page.js: {word}");
    }
    for word in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
        assert!(!HTML.contains(word), "index.html: {word}");
    }
}

#[tokio::test]
async fn a_browser_is_told_everything_once_and_then_what_changes() {
    let site = Site::start(2, None).await;
    let mut browser = site.look().await;
    let first = browser.reads("event: sample").await;
    assert!(first.contains("text/event-stream") && first.contains("retry: 3000"), "{first}");
    let findings = first.split("event: findings\ndata: ").nth(1).expect("findings");
    // Content from a source cannot end its line, and so cannot become an event of its own.
    assert!(findings.starts_with('{') && first.contains(r"<img src=x>\n\nevent: bans"), "{first}");
    assert!(!first.contains("\nevent: bans\"") && first.matches("\nevent: bans\n").count() == 1, "{first}");
    for secret in ["203.0.113.9", "logged in", "state.json", "4711"] {
        assert!(!first.contains(secret), "{secret} is for the operator only: {first}");
    }
    let next = browser.reads("\"uptime_seconds\":3").await;
    assert!(next.contains("event: overview") && !next.contains("event: findings"), "{next}");
}

#[tokio::test]
async fn the_newest_browsers_have_the_seats_and_pictures_are_made_only_while_somebody_looks() {
    let site = Site::start(1, None).await;
    assert_eq!(*site.asked.borrow(), 0);
    let mut browser = site.look().await;
    browser.reads("event: overview").await;
    assert_eq!(site.metrics.clients.get(), 1);
    let mut newer = site.look().await;
    newer.reads("event: overview").await;
    // It gets the reason, and its stream ends.
    browser.reads("event: displaced\ndata: {}").await;
    browser.reads("\r\n0\r\n\r\n").await;
    assert_eq!((site.metrics.clients.get(), site.metrics.displaced_so_far()), (1, 1));
    newer.reads("event: overview").await;
    drop((browser, newer));
    let free = async {
        while site.metrics.clients.get() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, free).await.expect("the slot is free again");
    tokio::time::sleep(2 * Duration::from_secs(1)).await;
    let asked = *site.asked.borrow();
    tokio::time::sleep(3 * Duration::from_secs(1)).await;
    assert_eq!(*site.asked.borrow(), asked, "nobody looks");
    let mut browser = site.look().await;
    let said = browser.reads("event: overview").await;
    assert!(!said.contains("\"uptime_seconds\":1,"), "an old picture: {said}");
}

#[tokio::test]
async fn many_browsers_cost_the_agent_as_much_as_one() {
    let site = Site::start(8, None).await;
    let mut browsers = Vec::new();
    for _ in 0..8 {
        browsers.push(site.look().await);
    }
    for browser in &mut browsers {
        browser.reads("\"uptime_seconds\":3").await;
    }
    assert!(*site.asked.borrow() <= 6, "{}", *site.asked.borrow());
}

#[tokio::test]
async fn streams_end_with_the_agent() {
    let site = Site::start(1, None).await;
    let mut browser = site.look().await;
    browser.reads("event: overview").await;
    site.stop.send_replace(());
    let mut rest = Vec::new();
    // The connection stays open for other requests; the last, empty chunk ends the answer.
    timeout(PATIENCE, async {
        while !rest.ends_with(b"0\r\n\r\n") {
            let byte = browser.0.read_u8().await.expect("the end of the answer");
            rest.push(byte);
        }
    })
    .await
    .expect("the stream ends");
}

#[tokio::test]
async fn orders_need_the_token_and_json() {
    let site = Site::start(1, Some(TOKEN)).await;
    let json = "Content-Type: application/json\r\n";
    let right = format!("{json}Authorization: Bearer {TOKEN}\r\n");
    let body = r#"{"net":"192.0.2.7","seconds":60}"#;
    let done = site.order("ban", &right, body).await;
    assert!(
        done.starts_with("HTTP/1.1 200") && done.contains("Ban { net: 192.0.2.7/32, lasts: Some(60s)"),
        "{done}"
    );
    assert!(site.order("unban", &right, r#"{"net":"192.0.2.7"}"#).await.contains("Unban { net"));
    assert!(site.order("allow", &right, r#"{"net":"192.0.2.7"}"#).await.contains("Allow { net"));
    let wrong = site.order("ban", &right, r#"{"net":"me"}"#).await;
    assert!(wrong.starts_with("HTTP/1.1 400") && wrong.contains("no address or network"), "{wrong}");
    for order in ["mode", "disallow", "confirm"] {
        let answer = site.order(order, &right, "{}").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{order}: {answer}");
    }
    let form = format!("Content-Type: text/plain\r\nAuthorization: Bearer {TOKEN}\r\n");
    assert!(site.order("ban", &form, body).await.starts_with("HTTP/1.1 415"));
    let refused = site.order("ban", &format!("{json}Authorization: Bearer wrong\r\n"), body).await;
    assert!(refused.starts_with("HTTP/1.1 401") && refused.contains("www-authenticate: Bearer"), "{refused}");
    assert!(!refused.contains("Ban {"), "{refused}");
    for _ in 0..9 {
        assert!(site.order("ban", json, body).await.starts_with("HTTP/1.1 401"));
    }
    assert!(site.order("ban", &right, body).await.starts_with("HTTP/1.1 429"));
    let long = format!(r#"{{"net":"{}"}}"#, "1".repeat(crate::control::server::MAX_BODY));
    site.page.set_token(None);
    assert!(site.order("ban", &right, &long).await.starts_with("HTTP/1.1 403"));
}
