//! Who uses the network from this host: the process behind outbound traffic, as it is told to people. Pure, but for the
//! names of users, which are read once.
//!
//! What such an actor does is counted, remembered and judged by the code that serves sources (`observe`, `detect`).

pub mod arguments;
pub mod baseline;
pub mod container;
pub mod file;
pub mod identity;
pub mod metrics;
pub mod never;
pub mod settings;
pub mod special;
pub mod table;
mod text;
pub mod unit;
pub mod users;

pub use self::identity::Actor;
