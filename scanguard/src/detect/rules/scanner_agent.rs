//! Scanner agent: the User-Agent header names a tool that scans.
//!
//! A scanner that hides omits the header or copies a browser's; one that does not hide is known by its first request.
//! Nobody names a scanner by mistake, and doing so harms only the sender. General clients and libraries are not listed.

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
    name: "scanner_agent",
    bans: true,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(ScannerAgent(settings)),
};

/// `[rules.scanner_agent]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every content rule has.
    common: Common,
    /// Threshold: number of requests.
    requests: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { common: Common::new(Severity::Medium), requests: 1 }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            requests: section.number("requests", default.requests, 1..=1_000_000),
        };
        section.finish();
        settings
    }
}

/// The rule.
struct ScannerAgent(Settings);

impl Rule for ScannerAgent {
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
        &["odd_requests", "sensitive_paths", "scanner_tls"]
    }

    fn hear(&self, stats: &ContentStats) -> Option<Confidence> {
        (stats.web.by_tools >= u64::from(self.0.requests)).then_some(Confidence::High)
    }

    fn words(&self, stats: &ContentStats) -> String {
        let web = &stats.web;
        format!(
            "{} whose User-Agent names a scanner: {}",
            count(web.by_tools, "request"),
            web.tools.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::rules::content_script::{NOBODY, Script, found, get};

    fn rule() -> Box<dyn Rule> {
        Box::new(ScannerAgent(Settings::default()))
    }

    #[test]
    fn one_request_of_a_tool_is_enough() {
        for agent in ["sqlmap/1.8", "gobuster/3.6", "Mozilla/5.0 zgrab/0.x"] {
            assert_eq!(
                found(rule(), |play| {
                    play.by(agent, 1, get("/"));
                }),
                [1],
                "{agent}"
            );
        }
    }

    #[test]
    fn honest_clients_are_not_whatever_they_are_called() {
        let quiet: [(&str, Script); 3] = [
            ("a browser", |play| play.browse(1, 40)),
            ("a client without an agent", |play| {
                play.say(1, get("/"));
            }),
            ("a library", |play| {
                play.by("python-requests/2.31.0", 1, get("/"));
            }),
        ];
        for (name, script) in quiet {
            assert_eq!(found(rule(), script), NOBODY, "{name}");
        }
    }
}
