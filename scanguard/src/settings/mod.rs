//! How a setting is read: one table of the file, setting by setting, each with its default and limits. Every module reads its own
//! part with this; `config` puts the parts together.

mod interval;
mod section;

pub use self::{
    interval::Interval,
    section::{Reading, Section, read},
};

/// One thing that is wrong in the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Line, counted from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}
