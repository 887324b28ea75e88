//! TLS enumeration: one source sends many different hellos, of many versions (sslscan, testssl.sh, nmap
//! ssl-enum-ciphers).
//!
//! A client sends one or two different hellos. Many clients behind one address send as many as they have programs, but
//! all of these use TLS 1.2 or 1.3. A tool that enumerates a server's support offers every version that ever existed,
//! and tries one set of ciphers after another with each.

use super::{
    content_rule::{Common, count, estimate},
    entry::Entry,
};
use crate::{
    content::ContentStats,
    detect::{Confidence, Rule, Severity, Technique},
    settings::Section,
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "tls_enumeration",
    bans: true,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(TlsEnumeration(settings)),
};

/// `[rules.tls_enumeration]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every content rule has.
    common: Common,
    /// Threshold: distinct JA4 fingerprints.
    fingerprints: u32,
    /// Threshold: distinct highest versions of TLS in the hellos.
    versions: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { common: Common::new(Severity::Medium), fingerprints: 8, versions: 4 }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            // Above 200 the bitmap of 128 bits is not precise enough.
            fingerprints: section.number("fingerprints", default.fingerprints, 2..=200),
            // SSL 2.0 and 3.0, TLS 1.0 to 1.3.
            versions: section.number("versions", default.versions, 1..=6),
        };
        section.finish();
        settings
    }
}

/// The rule.
struct TlsEnumeration(Settings);

impl Rule for TlsEnumeration {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::VulnerabilityScanning]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn covers(&self) -> &'static [&'static str] {
        &["scanner_tls"]
    }

    fn hear(&self, stats: &ContentStats) -> Option<Confidence> {
        let tls = &stats.tls;
        let is_one = tls.versions() >= self.0.versions
            && tls.hellos >= u64::from(self.0.fingerprints)
            && tls.fingerprints().value >= u64::from(self.0.fingerprints);
        is_one.then_some(Confidence::High)
    }

    fn words(&self, stats: &ContentStats) -> String {
        let tls = &stats.tls;
        format!(
            "{} with {} of {}: the source tries out the options of this host's TLS",
            count(tls.hellos, "TLS hello"),
            estimate(tls.fingerprints(), "fingerprint"),
            count(tls.versions().into(), "version"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::rules::content_script::{NOBODY, Play, Script, found, hello};

    fn rule() -> Box<dyn Rule> {
        Box::new(TlsEnumeration(Settings::default()))
    }

    fn ja4(version: &str, ciphers: u32) -> String {
        format!("t{version}d{ciphers:02}10h2_{ciphers:012x}_b186095e22b6")
    }

    #[test]
    fn all_versions_with_set_after_set_are_found() {
        let scan = |play: &mut Play| {
            for version in ["s3", "10", "11", "12", "13"] {
                for ciphers in 1..5 {
                    play.say(1, hello("www.example.org", Some(&ja4(version, ciphers))));
                }
            }
        };
        assert_eq!(found(rule(), scan), [1]);
    }

    #[test]
    fn clients_are_not_however_many_are_behind_one_address() {
        let quiet: [(&str, Script); 3] = [
            ("a hundred programs behind one address, some of them old", |play| {
                for ciphers in 1..100 {
                    play.say(1, hello("www.example.org", Some(&ja4("13", ciphers))));
                    play.say(1, hello("www.example.org", Some(&ja4("12", ciphers))));
                }
                play.say(1, hello("www.example.org", Some(&ja4("10", 3))));
            }),
            ("one that falls back when it is refused", |play| {
                for version in ["13", "12", "11", "10", "s3"] {
                    play.say(1, hello("www.example.org", Some(&ja4(version, 10))));
                }
            }),
            ("a browser", |play| play.browse(1, 100)),
        ];
        for (name, script) in quiet {
            assert_eq!(found(rule(), script), NOBODY, "{name}");
        }
    }
}
