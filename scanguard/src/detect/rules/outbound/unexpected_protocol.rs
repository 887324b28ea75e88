//! A program connects that has no business to: a tool for logins, one of the coreutils, or a shell in the unit of a web or
//! database server (`bash -c 'echo > /dev/tcp/...'`). Only connections of TCP count, since names of users and hosts are
//! looked up by datagrams. Whoever did so while it was learned who uses the network is left out.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass;

use super::{
    super::{Common, entry::Entry},
    tried::proof,
};
use crate::{
    detect::{Evidence, Rule, Severity, Source, Technique, missed::ATTEMPTS},
    outbound::identity::Running,
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Common> = Entry {
    name: "unexpected_protocol",
    bans: false,
    default: || DEFAULT,
    read: |section| Common::alone(section, DEFAULT),
    basics: |settings| (*settings).into(),
    build: |settings| Box::new(UnexpectedProtocol(settings)),
};

/// `[rules.unexpected_protocol]`.
const DEFAULT: Common = Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Medium };

/// Tools for logins and accounts, coreutils, and others that only read and write files.
const LOCAL: [&str; 58] = [
    "login",
    "su",
    "passwd",
    "chsh",
    "chfn",
    "newgrp",
    "agetty",
    "getty",
    "useradd",
    "usermod",
    "groupadd",
    "chage",
    "visudo",
    "ls",
    "cat",
    "cp",
    "mv",
    "rm",
    "mkdir",
    "touch",
    "chmod",
    "chown",
    "ln",
    "dd",
    "df",
    "du",
    "head",
    "tail",
    "cut",
    "sort",
    "uniq",
    "tr",
    "wc",
    "tee",
    "sleep",
    "timeout",
    "env",
    "echo",
    "printf",
    "base64",
    "md5sum",
    "sha256sum",
    "split",
    "seq",
    "stat",
    "date",
    "sync",
    "grep",
    "sed",
    "gzip",
    "gunzip",
    "xz",
    "bzip2",
    "find",
    "xargs",
    "ps",
    "kill",
    "true",
];
const SHELLS: [&str; 8] = ["sh", "bash", "dash", "zsh", "ksh", "mksh", "fish", "ash"];
/// In the names of units of web and database servers.
const SERVERS: [&str; 24] = [
    "nginx",
    "apache",
    "httpd",
    "caddy",
    "lighttpd",
    "traefik",
    "haproxy",
    "php",
    "fpm",
    "tomcat",
    "gunicorn",
    "uwsgi",
    "unicorn",
    "puma",
    "mysql",
    "mariadb",
    "postgres",
    "mongo",
    "redis",
    "valkey",
    "memcached",
    "elasticsearch",
    "couchdb",
    "web",
];

/// What is unexpected about a process that connects.
fn why(process: &Running) -> Option<String> {
    let program = process.program();
    if LOCAL.contains(&program) {
        return Some(format!("{program} connects, which has no business on the network"));
    }
    let unit = process.unit.as_ref().filter(|_| SHELLS.contains(&program))?;
    let is_server = !process.is_of_login() && SERVERS.iter().any(|server| unit.contains(server));
    is_server.then(|| format!("a shell in {unit} connects"))
}

/// The rule.
struct UnexpectedProtocol(Common);

impl Rule for UnexpectedProtocol {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::ActiveScanning]
    }

    fn severity(&self) -> Severity {
        self.0.severity
    }

    fn classes(&self) -> &'static [ProbeClass] {
        ATTEMPTS
    }

    fn concerns(&self, new: &crate::observe::activity::Activity) -> bool {
        new.counts.of_any(ATTEMPTS) > 0
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let known = source.known.filter(|known| known.news.learned && !known.news.usual)?;
        let is_program = known.actor.key.kind == scanguard_common::actor::Kind::Program;
        let reason = why(known.actor.process.as_ref().filter(|_| is_program)?)?;
        let window = source.window(self.0.window);
        (window.activity.counts.of_any(ATTEMPTS) > 0).then(|| Evidence {
            window,
            reason,
            certain: false,
            proof: proof(source),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};
    use crate::outbound::{baseline::News, identity::testing::Draft};

    #[test]
    fn tools_without_business_on_the_network_and_shells_of_servers_are_told() {
        let new = News { learned: true, ..News::default() };
        for (path, group, news, told) in [
            ("/usr/bin/cat", "/system.slice/x.service", new, true),
            ("/usr/bin/passwd", "/user.slice/user-1000.slice/session-1.scope", new, true),
            ("/usr/bin/bash", "/system.slice/nginx.service", new, true),
            ("/usr/bin/dash", "/system.slice/php8.2-fpm.service", new, true),
            ("/usr/bin/bash", "/system.slice/backup.service", new, false),
            ("/usr/bin/bash", "/user.slice/user-1000.slice/user@1000.service/web.service", new, false),
            ("/usr/bin/curl", "/system.slice/nginx.service", new, false),
            ("/usr/bin/cat", "/system.slice/x.service", News { usual: true, ..new }, false),
            ("/usr/bin/cat", "/system.slice/x.service", News::default(), false),
        ] {
            let found = found(Box::new(UnexpectedProtocol(DEFAULT)), |script| {
                script.is(PROGRAM, &Draft::new(path, group), news);
                script.ask(PROGRAM, 1, 443).answered();
            });
            assert_eq!(found == [PROGRAM], told, "{path} in {group}");
        }
    }

    #[test]
    fn datagrams_are_not() {
        let found = found(Box::new(UnexpectedProtocol(DEFAULT)), |script| {
            let news = News { learned: true, ..News::default() };
            script.is(PROGRAM, &Draft::new("/usr/bin/su", "/x.service"), news);
            script.send(PROGRAM, 1, 53);
        });
        assert_eq!(found, NOBODY);
    }
}
