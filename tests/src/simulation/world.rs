//! Everybody outside: background radiation, clients, scanners, and an outage. Pure: chance has a seed, time is passed in.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
    time::Duration,
};

use fastrand::Rng;
use scanguard::observe::seen::{Item, Met, Seen};
use scanguard_common::{
    outcome::{ProbeClass, Service},
    wire::protocol,
};

/// Sources that a host sees in a minute in the quiet of the Internet.
pub const NOISE_A_MINUTE: f64 = 10.0;
/// How many of ten of these are scanners of the whole Internet, which come to every host in time.
const WORLDWIDE_OF_TEN: u32 = 3;
/// How many scanners of the whole Internet there are.
const WORLDWIDE: u32 = 200;
/// From where they come.
const FROM_WORLDWIDE: u32 = 0xc710_0000;
/// How many clients ask for many hosts.
const CRAWLERS: u32 = 50;
/// Clients that come for the first time while the service is out.
const NEWCOMERS: u32 = 500;
/// So many hosts a newcomer asks.
const ASKED_BY_NEWCOMERS: usize = 12;
/// How many sources a campaign has at most, and how many hosts each asks.
const CAMPAIGN: usize = 40;
const OF_CAMPAIGN: usize = 6;
/// What they ask for.
const DIVIDED: u16 = 7_547;
/// Where no host has a service.
const CLOSED: u16 = 2_323;
/// The service that is out for a while.
pub const WEB: u16 = 443;
const SSH: u16 = 22;
/// What background radiation asks for, by far most often.
const USUAL: [u16; 12] = [23, 22, 445, 80, 443, 3_389, 8_080, 5_900, 6_379, 1_433, 2_222, 8_443];

/// A host of the fleet.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its address.
    pub address: Ipv4Addr,
    services: Vec<u16>,
    /// An address that is routed to it, where nobody is.
    dark: Option<Ipv4Addr>,
}

/// A kind of scanner that is to be found.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Asks each host once for a service that none has.
    Once,
    /// Asks each host once for one that a quarter of them has; a fifth has dark addresses, where it asks, too.
    Ssh,
    /// As [`Self::Ssh`], and asks at no dark address.
    SshOfHosts,
    /// Asks each host for another service.
    Divided,
    /// As [`Self::Once`]; three hosts found it by themselves, on evidence that nobody can forge.
    Proven,
    /// Forty, of which each asks six hosts that no other asks.
    Campaign,
}

impl Kind {
    /// All.
    pub const ALL: [Self; 6] =
        [Self::Once, Self::Ssh, Self::SshOfHosts, Self::Divided, Self::Proven, Self::Campaign];

    /// In words.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Once => "asks each host once for a service that none has",
            Self::Ssh => "asks each host once for SSH, which a quarter has; a fifth has a dark address",
            Self::SshOfHosts => "the same, at no dark address",
            Self::Divided => "asks each host for another port",
            Self::Campaign => "sources that divide the hosts, six for each",
            Self::Proven => "as the first; three hosts found it by themselves, with proof",
        }
    }

    /// Whether the rules are made to find it.
    pub const fn is_found(self) -> bool {
        !matches!(self, Self::SshOfHosts)
    }
}

/// A scanner.
#[derive(Clone, Debug)]
pub struct Scanner {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its kind.
    pub kind: Kind,
    start: Duration,
    order: Vec<u32>,
    asked: usize,
    a_second: f64,
}

/// Something that a host sees.
#[derive(Clone, Debug)]
pub struct Event {
    /// The number of the host.
    pub host: u32,
    /// What it sees.
    pub seen: Seen,
    /// Whether a rule of this host has proof.
    pub proven: bool,
}

/// Who a source is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Who {
    /// A scanner of ours.
    Scanner(Kind),
    /// A scanner of the whole Internet that came to so many hosts.
    Worldwide(usize),
    /// A bot of the background that came to so many.
    Noise(usize),
    /// A client.
    Client,
}

struct Client {
    address: Ipv4Addr,
    hosts: Vec<u32>,
}

/// All of it.
pub struct World {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The scanners.
    pub scanners: Vec<Scanner>,
    clients: Vec<Client>,
    rng: Rng,
    noise: u32,
    due: f64,
    asked: HashMap<Ipv4Addr, HashSet<u32>>,
}

fn address(base: u32, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(base + number)
}

impl World {
    /// Hosts and clients, always the same ones.
    pub fn new(hosts: u32, clients: u32) -> Self {
        let mut rng = Rng::with_seed(20);
        let all = hosts;
        let hosts: Vec<_> = (0..hosts)
            .map(|number| {
                let mut services = Vec::new();
                for (port, of_twenty) in [(WEB, 14), (80, 12), (SSH, 5), (25, 2), (8_443, 1)] {
                    if rng.u32(0..20) < of_twenty {
                        services.push(port);
                    }
                }
                let dark = (number % 5 == 3).then(|| address(0x6480_0000, number));
                Host { address: address(0x6440_0000, number), services, dark }
            })
            .collect();
        let serving: Vec<u32> =
            (0..all).filter(|host| hosts[*host as usize].services.contains(&WEB)).collect();
        let clients = (0..clients)
            .map(|number| {
                let count = if number < CRAWLERS { 100 } else { 1 + rng.usize(0..4) * rng.usize(0..4) };
                let hosts = (0..count).map(|_| serving[rng.usize(0..serving.len())]).collect();
                Client { address: address(0x5000_0000, number * 97), hosts }
            })
            .collect();
        let (scanners, asked) = (Vec::new(), HashMap::new());
        Self { hosts, scanners, clients, rng, noise: 0, due: 0.0, asked }
    }

    /// Plans so many scanners of each kind, evenly over a time; each takes `takes` to ask all hosts.
    pub fn plan_scanners(&mut self, of_each: u32, from: Duration, over: Duration, takes: Duration) {
        let alone = Kind::ALL.len() - 1;
        let kinds = Kind::ALL[..alone].iter().cycle().take(alone * of_each as usize);
        let all = alone as u32 * of_each;
        for (number, kind) in (0u32..).zip(kinds) {
            let mut order: Vec<u32> = (0..self.hosts.len() as u32).collect();
            self.rng.shuffle(&mut order);
            self.scanners.push(Scanner {
                address: address(0xc612_0000, number * 131),
                kind: *kind,
                start: from + over * number / all,
                a_second: f64::from(order.len() as u32) / takes.as_secs_f64(),
                order,
                asked: 0,
            });
        }
        let mut order: Vec<u32> = (0..self.hosts.len() as u32).collect();
        self.rng.shuffle(&mut order);
        for (number, order) in (0u32..).zip(order.chunks_exact(OF_CAMPAIGN)).take(CAMPAIGN) {
            self.scanners.push(Scanner {
                address: address(0xc613_0000, number * 131),
                kind: Kind::Campaign,
                start: from,
                a_second: OF_CAMPAIGN as f64 / takes.as_secs_f64(),
                order: order.to_vec(),
                asked: 0,
            });
        }
    }

    /// Who has this address.
    pub fn who(&self, address: Ipv4Addr) -> Who {
        if let Some(scanner) = self.scanners.iter().find(|scanner| scanner.address == address) {
            return Who::Scanner(scanner.kind);
        }
        match self.asked.get(&address) {
            Some(hosts) if u32::from(address) >= FROM_WORLDWIDE => Who::Worldwide(hosts.len()),
            Some(hosts) => Who::Noise(hosts.len()),
            None => Who::Client,
        }
    }

    /// How many of the background asked so many hosts.
    pub fn worldwide(&self, at_least: usize) -> usize {
        self.asked.values().filter(|hosts| hosts.len() >= at_least).count()
    }

    fn ask(&self, source: Ipv4Addr, host: u32, port: u16, dark: bool, out: Option<Met>) -> Event {
        let Host { address, services, dark: empty } = &self.hosts[host as usize];
        let item = |host: Ipv4Addr, met| Item {
            host: host.into(),
            service: Service { protocol: protocol::TCP, port },
            met,
        };
        let met = match (services.contains(&port), out) {
            (true, None) => Met::Open,
            (true, Some(met)) => met,
            (false, _) => Met::Closed,
        };
        let mut items = vec![item(*address, met)];
        if let (true, Some(empty)) = (dark, empty) {
            items.push(item(*empty, Met::Dark));
        }
        let completed = met == Met::Open;
        let class = Some(ProbeClass::Syn);
        Event { host, seen: Seen { source: source.into(), class, items, completed, tools: 0 }, proven: false }
    }

    /// What clients do when all is well: a part of them, of so many parts.
    pub fn visits(&mut self, part: usize, parts: usize) -> Vec<Event> {
        let mut events = Vec::new();
        for number in (part..self.clients.len()).step_by(parts) {
            let Client { address, hosts } = &self.clients[number];
            events.extend(hosts.iter().map(|host| self.ask(*address, *host, WEB, false, None)));
            // One in fifty mistypes a port.
            if number % 50 == 0 {
                events.push(self.ask(*address, hosts[0], 4_443, false, None));
            }
        }
        events
    }

    /// What clients meet while [`WEB`] is out at all hosts: a part of them, of so many parts. Some come for the first time.
    pub fn visits_in_vain(&mut self, part: usize, parts: usize) -> Vec<Event> {
        let out = |host: u32| Some(if host.is_multiple_of(2) { Met::Closed } else { Met::Filtered });
        let mut events = Vec::new();
        for Client { address, hosts } in self.clients.iter().skip(part).step_by(parts) {
            events.extend(hosts.iter().map(|host| self.ask(*address, *host, WEB, false, out(*host))));
        }
        for number in (part..NEWCOMERS as usize).step_by(parts) {
            let source = address(0x5100_0000, number as u32 * 97);
            for _ in 0..ASKED_BY_NEWCOMERS {
                let crawler = &self.clients[self.rng.usize(0..CRAWLERS as usize)];
                let host = crawler.hosts[self.rng.usize(0..crawler.hosts.len())];
                events.push(self.ask(source, host, WEB, false, out(host)));
            }
        }
        events
    }

    /// The background radiation of a time.
    pub fn radiation(&mut self, within: Duration) -> Vec<Event> {
        self.due += self.hosts.len() as f64 * NOISE_A_MINUTE * within.as_secs_f64() / 60.0;
        let mut events = Vec::new();
        while self.due >= 1.0 {
            self.due -= 1.0;
            events.push(self.noise());
        }
        events
    }

    fn noise(&mut self) -> Event {
        let host = self.rng.u32(0..self.hosts.len() as u32);
        let source = if self.rng.u32(0..10) < WORLDWIDE_OF_TEN {
            address(FROM_WORLDWIDE, self.rng.u32(0..WORLDWIDE) * 257)
        } else {
            // A bot of which the fleet sees one or two probes in a day.
            self.noise += 1;
            address(0x2000_0000, self.noise / 2 * 3)
        };
        let port = if self.rng.u32(0..10) < 8 {
            USUAL[self.rng.usize(0..USUAL.len())]
        } else {
            self.rng.u16(1..32_768)
        };
        self.asked.entry(source).or_default().insert(host);
        self.ask(source, host, port, true, None)
    }

    /// A source that nobody saw before, at any host.
    pub fn stranger(&mut self) -> Event {
        let host = self.rng.u32(0..self.hosts.len() as u32);
        self.noise += 2;
        let source = address(0x2000_0000, self.noise / 2 * 3);
        self.asked.entry(source).or_default().insert(host);
        self.ask(source, host, 23, false, None)
    }

    /// What the scanners do until then, with their numbers and how many hosts each has asked by it.
    pub fn scans(&mut self, until: Duration) -> Vec<(usize, usize, Event)> {
        let mut due = Vec::new();
        for (number, scanner) in self.scanners.iter_mut().enumerate() {
            let going = until.saturating_sub(scanner.start).as_secs_f64();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some probes")]
            let should = ((going * scanner.a_second) as usize).min(scanner.order.len());
            while scanner.asked < should {
                scanner.asked += 1;
                due.push((number, scanner.asked));
            }
        }
        let event = |(number, nth): (usize, usize)| {
            let Scanner { address, kind, order, .. } = &self.scanners[number];
            let host = order[nth - 1];
            let port = match kind {
                Kind::Once | Kind::Proven => CLOSED,
                Kind::Ssh | Kind::SshOfHosts => SSH,
                Kind::Campaign => DIVIDED,
                #[expect(clippy::cast_possible_truncation, reason = "it is less")]
                Kind::Divided => 10_000 + (nth % 20_000) as u16,
            };
            let mut event = self.ask(*address, host, port, *kind == Kind::Ssh, None);
            event.proven = *kind == Kind::Proven && nth <= 3;
            (number, nth, event)
        };
        due.into_iter().map(event).collect()
    }

    /// Whether a scanner has asked all hosts that it wants to.
    pub fn is_done(&self, scanner: usize) -> bool {
        let Scanner { asked, order, .. } = &self.scanners[scanner];
        *asked == order.len()
    }
}
