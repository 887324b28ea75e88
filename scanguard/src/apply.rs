//! What a configuration sets in the rules, in the pipeline and in the sensor: at the start, at a reload and in a replay.

use anyhow::{Context as _, Result};

use crate::{
    config::Config,
    content::sampling::Budgets,
    detect::{Detector, feeds::Feeds},
    observe::Observer,
    pipeline::Pipeline,
    sensor::{SensorError, kernel::KernelSensor, software::SoftwareSensor},
};

/// A pipeline that has seen nothing yet. With it comes what [`to_pipeline`] warned of.
pub fn pipeline(config: &Config) -> (Pipeline, Vec<String>) {
    let detector = Detector::new(Vec::new(), config.findings);
    let mut pipeline = Pipeline::new(Observer::new(config.history), detector);
    let warnings = to_pipeline(config, &mut pipeline);
    (pipeline, warnings)
}

/// Has a pipeline go by this configuration. What it remembers stays. Gives what it warned of.
pub fn to_pipeline(config: &Config, pipeline: &mut Pipeline) -> Vec<String> {
    pipeline.observer.reconfigure(config.history);
    to_rules(config, &mut pipeline.detector)
}

/// The rules, and what they look up: feeds of known-bad sources, of which one that is wrong stays as it was, databases, and
/// lists of what scanners say.
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

/// Has the kernel program go by this configuration, and by when these rules can first match. The networks that are routed to
/// this host are told to it with its addresses ([`KernelSensor::set_local`]).
///
/// # Errors
/// A map could not be changed.
pub fn to_sensor(config: &Config, detector: &Detector, sensor: &mut KernelSensor) -> Result<()> {
    sensor.set_wakeup(detector.soonest()).context("the wake-up threshold")?;
    sensor.set_epoch_length(config.sensor.poll_interval).context("the length of an epoch")?;
    sensor.set_samples(budgets(config)).context("the budgets of samples")?;
    sensor.set_routed(&config.network.home);
    Ok(())
}

/// The same where the kernel program counts the packets of a capture. No clock but theirs counts, and nobody waits for what
/// it tells at once: it is given the budgets of samples only.
///
/// # Errors
/// A map could not be changed.
pub fn to_replaying_sensor(config: &Config, sensor: &mut KernelSensor) -> Result<(), SensorError> {
    sensor.set_samples(budgets(config))
}

/// The sensor that counts the packets of a capture without a kernel.
pub fn software_sensor(config: &Config, salt: u64) -> SoftwareSensor {
    SoftwareSensor::new(&config.sensor, salt).sampling(&config.samples, config.sensor.poll_interval)
}

fn budgets(config: &Config) -> Budgets {
    config.samples.budgets(config.sensor.poll_interval)
}
