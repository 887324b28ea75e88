//! The `scanguard` command.

use std::{io::IsTerminal as _, process::ExitCode};

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

fn main() -> ExitCode {
    let cli = Cli::parse();
    let workers = match cli.command {
        // It waits for one thing only.
        Command::KeepFilters(_) => 1,
        _ => 2,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let ended = runtime.context("the runtime cannot be started").and_then(|runtime| {
        let ended = runtime.block_on(run(cli));
        // Do not wait for a thread that is blocked by a disk. The log has already reported its data as lost.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(exit) => exit.into(),
        // The reader has closed the pipe.
        Err(error) if error.downcast_ref().is_some_and(OutputError::is_closed) => Exit::Success.into(),
        Err(error) => {
            complain(format_args!("scanguard: {error:#}"));
            Exit::of(&error).into()
        }
    }
}

async fn run(cli: Cli) -> Result<Exit> {
    // The first crate logs every unknown kind of message as an error, and the kernel sends kinds that it does not know.
    // The second tells of each connection and each request.
    let filter = format!("{},netlink_proto::codecs=off,async_nats=warn", cli.filter());
    let filter = EnvFilter::try_new(filter).with_context(|| format!("--log {}", cli.filter()))?;
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let on_terminal = std::io::stderr().is_terminal();
    // Log lines would destroy the screen of `top`.
    if !(on_terminal && matches!(cli.command, Command::Top(_))) {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(|| Log)
            .with_ansi(colour && on_terminal)
            .init();
    }
    match cli.command {
        Command::Run(arguments) => app::run(arguments).await.map(|()| Exit::Success),
        Command::Replay(arguments) => replay::run(&arguments, !cli.quiet, replay::interrupted()?),
        Command::CheckConfig { file } => check_config::run(&file).map(|()| Exit::Success),
        Command::Detach { pin } => detach::run(pin).await,
        Command::KeepFilters(arguments) => keep_filters::run(&arguments).await.map(|()| Exit::Success),
        Command::Top(arguments) => top::run(arguments, colour).await.map(|()| Exit::Success),
        Command::Control(command) => control::run(command).await.map(|()| Exit::Success),
        Command::Fleet(command) => fleet::run(command).await.map(|()| Exit::Success),
        Command::PrintConfig => {
            say(COMMENTED_DEFAULTS.trim_end())?;
            Ok(Exit::Success)
        }
        Command::PrintList { list } => {
            say(list.text().trim_end())?;
            Ok(Exit::Success)
        }
        Command::Completions { shell } => {
            say(manual::completions(shell).trim_end())?;
            Ok(Exit::Success)
        }
        Command::Manual { directory } => {
            manual::write(&directory).with_context(|| directory.display().to_string())?;
            Ok(Exit::Success)
        }
        Command::Doctor(arguments) => doctor::run(arguments).await,
    }
}
