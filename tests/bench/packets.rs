//! `cargo xtask bench`: what a packet costs, under BPF_PROG_TEST_RUN.
//!
//! All programs run in one process, in turns, so that a noisy machine is noisy for all of them; what counts
//! are the ratios.

use anyhow::{Context as _, Result};
use scanguard::sensor::test_run::Run;

use crate::{
    machine::{self, Machine},
    model::{Bound, Cell, Part, Report, Table, Target, median},
    subjects,
};

/// Gives the nanoseconds a packet over so many of them.
pub(crate) type Measure = Box<dyn FnMut(u32) -> Result<f64>>;

/// A kind of packet that is measured.
pub(crate) struct Subject {
    /// Its row.
    pub(crate) name: &'static str,
    state: State,
}

enum State {
    Ready {
        measure: Measure,
        rounds: Vec<f64>,
    },
    /// Why it cannot be measured here.
    Missing(String),
}

impl Subject {
    /// Whatever cannot be made ready is a row that says why.
    pub(crate) fn of(name: &'static str, ready: impl FnOnce() -> Result<Measure>) -> Self {
        let state = match ready() {
            Ok(measure) => State::Ready { measure, rounds: Vec::new() },
            Err(error) => State::Missing(format!("{error:#}")),
        };
        Self { name, state }
    }

    fn measure(&mut self, packets: u32) -> Result<()> {
        if let State::Ready { measure, rounds } = &mut self.state {
            rounds.push(measure(packets).context(self.name)?);
        }
        Ok(())
    }

    fn rounds(&self) -> Option<&[f64]> {
        match &self.state {
            State::Ready { rounds, .. } => Some(rounds),
            State::Missing(_) => None,
        }
    }
}

/// CPU time that a packet takes in this thread, by what a call with many of them takes longer than a call with one.
/// The duration that the kernel reports is cut to whole nanoseconds: a twelfth of what is measured here.
///
/// # Errors
/// An error of the run.
pub(crate) fn nanoseconds(packets: u32, run: &dyn Fn(u32) -> Result<Run>) -> Result<f64> {
    let one = cpu_time(|| run(1))?;
    let many = cpu_time(|| run(packets.saturating_add(1)))?;
    Ok((many - one) / f64::from(packets))
}

fn cpu_time(run: impl FnOnce() -> Result<Run>) -> Result<f64> {
    let start = machine::thread_nanoseconds()?;
    run()?;
    Ok(machine::thread_nanoseconds()? - start)
}

/// Targets for the costs of the sensor's packets, as ratios to a C program's. See [`ratio`].
const TARGETS: [(&str, &str, f64); 6] = [
    ("tcp_established", "c_parse", 2.0),
    ("tcp6_established", "c_parse", 2.0),
    ("arp", "c_parse", 2.0),
    ("syn_known", "c_syn_known", 1.3),
    ("syn_new", "c_syn_new", 1.0),
    ("dropped", "c_dropped", 1.2),
];

/// Measures all rows, or those whose names contain this word, beside the empty program's.
///
/// # Errors
/// A program does not run.
pub(crate) fn run(rounds: usize, packets: u32, only: Option<&str>) -> Result<Report> {
    let mut subjects = subjects::all();
    if let Some(word) = only {
        subjects.retain(|subject| subject.name == "empty" || subject.name.contains(word));
    }
    for _ in 0..rounds {
        for subject in &mut subjects {
            subject.measure(packets)?;
        }
    }
    let targets = TARGETS.map(|(ours, theirs, limit)| {
        let figure = ratio(find(&subjects, ours), find(&subjects, theirs), least);
        Target::new(&format!("{ours} / {theirs}"), figure, Bound::AtMost, limit, "")
    });
    let tables = vec![costs(&subjects, rounds, packets), ratios(&subjects)];
    Ok(Report { part: Part::Packets, machine: Machine::this()?, tables, targets: targets.into() })
}

fn find<'s>(subjects: &'s [Subject], name: &str) -> Option<&'s [f64]> {
    subjects.iter().find(|subject| subject.name == name)?.rounds()
}

/// The least of all rounds. Whatever else the machine does only ever adds to a round, and the least was added to the
/// round that is least: of both programs' rounds one finds a quiet moment sooner than that one moment is quiet for both.
fn least(rounds: &[f64]) -> Option<f64> {
    rounds.iter().copied().min_by(f64::total_cmp)
}

fn ratio(ours: Option<&[f64]>, theirs: Option<&[f64]>, of: fn(&[f64]) -> Option<f64>) -> Option<f64> {
    Some(of(ours?)? / of(theirs?)?)
}

fn costs(subjects: &[Subject], rounds: usize, packets: u32) -> Table {
    let about = format!(
        "CPU nanoseconds a packet under BPF_PROG_TEST_RUN: {rounds} rounds of {packets} packets of each kind, all \
         kinds in turn. `c_*` are the C programs of benches/c (clang -O2); `empty` does nothing."
    );
    let columns = ["ns_median", "ns_min", "ns_max", "ratio_to_empty"];
    let mut table = Table::new("The cost of a packet", &about, &columns);
    let empty = find(subjects, "empty").and_then(least);
    for Subject { name, state } in subjects {
        match state {
            State::Ready { rounds, .. } => {
                let greatest = rounds.iter().copied().max_by(f64::total_cmp);
                let ratio = least(rounds).zip(empty).map(|(least, empty)| least / empty);
                let cells = [median(rounds), least(rounds), greatest, ratio];
                table.push(name, cells.into_iter().flatten().map(hundredths));
            }
            State::Missing(why) => table.push_missing(name, why),
        }
    }
    table
}

/// Both ways to compare, so that one can see how far apart they are.
fn ratios(subjects: &[Subject]) -> Table {
    let about = "Each program is compared with the C program that does the minimum for the same job. `of minima` is the \
                 ratio of the quietest rounds; the targets are about this ratio, because noise only adds time. \
                 `median of rounds` is the median of the ratios within each round.";
    let columns = ["of_minima", "median_of_rounds", "limit"];
    let mut table = Table::new("Ratios to C", about, &columns);
    for (ours, theirs, limit) in TARGETS {
        let name = format!("{ours} / {theirs}");
        let (ours, theirs) = (find(subjects, ours), find(subjects, theirs));
        let pairs = ours.zip(theirs).map(|(ours, theirs)| {
            let each: Vec<_> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
            median(&each)
        });
        match (ratio(ours, theirs, least), pairs.flatten()) {
            (Some(minima), Some(pairs)) => {
                table.push(&name, [minima, pairs, limit].map(hundredths));
            }
            _ => table.push_missing(&name, "one of the two was not"),
        }
    }
    table
}

fn hundredths(number: f64) -> Cell {
    Cell::from((number * 100.0).round() / 100.0)
}
