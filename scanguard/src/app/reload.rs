//! Reads the configuration, at the start and again when it is asked for: by SIGHUP, or at the control socket.

use anyhow::Result;
use tokio::time::Interval;

use super::{agent::Agent, arguments::Arguments, poll_timer};
use crate::{
    apply,
    config::{Config, access},
    logs::task::Logs,
    respond::report::Done,
    service::ServiceManager,
};

/// Why the old configuration stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotReloaded {
    /// All that is wrong with the new one.
    #[error("the old configuration stays, the new one is wrong: {}", .0.join("\n"))]
    Wrong(Vec<String>),
    /// It could not be put into force.
    #[error("the new configuration could not be put into force: {0}")]
    Kernel(String),
}

/// What the main loop goes by, and a reload changes with the configuration.
pub(super) struct Rhythm {
    arguments: Arguments,
    pub(super) service: ServiceManager,
    pub(super) polls: Interval,
    pub(super) logs: Logs,
}

impl Rhythm {
    /// As the agent is configured by now.
    pub(super) fn new(arguments: Arguments, agent: &Agent) -> Self {
        Self {
            arguments,
            service: ServiceManager::new(),
            polls: poll_timer(agent.config.sensor.poll_interval),
            logs: agent.follow_logs(),
        }
    }

    /// Has the agent read its configuration again: all of it is taken, or nothing. Says what was taken.
    ///
    /// # Errors
    /// It is wrong, and the old one is in force; that is logged, exported, and told to the service manager.
    pub(super) async fn reload(&mut self, agent: &mut Agent, cause: &str) -> Result<Done, NotReloaded> {
        self.service.reloading();
        let followed = agent.config.logs.clone();
        let taken = agent.reload(&self.arguments);
        match &taken {
            Ok(_) => {
                tracing::info!("{cause}: the configuration was read again and taken");
                self.polls = poll_timer(agent.config.sensor.poll_interval);
                self.service.ready("attached; the configuration was read again");
            }
            Err(error) => {
                tracing::error!("{cause}: {error}");
                self.service.ready("attached; the new configuration is wrong, the old one is in force");
            }
        }
        if agent.config.logs != followed {
            self.logs.end(&mut |said| agent.hear_logs(&said)).await;
            self.logs = agent.follow_logs();
        }
        taken
    }
}

impl Agent {
    /// Counters, histories and findings are kept.
    fn reload(&mut self, arguments: &Arguments) -> Result<Done, NotReloaded> {
        let read = self.read_again(arguments).map_err(|error| NotReloaded::Wrong(problems(&error)));
        let taken = read.and_then(|config| {
            self.reconfigure(config).map_err(|error| NotReloaded::Kernel(format!("{error:#}")))
        });
        self.metrics.reloaded(taken.is_ok());
        taken
    }

    /// The configuration, if the sandbox lets everything that it names be used.
    fn read_again(&self, arguments: &Arguments) -> Result<Config> {
        let file = access::file(arguments.config.as_deref());
        let Some(sandbox) = &self.sandbox else {
            return configuration(arguments);
        };
        sandbox.check_reading(access::named(file))?;
        let config = configuration(arguments)?;
        sandbox.check_writing(access::needed(&config, file).write)?;
        Ok(config)
    }

    fn reconfigure(&mut self, config: Config) -> Result<Done> {
        let mut notes = Vec::new();
        let needs_restart = self.config.needs_restart(&config);
        if !needs_restart.is_empty() {
            let note =
                format!("these settings are taken at the next start only: {}", needs_restart.join(", "));
            tracing::warn!("{note}");
            notes.push(note);
        }
        notes.extend(apply::to_pipeline(&config, &mut self.pipeline));
        self.metrics.detection.add_rules(self.pipeline.detector.rules());
        apply::to_sensor(&config, &self.pipeline.detector, &mut self.sensor)?;
        self.addresses_read = None;
        let (now, detector) = (self.clock.now(), &self.pipeline.detector);
        self.responder.reconfigure(config.response.clone(), now, &mut self.sensor);
        self.responder.set_plain(detector.plain(), now, &mut self.sensor);
        self.responder.set_feeds(detector.feeds(), now, &mut self.sensor);
        self.crowdsec.restart(&config.crowdsec, self.clock);
        self.door.set(config.metrics.web.clone());
        if let Some(page) = &self.page {
            page.set_token(config.page.admin_token.as_ref());
        }
        self.sinks.reconfigure(&config.sinks, &mut detector.tracker().open(), now);
        self.config = config;
        // The mode may have become enforce.
        self.let_go();
        Ok(Done { said: "the configuration was read again and taken".to_owned(), notes })
    }
}

/// The file's settings with those of the command line put over them.
pub(super) fn configuration(arguments: &Arguments) -> Result<Config> {
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
    config.sinks.set_stdout_format(arguments.format);
    if let Some(socket) = &arguments.socket {
        config.control.socket.clone_from(socket);
    }
    if let Some(state) = &arguments.state {
        config.response.state.clone_from(state);
    }
    Ok(config)
}

/// All that is wrong, one by one.
fn problems(error: &anyhow::Error) -> Vec<String> {
    format!("{error:#}").lines().map(str::to_owned).collect()
}
