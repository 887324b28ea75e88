//! Interfaces that come late, never, by the hundred, under odd names and other names.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::{Agent, LISTEN, scanguard},
    lab::{Lab, PATIENCE, VICTIM_INTERFACE, run, wait_for},
    scenario::Scenario,
};

use crate::trial;

/// A name of 15 bytes, the longest that there is (`IFNAMSIZ`), with what names may have.
const ODD: &str = "a.b-c_d+12.3456";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("interfaces: one that comes late is attached then, and the others are watched meanwhile", late),
        trial("interfaces: where there is none yet the agent waits, is not ready, and says so", none_yet),
        trial("interfaces: where none is named, the first default route names one", late_route),
        trial("interfaces: a wrong name is said by check-config and doctor", wrong_name),
        trial(
            "interfaces: one that is renamed is let go and told, and watched again under its name",
            renamed,
        ),
        trial("interfaces: names of 15 bytes with dots are watched", odd_name),
        trial(
            "interfaces: hundreds that come and go lose nothing but announcements, which are made up for",
            storm,
        ),
    ]
}

fn attached(agent: &Agent<'_>, interface: &str) -> bool {
    let series = |mode| format!("scanguard_xdp_attached{{interface=\"{interface}\",mode=\"{mode}\"}}");
    agent.metrics().is_ok_and(|page| page.get(&series("native")) + page.get(&series("generic")) == 1.0)
}

fn becomes_attached(agent: &Agent<'_>, interface: &str) -> Result<()> {
    wait_for(interface, PATIENCE, || attached(agent, interface).then_some(())).with_context(|| agent.said())
}

fn add(lab: &Lab, interface: &str) -> Result<()> {
    lab.victim.ip(&format!("link add {interface} type veth peer name late-peer")).map(drop)
}

fn late() -> Result<()> {
    Scenario::defaults()?.with(&["--iface", "late0"]).run(|lab, agent| {
        ensure!(attached(agent, VICTIM_INTERFACE) && !attached(agent, "late0"));
        let said = agent.said();
        ensure!(
            said.contains("there is no interface late0") && said.contains("Is the name right?"),
            "{said}"
        );
        let (status, body) = agent.get("/readyz")?;
        ensure!(status == 200 && body.contains("late0"), "{status} {body}");
        let said = agent.order(&["status"])?;
        ensure!(said.lines().any(|line| line.contains("late0") && line.contains("NOT ATTACHED")), "{said}");
        let losses = "scanguard_interface_losses_total{interface=\"late0\"}";
        ensure!(agent.metrics()?.get(losses) == 0.0, "it was never there");
        add(lab, "late0")?;
        becomes_attached(agent, "late0")?;
        let (status, body) = agent.get("/readyz")?;
        ensure!(status == 200 && body == "ok\n", "{status} {body}");
        Ok(())
    })
}

fn none_yet() -> Result<()> {
    let lab = Lab::new()?;
    let mut agent = Agent::spawn(&lab.victim, &["run", "--iface", "late0", "--listen", LISTEN])?;
    let answer =
        wait_for("an answer", PATIENCE, || agent.get("/readyz").ok()).with_context(|| agent.said())?;
    ensure!(
        answer.0 == 503 && answer.1.contains("late0") && answer.1.contains(VICTIM_INTERFACE),
        "{answer:?}"
    );
    ensure!(agent.get("/healthz")?.0 == 200, "it waits, and lives");
    add(&lab, "late0")?;
    becomes_attached(&agent, "late0")?;
    wait_for("ready", PATIENCE, || (agent.get("/readyz").ok()?.0 == 200).then_some(()))?;
    agent.end()
}

fn late_route() -> Result<()> {
    let lab = Lab::new()?;
    let mut agent = Agent::spawn(&lab.victim, &["run", "--listen", LISTEN])?;
    let answer =
        wait_for("an answer", PATIENCE, || agent.get("/readyz").ok()).with_context(|| agent.said())?;
    ensure!(
        answer.0 == 503 && answer.1.contains("no default route") && answer.1.contains("--iface"),
        "{answer:?}"
    );
    lab.victim.ip("route add default via 10.77.0.2")?;
    becomes_attached(&agent, VICTIM_INTERFACE)?;
    agent.end()
}

fn wrong_name() -> Result<()> {
    let scenario = Scenario::new(&format!("[sensor]\ninterfaces = [\"{VICTIM_INTERFACE}\", \"egde0\"]\n"))?;
    let file = scenario.file().display().to_string();
    let said = |arguments: &[&str]| -> Result<String> {
        let output = scanguard(&scenario.lab.victim, arguments)?.output()?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let checked = said(&["check-config", &file])?;
    ensure!(
        checked.contains("there is no interface egde0 now") && !checked.contains("interface edge0"),
        "{checked}"
    );
    let doctor = said(&["doctor", "--config", &file])?;
    let line = doctor.lines().find(|line| line.starts_with("loss  egde0"));
    ensure!(
        line.is_some_and(|line| line.contains(&format!("There are: lo, {VICTIM_INTERFACE}"))),
        "{doctor}"
    );
    let doctor = said(&["doctor", "--iface", "egde0"])?;
    ensure!(doctor.lines().any(|line| line.starts_with("BAD") && line.contains("egde0")), "{doctor}");
    Ok(())
}

fn renamed() -> Result<()> {
    let scenario = Scenario::defaults()?.with(&["--iface", "late0"]);
    add(&scenario.lab, "late0")?;
    scenario.run(|lab, agent| {
        becomes_attached(agent, "late0")?;
        lab.victim.ip("link set late0 name lan.7")?;
        wait_for("it is let go", PATIENCE, || (!attached(agent, "late0")).then_some(()))?;
        let is_said = || agent.said().contains("called lan.7 now").then_some(());
        wait_for("its new name", PATIENCE, is_said).with_context(|| agent.said())?;
        ensure!(
            attached(agent, VICTIM_INTERFACE) && lab.xdp_programs()?.len() == 1,
            "{:?}",
            lab.xdp_programs()?
        );
        lab.victim.ip("link set lan.7 name late0")?;
        becomes_attached(agent, "late0")
    })
}

fn odd_name() -> Result<()> {
    let scenario = Scenario::defaults()?.with(&["--iface", ODD]);
    add(&scenario.lab, ODD)?;
    scenario.run(|lab, agent| {
        becomes_attached(agent, ODD)?;
        lab.victim.ip(&format!("link del {ODD}"))?;
        wait_for("it is gone", PATIENCE, || (!attached(agent, ODD)).then_some(()))?;
        add(lab, ODD)?;
        becomes_attached(agent, ODD)
    })
}

/// Runs lines of `ip` in one process, in the host's namespace.
fn batch(lab: &Lab, name: &str, lines: &[String]) -> Result<()> {
    let file = lab.victim.directory().join(name);
    fs::write(&file, lines.join("\n"))?;
    let mut ip = lab.victim.command("ip");
    run(ip.arg("-batch").arg::<&Path>(&file)).map(drop)
}

fn storm() -> Result<()> {
    const PAIRS: u32 = 250;
    const ADDRESS: &str = "10.99.0.1";
    let pairs = |line: &dyn Fn(u32) -> String| (0..PAIRS).map(line).collect::<Vec<_>>();
    Scenario::defaults()?.with(&["--iface", "late0"]).run(|lab, agent| {
        batch(lab, "add", &pairs(&|number| format!("link add v{number} type veth peer name w{number}")))?;
        // What is announced while the agent does not read is more than its socket takes.
        agent.process.signal(libc::SIGSTOP);
        for round in 0..4 {
            let address = |number: u32| format!("10.9{}.{}.{}/32", round + 1, number / 200, number % 200 + 1);
            batch(lab, "addresses", &pairs(&|number| format!("addr add {} dev v{number}", address(number))))?;
            batch(lab, "none", &pairs(&|number| format!("addr del {} dev v{number}", address(number))))?;
        }
        lab.victim.ip(&format!("addr add {ADDRESS}/32 dev {VICTIM_INTERFACE}"))?;
        batch(lab, "delete", &pairs(&|number| format!("link del v{number}")))?;
        add(lab, "late0")?;
        agent.process.signal(libc::SIGCONT);
        becomes_attached(agent, "late0")?;
        let overruns =
            || agent.metrics().ok()?.get("scanguard_netlink_overruns_total").gt(&0.0).then_some(());
        wait_for("the overrun is counted", PATIENCE, overruns).with_context(|| agent.said())?;
        let is_known = || {
            let status = agent.json(&["status"]).ok()?.to_string();
            status.contains(&format!("{ADDRESS}/32")).then_some(())
        };
        wait_for("the address that came meanwhile", PATIENCE, is_known)?;
        ensure!(attached(agent, VICTIM_INTERFACE), "{}", agent.said());
        Ok(())
    })
}
