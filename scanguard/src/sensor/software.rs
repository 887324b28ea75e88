//! Does the program's work in the agent: the same packets give the same counts. For replay and tests.
//!
//! Parser, classifier and accounting are the code that the program is compiled from. Only the table of sources around
//! them is written twice, and the tests run both on the same packets.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use ipnet::IpNet;

use scanguard_common::{
    account::{self, Around, SourceState, Unshared},
    address::Address,
    classify::{self, Early},
    egress::{self, Outgoing},
    inspect,
    oracle::{self, Blind, Decision, Home, Oracle, Reach, Socket},
    outcome::{Answer, EgressExit, Exit, Flow, Outcome, PortRange, ProbeClass, Service},
    packet::Packet,
    syn::{self, Fingerprint},
    tally::Tally,
    used,
};

use super::{Feed, Poll, Sensor, SensorError, TurnedAway, Visit, sampler::Sampler, settings::Settings};
use crate::{
    content::{sample::Sample, sampling::Settings as Sampling},
    sources::Sources,
};

/// A bounded table of sources, and totals.
pub struct SoftwareSensor {
    /// How addresses become sources.
    naming: Sources,
    salt: u64,
    max_sources: usize,
    sources: HashMap<Address, Tracked>,
    /// Every source by the period of its last probe. If there is no room, the oldest ones leave, and a poll looks only
    /// at the youngest.
    by_age: BTreeSet<(u64, Address)>,
    tally: Tally,
    observed: Observed,
    sampler: Sampler,
    /// See [`account::Around::sees_answers`].
    sees_answers: bool,
    /// The sources are actors, whose probes are at new targets only.
    are_actors: bool,
    /// Ports at which a listener ended.
    ceased: HashSet<u16>,
    /// Counts polls from 1. Unlike the epoch, it never wraps.
    period: u64,
}

struct Tracked {
    period: u64,
    state: SourceState,
}

impl SoftwareSensor {
    /// An empty table. It uses two settings: the number of sources, and how many bits of their addresses are kept.
    /// `salt` is that of the bitmaps.
    pub fn new(settings: &Settings, salt: u64) -> Self {
        Self {
            naming: settings.sources(),
            salt,
            max_sources: settings.max_sources.max(1) as usize,
            sources: HashMap::new(),
            by_age: BTreeSet::new(),
            tally: Tally::ZERO,
            observed: Observed::new(salt, epoch(1)),
            sampler: Sampler::default(),
            sees_answers: false,
            are_actors: false,
            ceased: HashSet::new(),
            period: 1,
        }
    }

    /// Takes samples by these settings, as many as in epochs of this length. At first it takes none.
    #[must_use]
    pub fn sampling(self, settings: &Sampling, epoch: Duration) -> Self {
        Self { sampler: Sampler::new(settings, epoch, self.naming.clone(), self.salt), ..self }
    }

    /// Its sources are actors: see [`Around::is_new`].
    #[must_use]
    pub fn of_actors(self) -> Self {
        Self { are_actors: true, ..self }
    }

    /// Counts a frame of any length.
    pub fn packet(&mut self, frame: &[u8]) {
        self.sampler.arrived(&frame, epoch(self.period), &mut self.tally);
        match judge(&frame, &self.observed) {
            Ok((class, reach, flow)) => {
                let fingerprint =
                    if class == ProbeClass::Syn { syn::of_frame(&frame) } else { Fingerprint::NONE };
                self.probe_like(class, reach, &flow, fingerprint);
            }
            Err(exit) => self.tally.exits[exit.index()] += 1,
        }
    }

    /// Counts a frame of which is known that a RST was the answer, see [`Feed::feed_refused`].
    fn refused(&mut self, frame: &[u8]) {
        self.sampler.arrived(&frame, epoch(self.period), &mut self.tally);
        self.count(judge(&frame, &Settled { other: &self.observed, home: Home::Local }));
    }

    /// Counts a frame that nobody has answered, see [`Feed::feed_unanswered`].
    fn unanswered(&mut self, frame: &[u8]) {
        self.sampler.arrived(&frame, epoch(self.period), &mut self.tally);
        self.count(judge(&frame, &Settled { other: &self.observed, home: Home::Dark }));
    }

    fn count(&mut self, judged: Result<(ProbeClass, Reach, Flow), Exit>) {
        match judged {
            Ok((class, reach, flow)) => self.probe(class, reach, &flow),
            Err(exit) => self.tally.exits[exit.index()] += 1,
        }
    }

    /// Counts a probe. There is always room: unlike the kernel's table, this one evicts at once, so that
    /// [`Exit::TableFull`] stays 0.
    pub fn probe(&mut self, class: ProbeClass, reach: Reach, flow: &Flow) {
        self.probe_like(class, reach, flow, Fingerprint::NONE);
    }

    /// As above, of a SYN with this fingerprint.
    pub fn probe_like(&mut self, class: ProbeClass, reach: Reach, flow: &Flow, fingerprint: Fingerprint) {
        self.tally.exits[Exit::Probe.index()] += 1;
        self.tally.probes[class.index()] += 1;
        self.tally.reached[reach as usize] += 1;
        let around = Around {
            epoch: epoch(self.period),
            salt: self.salt,
            sees_answers: self.sees_answers,
            is_overheard: false,
            is_new: self.are_actors,
        };
        let was_there = self.ceased.contains(&flow.service.port);
        self.enter(flow.source);
        let Some(state) = self.active(flow.source) else {
            return;
        };
        // SAFETY: an exclusive reference.
        unsafe {
            // There are no wake-ups here: a replay reads packets faster than they came.
            let _news = account::record::<Unshared>(state, class.index(), reach, flow, around, || was_there);
            if !fingerprint.is_none() {
                account::record_fingerprint(state, fingerprint, reach);
            }
        }
    }

    /// Puts a source into the table, if it is not there.
    fn enter(&mut self, source: Address) {
        let source = self.naming.of(source);
        if self.sources.contains_key(&source) {
            return;
        }
        if self.sources.len() >= self.max_sources {
            self.evict();
        }
        self.tally.inserted += 1;
        self.by_age.insert((self.period, source));
        // The number of the insertion distinguishes it from earlier ones as well as the time does.
        let state = SourceState::new(self.tally.inserted, epoch(self.period));
        self.sources.insert(source, Tracked { period: self.period, state });
    }

    /// Notes what an outgoing frame answers, like the egress program.
    pub fn leaving(&mut self, frame: &[u8]) {
        self.sampler.leaves(&frame, epoch(self.period), &mut self.tally);
        let exit = match egress::early(&frame) {
            Some((exit, _)) => {
                if let EgressExit::Udp = exit
                    && let Some(flow) = egress::early_datagram(&frame)
                {
                    self.observed.datagram(&flow);
                }
                exit
            }
            None => match egress::outgoing(&frame) {
                Outgoing::Exit(exit) => exit,
                Outgoing::Datagram(flow) => {
                    self.observed.datagram(&flow);
                    EgressExit::Udp
                }
                Outgoing::Opening(flow) => {
                    if matches!(egress::opening(&flow), EgressExit::Tcp) {
                        self.observed.uses(&flow);
                    }
                    egress::opening(&flow)
                }
                // A capture shows no listeners: see `crate::replay::strays` for what was refused.
                Outgoing::Refusal(flow) => self.leaves(&flow, Answer::Reset),
                Outgoing::Answer(answer, flow) => {
                    if let Answer::SynAck = answer {
                        self.observed.note(&flow);
                    }
                    self.leaves(&flow, answer)
                }
            },
        };
        self.tally.egress[exit.index()] += 1;
    }

    /// An answer leaves.
    fn leaves(&mut self, flow: &Flow, answer: Answer) -> EgressExit {
        self.tally.answers[answer as usize] += 1;
        if self.answered(flow, answer) { EgressExit::Answer } else { EgressExit::AnswerUnmatched }
    }

    /// Notes that this host refused a segment of no connection to a service that listens, with the RST. Captures never
    /// show this.
    pub fn refused_stray(&mut self, flow: &Flow) {
        let (epoch, salt) = (epoch(self.period), self.salt);
        self.enter(flow.source);
        if let Some(state) = self.active(flow.source) {
            // SAFETY: an exclusive reference.
            unsafe {
                account::record_answer::<Unshared>(state, Answer::Reset, flow, epoch, salt);
                let _news = account::record_refused::<Unshared>(state, flow.destination, epoch, salt);
            }
        }
    }

    /// Notes that a connection with a source was completed, and with which service (nothing: this host began it), if
    /// the source is in the table. Captures never show this: no kernel accepted anything.
    pub fn completed(&mut self, source: &Address, service: Option<Service>) {
        let (epoch, salt) = (epoch(self.period), self.salt);
        if let Some(state) = self.active(*source) {
            // SAFETY: an exclusive reference.
            unsafe { account::record_completed::<Unshared>(state, service, epoch, salt) };
        }
    }

    /// Notes that the listener at a port ended. Captures never show this.
    pub fn ceased(&mut self, port: u16) {
        self.ceased.insert(port);
    }

    /// Notes that a connection ended in which a source said nothing, if the source is in the table. Captures never show
    /// this.
    pub fn was_silent(&mut self, flow: &Flow) {
        let (epoch, salt) = (epoch(self.period), self.salt);
        if let Some(state) = self.active(flow.source) {
            // SAFETY: an exclusive reference.
            unsafe { account::record_silent::<Unshared>(state, flow.service, epoch, salt) };
        }
    }

    /// Notes that the last attempt of an actor was at an address that leads nowhere. Captures show no actors.
    pub fn led_nowhere(&mut self, flow: &Flow) {
        let (epoch, salt) = (epoch(self.period), self.salt);
        if let Some(state) = self.active(flow.source) {
            // SAFETY: an exclusive reference.
            unsafe { account::record_nowhere::<Unshared>(state, flow.destination, epoch, salt) };
        }
    }

    /// Notes that an address answers an actor for the first time, where one logs in. Captures show no actors.
    pub fn logged_in(&mut self, flow: &Flow) {
        let (epoch, salt) = (epoch(self.period), self.salt);
        if let Some(state) = self.active(flow.source) {
            // SAFETY: an exclusive reference.
            unsafe { account::record_login::<Unshared>(state, flow.destination, epoch, salt) };
        }
    }

    /// Notes that a source aborted a handshake, if the source is in the table. Captures never show this: the state
    /// between two packets of a flow is not kept, and no socket can be asked.
    pub fn aborted(&mut self, flow: &Flow) {
        let (epoch, salt) = (epoch(self.period), self.salt);
        if let Some(state) = self.active(flow.source) {
            // SAFETY: an exclusive reference.
            let _news = unsafe { account::record_aborted::<Unshared>(state, flow.service, epoch, salt) };
        }
    }

    /// The state of a source that does something in this period, if it is in the table.
    fn active(&mut self, source: Address) -> Option<&mut SourceState> {
        let source = self.naming.of(source);
        let tracked = self.sources.get_mut(&source)?;
        if tracked.period != self.period {
            self.by_age.remove(&(tracked.period, source));
            self.by_age.insert((self.period, source));
            tracked.period = self.period;
        }
        Some(&mut tracked.state)
    }

    /// Notes an answer to a source. Returns whether the source is in the table.
    /// The flow is that of the probe.
    pub fn answered(&mut self, flow: &Flow, answer: Answer) -> bool {
        let (epoch, salt) = (epoch(self.period), self.salt);
        let Some(state) = self.active(flow.source) else {
            return false;
        };
        // SAFETY: an exclusive reference.
        unsafe { account::record_answer::<Unshared>(state, answer, flow, epoch, salt) };
        true
    }

    /// Removes the source that has been quiet for the longest time.
    fn evict(&mut self) {
        if let Some((_, source)) = self.by_age.pop_first() {
            self.sources.remove(&source);
        }
    }
}

/// The facts that earlier packets have shown about our hosts: the oracle for captures.
struct Observed {
    home: Vec<IpNet>,
    /// Our services that have answered.
    services: HashSet<(Address, Service)>,
    /// The marks of the flows that our hosts used, as the program has them.
    used: Vec<u64>,
    sees_leaving: bool,
    salt: u64,
    epoch: u32,
}

/// A mark counts for the whole capture.
const USED_EPOCHS: u32 = i32::MAX.cast_unsigned();

/// As many as the kernel program notes. Further services stay unknown.
const MAX_SERVICES: usize = 4_096;

impl Observed {
    fn new(salt: u64, epoch: u32) -> Self {
        Self {
            home: Vec::new(),
            services: HashSet::new(),
            used: vec![0; used::PLACES],
            sees_leaving: true,
            salt,
            epoch,
        }
    }

    fn datagram(&mut self, flow: &Flow) {
        if !used::is_service(flow) {
            self.uses(flow);
        }
    }

    fn uses(&mut self, flow: &Flow) {
        let mark = used::Mark::new(flow, self.salt);
        self.used[mark.place as usize] = mark.value(self.epoch);
    }

    fn note(&mut self, flow: &Flow) {
        let is_local = matches!(self.home(flow.destination), Home::Local);
        if is_local && self.services.len() < MAX_SERVICES {
            self.services.insert((flow.destination, flow.service));
        }
    }
}

impl Oracle for Observed {
    fn tcp(&self, _flow: &Flow) -> Socket {
        Socket::None
    }

    fn udp(&self, _flow: &Flow) -> bool {
        false
    }

    fn home(&self, address: Address) -> Home {
        let ip = address.to_ip();
        if self.home.iter().any(|network| network.contains(&ip)) { Home::Local } else { Home::Elsewhere }
    }

    fn published(&self, address: Address, service: Service) -> bool {
        self.services.contains(&(address, service))
    }

    fn forwards(&self) -> bool {
        true
    }

    fn used(&self, flow: &Flow) -> bool {
        let mark = used::Mark::new(flow, self.salt);
        mark.is_known(self.used[mark.place as usize], self.epoch, USED_EPOCHS)
    }

    fn is_last_hop(&self) -> bool {
        false
    }

    fn calls_from(&self, port: u16) -> bool {
        PortRange::DEFAULT.calls_from(port)
    }

    fn sees_leaving(&self) -> bool {
        self.sees_leaving
    }
}

/// The oracle for a frame of which is known what became of it: a host has its address, does not want it, and hands
/// nothing on; or nobody has it.
struct Settled<'o, O> {
    other: &'o O,
    home: Home,
}

impl<O: Oracle> Oracle for Settled<'_, O> {
    fn tcp(&self, flow: &Flow) -> Socket {
        self.other.tcp(flow)
    }

    fn udp(&self, flow: &Flow) -> bool {
        self.other.udp(flow)
    }

    fn home(&self, _address: Address) -> Home {
        self.home
    }

    fn published(&self, address: Address, service: Service) -> bool {
        self.other.published(address, service)
    }

    fn forwards(&self) -> bool {
        false
    }

    fn used(&self, flow: &Flow) -> bool {
        self.other.used(flow)
    }

    fn is_last_hop(&self) -> bool {
        false
    }

    fn calls_from(&self, port: u16) -> bool {
        self.other.calls_from(port)
    }

    fn sees_leaving(&self) -> bool {
        self.other.sees_leaving()
    }
}

/// The decision about a frame: a probe with its reach, or an exit.
fn judge<P: Packet, O: Oracle>(frame: &P, oracle: &O) -> Result<(ProbeClass, Reach, Flow), Exit> {
    // The salt is for tags of flows. This code remembers no flows, since it has no sockets to ask less often.
    if let Early::Established = classify::early(frame, 0) {
        return Err(Exit::TcpEstablished);
    }
    match inspect(frame) {
        Outcome::Exit(exit) => Err(exit),
        Outcome::Probe(probe) => {
            let is_syn = probe.class == ProbeClass::Syn;
            Ok((probe.class, oracle::reach(oracle, is_syn, &probe.flow), probe.flow))
        }
        Outcome::Segment(segment) => match oracle::segment(oracle, segment.kind, &segment.flow) {
            Decision::Ordinary { exit, .. } => Err(exit),
            Decision::Probe { class, reach } => Ok((class, reach, segment.flow)),
        },
    }
}

/// The decision about a frame without knowledge of sockets and addresses.
///
/// # Errors
/// The exit of a packet that is no probe.
pub fn judge_blindly<P: Packet>(frame: &P) -> Result<(ProbeClass, Reach, Flow), Exit> {
    judge(frame, &Blind)
}

/// As [`judge_blindly`], for a frame that was refused, see [`Feed::feed_refused`].
///
/// # Errors
/// As above.
pub fn judge_refused<P: Packet>(frame: &P) -> Result<(ProbeClass, Reach, Flow), Exit> {
    judge(frame, &Settled { other: &Blind, home: Home::Local })
}

/// Epochs are numbered modulo 2^32.
fn epoch(period: u64) -> u32 {
    period as u32
}

impl Sensor for SoftwareSensor {
    /// Passes sources on in the order of addresses, so that the same packets give the same findings.
    fn poll(&mut self, each: &mut Visit<'_>) -> Result<Poll, SensorError> {
        let ended = self.period;
        self.period += 1;
        self.observed.epoch = epoch(self.period);
        let oldest = (ended, Address::UNSPECIFIED);
        let mut active: Vec<_> = self.by_age.range(oldest..).map(|(_, source)| *source).collect();
        active.sort_unstable();
        for source in active {
            if let Some(tracked) = self.sources.get(&source) {
                each(&source, &tracked.state, epoch(ended));
            }
        }
        Ok(Poll { tally: self.tally, entries: self.sources.len() as u64, whole: None })
    }

    fn look(&mut self, source: &Address) -> Result<Option<(SourceState, u32)>, SensorError> {
        Ok(self.sources.get(source).map(|tracked| (tracked.state, epoch(self.period))))
    }

    fn forget(&mut self, source: &Address) -> Result<Option<SourceState>, SensorError> {
        let Some(Tracked { period, state }) = self.sources.remove(source) else {
            return Ok(None);
        };
        self.by_age.remove(&(period, *source));
        Ok(Some(state))
    }

    /// It is always empty: this table admits every source.
    fn turned_away(&mut self) -> Result<TurnedAway, SensorError> {
        Ok(TurnedAway::default())
    }

    fn sees_handshakes(&self) -> bool {
        false
    }

    fn sees_leaving(&self) -> bool {
        self.observed.sees_leaving
    }

    fn set_sees_answers(&mut self, sees: bool) -> Result<(), SensorError> {
        self.sees_answers = sees;
        Ok(())
    }
}

impl Feed for SoftwareSensor {
    fn feed(&mut self, frame: &[u8]) -> Result<(), SensorError> {
        self.packet(frame);
        Ok(())
    }

    fn feed_refused(&mut self, frame: &[u8]) -> Result<(), SensorError> {
        self.refused(frame);
        Ok(())
    }

    fn feed_unanswered(&mut self, frame: &[u8]) -> Result<(), SensorError> {
        self.unanswered(frame);
        Ok(())
    }

    fn feed_leaving(&mut self, frame: &[u8]) -> Result<(), SensorError> {
        self.leaving(frame);
        Ok(())
    }

    fn samples(&mut self) -> Vec<Sample<Vec<u8>>> {
        self.sampler.taken()
    }

    fn set_home(&mut self, home: &[IpNet]) -> Result<(), SensorError> {
        self.observed.home = home.to_vec();
        Ok(())
    }

    fn set_sees_leaving(&mut self, sees: bool) -> Result<(), SensorError> {
        self.observed.sees_leaving = sees;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn sensor(max_sources: u32) -> SoftwareSensor {
        SoftwareSensor::new(&Settings { max_sources, ..Settings::default() }, 7)
    }

    fn address(last: u8) -> Address {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    fn flow(source: u8) -> Flow {
        Flow {
            source: address(source),
            destination: Ipv4Addr::new(198, 51, 100, 1).into(),
            service: Service { protocol: 6, port: 80 },
            source_port: 40_000,
            reserved: 0,
        }
    }

    fn syn(sensor: &mut SoftwareSensor, source: u8) {
        sensor.probe(ProbeClass::Syn, Reach::Unknown, &flow(source));
    }

    fn polled(sensor: &mut SoftwareSensor) -> (Vec<Address>, Poll) {
        let mut seen = Vec::new();
        let poll = sensor.poll(&mut |source, _, _| seen.push(*source)).unwrap();
        (seen, poll)
    }

    #[test]
    fn a_source_is_handed_on_at_the_poll_after_what_it_did_and_what_was_answered() {
        let mut sensor = sensor(10);
        syn(&mut sensor, 2);
        syn(&mut sensor, 1);
        assert_eq!(polled(&mut sensor).0, [address(1), address(2)]);
        syn(&mut sensor, 3);
        assert!(sensor.answered(&flow(1), Answer::Reset));
        assert_eq!(polled(&mut sensor).0, [address(1), address(3)]);
        assert_eq!(polled(&mut sensor).0, []);
    }

    #[test]
    fn beyond_the_cap_the_longest_quiet_go_and_totals_stay_exact() {
        let mut sensor = sensor(3);
        for source in 1..=3 {
            syn(&mut sensor, source);
        }
        polled(&mut sensor);
        syn(&mut sensor, 1);
        syn(&mut sensor, 4);
        syn(&mut sensor, 5);
        let (seen, poll) = polled(&mut sensor);
        assert_eq!(seen, [address(1), address(4), address(5)]);
        assert_eq!((poll.entries, poll.tally.inserted, poll.tally.packets()), (3, 5, 6));
        assert_eq!(poll.tally.probe(ProbeClass::Syn), 6);
        assert_eq!(sensor.by_age.len(), 3);
    }

    #[test]
    fn a_source_that_is_forgotten_gives_its_last_state_and_starts_anew() {
        let mut sensor = sensor(3);
        syn(&mut sensor, 1);
        let last = sensor.forget(&address(1)).unwrap().unwrap();
        assert!(sensor.forget(&address(1)).unwrap().is_none());
        syn(&mut sensor, 1);
        let again = sensor.forget(&address(1)).unwrap().unwrap();
        assert_eq!((last.counts[0], again.counts[0]), (1, 1));
        assert_ne!(last.born_ns, again.born_ns);
        assert!(sensor.by_age.is_empty());
    }
}
