//! What each source said lately. Bounded: of too many sources those are forgotten that count least.
//!
//! A window of content is answered by two [`ContentStats`], the second begun half a window after the first. All that is said goes
//! into both; the first is what rules see, and at the end of its window the second takes its place. So a rule sees
//! at least half a window, and never more than one, without anything being added up.
//!
//! What was said within a connection is kept apart from what anybody could have written: nobody is blamed for packets in his name
//! together with his own requests.

use std::{collections::HashMap, hash::BuildHasher as _, time::Duration};

use scanguard_common::address::Address;

use super::{
    ContentEvent, Hello, Oddity, Proof, Query, Request, Said,
    lists::Sensitivity,
    names,
    salt::Salt,
    settings::Settings,
    stats::{Asked, ContentStats, Greeted, MAX_EXAMPLES, NOERROR, Pending, QueryKind, Verdict},
    text::printable,
};

/// Requests of one source that wait for their answer at most: more connections than scanners and browsers open at once.
const MAX_PENDING: usize = 64;

/// DNS: the class in which servers are asked about themselves, and the types that ask for much (RFC 1035, 3.2).
const CHAOS: u16 = 3;
const ANY: u16 = 255;
const AXFR: u16 = 252;
/// What has changed in a zone since (RFC 1995).
const IXFR: u16 = 251;
/// Names of the class CHAOS that ask for the version. Others (hostname.bind, id.server: RFC 4892) are asked by those who
/// measure networks.
const VERSIONS: [&str; 3] = ["version.bind", "version.server", "authors.bind"];

/// One source.
struct Client {
    older: ContentStats,
    younger: Option<Box<ContentStats>>,
    /// By the client's port: the request that waits for its answer. Without pipelining there is one for each connection;
    /// a second one means that the answer to the first was not seen.
    pending: Vec<(u16, Pending)>,
    /// The name of which a zone transfer was asked for last.
    transfer: Option<u64>,
    /// Requests whose path was cut.
    cut: u64,
}

impl Client {
    fn new(at: Duration) -> Self {
        Self { older: ContentStats::new(at), younger: None, pending: Vec::new(), transfer: None, cut: 0 }
    }

    /// Lets go what is older than the window.
    fn turn(&mut self, at: Duration, window: Duration) {
        let age = |heard: &ContentStats| at.saturating_sub(heard.since);
        if age(&self.older) >= window {
            self.older = self
                .younger
                .take()
                .filter(|heard| age(heard) < window)
                .map_or_else(|| ContentStats::new(at), |heard| *heard);
        }
        if self.younger.is_none() && age(&self.older) >= window / 2 {
            self.younger = Some(Box::new(ContentStats::new(at)));
        }
    }

    fn each(&mut self, mut add: impl FnMut(&mut ContentStats)) {
        add(&mut self.older);
        self.younger.as_deref_mut().into_iter().for_each(add);
    }

    /// Forgets what names anything.
    fn redact(&mut self) {
        self.each(ContentStats::redact);
        self.pending.iter_mut().for_each(|(_, request)| request.example = None);
    }

    fn wants_example(&self, tells: bool) -> bool {
        self.older.wants_example(tells)
            || self.younger.as_deref().is_some_and(|heard| heard.wants_example(tells))
    }

    fn example(&mut self, text: &str, tells: bool) {
        self.each(|heard| heard.add_example(text, tells));
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

    /// Whether something on a connection is still the body of what was asked there.
    fn is_uploading(&self, port: Option<u16>) -> bool {
        self.pending.iter().any(|(one, request)| Some(*one) == port && request.is_open)
    }

    fn settle(&mut self, status: u16, request: Option<&Pending>) {
        let verdict = match request {
            Some(Pending { path: None, .. }) => Verdict::Moot,
            Some(_) | None => Verdict::of(status),
        };
        self.each(|heard| heard.settle(verdict, request));
        let example = request.and_then(|request| request.example.as_deref());
        if let (Verdict::Missed, Some(example)) = (verdict, example) {
            self.example(example, true);
        }
    }
}

/// All sources.
pub struct ContentTracker {
    settings: Settings,
    salt: Salt,
    by_source: HashMap<(Address, Proof), Client>,
    evictions: u64,
    swept: Duration,
    /// Whether answers are seen on the wire: only then is it known that a request has none yet.
    sees_answers: bool,
}

impl Default for ContentTracker {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            salt: Salt::default(),
            by_source: HashMap::new(),
            evictions: 0,
            swept: Duration::ZERO,
            sees_answers: false,
        }
    }
}

impl ContentTracker {
    /// Hashes with this from now on: before anything was said.
    pub fn set_salt(&mut self, salt: Salt) {
        self.salt = salt;
    }

    /// Takes other settings. What was said so far stays, but for what may no longer be named.
    pub fn reconfigure(&mut self, settings: Settings) {
        if settings.redact {
            self.by_source.values_mut().for_each(Client::redact);
        }
        self.settings = settings;
    }

    /// What a source said, as far as that is remembered, and how it is known.
    pub fn of(&self, source: &Address, proof: Proof) -> Option<&ContentStats> {
        self.by_source.get(&(*source, proof)).map(|visitor| &visitor.older)
    }

    /// Takes what was said; gives all that its source said lately, this included.
    pub fn hear(&mut self, event: &ContentEvent, at: Duration) -> &ContentStats {
        let ContentEvent { source, client_port, proof, said, .. } = event;
        let key = (*source, *proof);
        if self.by_source.len() >= self.settings.max_visitors as usize && !self.by_source.contains_key(&key) {
            self.evict();
        }
        self.sees_answers |= matches!(said, Said::Status(_));
        let Self { settings, salt, by_source, sees_answers, .. } = self;
        let visitor = by_source.entry(key).or_insert_with(|| Client::new(at));
        visitor.turn(at, settings.window);
        visitor.each(|heard| heard.last = at);
        let listener = Listener { settings, salt };
        match said {
            // A line of what is uploaded, at the beginning of a segment.
            Said::Request(_) if *sees_answers && visitor.is_uploading(*client_port) => {}
            Said::Request(request) => listener.request(visitor, request, *client_port),
            Said::Status(status) => {
                let place =
                    visitor.pending.iter().position(|(port, _)| *port == client_port.unwrap_or_default());
                let request = place.map(|place| visitor.pending.swap_remove(place).1);
                visitor.settle(*status, request.as_ref());
            }
            Said::Hello(hello) => listener.hello(visitor, hello),
            Said::Query(query) => listener.query(visitor, query),
            Said::Answer { code, name } => listener.answer(visitor, *code, name),
            Said::Junk(junk) => visitor.each(|heard| heard.count_malformed(*junk)),
        }
        &visitor.older
    }

    /// Forgets what a source said: it was told.
    pub fn forget(&mut self, source: &Address) {
        for proof in [Proof::Connection, Proof::None] {
            self.by_source.remove(&(*source, proof));
        }
    }

    /// Forgets who has been quiet for a window.
    pub fn expire(&mut self, at: Duration) {
        let window = self.settings.window;
        if at.saturating_sub(self.swept) < window / 16 {
            return;
        }
        self.swept = at;
        self.by_source.retain(|_, visitor| at.saturating_sub(visitor.older.last) < window);
    }

    /// Forgets one in sixteen: first those whose addresses may be forged, then those that said one thing, then those that were
    /// quiet longest. So nobody is pushed out by packets from everywhere.
    fn evict(&mut self) {
        let rank = |(key, visitor): (&(Address, Proof), &Client)| {
            (key.1, visitor.older.said.min(2), visitor.older.last, *key)
        };
        let mut ranks: Vec<_> = self.by_source.iter().map(rank).collect();
        // A reload may have lowered the cap.
        let cap = self.settings.max_visitors as usize;
        let excess = (ranks.len() + 1).saturating_sub(cap - cap / 16).clamp(1, ranks.len());
        ranks.select_nth_unstable(excess - 1);
        for (.., key) in ranks.into_iter().take(excess) {
            self.by_source.remove(&key);
        }
        self.evictions += excess as u64;
    }

    /// Sources of which something is remembered; one that said something in both ways counts twice.
    pub fn len(&self) -> usize {
        self.by_source.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.by_source.is_empty()
    }

    /// Sources that were forgotten because there were too many.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }
}

/// Digests what is said.
struct Listener<'v> {
    settings: &'v Settings,
    salt: &'v Salt,
}

impl Listener<'_> {
    fn name<'u>(&self, name: &'u str) -> Option<(names::Key, Option<&'u str>)> {
        Some((names::key(name, self.salt)?, (!self.settings.redact).then_some(name)))
    }

    fn request(&self, visitor: &mut Client, request: &Request, client_port: Option<u16>) {
        let Request { path, is_cut, is_open, host, agent, referer, oddities, status, method: _ } = request;
        let lists = &self.settings.lists;
        // What may be behind a long beginning is another path each time: `/././` and so on is the same as nothing to a server.
        visitor.cut += u64::from(*is_cut);
        let is_ignored = self.settings.ignore.has(path);
        let hash = (!is_ignored).then(|| self.salt.hash_one((path.as_str(), is_cut.then_some(visitor.cut))));
        let asked = Asked {
            path: hash,
            host: host.as_deref().and_then(|host| self.name(host)),
            sensitivity: lists.paths.sensitivity(path).map(|sensitivity| match sensitivity {
                // Who was sent by a page does not know what he asks for: any page may have it for a picture.
                _ if referer.is_some() => Sensitivity::Somewhere,
                // What is asked for by a way out of the directory is not deeper within the site.
                Sensitivity::Deeper if oddities.contains(&Oddity::Traversal) => Sensitivity::Nowhere,
                other => other,
            }),
            tool: agent.as_deref().and_then(|agent| lists.agents.tool(agent)),
            is_referred: referer.is_some(),
            oddities,
        };
        visitor.each(|heard| heard.ask(&asked));
        let names_it = !self.settings.redact;
        if names_it && visitor.wants_example(asked.sensitivity.is_some()) {
            visitor.example(&printable(path), asked.sensitivity.is_some());
        }
        let pending = Pending {
            path: hash,
            host: asked.host.map(|(key, _)| key),
            sensitivity: asked.sensitivity,
            is_open: *is_open,
            is_proxied: oddities.contains(&Oddity::Proxy),
            example: (names_it
                && !is_ignored
                && visitor.pending.len() < MAX_EXAMPLES
                && visitor.wants_example(true))
            .then(|| printable(path)),
        };
        match (status, client_port) {
            (Some(status), _) => visitor.settle(*status, Some(&pending)),
            (None, Some(port)) => visitor.wait(port, pending),
            (None, None) => {}
        }
    }

    fn hello(&self, visitor: &mut Client, hello: &Hello) {
        let Hello { server_name, ja4 } = hello;
        let greeted = Greeted {
            name: server_name.as_deref().and_then(|name| self.name(name)),
            ja4: ja4.as_deref().map(|ja4| (self.salt.hash_one(ja4), ja4)),
            tool: ja4.as_deref().and_then(|ja4| self.settings.lists.ja4.tool(ja4)),
        };
        visitor.each(|heard| heard.greet(&greeted));
    }

    fn query(&self, visitor: &mut Client, query: &Query) {
        let Query { name, kind, class } = query;
        let wish = match (*class, *kind) {
            (CHAOS, _) if VERSIONS.contains(&name.as_str()) => QueryKind::Version,
            (_, ANY) => QueryKind::Any,
            _ => QueryKind::Name,
        };
        if matches!(*kind, AXFR | IXFR) {
            visitor.transfer = Some(self.salt.hash_one(name.as_str()));
        }
        let of_zone = (*class != CHAOS).then(|| self.name(name)).flatten();
        visitor.each(|heard| heard.query(wish, of_zone));
        if !self.settings.redact && visitor.wants_example(wish != QueryKind::Name) {
            visitor.example(&printable(name), wish != QueryKind::Name);
        }
    }

    fn answer(&self, visitor: &mut Client, code: u16, name: &str) {
        let key = names::key(name, self.salt);
        visitor.each(|heard| heard.answer(code, key));
        if visitor.transfer.is_some_and(|asked| asked == self.salt.hash_one(name)) {
            visitor.transfer = None;
            if code != NOERROR {
                visitor.each(ContentStats::refuse_transfer);
            }
        }
    }
}

#[cfg(test)]
mod tests;
