//! Things go wrong around the agent, on purpose: see the table in tests/src/tables/faults.rs.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::{Ipv4Addr, TcpStream},
    process::Stdio,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::{
    fixtures::{
        agent::{Agent, LISTEN, Metrics, USER, give},
        capture::Capture,
        frames::{V4, tcp, to, v4_packet},
        lab::{Lab, PATIENCE, Process, SCANNER, SCANNER_INTERFACE, VICTIM, VICTIM_INTERFACE, run, wait_for},
        scenario::Scenario,
        scratch::SmallDisk,
        wire::Wire,
    },
    tables::{faults::FAULTS, scans::SCANS},
};

use crate::trial;

/// A file with nothing in it is taken for a mistake.
const DEFAULTS: &str = "# all defaults\n";
const RELOADS: u32 = 1_000;
/// Sources that scan at once while the agent stands still.
const SCANNERS: u16 = 1_000;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("fault: an interface that is renamed is lost, and attached again by its old name", renamed),
        trial("fault: down and up and another MTU leave the program where it is", down_and_mtu),
        trial(
            "fault: with a table that is full evictions are counted, totals stay exact and a scan is found",
            table_full,
        ),
        trial("fault: an agent that stood still counts the trips it lost, and finds every scan", stood_still),
        trial("fault: at the limit of bans one more is refused, and the present ones stay", bans_full),
        trial(
            "fault: a full disk does not stop bans, and the state is written when there is room",
            disk_full,
        ),
        trial("fault: a disk that hangs keeps neither bans nor the end waiting, and is reported", disk_hangs),
        trial(
            "fault: without file descriptors it goes on, and answers again when there are some",
            descriptors,
        ),
        trial("fault: a thousand reloads leave no descriptor, thread or memory behind", reloads),
    ]
}

/// Whether every row of the table has its test.
pub(crate) fn check(trials: &[Trial]) -> Result<()> {
    for fault in FAULTS {
        ensure!(trials.iter().any(|trial| trial.name() == fault.test), "no test is called {:?}", fault.test);
    }
    Ok(())
}

fn attached(page: &Metrics) -> bool {
    page.get(&format!("scanguard_xdp_attached{{interface=\"{VICTIM_INTERFACE}\",mode=\"native\"}}")) == 1.0
}

fn found(agent: &Agent<'_>, rule: &str) -> Result<()> {
    let is_found = || agent.findings().iter().any(|finding| finding["rule"] == rule).then_some(());
    wait_for(rule, PATIENCE, is_found).with_context(|| agent.said())
}

fn renamed() -> Result<()> {
    let scenario = Scenario::defaults()?.with(&["--iface", "other0"]);
    scenario.lab.victim.ip("link add other0 type veth peer name other1")?;
    scenario.run(|lab, agent| {
        let rename = |from: &str, to: &str| {
            lab.victim.ip(&format!("link set {from} down"))?;
            lab.victim.ip(&format!("link set {from} name {to}"))?;
            lab.victim.ip(&format!("link set {to} up"))
        };
        // It goes and comes in the midst of traffic.
        let mut traffic = lab.scanner.command("hping3");
        traffic.args("-S -q -i u500 -p ++1 10.77.0.1".split(' ')).stdout(Stdio::null()).stderr(Stdio::null());
        let traffic = Process::new(traffic.spawn()?);
        rename(VICTIM_INTERFACE, "edge9")?;
        wait_for("the loss", PATIENCE, || agent.metrics().ok().filter(|page| !attached(page)))?;
        ensure!(agent.said().contains("is gone"), "{}", agent.said());
        rename("edge9", VICTIM_INTERFACE)?;
        wait_for("attached again", PATIENCE, || agent.metrics().ok().filter(attached))?;
        ensure!(lab.xdp_programs()?.len() == 1);
        let before = agent.metrics()?.probes("syn");
        wait_for("traffic is counted", PATIENCE, || {
            agent.metrics().ok().filter(|page| page.probes("syn") > before)
        })?;
        drop(traffic);
        scan_is_counted(lab, agent)
    })
}

/// A scan, of which as much is counted as tcpdump sees leave.
pub(crate) fn scan_is_counted(lab: &Lab, agent: &Agent<'_>) -> Result<()> {
    let before = agent.settled()?.probes("syn");
    let mut capture = Capture::outgoing(&lab.scanner, SCANNER_INTERFACE)?;
    SCANS[0].run(lab)?;
    let after = agent.settled()?.probes("syn");
    capture.stop()?;
    same(after - before, capture.count("tcp[tcpflags] == tcp-syn and dst host 10.77.0.1")?)
        .with_context(|| agent.said())
}

fn down_and_mtu() -> Result<()> {
    Scenario::defaults()?.run(|lab, agent| {
        let program = lab.xdp_programs()?;
        for change in ["mtu 1300", "down", "up", "mtu 1500"] {
            lab.victim.ip(&format!("link set {VICTIM_INTERFACE} {change}"))?;
        }
        let mac = lab.scanner.mac(SCANNER_INTERFACE)?;
        lab.victim
            .ip(&format!("neigh replace {SCANNER} lladdr {mac} dev {VICTIM_INTERFACE} nud permanent"))?;
        scan_is_counted(lab, agent)?;
        ensure!(lab.xdp_programs()? == program, "another program");
        ensure!(attached(&agent.metrics()?) && !agent.said().contains("is gone"), "{}", agent.said());
        Ok(())
    })
}

fn same(counted: f64, sent: u64) -> Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let sent = sent as f64;
    ensure!(counted == sent && sent > 0.0, "{sent} were sent, {counted} counted");
    Ok(())
}

/// SYNs to each of these ports, one after the other, from each of so many sources that nobody answers.
fn probes(lab: &Lab, sources: u16, ports: std::ops::RangeInclusive<u16>) -> Result<()> {
    let (mac, victim) = (lab.victim_mac_bytes()?, VICTIM.parse()?);
    let wire = lab.scanner.enter(|| Wire::open(SCANNER_INTERFACE))?;
    for port in ports {
        for source in 0..sources {
            let [high, low] = source.to_be_bytes();
            let source = Some(Ipv4Addr::new(198, 18, high, low));
            let with = V4 { protocol: 6, source, destination: Some(victim), ..V4::default() };
            wire.send(&to(mac, &v4_packet(&with, &tcp(2, port))))?;
            // The other end of the pair has room for 256.
            if low % 16 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    Ok(())
}

fn table_full() -> Result<()> {
    Scenario::new("[sensor]\nmax_sources = 1024\n")?.with(&["--format", "json"]).run(|lab, agent| {
        let mut capture = Capture::outgoing(&lab.scanner, SCANNER_INTERFACE)?;
        // Far more sources than there is room for. The door lets in those that come again.
        probes(lab, 4_000, 81..=82)?;
        SCANS[0].run(lab)?;
        found(agent, "vertical_scan")?;
        let page = agent.settled()?;
        capture.stop()?;
        same(page.probes("syn"), capture.count("tcp[tcpflags] == tcp-syn and dst host 10.77.0.1")?)?;
        let held = page.get("scanguard_sources");
        ensure!(held > 0.0 && held <= 1024.0, "{held} sources in a table of 1024");
        let evicted = page.get("scanguard_source_evictions_total");
        ensure!(evicted >= 1.0, "of 4,000 sources that came again, a table of 1024 evicted {evicted}");
        Ok(())
    })
}

fn stood_still() -> Result<()> {
    Scenario::defaults()?.with(&["--format", "json"]).run(|lab, agent| {
        let mut capture = Capture::outgoing(&lab.scanner, SCANNER_INTERFACE)?;
        agent.process.signal(libc::SIGSTOP);
        // Each wakes the agent ten times: the ring has room for 8,192.
        probes(lab, SCANNERS, 1..=26)?;
        SCANS[0].run(lab)?;
        agent.process.signal(libc::SIGCONT);
        let scanners = || {
            let scans = agent.findings().into_iter().filter(|finding| finding["rule"] == "vertical_scan");
            scans.map(|finding| finding["source"]["ip"].to_string()).collect::<BTreeSet<_>>().len()
        };
        let all = usize::from(SCANNERS) + 1;
        wait_for("every scan is found", PATIENCE, || (scanners() == all).then_some(()))
            .with_context(|| format!("{} of {all}: {}", scanners(), agent.said()))?;
        let page = agent.settled()?;
        capture.stop()?;
        same(page.probes("syn"), capture.count("tcp[tcpflags] == tcp-syn and dst host 10.77.0.1")?)?;
        let lost = page.get("scanguard_trips_lost_total");
        ensure!(lost >= 1.0, "the ring buffer did not run over");
        Ok(())
    })
}

fn bans_full() -> Result<()> {
    Scenario::new("[response]\nmode = \"enforce\"\nmax_bans = 2\n")?.with(&["--format", "json"]).run(
        |_, agent| {
            for banned in ["192.0.2.1", "192.0.2.2"] {
                agent.order(&["ban", banned])?;
            }
            let (done, said) = agent.ask(&["ban", "192.0.2.3"])?;
            ensure!(!done && said.contains("response.max_bans"), "{said}");
            let page = agent.metrics()?;
            let (bans, limit) = (page.sum("scanguard_bans{"), page.get("scanguard_bans_limit"));
            ensure!(bans == 2.0 && limit == 2.0, "{bans} bans of {limit}");
            let refused = page.get("scanguard_bans_refused_total{reason=\"full\"}");
            ensure!(refused == 1.0, "{refused} were refused");
            agent.order(&["unban", "192.0.2.1"])?;
            agent.order(&["ban", "192.0.2.3"])?;
            let listed = agent.order(&["bans"])?;
            ensure!(listed.contains("192.0.2.2") && listed.contains("192.0.2.3"), "{listed}");
            Ok(())
        },
    )
}

fn disk_full() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let directory = scenario.lab.victim.directory().join("disk");
    let state = directory.join("state.json");
    let scenario = scenario.with(&["--state", state.to_str().context("UTF-8")?]);
    // Unmounted before the directory that it is in goes.
    let disk = SmallDisk::mount(directory)?;
    scenario.run(|_, agent| {
        let filler = disk.path().join("filler");
        // Until there is no room for one byte more.
        let mut file = fs::File::create(&filler)?;
        while file.write_all(&[0; 512]).is_ok() {}
        agent.order(&["ban", "192.0.2.7"])?;
        let error =
            |agent: &Agent<'_>| agent.order(&["status"]).ok().map(|said| said.contains("NOT WRITTEN"));
        wait_for("it is said", PATIENCE, || error(agent).filter(|said| *said))?;
        ensure!(agent.order(&["bans"])?.contains("192.0.2.7"));
        fs::remove_file(&filler)?;
        drop(file);
        wait_for("it is written", PATIENCE, || error(agent).filter(|said| !said))?;
        ensure!(fs::read_to_string(state)?.contains("192.0.2.7"));
        Ok(())
    })
}

/// A pipe that nobody reads, where the next state file is to be written, makes its writer wait as a dead disk would.
fn disk_hangs() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let mut agent = scenario.start()?;
    let next = scenario.lab.victim.directory().join("state.json.new");
    run(std::process::Command::new("mkfifo").arg(&next))?;
    give(&next)?;
    agent.order(&["ban", "192.0.2.7"])?;
    let hangs = |said: &String| said.contains("NOT WRITTEN: the disk has not answered since");
    wait_for("it is said", PATIENCE, || agent.order(&["status"]).ok().filter(hangs))?;
    agent.order(&["ban", "192.0.2.8"])?;
    ensure!(agent.order(&["bans"])?.contains("192.0.2.8"), "it does not ban");
    let asked = std::time::Instant::now();
    agent.end()?;
    ensure!(asked.elapsed() < Duration::from_secs(15), "it took {:?} to end", asked.elapsed());
    ensure!(
        agent.said().contains("the disk does not answer, and the agent does not wait"),
        "{}",
        agent.said()
    );
    ensure!(scenario.lab.xdp_programs()?.is_empty(), "still attached");
    Ok(())
}

/// Entries of a directory of the agent's in /proc.
fn entries(agent: &Agent<'_>, of: &str) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/{of}", agent.process.child.id()))?.count())
}

fn descriptors() -> Result<()> {
    Scenario::defaults()?.with(&["--format", "json"]).run(|lab, agent| {
        let pid = agent.process.child.id().to_string();
        let limit = entries(agent, "fd")? + 4;
        // Only a process of the same user may do it without a capability of its own.
        let nofile = format!("--nofile={limit}:{limit}");
        let user = [format!("--reuid={USER}"), format!("--regid={USER}"), "--clear-groups".to_owned()];
        run(std::process::Command::new("setpriv").args(user).args(["prlimit", "--pid", &pid, &nofile]))?;
        // More than it can take; what it does not is still connected, to the kernel's queue.
        let connections = lab.victim.enter(|| {
            (0..16).map(|_| TcpStream::connect(LISTEN).map_err(Into::into)).collect::<Result<Vec<_>>>()
        })?;
        wait_for("it has none left", PATIENCE, || entries(agent, "fd").ok().filter(|open| *open >= limit))?;
        SCANS[0].run(lab)?;
        found(agent, "vertical_scan")?;
        drop(connections);
        let page = agent.settled()?;
        ensure!(page.probes("syn") >= 1000.0, "{}", agent.said());
        ensure!(agent.order(&["status"])?.contains("process"));
        Ok(())
    })
}

fn reloads() -> Result<()> {
    let scenario = Scenario::new(DEFAULTS)?.with(&["--format", "json"]);
    scenario.run(|lab, agent| {
        let taken = |agent: &Agent<'_>| {
            let series = "scanguard_config_reloads_total{outcome=\"success\"}";
            agent.metrics().map_or(0.0, |page| page.get(series))
        };
        let memory =
            |agent: &Agent<'_>| agent.metrics().map(|page| page.get("process_resident_memory_bytes"));
        let reload = |agent: &Agent<'_>, number: u32| {
            // Every second one is another.
            scenario.configure(&format!("[rules.vertical_scan]\nservices = {}\n", 20 + number % 2))?;
            agent.process.signal(libc::SIGHUP);
            wait_for("the reload", PATIENCE, || (taken(agent) >= f64::from(number)).then_some(()))
        };
        for number in 1..=RELOADS / 10 {
            reload(agent, number)?;
        }
        // Each look at the metrics is a connection, whose end the agent sees when it gets its turn.
        let closed = || {
            let looks = (0..20).map(|_| {
                thread::sleep(Duration::from_millis(100));
                entries(agent, "fd")
            });
            looks.collect::<Result<Vec<_>>>().map(|open| open.into_iter().min().unwrap_or_default())
        };
        let before = (closed()?, entries(agent, "task")?, memory(agent)?);
        for number in RELOADS / 10 + 1..=RELOADS {
            reload(agent, number)?;
        }
        let after = (closed()?, entries(agent, "task")?, memory(agent)?);
        println!(
            "descriptors, threads and bytes after {} reloads: {before:?}, after {RELOADS}: {after:?}",
            RELOADS / 10
        );
        // A connection of the test may be open at either time.
        ensure!(after.0 <= before.0 + 2 && after.1 <= before.1 + 2, "{before:?}, then {after:?}");
        ensure!(after.2 <= before.2 + 4e6, "{before:?}, then {after:?}");
        SCANS[0].run(lab)?;
        found(agent, "vertical_scan")
    })
}
