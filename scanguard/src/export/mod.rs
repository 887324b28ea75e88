//! The agent's output: findings to alert sinks, metrics and health over HTTP.

mod content;
pub mod forms;
pub mod health;
pub mod http;
pub mod metrics;
pub mod page;
pub mod reference;
pub mod settings;
pub mod sinks;
pub mod top_sources;
pub mod web;
pub mod writer;
