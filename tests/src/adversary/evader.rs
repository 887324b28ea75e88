//! Scans in forms that a parser may not follow, and ways around a ban. What the server's stack would follow is followed; what
//! cannot be followed is evidence of its own.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, ensure};
use scanguard_common::wire::{protocol, tcp_flags::*};

use super::{
    Position, Role, Row,
    bridge::Family,
    client::{Client, destination_options, ip_options, is_answered, is_answered_with, request},
    control::SCANNER,
    forge::{self, Forger, JUNK, Segment},
    outcome::Verdict,
    scene::{OPEN, Scene},
};
use crate::fixtures::{
    capture::Capture,
    frames::{chain, options},
    lab::{VICTIM_INTERFACE, run_within},
};

/// The first of the ports that are scanned; nobody listens at them.
const FIRST: u16 = 1_000;
/// How many they are.
const PORTS: u16 = 40;
/// `ETH_P_8021Q`.
const TAG: u16 = 0x8100;
/// `ETH_P_IP` and `ETH_P_IPV6`.
const TYPES: [(Family, u16); 2] = [(Family::V4, 0x0800), (Family::V6, 0x86dd)];
/// About as many bytes of options as a packet of 1,500 has room for beside a request.
const LONG: usize = 1_100;

const fn scan(name: &'static str, play: fn(&mut Scene<'_>) -> Result<Verdict>) -> Row {
    Row::script(Role::Evader, name, "the scan is found: a finding names its source", play)
}

const fn evasion(name: &'static str, must: &'static str, play: fn(&mut Scene<'_>) -> Result<Verdict>) -> Row {
    Row::script(Role::Evader, name, must, play)
}

pub(super) const ROWS: &[Row] = &[
    scan("a SYN scan behind seven IPv6 destination options headers", |scene| behind_headers(scene, 7)),
    scan("a SYN scan behind 20 IPv6 destination options headers", |scene| behind_headers(scene, 20)),
    scan("a SYN scan behind 150 IPv6 destination options headers", |scene| behind_headers(scene, 150)),
    scan("a SYN scan behind one IPv6 destination options header of 1,100 bytes", |scene| {
        let header = options(protocol::TCP, LONG);
        behind(scene, &header, protocol::DESTINATION_OPTIONS)
    }),
    scan("a SYN scan behind a hop-by-hop header of 1,100 bytes", |scene| {
        let header = options(protocol::TCP, LONG);
        behind(scene, &header, protocol::HOP_BY_HOP)
    }),
    scan("a SYN scan behind three VLAN tags", |scene| behind_tags(scene, 3)).from(Position::SameLink),
    scan("a SYN scan behind eight VLAN tags", |scene| behind_tags(scene, 8)).from(Position::SameLink),
    scan("a SYN scan in IPv6 fragments that could be whole (atomic fragments)", |scene| {
        let (family, scanner) = (Family::V6, Family::V6.attacker(1));
        each_port(scene, family, scanner, |forger, from, to| {
            let segment = forge::tcp(from, to, &syn())?;
            forger.fragment(from.ip(), to.ip(), protocol::TCP, (0, false), &segment)
        })?;
        found(scene, &[scanner])
    }),
    scan("a SYN scan in fragments of eight bytes", |scene| {
        both(scene, |scene, family, scanner| {
            each_port(scene, family, scanner, |forger, from, to| {
                let segment = forge::tcp(from, to, &syn())?;
                let (first, rest) = segment.split_at(8);
                forger.fragment(from.ip(), to.ip(), protocol::TCP, (0, true), first)?;
                forger.fragment(from.ip(), to.ip(), protocol::TCP, (1, false), rest)
            })
        })
    }),
    scan("a SYN scan in IPv6 fragments of which the first ends within its options", |scene| {
        let (family, scanner) = (Family::V6, Family::V6.attacker(1));
        each_port(scene, family, scanner, |forger, from, to| {
            // 16 bytes of destination options, of which the first fragment holds half.
            let options = [&[protocol::TCP, 1, 1, 12][..], &[0; 12]].concat();
            let packet = [options, forge::tcp(from, to, &syn())?].concat();
            let (first, rest) = packet.split_at(8);
            let options = protocol::DESTINATION_OPTIONS;
            forger.fragment(from.ip(), to.ip(), options, (0, true), first)?;
            forger.fragment(from.ip(), to.ip(), options, (1, false), rest)
        })?;
        found(scene, &[scanner])
    }),
    scan("nmap -sS -f", |scene| {
        let scanner = Family::V4.attacker(1);
        let mut nmap = scene.bridge.attacker.command("nmap");
        nmap.args("-n -Pn -e e0 -sS -f -p 1000-1040 --max-retries 1 -S".split(' ')).arg(scanner.to_string());
        run_within(nmap.arg(Family::V4.server().to_string()), Duration::from_secs(40))?;
        found(scene, &[scanner])
    }),
    scan("a SYN+ACK scan", |scene| with_flags(scene, SYN | ACK, b"")),
    scan("a SYN scan with ECN", |scene| with_flags(scene, SYN | 0xc0, b"")),
    scan("a SYN scan with data", |scene| with_flags(scene, SYN, b"GET / HTTP/1.0\r\n\r\n")),
    scan("an ACK scan", |scene| with_flags(scene, ACK, b"")),
    scan("an ACK scan with data", |scene| with_flags(scene, ACK | PSH, b"x")).limit(
        "a segment with data that belongs to no connection passes by the early decision, which every packet of every connection \
         takes: to ask the sockets for each of them would make connections dearer",
    ),
    scan("a FIN+ACK scan", |scene| with_flags(scene, FIN | ACK, b"")),
    scan("a URG scan", |scene| with_flags(scene, URG, b"")),
    scan("a SYN scan from the ports 53, 80 and 443, by turns", |scene| {
        both(scene, |scene, family, scanner| {
            for port in FIRST..FIRST + PORTS {
                let from = SocketAddr::new(scanner, [53, 80, 443][usize::from(port % 3)]);
                scene.forger.tcp(from, SocketAddr::new(family.server(), port), &syn())?;
            }
            Ok(())
        })
    }),
    scan("a UDP scan from port 53", |scene| {
        both(scene, |scene, family, scanner| {
            for port in FIRST..FIRST + PORTS {
                let to = SocketAddr::new(family.server(), port);
                scene.forger.udp(SocketAddr::new(scanner, 53), to, b"")?;
            }
            Ok(())
        })
    }),
    scan("a SYN scan with wrong checksums", |scene| {
        both(scene, |scene, family, scanner| {
            each_port(scene, family, scanner, |forger, from, to| {
                let mut segment = forge::tcp(from, to, &syn())?;
                segment[16] ^= 0x55;
                forger.ip(from.ip(), to.ip(), protocol::TCP, &segment)
            })
        })
    }),
    scan("a SYN scan of the open ports alone, aborted", |scene| {
        both(scene, |scene, family, scanner| {
            for (n, port) in (0..).zip(OPEN) {
                let (from, to) = (SocketAddr::new(scanner, 40_000 + n), SocketAddr::new(family.server(), port));
                scene.forger.tcp(from, to, &syn())?;
                scene.forger.tcp(from, to, &Segment { sequence: JUNK + 1, ..Segment::junk(RST) })?;
            }
            Ok(())
        })
    }),
    scan("a SYN scan that asks an open port after each closed one", |scene| {
        both(scene, |scene, family, scanner| {
            each_port(scene, family, scanner, |forger, from, to| {
                forger.tcp(from, to, &syn())?;
                forger.tcp(SocketAddr::new(from.ip(), to.port()), Scene::web(family), &syn())
            })
        })
    }),
    scan("a SYN scan of 240 ports, each from another /64 of one network", |scene| {
        for n in 1..=240 {
            let from = SocketAddr::new(Family::V6.attacker(n), 40_000);
            scene.forger.tcp(from, SocketAddr::new(Family::V6.server(), FIRST + u16::from(n)), &syn())?;
        }
        let scanners: Vec<_> = (1..=240).map(|n| Family::V6.attacker(n)).collect();
        scene.judged()?;
        let found = !scene.agent.findings().is_empty();
        Ok(Verdict::of(&if found { vec![] } else { vec![format!("no finding about {} sources", scanners.len())] }))
    }),
    evasion(
        "a scanner's request behind a short header of IPv6 destination options",
        "the scanner is banned for what it says",
        |scene| names_itself_behind(scene, 8),
    ),
    evasion(
        "a scanner's request behind 1,100 bytes of IPv6 destination options",
        "the scanner is banned for what it says",
        |scene| names_itself_behind(scene, LONG),
    ),
    evasion(
        "a scanner's request of which the first segment is one byte",
        "the scanner is banned for what it says",
        |scene| in_pieces(scene, &[1]),
    ),
    evasion(
        "a scanner's request in pieces of ten bytes",
        "the scanner is banned for what it says",
        |scene| in_pieces(scene, &[10; 30]),
    )
    .limit(
        "segments are looked at one by one, each for how it begins: what a client cuts into small pieces is not put together again. \
         The server's access log has it whole (`[logs]`)",
    ),
    evasion(
        "a request of a banned network, behind 1 KB of IPv6 options",
        "there is no answer",
        |scene| around_a_ban(scene, Family::V6, |socket| destination_options(socket, LONG)),
    ),
    evasion("a request of a banned address over IPv4, with 40 bytes of options", "there is no answer", |scene| {
        around_a_ban(scene, Family::V4, ip_options)
    }),
    evasion("a request of a banned network, behind a short header of IPv6 options", "there is no answer", |scene| around_a_ban(scene, Family::V6, |socket| destination_options(socket, 8))),
    evasion("SYNs of a banned network behind three VLAN tags, and in fragments", "there is no answer", raw_around_a_ban)
        .from(Position::SameLink),
];

fn syn() -> Segment<'static> {
    Segment { acknowledgment: 0, ..Segment::junk(SYN) }
}

/// Over IPv4 and IPv6, each from an address of its own.
fn both(scene: &Scene<'_>, scan: impl Fn(&Scene<'_>, Family, IpAddr) -> Result<()>) -> Result<Verdict> {
    let mut scanners = Vec::new();
    for family in Family::BOTH {
        let scanner = family.attacker(1);
        scan(scene, family, scanner)?;
        scanners.push(scanner);
    }
    found(scene, &scanners)
}

/// Whether there are findings about all of them.
fn found(scene: &Scene<'_>, scanners: &[IpAddr]) -> Result<Verdict> {
    let mut wrong = Vec::new();
    for scanner in scanners {
        if !scene.is_found_soon(*scanner)? {
            wrong.push(format!("no finding about {scanner}"));
        }
    }
    Ok(Verdict::of(&wrong))
}

/// From one port to each of the ports that are scanned.
fn each_port(
    scene: &Scene<'_>,
    family: Family,
    scanner: IpAddr,
    send: impl Fn(&Forger<'_>, SocketAddr, SocketAddr) -> Result<()>,
) -> Result<()> {
    for port in FIRST..FIRST + PORTS {
        send(&scene.forger, SocketAddr::new(scanner, 40_000), SocketAddr::new(family.server(), port))?;
    }
    Ok(())
}

fn with_flags(scene: &Scene<'_>, flags: u8, data: &'static [u8]) -> Result<Verdict> {
    both(scene, |scene, family, scanner| {
        each_port(scene, family, scanner, |forger, from, to| {
            let acknowledgment = if flags & ACK == 0 { 0 } else { JUNK };
            forger.tcp(from, to, &Segment { data, acknowledgment, ..Segment::junk(flags) })
        })
    })
}

/// A SYN scan over IPv6 with these extension headers before each SYN, the first of which is of this kind.
fn behind(scene: &Scene<'_>, headers: &[u8], first: u8) -> Result<Verdict> {
    let scanner = Family::V6.attacker(1);
    each_port(scene, Family::V6, scanner, |forger, from, to| {
        let segment = forge::tcp(from, to, &syn())?;
        forger.ip(from.ip(), to.ip(), first, &[headers, &segment].concat())
    })?;
    found(scene, &[scanner])
}

fn behind_headers(scene: &Scene<'_>, count: usize) -> Result<Verdict> {
    behind(scene, &chain(count, protocol::TCP, &[]), protocol::DESTINATION_OPTIONS)
}

/// Tags of VLAN 0 (priority tags), which the kernel takes off without a VLAN device.
fn tagged(count: usize, ether_type: u16, packet: &[u8]) -> (u16, Vec<u8>) {
    let inner = (1..count).flat_map(|_| [0, 0, 0x81, 0]);
    let tags: Vec<u8> = inner.chain([0, 0]).chain(ether_type.to_be_bytes()).collect();
    (TAG, [&tags, packet].concat())
}

fn behind_tags(scene: &Scene<'_>, count: usize) -> Result<Verdict> {
    let mut scanners = Vec::new();
    for (family, ether_type) in TYPES {
        let scanner = family.attacker(1);
        each_port(scene, family, scanner, |forger, from, to| {
            let segment = forge::tcp(from, to, &syn())?;
            let (_, packet) = forge::ip(from.ip(), to.ip(), protocol::TCP, &segment)?;
            let (tag, content) = tagged(count, ether_type, &packet);
            forger.frame(tag, &content)
        })?;
        scanners.push(scanner);
    }
    found(scene, &scanners)
}

/// A whole connection behind a header of options, in which a scanner says who it is.
fn names_itself_behind(scene: &Scene<'_>, bytes: usize) -> Result<Verdict> {
    let scanner = Family::V6.attacker(1);
    let to = Scene::web(Family::V6);
    let mut client =
        Client::connect_from(&scene.bridge.attacker, SocketAddr::new(scanner, 0), to, |socket| {
            destination_options(socket, bytes)
        })?;
    client.send(&request("/", Some(SCANNER), false))?;
    ensure!(client.status()? == 200, "the server does not take the options");
    let wrong = (!scene.is_banned_soon(scanner)?).then(|| format!("{scanner} is not banned"));
    Ok(Verdict::of(&wrong.into_iter().collect::<Vec<_>>()))
}

/// A request in segments of these lengths, and one of what is left.
fn in_pieces(scene: &Scene<'_>, lengths: &[usize]) -> Result<Verdict> {
    let mut wrong = Vec::new();
    for family in Family::BOTH {
        let scanner = family.attacker(1);
        let mut client = Client::connect(&scene.bridge.attacker, scanner, Scene::web(family))?;
        let request = request("/", Some(SCANNER), false);
        let mut rest = request.as_slice();
        for length in lengths {
            let (piece, left) = rest.split_at((*length).min(rest.len()));
            client.send(piece)?;
            // Each piece is on its way before the next is said.
            std::thread::sleep(Duration::from_millis(10));
            rest = left;
        }
        client.send(rest)?;
        ensure!(client.status()? == 200, "the scanner was not served");
        if !scene.is_banned_soon(scanner)? {
            wrong.push(format!("{scanner} is not banned"));
        }
    }
    Ok(Verdict::of(&wrong))
}

/// Bans the attacker's network by hand, and asks for a page with options before all that is said.
fn around_a_ban(
    scene: &Scene<'_>,
    family: Family,
    change: fn(&socket2::Socket) -> Result<()>,
) -> Result<Verdict> {
    let (banned, to) = (family.attacker(1), Scene::web(family));
    let attacker = &scene.bridge.attacker;
    ensure!(is_answered_with(attacker, banned, to, change), "the server does not take the options");
    ban(scene, banned)?;
    let mut wrong = Vec::new();
    if is_answered(attacker, banned, to) {
        wrong.push("it is answered without options".to_owned());
    }
    if is_answered_with(attacker, banned, to, change) {
        wrong.push("it is answered with options".to_owned());
    }
    Ok(Verdict::of(&wrong))
}

/// Bans the network of an address by hand.
pub(super) fn ban(scene: &Scene<'_>, ip: IpAddr) -> Result<()> {
    let net = match ip {
        IpAddr::V4(_) => ip.to_string(),
        IpAddr::V6(_) => format!("{}/64", network(ip)),
    };
    scene.agent.order(&["ban", &net]).map(drop)
}

/// The first address of its prefix.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => std::net::Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// SYNs of a banned address to an open port in forms that are hard to follow: none is answered.
fn raw_around_a_ban(scene: &mut Scene<'_>) -> Result<Verdict> {
    let mut wrong = Vec::new();
    for (family, ether_type) in TYPES {
        let banned = family.attacker(1);
        let answered = |port: u16| -> Result<[u64; 2]> {
            let ends = [port, port + 1].map(|port| SocketAddr::new(banned, port));
            let to = Scene::web(family);
            let mut answers = Capture::outgoing(&scene.bridge.server, VICTIM_INTERFACE)?;
            let (_, packet) = forge::ip(banned, to.ip(), protocol::TCP, &forge::tcp(ends[0], to, &syn())?)?;
            let (tag, content) = tagged(3, ether_type, &packet);
            scene.forger.frame(tag, &content)?;
            let segment = forge::tcp(ends[1], to, &Segment { data: b"12345678", ..syn() })?;
            // IPv6 takes no first fragment without the whole header (RFC 7112).
            let units = match family {
                Family::V4 => 2,
                Family::V6 => 3,
            };
            let (first, rest) = segment.split_at(usize::from(units) * 8);
            scene.forger.fragment(banned, to.ip(), protocol::TCP, (0, true), first)?;
            scene.forger.fragment(banned, to.ip(), protocol::TCP, (units, false), rest)?;
            scene.judged()?;
            answers.stop()?;
            let to =
                |end: SocketAddr| answers.count(&format!("dst host {banned} and dst port {}", end.port()));
            Ok([to(ends[0])?, to(ends[1])?])
        };
        let before = answered(40_000)?;
        ensure!(before[0] > 0 && before[1] > 0, "of these forms the server answers {before:?} without a ban");
        ban(scene, banned)?;
        let after = answered(40_100)?;
        if after != [0, 0] {
            wrong.push(format!("{banned} gets {after:?} answers behind tags and in fragments"));
        }
    }
    Ok(Verdict::of(&wrong))
}
