//! The work that sensor and peers are compared by: masscan, at a fixed rate.

use std::{
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::{Ebpf, programs::XdpMode};
use scanguard_tests::fixtures::lab::{Lab, Process, ROUTED, SCANNER_INTERFACE, VICTIM_INTERFACE};

use crate::{
    c_programs,
    machine::processors,
    model::{Cell, Table, median},
    setups::Setup,
    wire,
};

/// Packets a second that masscan is asked to send.
pub(crate) const RATE: u32 = 150_000;
/// The source of these packets: an address that nobody has, so that only masscan receives the answers.
const SOURCE: &str = "10.77.0.200";
/// The share of its time that the machine must be idle for differences of CPU time to mean anything.
const LEAST_IDLE: f64 = 0.1;
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

/// The figures of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// CPU seconds of the whole machine, masscan's too.
    pub(crate) cpu: f64,
    /// Packets that masscan sent.
    pub(crate) sent: u64,
    /// Packets that whoever looks did not see; where nobody counts, those that did not get through the wire.
    pub(crate) lost: u64,
}

/// The two hosts, for masscan.
pub(crate) struct Field {
    /// Both.
    pub(crate) lab: Lab,
    /// Drops what the scanner's interface receives, before masscan receives it: masscan answers every answer.
    _deaf: Ebpf,
}

impl Field {
    /// Makes them, with masscan's address known, so that nothing is asked for by ARP.
    ///
    /// # Errors
    /// `ip` could not, or there is no clang.
    pub(crate) fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let mac = lab.scanner.mac(SCANNER_INTERFACE)?;
        lab.victim
            .ip(&format!("neigh replace {SOURCE} lladdr {mac} dev {VICTIM_INTERFACE} nud permanent"))?;
        let mut deaf = c_programs::load("wire")?;
        let drop_all = c_programs::program(&mut deaf, "drop_all")?;
        lab.scanner.enter(|| Ok(drop_all.attach(SCANNER_INTERFACE, XdpMode::Driver).map(drop)?))?;
        Ok(Self { lab, _deaf: deaf })
    }
}

/// masscan, sending. It ends when this is dropped: it would wait for answers, and does not end before it receives
/// something.
pub(crate) struct Scan {
    masscan: Process,
    /// The count of the scanner's interface when it has sent all.
    until: u64,
    /// When it takes far too long.
    limit: Instant,
}

impl Scan {
    /// Has it send so many packets a second for about so long.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(lab: &Lab, rate: u32, seconds: u32) -> Result<Self> {
        let ports = (rate * seconds / ADDRESSES).clamp(1, 65_535);
        let mut masscan = lab.scanner.command("masscan");
        masscan.args(["--interface", SCANNER_INTERFACE, "--adapter-ip", SOURCE, "--router-mac"]);
        masscan.arg(lab.victim_mac()?).args(["--rate", &rate.to_string(), "-p"]);
        masscan.arg(format!("1-{ports}")).arg(format!("{ROUTED}.0/24"));
        masscan.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let until = wire::sent(&lab.scanner)?.all() + u64::from(ports * ADDRESSES);
        let child = masscan.spawn().context("masscan; `cargo xtask setup --for bench` installs it")?;
        let limit = Instant::now() + Duration::from_secs(u64::from(seconds) * 3 + 20);
        Ok(Self { masscan: Process::new(child), until, limit })
    }

    /// Whether all was sent, by the count of the scanner's interface.
    ///
    /// # Errors
    /// It ended early, or takes far too long.
    pub(crate) fn is_over(&mut self, sent: u64) -> Result<bool> {
        if sent >= self.until {
            return Ok(true);
        }
        ensure!(self.masscan.child.try_wait()?.is_none(), "masscan ended before it had sent everything");
        ensure!(Instant::now() < self.limit, "masscan takes too long");
        Ok(false)
    }

    /// Its process.
    pub(crate) fn process(&self) -> u32 {
        self.masscan.child.id()
    }
}

/// Has masscan send for about so long.
///
/// # Errors
/// It ends early, or takes far too long.
pub(crate) fn masscan(lab: &Lab, seconds: u32) -> Result<()> {
    let mut scan = Scan::start(lab, RATE, seconds)?;
    lab.scanner.enter(|| {
        while !scan.is_over(wire::sent_here().context("the counts of the scanner's interface")?.all())? {
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    })
}

fn measure(lab: &Lab, setup: Setup, seconds: u32) -> Result<Run> {
    let mut running = setup.start(lab)?;
    // Whatever was started is at rest.
    thread::sleep(Duration::from_secs(1));
    let (before, start) = (wire::sent(&lab.scanner)?, processors()?);
    masscan(lab, seconds)?;
    // Until what is under way has arrived, and the agent has read it.
    thread::sleep(Duration::from_secs(1));
    let end = processors()?;
    let (cpu, idle) = (end.busy - start.busy, end.idle - start.idle);
    if idle < LEAST_IDLE * (idle + cpu) {
        eprintln!(
            "warning: the machine was never idle: what work takes more than other work is not to be seen"
        );
    }
    let after = wire::sent(&lab.scanner)?;
    let dropped = after.dropped - before.dropped;
    let sent = after.all() - before.all();
    let lost = running.seen()?.map_or(dropped, |seen| sent.saturating_sub(seen));
    Ok(Run { cpu, sent, lost })
}

/// Figures of the work with one setup: the runs of all turns, or why there are none.
pub(crate) type Runs = (Setup, Result<Vec<Run>, String>);

/// Does the work with each of these in turns.
///
/// # Errors
/// The two hosts cannot be made.
pub(crate) fn compare(setups: &[Setup], effort: Effort) -> Result<Vec<Runs>> {
    let field = Field::new()?;
    let mut all: Vec<Runs> = setups.iter().map(|setup| (*setup, Ok(Vec::new()))).collect();
    for turn in 1..=effort.turns {
        for (setup, runs) in &mut all {
            let Ok(done) = runs else { continue };
            eprintln!("masscan, turn {turn} of {}: {}", effort.turns, setup.name());
            match measure(&field.lab, *setup, effort.seconds) {
                Ok(run) => done.push(run),
                // Whole commands, which may be in between, hold paths.
                Err(error) => *runs = Err(error.root_cause().to_string()),
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
        "masscan sends {RATE} SYNs a second for {} s from one address to ports without a listener, over a veth \
         pair. It does not hear the answers, because it would answer them. CPU seconds are those of the whole \
         machine, including masscan and the host's stack (/proc/stat, median of {} turns). `above nothing` is the \
         median of the differences within each turn. Packets sent are counted by masscan's interface, all turns \
         together. Packets lost are packets that were sent but that the row's own means did not count; for \
         `nothing`, packets that did not get through the wire.",
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
