//! Agents that come and go while the program stays: nobody passes who is banned, no packet is lost, and in the end
//! all can be removed.

use std::{
    collections::BTreeSet,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard::sensor::{Sensor as _, settings::Settings};
use scanguard_common::{epoch::MEMORY_SHIFT, outcome::ProbeClass};
use scanguard_tests::{
    fixtures::{
        agent::{Agent, LISTEN},
        behind,
        capture::Capture,
        lab::{Lab, PATIENCE, SCANNER, VICTIM, VICTIM_INTERFACE, run_within, wait_for},
        pinned::{self, Bpffs},
        scenario::Scenario,
        scratch, stream,
    },
    tables::scans::SCANS,
};

use crate::{
    lifecycle::{refused, refused_in},
    trial,
};

/// Banned by itself, within a banned network, banned and allowed, and none of it.
const SOURCES: [Ipv4Addr; 4] = [
    Ipv4Addr::new(10, 77, 0, 66),
    Ipv4Addr::new(10, 77, 0, 130),
    Ipv4Addr::new(10, 77, 0, 70),
    Ipv4Addr::new(10, 77, 0, 50),
];
/// The host that scans.
const SCANNER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const VICTIM_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("persist: across restarts and a kill no packet is lost and none passes a ban", restart),
        trial(
            "persist: a restart with it misses nothing, and one without it says how long it was blind",
            blind,
        ),
        trial("persist: across upgrades of the layout none passes a ban", upgrade),
        trial(
            "persist: where the maps of a layout are lost, none passes a ban of the state file",
            lost_layout,
        ),
        trial(
            "persist: where the state file is lost or corrupt, bans in the kernel are taken over",
            lost_state,
        ),
        trial("persist: enforcing that is not confirmed ends though the agent is killed", unconfirmed),
        trial("persist: findings that were reported before a restart are not reported again", reported_once),
        trial("persist: a scan while no agent ran is found by the next", scan_without_agent),
        trial("persist: clients of a service that started while no agent ran are no scanners", new_services),
        trial("persist: occasional probes while no agent ran are no scan, and a real scan is one", by_and_by),
        trial("persist: detach removes all, once, and not while an agent runs", detach),
        trial("persist: the second of two agents names the first, exit code 8", two_agents),
        trial("persist: interfaces that are gone or not wanted any more are let go", other_interfaces),
        trial("persist: another mode is attached anew", other_mode),
        trial("persist: without it, the next agent takes over and leaves nothing", no_more),
        trial("persist: an agent that cannot start leaves nothing", cannot_start),
        trial("persist: no bpffs, a read-only one, and pins of others are exit code 10", bad_places),
        trial("persist: a pin of another kind is exit code 10 and the program goes on", corrupt),
    ]
}

/// The configuration of an agent that persists, as the agent reads it and as the test does.
struct Setup {
    scenario: Scenario,
    bpffs: Bpffs,
    settings: Settings,
}

impl Setup {
    fn new() -> Result<Self> {
        let bpffs = Bpffs::mount()?;
        let settings = Settings { persist: true, pin: bpffs.pin(), ..Settings::default() };
        Ok(Self { scenario: Scenario::defaults()?.with(&["--format", "json"]), bpffs, settings })
    }

    fn lab(&self) -> &Lab {
        &self.scenario.lab
    }

    /// Writes the configuration, with more lines on the sensor.
    fn configure(&self, sensor: &str) -> Result<()> {
        self.configure_also(sensor, "mode = \"enforce\"")
    }

    fn configure_also(&self, sensor: &str, response: &str) -> Result<()> {
        let Settings { persist, pin, .. } = &self.settings;
        let pin = pin.display();
        self.scenario.configure(&format!(
            "[sensor]\npoll_interval = \"100ms\"\npersist = {persist}\npin = \"{pin}\"\n{sensor}[response]\nshield = false\nreflex = \"0s\"\n{response}\n"
        ))
    }

    fn start(&self, sensor: &str) -> Result<Agent<'_>> {
        self.configure(sensor)?;
        self.scenario.start()
    }

    /// Does this beside an agent, and ends it.
    fn run<T>(&self, sensor: &str, test: impl FnOnce(&Lab, &Agent<'_>) -> Result<T>) -> Result<T> {
        self.configure(sensor)?;
        self.scenario.run(test)
    }

    /// Where the configuration is.
    fn file(&self) -> String {
        self.scenario.file().display().to_string()
    }

    /// Starts an agent and ends it, which leaves its program attached.
    fn leave_attached(&self) -> Result<()> {
        let mut agent = self.start("")?;
        agent.end()?;
        let said = agent.said();
        ensure!(said.contains("scanguard detach --pin"), "{said}");
        ensure!(self.lab().xdp_programs()?.len() == 1, "not attached any more");
        Ok(())
    }

    /// Bans and allows by an agent that then ends.
    fn ban(&self) -> Result<()> {
        self.run("", |_, agent| {
            for banned in ["10.77.0.66", "10.77.0.70"] {
                agent.order(&["ban", banned, "--for", "1h"])?;
            }
            for banned in ["fd77:0:0:5::/64", "10.77.0.128/25"] {
                agent.order(&["ban", banned])?;
            }
            agent.order(&["allow", "10.77.0.70"]).map(drop)
        })
    }

    fn layouts(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.settings.pin)?.collect::<Result<Vec<_>, _>>()?;
        let is_layout = |path: &PathBuf| path.file_name().is_some_and(|name| name != "links");
        Ok(entries.into_iter().map(|entry| entry.path()).filter(is_layout).collect())
    }

    fn links(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(self.settings.pin.join("links"))?.collect::<Result<Vec<_>, _>>()?;
        let mut names: Vec<_> =
            entries.into_iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    }

    fn detach(&self) -> Result<()> {
        let path = self.settings.pin.display().to_string();
        refused_in_peace(self.lab(), &["detach", "--pin", &path])
    }
}

/// Ends with 0, whatever becomes of programs.
fn refused_in_peace(lab: &Lab, arguments: &[&str]) -> Result<()> {
    let mut agent = Agent::spawn(&lab.victim, arguments)?;
    ensure!(agent.exit_code()? == Some(0), "{}", agent.said());
    Ok(())
}

fn kill(mut agent: Agent<'_>) -> Result<()> {
    agent.process.signal(libc::SIGKILL);
    agent.exit_code().map(drop)
}

fn pause() {
    std::thread::sleep(Duration::from_millis(400));
}

/// Packets of each of the sources that got through to the stack, as tcpdump saw them.
fn passed(capture: &Capture) -> Result<[u64; 4]> {
    let mut counts = [0; 4];
    for (count, source) in counts.iter_mut().zip(SOURCES) {
        *count = capture.count(&format!("tcp and src host {source}"))?;
    }
    Ok(counts)
}

fn restart() -> Result<()> {
    let setup = Setup::new()?;
    setup.leave_attached()?;
    setup.ban()?;
    let mut agent = setup.start("")?;
    let before = agent.settled()?;
    let mut capture = Capture::start(&setup.lab().victim, VICTIM_INTERFACE)?;
    let (sent, agent) = stream::during(setup.lab(), VICTIM_ADDRESS, &SOURCES, || {
        pause();
        agent.end()?;
        pause();
        let next = setup.start("")?;
        pause();
        kill(next)?;
        pause();
        let next = setup.start("")?;
        pause();
        Ok(next)
    })?;
    let after = agent.settled()?;
    capture.stop()?;
    println!("{sent} packets of each source, across a restart and a kill");
    let got = passed(&capture)?;
    ensure!(got == [0, 0, sent, sent], "{sent} of each were sent, {got:?} passed");
    let grown =
        |what: &dyn Fn(&scanguard_tests::fixtures::agent::Metrics) -> f64| what(&after) - what(&before);
    let banned = grown(&|page| page.exit("banned"));
    let counted = grown(&|page| page.probes("syn"));
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let sent_float = sent as f64;
    ensure!(banned == 2.0 * sent_float, "{sent} of each were sent, {banned} dropped");
    ensure!(counted == 2.0 * sent_float, "{sent} of each were sent, {counted} counted");
    ensure!(!agent.said().contains("WARN"), "{}", agent.said());
    drop(agent);
    let mut sensor = pinned::sensor(&setup.settings)?;
    let (state, epoch) = sensor.look(&SOURCES[3].into())?.context("the source is in the table")?;
    ensure!(u64::from(state.counts[ProbeClass::Syn.index()]) == sent, "{:?}", state.counts);
    ensure!(epoch > 30, "epoch {epoch}: it began anew");
    let standing = sensor.standing("10.77.0.66/32".parse()?)?.context("the ban")?;
    ensure!(standing.enforced && standing.remaining.is_some_and(|left| left < Duration::from_secs(3600)));
    ensure!(standing.dropped > 0);
    Ok(())
}

fn blind() -> Result<()> {
    let mut setup = Setup::new()?;
    let unwatched = |agent: &Agent<'_>, said: &str| -> Result<f64> {
        let (log, status) = (agent.said(), agent.order(&["status"])?);
        ensure!(log.contains(said) && status.contains(said), "{log}\n{status}");
        Ok(agent.metrics()?.get(&format!("scanguard_unwatched_seconds{{interface=\"{VICTIM_INTERFACE}\"}}")))
    };
    // The first of all knows of its own start only.
    let began = Instant::now();
    let mut agent = setup.start("")?;
    let (gap, most) = (unwatched(&agent, "there is no state of an agent before")?, began.elapsed());
    // The kernel tells a process's start to 10 ms.
    ensure!(gap > 0.05 && gap < most.as_secs_f64() + 0.02, "{gap} s of {most:?}");
    agent.end()?;
    pause();
    let agent = setup.start("")?;
    ensure!(unwatched(&agent, "no packet was missed")? == 0.0, "{}", agent.said());
    // Another mode needs another link.
    drop(agent);
    let began = Instant::now();
    let mut agent = setup.start("mode = \"generic\"\n")?;
    let (gap, most) = (unwatched(&agent, "between the program of the agent before")?, began.elapsed());
    ensure!(gap > 0.0 && gap < most.as_secs_f64() / 2.0, "{gap} s of {most:?}");
    agent.end()?;
    setup.settings.persist = false;
    setup.start("")?.end()?;
    let began = Instant::now();
    pause();
    let agent = setup.start("")?;
    let (gap, most) = (unwatched(&agent, "since the agent before wrote its state")?, began.elapsed());
    // It writes its state before it detaches.
    ensure!(gap > 0.4 && gap < most.as_secs_f64() + 1.0, "{gap} s of {most:?}");
    Ok(())
}

fn upgrade() -> Result<()> {
    let setup = Setup::new()?;
    setup.leave_attached()?;
    setup.ban()?;
    let mut agent = setup.start("")?;
    let mut capture = Capture::start(&setup.lab().victim, VICTIM_INTERFACE)?;
    let (sent, ()) = stream::during(setup.lab(), VICTIM_ADDRESS, &SOURCES, || {
        pause();
        agent.end()?;
        // Tables of another size.
        let mut next = setup.start("max_sources = 5000\n")?;
        ensure!(next.said().contains("another layout"), "{}", next.said());
        pause();
        next.end()?;
        // Another version, which nobody can tell by its sizes.
        let [layout] = setup.layouts()?.try_into().ok().context("one layout")?;
        fs::rename(&layout, layout.with_file_name("scanguard_abi_5-0123456789abcdef"))?;
        let next = setup.start("max_sources = 5000\n")?;
        ensure!(next.said().contains("another layout"), "{}", next.said());
        ensure!(next.metrics()?.exit("banned") > 0.0, "nothing was dropped");
        pause();
        kill(next)?;
        // And by another prefix, by which bans of IPv6 are looked up.
        let mut next = setup.start("ipv6_prefix = 56\n")?;
        pause();
        next.end()?;
        Ok(())
    })?;
    capture.stop()?;
    println!("{sent} packets of each source, across three changes of the layout");
    let got = passed(&capture)?;
    ensure!(got == [0, 0, sent, sent], "{sent} of each were sent, {got:?} passed");
    ensure!(setup.layouts()?.len() == 1, "old maps were left: {:?}", setup.layouts()?);
    let settings = Settings { ipv6_prefix: 56, ..setup.settings.clone() };
    let sensor = pinned::sensor(&settings)?;
    let standing = sensor.standing("10.77.0.66/32".parse()?)?.context("the ban")?;
    let left = standing.remaining.context("an end")?;
    ensure!(left < Duration::from_secs(3600) && left > Duration::from_secs(3400), "{left:?}");
    // That of the address that was allowed ended then.
    ensure!(sensor.banned().count() == 3);
    let six =
        sensor.standing("fd77:0:0:5::/64".parse()?)?.context("the ban of a network that was a source")?;
    ensure!(six.enforced && six.remaining.is_none(), "{six:?}");
    Ok(())
}

fn lost_layout() -> Result<()> {
    let setup = Setup::new()?;
    setup.leave_attached()?;
    setup.ban()?;
    let [layout] = setup.layouts()?.try_into().ok().context("one layout")?;
    let mut capture = Capture::start(&setup.lab().victim, VICTIM_INTERFACE)?;
    let (sent, agent) = stream::during(setup.lab(), VICTIM_ADDRESS, &SOURCES, || {
        pause();
        // Without it the layout is not complete: there is nothing to copy bans from. The program goes on with them.
        fs::remove_file(layout.join("META"))?;
        let agent = setup.start("")?;
        pause();
        Ok(agent)
    })?;
    ensure!(!agent.said().contains("using the pinned maps on"), "{}", agent.said());
    capture.stop()?;
    let got = passed(&capture)?;
    ensure!(got == [0, 0, sent, sent], "{sent} of each were sent, {got:?} passed");
    Ok(())
}

fn lost_state() -> Result<()> {
    let setup = Setup::new()?;
    setup.leave_attached()?;
    setup.ban()?;
    let state = setup.lab().victim.directory().join("state.json");
    let mut capture = Capture::start(&setup.lab().victim, VICTIM_INTERFACE)?;
    let banned = &SOURCES[..2];
    let (sent, ()) = stream::during(setup.lab(), VICTIM_ADDRESS, banned, || {
        for damage in ["", "{\"version\":1,"] {
            match damage {
                "" => fs::remove_file(&state)?,
                damage => fs::write(&state, damage)?,
            }
            let mut agent = setup.start("")?;
            ensure!(agent.said().contains("3 of 3 bans in the kernel are taken over"), "{}", agent.said());
            let bans = agent.json(&["bans"])?;
            let bans = bans["bans"].as_array().context("bans")?;
            ensure!(
                bans.len() == 3 && bans.iter().all(|ban| ban["by"] == "adopted" && ban["drops"] == true),
                "{bans:?}"
            );
            let ban = bans.iter().find(|ban| ban["net"] == "10.77.0.66/32").context("the ban")?;
            ensure!(ban["seconds_left"].as_u64().is_some_and(|left| (3_400..3_600).contains(&left)), "{ban}");
            ensure!(ban["packets"].as_u64() > Some(0), "what it counted is lost: {ban}");
            ensure!(agent.metrics()?.get("scanguard_bans{kind=\"adopted\"}") == 3.0);
            ensure!(agent.order(&["status"])?.contains("3 adopted"));
            ensure!(agent.order(&["explain", "10.77.0.70"])?.contains("allowed by hand"), "{}", agent.said());
            pause();
            agent.end()?;
        }
        Ok(())
    })?;
    capture.stop()?;
    let got = passed(&capture)?;
    ensure!(got == [0; 4], "{sent} of each were sent, {got:?} passed");
    Ok(())
}

fn unconfirmed() -> Result<()> {
    const CONFIRM: Duration = Duration::from_secs(8);
    let setup = Setup::new()?;
    let feed = scratch::file(".txt", "10.77.0.128/25\n")?;
    let response =
        format!("mode = \"dry-run\"\nknown_bad = \"drop\"\n[feeds]\nfiles = [\"{}\"]", feed.display());
    setup.configure_also("", &response)?;
    let agent = setup.scenario.start()?;
    agent.order(&["ban", "10.77.0.66", "--for", "1h"])?;
    let order = Instant::now();
    agent.order(&["enforce", "--confirm", "8s"])?;
    kill(agent)?;
    let served = || -> Result<[bool; 4]> {
        let mut capture = Capture::start(&setup.lab().victim, VICTIM_INTERFACE)?;
        let (sent, ()) = stream::during(setup.lab(), VICTIM_ADDRESS, &SOURCES, || {
            pause();
            Ok(())
        })?;
        capture.stop()?;
        let got = passed(&capture)?;
        ensure!(got.iter().all(|got| [0, sent].contains(got)), "{sent} of each were sent, {got:?} passed");
        Ok(got.map(|got| got > 0))
    };
    let before = served()?;
    ensure!(order.elapsed() < CONFIRM, "too slow to tell");
    ensure!(before == [false, false, true, true], "banned, listed, and two others: {before:?}");
    std::thread::sleep((CONFIRM + Duration::from_secs(1)).saturating_sub(order.elapsed()));
    let after = served()?;
    ensure!(after == [true; 4], "banned, listed, and two others: {after:?}");
    setup.detach()
}

fn reported_once() -> Result<()> {
    let setup = Setup::new()?;
    let before = setup.run("", |lab, agent| {
        // Requests of which the number alone is evidence, so that counting them again would be seen. hping3 fails when
        // nobody answers.
        let mut requests = lab.scanner.command("hping3");
        let _ =
            run_within(requests.args(["--icmp", "-C", "13", "-c", "8", "-i", "u10000", VICTIM]), PATIENCE);
        wait_for("the finding", PATIENCE, || agent.opened().contains_key("icmp_probe").then_some(()))?;
        agent.settled()
    })?;
    setup.run("", |lab, agent| {
        let continued = agent.settled()?;
        ensure!(continued.probes("icmp_timestamp") == 8.0, "{continued:?}");
        // One more probe has the source looked at.
        let (sent, ()) = stream::during(lab, VICTIM_ADDRESS, &[SCANNER_ADDRESS], || {
            std::thread::sleep(Duration::from_millis(5));
            Ok(())
        })?;
        let after = agent.settled()?;
        #[expect(clippy::cast_precision_loss, reason = "a few")]
        let grown = before.probes("syn") + sent as f64;
        ensure!(after.probes("syn") == grown, "{sent} sent: {after:?}");
        ensure!(!agent.opened().contains_key("icmp_probe"), "reported again: {:?}", agent.findings());
        Ok(())
    })
}

fn scan_without_agent() -> Result<()> {
    let setup = Setup::new()?;
    let agent = setup.start("")?;
    // Also of a source that was known before.
    stream::during(setup.lab(), VICTIM_ADDRESS, &[SCANNER_ADDRESS], || {
        std::thread::sleep(Duration::from_millis(5));
        Ok(())
    })?;
    ensure!(agent.settled()?.probes("syn") > 0.0, "{}", agent.said());
    kill(agent)?;
    SCANS[0].run(setup.lab())?;
    setup.run("", |_, agent| {
        wait_for("the finding", PATIENCE, || agent.opened().contains_key("vertical_scan").then_some(()))?;
        ensure!(agent.settled()?.probes("syn") >= 1000.0, "{:?}", agent.metrics()?);
        Ok(())
    })
}

/// Somebody probes ports where services start soon after, and their client finds them.
fn new_services() -> Result<()> {
    const PROBER: &str = "10.77.0.3";
    const FIRST: u16 = 8_081;
    const SERVICES: u16 = 14;
    let setup = Setup::new()?;
    kill(setup.start("")?)?;
    // Each CPU remembers what a port met. hping3 fails when nobody answers: the prober is not there.
    for cpu in 0..std::thread::available_parallelism()?.get() {
        let mut probes = setup.lab().scanner.command("taskset");
        probes.args(["-c", &cpu.to_string(), "hping3", "-a", PROBER, "-S", "-p", &format!("++{FIRST}")]);
        let _ = run_within(probes.args(["-c", &SERVICES.to_string(), "-i", "u10000", VICTIM]), PATIENCE);
    }
    for port in FIRST..FIRST + SERVICES {
        behind::serve(&setup.lab().victim, port)?;
    }
    // As long as that is remembered where the kernel's clock is slowest.
    std::thread::sleep(Duration::from_millis((1_000 / 100) << MEMORY_SHIFT));
    for port in FIRST..FIRST + SERVICES {
        behind::connect(setup.lab(), VICTIM, port, 1)?;
    }
    setup.run("", |lab, agent| {
        agent.settled()?;
        let accused: Vec<_> =
            agent.findings().into_iter().filter(|finding| finding["source"]["ip"] == SCANNER).collect();
        ensure!(accused.is_empty(), "{accused:?}");
        let explained = agent.order(&["explain", SCANNER])?;
        ensure!(explained.contains("not banned"), "{explained}");
        behind::connect(lab, VICTIM, FIRST, 1)?;
        Ok(())
    })
}

/// Somebody asks for one port after the other, each in an epoch of its own, after another has scanned.
fn by_and_by() -> Result<()> {
    const CLIENT: &str = "10.77.0.3";
    let setup = Setup::new()?;
    kill(setup.start("")?)?;
    // Rather than wait for half a minute each time.
    pinned::sensor(&setup.settings)?.set_longest_epoch(Duration::from_secs(2))?;
    SCANS[0].run(setup.lab())?;
    // It fails when nobody answers: the client is not there.
    let mut probes = setup.lab().scanner.command("hping3");
    let _ =
        run_within(probes.args(["-a", CLIENT, "-S", "-p", "++81", "-c", "14", "-i", "1", VICTIM]), PATIENCE);
    setup.run("", |_, agent| {
        wait_for("the finding", PATIENCE, || agent.opened().contains_key("vertical_scan").then_some(()))?;
        let metrics = agent.settled()?;
        ensure!(metrics.probes("syn") >= 1014.0, "{} probes", metrics.probes("syn"));
        let sources: BTreeSet<_> = agent
            .findings()
            .iter()
            .filter_map(|finding| finding["source"]["ip"].as_str().map(str::to_owned))
            .collect();
        ensure!(sources.iter().eq([SCANNER]), "{:?}", agent.findings());
        Ok(())
    })
}

fn detach() -> Result<()> {
    let setup = Setup::new()?;
    let path = setup.settings.pin.display().to_string();
    let mut agent = setup.start("")?;
    let pid = format!("(pid {})", agent.process.child.id());
    refused_in(setup.lab(), &["detach", "--pin", &path], 8, &["in use", &pid])?;
    agent.end()?;
    let mut detach = Agent::spawn(&setup.lab().victim, &["detach", "--pin", &path])?;
    ensure!(detach.exit_code()? == Some(0), "{}", detach.said());
    let lines = detach.lines().join("\n");
    for word in ["detached xdp at edge0", "detached egress at edge0", "removed the maps"] {
        ensure!(lines.contains(word), "{word}: {lines}");
    }
    ensure!(setup.lab().xdp_programs()?.is_empty(), "still attached");
    ensure!(!setup.settings.pin.exists(), "the directory is still there");
    let mut again = Agent::spawn(&setup.lab().victim, &["detach", "--pin", &path])?;
    ensure!(again.exit_code()? == Some(0), "{}", again.said());
    ensure!(again.lines().join("").contains("nothing is pinned"), "{:?}", again.lines());
    // From where the interface has another name, or none.
    setup.leave_attached()?;
    let mut away = Agent::spawn(&setup.lab().scanner, &["detach", "--pin", &path])?;
    ensure!(away.exit_code()? == Some(0), "{}", away.said());
    let lines = away.lines().join("\n");
    ensure!(
        lines.contains("detached xdp at interface ")
            && lines.contains("(as its network namespace numbers it)"),
        "{lines}"
    );
    // Files of others stay there.
    setup.leave_attached()?;
    fs::create_dir(setup.settings.pin.join("theirs"))?;
    let mut third = Agent::spawn(&setup.lab().victim, &["detach", "--pin", &path])?;
    ensure!(
        third.exit_code()? == Some(1) && third.lines().join("").contains("theirs"),
        "{:?}",
        third.lines()
    );
    ensure!(setup.lab().xdp_programs()?.is_empty() && setup.settings.pin.join("theirs").exists());
    Ok(())
}

fn two_agents() -> Result<()> {
    let setup = Setup::new()?;
    let first = setup.start("")?;
    let pid = format!("(pid {})", first.process.child.id());
    setup.configure("")?;
    let beside = |name: &str| setup.lab().victim.directory().join(name).display().to_string();
    let (socket, state) = (beside("second.sock"), beside("second.json"));
    let arguments = [
        "run",
        "--iface",
        VICTIM_INTERFACE,
        "--listen",
        "127.0.0.1:9824",
        "--socket",
        &socket,
        "--state",
        &state,
        "--config",
        &setup.file(),
    ];
    refused_in(setup.lab(), &arguments, 8, &["another agent", &pid, "sensor.pin"])?;
    // One that does not persist is found by the interface.
    setup.scenario.configure(&format!("[sensor]\npin = \"{}\"\n", setup.settings.pin.display()))?;
    refused_in(setup.lab(), &arguments, 6, &["does not replace", &pid])?;
    Ok(())
}

fn other_interfaces() -> Result<()> {
    let setup = Setup::new()?;
    let lab = setup.lab();
    for name in ["other0", "more0"] {
        lab.victim.ip(&format!("link add {name} type veth peer name {name}-p"))?;
    }
    setup.configure("")?;
    let mut agent =
        Agent::start(&lab.victim, &["--iface", "other0", "--iface", "more0", "--config", &setup.file()])?;
    ensure!(setup.links()?.len() == 6, "{:?}", setup.links()?);
    // While it runs: the pins of an interface go with it, and come back.
    lab.victim.ip("link del other0")?;
    wait_for("its pins are gone", PATIENCE, || (setup.links().ok()?.len() == 4).then_some(()))?;
    lab.victim.ip("link add other0 type veth peer name other0-p")?;
    wait_for("its pins are back", PATIENCE, || (setup.links().ok()?.len() == 6).then_some(()))?;
    agent.end()?;
    // While none runs: one is gone, and another not wanted.
    lab.victim.ip("link del other0")?;
    setup.run("", |lab, _| {
        ensure!(setup.links()?.len() == 2, "{:?}", setup.links()?);
        ensure!(lab.xdp_programs()?.len() == 1);
        let more = lab.victim.ip("-j -d link show dev more0")?;
        ensure!(!String::from_utf8_lossy(&more.stdout).contains("\"xdp\""), "still attached to more0");
        Ok(())
    })?;
    // The interface itself is made anew, with another index.
    lab.victim.ip(&format!("link del {VICTIM_INTERFACE}"))?;
    lab.connect()?;
    setup.run("", |lab, _| {
        ensure!(lab.xdp_programs()?.len() == 1 && setup.links()?.len() == 2, "{:?}", setup.links()?);
        Ok(())
    })?;
    setup.detach()
}

fn other_mode() -> Result<()> {
    let setup = Setup::new()?;
    setup.leave_attached()?;
    setup.ban()?;
    let attached = |agent: &Agent<'_>, mode: &str| -> Result<f64> {
        let series = format!("scanguard_xdp_attached{{interface=\"{VICTIM_INTERFACE}\",mode=\"{mode}\"}}");
        Ok(agent.metrics()?.get(&series))
    };
    setup.run("mode = \"generic\"\n", |_, agent| {
        ensure!(attached(agent, "generic")? == 1.0 && attached(agent, "native")? == 0.0);
        ensure!(agent.said().contains("attaching anew"), "it is not said");
        Ok(())
    })?;
    setup.run("mode = \"tc\"\n", |lab, agent| {
        ensure!(attached(agent, "tc")? == 1.0 && attached(agent, "generic")? == 0.0);
        ensure!(lab.xdp_programs()?.is_empty(), "the program of XDP would count once more");
        Ok(())
    })?;
    // By tc again: the program in the pinned link is replaced.
    setup.run("mode = \"tc\"\n", |_, agent| {
        ensure!(attached(agent, "tc")? == 1.0 && agent.said().contains("took over"), "{}", agent.said());
        Ok(())
    })?;
    setup.run("mode = \"generic\"\n", |_, agent| {
        ensure!(attached(agent, "generic")? == 1.0 && attached(agent, "tc")? == 0.0);
        ensure!(setup.links()?.iter().all(|link| !link.starts_with("ingress")), "{:?}", setup.links()?);
        Ok(())
    })?;
    // Whichever it is will do.
    setup.run("mode = \"auto\"\n", |lab, agent| {
        ensure!(attached(agent, "generic")? == 1.0, "{}", agent.said());
        let (sent, ()) = stream::during(lab, VICTIM_ADDRESS, &SOURCES, || {
            pause();
            Ok(())
        })?;
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let expected = 2.0 * sent as f64;
        let banned = agent.settled()?.exit("banned");
        ensure!(banned == expected, "{banned} of {expected}");
        Ok(())
    })
}

fn no_more() -> Result<()> {
    let mut setup = Setup::new()?;
    setup.leave_attached()?;
    setup.ban()?;
    let attached = setup.lab().xdp_programs()?;
    setup.settings.persist = false;
    let mut agent = setup.start("")?;
    ensure!(!setup.settings.pin.exists(), "still pinned");
    let now = setup.lab().xdp_programs()?;
    ensure!(now.len() == 1 && now != attached, "{attached:?} {now:?}");
    let (sent, ()) = stream::during(setup.lab(), VICTIM_ADDRESS, &SOURCES[..1], || {
        pause();
        Ok(())
    })?;
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let expected = sent as f64;
    ensure!(agent.settled()?.exit("banned") == expected, "{}", agent.said());
    agent.end()?;
    ensure!(agent.said().contains("detached from"), "{}", agent.said());
    ensure!(setup.lab().xdp_programs()?.is_empty(), "still attached");
    Ok(())
}

fn cannot_start() -> Result<()> {
    let setup = Setup::new()?;
    setup.configure("")?;
    let arguments = ["run", "--iface", VICTIM_INTERFACE, "--iface", "lo", "--config", &setup.file()];
    refused_in(setup.lab(), &arguments, 6, &["lo", "native mode"])?;
    ensure!(!setup.settings.pin.exists(), "something is pinned");
    // Files that were there before stay.
    setup.leave_attached()?;
    let attached = setup.lab().xdp_programs()?;
    let taken = setup.lab().victim.enter(|| std::net::TcpListener::bind(LISTEN).context("bind"))?;
    refused_in(
        setup.lab(),
        &[&arguments[..3], &arguments[5..], &["--listen", LISTEN]].concat(),
        7,
        &[LISTEN],
    )?;
    drop(taken);
    ensure!(setup.lab().xdp_programs()? == attached && setup.links()?.len() == 2);
    setup.start("")?.end()?;
    Ok(())
}

fn bad_places() -> Result<()> {
    let mut setup = Setup::new()?;
    let run = |setup: &Setup, words: &[&str]| -> Result<()> {
        setup.configure("")?;
        refused(&["run", "--iface", VICTIM_INTERFACE, "--config", &setup.file()], 10, words)
    };
    fs::create_dir_all(setup.settings.pin.join("theirs"))?;
    run(&setup, &["theirs", "nothing that ScanGuard has pinned", "sensor.pin"])?;
    ensure!(setup.settings.pin.join("theirs").exists(), "what others have is removed");
    fs::remove_dir(setup.settings.pin.join("theirs"))?;
    setup.bpffs.make_read_only()?;
    run(&setup, &["read-only", "remount,rw"])?;
    setup.settings.pin = setup.lab().victim.directory().join("no-bpffs");
    run(&setup, &["not on a BPF file system", "mount -t bpf"])?;
    ensure!(!setup.settings.pin.exists(), "the directory was made");
    refused(&["detach", "--pin", "relative/path"], 2, &["absolute path"])
}

fn corrupt() -> Result<()> {
    let setup = Setup::new()?;
    setup.leave_attached()?;
    let [layout] = setup.layouts()?.try_into().ok().context("one layout")?;
    setup.configure("")?;
    let attached = setup.lab().xdp_programs()?;
    let refuses = |words: &[&str]| {
        let arguments = ["run", "--iface", VICTIM_INTERFACE, "--config", &setup.file()];
        refused_in(setup.lab(), &arguments, 10, &[words, &["scanguard detach --pin"]].concat())
    };
    let swap = |one: &Path, other: &Path| -> Result<()> {
        let aside = layout.join("ASIDE");
        fs::rename(one, &aside)?;
        fs::rename(other, one)?;
        Ok(fs::rename(&aside, other)?)
    };
    // Another map, no map, nothing.
    let (allowed, tally) = (layout.join("ALLOWED"), layout.join("TALLY"));
    swap(&allowed, &tally)?;
    refuses(&["ALLOWED", "of this version"])?;
    swap(&allowed, &tally)?;
    let links = setup.links()?;
    let xdp = links.iter().find(|name| name.starts_with("xdp")).context("a link")?;
    let xdp = setup.settings.pin.join("links").join(xdp);
    swap(&allowed, &xdp)?;
    refuses(&["ALLOWED"])?;
    swap(&allowed, &xdp)?;
    let aside = layout.join("ASIDE");
    fs::rename(&allowed, &aside)?;
    refuses(&["ALLOWED", "No such file"])?;
    fs::rename(&aside, &allowed)?;
    ensure!(setup.lab().xdp_programs()? == attached, "the program was detached");
    setup.start("")?.end()?;
    setup.detach()
}
