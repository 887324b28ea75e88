//! What the agent tells: findings as lines, metrics and health over HTTP.

mod content;
pub mod crowdsec;
pub mod findings;
pub mod http;
pub mod logs;
pub mod metrics;
pub mod reference;
pub mod response;
pub mod settings;
