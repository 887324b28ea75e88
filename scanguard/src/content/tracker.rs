//! The recent messages of each source, in bounded memory. If there are too many sources, it forgets the least
//! important ones.
//!
//! Two [`ContentStats`] together answer for a window. The second begins half a window after the first. Every message
//! goes into both. Rules see the first, and at the end of its window the second takes its place. So a rule sees at
//! least half a window and never more than one, and nothing has to be added up.
//!
//! Messages within a connection are kept apart from those that anybody could have sent: nobody is accused of forged
//! packets together with his own requests.

use std::{collections::HashMap, hash::BuildHasher as _, time::Duration};

use scanguard_common::address::Address;

use super::{
    Answer, ContentEvent, Hello, Oddity, Proof, Query, Request, Said, Service,
    credit::Credits,
    greeting::{self, Greeting},
    identifier,
    lists::{Entry, Sensitivity},
    names, reverse,
    salt::Salt,
    served::Served,
    services::Opened,
    settings::Settings,
    stats::{Answered, Asked, ContentStats, Greeted, MAX_EXAMPLES, NOERROR, Pending, QueryKind, Verdict},
    text::printable,
    words::Means,
};

/// How many requests of one source may wait for their answer: more than the connections that scanners and browsers
/// open at once.
const MAX_PENDING: usize = 64;

/// DNS: the class of questions about the server itself, and the types that ask for much (RFC 1035, 3.2).
const CHAOS: u16 = 3;
const ANY: u16 = 255;
const AXFR: u16 = 252;
/// The changes of a zone since a version (RFC 1995).
const IXFR: u16 = 251;
/// Names of the class CHAOS that ask for the version. Researchers who measure networks ask for other ones
/// (hostname.bind, id.server: RFC 4892).
const VERSIONS: [&str; 3] = ["version.bind", "version.server", "authors.bind"];

/// One source.
struct Client {
    older: ContentStats,
    younger: Option<Box<ContentStats>>,
    /// The request that waits for its answer, by the client's port. Without pipelining, each connection has one. A
    /// second one means that the answer to the first was not seen.
    pending: Vec<(u16, Pending)>,
    /// The name of the last zone transfer that was requested.
    transfer: Option<u64>,
    /// Requests with a cut path.
    cut: u64,
    /// The path for which this host asked for a password last.
    locked: Option<u64>,
}

impl Client {
    fn new(at: Duration) -> Self {
        Self {
            older: ContentStats::new(at),
            younger: None,
            pending: Vec::new(),
            transfer: None,
            cut: 0,
            locked: None,
        }
    }

    /// Forgets messages older than the window.
    fn turn(&mut self, at: Duration, window: Duration) {
        let age = |stats: &ContentStats| at.saturating_sub(stats.since);
        if age(&self.older) >= window {
            self.older = self
                .younger
                .take()
                .filter(|stats| age(stats) < window)
                .map_or_else(|| ContentStats::new(at), |stats| *stats);
        }
        if self.younger.is_none() && age(&self.older) >= window / 2 {
            self.younger = Some(Box::new(ContentStats::new(at)));
        }
    }

    fn each(&mut self, mut add: impl FnMut(&mut ContentStats)) {
        add(&mut self.older);
        self.younger.as_deref_mut().into_iter().for_each(add);
    }

    /// Forgets all texts.
    fn redact(&mut self) {
        self.each(ContentStats::redact);
        self.pending.iter_mut().for_each(|(_, request)| request.example = None);
    }

    fn wants_example(&self, tells: bool) -> bool {
        self.older.wants_example(tells)
            || self.younger.as_deref().is_some_and(|stats| stats.wants_example(tells))
    }

    fn example(&mut self, text: &str, tells: bool) {
        self.each(|stats| stats.add_example(text, tells));
    }

    fn wait(&mut self, port: u16, request: Pending) {
        if let Some((_, before)) = self.pending.iter_mut().find(|(one, _)| *one == port) {
            *before = request;
            return;
        }
        if self.pending.len() == MAX_PENDING {
            self.pending.remove(0);
        }
        self.pending.push((port, request));
    }

    /// Takes the answer to a request. Returns whether this host found the client to be one of its users: see
    /// [`Found`].
    fn settle(&mut self, status: u16, request: Option<&Pending>) -> Option<Found> {
        let verdict = match request {
            Some(Pending { path: None, .. }) => Verdict::Moot,
            Some(_) | None => Verdict::of(status),
        };
        self.each(|stats| stats.settle(verdict, request));
        let example = request.and_then(|request| request.example.as_deref());
        if let (Verdict::Missed | Verdict::Refused, Some(example)) = (verdict, example) {
            self.example(example, true);
        }
        let path = request.and_then(|request| request.path);
        if verdict == Verdict::Locked {
            self.locked = path;
        }
        // A client that misses more than it finds is looking for something.
        let web = &self.older.web;
        let has_credentials = request.is_some_and(|request| request.has_credentials);
        (verdict == Verdict::Met && path.is_some() && web.met > web.missed)
            .then(|| Found { has_logged_in: has_credentials && self.locked == path })
    }
}

/// A client found something here, and finds more than it misses.
struct Found {
    /// This host refused the same request without credentials.
    has_logged_in: bool,
}

/// All sources.
pub struct ContentTracker {
    settings: Settings,
    salt: Salt,
    by_source: HashMap<(Address, Proof), Client>,
    credits: Credits,
    served: Served,
    evictions: u64,
    swept: Duration,
}

impl Default for ContentTracker {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            salt: Salt::default(),
            by_source: HashMap::new(),
            credits: Credits::default(),
            served: Served::default(),
            evictions: 0,
            swept: Duration::ZERO,
        }
    }
}

impl ContentTracker {
    /// Sets the salt of hashes. To be called before the first message.
    pub fn set_salt(&mut self, salt: Salt) {
        self.salt = salt;
    }

    /// Changes the settings. Earlier messages stay, except for texts that may no longer be kept.
    pub fn reconfigure(&mut self, settings: Settings) {
        if settings.redact {
            self.by_source.values_mut().for_each(Client::redact);
        }
        self.settings = settings;
    }

    /// The remembered messages of a source, for one kind of proof.
    pub fn of(&self, source: &Address, proof: Proof) -> Option<&ContentStats> {
        self.by_source.get(&(*source, proof)).map(|client| &client.older)
    }

    /// Adds a message. Returns the recent messages of its source, including this one.
    pub fn hear(&mut self, event: &ContentEvent, at: Duration) -> &ContentStats {
        let ContentEvent { source, service, client_port, proof, said } = event;
        let key = (*source, *proof);
        if self.by_source.len() >= self.settings.max_visitors as usize && !self.by_source.contains_key(&key) {
            self.evict();
        }
        let Self { settings, salt, by_source, credits, served, .. } = self;
        let client = by_source.entry(key).or_insert_with(|| Client::new(at));
        client.turn(at, settings.window);
        let is_regular = credits.is_regular(source, at);
        client.each(|stats| (stats.last, stats.is_regular) = (at, is_regular));
        let mut digest = Digest { settings, salt, served, source, proof: *proof, at };
        let mut found = None;
        match said {
            Said::Request(request) => found = digest.request(client, request, service, *client_port),
            Said::Status(status) => {
                let place =
                    client.pending.iter().position(|(port, _)| *port == client_port.unwrap_or_default());
                let request = place.map(|place| client.pending.swap_remove(place).1);
                found = digest.settle(client, *status, request);
            }
            Said::Hello(hello) => digest.hello(client, hello),
            Said::Query(query) => digest.query(client, query),
            Said::Answer(answer) => digest.answer(client, answer),
            Said::Greeting(greeting) => digest.greeting(client, greeting, service, *client_port),
            Said::Junk(junk) => client.each(|stats| stats.count_malformed(*junk)),
        }
        if let (Some(Found { has_logged_in }), Proof::Connection) = (found, proof) {
            credits.earn(*source, has_logged_in, at, settings.max_visitors as usize);
        }
        &client.older
    }

    /// Forgets the messages of a source, because they were reported.
    pub fn forget(&mut self, source: &Address) {
        for proof in [Proof::Connection, Proof::None] {
            self.by_source.remove(&(*source, proof));
        }
    }

    /// Forgets sources that were quiet for a window.
    pub fn expire(&mut self, at: Duration) {
        let window = self.settings.window;
        if at.saturating_sub(self.swept) < window / 16 {
            return;
        }
        self.swept = at;
        self.credits.expire(at);
        self.by_source.retain(|_, client| at.saturating_sub(client.older.last) < window);
    }

    /// Forgets one in sixteen: first sources whose addresses may be forged, then those with a single message, then
    /// those that were quiet longest. So packets from everywhere push out no real source.
    fn evict(&mut self) {
        let rank = |(key, client): (&(Address, Proof), &Client)| {
            (key.1, client.older.said.min(2), client.older.last, *key)
        };
        let mut ranks: Vec<_> = self.by_source.iter().map(rank).collect();
        // A reload may have lowered the limit.
        let cap = self.settings.max_visitors as usize;
        let excess = (ranks.len() + 1).saturating_sub(cap - cap / 16).clamp(1, ranks.len());
        ranks.select_nth_unstable(excess - 1);
        for (.., key) in ranks.into_iter().take(excess) {
            self.by_source.remove(&key);
        }
        self.evictions += excess as u64;
    }

    /// How many sources are remembered. A source with both kinds of proof counts twice.
    pub fn len(&self) -> usize {
        self.by_source.len()
    }

    /// Whether no source is remembered.
    pub fn is_empty(&self) -> bool {
        self.by_source.is_empty()
    }

    /// How many sources were forgotten because there were too many.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }
}

/// Ends of the names of files that describe the file whose name precedes them: developers' tools look for the map of each
/// script, and managers of packages for digests and signatures. Not here: ends of copies, which scanners guess.
const DESCRIBING: [&str; 7] = [".map", ".sha1", ".sha256", ".sha512", ".md5", ".asc", ".sig"];

/// The path that a path describes.
fn described(path: &str) -> Option<&str> {
    DESCRIBING.iter().find_map(|end| path.strip_suffix(end))
}

/// Digests messages.
struct Digest<'v> {
    settings: &'v Settings,
    salt: &'v Salt,
    served: &'v mut Served,
    /// Whose messages these are, how that is known, and when they came.
    source: &'v Address,
    proof: Proof,
    at: Duration,
}

impl Digest<'_> {
    fn name<'u>(&self, name: &'u str) -> Option<(names::Key, Option<&'u str>)> {
        Some((names::key(name, self.salt)?, (!self.settings.redact).then_some(name)))
    }

    /// The hash of a path. `cut` is another number for each path that is cut.
    fn path(&self, path: &str, cut: Option<u64>) -> u64 {
        self.salt.hash_one((identifier::shape(path), cut))
    }

    /// Whether the target of a request in absolute form is a server here, under a name or address of its own. Some
    /// clients write all targets like that.
    fn is_here(&self, request: &Request, service: &Service) -> bool {
        let (host, address) = match (service, request.host.as_deref(), request.target_port) {
            (Service::Endpoint { ip, port, .. }, Some(host), Some(target)) if target == *port => {
                (host, Some(ip))
            }
            (Service::Log, Some(host), Some(_)) => (host, None),
            _ => return false,
        };
        let is_served = |key: names::Key| self.served.is_served_to_others(key.name(), self.source);
        address.is_some_and(|ip| host.parse() == Ok(*ip))
            || names::key(host, self.salt).is_some_and(is_served)
    }

    /// An answer to a request. A name under which others are served is there, whatever the answer to one path is.
    fn settle(&mut self, client: &mut Client, status: u16, request: Option<Pending>) -> Option<Found> {
        let request = request.map(|request| {
            let Some(key) = request.host.filter(|_| !request.is_proxied) else { return request };
            if Verdict::of(status) == Verdict::Met && self.proof == Proof::Connection {
                self.served.note(key.name(), self.source, self.at);
            }
            let is_there = self.served.is_served_to_others(key.name(), self.source);
            Pending { host: request.host.filter(|_| !is_there), ..request }
        });
        client.settle(status, request.as_ref())
    }

    fn request(
        &mut self,
        client: &mut Client,
        request: &Request,
        service: &Service,
        client_port: Option<u16>,
    ) -> Option<Found> {
        let Request {
            path,
            is_cut,
            host,
            agent,
            sender,
            has_credentials,
            oddities,
            odd_part,
            attacks,
            parameters,
            status,
            ..
        } = request;
        let is_here = oddities.contains(&Oddity::Proxy) && self.is_here(request, service);
        let oddities: Vec<_> =
            oddities.iter().copied().filter(|oddity| !(is_here && *oddity == Oddity::Proxy)).collect();
        let is_ignored = self.settings.ignore.has(path);
        let parameters: Vec<_> = if is_here || is_ignored {
            Vec::new()
        } else {
            parameters.iter().map(|name| self.salt.hash_one(name)).collect()
        };
        let lists = &self.settings.lists;
        // A long path that is cut counts as a new path each time, since anything may follow it: `/././` and so on is
        // nothing to a server.
        client.cut += u64::from(*is_cut);
        let hash = (!is_ignored).then(|| self.path(path, is_cut.then_some(client.cut)));
        let asked = Asked {
            path: hash,
            host: host.as_deref().and_then(|host| self.name(host)),
            sensitive: lists.paths.entry(path).map(|entry| match entry.sensitivity {
                // A target that leaves the directory is not deeper within the site.
                Sensitivity::Deeper if oddities.contains(&Oddity::Traversal) => {
                    Entry { sensitivity: Sensitivity::Nowhere, ..entry }
                }
                _ => entry,
            }),
            tool: agent.as_deref().and_then(|agent| lists.agents.tool(agent)),
            sender: *sender,
            agent: self.salt.hash_one(agent) as u8,
            oddities: &oddities,
            odd_part: self.salt.hash_one(odd_part),
            attacks: *attacks,
            parameters: &parameters,
            address: match service {
                Service::Endpoint { ip, .. } => Some(self.salt.hash_one(ip) as u32),
                Service::Log => None,
            },
        };
        client.each(|stats| stats.ask(&asked));
        let names_it = !self.settings.redact;
        if names_it && client.wants_example(asked.sensitive.is_some()) {
            client.example(&printable(path), asked.sensitive.is_some());
        }
        let pending = Pending {
            path: hash,
            host: asked.host.map(|(key, _)| key),
            sensitive: asked.sensitive,
            sender: *sender,
            means: Means::of(request),
            base: described(path).map(|file| self.path(file, None)),
            agent: asked.agent,
            odd_part: asked.odd_part,
            address: asked.address,
            has_credentials: *has_credentials,
            is_proxied: oddities.contains(&Oddity::Proxy),
            example: (names_it
                && !is_ignored
                && client.pending.len() < MAX_EXAMPLES
                && client.wants_example(true))
            .then(|| printable(path)),
        };
        match (status, client_port) {
            (Some(status), _) => return self.settle(client, *status, Some(pending)),
            (None, Some(port)) => client.wait(port, pending),
            (None, None) => {}
        }
        None
    }

    fn hello(&self, client: &mut Client, hello: &Hello) {
        let Hello { server_name, ja4 } = hello;
        let greeted = Greeted {
            name: server_name.as_deref().and_then(|name| self.name(name)),
            ja4: ja4.as_deref().map(|ja4| (self.salt.hash_one(ja4), ja4)),
            tool: ja4.as_deref().and_then(|ja4| self.settings.lists.ja4.tool(ja4)),
        };
        client.each(|stats| stats.greet(&greeted));
    }

    fn greeting(&self, client: &mut Client, said: &Greeting, service: &Service, client_port: Option<u16>) {
        let Greeting { language, manner, tried, client: software } = said;
        let is_foreign = match service {
            Service::Endpoint { port, protocol, .. } => greeting::is_foreign(*language, *protocol, *port),
            Service::Log => false,
        };
        let software = software.as_deref();
        let opened = Opened {
            language: *language,
            manner: *manner,
            is_foreign,
            tried: tried.as_ref().map(|(kind, tried)| (*kind, self.salt.hash_one(tried))),
            software: software.map(|name| self.salt.hash_one(name)),
            tool: software.and_then(|name| self.settings.lists.clients.tool(name)),
            port: self.salt.hash_one(client_port),
        };
        client.each(|stats| stats.open(&opened));
    }

    fn query(&self, client: &mut Client, query: &Query) {
        let Query { name, kind, class } = query;
        let asked_kind = match (*class, *kind) {
            (CHAOS, _) if VERSIONS.contains(&name.as_str()) => QueryKind::Version,
            (_, ANY) => QueryKind::Any,
            _ => QueryKind::Name,
        };
        if matches!(*kind, AXFR | IXFR) {
            client.transfer = Some(self.salt.hash_one(name.as_str()));
        }
        let of_zone = (*class != CHAOS).then(|| self.name(name)).flatten();
        client.each(|stats| stats.query(asked_kind, of_zone));
        if !self.settings.redact && client.wants_example(asked_kind != QueryKind::Name) {
            client.example(&printable(name), asked_kind != QueryKind::Name);
        }
    }

    fn answer(&self, client: &mut Client, answer: &Answer) {
        let Answer { code, name, zone, is_listing } = answer;
        let answered = Answered {
            code: *code,
            name: names::key(name, self.salt)
                .filter(|_| !reverse::is_of_neighbour(name, self.source.to_ip())),
            denial: names::denial(name, zone.as_deref()),
            is_listing: *is_listing,
        };
        client.each(|stats| stats.answer(&answered));
        if client.transfer.is_some_and(|asked| asked == self.salt.hash_one(name.as_str())) {
            client.transfer = None;
            if *code != NOERROR {
                client.each(ContentStats::refuse_transfer);
            }
        }
    }
}

#[cfg(test)]
mod tests;
