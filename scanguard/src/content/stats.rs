//! Statistics of one source's messages within some time, in bounded memory.

use std::{sync::Arc, time::Duration};

use super::{
    Junk, Oddity,
    attacks::{AtOnce, Attacks},
    burst,
    lists::Entry,
    names,
    parameters::Parameters,
    sender::Sender,
    sensitive::{Asker, By, Sensitive},
    sent::Sent,
    services::{Opened, Services},
    tools::keep,
    words::{Means, Words},
};
use crate::observe::distinct::{Estimate, Sketch};

/// Up to so many distinct paths that a source met, a path is rarely taken for one of them by chance.
const MOST_MET: u64 = 128;
/// How many examples are kept.
pub(super) const MAX_EXAMPLES: usize = 8;

/// Whether the target of a request is there, by the HTTP status of the answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// It is there.
    Met,
    /// It is not there.
    Missed,
    /// The client may not have it, and nobody knows whether it is there. This is a miss, too.
    Refused,
    /// It is there for those with a password.
    Locked,
    /// Neither: a redirect (to a login, to HTTPS), a request for a password, too many requests, a broken server.
    Moot,
}

impl Verdict {
    /// RFC 9110, 15. nginx writes 444 if it closed the connection rather than answer; 451 is RFC 7725. What is gone (410)
    /// was there, so nobody guesses it.
    pub(super) const fn of(status: u16) -> Self {
        match status {
            200..=299 | 304 => Self::Met,
            400 | 404 | 414 | 421 | 444 | 451 => Self::Missed,
            403 | 405 | 406 => Self::Refused,
            401 => Self::Locked,
            _ => Self::Moot,
        }
    }
}

/// A request in short form.
pub(super) struct Asked<'u> {
    /// Nothing if its presence tells nothing.
    pub(super) path: Option<u64>,
    pub(super) host: Option<(names::Key, Option<&'u str>)>,
    pub(super) sensitive: Option<Entry>,
    pub(super) tool: Option<&'u Arc<str>>,
    pub(super) sender: Sender,
    /// See [`Pending::agent`].
    pub(super) agent: u8,
    pub(super) oddities: &'u [Oddity],
    /// A salted hash of what is odd.
    pub(super) odd_part: u64,
    pub(super) attacks: Attacks,
    /// Salted hashes of the names of its parameters.
    pub(super) parameters: &'u [u64],
    /// A salted hash of the address that it went to, if that is known.
    pub(super) address: Option<u32>,
}

/// A request and its result, as far as it is remembered.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// Nothing if its presence tells nothing.
    pub(super) path: Option<u64>,
    pub(super) host: Option<names::Key>,
    pub(super) sensitive: Option<Entry>,
    pub(super) sender: Sender,
    pub(super) means: Means,
    /// The path of the file that this one describes: of `/a.js.map` it is `/a.js`.
    pub(super) base: Option<u64>,
    /// Some bits of a hash of the User-Agent.
    pub(super) agent: u8,
    pub(super) odd_part: u64,
    /// See [`Asked::address`].
    pub(super) address: Option<u32>,
    pub(super) has_credentials: bool,
    /// Whether it has the form of a request to a proxy.
    pub(super) is_proxied: bool,
    /// The path, if it may become an example.
    pub(super) example: Option<Box<str>>,
}

/// Notes the address to which the client itself sent something, as far as it is known. A sketch takes the word from the
/// upper half of a hash, and the bit from the lower.
fn note(hosts: &mut Sketch<2>, sender: Sender, address: Option<u32>) {
    if let (Sender::Client, Some(address)) = (sender, address) {
        hosts.add(u64::from(address.rotate_left(16)) << 32 | u64::from(address));
    }
}

/// Messages over HTTP.
#[derive(Clone, Debug)]
pub struct Web {
    /// Requests.
    pub requests: u64,
    /// Requests with a known status whose target is there.
    pub met: u64,
    /// Requests whose target is not there, or that the client may not have (404, 403, 400, 405 and similar).
    pub missed: u64,
    /// Neither: a redirect, a request for a password, an error of the server.
    pub moot: u64,
    /// Requests that a page sent.
    pub referred: u64,
    /// Virtual hosts.
    pub hosts: names::Names,
    /// Scanners that the user agent named.
    pub tools: Vec<Arc<str>>,
    /// Requests with such a user agent.
    pub by_tools: u64,
    paths: Sketch<8>,
    met_paths: Sketch<8>,
    missed_paths: Sketch<8>,
    words: Words,
    /// Those that pages sent the client to.
    words_of_pages: Words,
    burst: burst::Paths,
    /// Entries of the list of sensitive paths.
    pub sensitive: Sensitive,
    /// Requests to a proxy that were served.
    proxied: u32,
    refused_proxied: Sent<2>,
    /// Addresses at which the client itself was refused as that of a proxy.
    refused_hosts: Sketch<2>,
    /// Addresses at which it made another attempt.
    attempted_hosts: Sketch<2>,
    /// Addresses at which it missed a sensitive path, and had met nothing of its application anywhere.
    missing_hosts: Sketch<2>,
    oddities: [u32; Oddity::ALL.len()],
    odd_parts: [Sent<2>; Oddity::ALL.len()],
    attacks: AtOnce,
    parameters: Parameters,
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
        words: Words::EMPTY,
        words_of_pages: Words::EMPTY,
        burst: burst::Paths::EMPTY,
        sensitive: Sensitive::EMPTY,
        proxied: 0,
        refused_proxied: Sent::EMPTY,
        refused_hosts: Sketch::EMPTY,
        attempted_hosts: Sketch::EMPTY,
        missing_hosts: Sketch::EMPTY,
        oddities: [0; Oddity::ALL.len()],
        odd_parts: [const { Sent::EMPTY }; Oddity::ALL.len()],
        attacks: AtOnce::EMPTY,
        parameters: Parameters::EMPTY,
    };

    /// Distinct paths.
    pub fn paths(&self) -> Estimate {
        self.paths.count().at_most(self.requests)
    }

    /// Distinct paths that are missing.
    pub fn missed_paths(&self) -> Estimate {
        self.missed_paths.count().at_most(self.missed)
    }

    /// Distinct paths that are there.
    pub fn met_paths(&self) -> Estimate {
        self.met_paths.count().at_most(self.met)
    }

    /// Missing paths that were requested in a burst, as only list tools do.
    pub fn guessed_paths(&self) -> u64 {
        self.burst.guessed()
    }

    /// The same for paths of which nobody knows whether they are there.
    pub fn burst_paths(&self) -> u64 {
        self.burst.likely()
    }

    /// Missing paths, as far as they may be words of a list.
    pub fn words(&self, by: By) -> u64 {
        match by {
            By::Client => self.words.count(),
            By::Anybody => self.words.count() + self.words_of_pages.count(),
        }
    }

    /// Requests with this oddity. A source whose proxy requests were served is a client of the proxy, and its proxy
    /// requests are not odd.
    pub fn odd(&self, oddity: Oddity) -> u64 {
        if oddity == Oddity::Proxy && self.proxied > 0 { 0 } else { self.oddities[oddity as usize].into() }
    }

    /// Distinct things that have this oddity.
    pub fn odd_parts(&self, oddity: Oddity, by: By) -> u64 {
        if oddity == Oddity::Proxy && self.proxied > 0 {
            0
        } else {
            self.odd_parts[oddity as usize].count(by)
        }
    }

    /// Distinct refused proxy requests of a source that had none served.
    pub fn refused_proxied(&self, by: By) -> u64 {
        if self.proxied > 0 { 0 } else { self.refused_proxied.count(by) }
    }

    /// Distinct addresses at which the client itself tried a way out of the directory or a Log4Shell string; or at which it
    /// was refused as the client of a proxy, if these are more.
    pub fn attempted_hosts(&self) -> u64 {
        let refused = if self.proxied > 0 { 0 } else { self.refused_hosts.count().value };
        self.attempted_hosts.count().value.max(refused)
    }

    /// Distinct addresses at which the client itself missed a sensitive path.
    pub fn missing_hosts(&self) -> u64 {
        self.missing_hosts.count().value
    }

    /// The most kinds of attacks within seconds, other than by links of this very host.
    pub fn attacks_at_once(&self) -> u64 {
        self.attacks.most()
    }

    /// Distinct names of parameters that were guessed.
    pub fn guessed_parameters(&self, by: By) -> u64 {
        self.parameters.guessed(by)
    }

    fn ask(&mut self, asked: &Asked<'_>, at: Duration) {
        self.requests += 1;
        self.referred += u64::from(asked.sender != Sender::Client);
        if let Some(path) = asked.path {
            self.paths.add(path);
            self.burst.ask(path, asked.sender != Sender::Client, at);
            asked.sensitive.into_iter().for_each(|entry| {
                let asker = Asker { sender: asked.sender, agent: asked.agent };
                self.sensitive.ask(entry, asker);
            });
        }
        if asked.sender != Sender::OwnPage {
            self.attacks.add(asked.attacks, at);
        }
        self.parameters.ask(asked.sender, asked.parameters);
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
            self.odd_parts[*oddity as usize].add(asked.sender, asked.odd_part);
            if matches!(oddity, Oddity::Traversal | Oddity::Jndi) {
                note(&mut self.attempted_hosts, asked.sender, asked.address);
            }
        }
    }

    /// Whether the source met this path. Of many paths nobody knows.
    fn is_met(&self, path: u64) -> bool {
        self.met_paths.may_have(path) && self.met_paths.count().value <= MOST_MET
    }

    fn settle(&mut self, verdict: Verdict, request: Option<&Pending>, at: Duration) {
        let path = request.and_then(|request| request.path);
        let entry = request.filter(|_| path.is_some()).and_then(|request| request.sensitive);
        match verdict {
            Verdict::Met => {
                self.met += 1;
                self.proxied =
                    self.proxied.saturating_add(request.is_some_and(|request| request.is_proxied).into());
                self.burst.meet(path, at);
                path.into_iter().for_each(|path| self.met_paths.add(path));
                entry.into_iter().for_each(|entry| self.sensitive.meet(entry));
            }
            Verdict::Locked => {
                self.moot += 1;
                entry.into_iter().for_each(|entry| self.sensitive.meet(entry));
            }
            Verdict::Moot => self.moot += 1,
            Verdict::Missed | Verdict::Refused => {
                self.missed += 1;
                let is_derived =
                    request.and_then(|request| request.base).is_some_and(|base| self.is_met(base));
                let means = request.map_or(Means::Guess, |request| request.means);
                self.burst.miss(path.filter(|_| !is_derived), means, at);
                let Some(request) = request else { return };
                if request.is_proxied {
                    self.refused_proxied.add(request.sender, request.odd_part);
                    note(&mut self.refused_hosts, request.sender, request.address);
                }
                let Some(path) = path else { return };
                self.missed_paths.add(path);
                let words =
                    if request.sender == Sender::Client { &mut self.words } else { &mut self.words_of_pages };
                if !is_derived {
                    words.add(means, path);
                }
                if let Some(key) = request.host {
                    self.hosts.miss(key, names::Denial::UnderZone);
                }
                if let Some(entry) = entry {
                    let asker = Asker { sender: request.sender, agent: request.agent };
                    self.sensitive.miss(entry, asker, verdict == Verdict::Refused);
                    if verdict == Verdict::Missed && !self.sensitive.is_here(entry) {
                        note(&mut self.missing_hosts, request.sender, request.address);
                    }
                }
            }
        }
    }
}

/// Messages over TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// ClientHellos.
    pub hellos: u64,
    /// Server names.
    pub names: names::Names,
    /// Scanners with the fingerprint of a hello.
    pub tools: Vec<Arc<str>>,
    /// Hellos with such a fingerprint.
    pub by_tools: u64,
    ja4: Sketch<2>,
    /// One bit for each version, in the order of [`VERSIONS`].
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

    /// Distinct highest versions of hellos.
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

/// A ClientHello in short form.
pub(super) struct Greeted<'u> {
    pub(super) name: Option<(names::Key, Option<&'u str>)>,
    pub(super) ja4: Option<(u64, &'u str)>,
    pub(super) tool: Option<&'u Arc<str>>,
}

/// Messages over DNS.
#[derive(Clone, Debug)]
pub struct Dns {
    /// Queries.
    pub queries: u64,
    /// Answers for a name that exists (NOERROR).
    pub met: u64,
    /// Answers for a name that does not exist (NXDOMAIN).
    pub missed: u64,
    /// Names.
    pub names: names::Names,
    /// Queries for the server's version.
    pub version: u64,
    /// Queries for all records of a name (ANY).
    pub any: u64,
    /// Zone transfers that were requested and refused.
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

/// A DNS answer in short form.
pub(super) struct Answered {
    /// The response code.
    pub(super) code: u16,
    /// Nothing if its presence tells nothing.
    pub(super) name: Option<names::Key>,
    /// What it tells of the parent if the name does not exist.
    pub(super) denial: names::Denial,
    /// Whether a blocklist lists the name.
    pub(super) is_listing: bool,
}

/// The kind of information that a DNS query asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum QueryKind {
    /// The server's version.
    Version,
    /// All records of a name.
    Any,
    /// Anything else.
    Name,
}

/// Statistics of one source's messages within some time.
#[derive(Clone, Debug)]
pub struct ContentStats {
    /// When this time began.
    pub since: Duration,
    /// When it sent its last message.
    pub last: Duration,
    /// How many messages it sent; answers do not count.
    pub said: u64,
    /// Whether the source has used this host for long.
    pub is_regular: bool,
    /// Over HTTP.
    pub web: Web,
    /// Over TLS.
    pub tls: Tls,
    /// Over DNS.
    pub dns: Dns,
    /// In other protocols; few sources speak any.
    pub services: Option<Box<Services>>,
    /// Messages that looked like one of these and broke its syntax.
    pub broken: u64,
    /// Examples of paths and names, the most telling ones. They are printable and have no queries.
    pub examples: Vec<Box<str>>,
    /// How many of them, at the beginning, are missing or sensitive. The others are the first ones that were there.
    telling: usize,
}

impl ContentStats {
    pub(super) const fn new(since: Duration) -> Self {
        Self {
            since,
            last: since,
            said: 0,
            is_regular: false,
            web: Web::EMPTY,
            tls: Tls::EMPTY,
            dns: Dns::EMPTY,
            services: None,
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

    pub(super) fn open(&mut self, opened: &Opened<'_>) {
        self.said += 1;
        self.services.get_or_insert_with(|| Box::new(Services::EMPTY)).open(opened);
    }

    pub(super) fn query(&mut self, kind: QueryKind, name: Option<(names::Key, Option<&str>)>) {
        self.said += 1;
        self.dns.queries += 1;
        match kind {
            QueryKind::Version => self.dns.version += 1,
            QueryKind::Any => self.dns.any += 1,
            QueryKind::Name => {}
        }
        if let Some((key, spelt)) = name {
            self.dns.names.ask(key, spelt, self.last);
        }
    }

    pub(super) fn answer(&mut self, answered: &Answered) {
        match answered.code {
            NOERROR => {
                self.dns.met += 1;
                if let Some(key) = answered.name {
                    self.dns.names.find(key, answered.is_listing);
                }
            }
            NXDOMAIN => {
                self.dns.missed += 1;
                if let Some(key) = answered.name {
                    self.dns.names.miss(key, answered.denial);
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
            // The end may have been lost on the way.
            Junk::Cut => {}
        }
    }

    /// Forgets all texts.
    pub(super) fn redact(&mut self) {
        self.examples.clear();
        self.telling = 0;
        for names in [&mut self.web.hosts, &mut self.tls.names, &mut self.dns.names] {
            names.redact();
        }
    }

    /// Whether another example of this kind is useful. Telling examples push out the others.
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
            (401, Verdict::Locked),
            (403, Verdict::Refused),
            (404, Verdict::Missed),
            (410, Verdict::Moot),
            (405, Verdict::Refused),
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
        let mut stats = ContentStats::new(Duration::ZERO);
        for step in 0..20 {
            stats.add_example(&format!("/{step}"), false);
        }
        stats.add_example("/3", true);
        stats.add_example("/.env", true);
        stats.add_example("/.env", true);
        assert_eq!(stats.examples.len(), MAX_EXAMPLES);
        assert_eq!((&*stats.examples[0], &*stats.examples[1], &*stats.examples[2]), ("/3", "/.env", "/0"));
        for step in 0..20 {
            stats.add_example(&format!("/missed{step}"), true);
        }
        assert_eq!(stats.examples.len(), MAX_EXAMPLES);
        assert!(!stats.wants_example(true));
    }
}
