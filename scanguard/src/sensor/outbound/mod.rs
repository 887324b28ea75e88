//! Outbound traffic: who uses the network from this host. The programs count for actors what they count for sources
//! (`scanguard_common::actor`); this part loads them and reads their tables.

mod actors;
mod blocks;
pub mod calls;
mod ground;
pub mod metrics;
mod nowhere;
mod programs;

pub use actors::KernelActors;
pub(super) use ground::MAPS;
pub use ground::{Ground, LOSS, OutboundError, Scope};
pub use programs::Programs;
