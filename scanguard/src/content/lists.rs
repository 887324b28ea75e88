//! `[content.lists]`: user agents of scanners, paths that no honest client requests, TLS fingerprints of scanners, and
//! their names in other protocols.
//! They are plain files with one entry on a line. They are read with the configuration, and an error in them is an
//! error of the configuration. Those in `deploy/lists` are built in.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use aho_corasick::{AhoCorasick, BuildError};

pub use crate::text_list::ListError;
use crate::{
    observe::tools,
    settings::Section,
    text_list::{MIN_LENGTH, entries, read_one},
};

const AGENTS: &str = include_str!("../../../deploy/lists/scanner-agents.txt");
const PATHS: &str = include_str!("../../../deploy/lists/sensitive-paths.txt");
const JA4: &str = include_str!("../../../deploy/lists/scanner-ja4.txt");
const CLIENTS: &str = include_str!("../../../deploy/lists/scanner-clients.txt");

/// A built-in list, to copy and change.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum BuiltIn {
    /// User agents of scanners.
    Agents,
    /// Paths that no honest client requests.
    Paths,
    /// TLS fingerprints of scanners.
    Ja4,
    /// Fingerprints of scanners' SYNs; `[fingerprints] syn` names another list.
    Syn,
    /// Names of scanners in SSH, SIP and other protocols.
    Clients,
}

impl BuiltIn {
    /// The file as it is in `deploy/lists`.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Agents => AGENTS,
            Self::Paths => PATHS,
            Self::Ja4 => JA4,
            Self::Syn => tools::BUILT_IN,
            Self::Clients => CLIENTS,
        }
    }
}

/// The lists in use.
#[derive(Clone, Debug, PartialEq)]
pub struct Lists {
    /// User agents of scanners.
    pub agents: Arc<Agents>,
    /// Paths that no honest client requests.
    pub paths: Arc<Paths>,
    /// TLS fingerprints of scanners.
    pub ja4: Arc<Fingerprints>,
    /// What scanners call themselves in other protocols. The form of the list is that of `agents`.
    pub clients: Arc<Agents>,
}

/// The built-in lists. A test checks that they have no errors.
static BUILT_IN: LazyLock<Lists> = LazyLock::new(|| Lists {
    agents: Arc::new(Agents::parse(AGENTS).unwrap_or_default()),
    paths: Arc::new(Paths::parse(PATHS).unwrap_or_default()),
    ja4: Arc::new(Fingerprints::parse(JA4).unwrap_or_default()),
    clients: Arc::new(Agents::parse(CLIENTS).unwrap_or_default()),
});

impl Default for Lists {
    fn default() -> Self {
        BUILT_IN.clone()
    }
}

impl Lists {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let mut lists = Self::default();
        read_one(&mut section, "agents", &mut lists.agents, Agents::parse);
        read_one(&mut section, "paths", &mut lists.paths, Paths::parse);
        read_one(&mut section, "ja4", &mut lists.ja4, Fingerprints::parse);
        read_one(&mut section, "clients", &mut lists.clients, Agents::parse);
        section.finish();
        lists
    }
}

/// Searches for many texts at once, whatever the case of their letters.
fn searcher(texts: &[&str]) -> Result<AhoCorasick, BuildError> {
    AhoCorasick::builder().ascii_case_insensitive(true).build(texts)
}

/// Names of scanners in the User-Agent header.
#[derive(Clone, Debug, Default)]
pub struct Agents {
    tools: Vec<Arc<str>>,
    /// For each entry: whether it must be at the beginning.
    at_start: Vec<bool>,
    search: Option<AhoCorasick>,
}

impl PartialEq for Agents {
    fn eq(&self, other: &Self) -> bool {
        (&self.tools, &self.at_start) == (&other.tools, &other.at_start)
    }
}

impl Agents {
    /// Reads a list: each line is a name in the header, in any case. `^` before it: the header begins with it.
    ///
    /// # Errors
    /// All wrong lines.
    pub fn parse(text: &str) -> Result<Self, ListError> {
        let entries = entries(text, |line| {
            let (tool, at_start) = line.strip_prefix('^').map_or((line, false), |rest| (rest.trim(), true));
            if tool.len() < MIN_LENGTH {
                return Err(format!("{line:?} is part of too many agents"));
            }
            Ok((Arc::<str>::from(tool), at_start))
        })?;
        let (tools, at_start): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let search = Some(searcher(&tools.iter().map(|tool| &**tool).collect::<Vec<_>>())?);
        Ok(Self { tools, at_start, search })
    }

    /// The entry that matches a user agent. An entry is a whole name, and no part of a longer word. A host or URL is
    /// where the client comes from, whatever it is called; only an entry that is one itself matches in it.
    pub fn tool(&self, agent: &str) -> Option<&Arc<str>> {
        let mut found = self.search.as_ref()?.find_overlapping_iter(agent);
        found.find_map(|found| {
            let place = found.pattern().as_usize();
            let tool = self.tools.get(place)?;
            let is_name = (found.start() == 0 || !self.at_start[place])
                && is_whole(agent, found.start(), found.end())
                && (is_address(tool) || !is_address(word_at(agent, found.start())));
            is_name.then_some(tool)
        })
    }
}

/// Whether letters and digits end where this part of a text begins, and where it ends.
fn is_whole(text: &str, start: usize, end: usize) -> bool {
    let (before, part, after) = (&text[..start], &text[start..end], &text[end..]);
    let runs_on = |left: Option<char>, right: Option<char>| {
        left.is_some_and(char::is_alphanumeric) && right.is_some_and(char::is_alphanumeric)
    };
    !runs_on(before.chars().next_back(), part.chars().next())
        && !runs_on(part.chars().next_back(), after.chars().next())
}

/// The word at this place of a user agent: words end at blanks and at the marks around comments and their parts.
fn word_at(agent: &str, at: usize) -> &str {
    let is_end = |char: char| char.is_whitespace() || "()[]{}<>;,\"'".contains(char);
    let start = agent[..at].rfind(is_end).map_or(0, |end| end + 1);
    let length = agent[start..].find(is_end).unwrap_or(agent.len() - start);
    &agent[start..start + length]
}

/// Whether a word is a URL, a host or a mail address rather than a product: `+https://a.example/`, `a.example/b`.
fn is_address(word: &str) -> bool {
    let host = word.split(['/', ':']).next().unwrap_or_default();
    let last = host.rsplit_once('.').map(|(_, last)| last);
    word.contains("://")
        || last.is_some_and(|last| last.len() > 1 && last.bytes().all(|byte| byte.is_ascii_alphabetic()))
}

/// How certain it is that only clients that search for ways in request a path.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Sensitivity {
    /// Users of some sites request it, too; of others nobody does.
    Somewhere,
    /// No honest client requests it, unless it lies deeper in the site, as in the sources that a code forge shows.
    Deeper,
    /// No honest client requests it.
    Nowhere,
}

/// An entry of the list of paths that matches a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Its place in the list.
    pub number: u16,
    /// The application that it belongs to.
    pub family: u16,
    /// How sensitive the path is.
    pub sensitivity: Sensitivity,
}

/// Paths that clients request to search for ways in.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    entries: Vec<PathEntry>,
    search: Option<AhoCorasick>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct PathEntry {
    text: Box<str>,
    /// Anything may follow it.
    is_prefix: bool,
    sensitivity: Sensitivity,
    /// Number of the application.
    family: u16,
}

impl PartialEq for Paths {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

/// A line of the list of paths.
enum PathLine<'l> {
    /// The entries that follow belong to this application.
    Application(&'l str),
    Path(PathEntry),
}

impl<'l> PathLine<'l> {
    fn read(line: &'l str) -> Result<Self, String> {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return Ok(Self::Application(name.trim()));
        }
        let (rest, sensitivity) = match line.strip_prefix('!') {
            Some(rest) => (rest.trim(), Sensitivity::Nowhere),
            None => (line, Sensitivity::Somewhere),
        };
        let (text, is_prefix) = rest.strip_suffix('*').map_or((rest, false), |text| (text, true));
        if !text.starts_with('/') || text.contains(['*', '?', '#', ' ']) {
            return Err(format!("{line:?} is no path such as /.env, /.git/* or !/etc/passwd"));
        }
        if text.len() < MIN_LENGTH {
            return Err(format!("{line:?} is part of too many paths"));
        }
        Ok(Self::Path(PathEntry { text: text.into(), is_prefix, sensitivity, family: 0 }))
    }
}

impl Paths {
    /// Reads a list: each line is the end of a path, from a slash on, in any case. So `/.env` also matches
    /// `/app/.env`. With `*` at its end, anything may follow. `!` before it: no honest client requests it. Entries behind
    /// a line such as `[wordpress]` belong to one application. An entry before the first such line is an application of
    /// its own.
    ///
    /// # Errors
    /// All wrong lines.
    pub fn parse(text: &str) -> Result<Self, ListError> {
        let mut names: Vec<&str> = Vec::new();
        let mut family = None;
        let (mut list, mut alone) = (Vec::new(), 0);
        let lines = entries(text, PathLine::read)?;
        let applications = lines.iter().filter(|line| matches!(line, PathLine::Application(_))).count();
        for line in lines {
            match line {
                PathLine::Application(name) => {
                    let place = names.iter().position(|one| one.eq_ignore_ascii_case(name));
                    family = Some(place.unwrap_or(names.len()));
                    if place.is_none() {
                        names.push(name);
                    }
                }
                PathLine::Path(entry) => {
                    alone += usize::from(family.is_none());
                    // No list has more than `MAX_ENTRIES` lines.
                    let number = family.unwrap_or(applications + alone);
                    list.push(PathEntry { family: u16::try_from(number).unwrap_or(u16::MAX), ..entry });
                }
            }
        }
        if list.is_empty() {
            return Err(ListError::Empty);
        }
        let search = Some(searcher(&list.iter().map(|entry| &*entry.text).collect::<Vec<_>>())?);
        Ok(Self { entries: list, search })
    }

    /// The entry that matches a path; of several, the first of the most sensitive ones.
    pub fn entry(&self, path: &str) -> Option<Entry> {
        let found = self.search.as_ref()?.find_overlapping_iter(path);
        let matching = found.filter_map(|found| {
            let number = found.pattern().as_usize();
            let entry = &self.entries[number];
            let sensitivity = match entry.sensitivity {
                Sensitivity::Nowhere if found.start() > 0 => Sensitivity::Deeper,
                other => other,
            };
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            (entry.is_prefix || found.end() == path.len()).then_some(Entry {
                number,
                family: entry.family,
                sensitivity,
            })
        });
        matching.max_by_key(|entry| (entry.sensitivity, std::cmp::Reverse(entry.number)))
    }
}

/// JA4 fingerprints, and the names of their programs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fingerprints(HashMap<Box<str>, Arc<str>>);

impl Fingerprints {
    /// Reads a list: each line is a fingerprint and the name of its program.
    ///
    /// # Errors
    /// All wrong lines.
    pub fn parse(text: &str) -> Result<Self, ListError> {
        let entries = entries(text, |line| {
            let (fingerprint, tool) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            if !is_ja4(fingerprint) {
                return Err(format!(
                    "{fingerprint:?} is no JA4 fingerprint such as t13d1516h2_8daaf6152771_b186095e22b6"
                ));
            }
            if tool.trim().is_empty() {
                return Err(format!("{fingerprint}: the name of its client has to follow it"));
            }
            Ok((fingerprint.into(), tool.trim().into()))
        })?;
        Ok(Self(entries.into_iter().collect()))
    }

    /// One of the built-in fingerprints.
    #[cfg(test)]
    pub(crate) fn any() -> String {
        let built_in = Lists::default();
        built_in.ja4.0.keys().next().expect("there are some").to_string()
    }

    /// The program with this fingerprint.
    pub fn tool(&self, ja4: &str) -> Option<&Arc<str>> {
        self.0.get(ja4)
    }
}

/// Ten characters, twelve hexadecimal digits, and again twelve.
fn is_ja4(text: &str) -> bool {
    let parts: Vec<_> = text.split('_').collect();
    let hex = |part: &str| part.len() == 12 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    matches!(parts.as_slice(), [shape, ciphers, extensions]
        if shape.len() == 10 && shape.is_ascii() && hex(ciphers) && hex(extensions))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong_lines(error: ListError) -> Vec<usize> {
        match error {
            ListError::Lines(lines) => lines.into_iter().map(|(line, _)| line).collect(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn nothing_is_wrong_with_the_lists_that_are_built_in() {
        assert!(Agents::parse(AGENTS).expect("agents").tools.len() > 50);
        assert!(Paths::parse(PATHS).expect("paths").entries.len() > 50);
        assert!(!Fingerprints::parse(JA4).expect("fingerprints").0.is_empty());
        assert!(Agents::parse(CLIENTS).expect("clients").tools.len() > 10);
    }

    #[test]
    fn scanners_are_known_by_what_they_call_themselves_and_libraries_are_not() {
        let clients = Lists::default().clients;
        for name in [
            "friendly-scanner",
            "sipvicious",
            "Nmap-SSH2-Hostkey",
            "Nmap-SSH1-Hostkey",
            "ZGrab ZGrab SSH Survey",
            "<sip:nm@nm>;tag=root",
            "mstshash=nmap",
        ] {
            assert!(clients.tool(name).is_some(), "{name}");
        }
        for name in [
            "OpenSSH_9.2p1 Debian-2+deb12u3",
            "OpenSSH-keyscan",
            "sipsak 0.9.8.1",
            "paramiko_2.12.0",
            "Go",
            "libssh_0.10.6",
            "libssh2_1.11.0",
            "check_ssh_2.3",
            "PuTTY_Release_0.80",
            "JSCH-0.1.54",
            "Renci.SshNet.SshClient.0.0.1",
            "AsyncSSH_2.14.2",
            "russh_0.40.2",
            "Grandstream GXP2170 1.0.11.48",
            "Linphone/5.2.3 (LinphoneCore/5.3.0)",
            "Asterisk PBX 20.5.2",
            "Yealink SIP-T46S 66.85.0.5",
            "mstshash=administrator",
            "mstshash=nmapper",
        ] {
            assert_eq!(clients.tool(name), None, "{name}");
        }
    }

    #[test]
    fn tools_are_known_by_their_agents_and_browsers_bots_and_libraries_are_not() {
        let lists = Lists::default();
        for agent in [
            "sqlmap/1.8.11#stable (https://sqlmap.org)",
            "Mozilla/5.00 (Nikto/2.5.0) (Evasions:None) (Test:Port Check)",
            "Mozilla/5.0 (compatible; Nmap Scripting Engine; https://nmap.org/book/nse.html)",
            "Nuclei - Open-source project (github.com/projectdiscovery/nuclei)",
            "gobuster/3.6",
            "Fuzz Faster U Fool v2.1.0-dev",
            "Wfuzz/3.1.0",
            "WhatWeb/0.5.5",
            "Mozilla/5.0 zgrab/0.x",
            "masscan/1.3 (https://github.com/robertdavidgraham/masscan)",
            "Mozilla/5.0 (l9scan/2.0.130313; +https://leakix.net)",
            "feroxbuster/2.10.4",
            "Mozilla/5.0 (compatible; DirBuster-1.0-RC1 (http://www.owasp.org/index.php/Category:OWASP_DirBuster_Project))",
            "httpx - Open-source project (github.com/projectdiscovery/httpx)",
            "interactsh (https://github.com/projectdiscovery/interactsh)",
            "Mozilla/5.0 [en] (X11, U; OpenVAS-VT 22.4.1)",
            "Mozilla/5.0 (compatible; CensysInspect/1.1; +https://about.censys.io/)",
            "Mozilla/5.0 (compatible; InternetMeasurement/1.0; +https://internet-measurement.com/)",
            "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 5.1; Trident/4.0; w3af.org)",
            "Mozilla/5.0 (compatible; Keydrop.io/1.0; +https://keydrop.io)",
            "TLS tester from https://testssl.sh/",
            "visionheight.com/scan Mozilla/5.0",
            "Wapiti/3.1.8 (https://wapiti-scanner.github.io/)",
            "Nessus SOAP v0.0.1 (Nessus.org)",
            "Mozilla/5.0 Jorgee",
            "Hello, World, from Mozi.7",
            "Mozilla/4.0 (Hydra)",
            "Ncrack (https://nmap.org/ncrack)",
            "I'm not Mozilla, I'm Ming Mong",
            "Linux Gnu (cow)",
            "Mozilla/5.0 (compatible; RepoLookoutBot/1.0.0; abuse reports to abuse@repo-lookout.org)",
        ] {
            assert!(lists.agents.tool(agent).is_some(), "{agent}");
        }
        for agent in [
            "",
            "curl/8.5.0",
            "Wget/1.21.4",
            "python-requests/2.31.0",
            "Go-http-client/1.1",
            "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
            "Mozilla/5.0 (compatible; LinkChecker/10.2; +https://linkchecker.github.io/linkchecker/)",
            "Blackbox Exporter/0.25.0",
            "Prometheus/2.53.0",
            // Names of scanners in longer words, and in the names of the hosts that clients come from.
            "Mastodon/4.5.11 (http.rb/5.3.1; +https://damassine.social/)",
            "Pleroma 2.7; https://wildernessus.example <admin@jazzmap.example>",
            "Friendica 'A site' 2024.12-1571; https://nikto.example",
            "Misskey/2025.1.0 (https://zmap.social/users/nikto)",
            "http.rb/5.1.1 (Mastodon/4.2.1; +https://amass.example:8443/)",
            "Lemmy/0.19.3; +https://shodan.example",
            "GoToSocial/0.17 (+qualys.example)",
            "MyClient/2.0 (postmaster@nessus.example)",
            "Snapperqualysis/1.0 Übernikto/1.0",
        ] {
            assert_eq!(lists.agents.tool(agent), None, "{agent}");
        }
    }

    #[test]
    fn paths_are_sensitive_wherever_the_site_begins() {
        let paths = Lists::default().paths;
        for (path, expected) in [
            ("/.env", Some(Sensitivity::Nowhere)),
            ("/app/.ENV", Some(Sensitivity::Deeper)),
            ("/.git/HEAD", Some(Sensitivity::Nowhere)),
            ("/static/.git/config", Some(Sensitivity::Deeper)),
            ("/.aws/credentials", Some(Sensitivity::Nowhere)),
            ("/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php", Some(Sensitivity::Nowhere)),
            ("/cgi-bin/../../etc/passwd", Some(Sensitivity::Nowhere)),
            ("/user/project/src/branch/main/.env", Some(Sensitivity::Deeper)),
            ("/downloads/backup.zip", Some(Sensitivity::Somewhere)),
            ("/backup.tar.gz", Some(Sensitivity::Somewhere)),
            ("/docs/credentials.json", Some(Sensitivity::Somewhere)),
            ("/wp-login.php", Some(Sensitivity::Somewhere)),
            ("/blog/xmlrpc.php", Some(Sensitivity::Somewhere)),
            ("/phpMyAdmin/index.php", Some(Sensitivity::Somewhere)),
            ("/server-status", Some(Sensitivity::Somewhere)),
            ("/actuator/env", Some(Sensitivity::Somewhere)),
            ("/", None),
            ("/environment", None),
            ("/docs/.env.html", None),
            ("/blog/how-to-hide-.git/", None),
            ("/.well-known/acme-challenge/x", None),
            ("/robots.txt", None),
            ("/favicon.ico", None),
        ] {
            assert_eq!(paths.entry(path).map(|entry| entry.sensitivity), expected, "{path}");
        }
    }

    #[test]
    fn entries_belong_to_applications_and_in_older_lists_each_is_one_of_its_own() {
        let families = |list: &str, asked: &[&str]| -> Vec<_> {
            let paths = Paths::parse(list).expect("a list");
            asked.iter().map(|path| paths.entry(path).expect("an entry").family).collect()
        };
        let asked = ["/one", "/two", "/a/1", "/a/2", "/b/1"];
        let all = families("/one\n/two\n[a]\n/a/1\n[ b ]\n/b/*\n[A]\n/a/2\n", &asked);
        assert!(all[2] == all[3] && all[2] != all[4] && all[0] != all[1], "{all:?}");
        assert!(!all[2..].contains(&all[0]) && !all[2..].contains(&all[1]), "{all:?}");
        let old = families("/one\n/two\n!/a/1\n/a/2\n/b/*\n", &asked);
        assert_eq!(old.iter().collect::<std::collections::BTreeSet<_>>().len(), 5);
        assert!(matches!(Paths::parse("[a]\n[b]\n"), Err(ListError::Empty)));
        assert_eq!(wrong_lines(Paths::parse("[a\n/x/y\n").expect_err("a bracket")), [1]);
        let both = Paths::parse("/x/*\n!/x/y\n/x/y*\n").expect("a list");
        assert_eq!(both.entry("/x/y").map(|entry| entry.number), Some(1));
        assert_eq!(both.entry("/x/z").map(|entry| entry.number), Some(0));
    }

    #[test]
    fn wrong_lines_are_named_with_their_numbers() {
        let agents = Agents::parse("# tools\nab\nsqlmap\n^x\n\u{7}bell\n").expect_err("agents");
        assert_eq!(wrong_lines(agents), [2, 4, 5]);
        let paths = Paths::parse("/.env\nadmin\n/a*b\n!/x y\n/*\n").expect_err("paths");
        assert_eq!(wrong_lines(paths), [2, 3, 4, 5]);
        let ja4 =
            "t13d1516h2_8daaf6152771_b186095e22b6 tool\nt13d1516h2_8daaf6152771_b186095e22b6\nabc tool\n";
        assert_eq!(wrong_lines(Fingerprints::parse(ja4).expect_err("fingerprints")), [2, 3]);
        assert!(matches!(Agents::parse("# nothing\n\n"), Err(ListError::Empty)));
        let many = format!("{}\n", "x").repeat(12);
        let said = Paths::parse(&many).expect_err("paths").to_string();
        assert!(said.starts_with("line 1: ") && said.ends_with("and 2 more"), "{said}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_wrong(text in ".*", said in ".*") {
            if let Ok(agents) = Agents::parse(&text) {
                let _ = agents.tool(&said);
            }
            if let Ok(paths) = Paths::parse(&text) {
                let _ = paths.entry(&said);
            }
            let _ = Fingerprints::parse(&text);
        }
    }
}
