//! Honest clients of public reports: in most of them, somebody was accused of a scan, banned or refused. Each must be
//! served to its end.

mod monitors;
mod names;
mod peers;
mod web;

use anyhow::Result;

use super::{Act, Case, Expect, nothing};
use crate::fixtures::{
    lab::{SCANNER_INTERFACE, run},
    stage::Stage,
};

type Step = fn(&mut Stage<'_>) -> Result<()>;

/// What proves itself is banned, and all else that is accused is shielded.
const ENFORCE: &str = "[response]\nmode = \"enforce\"\n";

const fn honest(
    group: &'static str,
    report: &'static str,
    name: &'static str,
    packets: u32,
    act: Step,
) -> Case {
    Case {
        name,
        group,
        report,
        limit: "",
        beside: "",
        expect: Expect::Spared,
        findings: &[],
        config: ENFORCE,
        slow: false,
        tested: false,
        prepare: nothing,
        act: Act::Script(act),
        packets,
    }
}

/// All of them.
pub(super) fn all() -> impl Iterator<Item = Case> {
    [web::CASES, names::CASES, monitors::CASES, peers::CASES].into_iter().flatten().copied()
}

/// Gives the clients' host more addresses.
fn addresses(stage: &Stage<'_>, addresses: &[&str]) -> Result<()> {
    addresses.iter().try_for_each(|address| {
        let prefix = if address.contains(':') { "64 nodad" } else { "24" };
        let words = format!("addr add {address}/{prefix} dev {SCANNER_INTERFACE}");
        run(stage.lab.scanner.command("ip").args(words.split(' '))).map(drop)
    })
}
