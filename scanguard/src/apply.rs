//! Applies a configuration to the rules, the pipeline, the sensor and the response: at start, at reload and in replay.

use anyhow::{Context as _, Result};
use scanguard_common::actor::MAX_ACTORS;

use crate::{
    clock::Now,
    config::Config,
    content::sampling::Budgets,
    detect::{Detector, feeds::Feeds},
    observe::{self, Observer},
    outbound::{baseline::Baseline, users::Users},
    pipeline::{Pipeline, outbound::Outbound},
    respond::{enforcer::Enforcer, responder::Responder},
    sensor::{SensorError, kernel::KernelSensor, software::SoftwareSensor},
};

/// A new pipeline without any history, with the warnings of [`to_pipeline`].
pub fn pipeline(config: &Config) -> (Pipeline, Vec<String>) {
    let detector = Detector::new(Vec::new(), config.findings);
    let mut pipeline = Pipeline::new(Observer::new(config.history), detector);
    let warnings = to_pipeline(config, &mut pipeline);
    (pipeline, warnings)
}

/// Applies this configuration to a pipeline, which keeps its memory. Returns warnings.
pub fn to_pipeline(config: &Config, pipeline: &mut Pipeline) -> Vec<String> {
    pipeline.observer.reconfigure(config.history);
    pipeline.observer.set_tools(&config.fingerprints.syn);
    pipeline.detector.set_tools(std::sync::Arc::clone(pipeline.observer.tools()));
    to_rules(config, &mut pipeline.detector)
}

/// Applies the rules and their lookup data: feeds of known-bad sources, databases, and lists of what scanners send. A
/// feed that is wrong keeps its old content.
fn to_rules(config: &Config, detector: &mut Detector) -> Vec<String> {
    detector.reconfigure(config.rules.rules(), config.findings);
    let (feeds, problems) = Feeds::load(&config.feeds.files, detector.feeds());
    let warnings: Vec<_> = problems.iter().map(|problem| format!("feed {problem}")).collect();
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    detector.set_feeds(feeds);
    for database in config.geo.described() {
        tracing::info!("database {database}");
    }
    detector.set_geo(config.geo.clone());
    detector.set_content(config.content.clone());
    warnings
}

/// New parts for what leaves, without any history but with what was learned.
pub fn outbound(config: &Config, baseline: Baseline, users: Users) -> Outbound {
    let observer = Observer::new(of_actors(config));
    let detector = Detector::of_actors(Vec::new(), config.findings);
    let mut outbound = Outbound::new(Pipeline::new(observer, detector), baseline, users);
    to_outbound(config, &mut outbound);
    outbound
}

/// Applies this configuration to the parts for what leaves, which keep their memory.
pub fn to_outbound(config: &Config, outbound: &mut Outbound) {
    outbound.pipeline.observer.reconfigure(of_actors(config));
    outbound.pipeline.detector.reconfigure(config.rules.outbound(), config.findings);
    let settings = &config.outbound;
    outbound.reconfigure(settings.arguments, &settings.allow, settings.learning);
}

/// There are fewer actors than sources.
fn of_actors(config: &Config) -> observe::settings::Settings {
    observe::settings::Settings {
        max_sources: config.history.max_sources.min(2 * MAX_ACTORS),
        ..config.history
    }
}

/// Applies this configuration to the kernel program, with the thresholds at which these rules can first match. The
/// networks routed to this host are set together with its addresses ([`KernelSensor::set_local`]), and so are the prefixes
/// of translators ([`KernelSensor::set_sources`]).
///
/// # Errors
/// A map could not be changed.
pub fn to_sensor(config: &Config, detector: &Detector, sensor: &mut KernelSensor) -> Result<()> {
    let mut soonest = detector.soonest();
    // What a host sees once is something for the fleet.
    soonest.extend(config.fleet.is_on().then_some(1));
    sensor.set_wakeup(&soonest).context("the wake-up thresholds")?;
    sensor.set_epoch_length(config.sensor.poll_interval).context("the length of an epoch")?;
    sensor.set_samples(budgets(config)).context("the budgets of samples")?;
    sensor.set_routed(&config.network.home);
    Ok(())
}

/// Passes to the response what these rules say: the networks on feeds, and the evidence on which a rule always matches.
pub fn to_responder(detector: &Detector, responder: &mut Responder, now: Now, enforcer: &mut dyn Enforcer) {
    responder.set_feeds(detector.feeds(), now, enforcer);
    responder.set_plain(detector.plain(), now, enforcer);
}

/// Does the same as [`to_sensor`] if the kernel program counts the packets of a capture. Only the capture's clock counts,
/// and nobody waits for wake-ups: the program gets only the prefixes of translators and the budgets for samples.
///
/// # Errors
/// A map could not be changed.
pub fn to_replaying_sensor(config: &Config, sensor: &mut KernelSensor) -> Result<(), SensorError> {
    sensor.set_sources(&config.sensor.sources())?;
    sensor.set_samples(budgets(config))
}

/// The sensor that counts the packets of a capture without a kernel.
pub fn software_sensor(config: &Config, salt: u64) -> SoftwareSensor {
    SoftwareSensor::new(&config.sensor, salt).sampling(&config.samples, config.sensor.poll_interval)
}

fn budgets(config: &Config) -> Budgets {
    config.samples.budgets(config.sensor.poll_interval)
}
