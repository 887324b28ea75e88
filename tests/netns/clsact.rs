//! The egress program as a filter of tc, as it is attached where there is no tcx: it sees the same, is beside the filters
//! of others, and goes away with the agent, however that ends.

use std::{fs, os::fd::AsFd as _, time::Duration};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard::network::filters::{Filter, Filters, Place, Side};
use scanguard_tests::fixtures::{
    agent::{Agent, Metrics},
    lab::{Lab, PATIENCE, VICTIM, VICTIM_INTERFACE, run, run_within, wait_for},
    pinned::Bpffs,
    program,
    scenario::Scenario,
    wire,
};

use crate::{
    egress::{self, FAST, attached},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("clsact: resets are counted as tcpdump counts them", || egress::resets("clsact")),
        trial("clsact: all kinds of answers are counted as tcpdump counts them", || {
            egress::all_answers("clsact")
        }),
        trial("clsact: a service published by dnat is open, and a scan beside it is found", || {
            egress::published("clsact")
        }),
        trial("clsact: a sweep of a home network goes into the dark, a client of its hosts does not", || {
            egress::home("clsact")
        }),
        trial("clsact: filters of others stay, before and after, and so does their clsact", others),
        trial("clsact: a filter that comes into our clsact keeps it there", kept),
        trial("clsact: programs behind it decide as they would without it", behind),
        trial("clsact: a killed agent leaves nothing behind", killed),
        trial("clsact: what an agent and its helper left behind is taken over, or removed by detach", left),
        trial("clsact: detach leaves the filter of an agent that sees by tc what comes in", by_tc),
        trial("clsact: taken off by force it says so and attaches again", taken_off),
        trial("clsact: it is attached again when the interface returns", returns),
        trial(
            "clsact: with persist, the next agent takes the filter over, also by tcx, and detach removes it",
            persists,
        ),
        trial("clsact: the agent has no capability, and its helper one", capabilities),
        trial(
            "clsact: where an ingress qdisc is in its place, the loss is reported with the reason",
            ingress,
        ),
    ]
}

/// The configuration of an agent that uses clsact.
fn by_clsact(more: &str) -> String {
    format!("{FAST}egress = \"clsact\"\n{more}")
}

/// The filters at a side of the victim's interface.
fn filters_at(lab: &Lab, side: Side) -> Result<Vec<Filter>> {
    lab.victim.enter(|| {
        let filters = Filters::open()?.list(wire::index(VICTIM_INTERFACE)?, side)?;
        // The kernel also lists each group of filters.
        Ok(filters.into_iter().filter(|filter| filter.place.handle != 0).collect())
    })
}

/// The names of the filters of what leaves, in their order.
fn names(lab: &Lab) -> Result<Vec<String>> {
    let filters = filters_at(lab, Side::Egress)?;
    Ok(filters.into_iter().map(|filter| filter.name.unwrap_or(filter.kind)).collect())
}

fn tc(lab: &Lab, arguments: &str) -> Result<String> {
    let output = run(lab.victim.command("tc").args(arguments.split(' ')))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn has_clsact(lab: &Lab) -> Result<bool> {
    Ok(tc(lab, &format!("qdisc show dev {VICTIM_INTERFACE}"))?.contains("clsact"))
}

/// Adds a filter of somebody else's to what leaves.
fn add(lab: &Lab, name: &str, priority: u16, drops: bool) -> Result<()> {
    lab.victim.enter(|| {
        let program = if drops { program::dropping_egress()? } else { program::empty_egress()? };
        let place = Place { priority, handle: 1 };
        Ok(Filters::open()?.add(wire::index(VICTIM_INTERFACE)?, place, name, program.as_fd())?)
    })
}

/// Whether the agent says that the program is attached as a filter.
fn is_filter(metrics: &Metrics) -> bool {
    let way = |way: &str| {
        metrics.get(&format!("scanguard_egress_way{{interface=\"{VICTIM_INTERFACE}\",way=\"{way}\"}}"))
    };
    attached(metrics) && way("clsact") == 1.0 && way("tcx") == 0.0
}

/// The process that keeps the agent's filters.
fn helper(agent: &Agent<'_>) -> Result<u32> {
    let parent = agent.process.child.id().to_string();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let is_its =
            status.lines().filter_map(|line| line.strip_prefix("PPid:")).any(|id| id.trim() == parent);
        if is_its {
            return Ok(pid);
        }
    }
    anyhow::bail!("the agent has no helper")
}

fn others() -> Result<()> {
    for theirs_is_first in [true, false] {
        let scenario = Scenario::new(&by_clsact(""))?;
        let lab = &scenario.lab;
        tc(lab, &format!("qdisc add dev {VICTIM_INTERFACE} clsact"))?;
        if theirs_is_first {
            // Of another kind, and at the very first priority; it matches nothing.
            let first = "pref 1 protocol all u32 match ip protocol 200 0xff classid 1:1";
            tc(lab, &format!("filter add dev {VICTIM_INTERFACE} egress {first}"))?;
        }
        add(lab, "theirs", 2, false)?;
        add(lab, "scanguard_egressive", 3, false)?;
        let before = filters_at(lab, Side::Egress)?;
        scenario.run(|lab, agent| {
            ensure!(is_filter(&agent.metrics()?), "{}", agent.said());
            let now = filters_at(lab, Side::Egress)?;
            ensure!(now.len() == before.len() + 1, "{now:?}");
            ensure!(before.iter().all(|theirs| now.contains(theirs)), "{before:?}, now {now:?}");
            let comes_first = names(lab)?.first().map(String::as_str) == Some("scanguard_egress");
            ensure!(comes_first != theirs_is_first, "{:?}", names(lab)?);
            let is_said = agent.said().contains("filters of others come before");
            ensure!(is_said == theirs_is_first, "{}", agent.said());
            egress::answers_are_seen(lab, agent)
        })?;
        ensure!(filters_at(lab, Side::Egress)? == before, "{:?}", filters_at(lab, Side::Egress)?);
        ensure!(has_clsact(lab)?, "somebody else's clsact is gone");
        // Nothing is in it, and it is theirs nevertheless.
        tc(lab, &format!("filter del dev {VICTIM_INTERFACE} egress"))?;
        scenario.run(|lab, _| {
            ensure!(names(lab)? == ["scanguard_egress"], "{:?}", names(lab)?);
            Ok(())
        })?;
        ensure!(names(lab)?.is_empty() && has_clsact(lab)?, "somebody else's clsact is gone");
    }
    Ok(())
}

fn kept() -> Result<()> {
    let scenario = Scenario::new(&by_clsact(""))?;
    let lab = &scenario.lab;
    ensure!(!has_clsact(lab)?);
    scenario.run(|lab, _| {
        ensure!(names(lab)? == ["scanguard_egress+clsact"], "{:?}", names(lab)?);
        Ok(())
    })?;
    ensure!(!has_clsact(lab)?, "our clsact is still there");
    for side in ["ingress", "egress"] {
        scenario.run(|lab, _| {
            let theirs = "pref 9 protocol all u32 match u32 0 0 classid 1:1";
            tc(lab, &format!("filter add dev {VICTIM_INTERFACE} {side} {theirs}")).map(drop)
        })?;
        let left = [filters_at(lab, Side::Ingress)?, filters_at(lab, Side::Egress)?].concat();
        ensure!(!left.is_empty() && left.iter().all(|filter| filter.kind == "u32"), "{side}: {left:?}");
        tc(lab, &format!("qdisc del dev {VICTIM_INTERFACE} clsact"))?;
    }
    Ok(())
}

fn behind() -> Result<()> {
    Scenario::new(&by_clsact(""))?.run(|lab, agent| {
        let ping = || run_within(lab.scanner.command("ping").args(["-c", "1", "-W", "1", VICTIM]), PATIENCE);
        ping()?;
        let replies = |agent: &Agent<'_>| -> Result<f64> {
            Ok(agent.settled()?.get("scanguard_answers_total{answer=\"reply\"}"))
        };
        let before = replies(agent)?;
        add(lab, "theirs", 100, true)?;
        ensure!(ping().is_err(), "the filter behind ours does not drop");
        ensure!(replies(agent)? > before, "what is dropped later is not seen");
        Ok(())
    })
}

fn killed() -> Result<()> {
    let scenario = Scenario::new(&by_clsact(""))?;
    let lab = &scenario.lab;
    let mut agent = scenario.start()?;
    ensure!(names(lab)?.len() == 1, "{:?}", names(lab)?);
    // A terminal and systemd signal all processes at once. Only the agent ends by that.
    // SAFETY: no memory.
    unsafe { libc::kill(helper(&agent)?.cast_signed(), libc::SIGTERM) };
    agent.process.signal(libc::SIGKILL);
    agent.exit_code()?;
    wait_for("the filter is removed", PATIENCE, || has_clsact(lab).ok().filter(|has| !has))?;
    Ok(())
}

/// Kills an agent and its helper. The filter stays.
fn leave_behind(scenario: &Scenario) -> Result<()> {
    let mut agent = scenario.start()?;
    let helper = helper(&agent)?.cast_signed();
    // SAFETY: no memory.
    unsafe { libc::kill(helper, libc::SIGKILL) };
    agent.process.signal(libc::SIGKILL);
    agent.exit_code()?;
    wait_for("the agent's programs are gone", PATIENCE, || {
        scenario.lab.xdp_programs().ok().filter(Vec::is_empty)
    })?;
    ensure!(names(&scenario.lab)?.len() == 1, "{:?}", names(&scenario.lab)?);
    Ok(())
}

fn by_tc() -> Result<()> {
    let scenario = Scenario::new(&by_clsact(""))?.with(&["--mode", "tc"]);
    scenario.run(|lab, _| {
        ensure!(names(lab)?.len() == 1, "{:?}", names(lab)?);
        let mut detach = Agent::spawn(&lab.victim, &["detach"])?;
        ensure!(detach.exit_code()? == Some(0), "{}", detach.said());
        ensure!(names(lab)?.len() == 1, "{}", detach.said());
        Ok(())
    })
}

fn left() -> Result<()> {
    let scenario = Scenario::new(&by_clsact(""))?;
    let lab = &scenario.lab;
    leave_behind(&scenario)?;
    scenario.run(|lab, agent| {
        ensure!(names(lab)?.len() == 1, "{:?}", names(lab)?);
        egress::answers_are_seen(lab, agent)
    })?;
    ensure!(!has_clsact(lab)?, "what was left behind stays");

    leave_behind(&scenario)?;
    scenario.configure(&format!("{FAST}egress = \"off\"\n"))?;
    scenario.run(|lab, _| {
        ensure!(!has_clsact(lab)?, "an agent without the program leaves it there");
        Ok(())
    })?;

    scenario.configure(&by_clsact(""))?;
    leave_behind(&scenario)?;
    // Beside an agent that runs, its filter stays.
    let detach = || -> Result<String> {
        let mut detach = Agent::spawn(&lab.victim, &["detach"])?;
        ensure!(detach.exit_code()? == Some(0), "{}", detach.said());
        Ok(detach.lines().join("\n"))
    };
    scenario.run(|lab, _| {
        let said = detach()?;
        ensure!(names(lab)?.len() == 1, "detach removes the filter of a running agent: {said}");
        Ok(())
    })?;
    leave_behind(&scenario)?;
    let said = detach()?;
    ensure!(said.contains(&format!("removed the egress filter at {VICTIM_INTERFACE}")), "{said}");
    ensure!(!has_clsact(lab)?, "still there");
    Ok(())
}

fn taken_off() -> Result<()> {
    Scenario::new(&by_clsact(""))?.run(|lab, agent| {
        let losses = |metrics: &Metrics| {
            metrics.get(&format!("scanguard_egress_losses_total{{interface=\"{VICTIM_INTERFACE}\"}}"))
        };
        for (times, command) in [(1.0, "filter del"), (2.0, "qdisc del")] {
            let what = if times == 1.0 { "egress" } else { "clsact" };
            tc(lab, &format!("{command} dev {VICTIM_INTERFACE} {what}"))?;
            let is_back = |metrics: &Metrics| losses(metrics) == times && is_filter(metrics);
            wait_for("attached again", PATIENCE, || agent.metrics().ok().filter(is_back))?;
            ensure!(names(lab)?.len() == 1, "{:?}", names(lab)?);
            egress::answers_are_seen(lab, agent)?;
        }
        ensure!(agent.said().contains("detached the egress program"), "it is not said");
        Ok(())
    })
}

fn returns() -> Result<()> {
    Scenario::new(&by_clsact(""))?.run(|lab, agent| {
        lab.victim.ip(&format!("link del {VICTIM_INTERFACE}"))?;
        let is_lost = |metrics: &Metrics| !attached(metrics);
        wait_for("the loss is reported", PATIENCE, || agent.metrics().ok().filter(is_lost))?;
        lab.connect()?;
        wait_for("attached again", PATIENCE, || agent.metrics().ok().filter(is_filter))?;
        egress::answers_are_seen(lab, agent)
    })
}

fn persists() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let lab = &scenario.lab;
    let pins = Bpffs::mount()?;
    let pin = pins.pin().display().to_string();
    let configure = |egress: &str, persist: bool| {
        let text = format!("{FAST}egress = \"{egress}\"\npersist = {persist}\npin = \"{pin}\"\n");
        scenario.configure(&text)
    };
    let seen =
        |agent: &Agent<'_>| -> Result<f64> { Ok(agent.settled()?.sum("scanguard_egress_packets_total{")) };
    let ping = |count: &str| {
        let mut ping = lab.scanner.command("ping");
        run_within(ping.args(["-c", count, "-i", "0.05", VICTIM]), PATIENCE)
    };
    configure("clsact", true)?;
    let before = scenario.run(|_, agent| seen(agent))?;
    ensure!(names(lab)?.len() == 1, "{:?}", names(lab)?);
    // No agent runs.
    ping("40")?;
    scenario.run(|lab, agent| {
        let now = seen(agent)?;
        ensure!(now >= before + 40.0, "{before}, then {now}");
        ensure!(names(lab)?.len() == 1, "{:?}", names(lab)?);
        egress::answers_are_seen(lab, agent)
    })?;
    // In the other way, and back.
    configure("tcx", true)?;
    scenario.run(|lab, agent| {
        ensure!(names(lab)?.is_empty() && egress::tcx_programs(lab)?.len() == 1, "{:?}", names(lab)?);
        egress::answers_are_seen(lab, agent)
    })?;
    configure("clsact", true)?;
    scenario.run(|lab, agent| {
        ensure!(names(lab)?.len() == 1 && egress::tcx_programs(lab)?.is_empty(), "{:?}", names(lab)?);
        egress::answers_are_seen(lab, agent)
    })?;
    let mut detach = Agent::spawn(&lab.victim, &["detach", "--pin", &pin])?;
    ensure!(detach.exit_code()? == Some(0), "{}", detach.said());
    ensure!(!has_clsact(lab)? && lab.xdp_programs()?.is_empty(), "{:?}", detach.lines());
    // Without persist, nothing is left of what was.
    scenario.run(|_, _| Ok(()))?;
    configure("clsact", false)?;
    scenario.run(|lab, _| {
        ensure!(names(lab)?.len() == 1, "{:?}", names(lab)?);
        Ok(())
    })?;
    ensure!(!has_clsact(lab)? && lab.xdp_programs()?.is_empty(), "something is left");
    Ok(())
}

fn capabilities() -> Result<()> {
    /// `CAP_NET_ADMIN`, include/uapi/linux/capability.h.
    const NET_ADMIN: u64 = 1 << 12;
    Scenario::new(&by_clsact(""))?.run(|_, agent| {
        for (process, wanted) in [(agent.process.child.id(), 0), (helper(agent)?, NET_ADMIN)] {
            for entry in fs::read_dir(format!("/proc/{process}/task"))? {
                let status = fs::read_to_string(entry?.path().join("status")).unwrap_or_default();
                let field = |name: &str| {
                    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
                };
                // The thread may have ended.
                let Some(capabilities) = field("CapPrm") else { continue };
                ensure!(u64::from_str_radix(capabilities, 16)? == wanted, "{process}: {capabilities}");
                ensure!(field("NoNewPrivs") == Some("1") && field("Seccomp") == Some("2"), "{status}");
            }
        }
        // The helper outlives a signal that ends others, but not its agent.
        let helper = helper(agent)?;
        let command = fs::read_to_string(format!("/proc/{helper}/cmdline"))?;
        ensure!(command.contains("keep-filters"), "{command}");
        Ok(())
    })
}

fn ingress() -> Result<()> {
    let scenario = Scenario::new(&by_clsact(""))?;
    tc(&scenario.lab, &format!("qdisc add dev {VICTIM_INTERFACE} ingress"))?;
    scenario.run(|lab, agent| {
        ensure!(!attached(&agent.settled()?), "attached");
        let said = agent.said();
        ensure!(
            said.contains("answers of this host are not seen") && said.contains("ingress qdisc"),
            "{said}"
        );
        // As soon as there is room, it is attached.
        tc(lab, &format!("qdisc del dev {VICTIM_INTERFACE} ingress"))?;
        wait_for("attached", Duration::from_secs(10), || agent.metrics().ok().filter(is_filter))?;
        let status = agent.order(&["status"])?;
        ensure!(status.contains("what leaves: clsact"), "{status}");
        agent.metrics().map(drop).context("metrics")
    })
}
