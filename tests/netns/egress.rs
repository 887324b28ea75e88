//! Packets that leave: answers are counted, published services are recognized, dark addresses are distinguished from
//! live ones.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::{Agent, Metrics},
    behind::{self, HOME},
    capture::Capture,
    lab::{Lab, PATIENCE, VICTIM, VICTIM_INTERFACE, run, run_within, wait_for},
    pinned::Bpffs,
    program,
    scenario::Scenario,
    wire,
};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("egress: resets are counted as tcpdump counts them", || resets("auto")),
        trial("egress: all kinds of answers are counted as tcpdump counts them", || all_answers("auto")),
        trial("egress: a service published by dnat is open, and a scan beside it is found", || {
            published("auto")
        }),
        trial("egress: a service published by dnat is unknown without it, and nothing is found", unpublished),
        trial("egress: a sweep of a home network goes into the dark, a client of its hosts does not", || {
            home("auto")
        }),
        trial("egress: home networks are taken from a reload", reloaded),
        trial("egress: off, everything else works", off),
        trial("egress: a port that is redirected to another is open", redirected),
        trial("egress: where it cannot be attached, the loss is reported and all else works", crowded),
        trial("egress: it is attached again when the interface returns", returns),
        trial("egress: taken off by force it says so and attaches again", taken_off),
        trial("egress: where there was no room for it, it is attached as soon as there is", room_later),
        trial("egress: a killed agent leaves nothing behind", killed),
    ]
}

pub(crate) const FAST: &str = "[sensor]\npoll_interval = \"100ms\"\n";

fn nmap(lab: &Lab, arguments: &str) -> Result<()> {
    let mut command = lab.scanner.command("nmap");
    command.args(["-n", "-Pn"]).args(arguments.split(' '));
    run_within(&mut command, Duration::from_secs(90))
}

fn answers(metrics: &Metrics, kind: &str) -> f64 {
    metrics.get(&format!("scanguard_answers_total{{answer=\"{kind}\"}}"))
}

fn reached(metrics: &Metrics, reach: &str) -> f64 {
    metrics.get(&format!("scanguard_probes_reached_total{{reach=\"{reach}\"}}"))
}

pub(crate) fn attached(metrics: &Metrics) -> bool {
    metrics.get(&format!("scanguard_egress_attached{{interface=\"{VICTIM_INTERFACE}\"}}")) == 1.0
}

/// Compares counts of the egress program with tcpdump's, and all that left with all that it saw.
fn compare(way: &str, traffic: impl FnOnce(&Lab) -> Result<()>, kinds: &[(&str, &str)]) -> Result<()> {
    let scenario = Scenario::new(&format!("{FAST}egress = \"{way}\"\n"))?;
    behind::serve(&scenario.lab.victim, 80)?;
    scenario.run(|lab, agent| {
        let before = agent.settled()?;
        ensure!(attached(&before), "not attached: {}", agent.said());
        let mut capture = Capture::outgoing(&lab.victim, VICTIM_INTERFACE)?;
        traffic(lab)?;
        capture.stop()?;
        let metrics = agent.settled()?;
        for (kind, filter) in kinds {
            let (seen, captured) = (answers(&metrics, kind), capture.count(filter)?);
            ensure!(seen == captured as f64 && seen > 0.0, "{kind}: seen {seen}, tcpdump {captured}");
        }
        let all = |metrics: &Metrics| metrics.sum("scanguard_egress_packets_total{");
        let (seen, captured) = (all(&metrics) - all(&before), capture.count("")?);
        ensure!(seen == captured as f64, "{seen} packets seen, tcpdump {captured}");
        Ok(())
    })
}

const RESET: (&str, &str) = ("reset", "tcp[13] & 6 = 4 or (ip6[6] = 6 and ip6[53] & 6 = 4)");
const SYN_ACK: (&str, &str) = ("syn_ack", "tcp[13] & 0x17 = 0x12 or (ip6[6] = 6 and ip6[53] & 0x17 = 0x12)");
const UNREACHABLE: (&str, &str) = ("unreachable", "icmp[0] = 3 or (ip6[6] = 58 and ip6[40] = 1)");
const REPLY: (&str, &str) = ("reply", "icmp[0] = 0 or icmp[0] = 14 or (ip6[6] = 58 and ip6[40] = 129)");

pub(crate) fn resets(way: &str) -> Result<()> {
    compare(way, |lab| nmap(lab, &format!("-sS -p 1000-1999 {VICTIM}")), &[RESET])
}

pub(crate) fn all_answers(way: &str) -> Result<()> {
    use scanguard_tests::fixtures::lab::VICTIM6;
    let scans = |lab: &Lab| {
        nmap(lab, &format!("-sT -p 80-90 {VICTIM}"))?;
        nmap(lab, &format!("-6 -sS -p 1-50 {VICTIM6}"))?;
        nmap(lab, &format!("-sU -p 50-80 --max-retries 1 {VICTIM}"))?;
        nmap(lab, &format!("-6 -sU -p 50-80 --max-retries 1 {VICTIM6}"))?;
        for address in [VICTIM, VICTIM6] {
            let mut ping = lab.scanner.command("ping");
            run_within(ping.args(["-c", "3", "-i", "0.05", address]), PATIENCE)?;
        }
        let mut stamp = lab.scanner.command("nmap");
        run_within(stamp.args(["-n", "-sn", "-PP", "--send-ip", VICTIM]), PATIENCE)
    };
    compare(way, scans, &[RESET, SYN_ACK, UNREACHABLE, REPLY])
}

/// 300 connections to a published port, then a scan of 200 others.
fn connect_and_scan(way: &str, check: impl FnOnce(&Metrics, &Agent<'_>) -> Result<()>) -> Result<()> {
    let scenario = Scenario::new(&format!("{FAST}egress = \"{way}\"\n"))?;
    let inner = behind::join(&scenario.lab)?;
    behind::serve(&inner, 80)?;
    behind::publish(&scenario.lab, 8080, 80)?;
    scenario.run(|lab, agent| {
        behind::connect(lab, VICTIM, 8080, 300)?;
        let metrics = agent.settled()?;
        // A busy machine may be so late with an answer that a SYN is sent again.
        let syns = metrics.probes("syn");
        ensure!((300.0..310.0).contains(&syns), "{syns} SYNs");
        check(&metrics, agent)?;
        ensure!(agent.opened().is_empty(), "found {:?}", agent.opened());
        nmap(lab, &format!("-sS -p 100-299 {VICTIM}"))?;
        wait_for("the scan is found", PATIENCE, || {
            agent.opened().contains_key("vertical_scan").then_some(())
        })?;
        Ok(())
    })
}

pub(crate) fn published(way: &str) -> Result<()> {
    connect_and_scan(way, |metrics, agent| {
        // The first one comes before any answer.
        let (open, unknown) = (reached(metrics, "open"), reached(metrics, "unknown"));
        ensure!(open >= 297.0 && unknown <= 3.0, "{open} open, {unknown} unknown");
        ensure!(answers(metrics, "syn_ack") >= 300.0, "{} SYN-ACKs", answers(metrics, "syn_ack"));
        let occupancy = "scanguard_published_services";
        wait_for("the service is counted", PATIENCE, || {
            (agent.metrics().ok()?.get(occupancy) == 1.0).then_some(())
        })?;
        ensure!(metrics.get("scanguard_published_services_limit") == 4096.0);
        Ok(())
    })
}

/// No forwarding here: what has no socket would be closed.
fn redirected() -> Result<()> {
    let scenario = Scenario::new(FAST)?;
    behind::serve(&scenario.lab.victim, 80)?;
    behind::redirect(&scenario.lab, 8080, 80)?;
    scenario.run(|lab, agent| {
        behind::connect(lab, VICTIM, 8080, 100)?;
        let metrics = agent.settled()?;
        let (open, closed) = (reached(&metrics, "open"), reached(&metrics, "closed"));
        // Only the first SYN comes before an answer; the segments that follow have no socket for their ports either.
        ensure!(open >= 99.0 && (1.0..4.0).contains(&closed), "{open} open, {closed} closed");
        ensure!(agent.opened().is_empty(), "found {:?}", agent.opened());
        Ok(())
    })
}

fn unpublished() -> Result<()> {
    connect_and_scan("off", |metrics, _| {
        let unknown = reached(metrics, "unknown");
        ensure!(unknown >= 300.0, "{unknown} unknown");
        Ok(())
    })
}

pub(crate) fn home(way: &str) -> Result<()> {
    let scenario =
        Scenario::new(&format!("{FAST}egress = \"{way}\"\n[network]\nhome = [\"{HOME}.0/24\"]\n"))?;
    let inner = behind::join(&scenario.lab)?;
    behind::serve(&inner, 80)?;
    let hosts = ["1", "2", "3"].map(|host| format!("{HOME}.{host}"));
    for host in &hosts {
        inner.ip(&format!("addr add {host}/32 dev lo"))?;
    }
    scenario.run(|lab, agent| {
        for host in hosts.iter().cycle().take(60) {
            behind::connect(lab, host, 80, 1)?;
        }
        let client = agent.settled()?;
        // The first to each comes before any answer.
        let (dark, unknown) = (reached(&client, "dark"), reached(&client, "unknown"));
        ensure!((3.0..6.0).contains(&dark) && unknown >= 57.0, "{dark} dark, {unknown} unknown");
        ensure!(agent.opened().is_empty(), "found {:?}", agent.opened());
        wait_for("the live hosts are counted", PATIENCE, || {
            (agent.metrics().ok()?.get("scanguard_live_addresses") == 3.0).then_some(())
        })?;

        nmap(lab, &format!("-sS -p 80 --max-retries 0 {HOME}.0/24"))?;
        let swept = agent.settled()?;
        let (dark, unknown) = (reached(&swept, "dark") - dark, reached(&swept, "unknown") - unknown);
        // nmap asks hosts that answer once more now and then.
        ensure!(
            dark == 253.0 && (3.0..10.0).contains(&unknown),
            "the sweep met {dark} dark, {unknown} unknown"
        );
        let opened = agent.opened();
        ensure!(opened.contains_key("horizontal_sweep") && opened.len() == 1, "found as {opened:?}");
        Ok(())
    })
}

fn reloaded() -> Result<()> {
    let scenario = Scenario::new(FAST)?;
    let _inner = behind::join(&scenario.lab)?;
    scenario.run(|lab, agent| {
        let sweep = format!("-sS -p 80 --max-retries 0 {HOME}.0/29");
        let mut last = agent.settled()?;
        // The owner of the addresses by the file, and the reach of a sweep of them.
        for (home, reach) in [("", "unknown"), ("10.79.0.0/24", "dark"), ("10.80.0.0/24", "unknown")] {
            if !home.is_empty() {
                let text = format!("{FAST}egress = false\n[network]\nhome = [\"{home}\"]\n");
                scenario.configure(&text)?;
                agent.process.signal(libc::SIGHUP);
                let taken = "scanguard_config_reloads_total{outcome=\"success\"}";
                let before = last.get(taken);
                wait_for("the reload", PATIENCE, || {
                    (agent.metrics().ok()?.get(taken) > before).then_some(())
                })?;
                last = agent.settled()?;
            }
            nmap(lab, &sweep)?;
            let now = agent.settled()?;
            let met = reached(&now, reach) - reached(&last, reach);
            ensure!(met >= 8.0, "{home}: {met} met {reach}");
            last = now;
        }
        ensure!(agent.said().contains("next start only: sensor.egress"), "{}", agent.said());
        ensure!(attached(&last), "detached");
        Ok(())
    })
}

fn off() -> Result<()> {
    Scenario::new(&format!("{FAST}egress = false\n"))?.run(|lab, agent| {
        nmap(lab, &format!("-sS -p 1-200 {VICTIM}"))?;
        let metrics = agent.settled()?;
        ensure!(!attached(&metrics), "attached");
        ensure!(metrics.sum("scanguard_answers_total{") == 0.0 && metrics.probes("syn") >= 200.0);
        ensure!(reached(&metrics, "closed") >= 200.0, "{} closed", reached(&metrics, "closed"));
        ensure!(agent.opened().contains_key("vertical_scan"), "found {:?}", agent.opened());
        ensure!(tcx_programs(lab)?.is_empty(), "a program is attached");
        Ok(())
    })
}

/// Names of the tcx programs at what leaves by the victim's interface.
pub(crate) fn tcx_programs(lab: &Lab) -> Result<Vec<String>> {
    lab.victim.enter(|| {
        let (_, programs) = SchedClassifier::query_tcx(VICTIM_INTERFACE, TcAttachType::Egress)?;
        let names = programs.iter().map(|program| program.name_as_str().map(str::to_owned));
        names.collect::<Option<_>>().context("names are text")
    })
}

fn crowded() -> Result<()> {
    let scenario = Scenario::new(FAST)?;
    scenario.lab.victim.enter(|| Ok(program::crowd_egress(wire::index(VICTIM_INTERFACE)?)?))?;
    scenario.run(|lab, agent| {
        nmap(lab, &format!("-sS -p 1-200 {VICTIM}"))?;
        let metrics = agent.settled()?;
        ensure!(!attached(&metrics), "attached");
        ensure!(agent.said().contains("answers of this host are not seen"), "{}", agent.said());
        ensure!(reached(&metrics, "closed") >= 200.0, "{} closed", reached(&metrics, "closed"));
        wait_for("the scan is found", PATIENCE, || {
            agent.opened().contains_key("vertical_scan").then_some(())
        })?;
        Ok(())
    })
}

/// A scan of closed ports is answered by resets, which are counted.
pub(crate) fn answers_are_seen(lab: &Lab, agent: &Agent<'_>) -> Result<()> {
    let before = answers(&agent.settled()?, "reset");
    nmap(lab, &format!("-sS -p 1-200 {VICTIM}"))?;
    let resets = answers(&agent.settled()?, "reset") - before;
    ensure!(resets >= 200.0, "{resets} resets");
    Ok(())
}

fn returns() -> Result<()> {
    Scenario::new(FAST)?.run(|lab, agent| {
        let is_attached = |agent: &Agent<'_>| agent.metrics().is_ok_and(|metrics| attached(&metrics));
        ensure!(is_attached(agent));
        lab.victim.ip(&format!("link del {VICTIM_INTERFACE}"))?;
        wait_for("the loss is reported", PATIENCE, || (!is_attached(agent)).then_some(()))?;
        lab.connect()?;
        wait_for("attached again", PATIENCE, || is_attached(agent).then_some(()))?;
        answers_are_seen(lab, agent)
    })
}

/// Detaches the first program of tcx as `bpftool link detach` does it, which needs no more than the number of its link.
pub(crate) fn take_off(lab: &Lab, side: TcAttachType) -> Result<()> {
    let query = || Ok(SchedClassifier::query_tcx(VICTIM_INTERFACE, side)?);
    let (_, programs) = lab.victim.enter(query)?;
    let program = programs.first().context("a program")?.id();
    let links = run(Command::new("bpftool").args(["--json", "link", "list"]))?;
    let links: Vec<serde_json::Value> = serde_json::from_slice(&links.stdout)?;
    let link = links.iter().find(|link| link["prog_id"] == program).context("its link")?;
    run(Command::new("bpftool").args(["link", "detach", "id", &link["id"].to_string()])).map(drop)
}

fn taken_off() -> Result<()> {
    let scenario = Scenario::defaults()?;
    for persist in [false, true] {
        let pins = Bpffs::mount()?;
        let pin = pins.pin();
        scenario.configure(&format!("{FAST}persist = {persist}\npin = \"{}\"\n", pin.display()))?;
        scenario.run(|lab, agent| {
            let losses = |metrics: &Metrics| {
                metrics.get(&format!("scanguard_egress_losses_total{{interface=\"{VICTIM_INTERFACE}\"}}"))
            };
            for times in [1.0, 2.0] {
                take_off(lab, TcAttachType::Egress)?;
                let is_back = |metrics: &Metrics| losses(metrics) == times && attached(metrics);
                wait_for("attached again", PATIENCE, || agent.metrics().ok().filter(is_back))?;
                ensure!(tcx_programs(lab)?.len() == 1, "{:?}", tcx_programs(lab)?);
            }
            ensure!(agent.said().contains("detached the egress program"), "it is not said");
            answers_are_seen(lab, agent)
        })?;
    }
    Ok(())
}

fn room_later() -> Result<()> {
    let scenario = Scenario::new(FAST)?;
    let index = || wire::index(VICTIM_INTERFACE);
    let other = scenario.lab.victim.enter(|| Ok(program::crowd_egress(index()?)?))?;
    scenario.run(|lab, agent| {
        ensure!(!attached(&agent.settled()?), "attached");
        lab.victim.enter(|| Ok(program::leave_egress(index()?, &other)?))?;
        wait_for("attached", PATIENCE, || agent.metrics().ok().filter(attached))?;
        let said = agent.said();
        let losses = said.matches("answers of this host are not seen").count();
        ensure!(losses == 1 && said.contains("the egress program is attached again"), "{said}");
        Ok(())
    })
}

fn killed() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let lab = &scenario.lab;
    let mut agent = scenario.start()?;
    ensure!(tcx_programs(lab)?.len() == 1, "{:?}", tcx_programs(lab)?);
    agent.process.signal(libc::SIGKILL);
    agent.exit_code()?;
    wait_for("detached", PATIENCE, || tcx_programs(lab).ok().filter(Vec::is_empty))?;
    scenario.run(|lab, _| {
        ensure!(tcx_programs(lab)?.len() == 1);
        Ok(())
    })?;
    ensure!(tcx_programs(lab)?.is_empty(), "still attached");
    Ok(())
}
