//! The work that sensor and peers are compared by: masscan, at a fixed rate.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};
use scanguard_tests::lab::{Lab, ROUTED, SCANNER_INTERFACE, run_within};

use crate::{
    machine::busy_seconds,
    model::{Cell, Table, median},
    setups::Setup,
    wire,
};

/// Packets a second that masscan is told to send.
pub(crate) const RATE: u32 = 150_000;
/// Whose packets they are: nobody's, so that only masscan hears the answers.
const SOURCE: &str = "10.77.0.200";
/// Addresses that are scanned.
const ADDRESSES: u32 = 256;

/// How long, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Of one measurement.
    pub(crate) seconds: u32,
    /// Turns, in each of which everything is measured once.
    pub(crate) turns: usize,
}

/// What one run came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// CPU seconds of the whole machine, masscan's too.
    pub(crate) cpu: f64,
    /// Packets that masscan sent.
    pub(crate) sent: u64,
    /// Packets that whoever looks did not see; where nobody counts, those that did not get through the wire.
    pub(crate) lost: u64,
}

/// The victim's two hosts, with the scanner's address known: nothing is asked for by ARP.
///
/// # Errors
/// `ip` could not.
pub(crate) fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    let mac = lab.scanner.mac(SCANNER_INTERFACE)?;
    let interface = scanguard_tests::lab::VICTIM_INTERFACE;
    lab.victim.ip(&format!("neigh replace {SOURCE} lladdr {mac} dev {interface} nud permanent"))?;
    Ok(lab)
}

/// Runs masscan for about so long.
///
/// # Errors
/// It fails, or takes far too long.
pub(crate) fn masscan(lab: &Lab, seconds: u32) -> Result<()> {
    let ports = (RATE * seconds / ADDRESSES).clamp(1, 65_535);
    let mut masscan = lab.scanner.command("masscan");
    masscan.args(["--interface", SCANNER_INTERFACE, "--adapter-ip", SOURCE, "--router-mac"]);
    masscan.arg(lab.victim_mac()?).args(["--rate", &RATE.to_string(), "--wait", "0", "-p"]);
    masscan.arg(format!("1-{ports}")).arg(format!("{ROUTED}.0/24"));
    run_within(&mut masscan, Duration::from_secs(u64::from(seconds) * 3 + 20))
        .context("masscan; `cargo xtask setup --for bench` installs it")
}

fn measure(lab: &Lab, setup: Setup, seconds: u32) -> Result<Run> {
    let mut running = setup.start(lab)?;
    // Whatever was started is at rest.
    thread::sleep(Duration::from_secs(1));
    let (before, start) = (wire::sent(&lab.scanner)?, busy_seconds()?);
    masscan(lab, seconds)?;
    // Until what is under way has arrived, and the agent has read it.
    thread::sleep(Duration::from_secs(1));
    let cpu = busy_seconds()? - start;
    let after = wire::sent(&lab.scanner)?;
    let dropped = after.dropped - before.dropped;
    let sent = after.packets - before.packets + dropped;
    let lost = running.seen()?.map_or(dropped, |seen| sent.saturating_sub(seen));
    Ok(Run { cpu, sent, lost })
}

/// What the work came to with one setup: the runs of all turns, or why there are none.
pub(crate) type Runs = (Setup, Result<Vec<Run>, String>);

/// Does the work with each of these in turns.
///
/// # Errors
/// The two hosts cannot be made.
pub(crate) fn compare(setups: &[Setup], effort: Effort) -> Result<Vec<Runs>> {
    let lab = lab()?;
    let mut all: Vec<Runs> = setups.iter().map(|setup| (*setup, Ok(Vec::new()))).collect();
    for turn in 1..=effort.turns {
        for (setup, runs) in &mut all {
            let Ok(done) = runs else { continue };
            eprintln!("masscan, turn {turn} of {}: {}", effort.turns, setup.name());
            match measure(&lab, *setup, effort.seconds) {
                Ok(run) => done.push(run),
                Err(error) => *runs = Err(format!("{error:#}")),
            }
        }
    }
    Ok(all)
}

/// CPU seconds above those of nothing in the same turn, the median of all turns.
pub(crate) fn above(all: &[Runs], setup: Setup) -> Option<f64> {
    let find = |wanted: Setup| all.iter().find(|(setup, _)| *setup == wanted)?.1.as_ref().ok();
    let differences: Vec<_> = find(setup)?
        .iter()
        .zip(find(Setup::Nothing)?)
        .map(|(with, without)| with.cpu - without.cpu)
        .collect();
    median(&differences)
}

/// Packets that were lost in all turns together.
pub(crate) fn lost(all: &[Runs], setup: Setup) -> Option<f64> {
    let (_, runs) = all.iter().find(|(other, _)| *other == setup)?;
    Some(runs.as_ref().ok()?.iter().map(|run| run.lost).sum::<u64>() as f64)
}

/// One row each.
pub(crate) fn table(title: &str, all: &[Runs], effort: Effort) -> Table {
    let about = format!(
        "masscan sends {RATE} SYNs a second for {} s from one address to ports without a listener, over a veth pair. CPU \
         seconds are those of the whole machine, masscan and the host's stack included (/proc/stat, median of {} turns); \
         `above nothing` is the median of the differences within each turn. Packets: what masscan's interface counted, all \
         turns together. Lost: what was sent and was not counted by the row's own means; for `nothing`, what did not get \
         through the wire.",
        effort.seconds, effort.turns
    );
    let columns = ["cpu_seconds", "above_nothing", "packets_sent", "packets_lost", "lost_percent"];
    let mut table = Table::new(title, &about, &columns);
    for (setup, runs) in all {
        match runs {
            Err(why) => table.push_missing(setup.name(), why),
            Ok(runs) => {
                let cpu: Vec<_> = runs.iter().map(|run| run.cpu).collect();
                let sent: u64 = runs.iter().map(|run| run.sent).sum();
                let lost = lost(all, *setup).unwrap_or_default();
                let cells = [
                    median(&cpu).unwrap_or_default(),
                    above(all, *setup).unwrap_or_default(),
                    sent as f64,
                    lost,
                    100.0 * lost / sent.max(1) as f64,
                ];
                table.push(setup.name(), cells.map(Cell::from));
            }
        }
    }
    table
}
