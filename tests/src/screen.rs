//! A terminal's screen as a picture: what `tmux capture-pane -e` gives, as SVG. Its text stays text.

use std::fmt::Write as _;

/// Of a character, in units of the picture.
const WIDTH: usize = 9;
const HEIGHT: usize = 19;
const MARGIN: usize = 12;
const BACKGROUND: &str = "#16181d";
const FOREGROUND: &str = "#d8dce3";
/// Black, red, green, yellow, blue, magenta, cyan, white.
const COLOURS: [&str; 8] =
    ["#16181d", "#f26d6d", "#7fc77f", "#e5c060", "#6fa8ee", "#c792ea", "#65c7cf", "#d8dce3"];

/// How characters look: what of ECMA-48's SGR (8.3.117) our programs use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Look {
    bold: bool,
    dim: bool,
    reversed: bool,
    colour: Option<usize>,
}

impl Look {
    fn change(&mut self, codes: &str) {
        // Three numbers may say one of 256 colours, of which the first eight are used.
        for code in codes.replace("38;5;", "3").split(';') {
            match code.parse() {
                Ok(0) | Err(_) => *self = Self::default(),
                Ok(1) => self.bold = true,
                Ok(2) => self.dim = true,
                Ok(7) => self.reversed = true,
                Ok(22) => (self.bold, self.dim) = (false, false),
                Ok(27) => self.reversed = false,
                Ok(colour @ 30..=37) => self.colour = Some(colour - 30),
                Ok(39) => self.colour = None,
                Ok(bright @ 90..=97) => self.colour = Some(bright - 90),
                // Nothing of ours sets it.
                Ok(_) => {}
            }
        }
    }
}

/// The parts of a line that look alike.
fn parts(line: &str, look: &mut Look) -> Vec<(Look, String)> {
    let mut parts = Vec::new();
    for (place, piece) in line.split("\u{1b}[").enumerate() {
        let text = match piece.split_once('m') {
            Some((codes, text)) if place > 0 => {
                look.change(codes);
                text
            }
            Some(_) | None => piece,
        };
        if !text.is_empty() {
            parts.push((*look, text.to_owned()));
        }
    }
    parts
}

/// Each word with the place where it begins: viewers do not agree on what blanks are worth.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut place = 0;
    let mut words = Vec::new();
    for word in text.split(' ') {
        if !word.is_empty() {
            words.push((place, word));
        }
        place += word.chars().count() + 1;
    }
    words
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The picture of a screen of so many columns; `title` is what is said to those who do not see it.
pub fn svg(screen: &str, columns: usize, title: &str) -> String {
    let lines: Vec<_> = screen.trim_end().lines().collect();
    let (width, height) = (columns * WIDTH + 2 * MARGIN, lines.len() * HEIGHT + 2 * MARGIN);
    let mut boxes = String::new();
    let mut texts = String::new();
    let mut look = Look::default();
    for (row, line) in lines.iter().enumerate() {
        let top = MARGIN + row * HEIGHT;
        let mut column = 0;
        for (look, text) in parts(line, &mut look) {
            let (left, length) = (MARGIN + column * WIDTH, text.chars().count());
            column += length;
            let colour = look.colour.map_or(FOREGROUND, |colour| COLOURS[colour]);
            if look.reversed {
                let wide = length * WIDTH;
                let _ = writeln!(
                    boxes,
                    "<rect x=\"{left}\" y=\"{top}\" width=\"{wide}\" height=\"{HEIGHT}\" fill=\"{colour}\"/>"
                );
            }
            let colour = if look.reversed { BACKGROUND } else { colour };
            let weight = if look.bold { " font-weight=\"bold\"" } else { "" };
            let opacity = if look.dim { " opacity=\"0.6\"" } else { "" };
            let base = top + HEIGHT - 5;
            for (start, word) in words(&text) {
                let (left, wide) = (left + start * WIDTH, word.chars().count() * WIDTH);
                let _ = writeln!(
                    texts,
                    "<text x=\"{left}\" y=\"{base}\" textLength=\"{wide}\" fill=\"{colour}\"{weight}{opacity}>{}</text>",
                    escaped(word)
                );
            }
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{title}\">\n\
         <title>{title}</title>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"{BACKGROUND}\"/>\n{boxes}\
         <g font-family=\"'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"15\">\n\
         {texts}</g>\n</svg>\n",
        title = escaped(title)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_become_attributes_and_text_stays_text_in_its_place() {
        let picture = svg("\u{1b}[1mobserve\u{1b}[0m  \u{1b}[31;7m<a>\u{1b}[39m &\n x", 20, "a & b");
        assert!(picture.contains(
            "<text x=\"12\" y=\"26\" textLength=\"63\" fill=\"#d8dce3\" font-weight=\"bold\">observe</text>"
        ));
        // Reversed: its colour is behind it, and lasts until it is taken back.
        assert!(
            picture.contains("<rect x=\"93\" y=\"12\" width=\"27\" height=\"19\" fill=\"#f26d6d\"/>"),
            "{picture}"
        );
        assert!(picture.contains("fill=\"#16181d\">&lt;a&gt;</text>"), "{picture}");
        assert!(
            picture.contains("<rect x=\"120\" y=\"12\" width=\"18\" height=\"19\" fill=\"#d8dce3\"/>"),
            "{picture}"
        );
        assert!(picture.contains("<text x=\"21\" y=\"45\" textLength=\"9\""), "{picture}");
        assert!(
            picture.contains("width=\"204\" height=\"62\"") && picture.contains("<title>a &amp; b</title>")
        );
    }
}
