//! The same for what leaves: a poll of the actors' table, with the identities of those who did something.

use std::{collections::BTreeSet, time::Duration};

use ipnet::IpNet;
use scanguard_common::{
    account::{Sample, SourceState},
    actor::{FIRST_SERVED, Key, Kind, Seen as Looked},
    address::Address,
    outcome::ProbeClass,
    wire::protocol,
};

use super::{Outcome, Pipeline};
use crate::{
    clock::Now,
    detect::findings::Event,
    outbound::{
        Actor,
        arguments::Arguments,
        baseline::{Baseline, How},
        settings::Allow,
        table::Serves,
        users::Users,
    },
    sensor::{ActorSensor, Poll, Sensor, SensorError, TurnedAway, Visit},
};

/// The pure parts for actors, with their memory.
pub struct Outbound {
    /// Histories, rules and findings of actors.
    pub pipeline: Pipeline,
    /// Who uses the network, as it was learned.
    pub baseline: Baseline,
    users: Users,
    arguments: Arguments,
    /// How often somebody was answered whom it knew already, until the last poll.
    again: u64,
}

/// An actor that did something, with the first epoch whose distinct things are new.
type Seen = (Address, SourceState, u32);

impl Outbound {
    /// The parts without any history.
    pub fn new(pipeline: Pipeline, baseline: Baseline, users: Users) -> Self {
        Self { pipeline, baseline, users, arguments: Arguments::default(), again: 0 }
    }

    /// Changes which arguments are told, and of whom nothing is told.
    pub fn reconfigure(&mut self, arguments: Arguments, allow: &Allow, learning: Duration) {
        self.arguments = arguments;
        self.baseline.set_learning(learning);
        if let Some(actors) = self.pipeline.detector.actors_mut() {
            actors.set_allow(allow);
        }
    }

    /// Replaces the networks that are inside.
    pub fn set_own(&mut self, own: Vec<IpNet>) {
        self.pipeline.detector.set_own(own);
    }

    /// Reads the sensor and passes on the findings that follow.
    ///
    /// # Errors
    /// The sensor could not be read. The next poll makes up for it.
    pub fn poll(
        &mut self,
        sensor: &mut dyn ActorSensor,
        now: Now,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Outcome, SensorError> {
        let mut seen = Vec::new();
        let poll = sensor.poll(&mut |address, state, epoch| seen.push((*address, *state, epoch)))?;
        // A program comes before its control group: it says more.
        seen.sort_by_key(|(address, ..)| Key::from_address(*address).kind == Kind::Group);
        for (address, state, _) in &seen {
            let namespace = self.recognize(sensor, address, &ways(state), now);
            self.see_callers(sensor, address, namespace, state)?;
        }
        let answered = sensor.looked_at().map_or(0, |tally| tally.seen[Looked::Again.index()]);
        if answered != self.again {
            self.again = answered;
            self.pipeline.detector.reached_somebody(now.at);
        }
        let mut again = Again { sensor, poll, seen };
        let outcome = self.pipeline.poll(&mut again, now, tell)?;
        for address in again.sensor.openers() {
            self.recognize(again.sensor, &address, &[], now);
            let Pipeline { observer, detector, .. } = &mut self.pipeline;
            detector.meet(address, observer.history(&address), now, tell);
        }
        Ok(outcome)
    }

    /// Takes who called the actor at the ports at which it calls others.
    fn see_callers(
        &mut self,
        sensor: &mut dyn ActorSensor,
        address: &Address,
        namespace: u32,
        state: &SourceState,
    ) -> Result<(), SensorError> {
        let mut serves = Vec::new();
        for port in ports(state) {
            let networks = sensor.callers(address, namespace, port)?;
            serves.extend((networks > 0).then_some(Serves { port, networks }));
        }
        if let Some(actors) = self.pipeline.detector.actors_mut() {
            actors.serves(address, serves);
        }
        Ok(())
    }

    /// Takes who an actor is now. Gives the network namespace of its process; 0 if nobody knows it.
    fn recognize(&mut self, sensor: &mut dyn ActorSensor, address: &Address, how: &[How], now: Now) -> u32 {
        let identity = sensor.identity(address);
        let actor = Actor::new(Key::from_address(*address), identity.as_ref(), &self.users, self.arguments);
        let news = self.baseline.see(&actor, how, now.wall);
        if let Some(actors) = self.pipeline.detector.actors_mut() {
            actors.see(actor, news, now.at);
        }
        identity.map_or(0, |identity| identity.network_namespace)
    }
}

/// The TCP ports of an actor's latest targets, as far as the examples have them: each once.
fn ports(state: &SourceState) -> BTreeSet<u16> {
    let tcp = |sample: &&Sample| sample.taken == 1 && sample.protocol == protocol::TCP;
    state.samples.iter().filter(tcp).map(|sample| sample.port).filter(|port| *port >= FIRST_SERVED).collect()
}

/// How an actor has used the network so far.
fn ways(state: &SourceState) -> Vec<How> {
    let any = |classes: &[ProbeClass]| classes.iter().any(|class| state.counts[class.index()] > 0);
    let ways =
        [(How::Tcp, any(&[ProbeClass::Syn])), (How::Udp, any(&[ProbeClass::Udp, ProbeClass::UdpEmpty]))];
    ways.into_iter().filter(|(_, is)| *is).map(|(how, _)| how).collect()
}

/// A sensor that was polled already, and passes on what was read.
struct Again<'s> {
    sensor: &'s mut dyn ActorSensor,
    poll: Poll,
    seen: Vec<Seen>,
}

impl Sensor for Again<'_> {
    fn poll(&mut self, each: &mut Visit<'_>) -> Result<Poll, SensorError> {
        for (address, state, epoch) in std::mem::take(&mut self.seen) {
            each(&address, &state, epoch);
        }
        Ok(self.poll)
    }

    fn look(&mut self, source: &Address) -> Result<Option<(SourceState, u32)>, SensorError> {
        self.sensor.look(source)
    }

    fn forget(&mut self, source: &Address) -> Result<Option<SourceState>, SensorError> {
        self.sensor.forget(source)
    }

    fn turned_away(&mut self) -> Result<TurnedAway, SensorError> {
        self.sensor.turned_away()
    }

    fn sees_handshakes(&self) -> bool {
        self.sensor.sees_handshakes()
    }

    fn sees_leaving(&self) -> bool {
        self.sensor.sees_leaving()
    }

    fn set_sees_answers(&mut self, sees: bool) -> Result<(), SensorError> {
        self.sensor.set_sees_answers(sees)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::{collections::HashMap, net::Ipv4Addr};

    use scanguard_common::{
        actor::{self, Identity},
        oracle::Reach,
        outcome::Service,
    };

    use super::*;
    use crate::sensor::{Feed as _, gate::GateMode, software::SoftwareSensor};

    /// A table of actors without a kernel.
    pub(crate) struct FakeActors {
        sensor: SoftwareSensor,
        pub(crate) identities: HashMap<Address, Identity>,
        pub(crate) openers: Vec<Address>,
        /// The orders to block.
        pub(crate) blocked: Vec<(Address, Option<Duration>)>,
        /// See [`ActorSensor::set_mode`].
        pub(crate) mode: GateMode,
        pub(crate) can_block: bool,
    }

    impl FakeActors {
        pub(crate) fn new() -> Self {
            let settings = crate::sensor::settings::Settings { ipv6_prefix: 128, ..Default::default() };
            let mut sensor = SoftwareSensor::new(&settings, 7).of_actors();
            sensor.set_sees_leaving(true).unwrap();
            let (identities, openers) = (HashMap::new(), Vec::new());
            Self { sensor, identities, openers, blocked: Vec::new(), mode: GateMode::Off, can_block: true }
        }

        /// An actor asks for a TCP port of 20.0.0.`host`.
        pub(crate) fn ask(&mut self, key: Key, host: u8, port: u16) {
            let remote = Ipv4Addr::new(20, 0, 0, host).into();
            let flow = actor::attempt(key.address(), 40_000, remote, Service { protocol: 6, port });
            self.sensor.probe(ProbeClass::Syn, Reach::Unknown, &flow);
        }
    }

    impl Sensor for FakeActors {
        fn poll(&mut self, each: &mut Visit<'_>) -> Result<Poll, SensorError> {
            self.sensor.poll(each)
        }
        fn look(&mut self, source: &Address) -> Result<Option<(SourceState, u32)>, SensorError> {
            self.sensor.look(source)
        }
        fn forget(&mut self, source: &Address) -> Result<Option<SourceState>, SensorError> {
            self.sensor.forget(source)
        }
        fn turned_away(&mut self) -> Result<TurnedAway, SensorError> {
            self.sensor.turned_away()
        }
        fn sees_handshakes(&self) -> bool {
            false
        }
        fn sees_leaving(&self) -> bool {
            true
        }
        fn set_sees_answers(&mut self, sees: bool) -> Result<(), SensorError> {
            self.sensor.set_sees_answers(sees)
        }
    }

    impl ActorSensor for FakeActors {
        fn identity(&mut self, actor: &Address) -> Option<Identity> {
            self.identities.get(actor).copied()
        }
        fn openers(&mut self) -> Vec<Address> {
            std::mem::take(&mut self.openers)
        }
        fn set_mode(&mut self, mode: GateMode) -> Result<(), SensorError> {
            self.mode = mode;
            Ok(())
        }

        fn block(&mut self, actor: &Address, lasts: Option<Duration>) -> Result<bool, SensorError> {
            self.blocked.extend(self.can_block.then_some((*actor, lasts)));
            Ok(self.can_block)
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use scanguard_common::actor;

    use super::{testing::FakeActors, *};
    use crate::{
        detect::{Detector, Severity, findings::EventKind, rules, settings::Settings},
        observe::{self, Observer},
        outbound::identity::testing::Draft,
    };

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn now(second: u64) -> Now {
        let at = Duration::from_secs(second);
        Now { at, wall: Timestamp::UNIX_EPOCH + at }
    }

    /// The parts, at a time when learning is over.
    fn outbound() -> Outbound {
        let observer = Observer::new(observe::settings::Settings::default());
        let detector = Detector::of_actors(rules::Settings::default().outbound(), Settings::default());
        let baseline = Baseline::new(Timestamp::UNIX_EPOCH, DAY);
        Outbound::new(Pipeline::new(observer, detector), baseline, Users::default())
    }

    fn poll(outbound: &mut Outbound, fake: &mut FakeActors, second: u64) -> Vec<Event> {
        let mut events = Vec::new();
        outbound.poll(fake, now(second), &mut |event| events.push(event)).unwrap();
        events
    }

    #[test]
    fn a_scan_is_told_with_the_process_that_was_read_also_if_it_is_gone_by_then() {
        let (mut outbound, mut fake) = (outbound(), FakeActors::new());
        let draft =
            Draft::new("/usr/bin/python3", "/system.slice/web.service").words(&["python3", "scan.py"]);
        let key = Key::of_program(Kind::Program, 42, 0, 7);
        let group = Key::of_group(42);
        fake.identities.extend([(key.address(), draft.identity), (group.address(), draft.identity)]);
        for host in 0..60 {
            fake.ask(group, host, 22);
            fake.ask(key, host, 22);
        }
        assert_eq!(poll(&mut outbound, &mut fake, 100), []);
        fake.identities.clear();
        let events = poll(&mut outbound, &mut fake, 104);
        let [event] = events.try_into().unwrap_or_else(|events| panic!("{events:?}"));
        let actor = event.finding.actor.unwrap();
        assert_eq!((event.finding.rule, actor.name().as_str()), ("outbound_sweep", "python3"));
        assert_eq!(actor.process.as_ref().unwrap().arguments.as_deref(), Some("scan.py"));
    }

    #[test]
    fn a_new_program_is_told_once_and_who_was_there_while_learning_is_not() {
        let (mut outbound, mut fake) = (outbound(), FakeActors::new());
        let day = DAY.as_secs();
        let mut told = Vec::new();
        for (second, path, inode) in
            [(100, "/usr/sbin/nginx", 7), (2 * day, "/usr/sbin/nginx", 7), (2 * day + 1, "/usr/bin/nc", 8)]
        {
            let mut draft = Draft::new(path, "/system.slice/web.service");
            draft.identity.inode = inode;
            let key = Key::of_program(Kind::Program, 42, 0, inode);
            fake.identities.insert(key.address(), draft.identity);
            fake.ask(key, u8::try_from(second % 200).unwrap(), 443);
            let events = poll(&mut outbound, &mut fake, second);
            told.extend(
                events.into_iter().map(|event| (event.kind, event.finding.rule, event.finding.severity)),
            );
        }
        assert_eq!(told, [(EventKind::Opened, "first_network_use", Severity::Info)]);
        let names: Vec<_> = outbound.baseline.iter().map(|(name, _)| name.path.as_str()).collect();
        assert_eq!(names, ["/usr/sbin/nginx", "/usr/bin/nc"]);
    }

    #[test]
    fn who_opens_a_raw_socket_is_told_before_it_sends_anything() {
        let (mut outbound, mut fake) = (outbound(), FakeActors::new());
        let draft = Draft::new("/usr/bin/x", "/system.slice/web.service").marks(actor::marks::RAW);
        let key = Key::of_program(Kind::Crafter, 42, 0, 7);
        fake.identities.insert(key.address(), draft.identity);
        fake.openers.push(key.address());
        let events = poll(&mut outbound, &mut fake, 2 * DAY.as_secs());
        let rules: Vec<_> = events.iter().map(|event| event.finding.rule).collect();
        assert_eq!(rules, ["first_network_use", "raw_socket"]);
    }
}
