//! Drives a rule by probes and times, through the same accounting and history as live traffic.

use std::{net::Ipv4Addr, time::Duration};

use jiff::Timestamp;
use scanguard_common::{
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
    pipeline::Pipeline,
    sensor::{self, software::SoftwareSensor},
};

/// Probes are gathered for a second and seen at its end, as the agent's poll does.
pub(crate) struct Script {
    sensor: SoftwareSensor,
    pipeline: Pipeline,
    second: u64,
    events: Vec<Event>,
}

impl Script {
    pub(crate) fn new(rule: Box<dyn Rule>, settings: Settings) -> Self {
        let observer = Observer::new(observe::settings::Settings::default());
        Self {
            sensor: SoftwareSensor::new(&sensor::settings::Settings::default(), 99),
            pipeline: Pipeline::new(observer, Detector::new(vec![rule], settings)),
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
        self.sensor.probe(class, Reach::Closed, &flow);
        self
    }

    fn poll(&mut self) {
        let at = Duration::from_secs(self.second + 1);
        let now = Now { at, wall: Timestamp::UNIX_EPOCH + at };
        let Self { sensor, pipeline, events, .. } = self;
        pipeline.poll(sensor, now, &mut |event| events.push(event)).expect("there is no kernel to fail");
    }

    /// Everything that was told so far.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        self.poll();
        self.events.clone()
    }

    pub(crate) fn tracker(&self) -> &Tracker {
        self.pipeline.detector.tracker()
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
