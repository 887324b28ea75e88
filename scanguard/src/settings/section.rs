//! Reads one table of the file, setting by setting, and continues after an error in one of them.
//!
//! serde alone stops at the first error and, for unknown keys, forgets the line.

use std::{cell::RefCell, collections::HashMap, fmt::Display, ops::RangeInclusive, time::Duration};

use serde::de::{DeserializeOwned, IntoDeserializer as _};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Interval, Problem};

/// The collected problems, and the text that gives line numbers.
struct Report<'i> {
    text: &'i str,
    problems: RefCell<Vec<Problem>>,
    /// Every setting that was read, with its section.
    asked: RefCell<Vec<String>>,
    /// The position of each setting in the file.
    places: RefCell<HashMap<String, usize>>,
}

impl Report<'_> {
    fn add(&self, at: usize, message: String) {
        let line = self.text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        self.problems.borrow_mut().push(Problem { line, message });
    }
}

/// A table of the file. The caller must read every setting before [`Section::finish`], which reports the others as
/// unknown.
pub struct Section<'r, 'i> {
    report: &'r Report<'i>,
    /// Its name with dots; empty for the file itself.
    name: String,
    table: DeTable<'i>,
    /// Its position in the file.
    start: usize,
    known: Vec<&'static str>,
}

/// Reads a file's text by `read`, which reads the settings that it knows.
pub fn read<T>(text: &str, read: impl FnOnce(Section<'_, '_>) -> T) -> Reading<T> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let report =
        Report { text, problems: RefCell::default(), asked: RefCell::default(), places: RefCell::default() };
    for error in errors {
        report.add(error.span().map_or(0, |span| span.start), error.message().to_owned());
    }
    let root = Section {
        report: &report,
        name: String::new(),
        table: table.into_inner(),
        start: 0,
        known: Vec::new(),
    };
    let value = read(root);
    let mut problems = report.problems.into_inner();
    problems.sort_by_key(|problem| problem.line);
    let result = if problems.is_empty() { Ok(value) } else { Err(problems) };
    Reading { result, settings: report.asked.into_inner() }
}

/// The result of reading a file.
pub struct Reading<T> {
    /// The configuration, or all problems of the file.
    pub result: Result<T, Vec<Problem>>,
    /// Every setting that there is.
    pub settings: Vec<String>,
}

impl<'r, 'i> Section<'r, 'i> {
    /// A table within this one; an empty one if the file does not have it.
    pub fn section(&mut self, key: &'static str) -> Section<'r, 'i> {
        let name = self.path(key);
        let (start, table) = match self.take(key).map(|value| (value.span().start, value.into_inner())) {
            None => (0, DeTable::new()),
            Some((start, DeValue::Table(table))) => (start, table),
            Some((start, other)) => {
                let message = format!("{name}: a section [{name}] is wanted, not {}", other.type_str());
                self.report.add(start, message);
                (start, DeTable::new())
            }
        };
        Section { report: self.report, name, table, start, known: Vec::new() }
    }

    /// The tables `[[key]]`, at most `limit`; none if the file has none.
    pub fn tables(&mut self, key: &'static str, limit: usize) -> Option<Vec<Section<'r, 'i>>> {
        let path = self.path(key);
        let value = self.take(key)?;
        let start = value.span().start;
        let items = match value.into_inner() {
            DeValue::Array(items) if items.len() <= limit => items,
            DeValue::Array(items) => {
                self.report.add(start, format!("{path}: {} tables, {limit} are possible", items.len()));
                return None;
            }
            other => {
                let message = format!("{path}: tables [[{path}]] are wanted, not {}", other.type_str());
                self.report.add(start, message);
                return None;
            }
        };
        let table = |(place, item): (usize, Spanned<DeValue<'i>>)| {
            let (start, name) = (item.span().start, format!("{path}[{place}]"));
            match item.into_inner() {
                DeValue::Table(table) => {
                    Some(Section { report: self.report, name, table, start, known: Vec::new() })
                }
                other => {
                    self.report.add(start, format!("{name}: a table is wanted, not {}", other.type_str()));
                    None
                }
            }
        };
        Some(items.into_iter().enumerate().filter_map(table).collect())
    }

    /// A setting of any type, or its default. `check` returns what is wrong with a value.
    pub fn value<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        default: T,
        check: impl FnOnce(&T) -> Result<(), String>,
    ) -> T {
        self.read_value(key, default, |value| {
            let value =
                T::deserialize(value.into_deserializer()).map_err(|error| error.message().to_owned())?;
            check(&value).map(|()| value)
        })
    }

    /// A setting that `read` converts, or its default.
    fn read_value<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(Spanned<DeValue<'i>>) -> Result<T, String>,
    ) -> T {
        self.report.asked.borrow_mut().push(self.path(key));
        let Some(value) = self.take(key) else {
            return default;
        };
        let start = value.span().start;
        self.report.places.borrow_mut().insert(self.path(key), start);
        let read = read(value);
        match read {
            Ok(value) => value,
            Err(message) => {
                self.report.add(start, format!("{}: {message}", self.path(key)));
                default
            }
        }
    }

    /// A setting without a default. `read` converts its text, or returns what is wrong with it.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if !self.table.contains_key(key) {
            self.known.push(key);
            self.problem(format_args!("{key} is missing"));
            return None;
        }
        self.optional(key, read)
    }

    /// The same for a setting that may be absent.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let mut result = None;
        self.value(key, String::new(), |text: &String| read(text).map(|value| result = Some(value)));
        result
    }

    /// Reports a problem of the whole table, at its first line.
    pub fn problem(&self, message: impl Display) {
        self.report.add(self.start, format!("{}: {message}", self.name));
    }

    /// A list of at most `limit` texts, or its default. `read` converts each, or returns what is wrong with it. All
    /// wrong ones are reported, each with its own line.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        limit: usize,
        default: Vec<T>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let path = self.path(key);
        self.report.asked.borrow_mut().push(path.clone());
        let Some(value) = self.take(key) else {
            return default;
        };
        let start = value.span().start;
        self.report.places.borrow_mut().insert(path.clone(), start);
        let items = match value.into_inner() {
            DeValue::Array(items) if items.len() <= limit => items,
            DeValue::Array(items) => {
                self.report.add(start, format!("{path}: {} entries, {limit} are possible", items.len()));
                return Vec::new();
            }
            other => {
                self.report
                    .add(start, format!("{path}: a list of texts is wanted, not {}", other.type_str()));
                return Vec::new();
            }
        };
        let read_one = |item: Spanned<DeValue<'i>>| {
            let start = item.span().start;
            let result = match item.into_inner() {
                DeValue::String(text) => read(&text),
                other => Err(format!("a text is wanted, not {}", other.type_str())),
            };
            result.map_err(|message| self.report.add(start, format!("{path}: {message}"))).ok()
        };
        items.into_iter().filter_map(read_one).collect()
    }

    /// A number within limits.
    pub fn number<T>(&mut self, key: &'static str, default: T, limits: RangeInclusive<T>) -> T
    where
        T: DeserializeOwned + Display + PartialOrd,
    {
        self.read_value(key, default, |value| {
            // A number that does not fit its type is beyond the limits, too.
            let written = match value.get_ref() {
                DeValue::Integer(written) => Some(written.to_string()),
                _ => None,
            };
            let read = T::deserialize(value.into_deserializer());
            let value = read.map_err(|error| match written {
                Some(written) => beyond(&written, &limits),
                None => error.message().to_owned(),
            })?;
            within(&value, &limits).map(|()| value)
        })
    }

    /// A duration within limits.
    pub fn interval(
        &mut self,
        key: &'static str,
        default: Duration,
        limits: RangeInclusive<Interval>,
    ) -> Duration {
        self.value(key, Interval(default), |value| within(value, &limits)).0
    }

    /// Reports settings, of this table or below it, that contradict each other. The line is that of the first one in
    /// the file.
    pub fn contradiction(&self, keys: &[&str], message: impl Display) {
        let place = {
            let places = self.report.places.borrow();
            keys.iter().find_map(|key| Some((self.path(key), *places.get(&self.path(key))?)))
        };
        // The defaults do not contradict each other.
        if let Some((path, start)) = place {
            self.report.add(start, format!("{path}: {message}"));
        }
    }

    /// Reports all settings that nobody has read.
    pub fn finish(self) {
        for key in self.table.keys() {
            let path = self.path(key.get_ref());
            let near = nearest(key.get_ref(), &self.known);
            let message = match near {
                Some(near) => format!("{path}: no such setting; is {near} meant?"),
                None => format!("{path}: no such setting; there are: {}", self.known.join(", ")),
            };
            self.report.add(key.span().start, message);
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'i>>> {
        self.known.push(key);
        self.table.remove(key)
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

fn within<T: Display + PartialOrd>(value: &T, limits: &RangeInclusive<T>) -> Result<(), String> {
    if limits.contains(value) {
        return Ok(());
    }
    Err(beyond(value, limits))
}

fn beyond<T: Display>(value: &impl Display, limits: &RangeInclusive<T>) -> String {
    format!("{value} is not within {} to {}", limits.start(), limits.end())
}

/// The known key that `key` most likely is a slip of.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    /// As clap has it for commands and options: 1 is the same word, and slips of a letter or two are above this.
    const ALIKE: f64 = 0.8;
    let alike = |one: &str| strsim::jaro_winkler(one, key);
    let best = known.iter().copied().max_by(|one, other| alike(one).total_cmp(&alike(other)))?;
    (alike(best) > ALIKE).then_some(best)
}
