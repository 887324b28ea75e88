//! The side effects: the screen and the keyboard.

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

/// How long to wait for the keyboard before checking whether the receiver still exists.
const PATIENCE: Duration = Duration::from_millis(250);

/// An event from the terminal.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input {
    Key(KeyEvent),
    Resized,
}

/// The terminal while `top` uses it. It is restored on drop, and before the message of a panic is printed.
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal: raw mode, alternate screen, and a hook that restores it on a panic.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(super) fn enter() -> io::Result<Self> {
        let entered = ratatui::try_init();
        if entered.is_err() {
            // It may be half done.
            ratatui::restore();
        }
        Ok(Self { terminal: entered? })
    }

    /// Draws a frame; only changes are sent.
    ///
    /// # Errors
    /// The terminal has gone.
    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(picture).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The hook has restored it already. Leaving the screen twice would move the cursor over the message of the
        // panic.
        if !thread::panicking() {
            ratatui::restore();
        }
        // If the terminal has gone, there is nothing to restore.
        let _ = execute!(io::stdout(), Show);
    }
}

/// Passes on events of the terminal, in its own thread, until the receiver or the terminal is gone.
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
