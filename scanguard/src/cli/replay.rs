//! The replay command: opens the captures, chooses the sensor, and reports errors.

use std::{
    fs::File,
    hash::{BuildHasher as _, RandomState},
    io::{self, Read, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};

use super::{exit::Exit, progress};
use crate::{
    apply,
    config::Config,
    export::writer::FindingsWriter,
    privileges,
    replay::{
        Replay, ReplayError,
        capture::CaptureError,
        talks::{Answers, answers},
    },
    sensor::{
        Feed,
        connections::Ground,
        footprint,
        program::{self, KernelLogLevel},
        test_run::{self, TestRunSensor},
    },
    stdio::complain,
};

/// `scanguard replay`: runs to the end of all captures, or until `stop` is set. It shows its progress if `progress`
/// is set and standard error is a terminal.
///
/// # Errors
/// Any error that prevents the start or the progress. An unreadable capture is not an error here: it is reported when
/// it occurs, and by the exit code.
pub fn run(arguments: &super::Replay, progress: bool, stop: &AtomicBool) -> Result<Exit> {
    let (config, path) = Config::find(arguments.config.as_deref())?;
    if let Some(path) = path {
        tracing::info!("configuration: {}", path.display());
    }
    let salt = arguments.salt.unwrap_or_else(|| RandomState::new().hash_one("scanguard"));
    if arguments.through_kernel {
        privileges::check()?;
        test_run::isolate().context("--through-kernel needs root: a network namespace of its own")?;
        footprint::check(&config.sensor, false)?;
        let ebpf = program::load(&config.sensor, &config.samples, salt, KernelLogLevel(0), &Ground::NONE)?;
        let mut sensor = TestRunSensor::new(ebpf, config.sensor.ipv6_prefix)?;
        apply::to_replaying_sensor(&config, &mut sensor.kernel)?;
        replay(arguments, &config, salt, sensor, progress, stop)
    } else {
        let sensor = apply::software_sensor(&config, salt);
        replay(arguments, &config, salt, sensor, progress, stop)
    }
}

fn replay(
    arguments: &super::Replay,
    config: &Config,
    salt: u64,
    sensor: impl Feed,
    progress: bool,
    stop: &AtomicBool,
) -> Result<Exit> {
    let bar = if progress { progress::bar(&arguments.files) } else { ProgressBar::hidden() };
    let output = progress::Beside::new(bar.clone(), io::stdout());
    let writer = FindingsWriter::stdout(output, arguments.format, config.sensor.ipv6_prefix);
    let mut replay = Replay::new(config, salt, sensor, arguments.local.clone(), writer)?;
    let shown = arguments.files.iter().map(|file| shown_answers(file, &arguments.local)).max();
    replay.assume(shown.unwrap_or(Answers::Hidden))?;
    let mut exit = Exit::Success;
    for file in &arguments.files {
        let result = match open(file) {
            Ok(reader) => replay.capture(bar.wrap_read(reader), stop),
            Err(error) => Err(ReplayError::Capture { packets: 0, error: CaptureError::Read(error) }),
        };
        match result {
            Ok(()) => {}
            Err(error @ ReplayError::Capture { .. }) => {
                bar.suspend(|| complain(format_args!("scanguard: {}: {error}", file.display())));
                exit = Exit::Failure;
            }
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        }
    }
    bar.finish_and_clear();
    let mut summary = io::stderr().lock();
    replay.finish(&mut summary)?;
    summary.flush().context("the summary")?;
    Ok(exit)
}

/// What a capture shows of answers. Only files can be read twice.
fn shown_answers(file: &Path, local: &[IpNet]) -> Answers {
    let is_file = file.metadata().is_ok_and(|file| file.is_file());
    match File::open(file) {
        Ok(reader) if is_file => answers(reader, local),
        _ => Answers::Hidden,
    }
}

fn open(file: &Path) -> io::Result<Box<dyn Read>> {
    Ok(if file == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(file)?) })
}

/// Set by the first SIGINT. The next packet then ends the replay, and the findings so far are summed up; this is how
/// an endless capture ends. The second SIGINT ends the process as usual.
///
/// # Errors
/// The signal handler cannot be installed.
pub fn interrupted() -> Result<&'static AtomicBool> {
    static INTERRUPTED: AtomicBool = AtomicBool::new(false);
    let mut interrupts = signal(SignalKind::interrupt()).context("SIGINT")?;
    tokio::spawn(async move {
        while interrupts.recv().await.is_some() {
            if INTERRUPTED.swap(true, Ordering::Relaxed) {
                std::process::exit(128 + libc::SIGINT);
            }
        }
    });
    Ok(&INTERRUPTED)
}
