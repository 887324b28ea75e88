//! Turns the history of sources into findings. Pure: no kernel, no runtime, time is passed in.
//!
//! A [`Rule`] looks at the activity of one source and decides whether it is scanning. [`findings::Tracker`] turns its
//! repeated answers into one finding, which opens, grows and closes. Each rule is one file in [`rules`].

pub mod campaign;
mod common;
pub mod crafted;
pub mod decoys;
mod detector;
pub mod feeds;
mod finding;
pub mod findings;
pub mod flood;
pub mod geo;
mod grounds;
pub mod metrics;
pub mod missed;
mod outage;
mod places;
pub mod prefixes;
mod reported;
mod rule;
pub mod rules;
pub mod settings;
mod severity;
pub mod udp_services;

pub use self::{
    detector::Detector,
    rule::{Evidence, NOT_AT_ONCE, Plain, Rule, Source},
    severity::{Confidence, Severity, Technique},
};
pub use crate::content::Proof;
