//! Tables of packets, answers, scans and faults: each row has an input and the result that it must have.

pub mod answers;
pub mod faults;
pub mod packets;
pub mod scans;
pub mod taken_over;
