//! DNS enumeration: one source queries many names of one zone, and most do not exist (dnsrecon, dnsenum, gobuster dns).
//!
//! A resolver forwards the queries of its users: many names of many zones, most of which exist. Only names under one
//! parent count, and only with the answers: if the answers are not visible, the rule does not match. Under a parent that
//! does not exist nothing can be found: resolvers with search domains ask for `example.com.corp.example`. Such a parent
//! counts from the first of its names that exists. Names that blocklists list (127.0.0.0/8) are no hosts. If a scanner
//! guesses through a resolver, the sensor sees the resolver's address; and anybody can write any address into a UDP
//! packet. So the rule bans nobody by default.

use super::{
    content_rule::{Common, count, estimate},
    entry::Entry,
};
use crate::{
    content::{ContentStats, names::Siblings},
    detect::{Confidence, Rule, Severity, Technique},
    settings::Section,
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "dns_enumeration",
    // Resolvers ask on behalf of others.
    bans: false,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(DnsEnumeration(settings)),
};

/// `[rules.dns_enumeration]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every content rule has.
    common: Common,
    /// Threshold: distinct names under one parent that do not exist.
    names: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { common: Common::new(Severity::Medium), names: 50 }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            // Above 700 the bitmap of 256 bits is not precise enough.
            names: section.number("names", default.names, 2..=700),
        };
        section.finish();
        settings
    }
}

/// Least share of the names under the parent that do not exist, in tenths.
const MISSED_TENTHS: u64 = 8;

/// The rule.
struct DnsEnumeration(Settings);

impl DnsEnumeration {
    fn guessed<'h>(&self, stats: &'h ContentStats) -> Option<&'h Siblings> {
        let least = u64::from(self.0.names);
        if stats.dns.missed < least {
            return None;
        }
        stats.dns.names.by_parent().find(|names| {
            let missed = names.missed().value;
            names.has_room() && missed >= least && missed * 10 >= names.names().value * MISSED_TENTHS
        })
    }
}

impl Rule for DnsEnumeration {
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
        self.guessed(stats).map(|_| Confidence::Medium)
    }

    fn words(&self, stats: &ContentStats) -> String {
        let Some(names) = self.guessed(stats) else {
            return String::new();
        };
        format!(
            "{} for {}{}, of which {} are not there: names are guessed",
            count(names.asked, "DNS query"),
            estimate(names.names(), "name"),
            names.whose(),
            names.missed(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::rules::content_script::{NOBODY, Script, denied, exists, found, listed};

    fn rule() -> Box<dyn Rule> {
        Box::new(DnsEnumeration(Settings::default()))
    }

    #[test]
    fn guessed_names_are_found() {
        let scans: [(&str, Script); 6] = [
            ("a word list, and what denies it is the zone", |play| {
                for word in 0..200 {
                    play.at(word / 50).answered(
                        1,
                        1,
                        denied(&format!("word{word}.example.org"), "example.org"),
                    );
                }
            }),
            ("a word list under a name that is no zone", |play| {
                for word in 0..200 {
                    let name = format!("word{word}.dev.example.org");
                    let answer = if word == 99 { exists(&name) } else { denied(&name, "example.org") };
                    play.at(word / 50).answered(1, 1, answer);
                }
            }),
            ("a word list, and a name that looks as if it were listed", |play| {
                play.answered(1, 1, listed("localhost.example.org"));
                for word in 0..200 {
                    let name = format!("word{word}.example.org");
                    let answer = if word % 10 == 9 { exists(&name) } else { denied(&name, "example.org") };
                    play.at(word / 50).answered(1, 1, answer);
                }
            }),
            ("a word list", |play| {
                for word in 0..200 {
                    let code = if word % 20 == 0 { 0 } else { 3 };
                    play.at(word / 50).looked_up(1, &format!("word{word}.example.org"), 1, code);
                }
            }),
            ("a word list, behind a name that there is of another zone", |play| {
                for word in 0..200 {
                    play.at(word / 50).looked_up(1, &format!("word{word}.example.org"), 1, 3);
                    play.looked_up(1, "www.example.net", 1, 0).looked_up(1, "www.example.net", 1, 0);
                }
            }),
            ("reverse names of a network", |play| {
                for host in 0..=255 {
                    play.looked_up(1, &format!("{host}.2.0.192.in-addr.arpa"), 12, 3);
                }
            }),
        ];
        for (name, script) in scans {
            assert_eq!(found(rule(), script), [1], "{name}");
        }
    }

    #[test]
    fn resolvers_are_not() {
        let quiet: [(&str, Script); 8] = [
            ("search domains", |play| {
                for site in 0..200 {
                    for suffix in ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"] {
                        let name = format!("site{site}.com.{suffix}");
                        play.at(site / 20).answered(1, 1, denied(&name, "cluster.local"));
                        play.answered(1, 28, denied(&name, "cluster.local"));
                    }
                }
            }),
            ("a mail server that asks a list of domains", |play| {
                for domain in 0..200 {
                    let name = format!("domain{domain}.com.bl.example.org");
                    let is_listed = domain % 20 == 0;
                    play.answered(
                        1,
                        1,
                        if is_listed { listed(&name) } else { denied(&name, "bl.example.org") },
                    );
                    if is_listed {
                        play.answered(1, 16, exists(&name));
                    }
                }
            }),
            ("a mail server that asks a list of digests", |play| {
                for digest in 0..200u64 {
                    let name =
                        format!("{:016x}{digest:016x}.hash.example.org", digest.wrapping_mul(77_777_777_777));
                    play.answered(1, 1, denied(&name, "hash.example.org"));
                }
            }),
            ("many names of many zones", |play| {
                for zone in 0..2_000 {
                    play.looked_up(1, &format!("www.zone{zone}.example"), 1, 0);
                    play.looked_up(1, &format!("mail.zone{zone}.example"), 1, 3);
                }
            }),
            ("a large zone", |play| {
                for host in 0..2_000 {
                    let code = if host % 3 == 0 { 3 } else { 0 };
                    play.looked_up(1, &format!("host{host}.example.org"), 1, code);
                }
            }),
            ("a name that there is not, again and again", |play| {
                for _ in 0..2_000 {
                    play.looked_up(1, "wpad.example.org", 1, 3);
                }
            }),
            ("a mail server that asks a blocklist", |play| {
                for host in 0..2_000 {
                    let (third, fourth) = (host / 250, host % 250);
                    play.looked_up(1, &format!("{fourth}.{}.{third}.10.bl.example.org", host % 7), 1, 3);
                }
            }),
            ("answers that are not seen", |play| {
                for word in 0..2_000 {
                    play.asked_for(1, &format!("word{word}.example.org"), 1, 1);
                }
            }),
        ];
        for (name, script) in quiet {
            assert_eq!(found(rule(), script), NOBODY, "{name}");
        }
    }
}
