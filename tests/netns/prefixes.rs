//! Sources of IPv6: a scan from all of a /48, and a neighbour in this host's own /64.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv6Addr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::Agent,
    clients::at,
    frames,
    lab::{Lab, Namespace, PATIENCE, SCANNER_INTERFACE, SCANNER6, VICTIM_INTERFACE, VICTIM6, wait_for},
    wire,
};

use crate::{
    response::{configured, connects},
    trial,
};

const TIMEOUT: Duration = Duration::from_millis(1_500);
const TCP: u8 = 6;
const SYN: u8 = 2;
/// The site that scans.
const SITE: &str = "2001:db8:7::/48";
/// A client of that site, which does not.
const CLIENT: &str = "2001:db8:7:ffff::5";
/// The victim's gateway, in its own /64 as is the scanner.
const GATEWAY: &str = "fd77::9";
/// A neighbour that does nothing.
const NEIGHBOUR: &str = "fd77::3";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("prefixes: a scan with one probe from each /64 of a /48 is shielded from as a whole", site),
        trial("prefixes: a neighbour in the host's own /64 is banned, and nobody else there is", neighbour),
        trial("prefixes: an order to ban the own /64 spares host and gateway, and Neighbour Discovery", own),
    ]
}

/// Answers each client at port 80.
fn serve(host: &Namespace) -> Result<()> {
    let listener = host.enter(|| TcpListener::bind(("::", 80)).context("bind"))?;
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            thread::spawn(move || {
                client.set_read_timeout(Some(TIMEOUT))?;
                let _length = client.read(&mut [0; 512])?;
                client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            });
        }
    });
    Ok(())
}

/// SYNs to closed ports of the victim, each from another /64 of the site.
fn probes(numbers: std::ops::Range<u16>) -> Result<Vec<Vec<u8>>> {
    let victim: Ipv6Addr = VICTIM6.parse()?;
    let probe = |number: u16| {
        let mut frame = frames::v6(TCP, &frames::tcp(SYN, 1_000 + number));
        // In no order, as a scanner that hides would choose them.
        let source = Ipv6Addr::new(0x2001, 0xdb8, 7, number.wrapping_mul(40_503), 0, 0, 0, 1);
        frame[22..38].copy_from_slice(&source.octets());
        frame[38..54].copy_from_slice(&victim.octets());
        frame
    };
    Ok(numbers.map(probe).collect())
}

fn bans(agent: &Agent<'_>) -> Option<Vec<serde_json::Value>> {
    agent.json(&["bans"]).ok()?["bans"].as_array().cloned()
}

fn site() -> Result<()> {
    let scenario = configured("mode = \"enforce\"")?;
    serve(&scenario.lab.victim)?;
    let Lab { victim, scanner } = &scenario.lab;
    victim.ip(&format!("-6 route add {SITE} via {SCANNER6}"))?;
    scanner.ip(&format!("addr add {CLIENT}/128 dev {SCANNER_INTERFACE} nodad"))?;
    scanner.ip(&format!("-6 route add {VICTIM6}/128 dev {SCANNER_INTERFACE} src {CLIENT}"))?;
    scenario.run(|lab, agent| {
        for some in (0..400).step_by(20) {
            wire::send(&lab.scanner, SCANNER_INTERFACE, &probes(some..some + 20)?)?;
            thread::sleep(Duration::from_millis(20));
        }
        let shield =
            wait_for("the shield", PATIENCE, || bans(agent)?.into_iter().find(|ban| ban["net"] == SITE))?;
        ensure!(shield["response"] == "shield" && shield["rule"] == "prefix_scan", "{shield}");
        ensure!(shield["drops"] == true, "{shield}");
        let findings = agent.findings();
        let opened: Vec<_> = findings.iter().filter(|finding| finding["event"] == "opened").collect();
        ensure!(opened.len() == 1, "{opened:?}");
        let source = &opened[0]["source"];
        ensure!(source["ip"] == "2001:db8:7::" && source["prefix"] == 48, "{source}");

        // Sources that sent nothing before are part of it.
        let before = agent.settled()?.exit("shielded");
        wire::send(&lab.scanner, SCANNER_INTERFACE, &probes(1_000..1_050)?)?;
        let after = agent.settled()?.exit("shielded");
        ensure!(after >= before + 50.0, "{before}, {after}");
        // Its honest clients are served.
        ensure!(connects(&lab.scanner, at(VICTIM6, 80))?, "an honest client of the site");
        let explained = agent.order(&["explain", CLIENT])?;
        ensure!(explained.contains("shielded from") && explained.contains("prefix_scan"), "{explained}");
        ensure!(agent.order(&["bans"])?.contains(SITE));
        Ok(())
    })
}

/// Two more hosts beside the scanner: the gateway of the victim, and a neighbour.
fn neighbourhood(lab: &Lab) -> Result<()> {
    let mac = lab.scanner.mac(SCANNER_INTERFACE)?;
    for address in [GATEWAY, NEIGHBOUR] {
        lab.scanner.ip(&format!("addr add {address}/64 dev {SCANNER_INTERFACE} nodad"))?;
        lab.victim
            .ip(&format!("neigh replace {address} lladdr {mac} dev {VICTIM_INTERFACE} nud permanent"))?;
    }
    lab.victim.ip(&format!("-6 route add default via {GATEWAY}"))?;
    Ok(())
}

/// Connects to the victim's server from one of the addresses.
fn connects_from(lab: &Lab, address: &str) -> Result<bool> {
    lab.scanner.ip(&format!("-6 route replace {VICTIM6}/128 dev {SCANNER_INTERFACE} src {address}"))?;
    connects(&lab.scanner, at(VICTIM6, 80))
}

fn neighbour() -> Result<()> {
    let scenario = configured("mode = \"enforce\"")?;
    serve(&scenario.lab.victim)?;
    neighbourhood(&scenario.lab)?;
    scenario.run(|lab, agent| {
        ensure!(connects_from(lab, SCANNER6)?);
        lab.scanner.enter(|| {
            let mut stream = TcpStream::connect_timeout(&at(VICTIM6, 80), TIMEOUT)?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: victim\r\nUser-Agent: sqlmap/1.7\r\n\r\n")?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            let _ = stream.read_to_end(&mut Vec::new());
            Ok(())
        })?;
        let bans = wait_for("the ban", PATIENCE, || bans(agent).filter(|bans| !bans.is_empty()))?;
        ensure!(
            bans.len() == 1 && bans[0]["net"] == "fd77::2/128" && bans[0]["response"] == "ban",
            "{bans:?}"
        );
        ensure!(!connects_from(lab, SCANNER6)?, "the scanner is banned");
        ensure!(connects_from(lab, NEIGHBOUR)?, "its neighbour is not");
        ensure!(connects_from(lab, GATEWAY)?, "the gateway is not");
        let explained = agent.order(&["explain", SCANNER6])?;
        ensure!(explained.contains("banned by rule"), "{explained}");
        agent.order(&["unban", SCANNER6])?;
        ensure!(connects_from(lab, SCANNER6)?, "still banned");
        Ok(())
    })
}

fn own() -> Result<()> {
    let scenario = configured("mode = \"enforce\"\ndrop = \"all\"")?;
    serve(&scenario.lab.victim)?;
    neighbourhood(&scenario.lab)?;
    scenario.run(|lab, agent| {
        let said = agent.order(&["ban", "fd77::/64"])?;
        for word in
            ["fd77::/64 is banned", "never dropped", "fd77::9 (it is a default gateway)", "own address"]
        {
            ensure!(said.contains(word), "{word}: {said}");
        }
        ensure!(!connects_from(lab, SCANNER6)? && !connects_from(lab, NEIGHBOUR)?, "the rest is banned");
        ensure!(connects_from(lab, GATEWAY)?, "the gateway is spared");
        let explained = agent.order(&["explain", GATEWAY])?;
        ensure!(explained.contains("banned, but spared"), "{explained}");
        ensure!(agent.order(&["bans"])?.contains("(spares 2 allowed networks of it)"));
        // A gateway may ask for this host's link address from an address of its own that nobody knows.
        let asked = "fd77::4242";
        lab.scanner.ip(&format!("addr add {asked}/64 dev {SCANNER_INTERFACE} nodad"))?;
        lab.scanner.ip(&format!("-6 route replace {VICTIM6}/128 dev {SCANNER_INTERFACE} src {asked}"))?;
        lab.scanner.ip(&format!("neigh del {VICTIM6} dev {SCANNER_INTERFACE}"))?;
        ensure!(!connects(&lab.scanner, at(VICTIM6, 80))?, "a banned address connects");
        wait_for("an answer to the neighbour solicitation", PATIENCE, || {
            let known = lab.scanner.ip(&format!("neigh show {VICTIM6}")).ok()?;
            String::from_utf8_lossy(&known.stdout).contains("lladdr").then_some(())
        })?;
        agent.order(&["unban", "fd77::/64"])?;
        ensure!(connects_from(lab, SCANNER6)?, "still banned");
        Ok(())
    })
}
