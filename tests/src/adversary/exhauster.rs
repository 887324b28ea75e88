//! Attacks on what the agent has little of: places for sources, findings and bans, bans a minute, samples a second. Afterwards a
//! real scanner is found and banned as ever, bans made by hand hold, and clients are served.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result};
use scanguard_common::wire::tcp_flags::{ACK, FIN, RST, SYN};

use super::{
    Position, Role, Row,
    bridge::Family,
    client::{Client, get, is_answered, request},
    control::{SCANNER, is_punished},
    evader::ban,
    forge::{JUNK, Segment},
    outcome::Verdict,
    scene::{OPEN, Scene},
};

const MUST: &str =
    "a real scanner is banned, bans made by hand hold, the mode stays enforce, clients are served";

const fn exhaustion(name: &'static str, play: fn(&mut Scene<'_>) -> Result<Verdict>) -> Row {
    Row::script(Role::Exhauster, name, MUST, play).from(Position::OffPath)
}

pub(super) const ROWS: &[Row] = &[
    exhaustion("600 forged sources with three NULL segments each", |scene| {
        survives(scene, |scene| forged_sources(scene, 600))
    }),
    exhaustion("5,000 forged sources with three NULL segments each, one after another", |scene| {
        survives(scene, |scene| forged_sources(scene, 5_000))
    }),
    exhaustion("300 forged sources where 100 bans have room", |scene| {
        survives(scene, |scene| forged_sources(scene, 300))
    })
    .with("max_bans = 100", ""),
    exhaustion("12,000 forged sources, more than findings have room", |scene| {
        survives(scene, |scene| forged_sources(scene, 12_000))
    }),
    exhaustion("NULL segments in the names of 120 clients, each of which has had a connection", |scene| {
        survives(scene, |scene| {
            for n in 60..120 {
                for family in Family::BOTH {
                    let client = family.client(n);
                    scene.served(client, family)?;
                    nulls(scene, client, family)?;
                }
            }
            Ok(())
        })
    }),
    exhaustion("3,000 requests forged in a client's connection within three seconds", |scene| {
        survives(scene, |scene| {
            for family in Family::BOTH {
                let client = family.client(14);
                let mut connection = Client::connect(&scene.bridge.clients, client, Scene::web(family))?;
                let as_scanner = request("/", Some(SCANNER), true);
                for _ in 0..1_500 {
                    scene.forger.tcp(
                        connection.end()?,
                        Scene::web(family),
                        &Segment::carrying(&as_scanner),
                    )?;
                }
                connection.send(&request("/", None, true))?;
                connection.status().context("the client's own request")?;
            }
            Ok(())
        })
    }),
    exhaustion("3,000 SYNs to open ports from as many forged sources, and as many resets", |scene| {
        survives(scene, |scene| {
            for (n, port) in (0..1_500).zip(OPEN.iter().cycle()) {
                let from = SocketAddr::new(forged(n), 40_000);
                let to = SocketAddr::new(Family::V4.server(), *port);
                scene.forger.tcp(from, to, &Segment { acknowledgment: 0, ..Segment::junk(SYN) })?;
                scene.forger.tcp(from, to, &Segment { sequence: JUNK + 1, ..Segment::junk(RST) })?;
            }
            Ok(())
        })
    }),
    exhaustion(
        "3,000 ACK and FIN+ACK segments with data and without, from as many forged sources",
        |scene| {
            survives(scene, |scene| {
                for n in 0..3_000 {
                    let flags = if n % 2 == 0 { ACK } else { FIN | ACK };
                    let data: &[u8] = if n % 3 == 0 { b"GET / HTTP/1.1\r\n" } else { b"" };
                    let to = Scene::web(Family::V4);
                    scene.forger.tcp(
                        SocketAddr::new(forged(n), 40_000),
                        to,
                        &Segment { data, ..Segment::junk(flags) },
                    )?;
                }
                Ok(())
            })
        },
    ),
    exhaustion(
        "one customer's 104 /64 prefixes, each of which says to be a scanner within a connection",
        |scene| {
            survives(scene, |scene| {
                for n in 100..204 {
                    let scanner = Family::V6.attacker(n);
                    get(&scene.bridge.attacker, scanner, Scene::web(Family::V6), "/", Some(SCANNER))?;
                }
                Ok(())
            })
        },
    )
    .from(Position::OwnAddress),
];

/// A source that is nobody's (RFC 2544).
fn forged(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + number).into()
}

fn forged_sources(scene: &Scene<'_>, count: u32) -> Result<()> {
    // Quickly: a second at most.
    scene.forger.pace(if count > 1_000 { Duration::from_micros(30) } else { Duration::from_micros(500) });
    for number in 0..count {
        nulls(scene, forged(number), Family::V4)?;
    }
    scene.forger.pace(Duration::from_millis(1));
    Ok(())
}

fn nulls(scene: &Scene<'_>, source: IpAddr, family: Family) -> Result<()> {
    for port in 1_000..1_003 {
        let to = SocketAddr::new(family.server(), port);
        scene.forger.tcp(SocketAddr::new(source, 40_000), to, &Segment::junk(0))?;
    }
    Ok(())
}

/// Plays an attack; after it nothing must be wrong.
fn survives(scene: &Scene<'_>, attack: impl FnOnce(&Scene<'_>) -> Result<()>) -> Result<Verdict> {
    for family in Family::BOTH {
        ban(scene, family.attacker(250))?;
    }
    let ((), bystander) = scene.beside_a_bystander(|scene| {
        attack(scene)?;
        scene.judged()
    })?;
    let mut wrong: Vec<String> = bystander.into_iter().collect();
    let status = scene.agent.json(&["status"])?;
    if status["response"]["mode"] != "enforce" {
        wrong.push(format!("the mode is {}", status["response"]["mode"]));
    }
    for family in Family::BOTH {
        let banned = family.attacker(250);
        if scene.banned(banned)?.is_none() || is_answered(&scene.bridge.attacker, banned, Scene::web(family))
        {
            wrong.push(format!("the ban of {banned} by hand does not hold"));
        }
        // A scanner that is not found keeps the row waiting.
        if wrong.is_empty() {
            wrong.extend(is_punished(scene, family, family.attacker(240))?);
        }
        wrong.extend(scene.fault_with(family.client(15), family)?);
    }
    Ok(Verdict::of(&wrong))
}
