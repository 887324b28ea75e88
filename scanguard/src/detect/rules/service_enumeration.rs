//! Service enumeration: a source says to services what honest clients do not, in protocols other than HTTP, TLS and DNS
//! (onesixtyone, sipvicious, ike-scan, nmap -sV and its scripts).
//!
//! * It guesses: many communities of SNMP, many users of SIP without credentials, many proposals of IKE, many sets of
//!   algorithms of SSH. A client has one or two of each.
//! * Its software calls itself a scanner, or it sends what only scanners send (NTP's list of clients).
//! * It asks in several protocols as tools do, or speaks them to the ports of others. A client of one is honest.
//!
//! Most of this comes over UDP, where anybody can write any address. Such evidence is not proven, and never added to
//! that of connections.

use super::{
    content_rule::{Common, count, estimate},
    entry::Entry,
};
use crate::{
    content::{ContentStats, services::Services},
    detect::{Confidence, Rule, Severity, Technique},
    settings::Section,
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "service_enumeration",
    bans: true,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(ServiceEnumeration(settings)),
};

/// `[rules.service_enumeration]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every content rule has.
    common: Common,
    /// Threshold: first words that only scanners say.
    probes: u32,
    /// Threshold: distinct communities of SNMP.
    communities: u32,
    /// Threshold: distinct users of SIP that were guessed.
    users: u32,
    /// Threshold: distinct proposals of IKE, and distinct sets of algorithms of SSH.
    offers: u32,
    /// Threshold: distinct protocols that were spoken oddly, or to the ports of others.
    protocols: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common::new(Severity::Low),
            probes: 1,
            communities: 5,
            users: 10,
            offers: 8,
            protocols: 3,
        }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            probes: section.number("probes", default.probes, 1..=1_000_000),
            // Above 200 the bitmaps of 128 bits are not precise enough.
            communities: section.number("communities", default.communities, 2..=200),
            users: section.number("users", default.users, 2..=200),
            offers: section.number("offers", default.offers, 2..=200),
            protocols: section.number("protocols", default.protocols, 2..=16),
        };
        section.finish();
        settings
    }
}

/// The rule.
struct ServiceEnumeration(Settings);

impl ServiceEnumeration {
    fn confidence(&self, services: &Services) -> Option<Confidence> {
        let Settings { probes, communities, users, offers, protocols, .. } = self.0;
        let guesses = services.communities().value >= u64::from(communities)
            || services.users().value >= u64::from(users)
            || services.algorithms().value >= u64::from(offers)
            || services.proposals().value >= u64::from(offers);
        let is_named = !services.tools.is_empty();
        let has_probed = services.probes >= u64::from(probes);
        match () {
            () if has_probed && is_named || services.foreign().len() >= protocols => Some(Confidence::High),
            () if has_probed || guesses || services.odd().len() >= protocols => Some(Confidence::Medium),
            () => None,
        }
    }
}

impl Rule for ServiceEnumeration {
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
        self.confidence(stats.services.as_deref()?)
    }

    fn words(&self, stats: &ContentStats) -> String {
        let Some(services) = stats.services.as_deref() else { return String::new() };
        let mut parts = Vec::new();
        if services.probes > 0 {
            let labels: Vec<_> = services.probed().labels().collect();
            let of = if services.tools.is_empty() {
                String::new()
            } else {
                format!(": {}", services.tools.join(", "))
            };
            parts.push(format!(
                "{} of scanners in {}{of}",
                count(services.probes, "message"),
                labels.join(", ")
            ));
        }
        // One or two of each are a client's.
        for (distinct, one, of) in [
            (services.communities(), "community string", " of SNMP"),
            (services.users(), "user", " of SIP without credentials"),
            (
                services.algorithms(),
                "set",
                " of algorithms of SSH (one with a single key exchange counts as four)",
            ),
            (services.proposals(), "proposal", " of IKE"),
        ] {
            if distinct.value > 2 {
                parts.push(format!("{}{of}", estimate(distinct, one)));
            }
        }
        if services.odd().len() > 1 {
            let labels: Vec<_> = services.odd().labels().collect();
            parts.push(format!("odd messages in {}", labels.join(", ")));
        }
        if !services.foreign().is_empty() {
            let labels: Vec<_> = services.foreign().labels().collect();
            parts.push(format!("{} at ports of other protocols", labels.join(", ")));
        }
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        content::greeting::{Language, Manner, Tried},
        detect::rules::content_script::{NOBODY, Play, Script, algorithms, found, greeting, named, tried},
    };

    const SNMP: (u8, u16) = (17, 161);
    const SIP: (u8, u16) = (17, 5_060);
    const IKE: (u8, u16) = (17, 500);
    const SSH: (u8, u16) = (6, 22);
    const REDIS: (u8, u16) = (6, 6_379);

    fn rule() -> Box<dyn Rule> {
        Box::new(ServiceEnumeration(Settings::default()))
    }

    fn community(play: &mut Play, number: u64) {
        play.greets(1, SNMP, 40_000, tried(Language::Snmp, Tried::Community, &format!("word{number}")));
    }

    fn user(play: &mut Play, number: u64, port: u16) {
        play.greets(1, SIP, port, tried(Language::Sip, Tried::User, &format!("{number}")));
    }

    #[test]
    fn guesses_are_found() {
        let scans: [(&str, Script); 4] = [
            ("communities", |play| (0..9).for_each(|number| community(play, number))),
            ("users from one port", |play| (100..118).for_each(|number| user(play, number, 5_061))),
            ("proposals", |play| {
                for number in 0..16 {
                    let proposal = tried(Language::Ike, Tried::Proposal, &format!("{number}"));
                    play.greets(1, IKE, 500, proposal);
                }
            }),
            ("algorithms of one program", |play| {
                for number in 0..22 {
                    play.greets(1, SSH, 40_000 + number, named(Language::Ssh, "OpenSSH_8.2"));
                    play.greets(1, SSH, 40_000 + number, algorithms(&format!("kex;key{number}")));
                }
            }),
        ];
        for (name, script) in scans {
            assert_eq!(found(rule(), script), [1], "{name}");
        }
    }

    #[test]
    fn what_only_scanners_say_is_found_at_once() {
        let scans: [(&str, Script); 3] = [
            ("a name in SIP", |play| {
                play.greets(1, SIP, 5_061, named(Language::Sip, "friendly-scanner"));
            }),
            ("a name in SSH", |play| {
                play.greets(1, SSH, 40_000, named(Language::Ssh, "Nmap-SSH2-Hostkey"));
            }),
            ("the list of NTP's clients", |play| {
                play.greets(1, (17, 123), 40_000, greeting(Language::Ntp, Manner::Probe));
            }),
        ];
        for (name, script) in scans {
            assert_eq!(found(rule(), script), [1], "{name}");
        }
    }

    #[test]
    fn several_protocols_are_found_where_one_is_not() {
        let odd = [(Language::Netbios, 137), (Language::Ssdp, 1_900), (Language::Coap, 5_683)];
        let asked = |count: usize| {
            found(rule(), |play| {
                for (language, port) in odd.into_iter().take(count) {
                    play.greets(1, (17, port), 40_000, greeting(language, Manner::Odd));
                }
            })
        };
        assert_eq!((asked(1), asked(2), asked(3)), (vec![], vec![], vec![1]));
        let foreign = [Language::Http, Language::Rtsp, Language::Smb];
        let spoken = |count: usize| {
            found(rule(), |play| {
                for language in foreign.into_iter().take(count) {
                    play.greets(1, REDIS, 40_000, greeting(language, Manner::Ordinary));
                }
            })
        };
        assert_eq!((spoken(1), spoken(2), spoken(3)), (vec![], vec![], vec![1]));
    }

    #[test]
    fn what_is_forged_is_not_added_to_what_is_proven() {
        let halves = |play: &mut Play| {
            let (netbios, ssdp) =
                (greeting(Language::Netbios, Manner::Odd), greeting(Language::Ssdp, Manner::Odd));
            play.greets(1, (17, 137), 40_000, netbios).greets(1, (17, 1_900), 40_000, ssdp);
            play.greets(1, REDIS, 40_000, greeting(Language::Smb, Manner::Ordinary));
        };
        assert_eq!(found(rule(), halves), NOBODY);
    }

    #[test]
    fn honest_clients_are_not() {
        let quiet: [(&str, Script); 9] = [
            ("a poller with two communities, for a day", |play| {
                for minute in 0..1_440 {
                    play.at(minute * 60);
                    community(play, 1);
                    community(play, 2);
                }
            }),
            ("a phone whose password is wrong", |play| {
                for minute in 0..600 {
                    play.at(minute * 60);
                    user(play, 101, 5_060);
                    let again = tried(Language::Sip, Tried::KnownUser, "101");
                    play.greets(1, SIP, 5_060, again);
                }
            }),
            ("two hundred phones behind one address, whose server is away", |play| {
                (0..200).for_each(|number| user(play, number, 20_000 + u16::try_from(number).unwrap()));
            }),
            ("a gateway that registers three hundred users", |play| {
                for number in 0..300 {
                    user(play, number, 5_060);
                    let known = tried(Language::Sip, Tried::KnownUser, &format!("{number}"));
                    play.greets(1, SIP, 5_060, known);
                }
            }),
            ("a monitor of SSH", |play| {
                for minute in 0..1_440 {
                    play.at(minute * 60);
                    play.greets(1, SSH, 40_000, named(Language::Ssh, "check_ssh_2.3"));
                }
            }),
            ("developers and their machines behind one address", |play| {
                for number in 0..40 {
                    let program = format!("OpenSSH_{}.{}p1 Debian-{number}", 8 + number % 2, number % 10);
                    play.greets(1, SSH, 40_000, named(Language::Ssh, &program));
                    play.greets(1, SSH, 40_000, algorithms(&format!("{number};ed25519")));
                    play.greets(1, SSH, 40_000, algorithms(&format!("{number};rsa")));
                }
                for program in ["paramiko_2.12.0", "Go", "libssh2_1.11.0", "JSCH-0.1.54"] {
                    play.greets(1, SSH, 40_000, named(Language::Ssh, program));
                    play.greets(1, SSH, 40_000, algorithms(program));
                }
            }),
            ("a client of a VPN that retries", |play| {
                for second in 0..100 {
                    play.at(second * 5);
                    for number in 0..3 {
                        let proposal = tried(Language::Ike, Tried::Proposal, &format!("{number}"));
                        play.greets(1, IKE, 500, proposal);
                    }
                }
            }),
            ("a machine that asks its neighbours for their names, and a monitor of a time server", |play| {
                for second in 0..100 {
                    play.at(second);
                    play.greets(1, (17, 137), 137, greeting(Language::Netbios, Manner::Odd));
                    play.greets(1, (17, 123), 40_000, greeting(Language::Ntp, Manner::Odd));
                }
            }),
            ("clients of many services behind one address", |play| {
                for (language, to) in [
                    (Language::Ssh, SSH),
                    (Language::Snmp, SNMP),
                    (Language::Sip, SIP),
                    (Language::Ike, IKE),
                    (Language::Redis, REDIS),
                    (Language::Smb, (6, 445)),
                    (Language::Rdp, (6, 3_389)),
                    (Language::Tls, SSH),
                    (Language::Http, SSH),
                ] {
                    play.greets(1, to, 40_000, greeting(language, Manner::Ordinary));
                }
            }),
        ];
        for (name, script) in quiet {
            assert_eq!(found(rule(), script), NOBODY, "{name}");
        }
    }
}
