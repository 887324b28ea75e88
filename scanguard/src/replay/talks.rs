//! The direction of each packet of a capture, and which segments belong to no connection: see [`super::strays`].

use std::io::Read;

use ipnet::IpNet;
use jiff::Timestamp;
use scanguard_common::{address::Address, parse::addresses};

use super::{
    capture::Capture,
    flows::Flows,
    frame::{Frame, Frames},
    step::{Kind, Step},
    strays::{Held, Strays},
};

/// Everything that the packets so far have shown.
pub struct Talks {
    local: Vec<IpNet>,
    flows: Flows,
    strays: Strays,
    /// Whether packets of both directions were seen.
    both: bool,
}

/// The direction of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// To one of our addresses, or to those that answer.
    Inbound,
    /// From one of our addresses to another, or an answer.
    Leaving,
    /// Between other addresses.
    Elsewhere,
    /// Inbound, and held until more is known.
    Held,
}

/// An earlier segment about which a packet decides.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Freed {
    /// It may belong to a connection.
    Unknown(Held),
    /// It was refused, and belongs to none.
    Refused(Held),
}

/// What is to be done at a packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ruling {
    /// What to do with an earlier one, first.
    pub freed: Option<Freed>,
    /// What to do with the packet.
    pub way: Way,
}

impl Talks {
    /// Nothing was seen yet. If no addresses are given as ours, whoever begins a flow is outside.
    pub fn new(local: Vec<IpNet>, salt: u64) -> Self {
        Self { local, flows: Flows::new(salt), strays: Strays::new(salt), both: false }
    }

    /// Takes a packet at the present time of the capture.
    pub fn see(&mut self, frame: Frame<'_>, now: Option<Timestamp>) -> Ruling {
        let Some(step) = Step::read(frame.bytes) else {
            return Ruling { freed: None, way: self.way(frame.bytes, None) };
        };
        let way = self.way(frame.bytes, Some(&step));
        let back = step.flow.turned();
        if step.kind == Kind::Reset
            && way != Way::Elsewhere
            && let Some(held) = self.strays.take(&back)
        {
            self.both = true;
            return Ruling { freed: Some(Freed::Refused(held)), way };
        }
        let freed = self.strays.take(&back).or_else(|| self.strays.take(&step.flow));
        if let Some(held) = &freed {
            self.learn(held);
        }
        let freed = freed.map(Freed::Unknown);
        let is_held = way == Way::Inbound
            && step.may_be_stray()
            && self.flows.is_new(&step)
            && self.strays.hold(&step.flow, frame, now);
        if is_held {
            return Ruling { freed, way: Way::Held };
        }
        self.both |= self.flows.learn(&step) | (way == Way::Leaving);
        Ruling { freed, way }
    }

    /// A segment that was held until now, because it waited long enough. It may belong to a connection.
    pub fn overdue(&mut self, now: Option<Timestamp>) -> Option<Held> {
        let held = self.strays.overdue(now)?;
        self.learn(&held);
        Some(held)
    }

    /// A segment that is held at the end of all captures.
    pub fn last(&mut self) -> Option<Held> {
        self.strays.last()
    }

    /// Whether addresses were given as ours.
    pub fn knows_our_addresses(&self) -> bool {
        !self.local.is_empty()
    }

    /// Whether the capture has packets of both directions.
    pub fn sees_both(&self) -> bool {
        self.both
    }

    /// It is known that the capture has packets of both directions.
    pub fn assume_both(&mut self) {
        self.both = true;
    }

    /// How many flows were forgotten because there was no room.
    pub fn forgotten(&self) -> u64 {
        self.flows.forgotten()
    }

    /// How many segments were taken for those of connections because there was no room to hold them.
    pub fn given_up(&self) -> u64 {
        self.strays.given_up()
    }

    fn learn(&mut self, held: &Held) {
        if let Some(step) = Step::read(held.frame().bytes) {
            self.flows.learn(&step);
        }
    }

    fn way(&self, frame: &[u8], step: Option<&Step>) -> Way {
        if self.local.is_empty() {
            let is_answer = step.is_some_and(|step| {
                self.flows.is_answer(step) || step.kind == Kind::Reset && self.strays.has(&step.flow.turned())
            });
            return if is_answer { Way::Leaving } else { Way::Inbound };
        }
        let is_ours = |address: Address| {
            let ip = address.to_ip();
            self.local.iter().any(|network| network.contains(&ip))
        };
        match addresses(&frame) {
            Some((_, destination)) if is_ours(destination) => Way::Inbound,
            Some((source, _)) if is_ours(source) => Way::Leaving,
            _ => Way::Elsewhere,
        }
    }
}

/// Whether a capture has packets of both directions. It is read until that is known, in the worst case to its end. What
/// cannot be read shows nothing.
pub fn sees_both(reader: impl Read, local: &[IpNet]) -> bool {
    let (mut talks, mut frames) = (Talks::new(local.to_vec(), 0), Frames::default());
    let Ok(mut capture) = Capture::open(reader) else {
        return false;
    };
    while let Ok(Some(packet)) = capture.next_packet() {
        let Some(frame) = frames.frame(&packet) else {
            continue;
        };
        while talks.overdue(packet.time).is_some() {}
        talks.see(frame, packet.time);
        if talks.sees_both() {
            return true;
        }
    }
    false
}
