//! The results of a soak.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{DRIFT, Done, MEMORY_DRIFT, WARM_UP, traffic};
use crate::fixtures::agent::Agent;

/// After a round, when all is quiet.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Since the start.
    pub at: Duration,
    /// Packets since the start, as the agent has them.
    pub counted: u64,
    /// The same, as the sender's driver has them.
    pub transmitted: u64,
    /// Resident memory in KiB.
    pub memory: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Sources whose history is kept.
    pub histories: f64,
    /// Traffic beside scans.
    pub done: Done,
}

impl Sample {
    pub(super) fn take(
        at: Duration,
        agent: &Agent<'_>,
        (counted, transmitted): (u64, u64),
        done: Done,
    ) -> Result<Self> {
        let process = format!("/proc/{}", agent.process.child.id());
        let status = fs::read_to_string(format!("{process}/status"))?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(Self {
            at,
            counted,
            transmitted,
            memory: memory.trim().trim_end_matches(" kB").parse()?,
            descriptors: fs::read_dir(format!("{process}/fd"))?.count(),
            threads: fs::read_dir(format!("{process}/task"))?.count(),
            histories: agent.metrics()?.get("scanguard_history_sources"),
            done,
        })
    }

    /// One line of what is shown while it goes on.
    pub fn line(&self) -> String {
        let Self { at, counted, transmitted, memory, descriptors, threads, histories, done } = self;
        format!(
            "{:>5} s: {counted} of {transmitted} packets counted, {} MiB, {descriptors} descriptors, {threads} threads, \
             {histories} histories; {} pages, {} pings, {} KiB echoed",
            at.as_secs(),
            memory / 1024,
            done.pages,
            done.pings,
            done.bytes / 1024,
        )
    }
}

/// All of it.
#[derive(Debug)]
pub struct Report {
    /// How long it took.
    pub length: Duration,
    /// The round in which the agent was killed and started again, from 0.
    pub killed_in: u32,
    /// Reloads that were taken.
    pub reloads: u32,
    /// Packets that tcpdump saw leave the sender.
    pub captured: u64,
    /// Packets that tcpdump did not see, by its own count.
    pub missed: u64,
    /// Packets that the sender's driver had no room for: nobody got them.
    pub lost: u64,
    /// Packets that the agent counted.
    pub counted: u64,
    /// Packets that the sender's driver handed over.
    pub transmitted: u64,
    /// Bans that the last agent made.
    pub bans: f64,
    /// Lines of access logs that the last agent read.
    pub log_requests: f64,
    /// Those who were banned and are served again.
    pub served_again: usize,
    /// Rules that found something.
    pub rules: BTreeSet<String>,
    /// After each round.
    pub samples: Vec<Sample>,
    /// Deviations from what should be.
    pub failures: Vec<String>,
}

impl Report {
    /// Adds what is wrong with it as a whole. Findings are given by rule and source.
    pub(super) fn judge<'f>(&mut self, findings: impl Iterator<Item = (&'f str, &'f str)>) {
        let Self { captured, missed, lost, counted, transmitted, .. } = *self;
        if counted != transmitted {
            self.failures.push(format!("{transmitted} packets came, {counted} were counted"));
        }
        // Tcpdump counts the packets that it missed: no more than those may be between the two.
        if !(captured..=captured + missed).contains(&(counted + lost)) {
            self.failures.push(format!(
                "tcpdump saw {captured} packets and missed {missed}, {counted} were counted and {lost} had no room"
            ));
        }
        let total = |of: fn(&Done) -> u64| self.samples.iter().map(|sample| of(&sample.done)).sum::<u64>();
        for (what, number) in [
            ("events of the page", total(|done| done.events)),
            ("lines in the access log", total(|done| done.lines)),
        ] {
            if number == 0 {
                self.failures.push(format!("no {what}"));
            }
        }
        if self.log_requests == 0.0 {
            self.failures.push("the access log was not read".to_owned());
        }
        let blamed: BTreeMap<_, _> = findings
            .filter(|(_, source)| traffic::HONEST.contains(source))
            .map(|(rule, who)| (who, rule))
            .collect();
        for (who, rule) in blamed {
            self.failures.push(format!("{who} has done nothing, and there is a finding of {rule}"));
        }
        if self.rules.len() < 3 || self.bans == 0.0 {
            self.failures.push(format!("{} bans, findings of {:?} alone", self.bans, self.rules));
        }
        if let [Some(warm), Some(last)] = self.ends() {
            if last.memory > warm.memory + MEMORY_DRIFT {
                let [warm, last] = [warm, last].map(|sample| sample.memory);
                self.failures.push(format!("memory grew from {warm} to {last} KiB"));
            }
            for (what, warm, last) in
                [("descriptors", warm.descriptors, last.descriptors), ("threads", warm.threads, last.threads)]
            {
                if last > warm + DRIFT {
                    self.failures.push(format!("{what} grew from {warm} to {last}"));
                }
            }
        } else {
            self.failures.push("no round after the warm-up".to_owned());
        }
    }

    /// The first round after the warm-up of the last agent, and the last round.
    fn ends(&self) -> [Option<Sample>; 2] {
        let first = (self.killed_in as usize + WARM_UP).min(self.samples.len().saturating_sub(2));
        [self.samples.get(first).copied(), self.samples.last().copied()]
    }

    /// docs/soak.md.
    pub fn page(&self, about: &str) -> String {
        let Self { length, killed_in, reloads, captured, missed, lost, counted, transmitted, bans, .. } =
            self;
        let total = |of: fn(&Done) -> u64| self.samples.iter().map(|sample| of(&sample.done)).sum::<u64>();
        let mut page = format!(
            "# The soak\n\n\
             This page is written by `cargo xtask soak --write`; {about}.\n\
             A short soak runs in CI (`cargo xtask test netns`).\n\n\
             The soak sends all of this at once, and the sender's driver and tcpdump count beside the sensor:\n\n\
             * real scans in turn (nmap, hping3; TCP, UDP, SCTP, ICMP; IPv4 and IPv6), and a flood of random sources\n\
             * requests for pages of nginx, which are sampled, and requests for paths that it should not serve\n\
             * pings, a connection that lasts from the first round to the last, a viewer of the page, and an access log that grows\n  \
             and is rotated\n\
             * bans of five seconds, and reloads all the time\n\
             * in round {}, a kill (`SIGKILL`) and a restart, under `sensor.persist`\n\n\
             | what | figure |\n\
             |---|---|\n",
            killed_in + 1
        );
        let rows = [
            (
                "length",
                format!(
                    "{} min {} s, {} rounds",
                    length.as_secs() / 60,
                    length.as_secs() % 60,
                    self.samples.len()
                ),
            ),
            ("reloads, all taken", reloads.to_string()),
            ("packets that the sender's driver handed over", transmitted.to_string()),
            ("packets that the sensor counted, across the kill", counted.to_string()),
            ("packets that tcpdump saw leave; packets that it missed", format!("{captured}; {missed}")),
            ("packets for which the sender's driver had no room", lost.to_string()),
            ("bans, all ended (since the restart)", bans.to_string()),
            (
                "scanners that are served again, after their scan is over for every rule",
                self.served_again.to_string(),
            ),
            (
                "pages served; pings answered, none lost",
                format!("{}; {}", total(|d| d.pages), total(|d| d.pings)),
            ),
            (
                "events that the page sent; lines of the access log, read since the restart",
                format!("{}; {}, {}", total(|d| d.events), total(|d| d.lines), self.log_requests),
            ),
            ("KiB sent and received over the lasting connection", (total(|d| d.bytes) / 1024).to_string()),
            (
                "findings of honest clients",
                self.failures.iter().filter(|f| f.contains("done nothing")).count().to_string(),
            ),
            ("rules with findings", self.rules.iter().cloned().collect::<Vec<_>>().join(", ")),
        ];
        for (what, figure) in rows {
            // Writing to a string does not fail.
            let _ = writeln!(page, "| {what} | {figure} |");
        }
        if let [Some(warm), Some(last)] = self.ends() {
            let _ = write!(
                page,
                "\n| agent | after the warm-up ({} s) | at the end ({} s) |\n|---|---|---|\n\
                 | resident memory, KiB | {} | {} |\n| descriptors | {} | {} |\n| threads | {} | {} |\n",
                warm.at.as_secs(),
                last.at.as_secs(),
                warm.memory,
                last.memory,
                warm.descriptors,
                last.descriptors,
                warm.threads,
                last.threads
            );
        }
        page.push_str("\n| s | packets | counted | KiB | descriptors | threads | histories |\n|---|---|---|---|---|---|---|\n");
        for Sample { at, counted, transmitted, memory, descriptors, threads, histories, .. } in &self.samples
        {
            let at = at.as_secs();
            let _ = writeln!(
                page,
                "| {at} | {transmitted} | {counted} | {memory} | {descriptors} | {threads} | {histories} |"
            );
        }
        match self.failures.as_slice() {
            [] => page.push_str("\nNothing was lost.\n"),
            failures => {
                let _ = writeln!(page, "\nNot as it should be: {}.", failures.join("; "));
            }
        }
        page
    }
}
