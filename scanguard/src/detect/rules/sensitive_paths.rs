//! Sensitive paths: a source requests paths that give ways in (/.env, /.git/HEAD, /wp-login.php, ...).
//!
//! The users of some sites request some of these paths and get them, such as /wp-login.php on a WordPress site. So a
//! path counts only if it did not exist, and nothing else of its application exists for this source. Each entry of the
//! list counts once, whatever stands before it. Missing paths of three applications are certain evidence. Three of one
//! application may be a monitor's that asks by name for what should be here: the finding is told, and bans nobody.
//!
//! One missing path at each of many addresses is a sweep for one weakness. Such a finding bans nobody: an administrator of
//! many hosts may ask each for the same page.
//!
//! No honest client requests certain other paths: one of them is told, whatever the answer was. Below another path,
//! where a code forge may show such a file, it counts only if it did not exist. It bans nobody by itself, because any
//! page may have `http://host/.env` as a picture. Three of them are certain evidence.
//!
//! A request that a page sent the client to is never certain evidence. If no answers are visible, the rule needs twice
//! as many different entries, and the finding is not sure.

use super::{
    content_rule::{Common, count, estimate, failed, graded},
    entry::Entry,
};
use crate::{
    content::{By, ContentStats, Kind},
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
    /// Threshold: distinct addresses at which such a path did not exist, be it the same.
    hosts: u32,
    /// Threshold: distinct paths that no honest client requests.
    certain_paths: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { common: Common::new(Severity::Medium), paths: 3, hosts: 8, certain_paths: 1 }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            // Above 200 the bitmap of 128 bits is not precise enough.
            paths: section.number("paths", default.paths, 1..=200),
            hosts: section.number("hosts", default.hosts, 2..=200),
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
        let (web, sensitive) = (&stats.web, &stats.web.sensitive);
        let (paths, certain) = (u64::from(self.0.paths), u64::from(self.0.certain_paths));
        let own = |times: u64| {
            sensitive.families(Kind::Missing, By::Client) >= paths * times
                || sensitive.entries(Kind::Certain, By::Client) >= paths.max(certain) * times
        };
        let told = |times: u64| {
            sensitive.entries(Kind::Certain, By::Client) >= certain * times
                || sensitive.entries(Kind::Missing, By::Anybody) >= paths * times
                || sensitive.families(Kind::Sought, By::Anybody) >= paths * times
                || web.missing_hosts() >= u64::from(self.0.hosts) * times
        };
        graded(stats, own, told).or_else(|| {
            let is_unanswered = web.met + web.missed + web.moot == 0;
            let asked = sensitive.entries(Kind::Asked, By::Anybody);
            (is_unanswered && asked >= 2 * paths).then_some(Confidence::Low)
        })
    }

    fn words(&self, stats: &ContentStats) -> String {
        let web = &stats.web;
        let mut words = format!(
            "{} that lead to secrets or ways in, among {} requested{}",
            count(web.sensitive.entries(Kind::Asked, By::Anybody), "kind of path"),
            estimate(web.paths(), "path"),
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
    use crate::{
        content::{Oddity, Sender},
        detect::rules::content_script::{NOBODY, Play, Script, by_method, found, get, odd, sent_by},
    };

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
        let scans: [(&str, Script); 9] = [
            ("one missing page at each of twelve addresses", |play| {
                (1..=12).for_each(|host| _ = play.asked_at(1, host, get("/manager/html"), 404));
            }),
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
                    play.asked(1, sent_by(Sender::Page, get(path)), 404);
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

    /// The last confidence that a script leads to.
    fn confidence(script: impl FnOnce(&mut Play)) -> Option<Confidence> {
        let mut play = Play::new(rule());
        script(&mut play);
        play.events().last().map(|event| event.finding.confidence)
    }

    #[test]
    fn one_path_is_told_and_three_are_certain() {
        let ask = |paths: &[&str], sender: Sender| {
            confidence(|play| {
                for path in paths {
                    play.asked(1, sent_by(sender, get(path)), 404);
                }
            })
        };
        let certain = ["/.env", "/.git/HEAD", "/.aws/credentials"];
        assert_eq!(ask(&certain[..1], Sender::Client), Some(Confidence::Low));
        assert_eq!(ask(&[certain[0]; 10], Sender::Client), Some(Confidence::Low), "one, again and again");
        assert_eq!(ask(&certain, Sender::Client), Some(Confidence::High));
        assert_eq!(ask(&certain[..1], Sender::Page), None, "a picture");
        assert_eq!(ask(&certain, Sender::Page), Some(Confidence::Low));
        assert_eq!(ask(&PATHS, Sender::Page), Some(Confidence::Low));
        assert_eq!(ask(&certain, Sender::OwnPage), None);
        assert_eq!(ask(&PATHS[..3], Sender::Client), Some(Confidence::Low), "of two applications");
        assert_eq!(ask(&PATHS, Sender::Client), Some(Confidence::High));
    }

    #[test]
    fn several_paths_of_one_application_are_told_to_a_stranger() {
        let paths = ["/actuator/env", "/actuator/health", "/actuator/mappings", "/actuator/heapdump"];
        let asked = |status: u16| {
            confidence(move |play| {
                play.asked(1, get("/actuator"), status);
                for path in paths {
                    play.asked(1, get(path), 404);
                }
            })
        };
        assert_eq!(asked(404), Some(Confidence::Low));
        assert_eq!((asked(200), asked(401)), (None, None), "it is here");
        assert_eq!(asked(301), Some(Confidence::Low), "everything may be redirected");
    }

    #[test]
    fn refused_paths_are_told() {
        let refused = |paths: &[&str]| {
            confidence(|play| paths.iter().for_each(|path| _ = play.asked(1, get(path), 403)))
        };
        assert_eq!(refused(&["/server-status"]), None);
        let one_application = ["/xmlrpc.php", "/wp-login.php", "/wp-json/wp/v2/users", "/wp-admin/x"];
        assert_eq!(refused(&one_application), None, "of one application");
        assert_eq!(refused(&PATHS), Some(Confidence::Low));
    }

    #[test]
    fn a_regular_is_given_more_room() {
        let after = |regular: bool, paths: &[&str]| {
            confidence(|play| {
                for day in 0..if regular { 4 } else { 0 } {
                    play.at(day * 24 * 3600).asked(1, get("/feed"), 200);
                }
                play.at(5 * 24 * 3600);
                paths.iter().for_each(|path| _ = play.asked(1, get(path), 404));
            })
        };
        assert_eq!(after(false, &["/.env"]), Some(Confidence::Low));
        assert_eq!(after(true, &["/.env"]), None);
        assert_eq!(after(false, &PATHS), Some(Confidence::High));
        assert_eq!(after(true, &PATHS[..8]), None);
        let many: Vec<_> =
            PATHS.iter().chain(&["/.env", "/.git/HEAD", "/id_rsa", "/.netrc"]).copied().collect();
        assert_eq!(after(true, &many), Some(Confidence::Low));
    }

    #[test]
    fn the_users_of_sites_that_have_them_are_not() {
        let quiet: [(&str, Script); 13] = [
            ("an author of twelve WordPress sites, of which three have moved", |play| {
                for host in 1..=12 {
                    let status = if host % 4 == 0 { 404 } else { 200 };
                    play.asked_at(1, host, get("/wp-login.php"), status);
                }
            }),
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
                    play.asked(1, sent_by(Sender::Page, get("/.env")), 404);
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
            ("a desktop that looks into the folders of a volume", |play| {
                for folder in ["", "/Documents", "/Music", "/Photos", "/Photos/2024"] {
                    play.logged(1, by_method("PROPFIND", &format!("/dav/anna{folder}/.DS_Store")), 404);
                }
            }),
            ("a client of three indices of one search engine", |play| {
                for index in ["logs", "metrics", "traces", "users"] {
                    play.asked(1, get(&format!("/{index}/_search")), 404);
                }
            }),
            ("one file name in many projects of a code forge", |play| {
                for project in 0..50 {
                    play.asked(1, get(&format!("/group/project{project}/raw/main/Dockerfile")), 404);
                }
            }),
            ("a monitor that asks an application by name, of which some is not there", |play| {
                for _ in 0..100 {
                    play.asked(1, get("/actuator/health"), 200);
                    for path in ["/actuator/env", "/actuator/mappings", "/actuator/heapdump", "/jolokia/list"]
                    {
                        play.asked(1, get(path), 404);
                    }
                }
            }),
            ("a browser", |play| play.browse(1, 100)),
        ];
        for (name, script) in quiet {
            assert_eq!(found(rule(), script), NOBODY, "{name}");
        }
    }
}
