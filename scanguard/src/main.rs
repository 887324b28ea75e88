//! The `scanguard` command.

use std::{io::IsTerminal as _, pin::Pin, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use scanguard::{
    app,
    cli::{
        Cli, Command, check_config, control, detach, doctor, exit::Exit, fleet, keep_filters, manual, replay,
        top,
    },
    config::COMMENTED_DEFAULTS,
    stdio::{Log, OutputError, complain, say},
};
use tracing_subscriber::EnvFilter;

/// What a command does once there is a runtime.
type Work = Pin<Box<dyn Future<Output = Result<Exit>>>>;

fn main() -> ExitCode {
    match carry_out(Cli::parse()) {
        Ok(exit) => exit.into(),
        // The reader has closed the pipe.
        Err(error) if error.downcast_ref().is_some_and(OutputError::is_closed) => Exit::Success.into(),
        Err(error) => {
            complain(format_args!("scanguard: {error:#}"));
            Exit::of(&error).into()
        }
    }
}

fn carry_out(cli: Cli) -> Result<Exit> {
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    log(&cli, colour)?;
    let workers = match cli.command {
        // It waits for one thing only.
        Command::KeepFilters(_) => 1,
        _ => 2,
    };
    // The agent changes its user here, before there are other threads.
    let work = begin(cli, colour)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let runtime = runtime.context("the runtime cannot be started")?;
    let ended = runtime.block_on(work);
    // Do not wait for a thread that is blocked by a disk. The log has already reported its data as lost.
    runtime.shutdown_background();
    ended
}

fn log(cli: &Cli, colour: bool) -> Result<()> {
    // The first crate logs every unknown kind of message as an error, and the kernel sends kinds that it does not know.
    // The second tells of each connection and each request.
    let filter = format!("{},netlink_proto::codecs=off,async_nats=warn", cli.filter());
    let filter = EnvFilter::try_new(filter).with_context(|| format!("--log {}", cli.filter()))?;
    let on_terminal = std::io::stderr().is_terminal();
    // Log lines would destroy the screen of `top`.
    if !(on_terminal && matches!(cli.command, Command::Top(_))) {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(|| Log)
            .with_ansi(colour && on_terminal)
            .init();
    }
    Ok(())
}

fn begin(cli: Cli, colour: bool) -> Result<Work> {
    let quiet = cli.quiet;
    Ok(match cli.command {
        Command::Run(arguments) => {
            let config = app::prepare::start(&arguments)?;
            Box::pin(async move { app::run(arguments, config).await.map(|()| Exit::Success) })
        }
        Command::Top(arguments) => {
            Box::pin(async move { top::run(arguments, colour).await.map(|()| Exit::Success) })
        }
        Command::Control(command) => {
            Box::pin(async move { control::run(command).await.map(|()| Exit::Success) })
        }
        Command::Fleet(command) => Box::pin(async move { fleet::run(command).await.map(|()| Exit::Success) }),
        Command::Doctor(arguments) => Box::pin(doctor::run(arguments)),
        // Its signals need a runtime.
        Command::Replay(arguments) => {
            Box::pin(async move { replay::run(&arguments, !quiet, replay::interrupted()?) })
        }
        Command::Prepare { config } => {
            done(app::prepare::for_service(config.as_deref()).map(|()| Exit::Success))
        }
        Command::CheckConfig { file } => done(check_config::run(&file).map(|()| Exit::Success)),
        Command::Detach { pin } => Box::pin(detach::run(pin)),
        Command::KeepFilters(arguments) => {
            Box::pin(async move { keep_filters::run(&arguments).await.map(|()| Exit::Success) })
        }
        Command::PrintConfig => done(print(COMMENTED_DEFAULTS)),
        Command::PrintList { list } => done(print(list.text())),
        Command::Completions { shell } => done(print(&manual::completions(shell))),
        Command::Manual { directory } => {
            let written = manual::write(&directory).with_context(|| directory.display().to_string());
            done(written.map(|()| Exit::Success))
        }
    })
}

fn done(result: Result<Exit>) -> Work {
    Box::pin(std::future::ready(result))
}

fn print(text: &str) -> Result<Exit> {
    say(text.trim_end())?;
    Ok(Exit::Success)
}
