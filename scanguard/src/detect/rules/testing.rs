//! Drives a rule by probes and times, through the same accounting and history as live traffic.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use jiff::Timestamp;
use scanguard_common::{
    account::{self, SourceState, Unshared},
    address::Address,
    oracle::Reach,
    outcome::{Flow, ProbeClass, Service},
};

use crate::{
    clock::Now,
    detect::{
        Detector, Rule,
        findings::{Event, Tracker},
        settings::Settings,
    },
    observe::{self, Observer},
};

/// Probes are gathered for a second and seen at its end, as the agent's poll does.
pub(crate) struct Script {
    observer: Observer,
    detector: Detector,
    states: BTreeMap<Address, SourceState>,
    epoch: u32,
    second: u64,
    events: Vec<Event>,
}

impl Script {
    pub(crate) fn new(rule: Box<dyn Rule>, settings: Settings) -> Self {
        Self {
            observer: Observer::new(observe::settings::Settings::default()),
            detector: Detector::new(vec![rule], settings),
            states: BTreeMap::new(),
            epoch: 1,
            second: 0,
            events: Vec::new(),
        }
    }

    /// Lets time pass until this second.
    pub(crate) fn at(&mut self, second: u64) -> &mut Self {
        if second != self.second {
            self.poll();
            // The polls of a quiet time are all alike: one stands for them.
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
        self.probe(source, ProbeClass::Syn, host, Service { protocol: 6, port })
    }

    /// Any probe.
    pub(crate) fn probe(&mut self, source: u8, class: ProbeClass, host: u8, service: Service) -> &mut Self {
        let source = Address::from(Ipv4Addr::new(192, 0, 2, source));
        let destination = Ipv4Addr::new(198, 51, 100, host).into();
        let flow = Flow { source, destination, service, source_port: 40_000, reserved: 0 };
        let epoch = self.epoch;
        let state = self.states.entry(source).or_insert_with(|| SourceState::new(1, epoch));
        // SAFETY: an exclusive reference.
        unsafe { account::record::<Unshared>(state, class.index(), Reach::Closed, &flow, epoch, 99) };
        self
    }

    fn poll(&mut self) {
        let at = Duration::from_secs(self.second + 1);
        let now = Now { at, wall: Timestamp::UNIX_EPOCH + at };
        let ended = self.epoch;
        self.epoch += 1;
        for (source, state) in &self.states {
            if let Some((delta, history)) = self.observer.see(source, state, ended, at) {
                self.detector.see(*source, &delta, history, now, &mut |event| self.events.push(event));
            }
        }
        self.detector.tick(now, &mut |event| self.events.push(event));
    }

    /// Everything that was told so far.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        self.poll();
        self.events.clone()
    }

    pub(crate) fn tracker(&self) -> &Tracker {
        self.detector.tracker()
    }
}

/// The names of the sources (their last byte) that a rule found scanning.
pub(crate) fn found(rule: Box<dyn Rule>, play: impl FnOnce(&mut Script)) -> Vec<u8> {
    let mut script = Script::new(rule, Settings::default());
    play(&mut script);
    let mut sources: Vec<_> = script
        .events()
        .iter()
        .map(|event| match event.finding.source.to_ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[3],
            std::net::IpAddr::V6(_) => 0,
        })
        .collect();
    sources.dedup();
    sources
}

/// What [`found`] gives when nobody was found.
pub(crate) const NOBODY: [u8; 0] = [];
