//! Test driver for content rules. A script lists the content and times; it passes through the detector of live traffic.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use jiff::Timestamp;

pub(crate) use super::testing::NOBODY;
use super::{RuleSet, testing::address};
use crate::{
    clock::Now,
    content::{
        self, Answer, ContentEvent, Hello, Oddity, Proof, Query, Request, Said, Sender, Service,
        attacks::{Attack, Attacks},
        greeting::{Greeting, Language, Manner, Tried},
        salt::Salt,
        target::{Headers, examine},
    },
    detect::{Detector, Rule, findings::Event, settings::Settings},
};

/// The content of a script as a row of a table.
pub(crate) type Script = fn(&mut Play);

/// The content that sources send, second by second.
pub(crate) struct Play {
    pub(crate) detector: Detector,
    second: u64,
    events: Vec<Event>,
    /// The connection of the next request: scanners use ten.
    connection: u16,
}

impl Play {
    pub(crate) fn new(rule: Box<dyn Rule>) -> Self {
        Self::with(RuleSet { content: vec![rule], ..RuleSet::from(Vec::new()) })
    }

    pub(crate) fn all_rules() -> Self {
        Self::with(super::Settings::default().rules())
    }

    fn with(rules: RuleSet) -> Self {
        let mut detector = Detector::new(rules, Settings::default());
        // Of three different things, two have the same bit of 128 once in 43 runs.
        detector.set_salt(Salt(1));
        Self { detector, second: 0, events: Vec::new(), connection: 0 }
    }

    /// Changes the settings of `[content]`.
    pub(crate) fn set_content(&mut self, settings: content::settings::Settings) {
        self.detector.set_content(settings);
    }

    /// Advances the time to this second.
    pub(crate) fn at(&mut self, second: u64) -> &mut Self {
        if second != self.second {
            self.second = second;
            let now = self.now();
            let Self { detector, events, .. } = self;
            detector.tick(now, &mut |event| events.push(event));
        }
        self
    }

    fn now(&self) -> Now {
        let at = Duration::from_secs(self.second + 1);
        Now { at, wall: Timestamp::UNIX_EPOCH + at }
    }

    fn utter(&mut self, source: u8, proof: Proof, service: Service, client_port: Option<u16>, said: Said) {
        let now = self.now();
        let utterance = ContentEvent { source: address(source), service, client_port, proof, said };
        let Self { detector, events, .. } = self;
        detector.hear(&utterance, None, now, &mut |event| events.push(event));
    }

    /// 192.0.2.`source` sends content within a connection.
    pub(crate) fn say(&mut self, source: u8, said: Said) -> &mut Self {
        let connection = Some(40_000 + self.connection);
        self.utter(source, Proof::Connection, endpoint(80, 6), connection, said);
        self
    }

    /// Somebody sends content with its address.
    pub(crate) fn forge(&mut self, source: u8, said: Said) -> &mut Self {
        self.utter(source, Proof::None, endpoint(80, 6), Some(50_000), said);
        self
    }

    /// It sends a request and gets an answer, as captured from the wire.
    pub(crate) fn asked(&mut self, source: u8, said: Said, status: u16) -> &mut Self {
        self.asked_at(source, 1, said, status)
    }

    /// It sends a request to 198.51.100.`host` and gets an answer.
    pub(crate) fn asked_at(&mut self, source: u8, host: u8, said: Said, status: u16) -> &mut Self {
        self.connection = (self.connection + 1) % 10;
        let (port, ip) = (Some(40_000 + self.connection), Ipv4Addr::new(198, 51, 100, host).into());
        for said in [said, Said::Status(status)] {
            let service = Service::Endpoint { ip, port: 80, protocol: 6 };
            self.utter(source, Proof::Connection, service, port, said);
        }
        self
    }

    /// The same, as an access log records it.
    pub(crate) fn logged(&mut self, source: u8, said: Said, status: u16) -> &mut Self {
        let said = match said {
            Said::Request(request) => Said::Request(Request { status: Some(status), ..request }),
            other => other,
        };
        self.utter(source, Proof::Connection, Service::Log, None, said);
        self
    }

    /// A request with this agent.
    pub(crate) fn by(&mut self, agent: &str, source: u8, said: Said) -> &mut Self {
        match said {
            Said::Request(request) => {
                self.say(source, Said::Request(Request { agent: Some(agent.to_owned()), ..request }))
            }
            other => self.say(source, other),
        }
    }

    /// It queries a name by DNS over UDP.
    pub(crate) fn asked_for(&mut self, source: u8, name: &str, kind: u16, class: u16) -> &mut Self {
        let query = Query { name: name.to_owned(), kind, class };
        self.utter(source, Proof::None, endpoint(53, 17), Some(40_000), Said::Query(query));
        self
    }

    /// The same with an answer.
    pub(crate) fn looked_up(&mut self, source: u8, name: &str, kind: u16, code: u16) -> &mut Self {
        self.answered(source, kind, Answer { code, name: name.to_owned(), ..Answer::default() })
    }

    /// A query and its answer.
    pub(crate) fn answered(&mut self, source: u8, kind: u16, answer: Answer) -> &mut Self {
        self.asked_for(source, &answer.name, kind, 1);
        self.utter(source, Proof::None, endpoint(53, 17), Some(40_000), Said::Answer(answer));
        self
    }

    /// It says first words to a service: transport and port. Those over TCP are proven.
    pub(crate) fn greets(&mut self, source: u8, to: (u8, u16), from_port: u16, said: Said) -> &mut Self {
        let (transport, port) = to;
        let proof = if transport == 6 { Proof::Connection } else { Proof::None };
        self.utter(source, proof, endpoint(port, transport), Some(from_port), said);
        self
    }

    /// A browser opens this many pages of a site. Each page has pictures, and some of them are missing.
    pub(crate) fn browse(&mut self, source: u8, pages: u64) {
        for page in 0..pages {
            self.at(page * 10);
            self.say(source, hello("www.example.org", Some("t13d1516h2_8daaf6152771_b186095e22b6")));
            self.asked(source, to("www.example.org", &format!("/page{page}")), 200);
            for picture in 0..10 {
                let status = if picture == 7 { 404 } else { 200 };
                self.asked(source, from_link(&format!("/{page}/{picture}.jpg")), status);
            }
        }
        self.asked(source, get("/favicon.ico"), 404);
    }

    /// All events so far.
    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }
}

fn endpoint(port: u16, protocol: u8) -> Service {
    Service::Endpoint { ip: Ipv4Addr::new(198, 51, 100, 1).into(), port, protocol }
}

/// The answer that a zone has no such name.
pub(crate) fn denied(name: &str, zone: &str) -> Answer {
    Answer { code: 3, name: name.to_owned(), zone: Some(zone.to_owned()), is_listing: false }
}

/// The answer that a name exists.
pub(crate) fn exists(name: &str) -> Answer {
    Answer { name: name.to_owned(), ..Answer::default() }
}

/// The answer that a blocklist lists a name.
pub(crate) fn listed(name: &str) -> Answer {
    Answer { is_listing: true, ..exists(name) }
}

/// A request for a path.
pub(crate) fn get(path: &str) -> Said {
    Said::Request(Request { method: "GET".to_owned(), path: path.to_owned(), ..Request::default() })
}

fn with(said: Said, change: impl FnOnce(&mut Request)) -> Said {
    match said {
        Said::Request(mut request) => {
            change(&mut request);
            Said::Request(request)
        }
        other => other,
    }
}

/// A request by a link on a page of the same site.
pub(crate) fn from_link(path: &str) -> Said {
    sent_by(Sender::OwnPage, get(path))
}

/// A request that a page sent.
pub(crate) fn sent_by(sender: Sender, said: Said) -> Said {
    with(said, |request| request.sender = sender)
}

/// A request by another method.
pub(crate) fn by_method(method: &str, path: &str) -> Said {
    with(get(path), |request| request.method = method.to_owned())
}

/// A request with credentials.
pub(crate) fn with_credentials(path: &str) -> Said {
    with(get(path), |request| request.has_credentials = true)
}

/// A request to a virtual host.
pub(crate) fn to(host: &str, path: &str) -> Said {
    with(get(path), |request| request.host = Some(host.to_owned()))
}

/// A request with content that no browser writes.
pub(crate) fn odd(path: &str, oddity: Oddity) -> Said {
    with(get(path), |request| {
        request.oddities.push(oddity);
        request.odd_part = path.bytes().fold(0, |hash, byte| hash * 31 % 0xffff_ffff + u64::from(byte));
    })
}

/// A request with an attack of this kind.
pub(crate) fn attacking(path: &str, attack: Attack) -> Said {
    let oddity = match attack {
        Attack::Traversal => Oddity::Traversal,
        Attack::Jndi => Oddity::Jndi,
        Attack::Sql | Attack::Script | Attack::Command => Oddity::Injection,
    };
    with(odd(path, oddity), |request| request.attacks = Attacks::of([attack]))
}

/// A request with these parameters.
pub(crate) fn queried(path: &str, query: &str) -> Said {
    Said::Request(examine("GET", &format!("{path}?{query}"), &Headers::default()))
}

/// A request in absolute form, as to a proxy.
pub(crate) fn absolute(host: &str, port: u16, path: &str) -> Said {
    with(odd(path, Oddity::Proxy), |request| {
        request.odd_part += u64::from(port);
        (request.host, request.target_port) = (Some(host.to_owned()), Some(port));
    })
}

/// A ClientHello.
pub(crate) fn hello(name: &str, ja4: Option<&str>) -> Said {
    Said::Hello(Hello { server_name: Some(name.to_owned()), ja4: ja4.map(str::to_owned) })
}

/// First words in this protocol.
pub(crate) fn greeting(language: Language, manner: Manner) -> Said {
    Said::Greeting(Greeting { language, manner, tried: None, client: None })
}

/// First words that try something.
pub(crate) fn tried(language: Language, kind: Tried, text: &str) -> Said {
    let tried = Some((kind, text.as_bytes().to_vec()));
    Said::Greeting(Greeting { language, manner: Manner::Ordinary, tried, client: None })
}

/// The algorithms that a client of SSH offers.
pub(crate) fn algorithms(text: &str) -> Said {
    tried(Language::Ssh, Tried::Algorithms, text)
}

/// First words with the name of the software.
pub(crate) fn named(language: Language, client: &str) -> Said {
    let client = Some(client.to_owned());
    Said::Greeting(Greeting { language, manner: Manner::Ordinary, tried: None, client })
}

/// The sources (their last byte) that a rule found.
pub(crate) fn found(rule: Box<dyn Rule>, script: impl FnOnce(&mut Play)) -> Vec<u8> {
    let mut play = Play::new(rule);
    script(&mut play);
    let last = |event: &Event| match event.finding.source.to_ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    };
    play.events().iter().map(last).collect::<BTreeSet<_>>().into_iter().collect()
}
