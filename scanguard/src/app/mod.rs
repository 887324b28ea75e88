//! Wires the parts together and runs them until a signal comes.

mod agent;
mod answers;
pub mod arguments;
mod environment;
mod leaving;
pub mod prepare;
mod reload;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::{Interval, MissedTickBehavior, interval},
};

use self::{agent::Agent, arguments::Arguments, reload::LoopState};
use crate::{
    apply,
    config::Config,
    control::{self, agent_handle::AgentHandle, server},
    export::{http, settings::Level},
    http_server::metrics::Listener,
    network::Network,
    sensor::{
        self,
        attach::Attachments,
        build::{self, Build},
        choice::Choice,
        connections, features, footprint,
        kernel::KernelSensor,
        kernel_log,
        outbound::Programs,
        pins::Plan,
        program::{self, KernelLogLevel},
        samples::Samples,
        settings::Settings,
        wakeups::Wakeups,
    },
};

/// How often ended bans are removed, and the state file is written if it has changed.
const CHORES_INTERVAL: Duration = Duration::from_secs(1);

/// `scanguard run`, with the configuration from [`prepare::start`]: returns after SIGTERM or SIGINT, when everything is
/// detached.
///
/// # Errors
/// Any error that prevents the start. Nothing is left behind then.
pub async fn run(arguments: Arguments, config: Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;

    let control = control::socket::bind(&config.control, &config.response.state)?;
    let listener = http::bind(config.metrics.listen).await?;
    let address = listener.local_addr().context("the listener's address")?;
    let plan = Plan::new(&config.sensor)?;
    let salt = plan.salt();
    // An earlier agent may have left bans in the kernel.
    if plan.reused().is_empty() {
        footprint::check(&config.sensor, config.outbound.enabled)?;
    }
    let network = Network::connect()?;
    let choice = Choice::make(&config.sensor, &network).await?;
    let chosen = Settings { mode: choice.mode, ..config.sensor.clone() };
    let log = KernelLogLevel::from_tracing();
    let build = Build::of_kernel();
    if build == Build::Old {
        tracing::warn!("{}: no {}; {}", program::kernel_release(), features::FRAGS, build::LOSS);
    }
    let program::Loaded { mut ebpf, connections, outbound } = program::load_with_connections(
        &chosen,
        &config.samples,
        plan.salt(),
        log,
        &plan.reused(),
        leaving::scope(&config.outbound),
    )?;
    if let Err(error) = &connections {
        tracing::warn!("{error}; {}", connections::LOSS);
    }
    let programs = Programs::attach(&mut ebpf, outbound)?;
    let mut taken = plan.commit(&ebpf)?;
    kernel_log::drain(&mut ebpf);
    let mut sensor = KernelSensor::new(&mut ebpf, config.sensor.ipv6_prefix)?;
    sensor.set_connections_attached(connections.is_ok());
    let lost = sensor.resume(&mut taken)?;
    if lost != 0 {
        tracing::error!("{lost} bans could not be carried over: the map of bans is full");
    }
    let mut wakeups = Wakeups::new(&mut ebpf)?;
    let mut samples = Samples::new(&mut ebpf)?;
    // Subscribed before the first read, so that no change in between is missed.
    network.addresses_changed();
    let (pipeline, _) = apply::pipeline(&config);
    if sensor.was_alone(config.sensor.poll_interval) {
        samples.drop_old();
    }
    apply::to_sensor(&config, &pipeline.detector, &mut sensor)?;
    let cpus = sensor::online_cpus().context("the number of CPUs")?;
    sensor.set_free_entries(config.sensor.free_entries(cpus))?;
    let local = network.local().await?;
    sensor.set_local(&local)?;
    let attachments = Attachments::new(ebpf, &chosen, choice, network.clone(), taken.into_pins()).await?;

    let mut agent = Agent::new(&config, pipeline, sensor, attachments, network)?;
    agent.watch_leaving(programs);
    agent.metrics.sensor.set_build(build);
    agent.salt = salt;
    agent.pipeline.detector.set_sketch_salt(salt);
    // No source may be banned before the exempt hosts are known. Without them the agent does not start.
    environment::refresh_allow_list(&mut agent, &local).await?;
    environment::refresh_ports(&mut agent)?;
    agent.own = environment::single(&local);
    // Done before the programs are attached, so that no packet of a banned source passes.
    agent.enter()?;
    agent.attach().await?;
    environment::tell_of_interfaces(&mut agent)?;
    environment::refresh_bound(&mut agent).await;
    agent.confine(&arguments).await?;
    let (stop, stopped) = watch::channel(());
    let (ask, mut asked) = mpsc::channel(server::QUEUE);
    let shared = agent.shared(AgentHandle::new(ask.clone()), stopped.clone());
    let mut ending = stopped.clone();
    let metrics = Arc::clone(&agent.metrics.control);
    let served = agent.metrics.listeners.of(Listener::Control);
    let controller =
        tokio::spawn(server::serve(control.listener, control.rights, ask, metrics, served, async move {
            let _ = ending.changed().await;
        }));
    let served = config.metrics.clone();
    let server = tokio::spawn(async move {
        let mut stopped = stopped;
        // An error means that the agent is gone, which is also a reason to stop.
        let end = async { stopped.changed().await.unwrap_or_default() };
        http::serve(listener, shared, &served, end).await;
    });
    let scheme = config.metrics.web.scheme();
    for (level, said) in config.metrics.remarks(address) {
        match level {
            Level::Note => tracing::info!("{said}"),
            Level::Warning => tracing::warn!("{said}"),
        }
    }
    tracing::info!("metrics at {scheme}://{address}/metrics, control at {}", config.control.socket.display());

    let mut state = LoopState::new(arguments, &agent);
    state.service.ready(&agent.said());
    let mut chores = poll_timer(CHORES_INTERVAL);
    loop {
        tokio::select! {
            // The order matters: a flood of wake-ups must not keep the agent from polling or from ending.
            biased;
            _ = terminate.recv() => break tracing::info!("SIGTERM: ending"),
            _ = interrupt.recv() => break tracing::info!("SIGINT: ending"),
            _ = hangup.recv() => {
                // The result is logged and sent to the service manager, so it is not needed here.
                let _ = state.reload(&mut agent, "SIGHUP").await;
            }
            _ = chores.tick() => {
                state.service.alive(Instant::now());
                agent.chores().await;
                answers::show_top_sources(&agent);
            }
            _ = state.polls.tick() => {
                environment::supervise(&mut agent, &state.service).await;
                environment::refresh_addresses(&mut agent).await;
                environment::refresh_bound(&mut agent).await;
                if let Err(error) = environment::refresh_ports(&mut agent) {
                    tracing::error!("{error:#}");
                }
                agent.poll();
            }
            Some(request) = asked.recv() => answers::answer(&mut agent, request, &mut state).await,
            // The channel delivers less per second than this arm can process.
            Some(said) = state.logs.next() => agent.hear_logs(said),
            orders = agent.crowdsec.next() => agent.take_decisions(orders),
            told = agent.fleet.next() => agent.take_fleet(told),
            batch = wakeups.next() => agent.look(&batch?),
            samples = samples.next() => agent.hear_samples(&samples?),
        }
    }
    state.service.ending();
    state.logs.end(&mut |said| agent.hear_logs(said)).await;
    agent.finish().await;
    drop(stop);
    controller.await.context("the control socket")?;
    drop(control.guard);
    server.await.context("the metrics listener")
}

fn poll_timer(every: Duration) -> Interval {
    let mut polls = interval(every);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    polls
}
