//! Access logs of web servers: they also have the requests over TLS, which the wire does not show.
//!
//! ```text
//! tail (files, rotation) -> lines (bytes to lines) -> shape (wrap: what is around a line; format: the line to an entry)
//!   -> client (who it was) -> ContentEvent
//! ```
//! All of this except `tail`, `follower`, `state`, `unread`, `examine` and `task` is pure. The events go through the same rules as requests
//! on the wire.

mod clf;
mod client;
mod entry;
pub mod examine;
mod fields;
mod follower;
pub mod format;
mod json;
mod lines;
pub mod metrics;
pub mod reader;
pub mod settings;
pub mod shape;
pub mod skipped;
pub mod state;
mod syslog;
mod tail;
pub mod task;
pub mod unread;
mod wrap;

#[cfg(test)]
mod tests;
