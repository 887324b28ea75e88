use std::net::SocketAddr;

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
};

use super::metrics::{Listener as Name, ListenerMetrics};
use super::*;
use crate::export::metrics::{Limits as Caps, Metrics};

/// Short enough for a test, long enough for a busy machine.
const LIMITS: Limits = Limits {
    connections: 4,
    head: Duration::from_millis(600),
    request: Duration::from_millis(1500),
    stall: Duration::from_secs(10),
    max_head: 8192,
    max_body: 100,
};
/// Far more than fits into the buffers of sockets.
const LARGE: usize = 64 << 20;

struct Server {
    address: SocketAddr,
    metrics: Metrics,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let caps = Caps { sources: 1, history: 1, findings: 1, visitors: 1 };
        let metrics = Metrics::new(caps, std::iter::empty()).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served: ListenerMetrics = metrics.listeners.clone();
        let task = tokio::spawn(async move {
            let router = Router::new()
                .route("/", get(|| async { "ok" }))
                .route("/slow", get(slow))
                .route("/large", get(|| async { vec![b'x'; LARGE] }))
                .route("/events", get(events))
                .route("/body", post(|body: axum::body::Bytes| async move { body.len().to_string() }));
            let open = move |stream| {
                let router = router.clone();
                async { Ok((stream, router)) }
            };
            serve(listener, limits, served.of(Name::Metrics), open, async {
                let _ = stopped.await;
            })
            .await;
        });
        Self { address, metrics, stop: Some(stop), task }
    }

    async fn connect(&self, says: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(says).await.unwrap();
        stream
    }

    /// The server's answer until it closes the connection.
    async fn answer(&self, says: &[u8]) -> String {
        rest(self.connect(says).await).await
    }

    fn count(&self, series: &str) -> usize {
        let page = String::from_utf8(self.metrics.encode().unwrap().to_vec()).unwrap();
        let line = page.lines().find(|line| line.starts_with(series)).unwrap_or_default();
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    fn cut_off(&self, reason: &str) -> usize {
        let labels = format!("{{listener=\"metrics\",reason=\"{reason}\"}}");
        self.count(&format!("scanguard_listener_cut_off_total{labels}"))
    }

    /// Waits for a count: the connection is closed a moment before it is counted.
    async fn expect(&self, reason: &str, count: usize) {
        for _ in 0..500 {
            if self.cut_off(reason) == count {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("{reason}: {} rather than {count}", self.cut_off(reason));
    }
}

async fn slow() -> &'static str {
    sleep(Duration::from_millis(900)).await;
    "slow"
}

async fn events() -> Response {
    let stream = futures_util::stream::unfold(0, |number| async move {
        sleep(Duration::from_millis(100)).await;
        Some((Ok::<_, io::Error>(format!("data: {number}\n\n")), number + 1))
    });
    ([("content-type", "text/event-stream")], Body::from_stream(stream)).into_response()
}

async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is also an end.
    let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "it is still open");
    String::from_utf8_lossy(&answer).into_owned()
}

const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let server = Server::start(LIMITS).await;
    let silent = server.connect(b"").await;
    let mut slow = server.connect(b"GET / HTTP/1.1\r\nX: ").await;
    let drip = async {
        // Single bytes are no progress.
        while slow.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(5), drip).await.expect("it is cut off");
    assert_eq!(rest(silent).await, "");
    server.expect("head_timeout", 2).await;
    assert!(server.answer(ASK).await.ends_with("ok"));
}

#[tokio::test]
async fn a_connection_that_is_kept_alive_waits_anew_for_each_request() {
    let server = Server::start(LIMITS).await;
    let mut stream = server.connect(b"").await;
    for _ in 0..3 {
        sleep(Duration::from_millis(300)).await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = [0; 2048];
        let length = stream.read(&mut answer).await.unwrap();
        assert!(answer[..length].ends_with(b"ok"));
    }
    assert_eq!(rest(stream).await, "");
    server.expect("head_timeout", 1).await;
}

#[tokio::test]
async fn an_answer_that_is_not_taken_ends_and_one_without_end_goes_on() {
    let server = Server::start(LIMITS).await;
    let never_reads = server.connect(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut events = server.connect(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.expect("request_timeout", 1).await;
    drop(never_reads);
    let mut buffer = [0; 4096];
    sleep(Duration::from_millis(500)).await;
    assert!(events.read(&mut buffer).await.unwrap() > 0, "it still comes");
    assert!(events.read(&mut buffer).await.unwrap() > 0);
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_an_endless_answer_is_given_up() {
    let server = Server::start(Limits { stall: Duration::from_millis(300), ..LIMITS }).await;
    let _never_reads = server.connect(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.expect("stalled", 1).await;
}

#[tokio::test]
async fn whoever_has_kept_it_waiting_longest_makes_room() {
    let server = Server::start(LIMITS).await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(server.connect(b"GET").await);
        if idle.len() % 8 == 0 {
            assert!(server.answer(ASK).await.ends_with("ok"));
        }
    }
    assert!(server.cut_off("displaced") >= 36, "{}", server.cut_off("displaced"));
    assert_eq!(server.cut_off("no_room"), 0);
    assert!(server.count("scanguard_listener_connections{listener=\"metrics\"}") <= 4);
}

#[tokio::test]
async fn who_is_being_answered_is_not_displaced() {
    let server = Server::start(LIMITS).await;
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(server.connect(b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await);
    }
    sleep(Duration::from_millis(200)).await;
    assert_eq!(server.answer(b"").await, "");
    server.expect("no_room", 1).await;
    for stream in asked {
        assert!(rest(stream).await.ends_with("slow"));
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let server = Server::start(LIMITS).await;
    let body = |length: usize| {
        let head = format!("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        [head.into_bytes(), vec![b'x'; length]].concat()
    };
    let chunked =
        b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n80\r\n";
    let chunked = [chunked.as_slice(), &[b'x'; 128], b"\r\n0\r\n\r\n"].concat();
    let head = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 9000], b"\r\n\r\n"].concat();
    for (says, status) in [(body(101), "413"), (chunked, "413"), (head, "431")] {
        let answer = server.answer(&says).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    server.expect("body_too_large", 1).await;
    server.expect("head_too_large", 1).await;
    let mut fits = server.connect(&body(100)).await;
    let mut answer = [0; 2048];
    let length = fits.read(&mut answer).await.unwrap();
    assert!(answer[..length].ends_with(b"100"));
}

#[tokio::test]
async fn what_is_no_http_is_cut_off_at_once() {
    let server = Server::start(LIMITS).await;
    // The beginning of a TLS hello, and noise.
    for says in [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], b"\x00\xff\xfe\r\n\r\n", b"SSH-2.0-x\r\n\r\n"]
    {
        let answer = server.answer(says).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    server.expect("invalid", 3).await;
}

#[tokio::test]
async fn at_the_end_what_is_under_way_is_finished_and_nothing_else_is_waited_for() {
    let mut server = Server::start(Limits { head: Duration::from_secs(60), ..LIMITS }).await;
    let idle = server.connect(b"GET").await;
    let events = server.connect(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let slow = server.connect(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    sleep(Duration::from_millis(300)).await;
    drop(server.stop.take());
    timeout(Duration::from_secs(2), &mut server.task).await.expect("it ends").unwrap();
    assert!(rest(slow).await.ends_with("slow"));
    assert_eq!(rest(idle).await, "");
    assert!(rest(events).await.contains("data: 0"));
}

#[tokio::test]
async fn an_end_does_not_wait_for_who_takes_nothing() {
    let mut server = Server::start(Limits { request: Duration::from_secs(60), ..LIMITS }).await;
    let _never_reads = server.connect(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    sleep(Duration::from_millis(200)).await;
    drop(server.stop.take());
    timeout(DRAIN * 2, &mut server.task).await.expect("it ends").unwrap();
}
