//! Wires the parts together and runs them until a signal comes.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya_log::EbpfLogger;
use ipnet::IpNet;
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{
    cli::Run,
    clock::{Clock, monotonic},
    config::Config,
    control::{self, Answer, Ask, Request, server},
    detect::{
        Detector,
        feeds::Feeds,
        findings::{Event, EventKind, Finding},
    },
    export::{
        findings::FindingsWriter,
        http::{self, Health, Shared},
        metrics::{Limits, Metrics},
    },
    network::{Local, Network},
    observe::Observer,
    pipeline::Pipeline,
    respond::{
        keeper::Keeper,
        report::{Explanation, HistoryReport, Status},
        responder::{Found, Responder},
        surroundings,
    },
    sensor::{
        attach::{Attachments, Change},
        kernel::KernelSensor,
        pins::Plan,
        privileges,
        program::{self, KernelLogLevel},
        trips::{Told, Trips},
    },
};

/// How often bans that have ended are cleared away, and the state file is written if it has to be.
const CHORES_INTERVAL: Duration = Duration::from_secs(1);

/// How often the local addresses are looked at, though nothing announced a change.
const ADDRESSES_INTERVAL: Duration = Duration::from_secs(30);

/// `scanguard run`: returns when SIGTERM or SIGINT came and everything is detached.
///
/// # Errors
/// Whatever keeps it from starting. Nothing is left behind then.
pub async fn run(arguments: Run) -> Result<()> {
    let config = configuration(&arguments)?;
    privileges::check()?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;

    let control = control::socket::bind(&config.control, &config.response.state)?;
    let listener = http::bind(config.metrics.listen).await?;
    let address = listener.local_addr().context("the listener's address")?;
    let plan = Plan::new(&config.sensor)?;
    let log = KernelLogLevel::from_tracing();
    let mut ebpf = program::load_with(&config.sensor, plan.salt(), log, &plan.reused())?;
    let mut taken = plan.commit(&ebpf)?;
    drain_kernel_log(&mut ebpf);
    let mut sensor = KernelSensor::new(&mut ebpf, config.sensor.ipv6_prefix)?;
    let lost = sensor.resume(&mut taken)?;
    if lost != 0 {
        tracing::error!("{lost} bans could not be carried over: the map of bans is full");
    }
    let mut trips = Trips::new(&mut ebpf)?;
    let network = Network::connect()?;
    // Asked before it is listened to, so that a change in between is seen.
    network.addresses_changed();
    sensor.set_epoch_length(config.sensor.poll_interval)?;
    let cpus = std::thread::available_parallelism().context("the number of CPUs")?;
    sensor.set_free_entries(config.sensor.free_entries(cpus.get()))?;
    sensor.set_routed(&config.network.home);
    let local = network.local().await?;
    sensor.set_local(&local)?;
    let attachments = Attachments::new(ebpf, &config.sensor, network.clone(), taken.into_pins()).await?;

    let mut agent = Agent::new(&config, sensor, attachments, network, arguments.format)?;
    agent.surround(&local).await;
    agent.enter()?;
    let (stop, stopped) = watch::channel(());
    let (ask, mut asked) = mpsc::channel(server::QUEUE);
    let mut ending = stopped.clone();
    let metrics = Arc::clone(&agent.metrics.response);
    let controller =
        tokio::spawn(server::serve(control.listener, control.rights, ask, metrics, async move {
            let _ = ending.changed().await;
        }));
    let server = tokio::spawn(http::serve(listener, agent.shared(), async move {
        let mut stopped = stopped;
        // An error means that the agent is gone, which is a reason to stop too.
        let _ = stopped.changed().await;
    }));
    tracing::info!("metrics at http://{address}/metrics, control at {}", config.control.socket.display());

    let mut polls = poll_timer(config.sensor.poll_interval);
    let mut chores = poll_timer(CHORES_INTERVAL);
    loop {
        tokio::select! {
            // In this order: a flood of trips must not keep the agent from polling, or from ending.
            biased;
            _ = terminate.recv() => break tracing::info!("SIGTERM: ending"),
            _ = interrupt.recv() => break tracing::info!("SIGINT: ending"),
            _ = hangup.recv() => {
                if let Some(interval) = agent.reload(&arguments) {
                    polls = poll_timer(interval);
                }
            }
            _ = chores.tick() => agent.chores().await,
            _ = polls.tick() => agent.poll().await,
            Some(request) = asked.recv() => agent.answer(request).await,
            told = trips.next() => agent.look(&told?),
        }
    }
    agent.finish().await;
    drop(stop);
    controller.await.context("the control socket")?;
    drop(control.guard);
    server.await.context("the metrics listener")?.context("the metrics listener")
}

fn poll_timer(every: Duration) -> Interval {
    let mut polls = interval(every);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    polls
}

/// The file's settings with those of the command line put over them.
fn configuration(arguments: &Run) -> Result<Config> {
    let (mut config, path) = Config::find(arguments.config.as_deref())?;
    match path {
        Some(path) => tracing::info!("configuration: {}", path.display()),
        None => tracing::info!("no configuration file: defaults"),
    }
    if !arguments.interfaces.is_empty() {
        config.sensor.interfaces.clone_from(&arguments.interfaces);
    }
    config.sensor.mode = arguments.mode.unwrap_or(config.sensor.mode);
    config.metrics.listen = arguments.listen.unwrap_or(config.metrics.listen);
    if let Some(socket) = &arguments.socket {
        config.control.socket.clone_from(socket);
    }
    if let Some(state) = &arguments.state {
        config.response.state.clone_from(state);
    }
    Ok(config)
}

/// Has what the kernel program logs appear among what the agent logs.
fn drain_kernel_log(ebpf: &mut aya::Ebpf) {
    let logger = match EbpfLogger::init(ebpf) {
        Ok(logger) => logger,
        // At a log level that lets nothing through, the verifier has removed the map with its users.
        Err(error) => return tracing::debug!("no log of the kernel program: {error}"),
    };
    tokio::spawn(async move {
        // SAFETY: the logger owns its descriptor, which stays the same and open until it is dropped.
        let logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
        let Ok(mut logger) = logger else {
            return tracing::warn!("the log of the kernel program cannot be read");
        };
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
}

/// How often the maps of what answered are counted through, which takes milliseconds when they are full.
const OCCUPANCY_INTERVAL: Duration = Duration::from_secs(5);

/// Everything that a poll needs.
struct Agent {
    config: Config,
    clock: Clock,
    sensor: KernelSensor,
    attachments: Attachments,
    network: Network,
    /// When the addresses were looked at last; none: the networks beside them have changed since.
    addresses_read: Option<Instant>,
    /// When the occupancy of the maps of what answered was looked at last.
    occupancy_read: Option<Instant>,
    pipeline: Pipeline,
    writer: FindingsWriter<std::io::Stdout>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    responder: Responder,
    keeper: Keeper,
    /// The time of day of the poll before.
    last_poll: jiff::Timestamp,
}

impl Agent {
    fn new(
        config: &Config,
        mut sensor: KernelSensor,
        attachments: Attachments,
        network: Network,
        format: crate::export::findings::Format,
    ) -> Result<Self> {
        let mut detector = Detector::new(config.rules.rules(), config.findings);
        read_feeds(&mut detector, config);
        use_geo(&mut detector, config);
        sensor.set_trip(detector.soonest()).context("the trip threshold")?;
        let mut pipeline = Pipeline::new(Observer::new(config.history), detector);
        let Pipeline { observer, detector, .. } = &mut pipeline;
        let epoch = sensor.epoch();
        let before = sensor.read_before(&mut |source, state| observer.resume(source, state, epoch));
        let limits = Limits {
            sources: config.sensor.max_sources,
            history: config.history.max_sources,
            findings: config.findings.max_open,
        };
        let metrics = Metrics::new(limits, detector.rules()).context("the metrics")?;
        if let Some(poll) = before.context("the sources that were taken over")? {
            pipeline.resume(&poll);
        }
        for (interface, mode) in attachments.states() {
            metrics.attached(interface, mode);
            if let Some(mode) = mode {
                tracing::info!(interface, %mode, "attached");
            }
        }
        for (interface, attached) in attachments.egress_states() {
            metrics.egress_attached(interface, attached);
        }
        let health = Health::default();
        health.attached.store(true, Ordering::Relaxed);
        let clock = Clock::start();
        let now = clock.now();
        let of_response = &metrics.response;
        let (keeper, state) = Keeper::open(config.response.state.clone(), Arc::clone(of_response), now);
        let prefix = config.sensor.ipv6_prefix;
        let responder = Responder::new(config.response.clone(), prefix, state, Arc::clone(of_response), now);
        Ok(Self {
            config: config.clone(),
            clock,
            sensor,
            attachments,
            network,
            addresses_read: Some(Instant::now()),
            occupancy_read: None,
            pipeline,
            writer: FindingsWriter::stdout(format, config.sensor.ipv6_prefix),
            metrics: Arc::new(metrics),
            health: Arc::new(health),
            responder,
            keeper,
            last_poll: now.wall,
        })
    }

    fn shared(&self) -> Shared {
        Shared { metrics: Arc::clone(&self.metrics), health: Arc::clone(&self.health) }
    }

    /// Reads the configuration again: all of it is taken, or nothing. Counters, histories and findings are
    /// kept. Gives the new interval of polls if it was taken.
    fn reload(&mut self, arguments: &Run) -> Option<Duration> {
        let taken = configuration(arguments).and_then(|config| self.reconfigure(config));
        self.metrics.reloaded(taken.is_ok());
        match taken {
            Ok(()) => {
                tracing::info!("SIGHUP: the configuration was read again and taken");
                Some(self.config.sensor.poll_interval)
            }
            Err(error) => {
                tracing::error!("SIGHUP: the old configuration stays, the new one is wrong: {error:#}");
                None
            }
        }
    }

    fn reconfigure(&mut self, config: Config) -> Result<()> {
        let needs_restart = self.config.needs_restart(&config);
        if !needs_restart.is_empty() {
            tracing::warn!("these settings are taken at the next start only: {}", needs_restart.join(", "));
        }
        let Pipeline { observer, detector, .. } = &mut self.pipeline;
        detector.reconfigure(config.rules.rules(), config.findings);
        read_feeds(detector, &config);
        use_geo(detector, &config);
        observer.reconfigure(config.history);
        self.metrics.add_rules(detector.rules());
        self.sensor.set_trip(detector.soonest()).context("the trip threshold")?;
        self.sensor.set_epoch_length(config.sensor.poll_interval).context("the length of an epoch")?;
        self.sensor.set_routed(&config.network.home);
        self.addresses_read = None;
        let (now, detector) = (self.clock.now(), &self.pipeline.detector);
        self.responder.reconfigure(config.response.clone(), now, &mut self.sensor);
        self.responder.set_feeds(detector.feeds(), now, &mut self.sensor);
        self.config = config;
        Ok(())
    }

    /// Has the kernel ban whom the state file and the feeds have.
    fn enter(&mut self) -> Result<()> {
        let now = self.clock.now();
        self.responder.set_feeds(self.pipeline.detector.feeds(), now, &mut self.sensor);
        self.responder.enter(now, &mut self.sensor).context("the gate")
    }

    /// Looks at whom this host cannot do without.
    async fn surround(&mut self, local: &Local) {
        let found = match self.found(local).await {
            Ok(found) => found,
            Err(error) => {
                return tracing::error!("whom not to ban could not be brought up to date: {error:#}");
            }
        };
        self.responder.surround(found, self.clock.now(), &mut self.sensor);
    }

    async fn found(&self, local: &Local) -> Result<Found> {
        let own = local.prefixes.iter().filter_map(|(ip, bits)| IpNet::new(*ip, *bits).ok()).collect();
        let routes = self.network.routes().await?;
        let mut attached = Vec::new();
        let names = &self.config.response.allow_interfaces;
        if !names.is_empty() {
            let interfaces = self.network.interfaces().await?;
            for name in names {
                match interfaces.iter().find(|interface| interface.name == *name) {
                    Some(interface) => {
                        let nets = routes.attached.get(&interface.index).into_iter().flatten();
                        attached.extend(nets.map(|net| (name.clone(), *net)));
                    }
                    None => tracing::warn!("response.allow_interfaces: there is no interface {name} now"),
                }
            }
        }
        // Reading /proc takes a while where there are many processes.
        let (resolvers, ssh) =
            tokio::task::block_in_place(|| (surroundings::resolvers(), surroundings::ssh_connections()));
        Ok(Found { own, gateways: routes.gateways, resolvers, attached, ssh })
    }

    async fn chores(&mut self) {
        let now = self.clock.now();
        self.responder.chores(now, &mut self.sensor);
        self.keeper.keep(&mut self.responder, now).await;
    }

    /// Answers a request of the control socket.
    async fn answer(&mut self, request: Request) {
        let now = self.clock.now();
        let answer = match request.ask {
            Ask::Order(order) => match self.responder.order(order, request.peer.uid, now, &mut self.sensor) {
                Ok(done) => Answer::Done(done),
                Err(error) => Answer::Refused(error),
            },
            // Each ban is looked up in the kernel.
            Ask::Bans => Answer::Bans(tokio::task::block_in_place(|| self.responder.bans(now, &self.sensor))),
            Ask::Status => Answer::Status(Box::new(self.status())),
            Ask::Explain(address) => Answer::Explanation(Box::new(self.explain(address))),
        };
        // Who asked may have gone.
        let _ = request.answer.send(answer);
        self.keeper.keep(&mut self.responder, now).await;
    }

    fn status(&self) -> Status {
        let now = self.clock.now();
        let attached = self.attachments.states();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: now.at.as_secs(),
            interfaces: attached
                .map(|(name, mode)| (name.to_owned(), mode.map(|mode| mode.to_string())))
                .collect(),
            findings_open: self.pipeline.detector.tracker().open().count(),
            response: self.responder.status(now, self.keeper.error()),
        }
    }

    fn explain(&self, address: IpAddr) -> Explanation {
        let now = self.clock.now();
        let Pipeline { observer, detector, .. } = &self.pipeline;
        let mut explanation =
            self.responder.explain(address, &mut detector.tracker().open(), now, &self.sensor);
        explanation.history = observer.history(&self.responder.source(address)).map(|history| {
            let window = history.window(now.at, now.at);
            let counts = window.activity.counts.by_frequency();
            HistoryReport {
                probes: counts.iter().map(|(class, count)| (class.label().to_owned(), *count)).collect(),
                completed: window.activity.completed(),
                seconds_since_first: now.at.saturating_sub(window.first).as_secs(),
                seconds_since_last: now.at.saturating_sub(history.last()).as_secs(),
            }
        });
        explanation
    }

    /// Looks at sources that the program told of.
    fn look(&mut self, told: &Told) {
        let Self { clock, sensor, pipeline, writer, metrics, responder, .. } = self;
        for (source, at) in &told.sources {
            let mut opened = false;
            let mut findings = Vec::new();
            let result = pipeline.look(sensor, source, clock.now(), &mut |event| {
                opened |= event.kind == EventKind::Opened;
                tell(writer, metrics, &event);
                findings.extend(to_consider(event));
            });
            for finding in findings {
                responder.consider(&finding, clock.now(), sensor);
            }
            // A finding that was open before is told only now and then, but its source may be banned now.
            let going_on = pipeline.detector.tracker().of(source);
            responder.reconsider(&mut going_on.iter(), clock.now(), sensor);
            if let Err(error) = result {
                tracing::warn!("a source could not be looked at, the next poll will: {error}");
            }
            if opened {
                metrics.found_after(monotonic().saturating_sub(*at));
            }
        }
    }

    async fn poll(&mut self) {
        self.supervise().await;
        self.refresh_addresses().await;
        // A poll of a large table takes a while, during which requests are to be answered.
        tokio::task::block_in_place(|| self.read());
    }

    fn read(&mut self) {
        let Self { clock, sensor, pipeline, writer, metrics, health, responder, last_poll, .. } = self;
        let started = Instant::now();
        let now = clock.now();
        // No more than findings can be open.
        let mut findings = Vec::new();
        let result = pipeline.poll(sensor, now, &mut |event| {
            tell(writer, metrics, &event);
            findings.extend(to_consider(event));
        });
        for finding in findings {
            responder.consider(&finding, now, sensor);
        }
        let open = pipeline.detector.tracker().open();
        responder.reconsider(&mut open.filter(|finding| finding.last >= *last_poll), now, sensor);
        *last_poll = now.wall;
        health.polled.store(result.is_ok(), Ordering::Relaxed);
        match result {
            Ok(outcome) => {
                metrics.polled(&outcome.poll, &outcome.delta, outcome.evicted, started.elapsed());
            }
            Err(error) => {
                metrics.poll_failed();
                tracing::error!("poll: {error}");
            }
        }
        metrics.state(&pipeline.observer, &pipeline.detector);
        self.read_occupancy();
    }

    fn read_occupancy(&mut self) {
        if self.occupancy_read.is_some_and(|read| read.elapsed() < OCCUPANCY_INTERVAL) {
            return;
        }
        self.occupancy_read = Some(Instant::now());
        match self.sensor.occupancy() {
            Ok(occupancy) => self.metrics.occupancy(occupancy),
            Err(error) => tracing::error!("how full the maps are cannot be told: {error}"),
        }
    }

    /// The kernel announces addresses, but not networks that are accepted as a whole.
    async fn refresh_addresses(&mut self) {
        let is_recent = self.addresses_read.is_some_and(|read| read.elapsed() < ADDRESSES_INTERVAL);
        if !self.network.addresses_changed() && is_recent {
            return;
        }
        self.addresses_read = Some(Instant::now());
        let result = match self.network.local().await {
            Ok(local) => {
                self.surround(&local).await;
                self.sensor.set_local(&local).map_err(anyhow::Error::from)
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = result {
            tracing::error!("the local addresses could not be brought up to date: {error:#}");
        }
    }

    async fn supervise(&mut self) {
        let changes = match self.attachments.supervise().await {
            Ok(changes) => changes,
            Err(error) => return tracing::error!("the interfaces could not be looked at: {error}"),
        };
        for (interface, change) in changes {
            match change {
                Change::Lost => {
                    tracing::error!(
                        interface,
                        "the interface is gone; the others go on, and it is attached again when it returns"
                    );
                    self.metrics.interface_lost(&interface);
                }
                Change::Returned(mode) => {
                    tracing::info!(interface, %mode, "the interface is back: attached");
                    self.metrics.attached(&interface, Some(mode));
                }
                Change::Failed(error) => {
                    tracing::error!(
                        interface,
                        "the interface is back, but could not be attached; trying on: {error}"
                    );
                }
            }
        }
        for (interface, attached) in self.attachments.egress_states() {
            self.metrics.egress_attached(interface, attached);
        }
        let attached = self.attachments.states().any(|(_, mode)| mode.is_some());
        self.health.attached.store(attached, Ordering::Relaxed);
    }

    /// Reads what is left, closes all findings and detaches.
    async fn finish(mut self) {
        self.read();
        self.keeper.close(&mut self.responder, self.clock.now()).await;
        let Self { clock, mut pipeline, mut writer, metrics, attachments, .. } = self;
        pipeline.detector.close_all(clock.now(), &mut |event| tell(&mut writer, &metrics, &event));
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
}

/// The finding of an event after which somebody may have to be banned.
fn to_consider(event: Event) -> Option<Finding> {
    match event.kind {
        EventKind::Opened | EventKind::Updated => Some(event.finding),
        EventKind::Closed => None,
    }
}

/// Reads the feeds of known-bad sources; one that is wrong stays as it was.
pub(crate) fn read_feeds(detector: &mut Detector, config: &Config) {
    let (feeds, problems) = Feeds::load(&config.feeds.files, detector.feeds());
    for problem in problems {
        tracing::warn!("feed {problem}");
    }
    detector.set_feeds(feeds);
}

/// Takes the databases that were read with the configuration.
pub(crate) fn use_geo(detector: &mut Detector, config: &Config) {
    for database in config.geo.described() {
        tracing::info!("database {database}");
    }
    detector.set_geo(config.geo.clone());
}

fn tell(writer: &mut FindingsWriter<std::io::Stdout>, metrics: &Metrics, event: &Event) {
    metrics.told(event.finding.rule, event.kind);
    if let Err(error) = writer.write(event) {
        metrics.output_failed();
        // The reader of a pipe may have gone; the metrics still tell.
        tracing::warn!("a finding could not be written: {error}");
    }
}
