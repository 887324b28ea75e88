use std::{fs, path::Path};

use ratatui::{Terminal, backend::TestBackend, crossterm::event::KeyCode, style::Color};

use super::*;
use crate::cli::top::testing::{model, press, typed};

fn terminal(model: &mut Model, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    terminal
}

/// The screen as text, without trailing blanks.
fn picture(model: &mut Model, width: u16, height: u16) -> String {
    let terminal = terminal(model, width, height);
    let cells: Vec<_> =
        terminal.backend().buffer().content().iter().map(ratatui::buffer::Cell::symbol).collect();
    let lines = cells.chunks(width.into()).map(|line| line.concat().trim_end().to_owned() + "\n");
    lines.collect()
}

/// Compares with a file beside this one; with SCANGUARD_WRITE_DOCS it writes that file instead.
fn golden(model: &mut Model, name: &str, width: u16, height: u16) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/cli/top/view/{name}.txt"));
    let drawn = picture(model, width, height);
    if std::env::var_os("SCANGUARD_WRITE_DOCS").is_some() {
        fs::write(&path, &drawn).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(drawn == expected, "{name} is not as in {}:\n{drawn}", path.display());
}

#[test]
fn the_pictures_are_as_they_were() {
    golden(&mut model(), "sources-80x24", 80, 24);
    golden(&mut model(), "sources-20x10", 20, 10);
    golden(&mut model(), "sources-200x50", 200, 50);
    for (tab, name) in [('2', "findings-80x24"), ('3', "bans-80x24")] {
        let mut model = model();
        press(&mut model, &typed(&tab.to_string()));
        golden(&mut model, name, 80, 24);
    }
    let mut model = model();
    press(&mut model, &typed("?"));
    golden(&mut model, "help-80x24", 80, 24);
}

#[test]
fn a_question_can_be_read_to_its_end_on_a_narrow_screen() {
    let mut model = model();
    press(&mut model, &[KeyCode::Down]);
    press(&mut model, &typed("b"));
    let drawn = picture(&mut model, 20, 14).replace('\n', " ");
    for word in ["Ban 2001:db8:1234:5678::/64", "(h)", "(d)", "(e)?", "key: no."] {
        let close: String = drawn.split_whitespace().collect();
        let word: String = word.split_whitespace().collect();
        assert!(close.contains(&word), "{word}: {drawn}");
    }
}

#[test]
fn no_size_of_the_screen_is_too_small() {
    for keys in ["", "2", "3", "?", "b", "a", "/x", "p"] {
        for (width, height) in
            (0..42).step_by(3).flat_map(|width| (0..12).step_by(2).map(move |height| (width, height)))
        {
            let mut model = model();
            press(&mut model, &typed(keys));
            terminal(&mut model, width, height);
            press(&mut model, &[KeyCode::Esc, KeyCode::Esc, KeyCode::Enter, KeyCode::End]);
            terminal(&mut model, width, height);
        }
    }
}

#[test]
fn without_colour_there_is_none() {
    let coloured = |colour| {
        let mut model = model();
        model.colour = colour;
        let terminal = terminal(&mut model, 80, 24);
        let cells = terminal.backend().buffer().content();
        cells.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(coloured(true) && !coloured(false));
}

#[test]
fn what_others_wrote_cannot_steer_the_terminal() {
    let mut model = model();
    press(&mut model, &[KeyCode::Enter]);
    let drawn = picture(&mut model, 80, 24);
    assert!(drawn.contains("no open finding of it") && !drawn.contains('\u{1b}'), "{drawn}");
}
