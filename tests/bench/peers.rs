//! `cargo xtask bench --peers`: the same work by what else can be had.

use anyhow::Result;

use crate::{
    machine::Machine,
    model::{Part, Report},
    setups::Setup,
    work::{self, Effort},
};

/// All of them, the sensor among them.
const SETUPS: [Setup; 6] =
    [Setup::Nothing, Setup::ScanGuard, Setup::NftSet, Setup::Hashlimit, Setup::Recent, Setup::Suricata];

/// Measures.
///
/// # Errors
/// The two hosts cannot be made.
pub(crate) fn run(effort: Effort) -> Result<Report> {
    let runs = work::compare(&SETUPS, effort)?;
    let tables = vec![work::table("Beside its peers", &runs, effort)];
    Ok(Report { part: Part::Peers, machine: Machine::this()?, tables, targets: Vec::new() })
}
