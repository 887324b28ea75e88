//! Code that the tests, the demo and the bench share: one packet table for all layers, and real networks.
//!
//! [`fixtures`] are at the bottom; [`tables`] look at them, [`matrix`], [`adversary`], [`simulation`]
//! and [`soak`] at both.

pub mod adversary;
pub mod fixtures;
pub mod fuzz;
pub mod links;
pub mod matrix;
pub mod simulation;
pub mod soak;
pub mod tables;
