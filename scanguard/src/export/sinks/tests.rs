//! Sinks that are down, slow, broken or full: the agent never waits for them, and losses are counted.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus::Registry;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket, UnixDatagram},
    time::sleep,
};

use super::{
    Inbox as _, Sinks,
    queue::Queue,
    settings::Settings,
    testing::{event, metrics, series},
};
use crate::{
    clock::Clock,
    config::Config,
    detect::findings::{EventKind, Finding},
};

/// Long enough for anything that works, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory that is removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("scanguard-sinks-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn settings(text: &str) -> Settings {
    Config::parse(text).expect("it is right").sinks
}

fn start(text: &str) -> (Sinks, Registry) {
    let (registry, metrics) = metrics();
    let mut sinks = Sinks::new(64, metrics);
    sinks.reconfigure(&settings(text), &mut std::iter::empty(), Clock::start().now());
    (sinks, registry)
}

/// The value of a series, summed over all sinks and reasons.
fn count(registry: &Registry, name: &str, label: &str) -> u64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == format!("scanguard_sink_{name}"));
    let metrics = family.map(prometheus::proto::MetricFamily::get_metric).unwrap_or_default();
    let wanted = metrics.iter().filter(|one| one.get_label().iter().any(|pair| pair.value() == label));
    wanted.map(|one| (one.get_counter().get_value() + one.get_gauge().get_value()) as u64).sum()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A server that reads requests and treats each as `answer` says: it sends a status line, or nothing at all.
async fn server(
    answer: impl Fn(usize) -> Option<&'static str> + Send + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&seen);
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !is_whole(&request) {
                match stream.read(&mut buffer).await {
                    Ok(length) if length > 0 => request.extend_from_slice(&buffer[..length]),
                    _ => break,
                }
            }
            let number = requests.lock().unwrap().len();
            requests.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
            match answer(number) {
                Some(status) => {
                    let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    let _ = stream.write_all(head.as_bytes()).await;
                }
                None => silent.push(stream),
            }
        }
    });
    (url, seen)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

#[tokio::test]
async fn a_queue_gives_up_its_oldest_and_counts_it() {
    let queue = Queue::new(2, series());
    for source in 1..=3 {
        queue.push(&Arc::new(event(source)));
    }
    assert_eq!(queue.left(), 2);
    assert_eq!(queue.next().await.unwrap().finding.id, "test-2");
    assert_eq!(queue.left(), 2, "what is under way is not delivered");
    queue.done();
    queue.close();
    assert_eq!(queue.next().await.unwrap().finding.id, "test-3");
    assert!(queue.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_nobody_reads_holds_nobody_up() {
    let scratch = Scratch::new();
    let pipe = scratch.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (sinks, registry) = start(&format!("[[sinks]]\nkind = \"file\"\npath = \"{pipe}\"\nqueue = 10\n"));
    let started = Instant::now();
    for _ in 0..100 {
        sinks.tell(event(1));
    }
    assert!(started.elapsed() < Duration::from_secs(5), "told within {:?}", started.elapsed());
    sinks.finish().await;
    assert!(started.elapsed() < Duration::from_secs(8), "ended within {:?}", started.elapsed());
    let lost = ["full", "ended"].map(|reason| count(&registry, "dropped_total", reason));
    assert_eq!((lost[0] + lost[1], count(&registry, "sent_total", "file")), (100, 0), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_counted_and_tried_again() {
    let (sinks, registry) = start("[[sinks]]\nkind = \"file\"\npath = \"/dev/full\"\n");
    sinks.tell(event(1));
    until("two attempts", || count(&registry, "failed_total", "file") >= 2).await;
    sinks.finish().await;
    assert_eq!(count(&registry, "dropped_total", "ended"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_may_be_moved_away_at_any_time_and_only_what_is_severe_enough_goes_there() {
    let scratch = Scratch::new();
    let (path, moved) = (scratch.path("findings.json"), scratch.path("findings.json.1"));
    let text = format!(
        "[[sinks]]\nkind = \"file\"\npath = \"{path}\"\n\
         [[sinks]]\nkind = \"file\"\nname = \"high\"\npath = \"{path}.high\"\nmin_severity = \"high\"\n"
    );
    let (sinks, registry) = start(&text);
    sinks.tell(event(1));
    until("the first line", || count(&registry, "sent_total", "file") == 1).await;
    fs::rename(&path, &moved).unwrap();
    sinks.tell(event(2));
    sinks.finish().await;
    let ids = |path| {
        let lines = fs::read_to_string(path).unwrap();
        let ids = lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].to_string());
        ids.collect::<Vec<_>>()
    };
    assert_eq!((ids(&moved), ids(&path)), (vec!["\"test-1\"".to_owned()], vec!["\"test-2\"".to_owned()]));
    assert!(!fs::exists(format!("{path}.high")).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_tried_until_it_answers_and_each_attempt_has_the_same_id() {
    let (url, seen) = server(|number| Some(if number < 2 { "500 Oops" } else { "204 No Content" })).await;
    let scratch = Scratch::new();
    let secret = scratch.path("secret");
    fs::write(&secret, "hunter2\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "[[sinks]]\nkind = \"webhook\"\nurl = \"{url}\"\nsecret_file = \"{secret}\"\nheaders = [\"X-Team: edge\"]\n\
         template = '{{\"text\": {{{{ reason }}}}, \"rule\": {{{{ rule }}}}}}'\n"
    );
    let (sinks, registry) = start(&text);
    sinks.tell(event(1));
    until("it is sent", || count(&registry, "sent_total", "webhook") == 1).await;
    assert_eq!(count(&registry, "failed_total", "webhook"), 2);
    sinks.finish().await;
    let requests = seen.lock().unwrap().clone();
    let header = |request: &str, name: &str| {
        let prefix = format!("{name}: ");
        request.lines().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned)).unwrap_or_default()
    };
    assert_eq!(requests.len(), 3);
    for request in &requests {
        assert_eq!(header(request, "webhook-id"), header(&requests[0], "webhook-id"));
        assert!(header(request, "webhook-signature").starts_with("v1,"), "{request}");
        assert_eq!(
            (header(request, "x-team"), header(request, "content-type")),
            ("edge".into(), "application/json".into())
        );
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["rule"], "vertical_scan");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_down_or_silent_or_says_no_loses_only_its_own_events() {
    // Nobody listens at port 9 of the loopback; if a program does, it is not a web server.
    let (silent, heard) = server(|_| None).await;
    let (no, _) = server(|_| Some("403 Forbidden")).await;
    let (yes, _) = server(|_| Some("200 OK")).await;
    let mut text = String::new();
    for (name, url) in [("down", "http://127.0.0.1:9/"), ("silent", &silent), ("no", &no), ("yes", &yes)] {
        text += &format!("[[sinks]]\nkind = \"webhook\"\nname = \"{name}\"\nurl = \"{url}\"\n");
    }
    let (sinks, registry) = start(&text);
    sinks.tell(event(1));
    sinks.tell(event(2));
    until("the others are told", || {
        count(&registry, "sent_total", "yes") == 2
            && count(&registry, "dropped_total", "no") == 2
            && count(&registry, "failed_total", "down") >= 2
            && heard.lock().unwrap().len() == 1
    })
    .await;
    let started = Instant::now();
    sinks.finish().await;
    assert!(started.elapsed() < Duration::from_secs(6), "ended within {:?}", started.elapsed());
    for name in ["down", "silent"] {
        assert_eq!(
            (count(&registry, "sent_total", name), count(&registry, "dropped_total", name)),
            (0, 2),
            "{name}"
        );
    }
    assert_eq!(count(&registry, "last_success_timestamp_seconds", "down"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_gets_one_datagram_with_the_fields_of_an_event() {
    let scratch = Scratch::new();
    let path = scratch.path("journal");
    let journal = UnixDatagram::bind(&path).unwrap();
    let (sinks, _) = start(&format!("[[sinks]]\nkind = \"journald\"\nsocket = \"{path}\"\n"));
    sinks.tell(event(7));
    let mut entry = vec![0; 64 << 10];
    let length = tokio::time::timeout(PATIENCE, journal.recv(&mut entry)).await.unwrap().unwrap();
    let entry = String::from_utf8(entry[..length].to_vec()).unwrap();
    for field in [
        "MESSAGE=vertical_scan opened from 192.0.2.7: ",
        "PRIORITY=4\n",
        "SYSLOG_IDENTIFIER=scanguard\n",
        "SCANGUARD_SOURCE=192.0.2.7\n",
        "SCANGUARD_TECHNIQUE=T1595.002\n",
        "SCANGUARD_FINDING={\"time\":",
    ] {
        assert!(entry.contains(field), "{field}: {entry}");
    }
    // After a restart, the journal listens at another socket of this name.
    drop(journal);
    fs::remove_file(&path).unwrap();
    let journal = UnixDatagram::bind(&path).unwrap();
    sinks.tell(event(8));
    let mut entry = [0; 64 << 10];
    tokio::time::timeout(PATIENCE, journal.recv(&mut entry)).await.unwrap().unwrap();
    sinks.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn syslog_goes_by_udp_by_tcp_with_counted_octets_and_to_the_local_socket() {
    let scratch = Scratch::new();
    let local = UnixDatagram::bind(scratch.path("log")).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut text = String::new();
    for (name, address) in [
        ("udp", format!("udp://{}", udp.local_addr().unwrap())),
        ("tcp", format!("tcp://{}", tcp.local_addr().unwrap())),
        ("local", format!("unix:{}", scratch.path("log"))),
    ] {
        text += &format!(
            "[[sinks]]\nkind = \"syslog\"\nname = \"{name}\"\naddress = \"{address}\"\nformat = \"text\"\n"
        );
    }
    let (sinks, registry) = start(&text);
    sinks.tell(event(7));
    let mut buffer = vec![0; 64 << 10];
    let length = udp.recv(&mut buffer).await.unwrap();
    let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
    let words: Vec<_> = message.splitn(8, ' ').collect();
    // daemon.warning
    assert_eq!((words[0], words[3], words[5]), ("<28>1", "scanguard", "opened"), "{message}");
    assert_eq!(words[1], "1970-01-01T00:00:01.000000Z", "{message}");
    assert!(words[6..].join(" ").starts_with("[origin software=\"scanguard\" swVersion=\""), "{message}");
    let length = local.recv(&mut buffer).await.unwrap();
    let started = format!("<28>scanguard[{}]: 1970", std::process::id());
    assert!(buffer[..length].starts_with(started.as_bytes()));

    let (mut stream, _) = tcp.accept().await.unwrap();
    let mut read = async || {
        let length = stream.read(&mut buffer).await.unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let frame = read().await;
    let (octets, rest) = frame.split_once(' ').unwrap();
    assert_eq!(octets.parse::<usize>().unwrap(), rest.len(), "{frame}");
    // The sink reconnects after the server closed the connection, and nothing is lost.
    drop(stream);
    until("the first is sent", || count(&registry, "sent_total", "tcp") == 1).await;
    sleep(Duration::from_millis(50)).await;
    sinks.tell(event(8));
    let (mut stream, _) = tokio::time::timeout(PATIENCE, tcp.accept()).await.unwrap().unwrap();
    let length = stream.read(&mut buffer).await.unwrap();
    assert!(String::from_utf8_lossy(&buffer[..length]).contains("192.0.2.8"));
    sinks.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alertmanager_is_told_again_while_an_alert_fires_and_once_of_its_end() {
    let (url, seen) = server(|_| Some("200 OK")).await;
    let base = url.trim_end_matches("/hook");
    let (sinks, _) =
        start(&format!("[[sinks]]\nkind = \"alertmanager\"\nurl = \"{base}/\"\nresend = \"1s\"\n"));
    sinks.tell(event(7));
    until("three times", || seen.lock().unwrap().len() >= 3).await;
    let mut closed = event(7);
    closed.kind = EventKind::Closed;
    sinks.tell(closed.clone());
    sinks.finish().await;
    let requests = seen.lock().unwrap().clone();
    let alert = |request: &str| {
        assert!(request.starts_with("POST /api/v2/alerts HTTP/1.1\r\n"), "{request}");
        let body = request.split_once("\r\n\r\n").unwrap().1;
        serde_json::from_str::<serde_json::Value>(body).unwrap()[0].clone()
    };
    let (first, last) = (alert(&requests[0]), alert(requests.last().unwrap()));
    assert_eq!(first["labels"], last["labels"]);
    assert_eq!(
        (&first["labels"]["source"], &first["labels"]["severity"]),
        (&"192.0.2.7".into(), &"medium".into())
    );
    assert!(first["endsAt"].as_str() > Some("2020"), "it ends when it is not told again: {first}");
    assert_eq!(last["endsAt"], closed.time.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_leaves_alone_what_stays_and_tells_a_new_alertmanager_what_is_going_on() {
    let (url, seen) = server(|_| Some("200 OK")).await;
    let base = url.trim_end_matches("/hook");
    let scratch = Scratch::new();
    let file = format!("[[sinks]]\nkind = \"file\"\npath = \"{}\"\n", scratch.path("findings"));
    let (mut sinks, registry) = start(&format!("{file}[[sinks]]\nkind = \"stdout\"\n"));
    sinks.tell(event(1));
    until("the file has it", || count(&registry, "sent_total", "file") == 1).await;
    let open: [Finding; 1] = [event(1).finding];
    let new = settings(&format!("{file}[[sinks]]\nkind = \"alertmanager\"\nurl = \"{base}\"\n"));
    sinks.reconfigure(&new, &mut open.iter(), Clock::start().now());
    until("the alert is told", || seen.lock().unwrap().len() == 1).await;
    sinks.tell(event(2));
    sinks.finish().await;
    let lines = fs::read_to_string(scratch.path("findings")).unwrap();
    assert_eq!(lines.lines().count(), 2, "what is going on is no news for a log: {lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alertmanager_that_comes_back_is_told_of_what_ended_meanwhile_also_at_the_end() {
    let (url, seen) = server(|number| Some(if number < 5 { "503 Not Yet" } else { "200 OK" })).await;
    let base = url.trim_end_matches("/hook");
    let (sinks, registry) = start(&format!("[[sinks]]\nkind = \"alertmanager\"\nurl = \"{base}\"\n"));
    sinks.tell(event(7));
    // The next attempt is at least a second away.
    until("three attempts", || count(&registry, "failed_total", "alertmanager") == 3).await;
    let mut closed = event(7);
    closed.kind = EventKind::Closed;
    sinks.tell(closed.clone());
    sinks.finish().await;
    assert!(seen.lock().unwrap().last().unwrap().contains(&format!("\"endsAt\":\"{}\"", closed.time)));
    assert_eq!(count(&registry, "dropped_total", "alertmanager"), 0);
    assert_eq!(count(&registry, "queue_length", "alertmanager"), 0);
}
