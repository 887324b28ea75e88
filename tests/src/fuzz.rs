//! Targets of the fuzzers: every parser of bytes that others write, with what must hold whatever they are.
//!
//! `cargo xtask fuzz` hands in what libFuzzer makes up; `tests/corpus` hands in the committed corpora, in CI.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use jiff::Timestamp;
use scanguard::{
    config::Config,
    content::{
        Hello, Query, Request, Said, Service,
        greeting::Greeting,
        lists::{Agents, Fingerprints, Paths},
        sample::{Place, Sample},
        streams::Streams,
    },
    control::{Answer, peer::Rights, server},
    crowdsec::decisions::{Decisions, Stream},
    detect::feeds::Feeds,
    export::{
        metrics::{Limits, Metrics},
        web::WebConfig,
    },
    logs::{self, format::Format, reader::Reader},
    observe::tools::SynTools,
    privileges::effective_user,
    replay::{capture::Capture, frame::Frames},
    respond::{
        LONGEST_BAN, cause::Cause, decided::Lifts, host_discovery, orders::OrderError, sockets, state::State,
    },
    sensor::FRAME_LENGTHS,
};
use scanguard_common::{
    classify::{self, Early},
    content::Begins,
    egress::{self, Outgoing},
    flow, inspect,
    outcome::{Outcome, Probe, ProbeClass, Segment, SegmentKind},
    wire::protocol,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    runtime,
    sync::mpsc,
};

/// A parser under test: its name, which is that of its corpus and of its file in `fuzz/targets`, and what is called. That
/// panics where something does not hold.
pub type Target = (&'static str, fn(&[u8]));

/// All.
pub const TARGETS: [Target; 16] = [
    ("capture", capture),
    ("config", config),
    ("control", control),
    ("decisions", decisions),
    ("dns", dns),
    ("feed", feed),
    ("greeting", greeting),
    ("host_tables", host_tables),
    ("http", http),
    ("list", list),
    ("log_line", log_line),
    ("log_state", log_state),
    ("packet", packet),
    ("state", state),
    ("tls", tls),
    ("web_config", web_config),
];

/// A capture of either format: what is read of it are frames that every sensor takes.
pub fn capture(bytes: &[u8]) {
    let Ok(mut capture) = Capture::open(bytes) else { return };
    let mut frames = Frames::default();
    while let Ok(Some(packet)) = capture.next_packet() {
        if let Some(frame) = frames.frame(&packet) {
            assert!(FRAME_LENGTHS.contains(&frame.bytes.len()), "{} bytes", frame.bytes.len());
            assert!(frame.captured <= frame.bytes.len(), "{} captured", frame.captured);
            black_box(inspect(&frame.bytes));
        }
    }
}

/// A configuration file: what is wrong is said with a line that there is.
pub fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Err(problems) = Config::parse(text) else { return };
    let lines = text.lines().count() + 1;
    for problem in &problems {
        assert!((1..=lines).contains(&problem.line), "{problem:?} of {lines} lines");
    }
    assert!(!problems.is_empty(), "refused without a reason");
}

/// Bytes of a client of the control socket: the server comes to an end, and all that it hands on is answered.
pub fn control(bytes: &[u8]) {
    // Nothing is waited for here: what the client has to say is there.
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (server, mut client) = UnixStream::pair().expect("a pair of sockets");
        let limits = Limits { sources: 1, history: 1, findings: 1, visitors: 1 };
        let metrics = Metrics::new(limits, std::iter::empty()).expect("metrics").control;
        let rights = Rights { own: effective_user(), group: None };
        let (requests, mut asked) = mpsc::channel(server::QUEUE);
        let agent = async {
            while let Some(scanguard::control::Request { answer, .. }) = asked.recv().await {
                // Whoever asked may have gone.
                _ = answer.send(Answer::Refused(OrderError::Confirm));
            }
        };
        let talk = async {
            let (mut from, mut to) = client.split();
            let mut answers = Vec::new();
            let write = async {
                // The server may hang up before it has read everything.
                _ = to.write_all(bytes).await;
                _ = to.shutdown().await;
            };
            let (_, read) = tokio::join!(write, from.read_to_end(&mut answers));
            if read.is_ok() {
                assert!(answers.is_empty() || answers.starts_with(b"HTTP/1."), "{}", answers.escape_ascii());
            }
        };
        tokio::join!(server::connection(server, rights, requests, metrics), agent, talk);
    });
}

/// An answer of CrowdSec's Local API, as all that holds and as what has changed: no more is kept than there is room for, a ban
/// lasts for a time that there is, and nobody is banned and let go at once.
pub fn decisions(bytes: &[u8]) {
    const MOST: u32 = 3;
    let mut decisions = Decisions::new("edge", MOST);
    for (full, minute) in [(false, 0), (true, 1), (false, 2)] {
        let Ok(stream) = serde_json::from_slice::<Stream>(bytes) else { return };
        let orders = decisions.take(stream, full, Duration::from_secs(60 * minute));
        assert!(orders.kept <= MOST as usize, "{orders:?}");
        for (net, cause) in &orders.decided.bans {
            let Cause::Crowdsec { scenario, lasts, .. } = cause else { panic!("{cause:?}") };
            assert!(!scenario.contains(char::is_control), "{scenario:?}");
            assert!(!lasts.is_zero() && *lasts <= LONGEST_BAN, "{lasts:?}");
            let is_lifted = match &orders.decided.lifts {
                Lifts::These(nets) => nets.contains(net),
                Lifts::AllBut(nets) => !nets.contains(net),
            };
            assert!(!is_lifted && net.trunc() == *net, "{net}");
        }
    }
}

/// A DNS message over UDP, and the same bytes over TCP.
pub fn dns(bytes: &[u8]) {
    check_events(protocol::UDP, 53, bytes);
    check_events(protocol::TCP, 53, bytes);
}

/// The first words of a client in another protocol, over UDP and over TCP.
pub fn greeting(bytes: &[u8]) {
    check_events(protocol::UDP, 161, bytes);
    check_events(protocol::TCP, 22, bytes);
}

/// A list of networks: all that were read are listed.
pub fn feed(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (feeds, wrong) = Feeds::parse("feed", &text);
    for (net, _) in feeds.networks().take(100) {
        for ip in [net.network(), net.broadcast()] {
            assert!(feeds.listing(&ip.into()).is_some(), "{ip} of {net}");
        }
    }
    assert!(wrong.len() <= text.lines().count());
}

/// Texts like /etc/resolv.conf and /proc/net/tcp: no more is read than there are lines.
pub fn host_tables(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().count();
    assert!(host_discovery::parse_resolvers(&text).len() <= lines);
    assert!(sockets::parse_sockets(&text).count() <= lines.saturating_sub(1), "the head is a row");
}

/// The beginning of an HTTP request or answer.
pub fn http(bytes: &[u8]) {
    check_events(protocol::TCP, 80, bytes);
}

/// A list of scanners' agents, of paths, of fingerprints: what was read of it is found.
pub fn list(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let lines = || text.lines().map(|line| line.trim().trim_start_matches('\u{feff}'));
    let entries = || lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    if let Ok(agents) = Agents::parse(text) {
        for entry in entries() {
            let agent = entry.strip_prefix('^').map_or(entry, str::trim);
            assert!(agents.tool(agent).is_some(), "{entry:?}");
        }
    }
    if let Ok(paths) = Paths::parse(text) {
        let is_application = |entry: &&str| entry.starts_with('[') && entry.ends_with(']');
        for entry in entries().filter(|entry| !is_application(entry)) {
            let path = entry.strip_prefix('!').map_or(entry, str::trim).trim_end_matches('*');
            assert!(paths.entry(path).is_some(), "{entry:?}");
        }
    }
    if let Ok(fingerprints) = Fingerprints::parse(text) {
        for fingerprint in entries().filter_map(|entry| entry.split_whitespace().next()) {
            assert!(fingerprints.tool(fingerprint).is_some(), "{fingerprint:?}");
        }
    }
    if let Ok(tools) = SynTools::parse(text) {
        assert_eq!(tools.after(&tools), tools);
    }
}

/// A line of an access log, of any format: whoever it is laid to is no address of this host's own.
pub fn log_line(bytes: &[u8]) {
    let settings = logs::settings::Settings {
        trusted_proxies: vec!["192.0.2.0/24".parse().expect("a network")],
        ..Default::default()
    };
    let reader = Reader::new(&settings);
    for mut format in [Format::Auto, Format::Combined, Format::Caddy, Format::Traefik] {
        if let Ok(said) = reader.read(&mut format, bytes, Timestamp::UNIX_EPOCH) {
            assert!(format != Format::Auto, "it was read");
            let ip = said.source.to_ip();
            assert!(!ip.is_loopback() && !settings.trusted_proxies[0].contains(&ip), "{ip}");
        }
    }
}

/// The file that says how far logs were read: what can be read is the same when it was written and read again.
pub fn log_state(bytes: &[u8]) {
    let Ok(state) = logs::state::State::parse(bytes) else { return };
    let written = serde_json::to_vec(&state).expect("it was read");
    assert_eq!(logs::state::State::parse(&written).expect("it was written"), state);
}

/// A frame: the early decision agrees with the thorough one, and where it looks at less, no other probe gets past it than one
/// that is also broken.
pub fn packet(frame: &[u8]) {
    const SALT: u64 = 0x5ca9;
    let thorough = inspect(&frame);
    // Neither addresses nor the lengths of segments are compared early.
    let is_overlooked = match thorough {
        Outcome::Exit(_) => true,
        Outcome::Probe(Probe { class, .. }) => matches!(class, ProbeClass::Land | ProbeClass::BadLength),
        Outcome::Segment(_) => false,
    };
    assert_eq!(classify::early_source(&frame), classify::early_flow(&frame).map(|flow| flow.source));
    match classify::early(&frame, SALT) {
        Early::Established => assert!(is_overlooked, "{thorough:?}"),
        Early::Acknowledgment { tag } => match thorough {
            Outcome::Segment(Segment { kind: SegmentKind::Acknowledgment, flow }) => {
                assert_eq!(tag, flow::tag(&flow, SALT));
            }
            Outcome::Segment(_) | Outcome::Probe(_) | Outcome::Exit(_) => {
                assert!(is_overlooked, "{thorough:?}");
            }
        },
        Early::Opening => {
            let flow = classify::early_flow(&frame).expect("an opening has a flow");
            assert_eq!(thorough, Outcome::Probe(Probe { class: ProbeClass::Syn, flow }));
        }
        Early::Undecided => {}
    }
    if egress::early(&frame).is_some() {
        match egress::outgoing(&frame) {
            Outgoing::Exit(_) => {}
            Outgoing::Datagram(flow) => {
                assert!(egress::early_datagram(&frame).is_none_or(|early| early == flow));
            }
            outcome @ (Outgoing::Answer(..) | Outgoing::Opening(_)) => {
                panic!("left out: {outcome:?}")
            }
        }
    }
}

/// The file of bans: what can be read is the same when it was written and read again.
pub fn state(bytes: &[u8]) {
    let Ok(state) = State::parse(bytes) else { return };
    let written = serde_json::to_vec(&state).expect("it was read");
    assert_eq!(State::parse(&written), Ok(state));
}

/// The beginning of a TLS hello.
pub fn tls(bytes: &[u8]) {
    check_events(protocol::TCP, 443, bytes);
}

/// A web.config file with its keys and passwords: an operator who names one is protected by it, or gets the reason why
/// not.
pub fn web_config(bytes: &[u8]) {
    let path = Path::new("/nonexistent/web.yml");
    match WebConfig::parse(bytes, path) {
        Ok(config) => assert!(config != WebConfig::default(), "it protects nothing"),
        Err(error) => assert!(error.to_string().starts_with("/nonexistent/web.yml: "), "{error}"),
    }
}

/// Texts of events are no longer than their bytes can become, and each event is of the kind that its payload begins
/// like.
fn check_events(protocol: u8, port: u16, bytes: &[u8]) {
    /// A byte becomes an escape of four characters, or a replacement character of three bytes, at most.
    const GROWTH: usize = 4;
    /// Bytes of a name of DNS (RFC 1035, 2.3.4): a few that point back at others can make one.
    const NAME: usize = 255;
    for begins in Begins::ALL {
        let service = Service::Endpoint { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), port, protocol };
        let sample = Sample {
            source: Ipv4Addr::LOCALHOST.into(),
            service,
            client_port: 40_000,
            begins,
            owned: true,
            place: Place {
                position: 0,
                len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                ends_head: false,
            },
            bytes,
        };
        for event in Streams::default().read(&sample, Duration::ZERO) {
            let (from, texts) = match event.said {
                Said::Request(Request { method, path, host, agent, referer, oddities, status, .. }) => {
                    assert!(oddities.len() <= 7 && status.is_none());
                    (Some(Begins::Request), vec![Some(method), Some(path), host, agent, referer])
                }
                Said::Status(code) => {
                    assert!((100..1000).contains(&code), "{code}");
                    (Some(Begins::Status), Vec::new())
                }
                Said::Hello(Hello { server_name, ja4 }) => {
                    assert!(server_name.is_some() || ja4.is_some(), "a hello that says nothing");
                    assert!(ja4.is_none_or(|ja4| ja4.len() == 36));
                    (Some(Begins::Hello), vec![server_name])
                }
                Said::Query(Query { name, .. }) => (Some(Begins::Query), vec![Some(name)]),
                Said::Answer(answer) => (Some(Begins::Answer), vec![Some(answer.name), answer.zone]),
                Said::Greeting(Greeting { tried, client, .. }) => {
                    let tried = tried.map(|(_, tried)| String::from_utf8_lossy(&tried).into_owned());
                    (Some(Begins::Greeting), vec![tried, client])
                }
                Said::Junk(_) => (None, Vec::new()),
            };
            assert!(from.is_none_or(|from| from == begins));
            let length: usize = texts.iter().flatten().map(String::len).sum();
            assert!(length <= GROWTH * bytes.len().max(NAME), "{texts:?}");
        }
    }
}
