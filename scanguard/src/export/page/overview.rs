//! The agent's state as the page shows it: the part of `scanguard status` that everyone may know who reaches the
//! listener.
//!
//! It leaves out facts that would help an attacker: exempt addresses and the reasons (the operator's SSH peers among
//! them), files, users.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    control::listing::{Picture, Status},
    respond::{
        Mode,
        report::{BanCounts, ShieldCounts},
    },
};

/// The agent's state.
#[derive(Debug, Serialize)]
pub(super) struct Overview<'a> {
    version: &'a str,
    uptime_seconds: u64,
    /// When the counters were last read.
    polled: Timestamp,
    mode: Mode,
    /// Interfaces, with the attach mode; `None` if the program is not attached there.
    interfaces: &'a [(String, Option<String>)],
    packets: u64,
    /// Packets by exit.
    packets_by: &'a [(String, u64)],
    probes: u64,
    /// Probes by class.
    probes_by: &'a [(String, u64)],
    sources_remembered: usize,
    sources_active: usize,
    findings_open: usize,
    bans: BanCounts,
    max_bans: u32,
    shields: ShieldCounts,
    feed_networks: usize,
    circuit_breaker_open: bool,
    /// Whether a token is configured, so that the page can send orders.
    has_token: bool,
}

impl<'a> Overview<'a> {
    pub(super) fn of(picture: &'a Picture, has_token: bool) -> Self {
        let Picture { status, sources, .. } = picture;
        let Status { version, uptime_seconds, interfaces, packets, probes, findings_open, response, .. } =
            status;
        Self {
            version,
            uptime_seconds: *uptime_seconds,
            polled: sources.polled,
            mode: response.mode,
            interfaces,
            packets: sources.packets,
            packets_by: packets,
            probes: sources.probes,
            probes_by: probes,
            sources_remembered: sources.remembered,
            sources_active: sources.active,
            findings_open: *findings_open,
            bans: response.bans,
            max_bans: response.max_bans,
            shields: response.shields,
            feed_networks: response.feed_networks,
            circuit_breaker_open: response.circuit_breaker_open,
            has_token,
        }
    }
}
