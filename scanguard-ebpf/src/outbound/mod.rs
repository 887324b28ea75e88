//! What leaves this host, and which process sent it: the kernel half of `scanguard_common::actor`.
//!
//! The programs see connections when they are asked for ([`sockets`]). They find the actor in the task that asks
//! ([`actor`]), leave at once where the actor knows the target ([`targets`]), and count the rest in the same state that
//! sources have ([`table`]). For new actors, and now and then, they read who it is ([`identity`]).

mod actor;
mod attempt;
mod blocks;
mod calls;
mod groups;
mod identity;
mod leaves;
mod names;
mod nowhere;
mod open;
mod owners;
mod scratch;
mod served;
mod sockets;
mod table;
mod tally;
mod targets;

pub(crate) use leaves::{answers_inner, leaves, looks_at_all};
pub(crate) use served::{called, called_elsewhere, listens};
pub(crate) use sockets::{came_about, ended, failed, opens};
