//! The sensor's counts equal tcpdump's, to the packet, in each mode; and scans are found.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use scanguard_common::outcome::{Exit, ProbeClass};
use scanguard_tests::{
    fixtures::{
        agent::{Agent, Metrics},
        capture::{self, Capture},
        lab::{Lab, SCANNER_INTERFACE, VICTIM_INTERFACE},
        program,
        scenario::Scenario,
        scratch, wire,
    },
    tables::{
        packets::{Case, table},
        scans::{SCANS, Scan},
    },
};

use tempfile::TempPath;

use crate::trial;

const MODES: [&str; 3] = ["native", "generic", "tc"];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for scan in SCANS {
        trials.push(trial(format!("native: {}", scan.command), move || {
            scan_is_counted_and_found(scan, "native")
        }));
    }
    // The packets of a scan do not depend on the mode, but the program's view of them does: one of each kind.
    for (place, scan) in SCANS.iter().enumerate() {
        let mode = match place % 4 {
            0 => "generic",
            2 => "tc",
            _ => continue,
        };
        trials
            .push(trial(format!("{mode}: {}", scan.command), move || scan_is_counted_and_found(scan, mode)));
    }
    for mode in MODES {
        trials.push(trial(format!("{mode}: every packet of the table on the wire"), move || {
            packet_table(mode)
        }));
    }
    trials
}

/// An agent and tcpdump on the same interface, around some traffic.
fn watch(
    mode: &str,
    traffic: impl FnOnce(&Lab) -> Result<()>,
    check: impl FnOnce(&Agent<'_>, &Watched) -> Result<()>,
) -> Result<()> {
    let scenario = Scenario::new("[sensor]\npoll_interval = \"100ms\"\n")?;
    scenario.with(&["--mode", mode, "--format", "json"]).run(|lab, agent| {
        let mut capture = Capture::start(&lab.victim, VICTIM_INTERFACE)?;
        let before = agent.settled()?;
        ensure!(before.packets() == 0.0, "{} packets before there were any", before.packets());
        traffic(lab)?;
        capture.stop()?;
        let after = agent.settled()?;
        check(agent, &Watched { metrics: after, capture })
    })
}

struct Watched {
    metrics: Metrics,
    capture: Capture,
}

impl Watched {
    fn totals_agree(&self) -> Result<()> {
        let (seen, captured) = (self.metrics.packets(), self.capture.count("")?);
        ensure!(seen == captured as f64, "the sensor saw {seen} packets, tcpdump {captured}");
        Ok(())
    }
}

/// A configuration file that goes away.
pub(crate) struct ConfigFile(TempPath);

pub(crate) fn config_file(text: &str) -> Result<ConfigFile> {
    Ok(ConfigFile(scratch::file(".toml", text)?))
}

impl ConfigFile {
    pub(crate) fn path(&self) -> String {
        self.0.display().to_string()
    }
}

fn scan_is_counted_and_found(scan: &Scan, mode: &str) -> Result<()> {
    watch(
        mode,
        |lab| scan.run(lab),
        |agent, watched| {
            watched.totals_agree()?;
            let mut wrong = Vec::new();
            for class in ProbeClass::ALL {
                let Some(filter) = capture::filter(class) else { continue };
                let (seen, captured) =
                    (watched.metrics.probes(class.label()), watched.capture.count(&filter)?);
                if seen != captured as f64 {
                    wrong.push(format!("{}: the sensor saw {seen}, tcpdump {captured}", class.label()));
                }
            }
            ensure!(wrong.is_empty(), "{wrong:?}");
            for class in scan.sends {
                ensure!(watched.metrics.probes(class.label()) > 0.0, "no {}", class.label());
            }
            let opened: Vec<_> = agent.opened().into_iter().collect();
            let expected: Vec<_> = scan.found_as.iter().map(|rule| ((*rule).to_owned(), 1)).collect();
            ensure!(opened == expected, "found as {opened:?}, not {expected:?}");
            Ok(())
        },
    )
}

/// The kernel drops a frame that ends within its tag before tcpdump and tc see it.
fn is_unseen(case: &Case) -> bool {
    case.name == "half a tag"
}

/// Whether tc counts it otherwise than XDP does, or not at all.
pub(crate) fn is_other_by_tc(case: &Case) -> bool {
    // The stack takes the first tag off before tc: it has one more than the program follows.
    is_unseen(case) || case.counted().0 == Exit::UnsupportedVlan
}

fn packet_table(mode: &str) -> Result<()> {
    let cases = table().into_iter().filter(|case| case.frame.len() >= 14);
    // Without frags, native mode has no frame that is longer than a page.
    let is_small = mode == "native" && !program::has_frags();
    let cases = cases.filter(|case| !is_small || case.frame.len() <= 1_514);
    let cases: Vec<_> = cases.filter(|case| mode != "tc" || !is_other_by_tc(case)).collect();
    let frames: Vec<_> = cases.iter().map(|case| case.frame.clone()).collect();
    let (mut exits, mut probes) = (BTreeMap::new(), BTreeMap::new());
    for case in &cases {
        let (exit, class) = case.counted();
        if let Some(class) = class {
            *probes.entry(class).or_insert(0u32) += 1;
        }
        *exits.entry(exit).or_insert(0u32) += 1;
    }
    watch(
        mode,
        |lab| {
            // Some packets have more headers than fit into 1,500 bytes.
            let hosts = [(&lab.victim, VICTIM_INTERFACE), (&lab.scanner, SCANNER_INTERFACE)];
            for (host, interface) in hosts.into_iter().filter(|_| !is_small) {
                host.ip(&format!("link set {interface} mtu 9000"))?;
            }
            wire::send(&lab.scanner, SCANNER_INTERFACE, &frames)
        },
        |_, watched| {
            let (seen, captured) = (watched.metrics.packets(), watched.capture.count("")?);
            ensure!(seen == frames.len() as f64, "sent {} packets, the sensor saw {seen}", frames.len());
            let unseen = cases.iter().filter(|case| is_unseen(case)).count();
            ensure!(captured as usize == frames.len() - unseen, "tcpdump saw {captured}");
            for exit in Exit::ALL {
                let (seen, sent) =
                    (watched.metrics.exit(exit.label()), exits.get(&exit).copied().unwrap_or(0));
                ensure!(seen == f64::from(sent), "{}: sent {sent}, seen {seen}", exit.label());
            }
            for class in ProbeClass::ALL {
                let (seen, sent) =
                    (watched.metrics.probes(class.label()), probes.get(&class).copied().unwrap_or(0));
                ensure!(seen == f64::from(sent), "{}: sent {sent}, seen {seen}", class.label());
            }
            Ok(())
        },
    )
}
