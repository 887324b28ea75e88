//! Reads the configuration: at the start, and again after SIGHUP or a request at the control socket.

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

/// Why the old configuration stays in force.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotReloaded {
    /// All errors in the new configuration.
    #[error("the old configuration stays, the new one is wrong: {}", .0.join("\n"))]
    Wrong(Vec<String>),
    /// The new configuration could not be applied.
    #[error("the new configuration could not be put into force: {0}")]
    Kernel(String),
}

/// State of the main loop. A reload changes it together with the configuration.
pub(super) struct LoopState {
    arguments: Arguments,
    pub(super) service: ServiceManager,
    pub(super) polls: Interval,
    pub(super) logs: Logs,
}

impl LoopState {
    /// The state for the agent's current configuration.
    pub(super) fn new(arguments: Arguments, agent: &Agent) -> Self {
        Self {
            arguments,
            service: ServiceManager::new(),
            polls: poll_timer(agent.config.sensor.poll_interval),
            logs: agent.follow_logs(),
        }
    }

    /// Reads the configuration again. Either all of it is applied or nothing. Returns a summary of the changes.
    ///
    /// # Errors
    /// The configuration is wrong, and the old one stays in force. The error is logged, exported and sent to the
    /// service manager.
    pub(super) async fn reload(&mut self, agent: &mut Agent, cause: &str) -> Result<Done, NotReloaded> {
        self.service.reloading();
        let followed = agent.config.logs.clone();
        let taken = reload(agent, &self.arguments);
        match &taken {
            Ok(_) => {
                tracing::info!("{cause}: the configuration was read again and taken");
                self.polls = poll_timer(agent.config.sensor.poll_interval);
                self.service.ready(&format!("{}; the configuration was read again", agent.said()));
            }
            Err(error) => {
                tracing::error!("{cause}: {error}");
                let said = agent.said();
                self.service
                    .ready(&format!("{said}; the new configuration is wrong, the old one is in force"));
            }
        }
        agent.join_fleet().await;
        if agent.config.logs != followed {
            self.logs.end(&mut |said| agent.hear_logs(said)).await;
            self.logs = agent.follow_logs();
        }
        taken
    }
}

/// Applies a new configuration. Counters, histories and findings are kept.
fn reload(agent: &mut Agent, arguments: &Arguments) -> Result<Done, NotReloaded> {
    let read = read_again(agent, arguments).map_err(|error| NotReloaded::Wrong(problems(&error)));
    let taken = read.and_then(|config| {
        reconfigure(agent, config).map_err(|error| NotReloaded::Kernel(format!("{error:#}")))
    });
    agent.metrics.reloaded(taken.is_ok());
    taken
}

/// Reads the configuration, and checks that the sandbox permits everything that it names.
fn read_again(agent: &Agent, arguments: &Arguments) -> Result<Config> {
    let file = access::file(arguments.config.as_deref());
    let Some(sandbox) = &agent.sandbox else {
        return arguments.configuration();
    };
    sandbox.check_reading(access::named(file))?;
    let config = arguments.configuration()?;
    let needed = access::needed(&config, file);
    sandbox.check_writing(needed.write)?;
    sandbox.check_calls(needed.calls)?;
    Ok(config)
}

fn reconfigure(agent: &mut Agent, config: Config) -> Result<Done> {
    let mut notes = Vec::new();
    let needs_restart = agent.config.needs_restart(&config);
    if !needs_restart.is_empty() {
        let note = format!("these settings are taken at the next start only: {}", needs_restart.join(", "));
        tracing::warn!("{note}");
        notes.push(note);
    }
    notes.extend(apply::to_pipeline(&config, &mut agent.pipeline));
    agent.metrics.detection.add_rules(agent.pipeline.detector.rules());
    apply::to_sensor(&config, &agent.pipeline.detector, &mut agent.sensor)?;
    agent.addresses_read = None;
    let (now, detector) = (agent.clock.now(), &agent.pipeline.detector);
    agent.responder.reconfigure(config.response.clone(), now, &mut agent.sensor);
    apply::to_responder(detector, &mut agent.responder, now, &mut agent.sensor);
    agent.crowdsec.restart(&config.crowdsec, agent.clock);
    agent.access.set(config.metrics.web.clone());
    if let Some(page) = &agent.page {
        page.set_token(config.page.admin_token.as_ref());
    }
    if let Some(leaving) = &mut agent.leaving {
        leaving.reconfigure(&config);
        agent.metrics.detection.add_rules(leaving.rules());
    }
    agent.config = config;
    agent.reconfigure_sinks();
    // The mode may have become `enforce`.
    agent.reset_released();
    Ok(Done { said: "the configuration was read again and taken".to_owned(), notes })
}

/// All errors, one by one.
fn problems(error: &anyhow::Error) -> Vec<String> {
    format!("{error:#}").lines().map(str::to_owned).collect()
}
