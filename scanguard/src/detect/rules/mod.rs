//! The rules: one file each, and one line each in [`Settings::rules`].

mod horizontal_sweep;
mod icmp_sweep;
mod odd_flags;
#[cfg(test)]
pub(crate) mod testing;
mod vertical_scan;

use std::time::Duration;

use scanguard_common::outcome::ProbeClass;

use super::{Rule, Severity};
use crate::config::{Interval, Section};

/// What every rule has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Common {
    /// Whether it is used.
    pub enabled: bool,
    /// How far back it looks.
    pub window: Duration,
    /// How bad its findings are.
    pub severity: Severity,
}

impl Common {
    fn read(section: &mut Section<'_, '_>, default: Self) -> Self {
        Self {
            enabled: section.value("enabled", default.enabled, |_| Ok(())),
            severity: section.value("severity", default.severity, |_| Ok(())),
            window: section.interval(
                "window",
                default.window,
                Interval::between(Duration::from_secs(1), Duration::from_secs(24 * 60 * 60)),
            ),
        }
    }
}

/// `[rules.*]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `[rules.vertical_scan]`.
    pub vertical_scan: vertical_scan::Settings,
    /// `[rules.horizontal_sweep]`.
    pub horizontal_sweep: horizontal_sweep::Settings,
    /// `[rules.icmp_sweep]`.
    pub icmp_sweep: icmp_sweep::Settings,
    /// `[rules.odd_flags]`.
    pub odd_flags: odd_flags::Settings,
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let settings = Self {
            vertical_scan: vertical_scan::Settings::read(section.section("vertical_scan")),
            horizontal_sweep: horizontal_sweep::Settings::read(section.section("horizontal_sweep")),
            icmp_sweep: icmp_sweep::Settings::read(section.section("icmp_sweep")),
            odd_flags: odd_flags::Settings::read(section.section("odd_flags")),
        };
        section.finish();
        settings
    }

    /// The registry: all rules that are enabled.
    pub fn rules(&self) -> Vec<Box<dyn Rule>> {
        let all: [(Common, Box<dyn Rule>); 4] = [
            (self.vertical_scan.common, Box::new(vertical_scan::VerticalScan(self.vertical_scan))),
            (
                self.horizontal_sweep.common,
                Box::new(horizontal_sweep::HorizontalSweep(self.horizontal_sweep)),
            ),
            (self.icmp_sweep.common, Box::new(icmp_sweep::IcmpSweep(self.icmp_sweep))),
            (self.odd_flags.common, Box::new(odd_flags::OddFlags(self.odd_flags))),
        ];
        all.into_iter().filter(|(common, _)| common.enabled).map(|(_, rule)| rule).collect()
    }
}

/// Probes that go to a service: a port, or an IP protocol.
const SERVICE_PROBES: &[ProbeClass] = &[
    ProbeClass::Syn,
    ProbeClass::Null,
    ProbeClass::Fin,
    ProbeClass::Xmas,
    ProbeClass::SynFin,
    ProbeClass::SynRst,
    ProbeClass::OddFlags,
    ProbeClass::Udp,
    ProbeClass::UdpEmpty,
    ProbeClass::SctpInit,
    ProbeClass::SctpCookieEcho,
    ProbeClass::IpProtocol,
    ProbeClass::TinyFragment,
    ProbeClass::Land,
    ProbeClass::BadLength,
    ProbeClass::Ack,
    ProbeClass::Maimon,
];

/// "1000 probes (990 syn, 10 fin)".
fn probes_in_words(counts: &crate::observe::activity::Counts) -> String {
    let by_class = counts.by_frequency();
    let all = counts.total();
    match by_class.as_slice() {
        [(class, count)] => format!("{count} {} {}", class.label(), plural(*count, "probe")),
        many => {
            let parts: Vec<_> =
                many.iter().map(|(class, count)| format!("{count} {}", class.label())).collect();
            format!("{all} probes ({})", parts.join(", "))
        }
    }
}

fn plural(count: u64, one: &str) -> String {
    match (count, one.ends_with('s')) {
        (1, _) => one.to_owned(),
        (_, true) => format!("{one}es"),
        (_, false) => format!("{one}s"),
    }
}
