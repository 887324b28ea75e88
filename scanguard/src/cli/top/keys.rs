//! The meaning of keys, depending on what is open on the screen.

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// The part of the screen that receives keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mode {
    /// The list.
    List,
    /// The text of the filter.
    Filter,
    /// A page over the list: detail or help.
    Page,
    /// The question for how long to ban.
    ConfirmBan,
    /// Another question.
    Confirm,
}

/// The action of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Action {
    Quit,
    /// Go to the tab of this number.
    Tab(usize),
    NextTab,
    PreviousTab,
    /// Move down by this many rows; up if negative.
    Move(isize),
    First,
    Last,
    Sort,
    Filter,
    Pause,
    Detail,
    Help,
    Ban,
    Unban,
    Allow,
    /// Ban for this long; `None` means until it is removed by hand.
    BanFor(Option<Duration>),
    Yes,
    /// Close what is open.
    Back,
    Type(char),
    Erase,
    Accept,
}

const HOUR: Duration = Duration::from_secs(3_600);
const PAGE: isize = 10;

/// The meaning of a key; `None` if it has no meaning here.
pub(super) fn action(mode: Mode, key: KeyEvent) -> Option<Action> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match (key.code, mode) {
        (KeyCode::Char('c'), _) if control => Some(Action::Quit),
        (KeyCode::Char('u'), Mode::Filter) if control => Some(Action::Back),
        (KeyCode::Char(_), _) if control || key.modifiers.contains(KeyModifiers::ALT) => None,
        (KeyCode::Esc, _) => Some(Action::Back),
        (code, Mode::List) => list(code),
        (code, Mode::Filter) => filter(code),
        (code, Mode::Page) => page(code),
        (code, Mode::ConfirmBan) => Some(match code {
            KeyCode::Char('h') => Action::BanFor(Some(HOUR)),
            KeyCode::Char('d') => Action::BanFor(Some(24 * HOUR)),
            KeyCode::Char('e') => Action::BanFor(None),
            _ => Action::Back,
        }),
        (code, Mode::Confirm) => Some(if code == KeyCode::Char('y') { Action::Yes } else { Action::Back }),
    }
}

fn moved(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Up | KeyCode::Char('k') => Action::Move(-1),
        KeyCode::Down | KeyCode::Char('j') => Action::Move(1),
        KeyCode::PageUp => Action::Move(-PAGE),
        KeyCode::PageDown => Action::Move(PAGE),
        KeyCode::Home | KeyCode::Char('g') => Action::First,
        KeyCode::End | KeyCode::Char('G') => Action::Last,
        _ => return None,
    })
}

fn list(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Tab | KeyCode::Right => Action::NextTab,
        KeyCode::BackTab | KeyCode::Left => Action::PreviousTab,
        KeyCode::Char('1') => Action::Tab(0),
        KeyCode::Char('2') => Action::Tab(1),
        KeyCode::Char('3') => Action::Tab(2),
        KeyCode::Char('s') => Action::Sort,
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Char('p' | ' ') => Action::Pause,
        KeyCode::Enter => Action::Detail,
        KeyCode::Char('?') => Action::Help,
        KeyCode::Char('b') => Action::Ban,
        KeyCode::Char('u') => Action::Unban,
        KeyCode::Char('a') => Action::Allow,
        code => return moved(code),
    })
}

fn filter(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Enter => Some(Action::Accept),
        KeyCode::Backspace => Some(Action::Erase),
        KeyCode::Char(letter) => Some(Action::Type(letter)),
        _ => None,
    }
}

fn page(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Char('q' | '?') | KeyCode::Enter => Some(Action::Back),
        KeyCode::Char('b') => Some(Action::Ban),
        KeyCode::Char('u') => Some(Action::Unban),
        KeyCode::Char('a') => Some(Action::Allow),
        code => moved(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mode: Mode, code: KeyCode) -> Option<Action> {
        action(mode, KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn what_is_typed_into_the_filter_does_nothing_else() {
        for letter in "qbau?/ 1".chars() {
            assert_eq!(of(Mode::Filter, KeyCode::Char(letter)), Some(Action::Type(letter)));
        }
        assert_eq!(of(Mode::List, KeyCode::Char('q')), Some(Action::Quit));
    }

    #[test]
    fn only_the_named_keys_confirm() {
        for code in
            [KeyCode::Enter, KeyCode::Char(' '), KeyCode::Char('b'), KeyCode::Char('a'), KeyCode::Down]
        {
            assert_eq!(of(Mode::Confirm, code), Some(Action::Back), "{code:?}");
            assert_eq!(of(Mode::ConfirmBan, code), Some(Action::Back), "{code:?}");
        }
        assert_eq!(of(Mode::Confirm, KeyCode::Char('y')), Some(Action::Yes));
        assert_eq!(of(Mode::ConfirmBan, KeyCode::Char('y')), Some(Action::Back));
    }

    #[test]
    fn control_c_ends_it_whatever_is_open() {
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        for mode in [Mode::List, Mode::Filter, Mode::Page, Mode::ConfirmBan, Mode::Confirm] {
            assert_eq!(action(mode, key), Some(Action::Quit));
        }
    }
}
