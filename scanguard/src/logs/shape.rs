//! What is known of the lines of one file: what is around them, their format, and whether they can be read.

use std::borrow::Cow;

use super::{
    entry::{Entry, Unparsed},
    fields::Fields,
    format::Format,
    skipped::Skipped,
    unread::{Unread, guess},
    wrap::{Inner, Joined, Parts, Wrap},
};

/// So many lines in a row that cannot be read are reported, if none could be read before.
const NONE_READ: u32 = 20;
/// The same, if some could: there may be other messages among them.
const SOME_READ: u32 = 200;

/// How lines are read.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) format: Format,
    pub(super) fields: Fields,
    pub(super) programs: Vec<String>,
}

impl Rules {
    /// Whether a program of syslog is a web server: its name, or its name and something behind it, as in `nginx_access`.
    fn is_server(&self, program: &str) -> bool {
        self.programs.iter().any(|server| {
            let rest = program.strip_prefix(server.as_str());
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
        })
    }
}

/// The shape of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Nothing as long as it is unknown.
    wrap: Option<Wrap>,
    format: Format,
    parts: Parts,
    was_read: bool,
    /// Lines in a row that could not be read.
    unread: u32,
    report: Option<Unread>,
}

impl Shape {
    /// The shape of a file before its first line.
    pub(super) fn new(format: Format) -> Self {
        Self { wrap: None, format, parts: Parts::default(), was_read: false, unread: 0, report: None }
    }

    /// The format of the lines.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Why the file cannot be read, if that is so.
    pub(super) fn unread(&self) -> Option<&Unread> {
        self.report.as_ref()
    }

    /// The same about a short piece of a file, however few lines it has.
    pub(super) fn unread_piece(&self) -> Option<Unread> {
        self.report.clone().filter(|_| !self.was_read)
    }

    /// Reads a line; nothing if more of it is to come. A line that can be read settles the shape.
    pub(super) fn parse(&mut self, line: &str, rules: &Rules) -> Option<Result<Entry, Skipped>> {
        let (wrap, inner) = match self.wrap {
            Some(wrap) => match wrap.open(line) {
                Some(inner) => (wrap, inner),
                None => return Some(Err(Skipped::Syntax)),
            },
            None => {
                let opened = Wrap::AROUND.into_iter().find_map(|wrap| Some((wrap, wrap.open(line)?)));
                opened.or_else(|| Some((Wrap::Bare, Wrap::Bare.open(line)?)))?
            }
        };
        let Inner { text, time, part, program } = inner;
        if program.is_some_and(|program| !rules.is_server(program)) {
            return Some(Err(Skipped::Program));
        }
        let text = match part {
            None => text,
            Some((stream, is_last)) => match self.parts.join(stream, text, is_last) {
                Joined::Whole(text) => text,
                Joined::TooLong => return Some(Err(Skipped::TooLong)),
                Joined::Unfinished => return None,
            },
        };
        if text.is_empty() && wrap != Wrap::Bare {
            return None;
        }
        let entry = self.format.parse(text.trim_start(), &rules.fields).map_err(|why| match why {
            Unparsed::Syntax => Skipped::Syntax,
            Unparsed::Address => Skipped::Address,
        });
        Some(entry.map(|entry| {
            self.wrap = Some(wrap);
            Entry { time: entry.time.or(time), ..entry }
        }))
    }

    /// Notes what became of a line.
    pub(super) fn note(&mut self, skipped: Option<Skipped>, line: &[u8], rules: &Rules) {
        let why = match skipped {
            Some(why @ (Skipped::Syntax | Skipped::Address | Skipped::TooLong | Skipped::Masked)) => why,
            Some(Skipped::Program) if self.was_read => return,
            Some(why @ Skipped::Program) => why,
            None | Some(Skipped::Old | Skipped::Local | Skipped::Proxy) => {
                (self.was_read, self.unread, self.report) = (true, 0, None);
                return;
            }
        };
        self.unread = self.unread.saturating_add(1);
        let most = if self.was_read { SOME_READ } else { NONE_READ };
        if self.unread.is_multiple_of(most) {
            self.give_up(why, line);
            // The server may write another format by now.
            (self.wrap, self.format) = (None, rules.format);
        }
    }

    /// Reports what there was, if no line could be read. For files that get no more lines.
    pub(super) fn conclude(&mut self, last: Skipped, line: &[u8]) {
        if !self.was_read && self.unread > 0 {
            self.give_up(last, line);
        }
    }

    fn give_up(&mut self, why: Skipped, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let looks_like = match why {
            Skipped::Syntax => guess(&self.opened(&line)),
            _ => "",
        };
        self.report = Some(Unread::new(self.unread, why, looks_like));
    }

    fn opened<'l>(&self, line: &'l str) -> Cow<'l, str> {
        let inner = Wrap::AROUND.into_iter().find_map(|wrap| wrap.open(line));
        inner.map_or(Cow::Borrowed(line), |inner| inner.text)
    }
}
