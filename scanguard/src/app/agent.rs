//! The agent: the state that a poll needs, and the steps that follow from its results.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use ipnet::{IpNet, Ipv6Net};
use tokio::sync::watch;

use scanguard_common::{address::Address, outcome::Exit};

use super::{arguments::Arguments, leaving::Leaving, prepare};
use crate::{
    apply,
    clock::{Clock, Now, monotonic, process_start},
    config::{Config, access},
    content::{ContentEvent, sample::Sample},
    control::agent_handle::AgentHandle,
    crowdsec::{self, Link, decisions::Orders},
    detect::findings::{Direction, Event, EventKind, Finding},
    export::{
        health::Health,
        http::Shared,
        metrics::{Limits, Metrics},
        page::{
            Page,
            history::{Levels, Totals},
        },
        sinks::Sinks,
        web::Access,
    },
    fleet::{
        self, Told,
        member::{Known as KnownSources, Member},
    },
    logs::task::Logs,
    network::{Network, bound::Sockets, ports::Ports},
    pipeline::Pipeline,
    respond::{
        decided, host_discovery::Known, released::Released, responder::Responder, ssh_servers::SshServers,
        state_writer::StateWriter,
    },
    sandbox::Sandbox,
    sensor::{
        attach::{Attachments, Waiting},
        kernel::KernelSensor,
        not_ip::NotIp,
        outbound::Programs,
        unwatched::{Gap, Start},
        wakeups::Batch,
    },
    service::ServiceManager,
    sources::Sources,
};

/// How often the entries in the maps of answers are counted. That takes milliseconds when they are full.
const OCCUPANCY_INTERVAL: Duration = Duration::from_secs(5);

/// Probes in a poll of sources that the admission filter turned away: most are forged then, and the fleet is not told.
const FLOOD: u64 = 1_000;

/// All state that a poll needs.
pub(super) struct Agent {
    pub(super) config: Config,
    pub(super) clock: Clock,
    pub(super) sensor: KernelSensor,
    pub(super) attachments: Attachments,
    pub(super) network: Network,
    /// From where this host calls others.
    pub(super) ports: Ports,
    /// Services that are bound to devices; nothing if the kernel does not list them.
    pub(super) sockets: Option<Sockets>,
    /// This host's own addresses, as they were read last.
    pub(super) own: BTreeSet<IpAddr>,
    /// When those services were last read.
    pub(super) sockets_read: Option<Instant>,
    /// When the local addresses were last read. `None`: read them now, since the networks beside them have changed.
    pub(super) addresses_read: Option<Instant>,
    /// How addresses become sources, and which prefixes of translators are not used for it, each with the own network
    /// that it overlaps with. `None` until the own addresses are known.
    pub(super) translators: Option<(Sources, Vec<(Ipv6Net, IpNet)>)>,
    /// When the occupancy of the maps of answers was last read.
    pub(super) occupancy_read: Option<Instant>,
    pub(super) not_ip: NotIp,
    pub(super) pipeline: Pipeline,
    pub(super) sinks: Sinks,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    pub(super) responder: Responder,
    pub(super) state_writer: StateWriter,
    /// TLS and passwords of the metrics listener.
    pub(super) access: Arc<Access>,
    /// `None` if the page is switched off.
    pub(super) page: Option<Page>,
    pub(super) crowdsec: Link,
    pub(super) fleet: Member,
    /// The salt of the sensor's bitmaps.
    pub(super) salt: u64,
    /// Whether most sources were forged at the last poll.
    pub(super) flooded: bool,
    /// `None` until the sandbox is entered.
    pub(super) sandbox: Option<Sandbox>,
    /// The interfaces that are waited for, as they were told last.
    pub(super) waiting: Option<Waiting>,
    /// When this agent's process started, and the state that it found was written.
    pub(super) start: Start,
    /// How long the interfaces were not watched before the start, by their names.
    pub(super) gaps: BTreeMap<String, Gap>,
    /// Facts about this host, collected while the agent still had the privileges to do so.
    pub(super) known: Known,
    /// What leaves; nothing if it is switched off or cannot be seen.
    pub(super) leaving: Option<Leaving>,
    /// The time of day of the previous poll.
    pub(super) last_poll: jiff::Timestamp,
}

/// Without it, services that are bound to a device above the card may count as closed.
fn connect_to_sockets() -> Option<Sockets> {
    Sockets::connect()
        .inspect_err(|error| tracing::warn!("the kernel does not list sockets (sock_diag): {error}"))
        .ok()
}

impl Agent {
    pub(super) fn new(
        config: &Config,
        mut pipeline: Pipeline,
        mut sensor: KernelSensor,
        attachments: Attachments,
        network: Network,
    ) -> Result<Self> {
        let Pipeline { observer, detector, .. } = &mut pipeline;
        let before = sensor.read_before(&mut |source, state, unread| observer.resume(source, state, unread));
        let limits = Limits {
            sources: config.sensor.max_sources,
            history: config.history.max_sources,
            findings: config.findings.max_open,
            visitors: config.content.max_visitors,
        };
        let metrics = Metrics::new(limits, detector.rules()).context("the metrics")?;
        if let Some(poll) = before.context("the sources that were taken over")? {
            pipeline.resume(&poll);
        }
        let clock = Clock::start();
        let now = clock.now();
        let of_response = &metrics.response;
        let (state_writer, state) =
            StateWriter::open(config.response.state.clone(), Arc::clone(of_response), now);
        let saved = state.as_ref().map(|state| state.saved);
        let start = Start { process: process_start().unwrap_or_else(monotonic), saved };
        let prefix = config.sensor.ipv6_prefix;
        let sources = Sources::new(prefix, &[]);
        let responder = Responder::new(config.response.clone(), sources, state, Arc::clone(of_response), now);
        let nothing = crowdsec::settings::Settings::default();
        let crowdsec = Link::start(&nothing, clock, Arc::clone(&metrics.crowdsec));
        let nothing = fleet::settings::Settings::default();
        let fleet = Member::start(&nothing, clock, Arc::clone(&metrics.fleet));
        Ok(Self {
            config: config.clone(),
            clock,
            sensor,
            attachments,
            network,
            ports: Ports::default(),
            sockets: connect_to_sockets(),
            own: BTreeSet::new(),
            sockets_read: None,
            addresses_read: Some(Instant::now()),
            translators: None,
            occupancy_read: None,
            not_ip: NotIp::default(),
            pipeline,
            sinks: Sinks::new(prefix, Arc::clone(&metrics.sinks)),
            sandbox: None,
            waiting: None,
            start,
            gaps: BTreeMap::new(),
            known: Known::new(SshServers::left_at(&prepare::facts(config))),
            access: Arc::new(Access::new(config.metrics.web.clone(), metrics.listeners.clone())),
            page: Page::new(&config.page, Arc::clone(&metrics.page)),
            metrics: Arc::new(metrics),
            health: Arc::new(Health::new(Instant::now())),
            responder,
            state_writer,
            crowdsec,
            fleet,
            salt: 0,
            flooded: false,
            leaving: None,
            last_poll: now.wall,
        })
    }

    /// Looks at what leaves by this sensor, if it is wanted and there is one.
    pub(super) fn watch_leaving(&mut self, programs: Option<Programs>) {
        let (config, now) = (&self.config, self.clock.now());
        let metrics = (&self.metrics.outbound, &self.metrics.actors);
        self.leaving = programs.map(|programs| Leaving::start(config, programs, metrics, now));
        self.metrics.outbound.enabled(self.leaving.is_some());
        if let Some(leaving) = &self.leaving {
            self.metrics.detection.add_rules(leaving.rules());
        }
    }

    /// The findings that are open, about what arrives and what leaves.
    pub(super) fn open(&self) -> impl Iterator<Item = &Finding> {
        let arriving = self.pipeline.detector.tracker().open();
        arriving.chain(self.leaving.iter().flat_map(Leaving::open))
    }

    /// Those of a source, or of an actor.
    pub(super) fn open_of(&self, source: &Address, direction: Direction) -> &[Finding] {
        match direction {
            Direction::Inbound => self.pipeline.detector.tracker().of(source),
            Direction::Outbound => self.leaving.as_ref().map_or(&[], |leaving| leaving.of(source)),
        }
    }

    /// Puts the bans from the state file and the feeds into the kernel.
    pub(super) fn enter(&mut self) -> Result<()> {
        let now = self.clock.now();
        apply::to_responder(&self.pipeline.detector, &mut self.responder, now, &mut self.sensor);
        self.responder.enter(now, &mut self.sensor).context("the gate")
    }

    /// Attaches the programs to the interfaces.
    pub(super) async fn attach(&mut self) -> Result<()> {
        self.attachments.attach_all().await?;
        for (interface, mode) in self.attachments.states() {
            self.metrics.sensor.attached(interface, mode);
            if let Some(mode) = mode {
                tracing::info!(interface, %mode, "attached");
            }
        }
        let (now, at) = (self.clock.now().wall, monotonic());
        for (interface, (before, attached)) in self.attachments.before() {
            let gap = Gap::new(*before, *attached, self.start, now, at);
            tracing::info!(interface, "{gap}");
            self.metrics.sensor.unwatched(interface, gap.length);
            self.gaps.insert(interface.clone(), gap);
        }
        for (interface, way) in self.attachments.egress_states() {
            self.metrics.sensor.egress_attached(interface, way);
            if let Some(way) = way {
                tracing::info!(interface, %way, "what leaves is seen");
            }
        }
        self.metrics.sensor.connections_attached(self.sensor.connections_attached());
        self.note_waiting(None);
        Ok(())
    }

    /// Tells health, log and service manager of the interfaces that are waited for, if they have changed.
    pub(super) fn note_waiting(&mut self, service: Option<&ServiceManager>) {
        let is_attached = self.attachments.states().any(|(_, mode)| mode.is_some());
        let waiting = self.attachments.waiting();
        let names = waiting.as_ref().map(|waiting| &waiting.names);
        self.health.attached(is_attached, waiting.as_ref().map(|waiting| waiting as _));
        if names == self.waiting.as_ref().map(|waiting| &waiting.names) {
            return;
        }
        // What was lost has been reported.
        if let (Some(waiting), None) = (&waiting, service) {
            tracing::error!("{waiting}. The agent waits for it, and watches the others. Is the name right?");
        }
        self.waiting = waiting;
        if let Some(service) = service {
            service.ready(&self.said());
        }
    }

    /// The state for the service manager.
    pub(super) fn said(&self) -> String {
        let is_attached = self.attachments.states().any(|(_, mode)| mode.is_some());
        match (&self.waiting, is_attached) {
            (None, _) => "attached".to_owned(),
            (Some(waiting), true) => format!("attached; waiting: {waiting}"),
            (Some(waiting), false) => format!("not attached; waiting: {waiting}"),
        }
    }

    /// Gives up unneeded privileges first, and only then starts the parts that talk to others: their threads must not
    /// have more.
    pub(super) async fn confine(&mut self, arguments: &Arguments) -> Result<()> {
        let sandbox = if self.config.security.sandbox {
            for warning in access::warnings(&self.config) {
                tracing::warn!("{warning}");
            }
            let file = access::file(arguments.config.as_deref());
            Sandbox::enter(access::needed(&self.config, file)).await?
        } else {
            Sandbox::off()?
        };
        self.metrics.sandbox.confined(sandbox.report());
        self.sandbox = Some(sandbox);
        self.reconfigure_sinks();
        self.crowdsec.restart(&self.config.crowdsec, self.clock);
        self.join_fleet().await;
        Ok(())
    }

    /// Becomes a member of the fleet that is configured, or of none.
    pub(super) async fn join_fleet(&mut self) {
        self.fleet.restart(&self.config.fleet).await;
        self.pipeline.note_items(self.fleet.is_on().then_some(self.salt));
    }

    /// Carries out a decision of the fleet.
    pub(super) fn take_fleet(&mut self, told: Told) {
        let now = self.clock.now();
        let act = self.config.fleet.act;
        self.metrics.fleet.decided(fleet::take(&mut self.responder, told, act, now, &mut self.sensor));
        self.reset_released();
    }

    /// Tells the fleet what was seen since the last call.
    fn tell_fleet(&mut self) {
        if !self.fleet.is_on() {
            return;
        }
        let Self { pipeline, responder, fleet, flooded, .. } = self;
        let notes = pipeline.take_notes();
        let tracker = pipeline.detector.tracker();
        let is_proven = |finding: &Finding| !finding.known().1.is_possible();
        let known = KnownSources {
            net: &|source| responder.net(source),
            proven: &|source| tracker.of(source).iter().any(is_proven),
            tools: tracker.tools(),
            flooded: *flooded,
        };
        fleet.see(notes, &known);
    }

    /// Starts and ends sinks as the configuration has it.
    pub(super) fn reconfigure_sinks(&mut self) {
        let now = self.clock.now();
        let Self { config, sinks, pipeline, leaving, .. } = self;
        let arriving = pipeline.detector.tracker().open();
        let open = &mut arriving.chain(leaving.iter().flat_map(Leaving::open));
        sinks.reconfigure(&config.sinks, open, now);
    }

    /// Carries out the decisions of CrowdSec.
    pub(super) fn take_decisions(&mut self, orders: Orders) {
        let now = self.clock.now();
        // There may be thousands of decisions.
        tokio::task::block_in_place(|| {
            decided::take(&mut self.responder, orders.decided, now, &mut self.sensor);
        });
        self.reset_released();
    }

    /// The state that the metrics listener answers from. The page asks the agent's main task until `stopped`.
    pub(super) fn shared(&self, agent: AgentHandle, stopped: watch::Receiver<()>) -> Shared {
        let control = Arc::clone(&self.metrics.control);
        Shared {
            metrics: Arc::clone(&self.metrics),
            health: Arc::clone(&self.health),
            page: self.page.as_ref().map(|page| page.serve(agent, control, stopped)),
            access: Arc::clone(&self.access),
        }
    }

    /// Follows the access logs that are configured now.
    pub(super) fn follow_logs(&self) -> Logs {
        Logs::follow(&self.config.logs, &self.metrics.logs)
    }

    /// Resets the sources whose ban has ended, or all sources when enforcing begins.
    pub(super) fn reset_released(&mut self) {
        let now = self.clock.now();
        let Self { responder, pipeline, .. } = self;
        match responder.take_released() {
            Some(Released::All) => pipeline.detector.settle(None, now),
            Some(some @ Released::Networks(_)) => {
                let is_in = |source: &Address| some.has(responder.net(source));
                pipeline.detector.settle(Some(&is_in), now);
            }
            None => {}
        }
    }

    /// Work that is due once a second.
    pub(super) async fn chores(&mut self) {
        let now = self.clock.now();
        self.responder.chores(now, &mut self.sensor);
        self.reset_released();
        self.state_writer.keep(&mut self.responder, now).await;
        self.crowdsec.observe();
        self.fleet.set_own(self.own.iter().copied());
        self.fleet.observe();
        if let Some(leaving) = &mut self.leaving {
            leaving.keep(&self.metrics.outbound).await;
        }
    }

    /// Examines the sources that the program reported by wake-ups.
    pub(super) fn look(&mut self, wakeups: &Batch) {
        for (source, at) in &wakeups.sources {
            let Self { clock, sensor, pipeline, .. } = self;
            let mut events = Vec::new();
            let result = pipeline.look(sensor, source, clock.now(), &mut |event| events.push(event));
            let opened = events.iter().any(|event| event.kind == EventKind::Opened);
            self.respond(events, std::slice::from_ref(source));
            if let Err(error) = result {
                tracing::warn!("a source could not be examined, the next poll examines it: {error}");
            }
            if opened {
                self.metrics.detection.found_after(monotonic().saturating_sub(*at));
            }
        }
        self.tell_fleet();
    }

    /// Reads the samples that the program copied: requests of clients, and the answers to them.
    pub(super) fn hear_samples(&mut self, samples: &[Sample<Vec<u8>>]) {
        self.metrics.sensor.samples_read(samples.len());
        let said = self.pipeline.read(samples, self.clock.now());
        self.hear(&said);
    }

    /// Takes the events from the access logs, which name addresses of clients.
    pub(super) fn hear_logs(&mut self, mut said: Vec<ContentEvent>) {
        self.metrics.logs.events_read(said.len());
        for utterance in &mut said {
            utterance.source = self.responder.source(utterance.source.to_ip());
        }
        self.hear(&said);
    }

    fn hear(&mut self, said: &[ContentEvent]) {
        let Self { clock, pipeline, .. } = self;
        let now = clock.now();
        let mut events = Vec::new();
        for utterance in said {
            pipeline.hear(utterance, now, &mut |event| events.push(event));
        }
        let mut sources: Vec<_> = said.iter().map(|utterance| utterance.source).collect();
        sources.sort_unstable();
        sources.dedup();
        self.respond(events, &sources);
    }

    /// Bans or shields the sources of new or changed findings. It also handles ongoing findings of these sources:
    /// sinks see them only now and then, but their source may be banned now. Sinks come last, because a
    /// reader may be slow.
    fn respond(&mut self, events: Vec<Event>, sources: &[Address]) {
        let now = self.clock.now();
        self.consider(&events, now);
        let tracker = self.pipeline.detector.tracker();
        let mut going_on = sources.iter().flat_map(|source| tracker.of(source));
        self.responder.reconsider(&mut going_on, now, &mut self.sensor);
        self.respond_to_unplaced(now);
        self.tell(events);
    }

    /// Bans or shields also the sources whose findings have no room.
    fn respond_to_unplaced(&mut self, now: Now) {
        let unplaced = self.pipeline.detector.take_unplaced();
        self.responder.reconsider(&mut unplaced.iter(), now, &mut self.sensor);
    }

    /// Lets the response act on these events, and passes them to CrowdSec.
    fn consider(&mut self, events: &[Event], now: Now) {
        let Self { responder, sensor, crowdsec, .. } = self;
        for event in events {
            match event.kind {
                EventKind::Opened | EventKind::Updated => responder.consider(&event.finding, now, sensor),
                EventKind::Closed => {}
            }
            crowdsec.see(event, |finding| decided::recommended(responder, finding));
        }
    }

    fn tell(&self, events: Vec<Event>) {
        for event in events {
            self.metrics.detection.reported(event.finding.rule, event.kind);
            if self.fleet.is_on() {
                self.fleet.find(&event, self.responder.net_of(&event.finding));
            }
            self.sinks.tell(event);
        }
    }

    /// Reads the kernel's counters and acts on them.
    pub(super) fn poll(&mut self) {
        // A poll of a large table takes a while, and requests must be answered in between.
        tokio::task::block_in_place(|| self.read());
    }

    fn read(&mut self) {
        let started = Instant::now();
        let now = self.clock.now();
        // The vector is bounded: at most every open finding changes, and a few times as many
        // can close or give way (detect/places.rs).
        let mut events = Vec::new();
        let result = self.pipeline.poll(&mut self.sensor, now, &mut |event| events.push(event));
        let turned_away = result.as_ref().map_or(0, |outcome| outcome.delta.exit(Exit::AtTheDoor));
        self.consider(&events, now);
        self.respond_to_unplaced(now);
        let Self { pipeline, metrics, responder, sensor, .. } = self;
        let lately = self.last_poll;
        let open = pipeline.detector.tracker().open();
        responder.reconsider(&mut open.filter(|finding| finding.last >= lately), now, sensor);
        self.last_poll = now.wall;
        self.health.polled(Instant::now(), result.is_ok(), self.config.sensor.poll_interval);
        match result {
            Ok(outcome) => {
                metrics.polled(&outcome.poll, &outcome.delta, outcome.evicted, started.elapsed());
            }
            Err(error) => {
                metrics.poll_failed();
                tracing::error!("poll: {error}");
            }
        }
        self.flooded = turned_away > FLOOD;
        self.tell_fleet();
        self.read_leaving(now, &mut events);
        self.metrics.state(&self.pipeline, self.leaving.as_ref().map(Leaving::pipeline));
        self.look_for_ip(now);
        self.note(now);
        self.tell(events);
        self.read_occupancy();
    }

    /// Reads the counters of those who ask others. What follows is told, and nobody is banned for it.
    fn read_leaving(&mut self, now: Now, events: &mut Vec<Event>) {
        if let Some(leaving) = &mut self.leaving {
            leaving.poll(&self.metrics.outbound, now, &mut |event| events.push(event));
            leaving.export(&self.metrics.actors);
        }
    }

    /// Says if most of what comes cannot be read.
    fn look_for_ip(&mut self, now: Now) {
        let tally = self.pipeline.tally();
        let Some(is_most) = self.not_ip.note(now.at, tally.packets(), tally.exit(Exit::NotIp)) else {
            return;
        };
        self.metrics.sensor.mostly_not_ip(is_most);
        if is_most {
            tracing::warn!(
                "more than half of the packets within the last minute were not IP: is this the right interface? \
                 See docs/drivers.md"
            );
        } else {
            tracing::info!("most packets are IP again");
        }
    }

    /// Stores the current totals for the page's charts.
    fn note(&self, now: Now) {
        let Some(page) = &self.page else {
            return;
        };
        let Pipeline { observer, .. } = &self.pipeline;
        let tally = self.pipeline.tally();
        let totals = Totals {
            packets: tally.packets(),
            probes: tally.probes.iter().sum(),
            dropped: [Exit::Banned, Exit::Held, Exit::Shielded].map(|exit| tally.exit(exit)).iter().sum(),
        };
        let levels = Levels {
            sources: observer.len(),
            findings: self.open().count(),
            bans: self.responder.bans_held(),
        };
        page.note(now, totals, levels);
    }

    fn read_occupancy(&mut self) {
        if self.occupancy_read.is_some_and(|read| read.elapsed() < OCCUPANCY_INTERVAL) {
            return;
        }
        self.occupancy_read = Some(Instant::now());
        match self.sensor.occupancy() {
            Ok(occupancy) => self.metrics.sensor.occupancy(occupancy),
            Err(error) => tracing::error!("the number of entries in the maps could not be read: {error}"),
        }
    }

    /// Reads the remaining counters, closes all findings and detaches.
    pub(super) async fn finish(mut self) {
        self.read();
        let (now, mut events) = (self.clock.now(), Vec::new());
        self.pipeline.detector.close_all(now, &mut |event| events.push(event));
        if let Some(leaving) = &mut self.leaving {
            leaving.close_all(now, &mut |event| events.push(event));
        }
        self.tell(events);
        if let Some(leaving) = self.leaving.take() {
            leaving.close(&self.metrics.outbound).await;
        }
        self.state_writer.close(&mut self.responder, now).await;
        self.crowdsec.close().await;
        self.fleet.close().await;
        // Sinks come last, because they may have to wait for others.
        detach(self.attachments);
        self.sinks.finish().await;
    }
}

/// Detaches, unless the programs are to stay.
fn detach(attachments: Attachments) {
    let names = attachments.states().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    if let Some(path) = attachments.persists_at() {
        let path = path.display();
        tracing::info!(
            "stays attached to {names}: counting and dropping go on until an agent takes over, or `scanguard \
             detach --pin {path}` ends it"
        );
        return;
    }
    drop(attachments);
    tracing::info!("detached from {names}");
}
