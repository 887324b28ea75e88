//! Test driver for rules. A script lists probes and times; they pass through the accounting and history of live
//! traffic.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use jiff::Timestamp;
use scanguard_common::{
    address::Address,
    oracle::Reach,
    outcome::{Answer, Flow, ProbeClass, Service},
    syn::{Fingerprint, Mark},
};

use crate::{
    clock::Now,
    detect::{
        Detector, Rule,
        feeds::Feeds,
        findings::{Event, Finding, Tracker},
        geo::Geo,
        settings::Settings,
    },
    observe::{self, Observer},
    pipeline::Pipeline,
    sensor::{self, Feed as _, software::SoftwareSensor},
};

/// Collects probes for a second and evaluates them at its end, as the agent's poll does.
pub(crate) struct Script {
    sensor: SoftwareSensor,
    pipeline: Pipeline,
    second: u64,
    /// The last service that was met.
    met: Option<Service>,
    /// The last probe.
    asked: Option<Flow>,
    events: Vec<Event>,
}

impl Script {
    pub(crate) fn new(rule: Box<dyn Rule>, settings: Settings) -> Self {
        Self::with(Detector::new(vec![rule], settings))
    }

    /// All rules with their defaults.
    pub(crate) fn all_rules() -> Self {
        let rules = crate::detect::rules::Settings::default().rules();
        Self::with(Detector::new(rules, Settings::default()))
    }

    pub(crate) fn with(detector: Detector) -> Self {
        Self::counting(detector, &sensor::settings::Settings::default())
    }

    /// All rules with their defaults, for IPv6 sources of this length.
    pub(crate) fn of_prefixes(ipv6_prefix: u8) -> Self {
        let detector = Detector::new(crate::detect::rules::Settings::default().rules(), Settings::default());
        Self::counting(detector, &sensor::settings::Settings { ipv6_prefix, ..Default::default() })
    }

    fn counting(mut detector: Detector, settings: &sensor::settings::Settings) -> Self {
        const SALT: u64 = 99;
        let observer = Observer::new(observe::settings::Settings::default());
        let mut sensor = SoftwareSensor::new(settings, SALT);
        detector.set_sketch_salt(SALT);
        sensor.set_sees_leaving(false).expect("there is no kernel to fail");
        Self {
            sensor,
            pipeline: Pipeline::new(observer, detector),
            second: 0,
            met: None,
            asked: None,
            events: Vec::new(),
        }
    }

    /// Advances the time to this second.
    pub(crate) fn at(&mut self, second: u64) -> &mut Self {
        if second != self.second {
            self.poll();
            // All polls of a quiet time are alike, so one is enough.
            if second > self.second + 1 {
                self.second = second - 1;
                self.poll();
            }
            self.second = second;
        }
        self
    }

    /// A SYN from 192.0.2.`source` to 198.51.100.`host`.
    pub(crate) fn syn(&mut self, source: u8, host: u8, port: u16) -> &mut Self {
        self.probe(source, ProbeClass::Syn, host, tcp(port))
    }

    /// A SYN as nmap -sS sends it, with this reach.
    pub(crate) fn crafted(&mut self, source: u8, host: u8, port: u16, reach: Reach) -> &mut Self {
        let nmap = Fingerprint::new(1_024, [2].into_iter(), 1_460, 0, Mark::Ttl64.bit());
        self.sensor.probe_like(ProbeClass::Syn, reach, &flow(source, host, tcp(port)), nmap);
        self
    }

    /// A SYN that meets a listener.
    pub(crate) fn open(&mut self, source: u8, host: u8, port: u16) -> &mut Self {
        self.probe_met(source, ProbeClass::Syn, host, tcp(port), Reach::Open)
    }

    /// A probe of any class to a closed service.
    pub(crate) fn probe(&mut self, source: u8, class: ProbeClass, host: u8, service: Service) -> &mut Self {
        self.probe_met(source, class, host, service, Reach::Closed)
    }

    /// A probe of any class to a closed service, from one of many addresses that are nobody's (RFC 2544).
    pub(crate) fn forged(&mut self, number: u32, class: ProbeClass, service: Service) -> &mut Self {
        let source = Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + number).into();
        self.sensor.probe(class, Reach::Closed, &Flow { source, ..flow(0, 1, service) });
        self
    }

    /// A probe of any class with this reach.
    pub(crate) fn probe_met(
        &mut self,
        source: u8,
        class: ProbeClass,
        host: u8,
        service: Service,
        reach: Reach,
    ) -> &mut Self {
        let flow = flow(source, host, service);
        self.sensor.probe(class, reach, &flow);
        self.asked = Some(flow);
        if reach == Reach::Open {
            self.met = Some(service);
        }
        self
    }

    /// A SYN from 192.0.2.`source` to an address of 10.0.0.0/8, with this reach.
    pub(crate) fn syn_to(&mut self, source: u8, host: u32, port: u16, reach: Reach) -> &mut Self {
        let destination = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + host).into();
        let flow = Flow { destination, ..flow(source, 1, tcp(port)) };
        self.sensor.probe(ProbeClass::Syn, reach, &flow);
        self.asked = Some(flow);
        self
    }

    /// A SYN from any address to a service of 198.51.100.1, with this reach.
    pub(crate) fn syn_from(&mut self, source: Address, port: u16, reach: Reach) -> &mut Self {
        self.probe_from(source, ProbeClass::Syn, port, reach)
    }

    /// A probe from any address to a TCP port of 198.51.100.1, with this reach.
    pub(crate) fn probe_from(
        &mut self,
        source: Address,
        class: ProbeClass,
        port: u16,
        reach: Reach,
    ) -> &mut Self {
        self.sensor.probe(class, reach, &Flow { source, ..flow(0, 1, tcp(port)) });
        self
    }

    /// A connection from any address.
    pub(crate) fn visit_from(&mut self, source: Address) -> &mut Self {
        self.syn_from(source, 443, Reach::Open);
        self.sensor.completed(&source, Some(tcp(443)));
        self
    }

    /// The source completed a connection with the last service that was met.
    pub(crate) fn completed(&mut self, source: u8) -> &mut Self {
        self.sensor.completed(&address(source), self.met);
        self
    }

    /// The source completed a connection with an open service, and said nothing.
    pub(crate) fn silent(&mut self, source: u8, host: u8, port: u16) -> &mut Self {
        self.open(source, host, port).completed(source);
        self.sensor.was_silent(&flow(source, host, tcp(port)));
        self
    }

    /// A segment of no connection to an open service, which this host refused.
    pub(crate) fn refused(&mut self, source: u8, host: u8, port: u16) -> &mut Self {
        self.sensor.refused_stray(&flow(source, host, tcp(port)));
        self
    }

    /// The listener at a port ended.
    pub(crate) fn ceased(&mut self, port: u16) -> &mut Self {
        self.sensor.ceased(port);
        self
    }

    /// The source sent a SYN to an open service, and aborted the handshake.
    pub(crate) fn half_open(&mut self, source: u8, host: u8, port: u16) -> &mut Self {
        self.open(source, host, port).abort(source, host, port)
    }

    /// The source aborted a handshake.
    pub(crate) fn abort(&mut self, source: u8, host: u8, port: u16) -> &mut Self {
        self.sensor.aborted(&flow(source, host, tcp(port)));
        self
    }

    /// The last probe was answered, to this source.
    pub(crate) fn answer(&mut self, source: u8, answer: Answer) -> &mut Self {
        let flow = Flow { source: address(source), ..self.asked.unwrap_or(flow(source, 1, tcp(80))) };
        self.sensor.answered(&flow, answer);
        self
    }

    /// The answers to probes are seen from here on.
    pub(crate) fn sees_answers(&mut self) -> &mut Self {
        self.sensor.set_sees_leaving(true).expect("there is no kernel to fail");
        self.poll();
        self
    }

    /// Releases a source, or all sources if none is named.
    pub(crate) fn release(&mut self, source: Option<u8>) {
        self.poll();
        let is_it = |one: &Address| source.is_some_and(|source| *one == address(source));
        let who: Option<&dyn Fn(&Address) -> bool> = if source.is_some() { Some(&is_it) } else { None };
        self.pipeline.detector.settle(who, self.now());
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

    /// Sets the known-bad sources.
    pub(crate) fn set_feeds(&mut self, feeds: Feeds) {
        self.pipeline.detector.set_feeds(feeds);
    }

    /// Sets the countries and autonomous systems of addresses.
    pub(crate) fn set_geo(&mut self, geo: Geo) {
        self.pipeline.detector.set_geo(geo);
    }

    /// All events so far.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        self.poll();
        self.events.clone()
    }

    /// The findings without room since the last poll.
    pub(crate) fn unplaced(&mut self) -> Vec<Finding> {
        self.poll();
        self.pipeline.detector.take_unplaced()
    }

    /// The history of a source.
    pub(crate) fn history(&self, source: Address) -> Option<&observe::history::History> {
        let source = scanguard_common::address::SourceMask::new(64).apply(source);
        self.pipeline.observer.history(&source)
    }

    pub(crate) fn tracker(&self) -> &Tracker {
        self.pipeline.detector.tracker()
    }
}

/// 192.0.2.`last`.
pub(crate) fn address(last: u8) -> Address {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn flow(source: u8, host: u8, service: Service) -> Flow {
    let destination = Ipv4Addr::new(198, 51, 100, host).into();
    Flow { source: address(source), destination, service, source_port: 40_000, reserved: 0 }
}

/// A TCP port.
pub(crate) fn tcp(port: u16) -> Service {
    Service { protocol: 6, port }
}

/// A UDP port.
pub(crate) fn udp(port: u16) -> Service {
    Service { protocol: 17, port }
}

/// The names of the sources (their last byte) that a rule found scanning.
pub(crate) fn found(rule: Box<dyn Rule>, play: impl FnOnce(&mut Script)) -> Vec<u8> {
    let mut script = Script::new(rule, Settings::default());
    play(&mut script);
    let sources = script.events().iter().map(|event| name(&event.finding.source)).collect::<BTreeSet<_>>();
    sources.into_iter().collect()
}

fn name(source: &Address) -> u8 {
    match source.to_ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    }
}

/// The rule under which each finding of all rules ended, in the order of their opening.
pub(crate) fn told(play: impl FnOnce(&mut Script)) -> Vec<&'static str> {
    let mut script = Script::all_rules();
    play(&mut script);
    let mut findings: Vec<(String, &'static str)> = Vec::new();
    for event in script.events() {
        match findings.iter_mut().find(|(id, _)| *id == event.finding.id) {
            Some((_, rule)) => *rule = event.finding.rule,
            None => findings.push((event.finding.id, event.finding.rule)),
        }
    }
    findings.into_iter().map(|(_, rule)| rule).collect()
}

/// The result of [`found`] if no source was found.
pub(crate) const NOBODY: [u8; 0] = [];
