//! Access logs of web servers: they also have the requests over TLS, which the wire does not show.
//!
//! ```text
//! tail (files, rotation) -> lines (bytes to lines) -> format (a line to an entry) -> client (who it was) -> ContentEvent
//! ```
//! All of this except `tail`, `follower`, `state` and `task` is pure. The events go through the same rules as requests
//! on the wire.

mod clf;
mod client;
mod entry;
mod follower;
pub mod format;
mod json;
mod lines;
pub mod metrics;
pub mod reader;
pub mod settings;
pub mod state;
mod tail;
pub mod task;

#[cfg(test)]
mod tests;
