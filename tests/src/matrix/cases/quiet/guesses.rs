//! Clients that try ports where nobody listens, or from which nothing comes back, and mean no harm.

use std::{
    net::{SocketAddr, TcpStream, UdpSocket},
    ops::RangeInclusive,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Case, client, datagrams, measured, quiet, services::each_second};
use crate::{
    fixtures::{
        clients::{Service, at, serve, serve_banners, visit},
        filter,
        lab::{ROUTED, SCANNER, SCANNER_INTERFACE, VICTIM},
        stage::Stage,
    },
    matrix::cases::nothing,
};

type Step = fn(&mut Stage<'_>) -> Result<()>;

/// How long a client waits for an answer: its stack has asked three times by then.
const PATIENCE: Duration = Duration::from_millis(3_500);
/// The greeting of a server of SSH, which is let through by the filter.
const SSH: Service = Service { port: 22, banner: "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n" };
/// The ports at which mail programs look for servers.
const MAIL: [u16; 7] = [25, 110, 143, 465, 587, 993, 995];
/// What Windows tries to open a share.
const SHARES: [u16; 3] = [445, 139, 80];
/// What programs that look for a printer try.
const PRINTERS: [u16; 3] = [515, 631, 9100];
/// A port knock, before SSH opens.
const KNOCK: [u16; 4] = [7000, 8000, 9000, 10_000];
/// Services that restart together.
const RESTARTING: [u16; 6] = [80, 443, 3000, 5432, 6379, 9090];
/// A client of the restarting services that begins when they are down.
const NEWCOMER: &str = "10.77.0.3";
/// The ports that a client of BitTorrent had, the last one first.
const TORRENT: [u16; 3] = [51_413, 6881, 49_160];
/// The last bytes of the addresses of its peers.
const PEERS: [u8; 2] = [100, 139];
/// Services that a monitor looks at.
const WATCHED: [u16; 10] = [21, 25, 80, 110, 143, 443, 587, 993, 5432, 9100];
/// Those of its list that are gone.
const GONE: [u16; 2] = [3306, 8080];
/// Clients of QUIC behind one address.
const QUIC_CLIENTS: usize = 40;

/// Nothing listens where they ask.
const fn closed(name: &'static str, packets: u32, prepare: Step, act: Step) -> Case {
    client(name, packets, prepare, act)
}

/// Nothing comes back from where they ask: all but SSH is dropped, whether somebody listens there or not.
const fn dropped(name: &'static str, packets: u32, act: Step) -> Case {
    quiet("clients of a host that drops", name, packets, act).after(only_ssh)
}

/// The same, and the services that a monitor looks at are let through.
const fn partly_dropped(name: &'static str, packets: u32, act: Step) -> Case {
    dropped(name, packets, act).after(ssh_and_watched)
}

pub(super) const CLOSED: &[Case] = &[
    closed("a mail program guesses seven ports of a host without mail, twice", 14, nothing, mail),
    closed(
        "a mail program guesses seven ports, two of which are open, twice",
        20,
        |stage| keep(stage, &[587, 993]),
        mail,
    ),
    closed("Windows tries to open a share: three rounds of 445, 139 and 80", 9, nothing, share),
    closed("a search for a printer: 515, 631 and 9100, twice", 6, nothing, printer),
    closed("a port knock of four ports, then SSH, twice", 16, ssh, knock_and_log_in),
    closed("a client of six services while they restart, and one that begins then", 100, nothing, restart),
    closed("stale peers: forty addresses dial ports that BitTorrent had", 100, peers, torrent),
    closed("a monitor of twelve ports, two of which are closed", 500, watched, monitor),
];

pub(super) const DATAGRAMS: &[Case] =
    &[datagrams("QUIC to a closed port by forty clients of one address", 120, quic)];

pub(super) const MEASURED: &[Case] = &[
    measured("traceroute by TCP to a closed port", 3, |stage| {
        stage.client("traceroute -n -T -p 443 {routed}.9")
    }),
    measured("tcptraceroute to four closed ports", 12, |stage| {
        [22, 80, 443, 8443]
            .into_iter()
            .try_for_each(|port| stage.client(&format!("tcptraceroute -n {ROUTED}.9 {port}")))
    }),
];

pub(super) const DROPPED: &[Case] = &[
    dropped("a mail program guesses seven ports, twice, and nothing comes back", 14, mail),
    dropped("Windows tries to open a share, three rounds, and nothing comes back", 9, share),
    dropped("a search for a printer, twice, and nothing comes back", 6, printer),
    dropped("a port knock of four ports that are dropped, then SSH, twice", 16, knock_and_log_in),
    dropped("stale peers of BitTorrent, to whom nothing comes back", 100, |stage| {
        peers(stage)?;
        torrent(stage)
    }),
    partly_dropped("a monitor of twelve ports, two of which are dropped", 500, monitor),
    dropped("QUIC to a port that drops by forty clients of one address", 120, quic),
    dropped("traceroute by TCP to a port that is dropped", 20, |stage| {
        stage.client("traceroute -n -T -w 1 -m 8 -p 8443 {victim}")
    }),
    partly_dropped("a visitor of a web site whose browser also tries a port that is dropped", 60, |stage| {
        stage.lab.scanner.enter(|| {
            for _ in 0..10 {
                dial(SCANNER, at(VICTIM, 8443), Duration::from_millis(300));
                visit(at(VICTIM, 80))?;
            }
            Ok(())
        })
    }),
];

/// Serves these ports as long as the case lasts.
fn keep(stage: &mut Stage<'_>, ports: &[u16]) -> Result<()> {
    let services = serve(&stage.lab.victim, ports.iter().copied())?;
    stage.keep(services);
    Ok(())
}

fn ssh(stage: &mut Stage<'_>) -> Result<()> {
    let services = serve_banners(&stage.lab.victim, &[SSH])?;
    stage.keep(services);
    Ok(())
}

fn watched(stage: &mut Stage<'_>) -> Result<()> {
    keep(stage, &WATCHED)
}

fn only_ssh(stage: &mut Stage<'_>) -> Result<()> {
    ssh(stage)?;
    watched(stage)?;
    filter::drop_all_but(&stage.lab.victim, &[SSH.port])
}

fn ssh_and_watched(stage: &mut Stage<'_>) -> Result<()> {
    ssh(stage)?;
    watched(stage)?;
    filter::drop_all_but(&stage.lab.victim, &[&[SSH.port], WATCHED.as_slice()].concat())
}

/// Tries to connect from an address, whether somebody is there or not.
fn dial(from: &str, to: SocketAddr, patience: Duration) {
    let connect = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&at(from, 0).into())?;
        socket.connect_timeout(&to.into(), patience)
    };
    // Most are refused, or hear nothing.
    let _ = connect();
}

/// Tries all of these ports at once.
fn dial_all(from: &str, ports: &[u16]) {
    thread::scope(|scope| {
        for port in ports {
            scope.spawn(|| dial(from, at(VICTIM, *port), PATIENCE));
        }
    });
}

/// Tries all of these ports at once, so many times.
fn rounds(stage: &Stage<'_>, times: u32, ports: &[u16]) -> Result<()> {
    stage.lab.scanner.enter(|| {
        for _ in 0..times {
            dial_all(SCANNER, ports);
            thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    })
}

fn mail(stage: &mut Stage<'_>) -> Result<()> {
    rounds(stage, 2, &MAIL)
}

fn share(stage: &mut Stage<'_>) -> Result<()> {
    rounds(stage, 3, &SHARES)
}

fn printer(stage: &mut Stage<'_>) -> Result<()> {
    rounds(stage, 2, &PRINTERS)
}

/// One SYN to each port in order, which nobody waits for; then a session.
fn knock_and_log_in(stage: &mut Stage<'_>) -> Result<()> {
    use std::io::{Read as _, Write as _};
    stage.lab.scanner.enter(|| {
        for _ in 0..2 {
            for port in KNOCK {
                dial(SCANNER, at(VICTIM, port), Duration::from_millis(100));
            }
            let mut session = TcpStream::connect_timeout(&at(VICTIM, SSH.port), PATIENCE)?;
            session.set_read_timeout(Some(PATIENCE))?;
            let mut greeting = [0; 30];
            session.read_exact(&mut greeting)?;
            session.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n")?;
            // The rest of it, until the server ends the session.
            session.read_to_end(&mut Vec::new())?;
            thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    })
}

/// Both clients try every service every two seconds while all are down.
fn restart(stage: &mut Stage<'_>) -> Result<()> {
    let lab = stage.lab;
    let visits =
        || lab.scanner.enter(|| RESTARTING.iter().try_for_each(|port| Ok(visit(at(VICTIM, *port))?)));
    lab.scanner.ip(&format!("addr add {NEWCOMER}/24 dev {SCANNER_INTERFACE}"))?;
    stage.nginx(&lab.victim, &RESTARTING)?;
    visits()?;
    stage.kill("nginx");
    lab.scanner.enter(|| {
        for _ in 0..5 {
            dial_all(SCANNER, &RESTARTING);
            dial_all(NEWCOMER, &RESTARTING);
            thread::sleep(Duration::from_secs(2));
        }
        Ok(())
    })?;
    stage.nginx(&lab.victim, &RESTARTING)?;
    visits()?;
    lab.scanner.enter(|| {
        dial_all(NEWCOMER, &RESTARTING);
        Ok(())
    })
}

fn all_peers() -> RangeInclusive<u8> {
    PEERS[0]..=PEERS[1]
}

fn peers(stage: &mut Stage<'_>) -> Result<()> {
    all_peers().try_for_each(|host| {
        stage.lab.scanner.ip(&format!("addr add 10.77.0.{host}/24 dev {SCANNER_INTERFACE}")).map(drop)
    })
}

/// Each peer by TCP and by UDP, twice; every fourth one knows older ports, too.
fn torrent(stage: &mut Stage<'_>) -> Result<()> {
    stage.lab.scanner.enter(|| {
        for _ in 0..2 {
            thread::scope(|scope| {
                let all: Vec<_> = all_peers().map(|host| scope.spawn(move || torrent_peer(host))).collect();
                let ended = all
                    .into_iter()
                    .map(|peer| peer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
                ended.collect::<Result<()>>()
            })?;
        }
        Ok(())
    })
}

fn torrent_peer(host: u8) -> Result<()> {
    let address = format!("10.77.0.{host}");
    let socket = UdpSocket::bind((address.as_str(), 6881))?;
    let known = if host.is_multiple_of(4) { TORRENT.len() } else { 1 };
    for port in &TORRENT[..known] {
        // The beginning of uTP; a refusal of the one before is told here.
        let _ =
            socket.send_to(b"\x41\x00\x12\x34\0\0\0\0\0\0\0\0\x00\x10\0\0\x00\x01\0\0", at(VICTIM, *port));
        dial(&address, at(VICTIM, *port), PATIENCE);
    }
    Ok(())
}

fn monitor(stage: &mut Stage<'_>) -> Result<()> {
    stage.lab.scanner.enter(|| {
        each_second(12, || {
            WATCHED.iter().try_for_each(|port| visit(at(VICTIM, *port)))?;
            GONE.iter().for_each(|port| dial(SCANNER, at(VICTIM, *port), Duration::from_millis(300)));
            Ok(())
        })
    })
}

/// The first datagram of a client of QUIC version 1 (RFC 9000, 17.2.2), of a connection with this number. What is sealed
/// in it is left out: nobody here could open it.
fn initial(connection: u8) -> Vec<u8> {
    const SIZE: usize = 1_200;
    let mut datagram = vec![0xc3, 0, 0, 0, 1, 8];
    datagram.extend([connection, 0x5a, 0x17, 0x93, 0xe2, 0x40, 0x0c, 0x71]);
    // No number of its own, and no token.
    datagram.extend([0, 0]);
    // The length of the rest in two bytes.
    let rest = u16::try_from(SIZE - datagram.len() - 2).unwrap_or(u16::MAX);
    datagram.extend((0x4000 | rest).to_be_bytes());
    let seal = |place: usize| place.wrapping_mul(2_654_435_761).to_le_bytes()[2] ^ connection;
    datagram.extend((datagram.len()..SIZE).map(seal));
    datagram
}

/// Each client asks three times, as long as nobody answers.
fn quic(stage: &mut Stage<'_>) -> Result<()> {
    stage.lab.scanner.enter(|| {
        let bind = || UdpSocket::bind((SCANNER, 0)).context("bind");
        let clients = (0..QUIC_CLIENTS).map(|_| bind()).collect::<Result<Vec<_>>>()?;
        for wait in [300, 600, 1_200] {
            for (number, client) in (0..).zip(&clients) {
                let datagram = initial(number);
                ensure!(datagram.len() == 1_200, "{} bytes", datagram.len());
                // A refusal of the one before is told here.
                let _ = client.send_to(&datagram, at(VICTIM, 443));
            }
            thread::sleep(Duration::from_millis(wait));
        }
        Ok(())
    })
}
