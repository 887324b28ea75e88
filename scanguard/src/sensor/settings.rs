//! `[sensor]` of the configuration.

use std::{
    path::{Component, Path, PathBuf},
    time::Duration,
};

use ipnet::Ipv6Net;
use scanguard_common::abi::DEFAULT_MAX_SOURCES;
use serde::Deserialize;

use crate::{
    settings::{Interval, Section},
    sources::{MOST_TRANSLATORS, Sources, overlapping, translator},
};

/// How to attach the program.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the driver, or not at all.
    #[default]
    Native,
    /// In the kernel's network stack: this works for any interface, at a higher cost for each packet.
    Generic,
    /// Native, or by tc if an interface does not take that, or generic if that fails, too. The log, the status and the
    /// metrics show which one it is.
    Auto,
    /// By tc, after the stack has merged segments (GRO): receive offloads stay, and a packet that is dropped costs more.
    /// Linux 6.6, and links with an Ethernet header.
    Tc,
}

/// Whether and how to look at outgoing packets.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(from = "EgressValue")]
pub enum Egress {
    /// By tcx, or by clsact if the kernel has no tcx.
    #[default]
    Auto,
    /// By tcx, or not at all.
    Tcx,
    /// By clsact, or not at all.
    Clsact,
    /// Not at all.
    Off,
}

/// How that is written: by a word, or as earlier versions had it.
#[derive(Deserialize)]
#[serde(untagged, expecting = "\"auto\", \"tcx\", \"clsact\" or \"off\" is wanted")]
enum EgressValue {
    Word(EgressWord),
    /// `true` is auto, `false` off.
    Switch(bool),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum EgressWord {
    Auto,
    Tcx,
    Clsact,
    Off,
}

impl From<EgressValue> for Egress {
    fn from(value: EgressValue) -> Self {
        match value {
            EgressValue::Word(EgressWord::Auto) | EgressValue::Switch(true) => Self::Auto,
            EgressValue::Word(EgressWord::Tcx) => Self::Tcx,
            EgressValue::Word(EgressWord::Clsact) => Self::Clsact,
            EgressValue::Word(EgressWord::Off) | EgressValue::Switch(false) => Self::Off,
        }
    }
}

/// `[sensor]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Interfaces by name. If there are none: that of the default route.
    pub interfaces: Vec<String>,
    /// How to attach.
    pub mode: Mode,
    /// Whether and how to look at outgoing packets, too.
    pub egress: Egress,
    /// Time between two polls of the kernel's counters.
    pub poll_interval: Duration,
    /// Entries of the kernel's table of sources.
    pub max_sources: u32,
    /// How many bits of an IPv6 source address are kept.
    pub ipv6_prefix: u8,
    /// Prefixes of translators that the operator names.
    pub translator_prefixes: Vec<Ipv6Net>,
    /// Whether program and maps stay when the agent ends, so that the next one takes over without a gap.
    pub persist: bool,
    /// Where to pin them: a directory on a BPF file system.
    pub pin: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            mode: Mode::default(),
            egress: Egress::Auto,
            poll_interval: Duration::from_secs(1),
            max_sources: DEFAULT_MAX_SOURCES,
            ipv6_prefix: 64,
            translator_prefixes: Vec::new(),
            persist: false,
            pin: DEFAULT_PIN.into(),
        }
    }
}

/// Where to pin program and maps by default.
pub const DEFAULT_PIN: &str = "/sys/fs/bpf/scanguard";

/// The part of the table of sources that new sources may take in one epoch with their first probe.
const FREE_PART: u32 = 16;

impl Settings {
    /// How addresses become sources.
    pub fn sources(&self) -> Sources {
        Sources::new(self.ipv6_prefix, &self.translator_prefixes)
    }

    /// How many new sources may enter the table in an epoch with their first probe, on each of this many CPUs:
    /// together a sixteenth of the table. So a flood of new sources does not push out the others before the agent has
    /// looked at them.
    pub fn free_entries(&self, cpus: usize) -> u32 {
        let cpus = u32::try_from(cpus.max(1)).unwrap_or(u32::MAX);
        (self.max_sources / FREE_PART / cpus).max(1)
    }
}

/// The table is preallocated: 2^24 entries are 8 GiB.
const MAX_SOURCES_LIMIT: u32 = 1 << 24;
/// `IFNAMSIZ` less the terminating zero, include/uapi/linux/if.h.
const MAX_INTERFACE_NAME: usize = 15;

/// Whether the kernel can have an interface of this name.
pub fn check_interface_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_INTERFACE_NAME {
        return Err(format!("\"{name}\" is no interface name: those have 1 to {MAX_INTERFACE_NAME} bytes"));
    }
    if name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
        return Err(format!("{name:?} is no interface name: a slash, white space or control character"));
    }
    Ok(())
}

/// Whether there can be pins in this directory.
pub fn check_pin(path: &Path) -> Result<(), String> {
    let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !is_plain || path.parent().is_none() {
        return Err(format!("{}: an absolute path is wanted, such as {DEFAULT_PIN}", path.display()));
    }
    Ok(())
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            interfaces: section.value("interfaces", default.interfaces, |names: &Vec<String>| {
                names.iter().try_for_each(|name| check_interface_name(name))?;
                let again = names.iter().enumerate().find(|(place, name)| names[..*place].contains(name));
                again.map_or(Ok(()), |(_, name)| Err(format!("{name} is named twice")))
            }),
            mode: section.value("mode", default.mode, |_| Ok(())),
            egress: section.value("egress", default.egress, |_| Ok(())),
            poll_interval: section.interval(
                "poll_interval",
                default.poll_interval,
                Interval::between(Duration::from_millis(10), Duration::from_secs(60)),
            ),
            max_sources: section.number("max_sources", default.max_sources, 1..=MAX_SOURCES_LIMIT),
            ipv6_prefix: section.number("ipv6_prefix", default.ipv6_prefix, 1..=128),
            translator_prefixes: section.list(
                "translator_prefixes",
                MOST_TRANSLATORS,
                Vec::new(),
                translator,
            ),
            persist: section.value("persist", default.persist, |_| Ok(())),
            pin: section.value("pin", default.pin, |path: &PathBuf| check_pin(path)),
        };
        if let Some(message) = overlapping(&settings.translator_prefixes) {
            section.contradiction(&["translator_prefixes"], message);
        }
        section.finish();
        settings
    }
}
