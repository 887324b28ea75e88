//! Scanner TLS: the JA4 fingerprint of the ClientHello belongs to a tool that scans.
//!
//! A fingerprint shows a library as a program uses it. The list contains only fingerprints that no general client has.
//! Most tools written in Go send the same hello as every Go program, so they are not listed. The match is never sure,
//! since a library may change its hello.

use super::{
    content_rule::{Common, count},
    entry::Entry,
};
use crate::{
    content::ContentStats,
    detect::{Confidence, Rule, Severity, Technique},
    settings::Section,
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "scanner_tls",
    // Libraries change, and so do their fingerprints.
    bans: false,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(ScannerTls(settings)),
};

/// `[rules.scanner_tls]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every content rule has.
    common: Common,
    /// Threshold: number of hellos.
    hellos: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { common: Common::new(Severity::Low), hellos: 1 }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            hellos: section.number("hellos", default.hellos, 1..=1_000_000),
        };
        section.finish();
        settings
    }
}

/// The rule.
struct ScannerTls(Settings);

impl Rule for ScannerTls {
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
        (stats.tls.by_tools >= u64::from(self.0.hellos)).then_some(Confidence::Medium)
    }

    fn words(&self, stats: &ContentStats) -> String {
        let tls = &stats.tls;
        format!(
            "{} with the fingerprint of a scanner: {}",
            count(tls.by_tools, "TLS hello"),
            tls.tools.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::rules::content_script::{NOBODY, found, hello};

    fn rule() -> Box<dyn Rule> {
        Box::new(ScannerTls(Settings::default()))
    }

    #[test]
    fn a_listed_fingerprint_is_found() {
        let listed = crate::content::lists::Fingerprints::any();
        assert_eq!(
            found(rule(), |play| {
                play.say(1, hello("www.example.org", Some(&listed)));
            }),
            [1]
        );
    }

    #[test]
    fn browsers_and_libraries_are_not() {
        // Chrome, Firefox, Safari (FoxIO's ja4 database), and an incomplete hello.
        for ja4 in [
            Some("t13d1516h2_8daaf6152771_b186095e22b6"),
            Some("t13d1715h2_5b57614c22b0_5c2c66f702b0"),
            Some("t13d2014h2_a09f3c656075_14788d8d241b"),
            None,
        ] {
            assert_eq!(
                found(rule(), |play| {
                    play.say(1, hello("www.example.org", ja4));
                }),
                NOBODY
            );
        }
    }
}
