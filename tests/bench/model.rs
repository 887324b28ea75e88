//! Results of a part of the bench: tables and targets, for the terminal, for JSON and for docs/performance.md.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// The parts of the bench, in the order of the page.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// Nanoseconds a packet.
    Packets,
    /// A real wire, real clients, a real agent.
    EndToEnd,
    /// What leaves this host.
    Outbound,
    /// The same work by others.
    Peers,
    /// A large table.
    Scale,
    /// An attack on the sensor.
    Flood,
    /// How long a scan goes on.
    Drop,
}

impl Part {
    /// All, in the order of the page.
    pub(crate) const ALL: [Self; 7] =
        [Self::Packets, Self::EndToEnd, Self::Outbound, Self::Peers, Self::Scale, Self::Flood, Self::Drop];

    /// Its chapter.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Packets => "The program, packet by packet",
            Self::EndToEnd => "End to end",
            Self::Outbound => "What leaves this host",
            Self::Peers => "Peers",
            Self::Scale => "Scale",
            Self::Flood => "A scan within a flood",
            Self::Drop => "Time to drop",
        }
    }
}

/// Everything that a part found.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Report {
    /// Which part.
    pub(crate) part: Part,
    /// On what.
    pub(crate) machine: Machine,
    /// Figures.
    pub(crate) tables: Vec<Table>,
    /// Figures that were to be reached.
    pub(crate) targets: Vec<Target>,
}

/// Rows with the same columns.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Table {
    /// Heading.
    pub(crate) title: String,
    /// How it was measured.
    pub(crate) about: String,
    /// Keys of the rows, in order; the first is `name`.
    pub(crate) columns: Vec<String>,
    /// Figures by key. A row that could not be measured has [`MISSING`] with the reason.
    pub(crate) rows: Vec<Row>,
}

/// Figures and words by key.
pub(crate) type Row = BTreeMap<String, Cell>;

/// The key of the reason why a row was not measured.
const MISSING: &str = "not_measured";

/// One figure or word.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Cell {
    /// A figure.
    Number(f64),
    /// A word.
    Text(String),
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Cell {
    fn show(&self) -> String {
        match self {
            Self::Number(number) => figure(*number),
            Self::Text(text) => text.clone(),
        }
    }
}

impl Table {
    /// Without rows.
    pub(crate) fn new(title: &str, about: &str, columns: &[&str]) -> Self {
        let columns = std::iter::once("name").chain(columns.iter().copied()).map(str::to_owned).collect();
        Self { title: title.to_owned(), about: about.to_owned(), columns, rows: Vec::new() }
    }

    /// Adds a row, its cells in the order of the columns.
    pub(crate) fn push(&mut self, name: &str, cells: impl IntoIterator<Item = impl Into<Cell>>) {
        let cells = std::iter::once(Cell::from(name)).chain(cells.into_iter().map(Into::into));
        self.rows.push(self.columns.iter().cloned().zip(cells).collect());
    }

    /// Adds a row without figures.
    pub(crate) fn push_missing(&mut self, name: &str, why: &str) {
        let row = [("name", name), (MISSING, why)];
        self.rows.push(row.map(|(key, text)| (key.to_owned(), Cell::from(text))).into());
    }

    /// Headings and rows as text.
    fn cells(&self) -> Vec<Vec<String>> {
        let heading = self.columns.iter().map(|key| key.replace('_', " ")).collect();
        let rows = self.rows.iter().map(|row| {
            let cell = |key: &String| row.get(key).map(Cell::show).unwrap_or_default();
            let mut cells: Vec<_> = self.columns.iter().map(cell).collect();
            if let (Some(why), Some(first)) = (row.get(MISSING), cells.get_mut(1)) {
                *first = format!("not measured: {}", why.show());
            }
            cells
        });
        std::iter::once(heading).chain(rows).collect()
    }

    fn text(&self) -> String {
        let cells = self.cells();
        // The reason of a row that was not measured may be long.
        let width = |column| {
            let limit = if column == 0 { 60 } else { 20 };
            let lengths = cells.iter().filter_map(|row| row.get(column)).map(String::len);
            lengths.filter(|length| *length <= limit).max()
        };
        let widths: Vec<_> = (0..self.columns.len()).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = format!("\n{}\n", self.title);
        for row in &cells {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Infallible: a string takes everything.
                let _ = if column == 0 {
                    write!(line, "{cell:<width$}")
                } else {
                    write!(line, "  {cell:>width$}")
                };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }

    /// For the page.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("\n### {}\n\n{}\n\n", self.title, wrapped(&self.about));
        for (number, row) in self.cells().iter().enumerate() {
            text += &format!("| {} |\n", row.join(" | "));
            if number == 0 {
                text += &format!("|---|{}\n", "--:|".repeat(self.columns.len() - 1));
            }
        }
        text
    }
}

/// A paragraph in lines of at most 118 columns.
fn wrapped(paragraph: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in paragraph.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= 118 => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// From which side a figure is bounded.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    /// The less the better.
    AtMost,
    /// The more the better.
    AtLeast,
}

/// A figure that was to be reached.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Target {
    /// Of what.
    pub(crate) what: String,
    /// The figure; none if it was not measured.
    pub(crate) figure: Option<f64>,
    /// The side.
    pub(crate) bound: Bound,
    /// The bound.
    pub(crate) limit: f64,
    /// Of both.
    pub(crate) unit: String,
    /// Whether it was reached.
    pub(crate) met: Option<bool>,
}

impl Target {
    /// Compares.
    pub(crate) fn new(what: &str, figure: Option<f64>, bound: Bound, limit: f64, unit: &str) -> Self {
        let met = figure.map(|figure| match bound {
            Bound::AtMost => figure <= limit,
            Bound::AtLeast => figure >= limit,
        });
        Self { what: what.to_owned(), figure, bound, limit, unit: unit.to_owned(), met }
    }

    /// The figure, the bound, and whether the bound holds.
    pub(crate) fn cells(&self) -> [String; 4] {
        let bound = match self.bound {
            Bound::AtMost => "at most",
            Bound::AtLeast => "at least",
        };
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        [
            self.what.clone(),
            format!("{bound} {}{unit}", figure(self.limit)),
            self.figure.map_or_else(|| "not measured".to_owned(), |value| figure(value) + &unit),
            match self.met {
                Some(true) => "met",
                Some(false) => "not met",
                None => "",
            }
            .to_owned(),
        ]
    }
}

impl Report {
    /// For the terminal.
    pub(crate) fn print(&self) {
        for table in &self.tables {
            print!("{}", table.text());
        }
        if !self.targets.is_empty() {
            println!("\ntargets");
        }
        for target in &self.targets {
            let [what, limit, figure, met] = target.cells();
            println!("{what:<76} {limit:>16}  {figure:>12}  {met}");
        }
    }

    /// From a file that `--json` wrote.
    ///
    /// # Errors
    /// It cannot be read, or is no such file.
    pub(crate) fn read(file: &Path) -> Result<Vec<Self>> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        serde_json::from_str(&text).with_context(|| format!("{}: no figures of this bench", file.display()))
    }
}

/// Writes reports to a file as JSON.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write(reports: &[Report], file: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(reports)? + "\n";
    fs::write(file, text).with_context(|| file.display().to_string())
}

/// Three digits or more, thousands apart.
pub(crate) fn figure(number: f64) -> String {
    let decimals = match number.abs() {
        size if size >= 100.0 || number.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{number:.decimals$}");
    let (whole, rest) =
        text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let digits = whole.trim_start_matches('-');
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if whole.starts_with('-') { "-" } else { "" };
    format!("{sign}{grouped}{}", rest.map(|rest| format!(".{rest}")).unwrap_or_default())
}

/// The one in the middle; of an even number the upper of the two.
pub(crate) fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}
