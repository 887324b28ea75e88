//! The `scanguard` command.

use std::{io::IsTerminal as _, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use scanguard::{
    app,
    cli::{Cli, Command},
    config::{COMMENTED_DEFAULTS, Config},
    control, detach, doctor,
    exit::Exit,
    manual, reload, replay, top,
};
use tracing_subscriber::EnvFilter;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli).await {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("scanguard: {error:#}");
            Exit::of(&error).into()
        }
    }
}

async fn run(cli: Cli) -> Result<Exit> {
    let filter = EnvFilter::try_new(cli.filter()).with_context(|| format!("--log {}", cli.filter()))?;
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let on_terminal = std::io::stderr().is_terminal();
    // The screen of `top` would be torn by them.
    if !(on_terminal && matches!(cli.command, Command::Top(_))) {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(colour && on_terminal)
            .init();
    }
    match cli.command {
        Command::Run(arguments) => app::run(arguments).await.map(|()| Exit::Success),
        Command::Replay(arguments) => {
            replay::command::run(&arguments, !cli.quiet, replay::command::interrupted()?)
        }
        Command::CheckConfig { file } => {
            Config::load(&file)?;
            println!("{}: ok", file.display());
            Ok(Exit::Success)
        }
        Command::Reload { pid } => reload::run(pid).map(|()| Exit::Success),
        Command::Detach { pin } => detach::run(pin),
        Command::Top(arguments) => top::run(arguments, colour).await.map(|()| Exit::Success),
        Command::Control(command) => control::command::run(command).await.map(|()| Exit::Success),
        Command::PrintConfig => {
            print!("{COMMENTED_DEFAULTS}");
            Ok(Exit::Success)
        }
        Command::Completions { shell } => {
            manual::completions(shell, &mut std::io::stdout())?;
            Ok(Exit::Success)
        }
        Command::Manual { directory } => {
            manual::write(&directory).with_context(|| directory.display().to_string())?;
            Ok(Exit::Success)
        }
        Command::Doctor(arguments) => doctor::run(arguments).await,
    }
}
