//! The direction of each packet of a capture, which segments belong to no connection, which datagrams nobody answers (see
//! [`super::strays`] and [`super::silence`]), and which SYNs were answered although nobody saw it.

use std::io::Read;

use ipnet::IpNet;
use jiff::Timestamp;
use scanguard_common::{address::Address, outcome::Flow, parse::addresses};

use super::{
    capture::Capture,
    flows::Flows,
    frame::{Frame, Frames},
    silence::{Silence, tells},
    step::{Kind, Step},
    strays::{Held, Strays},
};

/// Everything that the packets so far have shown.
pub struct Talks {
    local: Vec<IpNet>,
    flows: Flows,
    strays: Strays,
    silence: Silence,
    /// Whether packets of both directions were seen.
    both: bool,
    /// Flows whose clients went on after a SYN of which no answer was seen.
    gone_on: u64,
    /// Flows of which the beginning was not seen.
    headless: u64,
}

/// What a capture shows of the answers to SYNs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Answers {
    /// Nothing.
    Hidden,
    /// It has one direction only, but whole flows of it: whose SYN was answered, goes on.
    Implied,
    /// It has both directions.
    Seen,
}

/// So many clients that went on are enough to believe that the capture has whole flows, and not SYNs alone.
const WHOLE: u64 = 3;

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

/// An earlier packet about which a later one decides, or the time that has passed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Freed {
    /// It may belong to a connection.
    Unknown(Held),
    /// It was refused, and belongs to none.
    Refused(Held),
    /// It is a datagram that nobody has answered.
    Unanswered(Held),
}

/// What is to be done at a packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ruling {
    /// What to do with an earlier one, first.
    pub freed: Option<Freed>,
    /// What to do with the packet.
    pub way: Way,
    /// The packet shows that the service of this flow has answered its SYN, although the answer was not seen.
    pub met: Option<Flow>,
}

impl Talks {
    /// Nothing was seen yet. If no addresses are given as ours, whoever begins a flow is outside.
    pub fn new(local: Vec<IpNet>, salt: u64) -> Self {
        Self {
            local,
            flows: Flows::new(salt),
            strays: Strays::new(salt),
            silence: Silence::new(salt),
            both: false,
            gone_on: 0,
            headless: 0,
        }
    }

    /// Takes a packet at the present time of the capture.
    pub fn see(&mut self, frame: Frame<'_>, now: Option<Timestamp>) -> Ruling {
        let Some(step) = Step::read(frame.bytes) else {
            return Ruling { freed: None, way: self.way(frame.bytes, None), met: None };
        };
        let way = self.way(frame.bytes, Some(&step));
        let back = step.flow.turned();
        if step.kind == Kind::Reset
            && way != Way::Elsewhere
            && let Some(held) = self.strays.take(&back)
        {
            self.both = true;
            return Ruling { freed: Some(Freed::Refused(held)), way, met: None };
        }
        let answered = self.strays.take(&back);
        if answered.is_some() && step.kind == Kind::Datagram {
            self.silence.answered(&back);
        }
        // A datagram that is sent again waits on.
        let again = || if step.kind == Kind::Datagram { None } else { self.strays.take(&step.flow) };
        let freed = answered.or_else(again);
        if let Some(held) = &freed {
            self.learn(held);
        }
        let freed = freed.map(Freed::Unknown);
        let is_held = way == Way::Inbound
            && step.may_be_stray()
            && self.flows.is_new(&step)
            && self.strays.hold(&step.flow, frame, now);
        if is_held || way == Way::Inbound && self.may_be_unanswered(&step, frame, now) {
            return Ruling { freed, way: Way::Held, met: None };
        }
        let met = (way == Way::Inbound && self.flows.goes_on(&step)).then_some(step.flow);
        // Once both directions were seen, nobody asks for these.
        if !self.both {
            self.gone_on += u64::from(met.is_some());
            self.headless += u64::from(self.flows.has_no_beginning(&step));
        }
        self.both |= self.flows.learn(&step) | (way == Way::Leaving);
        Ruling { freed, way, met }
    }

    /// Holds a datagram, if it says something when nobody answers it.
    fn may_be_unanswered(&mut self, step: &Step, frame: Frame<'_>, now: Option<Timestamp>) -> bool {
        let may_tell = step.kind == Kind::Datagram
            && tells(step.flow.service)
            && !step.flow.destination.to_ip().is_multicast()
            && self.flows.is_unanswered(step);
        if may_tell && self.strays.hold_again(&step.flow) {
            return true;
        }
        if !may_tell || !Strays::has_room_for(frame) || !self.strays.hold(&step.flow, frame, now) {
            return false;
        }
        self.silence.asks(&step.flow);
        true
    }

    /// A packet that was held until now, because it waited long enough, or because there is no room.
    pub fn overdue(&mut self, now: Option<Timestamp>) -> Option<Freed> {
        let held = self.strays.overdue(now)?;
        let is_over = held.has_waited(now);
        self.learn(&held);
        Some(self.free(held, is_over))
    }

    /// A packet that is held at the end of all captures.
    pub fn last(&mut self) -> Option<Freed> {
        let held = self.strays.last()?;
        Some(self.free(held, true))
    }

    /// A segment may belong to a connection, and a datagram has no answer (`is_over`: none comes any more).
    fn free(&mut self, held: Held, is_over: bool) -> Freed {
        let is_silence = self.both
            && is_over
            && Step::read(held.frame().bytes)
                .is_some_and(|step| step.kind == Kind::Datagram && self.silence.is_kept(&step.flow));
        if is_silence { Freed::Unanswered(held) } else { Freed::Unknown(held) }
    }

    /// Whether addresses were given as ours.
    pub fn knows_our_addresses(&self) -> bool {
        !self.local.is_empty()
    }

    /// What the capture has shown of answers so far. A filter or a sample of packets has flows without their beginnings:
    /// there, a client that does not go on may only not have been seen.
    pub fn answers(&self) -> Answers {
        if self.both {
            Answers::Seen
        } else if self.gone_on >= WHOLE && self.gone_on >= self.headless {
            Answers::Implied
        } else {
            Answers::Hidden
        }
    }

    /// It is known that the capture shows so much.
    pub fn assume(&mut self, answers: Answers) {
        self.both |= answers == Answers::Seen;
        if answers == Answers::Implied {
            self.gone_on = self.gone_on.max(WHOLE);
        }
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
                let may_answer = matches!(step.kind, Kind::Reset | Kind::Datagram | Kind::Reply);
                self.flows.is_answer(step) || may_answer && self.strays.has(&step.flow.turned())
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

/// What a capture shows of answers. It is read until both directions were seen, in the worst case to its end. What cannot
/// be read shows nothing.
pub fn answers(reader: impl Read, local: &[IpNet]) -> Answers {
    let (mut talks, mut frames) = (Talks::new(local.to_vec(), 0), Frames::default());
    let Ok(mut capture) = Capture::open(reader) else {
        return Answers::Hidden;
    };
    while let Ok(Some(packet)) = capture.next_packet() {
        let Some(frame) = frames.frame(&packet) else {
            continue;
        };
        while talks.overdue(packet.time).is_some() {}
        talks.see(frame, packet.time);
        if talks.answers() == Answers::Seen {
            break;
        }
    }
    talks.answers()
}
