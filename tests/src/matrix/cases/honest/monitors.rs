//! Clients that watch whether services are there, or look for services on purpose.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpStream, UdpSocket},
    ops::Range,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{Case, Step, honest};
use crate::{
    fixtures::{
        clients::{ask_and_forget, at, serve, visit},
        lab::{ROUTED, SCANNER, VICTIM},
        stage::Stage,
    },
    matrix::cases::{nothing, servers},
};

const fn monitor(report: &'static str, name: &'static str, packets: u32, prepare: Step, act: Step) -> Case {
    honest("monitors and discovery", report, name, packets, act).after(prepare)
}

/// The services of one host: at higher ports they would seem to have begun for one connection each, as of passive FTP.
const SERVICES: Range<u16> = 801..826;
/// The exporters of one host that run.
const EXPORTERS: Range<u16> = 9100..9122;
/// Services with certificates.
const MAIL: [u16; 6] = [25, 465, 587, 143, 993, 995];
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(3);

fn serve_ports(stage: &mut Stage<'_>, ports: impl IntoIterator<Item = u16>) -> Result<()> {
    let services = serve(&stage.lab.victim, ports)?;
    stage.keep(services);
    Ok(())
}

/// Connects to a port where nobody listens, which must be refused.
fn refused(port: u16) -> Result<()> {
    let error = TcpStream::connect_timeout(&at(VICTIM, port), LIMIT).err();
    let error = error.with_context(|| format!("nobody should listen at {port}"))?;
    ensure!(error.kind() == ErrorKind::ConnectionRefused, "{port}: {error}");
    Ok(())
}

/// A server of SIP that wants a password of everybody.
fn telephony(stage: &mut Stage<'_>) -> Result<()> {
    let server = stage.lab.victim.enter(|| UdpSocket::bind((VICTIM, 5060)).context("bind"))?;
    server.set_read_timeout(Some(Duration::from_secs(20)))?;
    thread::spawn(move || {
        let mut packet = [0; 2048];
        while let Ok((_, from)) = server.recv_from(&mut packet) {
            // A client that is gone is no matter.
            let _ = server.send_to(b"SIP/2.0 401 Unauthorized\r\n\r\n", from);
        }
    });
    Ok(())
}

fn calls(stage: &mut Stage<'_>) -> Result<()> {
    stage.lab.scanner.enter(|| {
        let (signals, stream) = (UdpSocket::bind((SCANNER, 5060))?, UdpSocket::bind((SCANNER, 16_400))?);
        signals.set_read_timeout(Some(LIMIT))?;
        let mut answer = [0; 2048];
        for call in 0..10 {
            for _ in 0..2 {
                signals.send_to(b"REGISTER sip:shop.test SIP/2.0\r\n\r\n", at(VICTIM, 5060))?;
                signals.recv_from(&mut answer).context("an answer")?;
            }
            for _ in 0..30 {
                // A refusal of the one before is told here.
                let _ = stream.send_to(&[0x80; 172], at(VICTIM, 16_384 + call * 2));
                thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    })
}

/// nginx with TLS at the ports of mail, too.
fn certificates(stage: &mut Stage<'_>) -> Result<()> {
    servers::site(stage)?;
    let config = fs::read_to_string(stage.directory().join("nginx.conf"))?;
    let listen = MAIL.map(|port| format!(" listen {port} ssl;")).concat();
    let config = config.replacen(" listen 443 ssl;", &format!(" listen 443 ssl;{listen}"), 1);
    stage.file("nginx.conf", &config)?;
    stage.kill("nginx");
    stage.start("nginx", &stage.lab.victim, "nginx -p {dir} -e {dir}/error.log -c {dir}/nginx.conf")?;
    stage.await_port("nginx", &stage.lab.victim, 993)
}

pub(super) const CASES: &[Case] = &[
    monitor(
        "stamparm/maltrail#19359",
        "a monitor visits all 25 services of a host, twice",
        200,
        |stage| serve_ports(stage, SERVICES),
        |stage| {
            let rounds = SERVICES.chain(SERVICES);
            stage.lab.scanner.enter(|| rounds.into_iter().try_for_each(|port| Ok(visit(at(VICTIM, port))?)))
        },
    )
    .tested(),
    monitor(
        "prometheus/node_exporter#2913",
        "Prometheus scrapes 22 exporters of a host, and four that are down",
        300,
        |stage| serve_ports(stage, EXPORTERS),
        |stage| {
            stage.lab.scanner.enter(|| {
                for _ in 0..3 {
                    EXPORTERS.into_iter().try_for_each(|port| visit(at(VICTIM, port)))?;
                    [9187, 9216, 9256, 9308].into_iter().try_for_each(refused)?;
                    thread::sleep(Duration::from_secs(1));
                }
                Ok(())
            })
        },
    ),
    monitor(
        "haproxy/haproxy#560",
        "a balancer checks eight services at layer 4 and ends each check by a reset",
        100,
        |stage| serve_ports(stage, 3001..3009),
        |stage| {
            let mut source_port = 20_000;
            stage.lab.scanner.enter(|| {
                for _ in 0..10 {
                    for port in 3001..3009 {
                        source_port += 1;
                        ask_and_forget(SCANNER, source_port, at(VICTIM, port))?;
                    }
                    thread::sleep(Duration::from_millis(500));
                }
                Ok(visit(at(VICTIM, 3001))?)
            })
        },
    ),
    monitor(
        "pia-foss/desktop#39",
        "a client measures the way to 24 servers by a ping each, twice",
        48,
        nothing,
        |stage| {
            (1..=24)
                .chain(1..=24)
                .try_for_each(|host| stage.client(&format!("ping -q -n -c 1 -W 2 {ROUTED}.{host}")))
        },
    ),
    monitor(
        "docker-mailserver/docker-mailserver#3256",
        "a monitor looks at the certificates of seven services, three times",
        150,
        certificates,
        |stage| {
            [MAIL.as_slice(), &[443]].concat().repeat(3).into_iter().try_for_each(|port| {
                stage.client(&format!(
                    "openssl s_client -connect {{victim}}:{port} -servername mail.shop.test"
                ))
            })
        },
    ),
    monitor("ntop/ntopng#5255", "a client tries one closed port 60 times", 60, nothing, |stage| {
        stage.lab.scanner.enter(|| (0..60).try_for_each(|_| refused(2222)))
    }),
    monitor(
        "ntop/ntopng#2650",
        "a program looks for devices by SSDP, fetches what answers, and tries two more ports",
        10,
        |stage| serve_ports(stage, [5000]),
        |stage| {
            stage.lab.scanner.enter(|| {
                let socket = UdpSocket::bind((SCANNER, 0))?;
                for to in [at("239.255.255.250", 1900), at(VICTIM, 1900)] {
                    for _ in 0..3 {
                        // A refusal of the one before is told here.
                        let _ = socket.send_to(
                            b"M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nST: ssdp:all\r\n\r\n",
                            to,
                        );
                        thread::sleep(Duration::from_millis(200));
                    }
                }
                visit(at(VICTIM, 5000))?;
                [5357, 8008].into_iter().try_for_each(refused)
            })
        },
    ),
    monitor(
        "stamparm/maltrail#19379",
        "five browsers ask for their own address by STUN, seven times each, where nobody answers",
        35,
        nothing,
        |stage| {
            stage.lab.scanner.enter(|| {
                for _ in 0..5 {
                    let socket = UdpSocket::bind((SCANNER, 0))?;
                    for _ in 0..7 {
                        // As above.
                        let _ = socket.send_to(b"\0\x01\0\0\x21\x12\xa4\x42abcdefghijkl", at(VICTIM, 3478));
                        thread::sleep(Duration::from_millis(50));
                    }
                }
                Ok(())
            })
        },
    ),
    monitor(
        "fail2ban/fail2ban#2163",
        "a telephone whose stream goes on after ten calls are over",
        300,
        telephony,
        calls,
    ),
    monitor(
        "remyroy/CDDA-Game-Launcher#335",
        "a game's launcher speaks HTTP at a port of its own",
        20,
        |stage| serve_ports(stage, [8080]),
        |stage| {
            stage.lab.scanner.enter(|| {
                for _ in 0..5 {
                    let mut stream = TcpStream::connect_timeout(&at(VICTIM, 8080), LIMIT)?;
                    stream.set_read_timeout(Some(LIMIT))?;
                    stream
                        .write_all(b"GET /builds HTTP/1.1\r\nHost: a\r\nUser-Agent: requests/2.32\r\n\r\n")?;
                    let mut answer = Vec::new();
                    stream.read_to_end(&mut answer)?;
                    ensure!(!answer.is_empty(), "no answer");
                }
                Ok(())
            })
        },
    ),
];
