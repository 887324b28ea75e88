//! Access logs of web servers: what clients asked for over TLS too, where the wire shows nothing.
//!
//! ```text
//! tail (files, rotation) -> lines (bytes to lines) -> format (a line to an entry) -> client (who it was) -> ContentEvent
//! ```
//! Everything but `tail`, `follower`, `state` and `task` is pure. The same rules as for requests on the wire apply to what
//! comes out.

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
