//! Hostile clients of the metrics listener and of the control socket: the agent goes on, answers others, and does not grow.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::{
    fixtures::{
        agent::{LISTEN, Metrics},
        lab::{Namespace, PATIENCE, wait_for},
        scenario::Scenario,
    },
    tables::scans::SCANS,
};

use crate::trial;

/// Of heads and bodies.
const HUGE: usize = 10 << 20;
/// One after the other, each left open as long as the agent lets it.
const CONNECTIONS: usize = 3_000;
/// As many more as both have room for, and one that is just accepted.
const DESCRIPTORS: usize = 64 + 32 + 1;
/// Of memory: buffers of as many connections as there can be.
const BYTES: f64 = 16e6;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("fault: hostile clients of the metrics listener keep nobody from a scrape", || {
            attack(Door::Metrics)
        }),
        trial("fault: hostile clients of the control socket keep nobody from an answer", || {
            attack(Door::Control)
        }),
        trial("the metrics listener serves nothing but what it has, however a path is written", paths),
    ]
}

trait Stream: Read + Write + Send {
    /// No more is written.
    fn end(&self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Stream for UnixStream {
    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// Which of the two is attacked.
#[derive(Clone, Copy)]
enum Door {
    Metrics,
    Control,
}

impl Door {
    const fn label(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Control => "control",
        }
    }

    /// The way to something that is there.
    const fn path(self) -> &'static str {
        match self {
            Self::Metrics => "/metrics",
            Self::Control => "/v1/status",
        }
    }

    fn socket(namespace: &Namespace) -> PathBuf {
        namespace.directory().join("control.sock")
    }

    /// Within the namespace.
    fn connect(self, namespace: &Namespace) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Metrics => {
                let stream = TcpStream::connect(LISTEN)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
            Self::Control => {
                let stream = UnixStream::connect(Self::socket(namespace))?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
        }
    }

    fn cut_off(self, page: &Metrics, reason: &str) -> f64 {
        let listener = self.label();
        page.get(&format!("scanguard_listener_cut_off_total{{listener=\"{listener}\",reason=\"{reason}\"}}"))
    }
}

/// Sends something and reads the answer until the end; a reset is an end.
fn exchange(mut stream: Box<dyn Stream>, says: &[u8]) -> Result<String> {
    let written = stream.write_all(says);
    if written.is_ok() {
        // Whoever was cut off already has no end to write.
        let _ = stream.end();
    }
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        let is_end = matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
        ensure!(is_end, "{error} after {} bytes", answer.len());
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Whatever is no request: each has to be refused, or the connection ended.
fn junk(path: &str) -> Vec<(&'static str, Vec<u8>)> {
    let huge = vec![b'x'; HUGE];
    let head = |lines: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes();
    let mut noise = 0x9e37_79b9_u32;
    let mut random = || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise.to_be_bytes()[0]
    };
    vec![
        ("10 MiB of a header", [b"GET / HTTP/1.1\r\nX: ".as_slice(), &huge, b"\r\n\r\n"].concat()),
        ("a path of 10 MiB", [b"GET /".as_slice(), &huge, b" HTTP/1.1\r\n\r\n"].concat()),
        ("10 MiB of headers", [b"GET / HTTP/1.1\r\n".to_vec(), b"X: y\r\n".repeat(HUGE / 6)].concat()),
        ("10 MiB of a body", [head(&format!("Content-Length: {HUGE}\r\n")), huge.clone()].concat()),
        ("a length that nobody has", head("Content-Length: 99999999999999999999\r\n")),
        ("two lengths", head("Content-Length: 1\r\nContent-Length: 2\r\n")),
        (
            "a chunk that nobody has",
            [head("Transfer-Encoding: chunked\r\n"), b"ffffffffffffffffff\r\n".to_vec()].concat(),
        ),
        ("half a request", b"GET /metrics HT".to_vec()),
        ("a hello of TLS", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("a proxy's request", b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("zeros", vec![0; 100_000]),
        ("noise", (0..100_000).map(|_| random()).collect()),
        ("nothing", Vec::new()),
    ]
}

fn attack(door: Door) -> Result<()> {
    Scenario::defaults()?.with(&["--format", "json"]).run(|lab, agent| {
        let pid = agent.process.child.id();
        let descriptors = || Ok::<_, io::Error>(fs::read_dir(format!("/proc/{pid}/fd"))?.count());
        let before = agent.settled()?;
        let (at_first, started) = (descriptors()?, Instant::now());
        let (polls, memory) = ("scanguard_poll_duration_seconds_count", "process_resident_memory_bytes");
        let is_over = AtomicBool::new(false);
        let most = thread::scope(|scope| {
            // Those that keep it waiting, over and over.
            let slow = scope.spawn(|| lab.victim.enter(|| keep_waiting(door, &lab.victim, &is_over)));
            let result = (|| {
                for (what, says) in junk(door.path()) {
                    let answer = lab.victim.enter(|| exchange(door.connect(&lab.victim)?, &says))?;
                    ensure!(!answer.starts_with("HTTP/1.1 2"), "{what}: {answer}");
                    let page = agent.metrics().with_context(|| format!("a scrape after {what}"))?;
                    ensure!(page.packets() >= before.packets(), "{what}");
                }
                let mut most = 0;
                for round in 0..10 {
                    let held = lab.victim.enter(|| {
                        let connections = (0..CONNECTIONS / 10).map(|_| door.connect(&lab.victim));
                        Ok(connections.collect::<io::Result<Vec<_>>>()?)
                    })?;
                    most = most.max(descriptors()?);
                    agent.metrics().with_context(|| format!("a scrape in round {round}"))?;
                    agent.order(&["status"]).with_context(|| format!("an answer in round {round}"))?;
                    drop(held);
                }
                // Detection goes on in the midst of it.
                SCANS[0].run(lab)?;
                let is_found = || agent.opened().contains_key("vertical_scan").then_some(());
                wait_for("the scan is found", PATIENCE, is_found)?;
                Ok::<_, anyhow::Error>(most)
            })();
            is_over.store(true, Ordering::Relaxed);
            slow.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            result
        })?;
        let series = format!("scanguard_listener_connections{{listener=\"{}\"}}", door.label());
        let silent = lab.victim.enter(|| Ok(door.connect(&lab.victim)?))?;
        wait_for("silent clients are cut off", PATIENCE, || {
            agent.metrics().ok().filter(|page| door.cut_off(page, "head_timeout") > 0.0)
        })?;
        drop(silent);
        let page = wait_for("nobody is left", PATIENCE, || {
            // A scrape is a connection, too.
            agent.metrics().ok().filter(|page| page.get(&series) <= 1.0)
        })?;
        ensure!(most <= DESCRIPTORS + at_first, "{most} descriptors, {at_first} at first");
        // Every second, as configured; half as often would do on a busy machine.
        let (polled, took) = (page.get(polls) - before.get(polls), started.elapsed());
        ensure!(polled >= took.as_secs_f64() / 2.0, "{polled} polls within {took:?}");
        let grown = page.get(memory) - before.get(memory);
        ensure!(grown <= BYTES, "it grew by {grown} bytes");
        for reason in ["displaced", "head_timeout", "head_too_large", "invalid", "body_too_large"] {
            ensure!(door.cut_off(&page, reason) > 0.0, "{reason}: {page:?}");
        }
        println!(
            "{}: at most {most} descriptors, {grown} bytes more after {CONNECTIONS} connections",
            door.label()
        );
        Ok(())
    })
}

/// Byte by byte, saying nothing, and asking without ever reading.
fn keep_waiting(door: Door, namespace: &Namespace, is_over: &AtomicBool) -> Result<()> {
    let ask = format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", door.path());
    let endless = format!("GET {} HTTP/1.1\r\nX: {}", door.path(), "x".repeat(4096));
    let mut slow = Vec::new();
    let mut place = 0;
    while !is_over.load(Ordering::Relaxed) {
        if slow.len() < 30 {
            slow.push(door.connect(namespace)?);
            // Does not read what it asked for; so many do not fit anywhere.
            let mut never_reads = door.connect(namespace)?;
            let _ = never_reads.write(ask.repeat(20).as_bytes());
            slow.push(never_reads);
        }
        let byte = &endless.as_bytes()[place % endless.len()..][..1];
        // Those that were cut off make room for the next.
        slow.retain_mut(|stream| stream.write_all(byte).is_ok());
        place += 1;
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn paths() -> Result<()> {
    Scenario::defaults()?.run(|lab, agent| {
        for path in [
            "/../etc/passwd",
            "/../../../../etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/..%2f..%2fetc%2fpasswd",
            "/metrics/../../etc/passwd",
            "//metrics",
            "//etc/passwd",
            "/metrics%00",
            "/metrics/",
            "/METRICS",
            "/.git/config",
            "/v1/status",
        ] {
            let (status, body) = agent.get(path)?;
            ensure!(status == 404 && !body.contains("root:"), "{path}: {status}: {body}");
        }
        for says in ["GET http://169.254.169.254/metrics HTTP/1.1\r\nHost: a\r\n", "GET * HTTP/1.1\r\n"] {
            let says = format!("{says}Connection: close\r\n\r\n");
            let answer =
                lab.victim.enter(|| exchange(Door::Metrics.connect(&lab.victim)?, says.as_bytes()))?;
            ensure!(
                answer.is_empty() || answer.contains("HTTP/1.1 4") || answer.contains("scanguard_"),
                "{answer}"
            );
        }
        Ok(())
    })
}
