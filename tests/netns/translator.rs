//! Clients behind a translator from IPv4 to IPv6: each is a source of its own.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::Agent,
    clients,
    lab::{Lab, PATIENCE, SCANNER_INTERFACE, SCANNER6, VICTIM6, wait_for},
};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::{response::configured, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("translator: of all who share its prefix only the scanner is banned", well_known),
        trial("translator: a prefix that is named by a reload counts from then on", named),
        trial("translator: a prefix around own addresses is not used, and that is said", own),
    ]
}

/// The port of the only service.
const SERVICE: u16 = 80;
const SCANS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);
const HONEST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// An IPv4 client behind a prefix of 96 bits.
fn behind(prefix: &str, client: Ipv4Addr) -> String {
    format!("{prefix}{client}")
}

/// The scanner's host has both clients' addresses, and the victim answers there.
fn route(lab: &Lab, prefix: &str) -> Result<()> {
    for client in [SCANS, HONEST] {
        lab.scanner.ip(&format!("addr add {}/128 dev {SCANNER_INTERFACE} nodad", behind(prefix, client)))?;
    }
    lab.victim.ip(&format!("route add {prefix}/96 via {SCANNER6}")).map(drop)
}

/// Long enough for an answer over a veth pair, and for a second SYN.
const TIMEOUT: Duration = Duration::from_millis(1_500);

/// A socket of a client.
fn socket(from: &str) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from.parse()?, 0).into())?;
    Ok(socket)
}

fn to(port: u16) -> Result<SockAddr> {
    Ok(SocketAddr::new(VICTIM6.parse()?, port).into())
}

/// Whether a client is served.
fn is_served(lab: &Lab, from: &str) -> Result<bool> {
    lab.scanner.enter(|| {
        let mut socket = socket(from)?;
        if socket.connect_timeout(&to(SERVICE)?, TIMEOUT).is_err() {
            return Ok(false);
        }
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(b"hello")?;
        Ok(socket.read(&mut [0; 9])? == 5)
    })
}

/// Attempts to connect to sixty ports, of which one is open, and says there what scanners say.
fn scan(lab: &Lab, from: &str) -> Result<()> {
    lab.scanner.enter(|| {
        for port in SERVICE - 5..SERVICE + 55 {
            // Closed ports refuse at once. If the ban comes early, nobody answers any more.
            let _ = socket(from)?.connect_timeout(&to(port)?, TIMEOUT / 5);
        }
        let mut socket = socket(from)?;
        socket.connect_timeout(&to(SERVICE)?, TIMEOUT)?;
        socket.write_all(
            b"GET / HTTP/1.1\r\nHost: victim\r\nUser-Agent: sqlmap/1.7 (https://sqlmap.org)\r\n\r\n",
        )?;
        Ok(())
    })
}

/// The networks that are banned, and those that are shielded from.
fn bans(agent: &Agent<'_>) -> Result<(Vec<String>, Vec<String>)> {
    let bans = agent.json(&["bans"])?;
    let all = bans["bans"].as_array().into_iter().flatten();
    let nets = all.filter_map(|ban| Some((ban["net"].as_str()?.to_owned(), ban["response"] == "ban")));
    let (banned, shielded): (Vec<_>, Vec<_>) = nets.partition(|(_, is_ban)| *is_ban);
    Ok([banned, shielded].map(|nets| nets.into_iter().map(|(net, _)| net).collect()).into())
}

/// One client scans and is banned, by its IPv4 address. The other one is served on.
fn play(lab: &Lab, agent: &Agent<'_>, prefix: &str) -> Result<()> {
    let (scans, honest) = (behind(prefix, SCANS), behind(prefix, HONEST));
    ensure!(is_served(lab, &honest)?, "the honest client is not served before");
    scan(lab, &scans)?;
    let (banned, shielded) =
        wait_for("the ban", PATIENCE, || bans(agent).ok().filter(|(bans, _)| !bans.is_empty()))?;
    ensure!(banned == [format!("{SCANS}/32")] && shielded.is_empty(), "banned: {banned:?}, {shielded:?}");
    ensure!(is_served(lab, &honest)?, "the honest client is not served after");
    for (address, is_banned) in [(&scans, true), (&SCANS.to_string(), true), (&honest, false)] {
        let explained = agent.json(&["explain", address])?;
        ensure!(explained["banned"] == is_banned, "{address}: {explained}");
    }
    ensure!(!is_served(lab, &scans)?, "the scanner is served");
    let said = agent.order(&["unban", &scans])?;
    ensure!(said.contains(&SCANS.to_string()), "{said}");
    ensure!(is_served(lab, &scans)?, "the ban has not ended");
    Ok(())
}

fn well_known() -> Result<()> {
    let scenario = configured("mode = \"enforce\"")?;
    route(&scenario.lab, "64:ff9b::")?;
    let _server = clients::serve(&scenario.lab.victim, [SERVICE])?;
    scenario.run(|lab, agent| play(lab, agent, "64:ff9b::"))
}

fn named() -> Result<()> {
    let scenario = configured("mode = \"enforce\"")?;
    route(&scenario.lab, "2001:db8:64::")?;
    let _server = clients::serve(&scenario.lab.victim, [SERVICE])?;
    scenario.run(|lab, agent| {
        let prefix = "poll_interval = \"100ms\"\ntranslator_prefixes = [\"2001:db8:64::/96\"]";
        scenario.configure(&format!("[sensor]\n{prefix}\n[response]\nmode = \"enforce\"\n"))?;
        agent.order(&["reload"])?;
        let client = behind("2001:db8:64::", SCANS);
        wait_for("the prefix", PATIENCE, || {
            let said = agent.order(&["ban", &client]).ok()?;
            agent.order(&["unban", &client]).ok()?;
            said.contains(&SCANS.to_string()).then_some(())
        })?;
        play(lab, agent, "2001:db8:64::")
    })
}

fn own() -> Result<()> {
    let scenario = configured("mode = \"enforce\"")?;
    let around = "[sensor]\ntranslator_prefixes = [\"fd77::/64\"]\n";
    scenario.configure(around)?;
    scenario.run(|_, agent| {
        let said = agent.said();
        ensure!(said.contains("fd77::/64 is not used") && said.contains(VICTIM6), "{said}");
        Ok(())
    })?;
    let check = scenario.lab.victim.directory().join("wrong.toml");
    std::fs::write(&check, format!("{around}[network]\nhome = [\"fd77::/48\"]\n"))?;
    let mut command = std::process::Command::new(scanguard_tests::fixtures::agent::binary()?);
    let output = command.arg("check-config").arg(&check).output()?;
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    ensure!(!output.status.success() && said.contains("overlaps with fd77::/48"), "{said}");
    Ok(())
}
