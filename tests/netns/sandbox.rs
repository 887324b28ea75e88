//! Least privilege: what the real agent has given up once it is attached, thread by thread, and what it says of that.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::{
    fixtures::{
        agent::Agent,
        lab::{PATIENCE, wait_for},
        root::skipped,
        scenario::Scenario,
        scratch::Scratch,
    },
    tables::scans::SCANS,
};

use crate::trial;

/// `CAP_DAC_READ_SEARCH`, include/uapi/linux/capability.h.
const READ_SEARCH: u64 = 1 << 2;

/// A file with nothing in it is taken for a mistake.
const DEFAULTS: &str = "# all defaults\n";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("sandbox: no thread has a capability, and all have their system calls filtered", confined),
        trial("sandbox: where logs are read, reading them is the one capability left", with_logs),
        trial("sandbox: switched off it keeps all, and says so", switched_off),
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
    ensure_confined(&agent, 0)?;
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
    ensure_confined(&agent, 0)?;
    agent.end()?;
    ensure!(
        !agent.said().contains("ermission denied") && !agent.said().contains("not permitted"),
        "{}",
        agent.said()
    );
    ensure!(!directory.join("control.sock").exists(), "the socket is left");
    Ok(())
}

fn with_logs() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let directory = scenario.lab.victim.directory().display();
    scenario.configure(&format!(
        "[logs]\nfiles = [\"{directory}/*.log\"]\nstate = \"{directory}/logs.json\"\n"
    ))?;
    scenario.run(|_, agent| {
        ensure_confined(agent, READ_SEARCH)?;
        let said = agent.order(&["status"])?;
        ensure!(said.contains("capabilities: CAP_DAC_READ_SEARCH"), "{said}");
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
