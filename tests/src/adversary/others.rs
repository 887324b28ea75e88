//! Attacks from other places: from within the machine, from the browser of a client, between two agents.

use std::{
    io::{self, Read as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use scanguard_common::wire::tcp_flags::SYN;

use super::{
    Position, Role, Row,
    bridge::Family,
    client::{Client, request},
    control::SCANNER,
    forge::Segment,
    outcome::Verdict,
    scene::{Scene, start},
};
use crate::fixtures::{clients, lab::Namespace, pinned::Bpffs};

/// Long enough for a memory of what ports met to be over, as the kernel's clock has it.
const OVER: Duration = Duration::from_secs(5);
/// The services that start while no agent runs.
const SERVICES: std::ops::Range<u16> = 8_081..8_095;

const fn other(
    name: &'static str,
    position: Position,
    must: &'static str,
    play: fn(&mut Scene<'_>) -> Result<Verdict>,
) -> Row {
    Row::script(Role::Other, name, must, play).from(position)
}

pub(super) const ROWS: &[Row] = &[
    other(
        "a local user makes connections with a client's address in a network namespace of his own, and says what scanners say",
        Position::LocalUser,
        "the client is served and not banned, no finding is about it",
        accuses,
    ),
    other(
        "with allow_spoofable: a local user vouches likewise for an address that then scans",
        Position::LocalUser,
        "the address is banned as one that never connected",
        vouches,
    )
    .with("allow_spoofable = true", ""),
    other(
        "a web page has its visitor's browser send a body that looks like requests",
        Position::WebPage,
        "the visitor is served and not banned",
        posts,
    ),
    other(
        "ports are probed while no agent runs (sensor.persist); services start there, and a client uses them",
        Position::OffPath,
        "the next agent does not ban the client: what a port met is not remembered for ever",
        between_agents,
    ),
    other(
        "a client that never logs in holds an SSH connection for 100 s, resets it and comes back from the same port",
        Position::OwnAddress,
        "its address does not get onto the list of those who are never banned",
        never_logs_in,
    )
    .slow(),
];

/// Connections within a namespace of the user's own, where any address is his. Without rights on the machine he has one by a
/// user namespace; to the kernel's TCP it is the same.
fn connections_of_a_user(source: IpAddr, family: Family, count: usize) -> Result<()> {
    let user = Namespace::new("user")?;
    user.sysctl("ipv6/ip_nonlocal_bind", "1")?;
    for ip in [source, family.server()] {
        user.ip(&format!("route add local {ip} dev lo"))?;
    }
    let server = Scene::web(family);
    let listener = user.enter(|| Ok(TcpListener::bind(server)?))?;
    let served = thread::spawn(move || -> Result<()> {
        for _ in 0..count {
            let (mut stream, _) = listener.accept()?;
            let mut said = [0; 64];
            ensure!(stream.read(&mut said)? > 0, "nothing was said");
        }
        Ok(())
    });
    for _ in 0..count {
        let mut client = Client::connect(&user, source, server)?;
        client.send(&request("/.env", Some(SCANNER), false))?;
    }
    served.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// 40 SYNs to closed ports and three NULL segments in the name of an address.
fn scan(scene: &Scene<'_>, source: IpAddr, family: Family) -> Result<()> {
    let from = SocketAddr::new(source, 40_000);
    for port in 1_000..1_040 {
        let flags = if port % 10 == 0 { 0 } else { SYN };
        let segment = Segment { acknowledgment: 0, ..Segment::junk(flags) };
        scene.forger.tcp(from, SocketAddr::new(family.server(), port), &segment)?;
    }
    scene.judged()
}

fn accuses(scene: &mut Scene<'_>) -> Result<Verdict> {
    let mut wrong = Vec::new();
    for family in Family::BOTH {
        let client = family.client(13);
        connections_of_a_user(client, family, 30)?;
        scene.judged()?;
        let rules = scene.rules(client);
        if !rules.is_empty() {
            wrong.push(format!("findings about {client}: {}", rules.join(", ")));
        }
        // Together with what anybody can forge.
        scan(scene, client, family)?;
        wrong.extend(scene.fault_with(client, family)?);
    }
    Ok(Verdict::of(&wrong))
}

fn vouches(scene: &mut Scene<'_>) -> Result<Verdict> {
    let mut wrong = Vec::new();
    for family in Family::BOTH {
        let scanner = family.attacker(40);
        connections_of_a_user(scanner, family, 30)?;
        scene.judged()?;
        scan(scene, scanner, family)?;
        if !scene.is_banned_soon(scanner)? {
            wrong.push(format!("{scanner} is not banned: the user's connections count for it"));
        }
    }
    Ok(Verdict::of(&wrong))
}

/// The request that a browser sends for `fetch(url, {method: "POST", mode: "no-cors", body})`: text/plain, which needs
/// no preflight.
fn posts(scene: &mut Scene<'_>) -> Result<Verdict> {
    // An odd length: sooner or later a segment begins where one of them does.
    let unit = "GET /.env HTTP/1.1\r\nHost: a\r\nUser-Agent: sqlmap\r\n\r\nXXXXXXXXXXXXXX\r\n";
    ensure!(unit.len() % 2 == 1, "{} bytes", unit.len());
    let body = unit.repeat(400_000 / unit.len());
    let mut wrong = Vec::new();
    for family in Family::BOTH {
        let visitor = family.client(13);
        let mut client = Client::connect(&scene.bridge.clients, visitor, Scene::web(family))?;
        let head = format!(
            "POST / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\nContent-Length: {}\r\nUser-Agent: Mozilla/5.0 (X11; Linux \
             x86_64) Chrome/140.0\r\nContent-Type: text/plain;charset=UTF-8\r\nAccept: */*\r\nOrigin: https://evil.example\r\n\
             Referer: https://evil.example/\r\n\r\n",
            body.len()
        );
        client.send(head.as_bytes())?;
        // The server may answer and close before all of it has come, or the ban comes before.
        let _ = client.send(body.as_bytes());
        scene.judged()?;
        wrong.extend(scene.fault_with(visitor, family)?);
    }
    Ok(Verdict::of(&wrong))
}

fn between_agents(scene: &mut Scene<'_>) -> Result<Verdict> {
    ensure!(scene.agent.stop()? == Some(0), "{}", scene.agent.said());
    let bpffs = Bpffs::mount()?;
    let config = format!(
        "[sensor]\npoll_interval = \"100ms\"\npersist = true\npin = \"{}\"\n[response]\nmode = \"enforce\"\n",
        bpffs.pin().display()
    );
    let config = scene.file("persist.toml", &config)?;
    scene.agent = start(scene.bridge, &config)?;
    scene.judged()?;
    scene.agent.process.signal(libc::SIGKILL);
    scene.agent.exit_code()?;
    // Each CPU remembers what a port met.
    on_each_cpu(|| {
        for family in Family::BOTH {
            for port in SERVICES {
                let from = SocketAddr::new(family.attacker(1), 40_000);
                let to = SocketAddr::new(family.server(), port);
                scene.forger.tcp(from, to, &Segment { acknowledgment: 0, ..Segment::junk(SYN) })?;
            }
        }
        Ok(())
    })?;
    thread::sleep(OVER);
    let services = clients::serve(&scene.bridge.server, SERVICES)?;
    for family in Family::BOTH {
        for port in SERVICES {
            let to = SocketAddr::new(family.server(), port);
            let mut client = Client::connect(&scene.bridge.clients, family.client(13), to)?;
            client.send(b"hello")?;
        }
    }
    scene.agent = start(scene.bridge, &config)?;
    scene.judged()?;
    let mut wrong = Vec::new();
    for family in Family::BOTH {
        let client = family.client(13);
        let rules = scene.rules(client);
        if !rules.is_empty() {
            wrong.push(format!("findings about {client}: {}", rules.join(", ")));
        }
        wrong.extend(scene.fault_with(client, family)?);
    }
    drop(services);
    ensure!(scene.agent.stop()? == Some(0), "{}", scene.agent.said());
    Ok(Verdict::of(&wrong))
}

/// Does something on each CPU that this thread may run on, one after another: what is sent over a veth pair arrives where it was sent.
fn on_each_cpu(act: impl Fn() -> Result<()>) -> Result<()> {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: a set of bits, for which zero is the empty set.
    let mut before: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: room for a set of that size; 0 is this thread.
    let result = unsafe { libc::sched_getaffinity(0, size, &raw mut before) };
    ensure!(result == 0, "sched_getaffinity: {}", io::Error::last_os_error());
    let bind = |set: &libc::cpu_set_t| {
        // SAFETY: a set of that size; 0 is this thread.
        let result = unsafe { libc::sched_setaffinity(0, size, set) };
        ensure!(result == 0, "sched_setaffinity: {}", io::Error::last_os_error());
        Ok(())
    };
    for cpu in 0..usize::try_from(libc::CPU_SETSIZE)? {
        // SAFETY: the number is below that of the set's bits.
        if unsafe { libc::CPU_ISSET(cpu, &before) } {
            // SAFETY: as above.
            let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
            // SAFETY: as above.
            unsafe { libc::CPU_SET(cpu, &mut one) };
            bind(&one)?;
            act()?;
        }
    }
    bind(&before)
}

fn never_logs_in(scene: &mut Scene<'_>) -> Result<Verdict> {
    const SSH: u16 = 22;
    const HOLD: Duration = Duration::from_secs(100);
    const ROUNDS: usize = 2;
    let (family, guest) = (Family::V4, Family::V4.attacker(1));
    let server = SocketAddr::new(family.server(), SSH);
    let listener = scene.bridge.server.enter(|| Ok(TcpListener::bind(server)?))?;
    let sessions = thread::spawn(move || -> Result<Vec<TcpStream>> {
        let accepted = listener.incoming().take(ROUNDS).collect::<Result<Vec<_>, _>>();
        Ok(accepted?)
    });
    for _ in 0..ROUNDS {
        let from = SocketAddr::new(guest, 40_022);
        let client = Client::connect_from(&scene.bridge.attacker, from, server, |socket| {
            // Closed by a reset, so that the port is free at once.
            Ok(socket.set_linger(Some(Duration::ZERO))?)
        })?;
        thread::sleep(HOLD);
        drop(client);
    }
    drop(sessions.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
    let status = scene.agent.json(&["status"])?;
    let allowed = status["response"]["allowed"].as_array().context("allowed")?;
    let spared = allowed
        .iter()
        .any(|allowed| allowed["net"].as_str().is_some_and(|net| net.starts_with(&guest.to_string())));
    let wrong = spared.then(|| format!("{guest} is never banned any more"));
    Ok(Verdict::of(&wrong.into_iter().collect::<Vec<_>>()))
}
