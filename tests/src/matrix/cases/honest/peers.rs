//! Members of meshes, clusters and swarms, which look for others of whom they were told.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Case, Step, addresses, honest};
use crate::{
    fixtures::{
        clients::{at, serve, visit},
        lab::{ROUTED, SCANNER, VICTIM},
        stage::Stage,
    },
    matrix::cases::nothing,
};

/// How long a peer waits for another one.
const SHORT: Duration = Duration::from_millis(150);
/// The same where the answer must come.
const LIMIT: Duration = Duration::from_secs(3);

const fn peer(report: &'static str, name: &'static str, packets: u32, prepare: Step, act: Step) -> Case {
    honest("meshes, clusters and swarms", report, name, packets, act).after(prepare)
}

/// A service of the watched host, which the peer uses in the end.
fn serve_port(stage: &mut Stage<'_>, port: u16) -> Result<()> {
    let services = serve(&stage.lab.victim, [port])?;
    stage.keep(services);
    Ok(())
}

/// An address of the routed network.
fn routed(host: u16, port: u16) -> SocketAddr {
    at(&format!("{ROUTED}.{host}"), port)
}

/// Tries to connect, whether somebody is there or not.
fn dial(to: SocketAddr) {
    // Most are gone.
    let _ = TcpStream::connect_timeout(&to, SHORT);
}

/// The same from this port.
fn dial_from(port: u16, to: SocketAddr) -> Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Closed by a reset, so that the port is free again at once.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&at(SCANNER, port).into())?;
    // As above.
    let _ = socket.connect_timeout(&to.into(), SHORT);
    Ok(())
}

/// Sends datagrams to each of these from one port, so many times.
fn send(port: u16, size: usize, times: u32, to: &[SocketAddr]) -> Result<()> {
    let socket = UdpSocket::bind((SCANNER, port))?;
    for _ in 0..times {
        for address in to {
            // A refusal of the one before is told here.
            let _ = socket.send_to(&vec![b'd'; size], address);
        }
        thread::sleep(Duration::from_millis(30));
    }
    Ok(())
}

/// Four connections of each of these hosts, the last of them ended by a reset.
fn federate(stage: &mut Stage<'_>) -> Result<()> {
    stage.lab.scanner.enter(|| {
        for (host, number) in (100..160).flat_map(|host| (0..4).map(move |number| (host, number))) {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&at(&format!("10.77.0.{host}"), 0).into())?;
            socket.connect_timeout(&at(VICTIM, 443).into(), LIMIT)?;
            if number == 3 {
                socket.set_linger(Some(Duration::ZERO))?;
            }
            socket.send(b"\x16\x03\x01\0\x05\x01\0\0\x01\0")?;
        }
        Ok(())
    })
}

pub(super) const CASES: &[Case] = &[
    peer(
        "tailscale/tailscale#7002",
        "a mesh tries the 20 addresses that its peers announce, three times",
        60,
        |stage| serve_port(stage, 443),
        |stage| {
            stage.lab.scanner.enter(|| {
                visit(at(VICTIM, 443))?;
                send(41_641, 148, 3, &(100..120).map(|host| routed(host, 41_641)).collect::<Vec<_>>())?;
                Ok(visit(at(VICTIM, 443))?)
            })
        },
    )
    .limited("one UDP port of many addresses, none of which answers, is a sweep on the wire"),
    peer(
        "sefinek/UFW-AbuseIPDB-Reporter#10",
        "a client of BitTorrent dials 25 peers that were behind one address",
        25,
        |stage| serve_port(stage, 31_000),
        |stage| {
            stage.lab.scanner.enter(|| {
                let ports = (0..15).map(|number| 10_007 + number * 1_301);
                let ports = ports.chain((0..6).map(|number| 50_001 + number * 100));
                ports.chain([6881, 6882, 6969, 8999]).for_each(|port| dial(at(VICTIM, port)));
                Ok(visit(at(VICTIM, 31_000))?)
            })
        },
    )
    .limited("closed ports of one host, one after another, are a scan on the wire"),
    peer(
        "hazelcast/hazelcast#16859",
        "a member of a cluster tries the three ports of a host where another may be",
        10,
        |stage| serve_port(stage, 5701),
        |stage| {
            stage.lab.scanner.enter(|| {
                (5701..=5703).for_each(|port| dial(at(VICTIM, port)));
                Ok(visit(at(VICTIM, 5701))?)
            })
        },
    )
    .tested(),
    peer(
        "hazelcast/hazelcast#21405",
        "a member of a cluster that is set to try twelve ports of a host",
        20,
        |stage| serve_port(stage, 5701),
        |stage| {
            stage.lab.scanner.enter(|| {
                (5701..=5712).for_each(|port| dial(at(VICTIM, port)));
                Ok(visit(at(VICTIM, 5701))?)
            })
        },
    )
    .limited("eleven closed ports in a row and one service are what a scan of a range meets"),
    peer(
        "bitmagnet-io/bitmagnet#84",
        "a node of a DHT asks 14 addresses of which others told, each at another port",
        14,
        nothing,
        |stage| {
            let to: Vec<_> = (130..144).map(|host| routed(host, 1024 + (host - 130) * 307)).collect();
            stage.lab.scanner.enter(|| send(3334, 149, 1, &to))
        },
    ),
    peer(
        "ipfs/kubo#10327",
        "a node dials three peers that are gone, by TCP and QUIC, three times",
        18,
        nothing,
        |stage| {
            stage.lab.scanner.enter(|| {
                [150, 151, 152].into_iter().try_for_each(|host| {
                    (0..3).try_for_each(|_| dial_from(4001, routed(host, 4001)))?;
                    send(4001, 1298, 3, &[routed(host, 4001)])
                })
            })
        },
    ),
    peer(
        "onflow/flow-go#2036",
        "a node connects to the twelve members of its network that it knows, four of which run",
        24,
        |stage| serve_port(stage, 3569),
        |stage| {
            stage.lab.scanner.enter(|| {
                (160..168).for_each(|host| dial(routed(host, 3570)));
                (168..172).try_for_each(|host| Ok(visit(routed(host, 3569))?))
            })
        },
    ),
    peer(
        "openethereum/parity-ethereum#2478",
        "a node pings ten others by UDP and dials them",
        20,
        nothing,
        |stage| {
            stage.lab.scanner.enter(|| {
                (180..190).try_for_each(|host| {
                    let to = routed(host, 30_301 + host % 5);
                    dial(to);
                    send(0, 130, 1, &[to])
                })
            })
        },
    ),
    peer(
        "thinkst/opencanary#227",
        "a spooler asks twelve printers that are gone by SNMP, three times",
        36,
        nothing,
        |stage| {
            let to: Vec<_> = (200..212).map(|host| routed(host, 161)).collect();
            stage.lab.scanner.enter(|| send(0, 60, 3, &to))
        },
    ),
    peer(
        "altstoreio/AltStore#332",
        "a phone looks for its computer's helper at twelve high ports",
        12,
        nothing,
        |stage| {
            stage.lab.scanner.enter(|| {
                (0..12).for_each(|number| dial(at(VICTIM, 50_000 + number * 137)));
                Ok(())
            })
        },
    ),
    peer(
        "MinaProtocol/mina#7053",
        "a node tries five peers that are gone at one port, twenty times",
        100,
        nothing,
        |stage| {
            stage.lab.scanner.enter(|| {
                (0..20).for_each(|_| (220..225).for_each(|host| dial(routed(host, 8302))));
                Ok(())
            })
        },
    ),
    peer(
        "sefinek/UFW-AbuseIPDB-Reporter#11",
        "a relay of Tor connects to six others, three of which are down",
        12,
        |stage| {
            serve_port(stage, 443)?;
            serve_port(stage, 9001)
        },
        |stage| {
            stage.lab.scanner.enter(|| {
                for (host, port) in [(230, 443), (231, 9001), (232, 443)] {
                    visit(routed(host, port))?;
                }
                for (host, port) in [(233, 9030), (234, 8080), (235, 9101)] {
                    dial(routed(host, port));
                }
                Ok(())
            })
        },
    ),
    peer(
        "duggytuxy/syswarden#21",
        "60 servers of a federation, each with four connections, one of which ends by a reset",
        900,
        |stage| {
            serve_port(stage, 443)?;
            let all: Vec<_> = (100..160).map(|host| format!("10.77.0.{host}")).collect();
            addresses(stage, &all.iter().map(String::as_str).collect::<Vec<_>>())
        },
        federate,
    ),
    peer(
        "ntop/ntopng#9219",
        "a host refuses when this host connects to 200 of its ports",
        200,
        nothing,
        |stage| {
            stage.lab.victim.enter(|| {
                (2000..2200).try_for_each(|port| {
                    let error = TcpStream::connect_timeout(&at(SCANNER, port), LIMIT).err();
                    let error = error.context("somebody listens")?;
                    ensure!(error.kind() == ErrorKind::ConnectionRefused, "{port}: {error}");
                    Ok(())
                })
            })
        },
    ),
    peer(
        "NethServer/dev#6626",
        "twenty visits of a device that offers explicit congestion notification",
        80,
        |stage| {
            stage.lab.scanner.sysctl("ipv4/tcp_ecn", "1")?;
            serve_port(stage, 80)
        },
        |stage| stage.lab.scanner.enter(|| (0..20).try_for_each(|_| Ok(visit(at(VICTIM, 80))?))),
    ),
];
