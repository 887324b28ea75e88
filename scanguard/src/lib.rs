//! ScanGuard's agent: loads the XDP program, reads its counters, finds scanning, tells people.
//!
//! ```text
//! sensor -> observe -> detect -> respond -> sensor
//!                         |         |
//!                         +-> export, control
//! ```
//! Data flows one way; what comes back to the kernel is bans. `crowdsec` shares findings with other hosts, and takes theirs. `sensor`
//! alone knows aya; `observe` and `detect` are pure; `app` wires them up. A module uses only those below it: ARCHITECTURE.md has the
//! order, and a test holds it.

pub mod app;
pub mod apply;
pub mod cidr;
pub mod cli;
pub mod clock;
pub mod config;
pub mod content;
pub mod control;
pub mod crowdsec;
pub mod detect;
pub mod export;
pub mod http_client;
pub mod http_server;
pub mod logs;
pub mod memory;
pub mod metrics;
pub mod network;
pub mod observe;
pub mod pipeline;
pub mod privileges;
pub mod replay;
pub mod respond;
pub mod sandbox;
pub mod secret;
pub mod sensor;
pub mod service;
pub mod settings;
pub mod stdio;
mod whole_file;
pub mod words;
