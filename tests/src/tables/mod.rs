//! What is tried and what must come of it, a row each.

pub mod answers;
pub mod faults;
pub mod packets;
pub mod scans;
