//! `scanguard top`: scanning sources, findings and bans, on a terminal.
//!
//! ```text
//! control socket -> Snapshot -> Model -> view -> terminal
//!                keyboard -> keys -> Model -> Effect -> control socket
//! ```
//! `model`, `keys` and `view` are pure; `fetch` asks the agent and `terminal` is the screen and the keyboard.

mod fetch;
mod keys;
mod model;
mod snapshot;
mod terminal;
#[cfg(test)]
mod testing;
mod view;

use std::{
    io::{IsTerminal as _, stdin, stdout},
    panic::resume_unwind,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::sleep_until,
};

use self::{
    fetch::{News, fetch, give},
    model::{Effect, Model},
    terminal::{Input, Screen},
};
use super::control::At;

/// How often the agent is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// After a slow answer, `top` pauses for this multiple of the answer's time, so that watching does not slow down the
/// agent.
const REST: u32 = 10;
/// Keys that wait to be handled; the keyboard's thread waits if there are more.
const QUEUE: usize = 64;

/// `scanguard top`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Top {
    #[command(flatten)]
    #[expect(missing_docs, reason = "documentation would become the help of the command")]
    pub at: At,
}

/// Shows the screen until `q`, SIGTERM, SIGINT or SIGHUP, and then restores the terminal.
///
/// # Errors
/// No agent runs, or there is no terminal.
pub async fn run(arguments: Top, colour: bool) -> Result<()> {
    ensure!(
        stdin().is_terminal() && stdout().is_terminal(),
        "top needs a terminal; `scanguard sources`, `findings` and `bans` print the same once"
    );
    let client = arguments.at.client();
    let mut model = Model::new(colour);
    // Done before the screen is taken, so that a missing agent is reported as by any other command.
    let first = fetch(&client, &model.wanted()).await.context("the agent")?;
    model.take(first);

    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    let mut screen = Screen::enter().context("the terminal")?;
    let (send, mut inputs) = mpsc::channel(QUEUE);
    terminal::listen(send);
    // Running requests and orders. Each result is news.
    let mut asking = JoinSet::new();
    let mut asked: Option<Instant> = None;
    let mut due = Instant::now() + INTERVAL;
    loop {
        screen.draw(|frame| view::draw(frame, &mut model)).context("the terminal")?;
        let effect = tokio::select! {
            biased;
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
            input = inputs.recv() => match input {
                Some(Input::Key(key)) => model.press(key),
                Some(Input::Resized) => None,
                // The terminal has gone.
                None => return Ok(()),
            },
            Some(ended) = asking.join_next() => {
                // A panic of that task is passed on. The hook has restored the screen, so nothing may be drawn any
                // more.
                match ended.unwrap_or_else(|error| resume_unwind(error.into_panic())) {
                    News::Snapshot(snapshot) => {
                        let took = asked.take().map_or(Duration::ZERO, |asked| asked.elapsed());
                        due = Instant::now() + INTERVAL.max(took * REST);
                        match *snapshot {
                            Ok(snapshot) => {
                                model.take(snapshot);
                                // The user may have chosen something else meanwhile.
                                model.stale().then_some(Effect::Refresh)
                            }
                            Err(error) => {
                                model.fail(&error);
                                None
                            }
                        }
                    }
                    News::Said(said) => {
                        model.said(said);
                        Some(Effect::Refresh)
                    }
                }
            }
            () = sleep_until(due.into()), if asked.is_none() && !model.paused => Some(Effect::Refresh),
        };
        match effect {
            None => {}
            Some(Effect::Quit) => return Ok(()),
            // The running request is outdated. The agent is asked again after its answer has arrived.
            Some(Effect::Refresh) if asked.is_some() => {}
            Some(Effect::Refresh) => {
                asked = Some(Instant::now());
                let (client, wanted) = (client.clone(), model.wanted());
                asking.spawn(async move { News::Snapshot(Box::new(fetch(&client, &wanted).await)) });
            }
            Some(Effect::Order(order)) => {
                let client = client.clone();
                asking.spawn(async move { News::Said(give(&client, order).await) });
            }
        }
    }
}
