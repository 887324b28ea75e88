//! What was really answered: an address is looked at before a socket, and a listener behind a packet filter is no
//! service.

use std::{net::UdpSocket, time::Duration};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::Agent,
    clients::{Services, at, serve, visit},
    lab::{Lab, PATIENCE, VICTIM, run_within, wait_for},
    scenario::Scenario,
};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("answered: a sweep of addresses of nobody is found where a listener fits them all", swept),
        trial("answered: what is for another host of the link is of unknown fate", overheard),
        trial("answered: a scan of listeners behind a packet filter is found", filtered),
        trial("answered: a scan of ten ports of which one is open is found, and one of five", few),
        trial("answered: a connect scan of open ports to which nothing is said is found", silent),
        trial("answered: a client of many services is quiet, also where a filter hides others", clients),
    ]
}

const CONFIG: &str = "[sensor]\npoll_interval = \"100ms\"\n";
/// A network that is routed to the host, of which no address is in use.
const NOBODYS: &str = "10.79.0.0/24";
/// Services that listen on the wildcard address.
const SERVICES: [u16; 12] = [22, 80, 443, 3306, 5432, 5900, 6379, 8080, 8443, 9000, 9200, 9300];

fn listening(lab: &Lab) -> Result<Services> {
    serve(&lab.victim, SERVICES)
}

fn nmap(lab: &Lab, arguments: &str) -> Result<()> {
    let mut command = lab.scanner.command("nmap");
    command.args(["-n", "-Pn", "--max-retries", "0", "--send-ip"]).args(arguments.split(' '));
    run_within(&mut command, Duration::from_secs(90))
}

fn found(agent: &Agent<'_>, rule: &str) -> Result<()> {
    wait_for(rule, PATIENCE, || agent.findings().into_iter().find(|finding| finding["rule"] == rule))
        .map(drop)
}

fn swept() -> Result<()> {
    // Where the network is named, and where nobody said that it is routed to this host.
    let named = format!("{CONFIG}[network]\nhome = [\"{NOBODYS}\"]\n");
    for (config, kind, rule) in [
        (named.as_str(), "-sS -p 22", "horizontal_sweep"),
        (&named, "-sA -p 443", "ack_scan"),
        (&named, "-sU -p 161", "udp_scan"),
        (CONFIG, "-sS -p 22", "horizontal_sweep"),
        (CONFIG, "-sA -p 443", "ack_scan"),
        (CONFIG, "-sU -p 161", "udp_scan"),
    ] {
        let scenario = Scenario::new(config)?.with(&["--format", "json"]);
        let _listening = listening(&scenario.lab)?;
        let _asked = scenario.lab.victim.enter(|| Ok(UdpSocket::bind(("0.0.0.0", 161))?))?;
        scenario.lab.scanner.ip(&format!("route add {NOBODYS} via {VICTIM}"))?;
        scenario.run(|lab, agent| {
            // By itself nmap waits for answers, a second for each few addresses: half a minute.
            nmap(lab, &format!("--min-rate 100 {kind} {NOBODYS}"))?;
            found(agent, rule)
        })?;
    }
    Ok(())
}

fn overheard() -> Result<()> {
    let scenario = Scenario::new(CONFIG)?.with(&["--format", "json"]);
    let lab = &scenario.lab;
    // Another host of the link, whose frames come here as on a mirror port.
    for words in [
        "neigh replace 10.77.0.9 lladdr 02:00:00:00:00:99 dev scan0 nud permanent".to_owned(),
        format!("route add {NOBODYS} via 10.77.0.9"),
    ] {
        lab.scanner.ip(&words)?;
    }
    let mut agent = scenario.start()?;
    nmap(lab, "-sT -p 22 10.79.0.0/27")?;
    std::thread::sleep(Duration::from_secs(5));
    let metrics = agent.metrics()?;
    let unknown = metrics.get("scanguard_probes_reached_total{reach=\"unknown\"}");
    ensure!(unknown >= 32.0, "{unknown} probes came");
    agent.end()?;
    ensure!(agent.findings().is_empty(), "{:#?}", agent.findings());
    Ok(())
}

fn few() -> Result<()> {
    for (kind, ports) in [
        ("-sS", "21,23,25,110,139,445,1433,3389,5901,8443"),
        ("-sT", "21,23,25,110,139,445,1433,3389,5901,8443"),
        ("-sT", "21,23,1433,3389,2049"),
    ] {
        let scenario = Scenario::new(CONFIG)?.with(&["--format", "json"]);
        let _listening = listening(&scenario.lab)?;
        scenario.run(|lab, agent| {
            nmap(lab, &format!("{kind} -p {ports} {VICTIM}"))?;
            found(agent, "sequential_test")
        })?;
    }
    Ok(())
}

fn silent() -> Result<()> {
    let scenario = Scenario::new(CONFIG)?.with(&["--format", "json"]);
    // So many that their estimated number is surely above the threshold, and below that for all connections.
    let services: Vec<u16> = SERVICES.into_iter().chain([21, 25, 110, 143]).collect();
    let _listening = serve(&scenario.lab.victim, services.iter().copied())?;
    scenario.run(|lab, agent| {
        let ports: Vec<_> = services.iter().map(u16::to_string).collect();
        nmap(lab, &format!("-sT -p {} {VICTIM}", ports.join(",")))?;
        found(agent, "service_probe")
    })
}

/// Only HTTP comes in.
fn filter(lab: &Lab) -> Result<()> {
    lab.victim.filter(
        "table inet filter { chain input { type filter hook input priority 0; policy drop; \
         iif lo accept; ct state established,related accept; tcp dport { 80, 443 } accept; icmpv6 type != echo-request accept; }; }",
    )
}

fn filtered() -> Result<()> {
    for kind in ["-sS", "-sT"] {
        let scenario = Scenario::new(CONFIG)?.with(&["--format", "json"]);
        let _listening = listening(&scenario.lab)?;
        filter(&scenario.lab)?;
        scenario.run(|lab, agent| {
            nmap(lab, &format!("{kind} -p 22,443,3306,5432,5900,6379,8080,8443,9000,9200,9300 {VICTIM}"))?;
            found(agent, "sequential_test")?;
            let metrics = agent.metrics()?;
            let closed = metrics.get("scanguard_probes_reached_total{reach=\"closed\"}");
            ensure!(closed == 0.0, "{closed} probes were closed: all have a listener");
            Ok(())
        })?;
    }
    Ok(())
}

fn clients() -> Result<()> {
    let scenario = Scenario::new(CONFIG)?.with(&["--format", "json"]);
    let _listening = listening(&scenario.lab)?;
    let mut agent = scenario.start()?;
    let lab = &scenario.lab;
    lab.scanner.enter(|| Ok(SERVICES.into_iter().try_for_each(|port| visit(at(VICTIM, port)))?))?;
    filter(lab)?;
    lab.scanner.enter(|| Ok((0..20).try_for_each(|_| visit(at(VICTIM, 443)))?))?;
    // The services that it met are filtered now. It comes back to them in vain.
    nmap(lab, &format!("-sT --host-timeout 20s -p 22,3306,5432,6379,8080,9000,9200,9300 {VICTIM}"))?;
    std::thread::sleep(Duration::from_secs(5));
    agent.end()?;
    let accused: Vec<_> =
        agent.findings().into_iter().filter(|finding| finding["severity"] != "info").collect();
    ensure!(accused.is_empty(), "{accused:#?}");
    Ok(())
}
