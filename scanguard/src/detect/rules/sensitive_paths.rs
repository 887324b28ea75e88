//! Sensitive paths: a source requests paths that give ways in (/.env, /.git/HEAD, /wp-login.php, ...).
//!
//! The users of some sites request some of these paths and get them, such as /wp-login.php on a WordPress site. So a
//! path counts only if it did not exist. No honest client requests certain other paths: one of them is enough, whatever
//! the answer was. Below another path, where a code forge may show such a file, it counts only if it did not exist. A
//! request with a Referer was caused by a page, so it does not count by itself: otherwise a page with
//! `<img src=http://host/.env>` would get its visitors banned. If no answers are visible, the rule needs twice as many
//! different paths, and the finding is not sure.

use super::{
    content_rule::{Common, estimate, failed},
    entry::Entry,
};
use crate::{
    content::ContentStats,
    detect::{Confidence, Rule, Severity, Technique},
    settings::Section,
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "sensitive_paths",
    bans: true,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(SensitivePaths(settings)),
};

/// `[rules.sensitive_paths]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every content rule has.
    common: Common,
    /// Threshold: distinct paths that did not exist.
    paths: u32,
    /// Threshold: distinct paths that no honest client requests.
    certain_paths: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { common: Common::new(Severity::Medium), paths: 3, certain_paths: 1 }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            // Above 200 the bitmap of 128 bits is not precise enough.
            paths: section.number("paths", default.paths, 1..=200),
            certain_paths: section.number("certain_paths", default.certain_paths, 1..=200),
        };
        section.finish();
        settings
    }
}

/// The rule.
struct SensitivePaths(Settings);

impl Rule for SensitivePaths {
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
        let web = &stats.web;
        let (paths, certain) = (u64::from(self.0.paths), u64::from(self.0.certain_paths));
        if web.certain_sensitive().value >= certain || web.missed_sensitive().value >= paths {
            return Some(Confidence::High);
        }
        let is_unanswered = web.met + web.missed + web.moot == 0;
        (is_unanswered && web.sensitive().value >= 2 * paths).then_some(Confidence::Low)
    }

    fn words(&self, stats: &ContentStats) -> String {
        let web = &stats.web;
        let mut words = format!(
            "{} that lead to secrets or ways in, among {} requested{}",
            estimate(web.sensitive(), "path"),
            web.paths(),
            failed(web)
        );
        if let Some(example) = stats.examples.first() {
            words.push_str(&format!(", such as {example}"));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Oddity;
    use crate::detect::rules::content_script::{NOBODY, Script, found, from_link, get, odd};

    /// More than the threshold, since two distinct paths may set the same bit.
    const PATHS: [&str; 10] = [
        "/wp-login.php",
        "/xmlrpc.php",
        "/phpmyadmin/",
        "/pma/",
        "/server-status",
        "/actuator/env",
        "/solr/admin/cores",
        "/manager/html",
        "/phpinfo.php",
        "/jmx-console/",
    ];

    fn rule() -> Box<dyn Rule> {
        Box::new(SensitivePaths(Settings::default()))
    }

    #[test]
    fn looking_for_ways_in_is_found() {
        let scans: [(&str, Script); 8] = [
            ("one that nobody asks for", |play| {
                play.logged(1, get("/.env"), 404);
            }),
            ("the same on a site that answers 200 to all", |play| {
                play.logged(1, get("/.git/HEAD"), 200);
            }),
            ("the same below another path, where it is not", |play| {
                play.asked(1, get("/app/.env"), 404);
            }),
            ("the same by a way out of the directory, whatever is answered", |play| {
                play.asked(1, odd("/static/../../etc/passwd", Oddity::Traversal), 200);
            }),
            ("several, sent there", |play| {
                for path in ["/.env", "/.git/HEAD", "/.aws/credentials", "/wp-config.php.bak", "/id_rsa"] {
                    play.asked(1, from_link(path), 404);
                }
            }),
            ("several that are not there", |play| {
                for path in PATHS {
                    play.logged(1, get(path), 404);
                }
            }),
            ("the same as the wire shows it", |play| {
                for path in PATHS {
                    play.asked(1, get(path), 403);
                }
            }),
            ("without answers", |play| {
                for path in PATHS {
                    play.say(1, get(path));
                }
            }),
        ];
        for (name, script) in scans {
            assert_eq!(found(rule(), script), [1], "{name}");
        }
    }

    #[test]
    fn the_users_of_sites_that_have_them_are_not() {
        let quiet: [(&str, Script); 8] = [
            ("an author of a WordPress site", |play| {
                for path in ["/wp-login.php", "/wp-admin/", "/wp-admin/post.php", "/xmlrpc.php"] {
                    play.logged(1, get(path), 200).logged(1, get(path), 302);
                }
            }),
            ("somebody who forgot that it is no WordPress site", |play| {
                for _ in 0..20 {
                    play.logged(1, get("/wp-login.php"), 404).logged(1, get("/wp-admin/"), 404);
                }
            }),
            ("a reader of a code forge", |play| {
                for path in
                    ["Dockerfile", "package.json", "composer.lock", ".env.example", "docker-compose.yml"]
                {
                    play.logged(1, get(&format!("/user/project/src/branch/main/{path}")), 200);
                }
            }),
            ("a reader of the sources that a code forge shows", |play| {
                for path in ["/.env", "/.git/config", "/.env.local", "/web.config.bak"] {
                    play.asked(1, get(&format!("/user/project/src/branch/main{path}")), 200);
                }
            }),
            ("the visitor of a page that has it for a picture", |play| {
                for _ in 0..20 {
                    play.asked(1, from_link("/.env"), 404);
                }
            }),
            ("somebody who downloads a backup", |play| {
                for path in ["/files/backup.zip", "/backup.tar.gz", "/app/credentials.json"] {
                    play.asked(1, get(path), 200);
                }
            }),
            ("a monitor", |play| {
                for _ in 0..100 {
                    play.logged(1, get("/actuator/health"), 200).logged(1, get("/server-status"), 403);
                }
            }),
            ("a browser", |play| play.browse(1, 100)),
        ];
        for (name, script) in quiet {
            assert_eq!(found(rule(), script), NOBODY, "{name}");
        }
    }
}
