//! ScanGuard's agent: loads the XDP program, reads its counters, finds scanning, and reports it.
//!
//! ```text
//! sensor -> observe -> detect -> respond -> sensor
//!                         |         |
//!                         +-> export, control
//! ```
//! Data flows one way; only bans and settings go back to the kernel. `crowdsec` shares findings with other hosts, and
//! uses theirs. Only `sensor` uses aya; `observe` and `detect` are pure; `app` connects all parts. A module uses only
//! those below it: ARCHITECTURE.md lists the order, and a test checks it.

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
pub mod fleet;
pub mod http_client;
pub mod http_server;
pub mod logs;
pub mod memory;
pub mod metrics;
pub mod network;
pub mod observe;
pub mod outbound;
pub mod pipeline;
pub mod privileges;
pub mod replay;
pub mod respond;
pub mod sandbox;
pub mod secret;
pub mod sensor;
pub mod service;
pub mod settings;
pub mod sources;
pub mod stdio;
pub mod text_list;
pub mod user;
mod whole_file;
pub mod words;
