//! The service, as systemd has it run.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use scanguard_tests::fixtures::lab::{PATIENCE, wait_for};

use crate::machine::Machine;

/// Where the unit is installed.
pub(crate) const UNIT: &str = "/usr/lib/systemd/system/scanguard.service";

/// Where that of the fleet's role is.
pub(crate) const FLEET_UNIT: &str = "/usr/lib/systemd/system/scanguard-fleet.service";

/// The service on a machine.
pub(crate) struct Service<'m> {
    machine: &'m Machine,
}

impl<'m> Service<'m> {
    /// Has systemd start it, which returns when the agent has said that it is ready.
    pub(crate) fn start(machine: &'m Machine) -> Result<Self> {
        let service = Self { machine };
        service.control("start")?;
        service.is("ActiveState", "active")?;
        service.is("SubState", "running")?;
        Ok(service)
    }

    /// Runs `systemctl VERB scanguard`.
    pub(crate) fn control(&self, verb: &str) -> Result<()> {
        self.machine.run(&format!("systemctl {verb} scanguard")).map(drop).with_context(|| self.journal())
    }

    /// The property of this name that systemd has of it.
    pub(crate) fn property(&self, name: &str) -> Result<String> {
        let said = self.machine.run(&format!("systemctl show --value --property={name} scanguard"))?;
        Ok(said.trim().to_owned())
    }

    /// Its main process, as it is called outside of the machine.
    pub(crate) fn pid(&self) -> Result<u32> {
        let inside = self.property("MainPID")?;
        let of = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let machine = of(self.machine.init()).context("the machine's processes")?;
        let pids =
            fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_it = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            of(*pid).as_ref() == Some(&machine)
                && ids.and_then(|ids| ids.split_whitespace().last()) == Some(inside.as_str())
        };
        pids.into_iter().find(is_it).with_context(|| format!("process {inside} of the machine"))
    }

    /// Fails unless systemd knows this of it.
    pub(crate) fn is(&self, name: &str, value: &str) -> Result<()> {
        let known = self.property(name)?;
        ensure!(known == value, "{name} is {known}, not {value}: {}", self.journal());
        Ok(())
    }

    /// Waits until what systemd knows of it is as wanted.
    pub(crate) fn becomes(&self, name: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let known = wait_for(name, PATIENCE, || self.property(name).ok().filter(|known| wanted(known)));
        known.map(drop).with_context(|| format!("{:?}: {}", self.property(name), self.journal()))
    }

    /// Waits for a finding of a rule, which the standard output takes to the journal.
    pub(crate) fn finds(&self, rule: &str) -> Result<()> {
        let found = wait_for(rule, PATIENCE, || {
            let journal = self.journal();
            let findings =
                journal.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            findings.into_iter().any(|finding| finding["rule"] == rule).then_some(())
        });
        found.with_context(|| self.journal())
    }

    /// Its lines on both outputs, and those of systemd about it.
    pub(crate) fn journal(&self) -> String {
        self.machine.run("journalctl --unit=scanguard --output=cat --no-pager").unwrap_or_default()
    }
}
