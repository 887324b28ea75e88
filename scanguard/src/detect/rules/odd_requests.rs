//! Odd requests: requests that no browser writes, and that honest clients rarely write (nikto, wapiti, sqlmap, nuclei).
//!
//! Path traversal, Log4Shell strings and refused targets of other hosts are attempts. Three are enough, since a broken
//! link or a curious user makes one. If the server does serve the target of another host, the source is the client of a
//! proxy, open or not, and that is no attempt. Nor is the target of this very host, under a name under which others are
//! served: some clients write all targets like that. Apparent SQL, script or command injection may be a developer's search:
//! the rule needs ten. A broken client repeats unknown methods, missing Host headers, binary junk and broken syntax,
//! but always in the same way: five of these count, if at least two are not of the most frequent kind.

use super::{
    content_rule::{Common, count},
    entry::Entry,
};
use crate::{
    content::{ContentStats, Oddity},
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
    /// Threshold: requests with traversal, Log4Shell strings or another host's target that was refused.
    attempts: u32,
    /// Threshold: requests with apparent injections.
    injections: u32,
    /// Threshold: requests with any oddities, at least two of them of other kinds than the rest.
    oddities: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { common: Common::new(Severity::Medium), attempts: 3, injections: 10, oddities: 5 }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            attempts: section.number("attempts", default.attempts, 1..=1_000_000),
            injections: section.number("injections", default.injections, 1..=1_000_000),
            oddities: section.number("oddities", default.oddities, 1..=1_000_000),
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
        let of = |oddities: &[Oddity]| oddities.iter().map(|oddity| web.odd(*oddity)).sum::<u64>();
        let attempts = of(&[Oddity::Traversal, Oddity::Jndi]) + web.refused_proxied();
        if attempts >= u64::from(self.0.attempts) || of(&[Oddity::Injection]) >= u64::from(self.0.injections)
        {
            return Some(Confidence::High);
        }
        let kinds = || Oddity::ALL.into_iter().map(|oddity| web.odd(oddity)).chain([stats.broken]);
        let (all, most) = (kinds().sum::<u64>(), kinds().max().unwrap_or_default());
        (all - most >= OF_OTHER_KINDS && all >= u64::from(self.0.oddities)).then_some(Confidence::Medium)
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
        format!("{}, of these {}", count(web.requests + stats.broken, "request"), kinds.join(", "))
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
        content::{Junk, Said},
        detect::rules::content_script::{NOBODY, Script, absolute, found, odd, to},
    };

    fn rule() -> Box<dyn Rule> {
        Box::new(OddRequests(Settings::default()))
    }

    #[test]
    fn attempts_are_found() {
        let scans: [(&str, Script); 8] = [
            ("looking for an open proxy under a name under which nobody else was served", |play| {
                play.asked(1, to("shop.example", "/"), 200);
                for _ in 0..3 {
                    play.asked(1, absolute("shop.example", 80, "/"), 405);
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
                for _ in 0..3 {
                    play.asked(1, absolute("other.example", 80, "/"), 405);
                }
            }),
            ("ways out of the directory", |play| {
                for path in ["/../../etc/passwd", "/..%2f..%2fetc/passwd", "/static/../../x"] {
                    play.logged(1, odd(path, Oddity::Traversal), 400);
                }
            }),
            ("Log4Shell in several headers", |play| {
                for _ in 0..3 {
                    play.logged(1, odd("/", Oddity::Jndi), 200);
                }
            }),
            ("sqlmap with a browser's agent", |play| {
                for _ in 0..30 {
                    play.logged(1, odd("/item", Oddity::Injection), 200);
                }
            }),
            ("looking for an open proxy", |play| {
                for _ in 0..3 {
                    play.asked(1, odd("/", Oddity::Proxy), 405);
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
    fn broken_clients_and_curious_users_are_not() {
        let quiet: [(&str, Script); 10] = [
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
