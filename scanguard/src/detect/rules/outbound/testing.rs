//! Test driver for rules about what leaves: a script of attempts and of what came of them.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use ipnet::IpNet;
use jiff::Timestamp;
use scanguard_common::{
    actor::{self, Key, Kind},
    oracle::Reach,
    outcome::{Answer, Flow, ProbeClass, Service},
};

use crate::{
    clock::Now,
    detect::{Detector, Rule, findings::Event, settings::Settings},
    observe::{self, Observer},
    outbound::{
        baseline::News,
        identity::testing::Draft,
        settings::Allow,
        special::{leads_nowhere, nowhere},
        table::Serves,
    },
    pipeline::Pipeline,
    sensor::{self, Feed as _, software::SoftwareSensor},
};

/// A program, as [`Draft::actor`] names it.
pub(crate) const PROGRAM: Key = Key::of_program(Kind::Program, 42, 0, 7);
/// The same as one that makes packets itself.
pub(crate) const CRAFTER: Key = Key::of_program(Kind::Crafter, 42, 0, 7);
/// Its control group.
pub(crate) const GROUP: Key = Key::of_group(42);
/// No actor.
pub(crate) const NOBODY: [Key; 0] = [];

/// Collects attempts for a second and evaluates them at its end, as the agent's poll does.
pub(crate) struct OutScript {
    sensor: SoftwareSensor,
    pub(crate) pipeline: Pipeline,
    second: u64,
    last: Option<Flow>,
    news: News,
    events: Vec<Event>,
    /// The networks that are known here.
    near: Vec<IpNet>,
    serves: Vec<Serves>,
}

impl OutScript {
    pub(crate) fn new(rules: Vec<Box<dyn Rule>>) -> Self {
        let observer = Observer::new(observe::settings::Settings::default());
        // Actors are no addresses with prefixes.
        let settings = sensor::settings::Settings { ipv6_prefix: 128, ..Default::default() };
        let mut sensor = SoftwareSensor::new(&settings, 99).of_actors();
        sensor.set_sees_leaving(true).expect("there is no kernel to fail");
        Self {
            sensor,
            pipeline: Pipeline::new(observer, Detector::of_actors(rules, Settings::default())),
            second: 0,
            last: None,
            news: News::default(),
            events: Vec::new(),
            near: Vec::new(),
            serves: Vec::new(),
        }
    }

    /// All rules with their defaults.
    pub(crate) fn all_rules() -> Self {
        Self::new(crate::detect::rules::Settings::default().outbound())
    }

    /// Advances the time to this second.
    pub(crate) fn at(&mut self, second: u64) -> &mut Self {
        if second != self.second {
            self.poll();
            // All polls of a quiet time are alike. One comes when no answer can come any more.
            for at in [self.second + 4, second.saturating_sub(1)] {
                if at > self.second && at < second {
                    self.second = at;
                    self.poll();
                }
            }
            self.second = second;
        }
        self
    }

    /// Whether learning is over.
    pub(crate) fn learned(&mut self, learned: bool) -> &mut Self {
        self.news.learned = learned;
        self
    }

    /// The actors were known before.
    pub(crate) fn usual(&mut self) -> &mut Self {
        self.news.usual = true;
        self
    }

    /// Programs and their control groups serve a port, and so many networks called there.
    pub(crate) fn serves(&mut self, port: u16, networks: u64) -> &mut Self {
        self.serves = vec![Serves { port, networks }];
        self
    }

    /// An actor is this process.
    pub(crate) fn is(&mut self, actor: Key, draft: &Draft, news: News) -> &mut Self {
        let actor = crate::outbound::Actor { key: actor, ..draft.actor(actor.kind) };
        let at = self.now().at;
        if let Some(actors) = self.pipeline.detector.actors_mut() {
            let address = actor.key.address();
            actors.see(actor, news, at);
            actors.serves(&address, self.serves.clone());
        }
        self
    }

    /// Nothing is told of these.
    pub(crate) fn allow(&mut self, allow: &Allow) -> &mut Self {
        if let Some(actors) = self.pipeline.detector.actors_mut() {
            actors.set_allow(allow);
        }
        self
    }

    /// A network is known here.
    pub(crate) fn near(&mut self, net: &str) -> &mut Self {
        self.near = vec![net.parse().expect("a network")];
        self
    }

    /// An actor asks for a TCP port of an address of the Internet that is new to it.
    pub(crate) fn ask(&mut self, actor: Key, host: u32, port: u16) -> &mut Self {
        self.ask_at(actor, public(host), port)
    }

    /// The same at any address.
    pub(crate) fn ask_at(&mut self, actor: Key, address: Ipv4Addr, port: u16) -> &mut Self {
        self.probe(actor, ProbeClass::Syn, address, Service { protocol: 6, port })
    }

    /// An actor sends a datagram to a new target.
    pub(crate) fn send(&mut self, actor: Key, host: u32, port: u16) -> &mut Self {
        self.probe(actor, ProbeClass::Udp, public(host), Service { protocol: 17, port })
    }

    /// An actor pings an address.
    pub(crate) fn ping(&mut self, actor: Key, host: u32) -> &mut Self {
        self.probe(actor, ProbeClass::IcmpEcho, public(host), Service { protocol: 1, port: 0 })
    }

    fn probe(&mut self, actor: Key, class: ProbeClass, address: Ipv4Addr, service: Service) -> &mut Self {
        let known = self
            .pipeline
            .detector
            .tracker()
            .actors()
            .is_some_and(|actors| actors.get(&actor.address()).is_some());
        if !known {
            let news = self.news;
            self.is(actor, &Draft::new("/usr/bin/python3", "/system.slice/job.service"), news);
        }
        let flow = actor::attempt(actor.address(), 40_000, IpAddr::V4(address).into(), service);
        self.sensor.probe(class, Reach::Unknown, &flow);
        // As the kernel's program does.
        if class == ProbeClass::Syn
            && leads_nowhere(address.into(), &nowhere(&self.near, actor::MAX_NOWHERE as usize))
        {
            self.sensor.led_nowhere(&flow);
        }
        self.last = Some(flow);
        self
    }

    /// The last attempt was answered.
    pub(crate) fn answered(&mut self) -> &mut Self {
        self.answer(Answer::SynAck)
    }

    /// Nothing was said in the last connection.
    pub(crate) fn silent(&mut self) -> &mut Self {
        if let Some(flow) = &self.last {
            self.sensor.was_silent(flow);
        }
        self
    }

    /// The last attempt was refused.
    pub(crate) fn refused(&mut self) -> &mut Self {
        self.answer(Answer::Reset)
    }

    fn answer(&mut self, answer: Answer) -> &mut Self {
        if let Some(flow) = &self.last {
            if answer == Answer::SynAck && actor::is_login(flow.service.port) {
                self.sensor.logged_in(flow);
            }
            self.sensor.answered(flow, answer);
        }
        self
    }

    /// Something is new about an actor beside what it asked for.
    pub(crate) fn meet(&mut self, actor: Key) -> &mut Self {
        let now = self.now();
        let Self { pipeline: Pipeline { observer, detector, .. }, events, .. } = self;
        detector
            .meet(actor.address(), observer.history(&actor.address()), now, &mut |event| events.push(event));
        self
    }

    fn now(&self) -> Now {
        let at = Duration::from_secs(self.second + 1);
        Now { at, wall: Timestamp::UNIX_EPOCH + at }
    }

    fn poll(&mut self) {
        let now = self.now();
        let Self { sensor, pipeline, events, .. } = self;
        pipeline.poll(sensor, now, &mut |event| events.push(event)).expect("there is no kernel to fail");
    }

    /// All events so far, those of attempts included that nobody answers.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        self.poll();
        self.at(self.second + 5);
        self.poll();
        self.events.clone()
    }
}

/// An address of the Internet.
pub(crate) fn public(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(20, 0, 0, 0).to_bits() + number)
}

/// A private address.
pub(crate) fn private(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + number * 257)
}

/// The actors that a rule told of.
pub(crate) fn found(rule: Box<dyn Rule>, play: impl FnOnce(&mut OutScript)) -> Vec<Key> {
    let mut script = OutScript::new(vec![rule]);
    play(&mut script);
    let mut actors = Vec::new();
    for event in script.events() {
        let key = Key::from_address(event.finding.source);
        if !actors.contains(&key) {
            actors.push(key);
        }
    }
    actors
}

/// The rule under which each finding of all rules ended, with its actor, in the order of their opening. The notices about
/// new programs are left out: nothing is learned in a script.
pub(crate) fn told(play: impl FnOnce(&mut OutScript)) -> Vec<(Key, &'static str)> {
    let mut script = OutScript::all_rules();
    play(&mut script);
    let mut findings: Vec<(String, Key, &'static str)> = Vec::new();
    for event in script.events() {
        match findings.iter_mut().find(|(id, ..)| *id == event.finding.id) {
            Some((.., rule)) => *rule = event.finding.rule,
            None => {
                findings.push((
                    event.finding.id,
                    Key::from_address(event.finding.source),
                    event.finding.rule,
                ));
            }
        }
    }
    findings.into_iter().map(|(_, key, rule)| (key, rule)).collect()
}
