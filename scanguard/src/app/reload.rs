//! Reads the configuration, at the start and again at SIGHUP.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::agent::Agent;
use crate::{
    cli::Run,
    config::Config,
    detect::{Detector, feeds::Feeds},
    pipeline::Pipeline,
};

impl Agent {
    /// Reads the configuration again: all of it is taken, or nothing. Counters, histories and findings are
    /// kept. Gives the new interval of polls if it was taken.
    pub(super) fn reload(&mut self, arguments: &Run) -> Option<Duration> {
        let taken = self.read_again(arguments).and_then(|config| self.reconfigure(config));
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

    /// The configuration, if the sandbox lets everything that it names be used.
    fn read_again(&self, arguments: &Run) -> Result<Config> {
        let file = arguments.config.as_deref();
        let Some(sandbox) = &self.sandbox else {
            return configuration(arguments);
        };
        sandbox.check_file(file)?;
        let config = configuration(arguments)?;
        sandbox.check_config(&config, file)?;
        Ok(config)
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
        detector.set_content(config.content.clone());
        observer.reconfigure(config.history);
        self.metrics.add_rules(detector.rules());
        self.sensor.set_trip(detector.soonest()).context("the trip threshold")?;
        self.sensor.set_epoch_length(config.sensor.poll_interval).context("the length of an epoch")?;
        self.sensor
            .set_samples(config.samples.budgets(config.sensor.poll_interval))
            .context("the budgets of samples")?;
        self.sensor.set_routed(&config.network.home);
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
        Ok(())
    }
}

/// The file's settings with those of the command line put over them.
pub(super) fn configuration(arguments: &Run) -> Result<Config> {
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
