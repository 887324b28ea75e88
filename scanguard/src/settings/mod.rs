//! How to read settings: one table of the file, setting by setting, each with its default and limits. Every module
//! reads its own part with this; `config` composes the parts.

mod interval;
mod section;

pub use self::{
    interval::Interval,
    section::{Reading, Section, read},
};

/// One problem of the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Line, counted from 1.
    pub line: usize,
    /// The problem, and a correct form.
    pub message: String,
}
