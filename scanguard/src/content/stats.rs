//! What one source said within some time, in bounded memory.

use std::{sync::Arc, time::Duration};

use super::{Junk, Oddity, burst, lists::Sensitivity, names};
use crate::observe::distinct::{Estimate, Sketch};

/// Tools that are kept by name.
const MAX_TOOLS: usize = 8;
/// Examples that are kept.
pub(super) const MAX_EXAMPLES: usize = 8;

/// What an HTTP status says of what was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// It is there.
    Met,
    /// It is not there, or not for anybody.
    Missed,
    /// Neither: a redirect (to a login, to HTTPS), a wanted password, too many requests, a server that is ill.
    Moot,
}

impl Verdict {
    /// RFC 9110, 15; 444 is what nginx writes where it closed the connection rather than answer, 451 is RFC 7725.
    pub(super) const fn of(status: u16) -> Self {
        match status {
            200..=299 | 304 => Self::Met,
            400 | 403..=406 | 410 | 414 | 421 | 444 | 451 => Self::Missed,
            _ => Self::Moot,
        }
    }
}

/// A request, digested.
pub(super) struct Asked<'u> {
    /// None where it says nothing whether it is there.
    pub(super) path: Option<u64>,
    pub(super) host: Option<(names::Key, Option<&'u str>)>,
    pub(super) sensitivity: Option<Sensitivity>,
    pub(super) tool: Option<&'u Arc<str>>,
    pub(super) is_referred: bool,
    pub(super) oddities: &'u [Oddity],
}

/// A request and what became of it, as far as that is remembered.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// None where it says nothing whether it is there.
    pub(super) path: Option<u64>,
    pub(super) host: Option<names::Key>,
    pub(super) sensitivity: Option<Sensitivity>,
    /// Whether its body may go on.
    pub(super) is_open: bool,
    /// Whether it was written as to a proxy.
    pub(super) is_proxied: bool,
    /// The path, if it may be an example.
    pub(super) example: Option<Box<str>>,
}

/// What was said by HTTP.
#[derive(Clone, Debug)]
pub struct Web {
    /// Requests.
    pub requests: u64,
    /// Of those whose status is known: what was asked for is there.
    pub met: u64,
    /// What was asked for is not there, or not for anybody (404, 403, 400, 405 and the like).
    pub missed: u64,
    /// Neither: a redirect, a wanted password, an error of the server.
    pub moot: u64,
    /// Requests with a Referer header.
    pub referred: u64,
    /// Virtual hosts.
    pub hosts: names::Names,
    /// Scanners that were named as the agent.
    pub tools: Vec<Arc<str>>,
    /// Requests with such an agent.
    pub by_tools: u64,
    paths: Sketch<8>,
    met_paths: Sketch<8>,
    missed_paths: Sketch<8>,
    burst: burst::Paths,
    asked_sensitive: Sketch<2>,
    missed_sensitive: Sketch<2>,
    certain_sensitive: Sketch<2>,
    /// Requests as to a proxy that were brought, and refused.
    proxied: [u32; 2],
    oddities: [u32; Oddity::ALL.len()],
}

impl Web {
    const EMPTY: Self = Self {
        requests: 0,
        met: 0,
        missed: 0,
        moot: 0,
        referred: 0,
        hosts: names::Names::EMPTY,
        tools: Vec::new(),
        by_tools: 0,
        paths: Sketch::EMPTY,
        met_paths: Sketch::EMPTY,
        missed_paths: Sketch::EMPTY,
        burst: burst::Paths::EMPTY,
        asked_sensitive: Sketch::EMPTY,
        missed_sensitive: Sketch::EMPTY,
        certain_sensitive: Sketch::EMPTY,
        proxied: [0; 2],
        oddities: [0; Oddity::ALL.len()],
    };

    /// Distinct paths.
    pub fn paths(&self) -> Estimate {
        self.paths.count().at_most(self.requests)
    }

    /// Distinct paths that were not there.
    pub fn missed_paths(&self) -> Estimate {
        self.missed_paths.count().at_most(self.missed)
    }

    /// Distinct paths that were there.
    pub fn met_paths(&self) -> Estimate {
        self.met_paths.count().at_most(self.met)
    }

    /// Paths that were not there and that were asked for in haste, as only list tools do.
    pub fn guessed_paths(&self) -> u64 {
        self.burst.guessed()
    }

    /// The same where it is unknown whether they were there.
    pub fn burst_paths(&self) -> u64 {
        self.burst.likely()
    }

    /// Distinct sensitive paths, whatever was answered.
    pub fn sensitive(&self) -> Estimate {
        self.asked_sensitive.count().at_most(self.requests)
    }

    /// Those that were not there.
    pub fn missed_sensitive(&self) -> Estimate {
        self.missed_sensitive.count().at_most(self.missed)
    }

    /// Distinct paths that nobody asks for honestly.
    pub fn certain_sensitive(&self) -> Estimate {
        self.certain_sensitive.count().at_most(self.requests)
    }

    /// Requests with this oddity. Of one who was brought what he asked a proxy for, asking for it is none: he is a client of it.
    pub fn odd(&self, oddity: Oddity) -> u64 {
        let [brought, _] = self.proxied;
        if oddity == Oddity::Proxy && brought > 0 { 0 } else { self.oddities[oddity as usize].into() }
    }

    /// Requests as to a proxy that were refused, of somebody to whom none was brought.
    pub fn refused_proxied(&self) -> u64 {
        let [brought, refused] = self.proxied;
        if brought > 0 { 0 } else { refused.into() }
    }

    fn ask(&mut self, asked: &Asked<'_>, at: Duration) {
        self.requests += 1;
        self.referred += u64::from(asked.is_referred);
        if let Some(path) = asked.path {
            self.ask_path(path, asked, at);
        }
        if let Some((key, spelt)) = asked.host {
            self.hosts.ask(key, spelt, at);
        }
        if let Some(tool) = asked.tool {
            self.by_tools += 1;
            keep(&mut self.tools, tool);
        }
        for oddity in asked.oddities {
            let count = &mut self.oddities[*oddity as usize];
            *count = count.saturating_add(1);
        }
    }

    fn ask_path(&mut self, path: u64, asked: &Asked<'_>, at: Duration) {
        self.paths.add(path);
        self.burst.ask(path, asked.is_referred, at);
        match asked.sensitivity {
            None => {}
            Some(Sensitivity::Somewhere | Sensitivity::Deeper) => self.asked_sensitive.add(path),
            Some(Sensitivity::Nowhere) => {
                self.asked_sensitive.add(path);
                self.certain_sensitive.add(path);
            }
        }
    }

    fn settle(&mut self, verdict: Verdict, request: Option<&Pending>, at: Duration) {
        let path = request.and_then(|request| request.path);
        let proxied = u32::from(request.is_some_and(|request| request.is_proxied));
        let [brought, refused] = &mut self.proxied;
        match verdict {
            Verdict::Met => {
                self.met += 1;
                *brought = brought.saturating_add(proxied);
                self.burst.meet(path, at);
                path.into_iter().for_each(|path| self.met_paths.add(path));
            }
            Verdict::Moot => self.moot += 1,
            Verdict::Missed => {
                self.missed += 1;
                *refused = refused.saturating_add(proxied);
                self.burst.miss(path, at);
                let (Some(request), Some(path)) = (request, path) else { return };
                self.missed_paths.add(path);
                if let Some(key) = request.host {
                    self.hosts.miss(key);
                }
                if request.sensitivity.is_some() {
                    self.missed_sensitive.add(path);
                }
                if request.sensitivity == Some(Sensitivity::Deeper) {
                    self.certain_sensitive.add(path);
                }
            }
        }
    }
}

/// What was said by TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// ClientHellos.
    pub hellos: u64,
    /// Names of servers.
    pub names: names::Names,
    /// Scanners whose fingerprint it was.
    pub tools: Vec<Arc<str>>,
    /// Hellos with such a fingerprint.
    pub by_tools: u64,
    ja4: Sketch<2>,
    /// A bit for each version, in the order of [`VERSIONS`].
    versions: u8,
}

/// Versions as JA4 writes them, after "t" for TCP.
const VERSIONS: [&str; 6] = ["s2", "s3", "10", "11", "12", "13"];

impl Tls {
    const EMPTY: Self = Self {
        hellos: 0,
        names: names::Names::EMPTY,
        tools: Vec::new(),
        by_tools: 0,
        ja4: Sketch::EMPTY,
        versions: 0,
    };

    /// Distinct fingerprints.
    pub fn fingerprints(&self) -> Estimate {
        self.ja4.count().at_most(self.hellos)
    }

    /// Distinct versions that were the highest of a hello.
    pub fn versions(&self) -> u32 {
        self.versions.count_ones()
    }

    fn greet(&mut self, greeted: &Greeted<'_>, at: Duration) {
        self.hellos += 1;
        if let Some((key, spelt)) = greeted.name {
            self.names.ask(key, spelt, at);
        }
        if let Some((hash, text)) = greeted.ja4 {
            self.ja4.add(hash);
            let version = text.get(1..3).and_then(|version| VERSIONS.iter().position(|one| *one == version));
            self.versions |= version.map_or(0, |place| 1 << place);
        }
        if let Some(tool) = greeted.tool {
            self.by_tools += 1;
            keep(&mut self.tools, tool);
        }
    }
}

/// A ClientHello, digested.
pub(super) struct Greeted<'u> {
    pub(super) name: Option<(names::Key, Option<&'u str>)>,
    pub(super) ja4: Option<(u64, &'u str)>,
    pub(super) tool: Option<&'u Arc<str>>,
}

/// What was said by DNS.
#[derive(Clone, Debug)]
pub struct Dns {
    /// Queries.
    pub queries: u64,
    /// Answers with a name that is there (NOERROR).
    pub met: u64,
    /// Answers that the name is not there (NXDOMAIN).
    pub missed: u64,
    /// Names.
    pub names: names::Names,
    /// Queries for the server's version.
    pub version: u64,
    /// Queries for all that there is of a name (ANY).
    pub any: u64,
    /// Zone transfers that were asked for and refused.
    pub refused_transfers: u64,
}

impl Dns {
    const EMPTY: Self = Self {
        queries: 0,
        met: 0,
        missed: 0,
        names: names::Names::EMPTY,
        version: 0,
        any: 0,
        refused_transfers: 0,
    };
}

/// What a DNS query asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum QueryKind {
    /// The server's version.
    Version,
    /// All that there is of a name.
    Any,
    /// Anything else.
    Name,
}

/// What one source said within some time.
#[derive(Clone, Debug)]
pub struct ContentStats {
    /// When that time began.
    pub since: Duration,
    /// When it said something last.
    pub last: Duration,
    /// How often it said something; answers are not counted.
    pub said: u64,
    /// By HTTP.
    pub web: Web,
    /// By TLS.
    pub tls: Tls,
    /// By DNS.
    pub dns: Dns,
    /// What looked like one of these and broke its syntax.
    pub broken: u64,
    /// Examples of paths and names, the most telling ones; printable, without queries.
    pub examples: Vec<Box<str>>,
    /// How many of them, at the beginning, were not there or are sensitive; the others are the first that there were.
    telling: usize,
}

impl ContentStats {
    pub(super) const fn new(since: Duration) -> Self {
        Self {
            since,
            last: since,
            said: 0,
            web: Web::EMPTY,
            tls: Tls::EMPTY,
            dns: Dns::EMPTY,
            broken: 0,
            examples: Vec::new(),
            telling: 0,
        }
    }

    pub(super) fn ask(&mut self, asked: &Asked<'_>) {
        self.said += 1;
        self.web.ask(asked, self.last);
    }

    pub(super) fn settle(&mut self, verdict: Verdict, request: Option<&Pending>) {
        self.web.settle(verdict, request, self.last);
    }

    pub(super) fn greet(&mut self, greeted: &Greeted<'_>) {
        self.said += 1;
        self.tls.greet(greeted, self.last);
    }

    pub(super) fn query(&mut self, wish: QueryKind, name: Option<(names::Key, Option<&str>)>) {
        self.said += 1;
        self.dns.queries += 1;
        match wish {
            QueryKind::Version => self.dns.version += 1,
            QueryKind::Any => self.dns.any += 1,
            QueryKind::Name => {}
        }
        if let Some((key, spelt)) = name {
            self.dns.names.ask(key, spelt, self.last);
        }
    }

    pub(super) fn answer(&mut self, code: u16, name: Option<names::Key>) {
        match code {
            NOERROR => self.dns.met += 1,
            NXDOMAIN => {
                self.dns.missed += 1;
                if let Some(key) = name {
                    self.dns.names.miss(key);
                }
            }
            _ => {}
        }
    }

    pub(super) fn refuse_transfer(&mut self) {
        self.dns.refused_transfers += 1;
    }

    pub(super) fn count_malformed(&mut self, junk: Junk) {
        self.said += 1;
        match junk {
            Junk::Syntax => self.broken += 1,
            // The end may have been lost on the way here.
            Junk::Cut => {}
        }
    }

    /// Forgets what names anything.
    pub(super) fn redact(&mut self) {
        self.examples.clear();
        self.telling = 0;
        for names in [&mut self.web.hosts, &mut self.tls.names, &mut self.dns.names] {
            names.redact();
        }
    }

    /// Whether another example of this kind is wanted: those that tell push others out.
    pub(super) fn wants_example(&self, tells: bool) -> bool {
        self.examples.len() < MAX_EXAMPLES || (tells && self.telling < MAX_EXAMPLES)
    }

    pub(super) fn add_example(&mut self, example: &str, tells: bool) {
        if !self.wants_example(tells) || self.examples.iter().take(self.telling).any(|one| **one == *example)
        {
            return;
        }
        self.examples.retain(|one| **one != *example);
        if tells {
            self.examples.insert(self.telling, example.into());
            self.telling += 1;
            self.examples.truncate(MAX_EXAMPLES);
        } else if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(example.into());
        }
    }
}

/// RFC 6895, 2.3.
pub(super) const NOERROR: u16 = 0;
const NXDOMAIN: u16 = 3;

fn keep(tools: &mut Vec<Arc<str>>, tool: &Arc<str>) {
    if tools.len() < MAX_TOOLS && !tools.contains(tool) {
        tools.push(Arc::clone(tool));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_that_something_is_there_or_not_or_nothing_of_that() {
        for (status, expected) in [
            (200, Verdict::Met),
            (206, Verdict::Met),
            (304, Verdict::Met),
            (301, Verdict::Moot),
            (302, Verdict::Moot),
            (401, Verdict::Moot),
            (403, Verdict::Missed),
            (404, Verdict::Missed),
            (405, Verdict::Missed),
            (429, Verdict::Moot),
            (500, Verdict::Moot),
            (503, Verdict::Moot),
            (0, Verdict::Moot),
        ] {
            assert_eq!(Verdict::of(status), expected, "{status}");
        }
    }

    #[test]
    fn examples_that_tell_push_out_others_and_there_are_few() {
        let mut heard = ContentStats::new(Duration::ZERO);
        for step in 0..20 {
            heard.add_example(&format!("/{step}"), false);
        }
        heard.add_example("/3", true);
        heard.add_example("/.env", true);
        heard.add_example("/.env", true);
        assert_eq!(heard.examples.len(), MAX_EXAMPLES);
        assert_eq!((&*heard.examples[0], &*heard.examples[1], &*heard.examples[2]), ("/3", "/.env", "/0"));
        for step in 0..20 {
            heard.add_example(&format!("/missed{step}"), true);
        }
        assert_eq!(heard.examples.len(), MAX_EXAMPLES);
        assert!(!heard.wants_example(true));
    }
}
