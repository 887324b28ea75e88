//! DNS probe: a source asks for the server's version, or for all names of a zone (nmap -sV, dnsrecon, dnsenum).
//!
//! Only software that identifies the server asks for version.bind (CHAOS). Secondaries also ask for zone transfers, and
//! get them, so a transfer counts only if it was refused. ANY asks for all records of a name. Honest software once did
//! that, and an attacker who floods a victim with this host's answers does it with the victim's address. So the rule
//! needs three such queries, and one in twenty of all queries: a resolver forwards what one of its many users asks.
//! Whoever hides them among others gains no more than by asking for each type, which is what anybody does. Like everything over UDP it is spoofable, so it bans nobody by default.

use super::{content_rule::Common, entry::Entry, plural};
use crate::{
    content::ContentStats,
    detect::{Confidence, Rule, Severity, Technique},
    settings::Section,
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "dns_probe",
    // Resolvers ask on behalf of others.
    bans: false,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(DnsProbe(settings)),
};

/// `[rules.dns_probe]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every content rule has.
    common: Common,
    /// Threshold: queries for the version, and refused zone transfers.
    probes: u32,
    /// Threshold: queries for ANY.
    any: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { common: Common::new(Severity::Low), probes: 1, any: 3 }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            probes: section.number("probes", default.probes, 1..=1_000_000),
            any: section.number("any", default.any, 1..=1_000_000),
        };
        section.finish();
        settings
    }
}

/// Least share of queries for ANY: one in so many.
const ANY_IN: u64 = 20;

/// The rule.
struct DnsProbe(Settings);

impl Rule for DnsProbe {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::VulnerabilityScanning]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn hear(&self, stats: &ContentStats) -> Option<Confidence> {
        let dns = &stats.dns;
        let is_one = dns.version + dns.refused_transfers >= u64::from(self.0.probes)
            || (dns.any >= u64::from(self.0.any) && dns.any * ANY_IN >= dns.queries);
        is_one.then_some(Confidence::Medium)
    }

    fn words(&self, stats: &ContentStats) -> String {
        let dns = &stats.dns;
        let parts = [
            (dns.version, "query", "for the server's version"),
            (dns.refused_transfers, "refused zone transfer", ""),
            (dns.any, "query", "for all that there is of a name (ANY)"),
        ];
        let parts = parts.into_iter().filter(|(times, ..)| *times > 0);
        let parts: Vec<_> = parts
            .map(|(times, one, of)| format!("{times} {} {of}", plural(times, one)).trim_end().to_owned())
            .collect();
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::rules::content_script::{NOBODY, Script, found};

    const TXT: u16 = 16;
    const ANY: u16 = 255;
    const AXFR: u16 = 252;
    const CHAOS: u16 = 3;

    fn rule() -> Box<dyn Rule> {
        Box::new(DnsProbe(Settings::default()))
    }

    #[test]
    fn questions_about_the_server_are_found() {
        let scans: [(&str, Script); 3] = [
            ("its version", |play| {
                play.asked_for(1, "version.bind", TXT, CHAOS);
            }),
            ("a transfer that is refused", |play| {
                play.looked_up(1, "example.org", AXFR, 5);
            }),
            ("all that there is", |play| {
                for name in ["example.org", "www.example.org", "example.net"] {
                    play.looked_up(1, name, ANY, 0);
                }
            }),
        ];
        for (name, script) in scans {
            assert_eq!(found(rule(), script), [1], "{name}");
        }
    }

    #[test]
    fn secondaries_and_those_who_measure_are_not() {
        let quiet: [(&str, Script); 4] = [
            ("a secondary", |play| {
                for _ in 0..100 {
                    play.looked_up(1, "example.org", 6, 0).looked_up(1, "example.org", AXFR, 0);
                }
            }),
            ("which instance answers", |play| {
                for _ in 0..100 {
                    play.asked_for(1, "hostname.bind", TXT, CHAOS).asked_for(1, "id.server", TXT, CHAOS);
                }
            }),
            ("a resolver, one of whose users asks for all that there is", |play| {
                for zone in 0..100 {
                    play.looked_up(1, &format!("www.zone{zone}.example"), 1, 0);
                    if zone % 30 == 29 {
                        play.looked_up(1, &format!("zone{zone}.example"), ANY, 0);
                    }
                }
            }),
            ("a resolver", |play| {
                for zone in 0..100 {
                    play.looked_up(1, &format!("www.zone{zone}.example"), 1, 0);
                }
            }),
        ];
        for (name, script) in quiet {
            assert_eq!(found(rule(), script), NOBODY, "{name}");
        }
    }
}
