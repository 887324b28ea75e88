//! ScanGuard's agent: loads the XDP program, reads its counters, finds scanning, tells people.
//!
//! ```text
//! sensor -> observe -> detect -> export
//! ```
//! Data flows one way. `sensor` alone knows aya; `observe` and `detect` are pure; `app` wires them up.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod detach;
pub mod detect;
pub mod doctor;
pub mod exit;
pub mod export;
pub mod network;
pub mod observe;
pub mod pipeline;
pub mod reload;
pub mod replay;
pub mod sensor;
