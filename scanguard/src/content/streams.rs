//! Where requests begin in the stream of a connection, and what else lies in it.
//!
//! A sample is taken of every segment that begins like a request, also of a line in the body of an upload. Any page can
//! make the browser of its visitor send such a body. What lies inside a declared body is no request. What may lie in a
//! body is not proven: it is in the account of things that anybody may have written. Only these are certainly requests
//! of the client: the first bytes of a connection, also if a few were sent ahead of them, and what begins exactly where
//! the request before it ended.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use scanguard_common::{address::Address, content::Begins, wire::protocol};

use super::{
    ContentEvent, Proof, Said, Service,
    http::End,
    parse::{Parsed, parse},
    sample::Sample,
};

/// How many connections are remembered in each of four tables: proven and unproven ones, young and old ones.
const MAX_STREAMS: usize = 16_384;
/// After this time, young connections are old, and old ones are forgotten. A connection that says something is young
/// again.
const TURN: Duration = Duration::from_secs(600);
/// The longest body of an unproven connection, whose positions are sequence numbers modulo 2^32. With a longer one, too
/// many segments of a later connection with the same ports would seem to lie in it.
const MAX_UNPROVEN_BODY: u64 = 1 << 26;
/// How far from its beginning a stream of another protocol is recognized on an unproven connection, for the same reason.
const MAX_UNPROVEN_TUNNEL: u64 = 1 << 26;
/// The length of the shortest head that announces a body: `X / HTTP/1.0`, `Content-Length:1` and an empty line. What
/// begins before this position lies in no body.
const SHORTEST_HEAD: u64 = 34;
/// So many answers show that there were several requests: a request with a body has one.
const SEVERAL: u8 = 2;

/// What comes behind the last request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Then {
    /// The next request begins at this position. Before it, there is the body.
    At { next: u64, is_doubtful: bool },
    /// The rest of the head.
    Head,
    /// The next request, wherever it begins: the rest of the head was answered, or the client is no browser.
    Anywhere,
    /// See [`End::Open`].
    Open,
    /// See [`End::Connect`].
    Connect,
    /// Another protocol, up to the end of the connection: the server has agreed to that.
    Other,
}

/// A connection, as far as it is known.
#[derive(Clone, Copy, Debug)]
struct Stream {
    /// The position of the last request.
    begin: u64,
    then: Then,
    /// Whether it is proven that the last request was one.
    proof: Proof,
    /// Answers since the last request.
    answers: u8,
    /// Answers since the first of those requests that followed each other exactly.
    chain: u8,
}

/// What a payload that begins like a request is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// A request that follows the one before it exactly, or the first one.
    Next(Proof),
    /// It may be a request, or lie in a body.
    Doubtful,
    /// It lies in a declared body, or in one that goes on. The server takes it for something else.
    Within {
        /// Whether it is nothing at all.
        is_body: bool,
    },
    /// A copy of the last request.
    Again(Proof),
}

impl Stream {
    /// Where a position lies. Unproven ones are modulo 2^32.
    fn place(&self, position: u64, distance: impl Fn(u64, u64) -> u64, sees_answers: bool) -> Place {
        let ahead = distance(self.begin, position);
        if ahead == 0 {
            return Place::Again(self.proof);
        }
        match self.then {
            Then::At { next, is_doubtful } => match ahead.cmp(&distance(self.begin, next)) {
                std::cmp::Ordering::Less => Place::Within { is_body: !is_doubtful && self.answers < SEVERAL },
                std::cmp::Ordering::Equal if self.chain >= SEVERAL => Place::Next(Proof::Connection),
                std::cmp::Ordering::Equal => Place::Next(self.proof),
                std::cmp::Ordering::Greater => Place::Doubtful,
            },
            Then::Anywhere => Place::Next(self.proof),
            Then::Open | Then::Connect if self.answers == 0 && sees_answers => {
                Place::Within { is_body: true }
            }
            Then::Other if ahead <= MAX_UNPROVEN_TUNNEL || self.proof == Proof::Connection => {
                // A server that goes on to answer speaks HTTP after all.
                Place::Within { is_body: self.answers <= SEVERAL }
            }
            Then::Head | Then::Open | Then::Connect | Then::Other => Place::Doubtful,
        }
    }

    /// An answer to the last request.
    fn answer(&mut self, status: u16) {
        self.answers = self.answers.saturating_add(1);
        self.chain = self.chain.saturating_add(1);
        match (status, self.then) {
            (101, _) | (200..300, Then::Connect) => self.then = Then::Other,
            // Servers give these before the head has ended.
            (400 | 408 | 413 | 414 | 431 | 500.., _) => {}
            (_, Then::Head) => self.then = Then::Anywhere,
            _ => {}
        }
    }
}

/// A connection: the client and its port, and the service.
type Key = (Address, u16, IpAddr, u16);

/// Connections, in bounded memory.
#[derive(Default)]
struct Table {
    young: HashMap<Key, Stream>,
    old: HashMap<Key, Stream>,
    forgotten: u64,
}

impl Table {
    fn get(&self, key: &Key) -> Option<&Stream> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    fn get_mut(&mut self, key: &Key) -> Option<&mut Stream> {
        match self.young.get_mut(key) {
            Some(stream) => Some(stream),
            None => self.old.get_mut(key),
        }
    }

    fn put(&mut self, key: Key, stream: Stream) {
        if self.young.len() >= MAX_STREAMS && !self.young.contains_key(&key) {
            self.forgotten += self.old.len() as u64;
            self.turn();
        }
        self.old.remove(&key);
        self.young.insert(key, stream);
    }

    fn turn(&mut self) {
        self.old = std::mem::take(&mut self.young);
    }
}

/// All connections whose samples were read lately.
#[derive(Default)]
pub struct Streams {
    proven: Table,
    unproven: Table,
    turned: Duration,
    /// Whether answers are seen: only then does a missing answer mean that there is none yet.
    sees_answers: bool,
    bodies: u64,
}

impl Streams {
    /// The messages of a sample: several if requests are pipelined, none if it has no meaning or lies in a body.
    pub fn read<B: AsRef<[u8]>>(&mut self, sample: &Sample<B>, at: Duration) -> Vec<ContentEvent> {
        self.turn(at);
        let Parsed { said, end } = parse(sample);
        let (Service::Endpoint { ip, port, protocol: protocol::TCP }, false) =
            (&sample.service, matches!(sample.begins, Begins::Query | Begins::Answer | Begins::Greeting))
        else {
            let proof = if sample.owned { Proof::Connection } else { Proof::None };
            return events(sample, proof, said);
        };
        let key = (sample.source, sample.client_port, *ip, *port);
        let proof = match sample.begins {
            Begins::Request => self.request(key, sample, end),
            Begins::Hello => self.hello(&key, sample),
            Begins::Status | Begins::Query | Begins::Answer | Begins::Greeting => {
                Some(self.status(&key, sample, &said))
            }
        };
        match proof {
            Some(proof) => events(sample, proof, said),
            None => {
                self.bodies += 1;
                Vec::new()
            }
        }
    }

    /// How many connections were forgotten because there were too many.
    pub fn forgotten(&self) -> u64 {
        self.proven.forgotten + self.unproven.forgotten
    }

    /// How many samples lay in the body of a request.
    pub fn bodies(&self) -> u64 {
        self.bodies
    }

    fn turn(&mut self, at: Duration) {
        if at.saturating_sub(self.turned) >= TURN {
            self.turned = at;
            self.proven.turn();
            self.unproven.turn();
        }
    }

    fn table(&mut self, is_owned: bool) -> &mut Table {
        if is_owned { &mut self.proven } else { &mut self.unproven }
    }

    /// How certain it is that the client sent this request; nothing if it lies in a body.
    fn request<B>(&mut self, key: Key, sample: &Sample<B>, end: End) -> Option<Proof> {
        let is_owned = sample.owned;
        let place = self.place(&key, sample);
        let begin = sample.place.position;
        let (proof, chain) = match place {
            Place::Next(proof) => (proof, self.table(is_owned).get(&key).map_or(0, |stream| stream.chain)),
            Place::Doubtful => (Proof::None, 0),
            Place::Within { is_body } => return (!is_body).then_some(Proof::None),
            Place::Again(proof) => return Some(proof),
        };
        let then = match end {
            End::At { next, .. } if !is_owned && next > MAX_UNPROVEN_BODY => Then::Open,
            End::At { next, is_doubtful } => Then::At { next: begin.wrapping_add(next), is_doubtful },
            End::Head => Then::Head,
            End::Unseen => Then::Anywhere,
            End::Open => Then::Open,
            End::Connect => Then::Connect,
        };
        self.table(is_owned).put(key, Stream { begin, then, proof, answers: 0, chain });
        Some(proof)
    }

    fn place<B>(&mut self, key: &Key, sample: &Sample<B>) -> Place {
        let (is_owned, sees_answers, position) = (sample.owned, self.sees_answers, sample.place.position);
        let was_proven = !is_owned && self.proven.get(key).is_some();
        match (is_owned, self.table(is_owned).get(key)) {
            (true, _) if position < SHORTEST_HEAD => Place::Next(Proof::Connection),
            (true, Some(stream)) => stream.place(position, |from, to| to.wrapping_sub(from), sees_answers),
            (false, Some(stream)) => {
                let distance = |from: u64, to: u64| u64::from((to as u32).wrapping_sub(from as u32));
                match stream.place(position, distance, sees_answers) {
                    Place::Next(_) => Place::Next(Proof::None),
                    other => other,
                }
            }
            // It comes behind the end of a connection: no socket wants it any more, and no server reads it.
            (false, None) if was_proven => Place::Within { is_body: true },
            (_, None) => Place::Doubtful,
        }
    }

    /// A connection over TLS begins with the hello.
    fn hello<B>(&mut self, key: &Key, sample: &Sample<B>) -> Option<Proof> {
        match self.place(key, sample) {
            Place::Next(proof) if sample.place.position == 0 => Some(proof),
            Place::Within { is_body: true } => None,
            _ => Some(Proof::None),
        }
    }

    /// An answer has the proof of its request.
    fn status<B>(&mut self, key: &Key, sample: &Sample<B>, said: &[Said]) -> Proof {
        self.sees_answers = true;
        for said in said {
            if let Said::Status(status) = said {
                for table in [&mut self.proven, &mut self.unproven] {
                    table.get_mut(key).into_iter().for_each(|stream| stream.answer(*status));
                }
            }
        }
        match (self.proven.get(key), self.unproven.get(key)) {
            (Some(stream), _) if sample.owned => stream.proof,
            (None, None) if sample.owned => Proof::Connection,
            _ => Proof::None,
        }
    }
}

fn events<B>(sample: &Sample<B>, proof: Proof, said: Vec<Said>) -> Vec<ContentEvent> {
    let Sample { source, service, client_port, .. } = sample;
    let client_port = Some(*client_port);
    let event = |said| ContentEvent { source: *source, service: service.clone(), client_port, proof, said };
    said.into_iter().map(event).collect()
}

#[cfg(test)]
mod tests;
