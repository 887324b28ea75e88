//! Odd requests: requests that no browser writes, and that honest clients rarely write (nikto, wapiti, sqlmap, nuclei).
//!
//! Path traversal, Log4Shell strings and refused targets of other hosts are attempts. Three are enough, since a broken
//! link or a curious user makes one. If the server does serve the target of another host, the source is the client of a
//! proxy, open or not, and that is no attempt. Nor is the target of this very host, under a name under which others are
//! served: some clients write all targets like that. Apparent SQL, script or command injection may be a developer's search:
//! the rule needs ten. A broken client repeats unknown methods, missing Host headers, binary junk and broken syntax,
//! but always in the same way: five of these count, if at least two are not of the most frequent kind.
//!
//! Three kinds of attacks within seconds are told at low confidence: tools that ask what a firewall lets through (wafw00f)
//! send one of each, and nobody types so fast.
//!
//! Distinct odd things count, not requests: a page that polls with an odd title sends one. But one attempt at each of many
//! addresses is a sweep for one weakness: each address counts once.
//!
//! Requests that another page sent the client to make findings that ban nobody; of those that a page of this very host
//! sent, four count as one.

use super::{
    content_rule::{Common, count, graded},
    entry::Entry,
};
use crate::{
    content::{By, ContentStats, Oddity},
    detect::{Confidence, Rule, Severity, Technique},
    settings::Section,
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "odd_requests",
    bans: true,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(OddRequests(settings)),
};

/// `[rules.odd_requests]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every content rule has.
    common: Common,
    /// Threshold: distinct traversals, Log4Shell strings and refused targets of another host.
    attempts: u32,
    /// Threshold: distinct addresses at which there was such an attempt, be it the same.
    hosts: u32,
    /// Threshold: distinct apparent injections.
    injections: u32,
    /// Threshold: distinct oddities, at least two of them of other kinds than the rest.
    oddities: u32,
    /// Threshold: kinds of attacks that the source tried within seconds.
    kinds: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common::new(Severity::Medium),
            attempts: 3,
            hosts: 8,
            injections: 10,
            oddities: 5,
            kinds: 3,
        }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            // Above 200 the bitmaps of 128 bits are not precise enough.
            attempts: section.number("attempts", default.attempts, 1..=200),
            hosts: section.number("hosts", default.hosts, 2..=200),
            injections: section.number("injections", default.injections, 1..=200),
            oddities: section.number("oddities", default.oddities, 1..=200),
            // There are five.
            kinds: section.number("kinds", default.kinds, 2..=5),
        };
        section.finish();
        settings
    }
}

/// Least number of oddities that are not of the most frequent kind: one may be an accident.
const OF_OTHER_KINDS: u64 = 2;

/// The rule.
struct OddRequests(Settings);

impl Rule for OddRequests {
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
        &["sensitive_paths"]
    }

    fn hear(&self, stats: &ContentStats) -> Option<Confidence> {
        let web = &stats.web;
        let is_enough = |by: By, times: u64| {
            let of =
                |oddities: &[Oddity]| oddities.iter().map(|oddity| web.odd_parts(*oddity, by)).sum::<u64>();
            let attempts = of(&[Oddity::Traversal, Oddity::Jndi]) + web.refused_proxied(by);
            attempts >= u64::from(self.0.attempts) * times
                || web.attempted_hosts() >= u64::from(self.0.hosts) * times
                || of(&[Oddity::Injection]) >= u64::from(self.0.injections) * times
        };
        let is_mixed = |by: By, times: u64| {
            let kinds =
                || Oddity::ALL.into_iter().map(|oddity| web.odd_parts(oddity, by)).chain([stats.broken]);
            let (all, most) = (kinds().sum::<u64>(), kinds().max().unwrap_or_default());
            all - most >= OF_OTHER_KINDS && all >= u64::from(self.0.oddities) * times
        };
        let is_varied = web.attacks_at_once() >= self.0.kinds.into() && !stats.is_regular;
        let told = |times: u64| is_varied || is_mixed(By::Anybody, times) || is_enough(By::Anybody, times);
        match graded(stats, |times| is_enough(By::Client, times), told) {
            Some(Confidence::Low) if !stats.is_regular && is_mixed(By::Client, 1) => Some(Confidence::Medium),
            confidence => confidence,
        }
    }

    fn words(&self, stats: &ContentStats) -> String {
        let web = &stats.web;
        let mut kinds: Vec<_> = Oddity::ALL
            .into_iter()
            .map(|oddity| (web.odd(oddity), in_words(oddity)))
            .chain([(stats.broken, "broken syntax")])
            .filter(|(times, _)| *times > 0)
            .collect();
        kinds.sort_by_key(|(times, _)| std::cmp::Reverse(*times));
        let kinds: Vec<_> = kinds.into_iter().map(|(times, words)| format!("{times} with {words}")).collect();
        let hosts = web.attempted_hosts();
        let at = if hosts > 1 { format!(", attempts at {}", count(hosts, "address")) } else { String::new() };
        format!("{}, of these {}{at}", count(web.requests + stats.broken, "request"), kinds.join(", "))
    }
}

const fn in_words(oddity: Oddity) -> &'static str {
    match oddity {
        Oddity::Method => "a method that HTTP has not",
        Oddity::NoHost => "no Host header",
        Oddity::Proxy => "another host's target",
        Oddity::Traversal => "a way out of the directory",
        Oddity::Jndi => "a Log4Shell string",
        Oddity::Injection => "what looks like injected SQL, scripts or commands",
        Oddity::Binary => "bytes that no request has",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        content::{Junk, Said, Sender, attacks::Attack},
        detect::rules::content_script::{
            NOBODY, Play, Script, absolute, attacking, found, get, odd, sent_by, to,
        },
    };

    fn rule() -> Box<dyn Rule> {
        Box::new(OddRequests(Settings::default()))
    }

    #[test]
    fn attempts_are_found() {
        let scans: [(&str, Script); 11] = [
            ("one Log4Shell string at each of twelve addresses", |play| {
                (1..=12).for_each(|host| _ = play.asked_at(1, host, odd("/x", Oddity::Jndi), 404));
            }),
            ("one CONNECT at each of twelve addresses", |play| {
                (1..=12).for_each(|host| _ = play.asked_at(1, host, odd("/", Oddity::Proxy), 405));
            }),
            ("looking for an open proxy under a name under which nobody else was served", |play| {
                play.asked(1, to("shop.example", "/"), 200);
                for page in ["/", "/a", "/b"] {
                    play.asked(1, absolute("shop.example", 80, page), 405);
                }
            }),
            ("looking for what a proxy would reach at other ports of this very site", |play| {
                play.asked(2, to("shop.example", "/"), 200);
                for port in [22, 3306, 6379] {
                    play.asked(1, absolute("shop.example", port, "/"), 404);
                }
            }),
            ("looking for an open proxy after another client was served through it", |play| {
                play.asked(2, absolute("other.example", 80, "/"), 200);
                for page in ["/", "/a", "/b"] {
                    play.asked(1, absolute("other.example", 80, page), 405);
                }
            }),
            ("ways out of the directory", |play| {
                for path in ["/../../etc/passwd", "/..%2f..%2fetc/passwd", "/static/../../x"] {
                    play.logged(1, odd(path, Oddity::Traversal), 400);
                }
            }),
            ("Log4Shell in several headers", |play| {
                for header in ["/a", "/b", "/c"] {
                    play.logged(1, odd(header, Oddity::Jndi), 200);
                }
            }),
            ("sqlmap with a browser's agent", |play| {
                for try_of in 0..30 {
                    play.logged(1, odd(&format!("/item?{try_of}"), Oddity::Injection), 200);
                }
            }),
            ("looking for an open proxy", |play| {
                for target in ["/a", "/b", "/c"] {
                    play.asked(1, odd(target, Oddity::Proxy), 405);
                }
            }),
            ("wafw00f: one of each kind, within a second", |play| {
                for (at, attack) in [Attack::Script, Attack::Sql, Attack::Traversal].into_iter().enumerate() {
                    play.at(at as u64 / 2).asked(1, attacking("/", attack), 200).asked(1, get("/"), 200);
                }
            }),
            ("a bit of everything", |play| {
                for oddity in [Oddity::Method, Oddity::NoHost, Oddity::Binary] {
                    play.logged(1, odd("/", oddity), 400);
                }
                play.say(1, Said::Junk(Junk::Syntax)).say(1, Said::Junk(Junk::Syntax));
            }),
        ];
        for (name, script) in scans {
            assert_eq!(found(rule(), script), [1], "{name}");
        }
    }

    #[test]
    fn what_pages_send_their_visitors_to_is_told_at_most() {
        let confidence = |sender: Sender, attempts: u64| {
            let mut play = Play::new(rule());
            for attempt in 0..attempts {
                let attempt = odd(&format!("/{attempt}/..%2f..%2fetc/passwd"), Oddity::Traversal);
                play.asked(1, sent_by(sender, attempt), 404);
            }
            play.events().last().map(|event| event.finding.confidence)
        };
        assert_eq!(confidence(Sender::Client, 5), Some(Confidence::High));
        assert_eq!(confidence(Sender::Page, 5), Some(Confidence::Low));
        assert_eq!(confidence(Sender::Page, 60), Some(Confidence::Low));
        assert_eq!(confidence(Sender::OwnPage, 5), None);
        assert_eq!(confidence(Sender::OwnPage, 20), Some(Confidence::Low));
    }

    #[test]
    fn broken_clients_and_curious_users_are_not() {
        let quiet: [(&str, Script); 18] = [
            ("a broken link of a site with an IPv4 and an IPv6 address, and a few behind them", |play| {
                for _ in 0..100 {
                    (1..=4).for_each(|host| {
                        _ = play.asked_at(1, host, odd("/../style.css", Oddity::Traversal), 400);
                    });
                }
            }),
            ("the client of a proxy with many addresses, who asks for what is not there", |play| {
                for host in 1..=40 {
                    let status = if host % 3 == 0 { 404 } else { 200 };
                    play.asked_at(1, host, odd("/", Oddity::Proxy), status);
                }
            }),
            ("an app that writes whole targets of this very site", |play| {
                play.asked(2, to("shop.example", "/"), 200);
                for _ in 0..10 {
                    play.asked(1, absolute("shop.example", 80, "/gone"), 404);
                }
            }),
            ("a client that writes the address of this host into the target", |play| {
                for _ in 0..10 {
                    play.asked(1, absolute("198.51.100.1", 80, "/gone"), 404);
                }
            }),
            ("a health check without a Host header", |play| {
                for _ in 0..1_000 {
                    play.logged(1, odd("/", Oddity::NoHost), 400);
                }
            }),
            ("the same, and one accident", |play| {
                for _ in 0..1_000 {
                    play.logged(1, odd("/", Oddity::NoHost), 400);
                }
                play.say(1, Said::Junk(Junk::Syntax));
            }),
            ("the client of a proxy on this host, who also asks for what is not there", |play| {
                for step in 0..100 {
                    let status = if step % 3 == 0 { 404 } else { 200 };
                    play.asked(1, odd(&format!("/{step}"), Oddity::Proxy), 200);
                    play.asked(1, odd("/", Oddity::Proxy), status).asked(1, odd("/", Oddity::Method), 200);
                }
            }),
            ("a proxy whose answers are not seen", |play| {
                for step in 0..100 {
                    play.say(1, odd(&format!("/{step}"), Oddity::Proxy));
                }
            }),
            ("a purge of the cache", |play| {
                for _ in 0..1_000 {
                    play.logged(1, odd("/page", Oddity::Method), 200);
                }
            }),
            ("a link that goes too far up", |play| {
                play.logged(1, odd("/../style.css", Oddity::Traversal), 400);
            }),
            ("a developer who searches for SQL", |play| {
                for _ in 0..5 {
                    play.logged(1, odd("/search", Oddity::Injection), 200);
                }
            }),
            ("somebody who searches a site about security for one thing after the other", |play| {
                let searched =
                    [Attack::Script, Attack::Sql, Attack::Traversal, Attack::Jndi, Attack::Command];
                for (search, attack) in searched.into_iter().enumerate() {
                    play.at(20 * search as u64).asked(1, attacking("/search", attack), 200);
                }
            }),
            ("a site's own links to all of them", |play| {
                for attack in [Attack::Script, Attack::Sql, Attack::Traversal] {
                    play.asked(1, sent_by(Sender::OwnPage, attacking("/search", attack)), 200);
                }
            }),
            ("a page with an odd title that asks for news", |play| {
                for second in 0..1_000 {
                    let beat = sent_by(Sender::OwnPage, odd("/heartbeat", Oddity::Injection));
                    play.at(second).logged(1, beat, 200);
                }
            }),
            ("the same without a Referer", |play| {
                for second in 0..1_000 {
                    play.at(second).logged(1, odd("/heartbeat", Oddity::Injection), 200);
                }
            }),
            ("a broken link on many pages", |play| {
                for _ in 0..1_000 {
                    play.logged(1, odd("/../style.css", Oddity::Traversal), 400);
                }
            }),
            ("odd links on a page of this host", |play| {
                for link in 0..8 {
                    let link = odd(&format!("/{link}/../x"), Oddity::Traversal);
                    play.logged(1, sent_by(Sender::OwnPage, link), 404);
                }
            }),
            ("TLS at a port without", |play| {
                for _ in 0..1_000 {
                    play.say(1, Said::Junk(Junk::Syntax)).say(1, Said::Junk(Junk::Cut));
                }
            }),
        ];
        for (name, script) in quiet {
            assert_eq!(found(rule(), script), NOBODY, "{name}");
        }
    }
}
