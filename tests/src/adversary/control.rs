//! No attacks on the sensor: what is really done is found and answered. An agent that does nothing would withstand most
//! attacks.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{
    Role, Row,
    bridge::Family,
    client::{self, Client, hello, is_answered, request},
    outcome::Verdict,
    scene::Scene,
};
use crate::fixtures::lab::run_within;

/// Says what no browser says.
pub(super) const SCANNER: &str = "sqlmap/1.7.2#stable (https://sqlmap.org)";

const fn control(name: &'static str, must: &'static str, play: fn(&mut Scene<'_>) -> Result<Verdict>) -> Row {
    Row::script(Role::Control, name, must, play)
}

pub(super) const ROWS: &[Row] = &[
    control(
        "a scanner that names itself within a connection of its own",
        "it is banned and gets no answer any more, over IPv4 and IPv6",
        names_itself,
    ),
    control(
        "a scanner that names itself in the second request of a connection",
        "it is banned, over IPv4 and IPv6",
        names_itself_later,
    ),
    control(
        "a scanner that names itself, where the server answers with SYN cookies",
        "it is banned and gets no answer any more, over IPv4 and IPv6",
        |scene| {
            scene.bridge.server.sysctl("ipv4/tcp_syncookies", "2")?;
            names_itself(scene)
        },
    ),
    control(
        "a scanner of TLS: 20 kinds of hellos, each by a connection of its own",
        "it is banned, over IPv4 and IPv6",
        hellos,
    ),
    control("nmap -sS", "the scan is found", half_open_scan),
    control("nmap -sN, which is to be a NULL scan", "the scan is found", null_scan),
    control("clients that ask for a page", "they are served, and there is no finding", honest),
];

fn names_itself(scene: &mut Scene<'_>) -> Result<Verdict> {
    let mut wrong = Vec::new();
    for family in Family::BOTH {
        let scanner = family.attacker(1);
        wrong.extend(is_punished(scene, family, scanner)?);
        let client = family.client(11);
        wrong.extend(scene.fault_with(client, family)?);
    }
    Ok(Verdict::of(&wrong))
}

fn names_itself_later(scene: &mut Scene<'_>) -> Result<Verdict> {
    let mut wrong = Vec::new();
    for family in Family::BOTH {
        let scanner = family.attacker(1);
        let mut client = Client::connect(&scene.bridge.attacker, scanner, Scene::web(family))?;
        for agent in [None, Some(SCANNER)] {
            client.send(&request("/", agent, true))?;
            ensure!(client.status()? == 200, "the scanner was not served");
        }
        if !scene.is_banned_soon(scanner)? {
            wrong.push(format!("{scanner} is not banned; findings: {:?}", scene.rules(scanner)));
        }
    }
    Ok(Verdict::of(&wrong))
}

/// The fault with a real scanner, if there is one: it is not banned for what it says, or still answered.
pub(super) fn is_punished(
    scene: &Scene<'_>,
    family: Family,
    scanner: std::net::IpAddr,
) -> Result<Option<String>> {
    let attacker = &scene.bridge.attacker;
    let status = client::get(attacker, scanner, Scene::web(family), "/", Some(SCANNER))?;
    ensure!(status == 200, "the scanner's first request got status {status}");
    if !scene.is_banned_soon(scanner)? {
        return Ok(Some(format!(
            "{scanner}, a scanner, is not banned; findings: {:?}",
            scene.rules(scanner)
        )));
    }
    let answered = is_answered(attacker, scanner, Scene::web(family));
    Ok(answered.then(|| format!("{scanner}, a banned scanner, is answered")))
}

fn hellos(scene: &mut Scene<'_>) -> Result<Verdict> {
    let mut wrong = Vec::new();
    for family in Family::BOTH {
        let scanner = family.attacker(1);
        for kind in 0..20 {
            // It may be banned before all is said.
            let Ok(mut client) = Client::connect(&scene.bridge.attacker, scanner, Scene::web(family)) else {
                break;
            };
            client.send(&hello(kind))?;
            if scene.banned(scanner)?.is_some() {
                break;
            }
        }
        if !scene.is_banned_soon(scanner)? {
            wrong.push(format!("{scanner} is not banned; findings: {:?}", scene.rules(scanner)));
        }
    }
    Ok(Verdict::of(&wrong))
}

fn half_open_scan(scene: &mut Scene<'_>) -> Result<Verdict> {
    nmap(scene, "-sS -p 1-100")
}

fn null_scan(scene: &mut Scene<'_>) -> Result<Verdict> {
    nmap(scene, "-sN -p 1-40 --max-retries 1 --host-timeout 20s")
}

fn nmap(scene: &Scene<'_>, how: &str) -> Result<Verdict> {
    let mut wrong = Vec::new();
    for family in Family::BOTH {
        let scanner = family.attacker(1);
        let mut nmap = scene.bridge.attacker.command("nmap");
        nmap.args(["-n", "-Pn", "-e", "e0", "-S", &scanner.to_string()]).args(how.split(' '));
        match family {
            Family::V4 => {}
            Family::V6 => {
                nmap.arg("-6");
            }
        }
        run_within(nmap.arg(family.server().to_string()), Duration::from_secs(40))?;
        if !scene.is_found_soon(scanner)? {
            wrong.push(format!("{scanner}: no finding over {}", family.label()));
        }
    }
    Ok(Verdict::of(&wrong))
}

fn honest(scene: &mut Scene<'_>) -> Result<Verdict> {
    let mut wrong = Vec::new();
    for family in Family::BOTH {
        for n in 11..14 {
            for _ in 0..5 {
                scene.served(family.client(n), family)?;
            }
            wrong.extend(scene.fault_with(family.client(n), family)?);
        }
    }
    scene.judged()?;
    for finding in scene.agent.findings() {
        wrong.push(format!("{} accuses {}", finding["rule"], finding["source"]["ip"]));
    }
    Ok(Verdict::of(&wrong))
}
