//! The agent, with its defaults.

use anyhow::Result;
use scanguard_tests::fixtures::{agent::Agent, lab::Lab};

use super::{Peer, Running};

pub(super) const NATIVE: Peer = Peer { name: "ScanGuard", start: |lab| start(lab, "native") };
pub(super) const BY_TC: Peer = Peer { name: "ScanGuard, mode tc", start: |lab| start(lab, "tc") };

struct Sensor<'l> {
    agent: Agent<'l>,
    /// Packets that it had counted when it was in place.
    before: f64,
}

fn start<'l>(lab: &'l Lab, mode: &str) -> Result<Box<dyn Running + 'l>> {
    let agent = Agent::start(&lab.victim, &["--mode", mode, "--format", "json"])?;
    Ok(Box::new(Sensor { before: agent.metrics()?.packets(), agent }))
}

impl Running for Sensor<'_> {
    fn has_spoken(&mut self) -> Result<bool> {
        Ok(!self.agent.lines().is_empty())
    }

    fn lost(&mut self, sent: u64) -> Result<Option<u64>> {
        Ok(Some(sent.saturating_sub((self.agent.settled()?.packets() - self.before) as u64)))
    }
}
