//! A program uses the network that never did so before, in its unit or kind of container.
//!
//! It is a notice, `info`. It is `medium` where the executable was deleted, never had a name in a file system, or is where
//! everybody may write. Programs of users who are logged in are left out.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass::{self, Syn, Udp, UdpEmpty};

use super::{
    super::{Common, entry::Entry},
    tried::proof,
};
use crate::detect::{Evidence, Rule, Severity, Source, Technique};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Common> = Entry {
    name: "first_network_use",
    bans: false,
    default: || DEFAULT,
    read: |section| Common::alone(section, DEFAULT),
    basics: |settings| (*settings).into(),
    build: |settings| Box::new(FirstNetworkUse(settings)),
};

/// `[rules.first_network_use]`.
const DEFAULT: Common = Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Info };

/// In the reason of a program without a lasting place. The severity goes by it.
const FLEETING: &str = "; its executable is deleted, nameless, or where everybody may write";

/// The rule.
struct FirstNetworkUse(Common);

impl Rule for FirstNetworkUse {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::ActiveScanning]
    }

    fn severity(&self) -> Severity {
        self.0.severity
    }

    fn severity_of(&self, evidence: &Evidence) -> Severity {
        if evidence.reason.ends_with(FLEETING) {
            self.severity().max(Severity::Medium)
        } else {
            self.severity()
        }
    }

    fn classes(&self) -> &'static [ProbeClass] {
        &[Syn, Udp, UdpEmpty]
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let known = source.known.filter(|known| known.news.first_use)?;
        let process = known.actor.process.as_ref()?;
        let fleeting = if process.is_fleeting() { FLEETING } else { "" };
        let reason = format!("it has not used the network before in {}{fleeting}", process.class());
        let window = source.window(self.0.window);
        Some(Evidence { window, reason, certain: false, proof: proof(source) })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};
    use crate::outbound::{baseline::News, identity::testing::Draft};

    #[test]
    fn a_first_use_is_told_and_weighs_more_without_a_lasting_place() {
        for (path, severity) in [("/usr/bin/python3", Severity::Info), ("/tmp/x", Severity::Medium)] {
            let mut script = OutScript::new(vec![Box::new(FirstNetworkUse(DEFAULT))]);
            let news = News { first_use: true, learned: true, ..News::default() };
            script.is(PROGRAM, &Draft::new(path, "/system.slice/web.service"), news);
            script.ask(PROGRAM, 1, 443).answered();
            script.at(2).is(PROGRAM, &Draft::new(path, "/system.slice/web.service"), News::default());
            script.ask(PROGRAM, 2, 443).answered();
            let [event] = script.events().try_into().unwrap_or_else(|events| panic!("{events:?}"));
            assert_eq!((event.finding.severity, event.finding.probes()), (severity, 1), "{path}");
            assert!(event.finding.reason.starts_with("it has not used the network before in web.service"));
        }
    }
}
