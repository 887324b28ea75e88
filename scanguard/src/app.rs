//! Wires the parts together and runs them until a signal comes.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya_log::EbpfLogger;
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{
    cli::Run,
    clock::Clock,
    config::Config,
    detect::{
        Detector,
        feeds::Feeds,
        findings::{Event, EventKind},
    },
    export::{
        findings::FindingsWriter,
        http::{self, Health, Shared},
        metrics::{Limits, Metrics},
    },
    network::Network,
    observe::Observer,
    pipeline::Pipeline,
    sensor::{
        attach::{Attachments, Change},
        kernel::KernelSensor,
        privileges,
        program::{self, KernelLogLevel},
        trips::{Told, Trips},
    },
};

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

    let listener = http::bind(config.metrics.listen).await?;
    let address = listener.local_addr().context("the listener's address")?;
    let salt = RandomState::new().hash_one("scanguard");
    let mut ebpf = program::load(&config.sensor, salt, KernelLogLevel::from_tracing())?;
    drain_kernel_log(&mut ebpf);
    let mut sensor = KernelSensor::new(&mut ebpf, config.sensor.ipv6_prefix)?;
    let mut trips = Trips::new(&mut ebpf)?;
    let network = Network::connect()?;
    // Asked before it is listened to, so that a change in between is seen.
    network.addresses_changed();
    sensor.set_epoch_length(config.sensor.poll_interval)?;
    let cpus = std::thread::available_parallelism().context("the number of CPUs")?;
    sensor.set_free_entries(config.sensor.free_entries(cpus.get()))?;
    sensor.set_routed(&config.network.home);
    sensor.set_local(&network.local().await?)?;
    let attachments = Attachments::new(ebpf, &config.sensor, network.clone()).await?;

    let mut agent = Agent::new(&config, sensor, attachments, network, arguments.format)?;
    let (stop, stopped) = watch::channel(());
    let server = tokio::spawn(http::serve(listener, agent.shared(), async move {
        let mut stopped = stopped;
        // An error means that the agent is gone, which is a reason to stop too.
        let _ = stopped.changed().await;
    }));
    tracing::info!("metrics at http://{address}/metrics");

    let mut polls = poll_timer(config.sensor.poll_interval);
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
            _ = polls.tick() => agent.poll().await,
            told = trips.next() => agent.look(&told?),
        }
    }
    agent.finish();
    drop(stop);
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
        let limits = Limits {
            sources: config.sensor.max_sources,
            history: config.history.max_sources,
            findings: config.findings.max_open,
        };
        let metrics = Metrics::new(limits, detector.rules()).context("the metrics")?;
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
        Ok(Self {
            config: config.clone(),
            clock: Clock::start(),
            sensor,
            attachments,
            network,
            addresses_read: Some(Instant::now()),
            occupancy_read: None,
            pipeline: Pipeline::new(Observer::new(config.history), detector),
            writer: FindingsWriter::stdout(format, config.sensor.ipv6_prefix),
            metrics: Arc::new(metrics),
            health: Arc::new(health),
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
        self.config = config;
        Ok(())
    }

    /// Looks at sources that the program told of.
    fn look(&mut self, told: &Told) {
        let Self { clock, sensor, pipeline, writer, metrics, .. } = self;
        for (source, at) in &told.sources {
            let mut opened = false;
            let result = pipeline.look(sensor, source, clock.now(), &mut |event| {
                opened |= event.kind == EventKind::Opened;
                tell(writer, metrics, &event);
            });
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
        let Self { clock, sensor, pipeline, writer, metrics, health, .. } = self;
        let started = Instant::now();
        let result = pipeline.poll(sensor, clock.now(), &mut |event| tell(writer, metrics, &event));
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
            Ok(local) => self.sensor.set_local(&local).map_err(anyhow::Error::from),
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
    fn finish(mut self) {
        self.read();
        let Self { clock, mut pipeline, mut writer, metrics, attachments, .. } = self;
        pipeline.detector.close_all(clock.now(), &mut |event| tell(&mut writer, &metrics, &event));
        let names: Vec<_> = attachments.states().map(|(name, _)| name.to_owned()).collect();
        drop(attachments);
        tracing::info!("detached from {}", names.join(", "));
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

/// The kernel's monotonic clock, by which the program stamps what it tells.
fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to the given structure; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn tell(writer: &mut FindingsWriter<std::io::Stdout>, metrics: &Metrics, event: &Event) {
    metrics.told(event.finding.rule, event.kind);
    if let Err(error) = writer.write(event) {
        metrics.output_failed();
        // The reader of a pipe may have gone; the metrics still tell.
        tracing::warn!("a finding could not be written: {error}");
    }
}
