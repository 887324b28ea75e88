//! History to findings. Pure: no kernel, no runtime, time is passed in.
//!
//! A [`Rule`] looks at what one source did and says whether that is scanning; [`findings::Tracker`] makes
//! of its repeated answers one finding with a life. One rule is one file in [`rules`].

pub mod findings;
pub mod rules;
pub mod settings;

use std::time::Duration;

use scanguard_common::{address::Address, outcome::ProbeClass};
use serde::{Deserialize, Serialize};

use self::findings::{Change, Event, Tracker};
use crate::{
    clock::Now,
    observe::{
        Delta,
        history::{History, Window},
    },
};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For the record.
    Info,
    /// Curiosity, such as a ping sweep.
    Low,
    /// Somebody looks for ways in.
    Medium,
    /// Somebody looks for ways in and hides it.
    High,
}

impl Severity {
    /// The name in findings and configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// A technique of MITRE ATT&CK.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Technique {
    /// Active Scanning.
    #[serde(rename = "T1595")]
    ActiveScanning,
    /// Active Scanning: Scanning IP Blocks.
    #[serde(rename = "T1595.001")]
    ScanningIpBlocks,
    /// Active Scanning: Vulnerability Scanning.
    #[serde(rename = "T1595.002")]
    VulnerabilityScanning,
}

impl Technique {
    /// The id that ATT&CK gives.
    pub const fn id(self) -> &'static str {
        match self {
            Self::ActiveScanning => "T1595",
            Self::ScanningIpBlocks => "T1595.001",
            Self::VulnerabilityScanning => "T1595.002",
        }
    }
}

/// What a rule looks at: one source, now.
pub struct Source<'h> {
    /// Its history, the newest probes included.
    pub history: &'h History,
    /// Time since the start.
    pub at: Duration,
}

impl Source<'_> {
    /// What it did in the last `length`.
    pub fn window(&self, length: Duration) -> Window {
        self.history.window(self.at, length)
    }
}

/// Why a source is said to scan.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// What it did in the rule's window.
    pub window: Window,
    /// One sentence in words.
    pub reason: String,
}

/// One way to tell scanning from other traffic.
pub trait Rule: Send {
    /// Its name in findings, metrics and configuration.
    fn name(&self) -> &'static str;
    /// What of ATT&CK it finds.
    fn techniques(&self) -> &'static [Technique];
    /// How bad that is.
    fn severity(&self) -> Severity;
    /// The probes that it counts; a source that sent none of them is not shown to it.
    fn classes(&self) -> &'static [ProbeClass];
    /// How many news of a source (distinct services or addresses that were not met, or odd probes) it
    /// takes at least until this rule can match.
    fn soonest(&self) -> u32;
    /// Whether the source scans.
    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence>;
}

/// All rules and the findings that they made.
pub struct Detector {
    rules: Vec<Box<dyn Rule>>,
    tracker: Tracker,
}

impl Detector {
    /// With these rules.
    pub fn new(rules: Vec<Box<dyn Rule>>, settings: settings::Settings) -> Self {
        Self { rules, tracker: Tracker::new(settings) }
    }

    /// Takes other rules and settings. Open findings stay open until they have been quiet.
    pub fn reconfigure(&mut self, rules: Vec<Box<dyn Rule>>, settings: settings::Settings) {
        self.rules = rules;
        self.tracker.reconfigure(settings);
    }

    /// The names of the rules.
    pub fn rules(&self) -> impl Iterator<Item = &'static str> {
        self.rules.iter().map(|rule| rule.name())
    }

    /// How many news of a source it takes at least until any rule can match; 0 without rules.
    pub fn soonest(&self) -> u32 {
        self.rules.iter().map(|rule| rule.soonest()).min().unwrap_or(0)
    }

    /// Looks at a source that did something; hands on what is to be told.
    pub fn see(
        &mut self,
        address: Address,
        delta: &Delta,
        history: &History,
        now: Now,
        tell: &mut dyn FnMut(Event),
    ) {
        let source = Source { history, at: now.at };
        for rule in &self.rules {
            if delta.activity.counts.of_any(rule.classes()) == 0 {
                continue;
            }
            let evidence = rule.evaluate(&source);
            let change = Change { address, delta, evidence, now };
            if let Some(event) = self.tracker.see(rule.as_ref(), change) {
                tell(event);
            }
        }
    }

    /// Closes the findings whose sources have been quiet.
    pub fn tick(&mut self, now: Now, tell: &mut dyn FnMut(Event)) {
        self.tracker.close_quiet(now, tell);
    }

    /// Closes all findings: the agent ends.
    pub fn close_all(&mut self, now: Now, tell: &mut dyn FnMut(Event)) {
        self.tracker.close_all(now, tell);
    }

    /// The open findings and what was left out.
    pub fn tracker(&self) -> &Tracker {
        &self.tracker
    }
}
