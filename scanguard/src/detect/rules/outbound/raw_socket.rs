//! A program opens a raw or packet socket that never had one before, in its unit or kind of container. It is a notice,
//! `info`: with such a socket one makes packets, or reads those of others.

use std::time::Duration;

use scanguard_common::actor::marks;

use super::{
    super::{Common, entry::Entry},
    tried::proof,
};
use crate::detect::{Evidence, Rule, Severity, Source, Technique};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Common> = Entry {
    name: "raw_socket",
    bans: false,
    default: || DEFAULT,
    read: |section| Common::alone(section, DEFAULT),
    basics: |settings| (*settings).into(),
    build: |settings| Box::new(RawSocket(settings)),
};

/// `[rules.raw_socket]`.
const DEFAULT: Common = Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Info };

/// The rule.
struct RawSocket(Common);

impl Rule for RawSocket {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::NetworkServiceDiscovery]
    }

    fn severity(&self) -> Severity {
        self.0.severity
    }

    fn concerns(&self, _new: &crate::observe::activity::Activity) -> bool {
        true
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let known = source.known.filter(|known| known.news.first_raw)?;
        let process = known.actor.process.as_ref()?;
        let kind = if process.is(marks::PACKET) { "packet" } else { "raw" };
        let reason = format!("it has a {kind} socket, and had none before in {}", process.class());
        let window = source.window(self.0.window);
        Some(Evidence { window, reason, certain: false, proof: proof(source) })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};
    use crate::outbound::{baseline::News, identity::testing::Draft};

    #[test]
    fn a_first_raw_socket_is_told_also_of_who_has_sent_nothing() {
        for (mark, kind) in [(marks::RAW, "raw"), (marks::PACKET, "packet")] {
            let mut script = OutScript::new(vec![Box::new(RawSocket(DEFAULT))]);
            let news = News { first_raw: true, learned: true, ..News::default() };
            script
                .is(CRAFTER, &Draft::new("/usr/bin/x", "/system.slice/web.service").marks(mark), news)
                .meet(CRAFTER);
            let [event] = script.events().try_into().unwrap_or_else(|events| panic!("{events:?}"));
            let expected = format!("it has a {kind} socket, and had none before in web.service");
            assert_eq!((event.finding.reason, event.finding.severity), (expected, Severity::Info));
        }
    }
}
