//! `[response]` of the configuration.

use std::{path::PathBuf, time::Duration};

use ipnet::IpNet;
use serde::Deserialize;

use super::{Mode, SHORTEST_BAN};
use crate::{
    cidr::network,
    detect::{Confidence, rules},
    sensor::settings::check_interface_name,
    settings::{Interval, Section},
};

/// Which packets of a banned source are dropped.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Drop {
    /// New connections, and packets that no socket wants.
    #[default]
    Initiated,
    /// All packets, including its answers to this host.
    All,
}

impl Drop {
    /// The name in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Initiated => "initiated",
            Self::All => "all",
        }
    }
}

/// The response to networks on the feeds.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum KnownBad {
    /// Their findings get a higher severity.
    #[default]
    Observe,
    /// They are banned from their first packet on.
    Drop,
}

/// `[response]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The response to sources that scan.
    pub mode: Mode,
    /// Which packets of a banned source are dropped.
    pub drop: Drop,
    /// The networks that are never banned.
    pub allow: Vec<IpNet>,
    /// The networks directly at these interfaces are never banned.
    pub allow_interfaces: Vec<String>,
    /// Rules whose findings may ban.
    pub rules: Vec<String>,
    /// The least confidence of a finding.
    pub min_confidence: Confidence,
    /// Whether a finding on evidence that may be forged may ban, unless its source has had real connections.
    pub allow_spoofable: bool,
    /// Whether a finding on evidence that may be forged shields from its source.
    pub shield: bool,
    /// How long the first ban lasts, the second, and so on; the last for all that follow. Never empty.
    pub times: Vec<Duration>,
    /// The time without a ban after which the next ban is one step shorter.
    pub forgive: Duration,
    /// By how many percent at most a ban is made longer at random.
    pub jitter: u8,
    /// Maximum number of bans, without those of feeds.
    pub max_bans: u32,
    /// Maximum number of shields.
    pub max_shields: u32,
    /// Networks in which rules may ban within one minute; beyond that the circuit breaker opens.
    pub max_per_minute: u32,
    /// How long the kernel holds a source that plainly scans, until the agent has judged it; zero: no holds.
    pub reflex: Duration,
    /// The response to networks on the feeds.
    pub known_bad: KnownBad,
    /// The file that keeps bans over a restart.
    pub state: PathBuf,
}

/// Bans that the kernel holds beside networks on feeds.
pub const MAX_BANS: u32 = 60_000;
/// Room for shields in the kernel. It has room for one more than the maximum, since a new shield is made before the one
/// that it replaces is removed.
pub const MAX_SHIELDS: u32 = 60_000;
/// The longest hold of the kernel: a client's second SYN comes after a second.
const LONGEST_HOLD: Duration = Duration::from_millis(900);
/// Entries of `allow`.
const MAX_ALLOW: usize = 4_096;
/// Entries of `times`.
const MAX_TIMES: usize = 16;
/// Entries of `rules` and `allow_interfaces`.
const MAX_NAMES: usize = 64;

impl Default for Settings {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            mode: Mode::default(),
            drop: Drop::default(),
            allow: Vec::new(),
            allow_interfaces: Vec::new(),
            rules: rules::that_ban().map(str::to_owned).collect(),
            min_confidence: Confidence::Medium,
            allow_spoofable: false,
            shield: true,
            times: vec![minutes(10), minutes(60), minutes(24 * 60)],
            forgive: minutes(24 * 60),
            jitter: 10,
            max_bans: 10_000,
            max_shields: 10_000,
            max_per_minute: 100,
            reflex: Duration::from_millis(200),
            known_bad: KnownBad::default(),
            state: PathBuf::from("/var/lib/scanguard/state.json"),
        }
    }
}

impl Settings {
    /// How long a ban of this level lasts, before it is spread.
    pub fn time(&self, level: u32) -> Duration {
        let last = self.times.len().saturating_sub(1);
        self.times.get((level as usize).min(last)).copied().unwrap_or(SHORTEST_BAN)
    }

    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let longest = Interval::between(SHORTEST_BAN, Duration::from_secs(365 * 24 * 60 * 60));
        let settings = Self {
            mode: section.value("mode", default.mode, |_| Ok(())),
            drop: section.value("drop", default.drop, |_| Ok(())),
            allow: section.list("allow", MAX_ALLOW, Vec::new(), allowed),
            allow_interfaces: section.list("allow_interfaces", MAX_NAMES, Vec::new(), |name| {
                check_interface_name(name).map(|()| name.to_owned())
            }),
            rules: section.list("rules", MAX_NAMES, default.rules, rule),
            min_confidence: section.value("min_confidence", default.min_confidence, |_| Ok(())),
            allow_spoofable: section.value("allow_spoofable", default.allow_spoofable, |_| Ok(())),
            shield: section.value("shield", default.shield, |_| Ok(())),
            times: section.list("times", MAX_TIMES, default.times.clone(), |text| {
                let time: Interval = text.parse()?;
                if longest.contains(&time) {
                    return Ok(time.0);
                }
                Err(format!("{time} is not within {} to {}", longest.start(), longest.end()))
            }),
            forgive: section.interval("forgive", default.forgive, longest.clone()),
            jitter: section.number("jitter", default.jitter, 0..=100),
            max_bans: section.number("max_bans", default.max_bans, 1..=MAX_BANS),
            max_shields: section.number("max_shields", default.max_shields, 1..=MAX_SHIELDS),
            max_per_minute: section.number("max_per_minute", default.max_per_minute, 1..=MAX_BANS),
            reflex: section.interval(
                "reflex",
                default.reflex,
                Interval::between(Duration::ZERO, LONGEST_HOLD),
            ),
            known_bad: section.value("known_bad", default.known_bad, |_| Ok(())),
            state: section.value("state", default.state, |path: &PathBuf| {
                let named = path.is_absolute() && path.file_name().is_some();
                if named { Ok(()) } else { Err(format!("{} is no absolute path of a file", path.display())) }
            }),
        };
        if settings.times.is_empty() {
            section.contradiction(&["times"], "at least one time is wanted, such as [\"10m\"]");
        }
        if !settings.times.is_sorted() {
            section.contradiction(&["times"], "each ban lasts at least as long as the one before");
        }
        section.finish();
        settings
    }
}

/// An address, or a network as it is written.
fn allowed(text: &str) -> Result<IpNet, String> {
    let net = network(text)?;
    if net.prefix_len() == 0 {
        return Err(format!(
            "\"{text}\" contains all addresses, so that no source could be banned; to ban no source, set mode = \
             \"observe\""
        ));
    }
    Ok(net)
}

fn rule(name: &str) -> Result<String, String> {
    let names = rules::names();
    if names.contains(&name) {
        return Ok(name.to_owned());
    }
    if rules::without_source().any(|one| one == name) {
        return Err(format!("\"{name}\" looks at totals: its findings have no source that could be banned"));
    }
    Err(format!("\"{name}\" is no rule; there are: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_wrong_entry_is_said_with_its_line() {
        let text = "\
[response]
mode = \"block\"
drop = \"some\"
allow = [\"192.0.2.7\", \"192.0.2.7/24\", \"0.0.0.0/0\", \"me\"]
allow_interfaces = [\"a/b\"]
rules = [\"vertical_scan\", \"vertical\", \"flood\"]
times = [\"0s\", \"10m\", \"soon\"]
max_bans = 0
state = \"state.json\"
colour = 1
";
        let problems = Config::parse(text).expect_err("it is wrong");
        let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [2, 3, 4, 4, 4, 5, 6, 6, 7, 7, 8, 9, 10], "{problems:#?}");
        let said = |place: usize| problems[place].message.as_str();
        assert!(said(2).contains("192.0.2.0/24"), "{}", said(2));
        assert!(said(6).contains("vertical_scan, "), "{}", said(6));
        assert!(said(7).contains("\"flood\" looks at totals"), "{}", said(7));
    }

    #[test]
    fn times_are_in_order_and_the_last_holds_for_all_that_follow() {
        for (times, said) in [("[]", "at least one"), ("[\"1h\", \"10m\"]", "at least as long")] {
            let problems = Config::parse(&format!("[response]\ntimes = {times}\n")).expect_err(times);
            assert!(problems[0].line == 2 && problems[0].message.contains(said), "{problems:?}");
        }
        let settings = Settings::default();
        let seconds = [0, 1, 2, 3, u32::MAX].map(|level| settings.time(level).as_secs());
        assert_eq!(seconds, [600, 3_600, 86_400, 86_400, 86_400]);
    }
}
