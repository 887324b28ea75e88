//! The matrix: its cases, and how several are played at once.

pub mod cases;
pub mod side_by_side;
