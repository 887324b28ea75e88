//! Least privilege: what the real agent has given up once it is attached, thread by thread, and what it says of that.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::{
    fixtures::{
        agent::{Agent, LISTEN, USER, scanguard},
        injected::Injected,
        lab::{Lab, PATIENCE, Process, VICTIM_INTERFACE, run, wait_for},
        pinned::Bpffs,
        program,
        root::skipped,
        scenario::Scenario,
        scratch::Scratch,
    },
    tables::{
        scans::SCANS,
        taken_over::{Ground, tried},
    },
};

use crate::{
    lifecycle::{refused, refused_in},
    trial,
};

/// `CAP_DAC_READ_SEARCH`, include/uapi/linux/capability.h.
const READ_SEARCH: u64 = 1 << 2;

/// A file with nothing in it is taken for a mistake.
const DEFAULTS: &str = "# all defaults\n";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("sandbox: no thread has a capability, and all have their system calls filtered", confined),
        trial(
            "sandbox: only where logs are hidden from its user, reading them is the one capability left",
            with_logs,
        ),
        trial("sandbox: switched off it keeps all, and says so", switched_off),
        trial("sandbox: the agent is no root, and says as whom it runs and what it keeps", as_whom),
        trial("sandbox: where there is no user for the agent it refuses, and says how to make one", nobody),
        trial("sandbox: where its user may not write its state it refuses, and says what to do", unwritable),
        trial("sandbox: all that code could try that took the agent over is refused", taken_over),
        trial("sandbox: with pins, logs and a journal, too, and pinning again goes on", taken_over_with_more),
        trial("sandbox: a reload with the first sink at a Unix socket needs a restart", unix_sink),
        trial("sandbox: a reload that names files elsewhere is refused and says what to do", elsewhere),
    ]
}

/// The status of each thread, from /proc.
fn threads(agent: &Agent<'_>) -> Result<Vec<BTreeMap<String, String>>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{}/task", agent.process.child.id()))? {
        // It may have ended.
        let Ok(status) = fs::read_to_string(entry?.path().join("status")) else {
            continue;
        };
        let fields = status.lines().filter_map(|line| line.split_once(':'));
        threads.push(fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect());
    }
    ensure!(threads.len() > 2, "{threads:?}");
    Ok(threads)
}

/// The capability that older kernels want for each look into a map (CAP_BPF, until Linux 5.19).
fn for_maps() -> u64 {
    let is_set =
        fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled").is_ok_and(|text| text.trim() != "0");
    if is_set && !program::has_frags() { 1 << 39 } else { 0 }
}

/// Every thread has these capabilities and no others, and no way to more.
fn ensure_confined(agent: &Agent<'_>, capabilities: u64) -> Result<()> {
    for thread in threads(agent)? {
        let field = |name: &str| thread.get(name).with_context(|| format!("{name}: {thread:?}"));
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            ensure!(u64::from_str_radix(field(set)?, 16)? == capabilities, "{set}: {thread:?}");
        }
        for set in ["CapInh", "CapAmb"] {
            ensure!(u64::from_str_radix(field(set)?, 16)? == 0, "{set}: {thread:?}");
        }
        ensure!(field("NoNewPrivs")? == "1" && field("Seccomp")? == "2", "{thread:?}");
    }
    Ok(())
}

fn enforced(agent: &Agent<'_>, part: &str) -> Result<bool> {
    let page = agent.metrics()?;
    Ok(page.get(&format!("scanguard_sandbox_enforced{{part=\"{part}\"}}")) == 1.0)
}

fn confined() -> Result<()> {
    let scenario = Scenario::new(DEFAULTS)?.with(&["--format", "json"]);
    let directory = scenario.lab.victim.directory();
    let mut agent = scenario.start()?;
    ensure_confined(&agent, for_maps())?;
    for part in ["capabilities", "seccomp"] {
        ensure!(enforced(&agent, part)?, "{part}");
    }
    let report = agent.json(&["status"])?;
    ensure!(report["sandbox"]["enabled"] == true && report["sandbox"]["seccomp"] == true, "{report}");
    // It does its work: counts, finds, bans, writes its state. What that takes of threads is confined, too.
    SCANS[0].run(&scenario.lab)?;
    wait_for("the finding", PATIENCE, || (!agent.findings().is_empty()).then_some(()))?;
    agent.order(&["ban", "192.0.2.7"])?;
    let state = directory.join("state.json");
    let kept = || fs::read_to_string(&state).is_ok_and(|text| text.contains("192.0.2.7"));
    wait_for("the state is written", PATIENCE, || kept().then_some(()))?;
    ensure_confined(&agent, for_maps())?;
    agent.end()?;
    ensure!(
        !agent.said().contains("ermission denied") && !agent.said().contains("not permitted"),
        "{}",
        agent.said()
    );
    ensure!(!directory.join("control.sock").exists(), "the socket is left");
    Ok(())
}

/// Every thread runs as the user of the tests, and has no other group.
fn ensure_user(agent: &Agent<'_>) -> Result<()> {
    let user = [USER.to_string().as_str(); 4].join("\t");
    for thread in threads(agent)? {
        for of in ["Uid", "Gid"] {
            ensure!(thread.get(of) == Some(&user), "{of}: {thread:?}");
        }
        ensure!(thread.get("Groups") == Some(&USER.to_string()), "{thread:?}");
    }
    Ok(())
}

fn as_whom() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let socket = scenario.lab.victim.directory().join("control.sock");
    scenario.configure(&format!("[control]\nsocket = \"{}\"\n", socket.display()))?;
    scenario.run(|lab, agent| {
        ensure_user(agent)?;
        ensure!(enforced(agent, "user")?, "the metric says that it is root");
        let said = agent.order(&["status"])?;
        ensure!(said.contains(&format!("sandbox     user uid {USER}; capabilities: none")), "{said}");
        let doctor = scanguard(&lab.victim, &["doctor", "--config", &scenario.file().display().to_string()])?
            .output()?;
        let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
        ensure!(said.contains(&format!("runs as uid {USER}; capabilities: none")), "{said}");
        Ok(())
    })?;
    Scenario::new(DEFAULTS)?.with(&["--user", "root"]).run(|_, agent| {
        ensure!(agent.said().contains("the agent stays root"), "{}", agent.said());
        ensure!(!enforced(agent, "user")?, "the metric says that it is not root");
        let said = agent.order(&["status"])?;
        ensure!(said.contains("sandbox     user ROOT; capabilities: none"), "{said}");
        Ok(())
    })
}

fn nobody() -> Result<()> {
    let arguments = ["run", "--iface", VICTIM_INTERFACE, "--listen", LISTEN, "--user", "sg-no-such-user"];
    refused(&arguments, 4, &["useradd", "sg-no-such-user", "--user root"])
}

fn unwritable() -> Result<()> {
    let lab = Lab::new()?;
    let elsewhere = Scratch::new()?;
    let state = elsewhere.path().join("state.json").display().to_string();
    let arguments = ["run", "--iface", VICTIM_INTERFACE, "--listen", LISTEN, "--state", &state];
    let chown = format!("chown uid {USER} {}", elsewhere.path().display());
    refused_in(&lab, &arguments, 9, &["response.state", &chown.replace("uid ", "")])
}

/// A process of root's in the same namespaces of processes and users.
fn process_of_root() -> Result<Process> {
    Ok(Process::new(Command::new("sleep").arg("600").spawn()?))
}

/// Fails unless everything that code in this agent could try is refused.
fn ensure_harmless(agent: &Agent<'_>) -> Result<()> {
    let (ground, victim) = (Ground::new()?, process_of_root()?);
    let injected = Injected::into(agent.process.child.id())?;
    let mut succeeded = tried(&injected, &ground, victim.child.id())?;
    // Without Landlock (Linux 5.13) it reads what everybody may read; doctor names that loss.
    if !enforced(agent, "landlock")? {
        succeeded.retain(|one| !is_public(&one.row));
    }
    ensure!(succeeded.is_empty(), "{succeeded:#?}");
    drop(injected);
    ground.is_unharmed()?;
    // It goes on as if nothing had been.
    agent.order(&["ban", "192.0.2.7"]).map(drop)
}

/// Whether a row is about reading a file that everybody may read.
fn is_public(row: &str) -> bool {
    let mode = |path| fs::metadata(path).map(|metadata| metadata.permissions().mode());
    row.strip_prefix("reading ").is_some_and(|path| mode(path).is_ok_and(|mode| mode & 0o004 != 0))
}

fn taken_over() -> Result<()> {
    Scenario::new(DEFAULTS)?.run(|_, agent| ensure_harmless(agent))
}

/// The file system of pins is one that only root may enter, as systemd mounts it.
fn taken_over_with_more() -> Result<()> {
    let bpffs = Bpffs::mount()?;
    fs::set_permissions(bpffs.path(), fs::Permissions::from_mode(0o700))?;
    let scenario = Scenario::defaults()?;
    let directory = scenario.lab.victim.directory();
    let journal = directory.join("journal");
    let _journal = UnixDatagram::bind(&journal)?;
    fs::set_permissions(&journal, fs::Permissions::from_mode(0o666))?;
    scenario.configure(&format!(
        "[sensor]\npoll_interval = \"100ms\"\npersist = true\npin = \"{pin}\"\n[logs]\nfiles = [\"{directory}/*.log\"]\n\
         state = \"{directory}/logs.json\"\n[[sinks]]\nkind = \"syslog\"\naddress = \"unix:{journal}\"\n",
        pin = bpffs.pin().display(),
        directory = directory.display(),
        journal = journal.display()
    ))?;
    scenario.run(|lab, agent| {
        ensure_user(agent)?;
        ensure_harmless(agent)?;
        // An interface that goes and returns: its new links are pinned.
        let links = || {
            let entries = fs::read_dir(bpffs.pin().join("links")).ok()?;
            Some(entries.flatten().map(|entry| entry.file_name()).collect::<BTreeSet<_>>())
        };
        let before = links().context("links")?;
        ensure!(!before.is_empty());
        lab.victim.ip(&format!("link del {VICTIM_INTERFACE}"))?;
        lab.connect()?;
        let changed = || links().filter(|now| now.len() == before.len() && now.is_disjoint(&before));
        wait_for("other links are pinned", PATIENCE, changed).with_context(|| format!("{:?}", links()))?;
        ensure_harmless(agent)
    })?;
    let pin = bpffs.pin().display().to_string();
    run(&mut scanguard(&scenario.lab.victim, &["detach", "--pin", &pin])?).map(drop)
}

fn unix_sink() -> Result<()> {
    let scenario = Scenario::new(DEFAULTS)?;
    scenario.run(|lab, agent| {
        let path = lab.victim.directory().join("log");
        scenario
            .configure(&format!("[[sinks]]\nkind = \"syslog\"\naddress = \"unix:{}\"\n", path.display()))?;
        agent.process.signal(libc::SIGHUP);
        let is_said = |said: &str| said.contains("Unix sockets") && said.contains("restart the agent");
        wait_for("the reason", PATIENCE, || is_said(&agent.said()).then_some(()))
    })
}

fn with_logs() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let directory = scenario.lab.victim.directory();
    let here = directory.display();
    scenario.configure(&format!("[logs]\nfiles = [\"{here}/*.log\"]\nstate = \"{here}/logs.json\"\n"))?;
    let log = directory.join("access.log");
    fs::write(&log, "")?;
    scenario.run(|_, agent| ensure_confined(agent, for_maps()))?;
    fs::set_permissions(&log, fs::Permissions::from_mode(0o600))?;
    scenario.run(|_, agent| {
        ensure_confined(agent, READ_SEARCH | for_maps())?;
        let said = agent.order(&["status"])?;
        ensure!(said.contains("capabilities: CAP_DAC_READ_SEARCH"), "{said}");
        ensure!(agent.said().contains("usermod --append --groups adm"), "{}", agent.said());
        Ok(())
    })
}

fn switched_off() -> Result<()> {
    Scenario::new("[security]\nsandbox = false\n")?.with(&["--format", "json"]).run(|_, agent| {
        for thread in threads(agent)? {
            ensure!(thread.get("Seccomp").is_some_and(|mode| mode == "0"), "{thread:?}");
        }
        ensure!(!enforced(agent, "capabilities")? && !enforced(agent, "seccomp")?);
        ensure!(agent.said().contains("security.sandbox is off"), "{}", agent.said());
        let said = agent.order(&["status"])?;
        ensure!(said.contains("sandbox     OFF"), "{said}");
        Ok(())
    })
}

fn elsewhere() -> Result<()> {
    let scenario = Scenario::new(DEFAULTS)?;
    scenario.run(|lab, agent| {
        if !enforced(agent, "landlock")? {
            return skipped("Landlock");
        }
        let reload = |configuration: &str, outcome: &str, times: f64| {
            scenario.configure(configuration)?;
            let series = format!("scanguard_config_reloads_total{{outcome=\"{outcome}\"}}");
            agent.process.signal(libc::SIGHUP);
            wait_for("the reload", PATIENCE, || (agent.metrics().ok()?.get(&series) == times).then_some(()))
        };
        let other = Scratch::new()?;
        let feed = other.file("feed.txt", "192.0.2.0/24\n")?;
        reload(&format!("[feeds]\nfiles = [\"{feed}\"]\n"), "failure", 1.0)?;
        // It is counted before it is said.
        let directory = other.path().display().to_string();
        let is_said = |said: &str| said.contains(&directory) && said.contains("restart the agent");
        wait_for("the reason", PATIENCE, || is_said(&agent.said()).then_some(()))?;
        // To write elsewhere is refused likewise, and beside the file it can still be read.
        let sink = format!("[[sinks]]\nkind = \"file\"\nformat = \"json\"\npath = \"{feed}\"\n");
        reload(&sink, "failure", 2.0)?;
        let near = lab.victim.directory().join("feed.txt").display().to_string();
        fs::write(&near, "192.0.2.0/24\n")?;
        reload(&format!("[feeds]\nfiles = [\"{near}\"]\n"), "success", 1.0)?;
        let is_read = || agent.metrics().ok().filter(|page| page.get("scanguard_feed_networks") == 1.0);
        wait_for("the feed", PATIENCE, is_read)?;
        Ok(())
    })
}
