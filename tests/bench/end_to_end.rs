//! `cargo xtask bench --end-to-end`: over a wire, with real clients and the real agent.

use anyhow::Result;

use crate::{
    agent_costs, live,
    machine::Machine,
    model::{Bound, Part, Report, Target},
    setups::Setup,
    throughput,
    work::{self, Effort},
};

/// The setups that the sensor is compared in.
const SETUPS: [Setup; 3] = [Setup::Nothing, Setup::EmptyXdp, Setup::ScanGuard];
/// CPU seconds that the whole machine may take more than without the sensor: of masscan's ten.
const CPU_LIMIT: f64 = 0.3;
/// The time that the limit is for.
const CPU_TIME: u32 = 10;

/// Measures.
///
/// # Errors
/// Something that is needed is missing.
pub(crate) fn run(effort: Effort) -> Result<Report> {
    let live = live::run(effort)?;
    let (throughput, mut targets) = throughput::measure(effort)?;
    let runs = work::compare(&SETUPS, effort)?;
    let scan = work::table("Under masscan", &runs, effort);
    // A shorter run has less to spend.
    let limit = CPU_LIMIT * f64::from(effort.seconds) / f64::from(CPU_TIME);
    let what = format!("masscan, {} s: CPU above nothing", effort.seconds);
    targets.push(Target::new(&what, work::above(&runs, Setup::ScanGuard), Bound::AtMost, limit, "s"));
    let lost = work::lost(&runs, Setup::ScanGuard);
    targets.push(Target::new("masscan: packets lost", lost, Bound::AtMost, 0.0, ""));
    let tables = vec![live, throughput, scan, agent_costs::run(effort)?];
    Ok(Report { part: Part::EndToEnd, machine: Machine::this()?, tables, targets })
}
