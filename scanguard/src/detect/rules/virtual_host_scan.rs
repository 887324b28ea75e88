//! Virtual host scan: one source asks a server for many names under one parent (gobuster vhost, ffuf on the Host
//! header).
//!
//! A crawler of many sites, or a proxy of many users, asks for names of many parents, and for many paths of each. A
//! scanner that guesses asks once for each name under one parent. If the answers show that the names do not exist, the
//! match is certain. A name under which another client is served is there, whatever a server answers to one path of it:
//! monitors ask for the first pages of hosts that have none. But most servers answer with their first site, and TLS hellos (SNI) have no such answer. Then very
//! many names, each asked for once or twice and faster than by a monitor, are evidence that is not sure.

use super::{
    content_rule::{Common, estimate, failed},
    entry::Entry,
};
use crate::{
    content::{ContentStats, names::Siblings},
    detect::{Confidence, Rule, Severity, Technique, rules::least},
    settings::Section,
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "virtual_host_scan",
    bans: true,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(VirtualHostScan(settings)),
};

/// `[rules.virtual_host_scan]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every content rule has.
    common: Common,
    /// Threshold: distinct names under one parent that did not exist.
    hosts: u32,
    /// Threshold: distinct names under one parent, if it is unknown whether they exist.
    unknown_hosts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { common: Common::new(Severity::Medium), hosts: 30, unknown_hosts: 100 }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            // Above 700 the bitmap of 256 bits is not precise enough.
            hosts: section.number("hosts", default.hosts, 2..=700),
            unknown_hosts: section.number("unknown_hosts", default.unknown_hosts, 2..=700),
        };
        least(&section, ("hosts", settings.hosts), ("unknown_hosts", settings.unknown_hosts));
        section.finish();
        settings
    }
}

/// Least share of the names under the parent that do not exist, in tenths.
const MISSED_TENTHS: u64 = 7;

/// The rule.
struct VirtualHostScan(Settings);

impl VirtualHostScan {
    fn certain<'h>(&self, stats: &'h ContentStats) -> Option<&'h Siblings> {
        let least = u64::from(self.0.hosts);
        stats.web.hosts.by_parent().find(|names| {
            let missed = names.missed().value;
            missed >= least && missed * 10 >= names.names().value * MISSED_TENTHS
        })
    }

    fn likely<'h>(&self, stats: &'h ContentStats) -> Option<&'h Siblings> {
        let least = u64::from(self.0.unknown_hosts);
        let mut all = stats.web.hosts.by_parent().chain(stats.tls.names.by_parent());
        all.find(|names| names.asked >= least && names.in_burst() >= least && names.names().value >= least)
    }
}

impl Rule for VirtualHostScan {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::WordlistScanning]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn hear(&self, stats: &ContentStats) -> Option<Confidence> {
        match self.certain(stats) {
            Some(_) => Some(Confidence::High),
            None => self.likely(stats).map(|_| Confidence::Low),
        }
    }

    fn words(&self, stats: &ContentStats) -> String {
        let Some(names) = self.certain(stats).or_else(|| self.likely(stats)) else {
            return String::new();
        };
        format!(
            "{} requests or TLS hellos with {}{} as the host, {} of which were not there{}: names of virtual hosts are guessed",
            names.asked,
            estimate(names.names(), "name"),
            names.whose(),
            names.missed(),
            failed(&stats.web),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::rules::content_script::{NOBODY, Play, Script, found, hello, to};

    fn rule() -> Box<dyn Rule> {
        Box::new(VirtualHostScan(Settings::default()))
    }

    #[test]
    fn guessed_names_are_found() {
        let scans: [(&str, Script); 8] = [
            ("answered with 404, after each name was served elsewhere to the same source", |play| {
                for word in 0..60 {
                    let name = format!("word{word}.example.org");
                    play.at(word / 10).asked(1, to(&name, "/robots.txt"), 200);
                    play.asked(1, to(&name, "/"), 404);
                }
            }),
            ("answered with 404", |play| {
                for word in 0..60 {
                    play.at(word / 10).asked(1, to(&format!("word{word}.example.org"), "/"), 404);
                }
            }),
            ("answered as for the first site", |play| {
                for word in 0..300 {
                    play.at(word / 100).asked(1, to(&format!("word{word}.example.org"), "/"), 200);
                }
            }),
            ("behind a name that is there, of another parent", |play| {
                for word in 0..60 {
                    play.at(word / 10).asked(1, to(&format!("word{word}.example.org"), "/"), 404);
                    for _ in 0..3 {
                        play.asked(1, to("www.example.net", "/"), 200);
                    }
                }
            }),
            ("answered as for the first site, behind a name of another parent", |play| {
                for word in 0..300 {
                    play.at(word / 100).asked(1, to(&format!("word{word}.example.org"), "/"), 200);
                    play.asked(1, to("www.example.net", "/"), 200).asked(1, to("www.example.net", "/"), 200);
                }
            }),
            ("answered as for the first site, after a visit long before", |play| {
                play.asked(1, to("www.example.org", "/"), 200);
                for word in 0..300 {
                    play.at(1_700 + word / 100).asked(1, to(&format!("word{word}.example.org"), "/"), 200);
                }
            }),
            ("as names of TLS servers, by somebody who has often come", |play| {
                play.browse(1, 150);
                for word in 0..300 {
                    play.at(1_700 + word / 100).say(1, hello(&format!("word{word}.example.org"), None));
                }
            }),
            ("as names of TLS servers", |play| {
                for word in 0..300 {
                    play.at(word / 100).say(1, hello(&format!("word{word}.example.org"), None));
                }
            }),
        ];
        for (name, script) in scans {
            assert_eq!(found(rule(), script), [1], "{name}");
        }
    }

    #[test]
    fn the_reason_counts_in_plain_words() {
        let mut play = Play::new(rule());
        for word in 0..60 {
            play.at(word / 10).asked(1, to(&format!("word{word}.example.org"), "/"), 404);
        }
        let reason = &play.events()[0].finding.reason;
        assert!(reason.contains(" requests or TLS hellos with about 30 names of example.org"), "{reason}");
    }

    #[test]
    fn those_who_visit_many_sites_are_not() {
        let quiet: [(&str, Script); 6] = [
            ("a monitor of the first pages of hosts that have none, and that others use", |play| {
                for host in 0..45 {
                    play.asked(2, to(&format!("s{host}.example.org"), "/app/"), 200);
                }
                for check in 0..450 {
                    let host = check % 45;
                    play.at(check).asked(
                        1,
                        to(&format!("s{host}.example.org"), "/"),
                        if host < 36 { 404 } else { 200 },
                    );
                }
            }),
            ("a crawler of a thousand sites", |play| {
                for site in 0..1_000 {
                    play.at(site).asked(1, to(&format!("www.site{site}.example"), "/robots.txt"), 404);
                    play.asked(1, to(&format!("www.site{site}.example"), "/"), 200);
                }
            }),
            ("a monitor of the shops of one host", |play| {
                for check in 0..1_500 {
                    let shop = check % 150;
                    play.at(check * 60 / 150).asked(1, to(&format!("shop{shop}.example.org"), "/"), 200);
                }
            }),
            ("a proxy of many users", |play| {
                for step in 0..5_000 {
                    play.at(step / 50).say(1, hello(&format!("cdn{}.example.org", step % 40), None));
                }
            }),
            ("one that asks by address", |play| {
                for _ in 0..1_000 {
                    play.asked(1, to("198.51.100.1", "/"), 404);
                }
            }),
            ("a browser", |play| play.browse(1, 100)),
        ];
        for (name, script) in quiet {
            assert_eq!(found(rule(), script), NOBODY, "{name}");
        }
    }
}
