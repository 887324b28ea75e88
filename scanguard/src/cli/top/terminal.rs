//! The effects: the screen, and what comes from the keyboard.

use std::{io, thread, time::Duration};

use ratatui::{
    DefaultTerminal, Frame,
    crossterm::{
        cursor::Show,
        event::{self, Event, KeyEvent, KeyEventKind},
        execute,
    },
};
use tokio::sync::mpsc::Sender;

/// How long the keyboard is waited for until it is looked whether anybody still listens.
const PATIENCE: Duration = Duration::from_millis(250);

/// What comes from the terminal.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input {
    Key(KeyEvent),
    Resized,
}

/// The terminal while it is ours. It is given back as it was when this goes, and before the words of a panic are printed.
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal: raw, on its other screen, with a hook that gives it back on a panic.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(super) fn enter() -> io::Result<Self> {
        let entered = ratatui::try_init();
        if entered.is_err() {
            // It may have got half way.
            ratatui::restore();
        }
        Ok(Self { terminal: entered? })
    }

    /// Draws a picture; only what has changed is sent.
    ///
    /// # Errors
    /// The terminal has gone.
    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(picture).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The hook has done it, and left twice the cursor would jump back over the words of the panic.
        if !thread::panicking() {
            ratatui::restore();
        }
        // If the terminal has gone, there is nothing to give back.
        let _ = execute!(io::stdout(), Show);
    }
}

/// Hands on what comes from the terminal, in a thread of its own, until nobody listens or it has gone.
pub(super) fn listen(to: Sender<Input>) {
    thread::spawn(move || {
        while !to.is_closed() {
            let input = match event::poll(PATIENCE) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let input = match input {
                Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => Input::Key(key),
                Ok(Event::Resize(..)) => Input::Resized,
                Ok(
                    Event::Key(_) | Event::FocusGained | Event::FocusLost | Event::Mouse(_) | Event::Paste(_),
                ) => continue,
                Err(_) => return,
            };
            if to.blocking_send(input).is_err() {
                return;
            }
        }
    });
}
