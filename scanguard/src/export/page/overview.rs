//! What the page tells of how it stands: of what `scanguard status` says, what whoever reaches the listener may know.
//!
//! Left out is what would help to attack the operator: who is never banned and why (their SSH peers among it), files, users.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    control::listing::{Picture, Status},
    respond::{
        Mode,
        report::{BanCounts, ShieldCounts},
    },
};

/// How it stands.
#[derive(Debug, Serialize)]
pub(super) struct Overview<'a> {
    version: &'a str,
    uptime_seconds: u64,
    /// When the counters were read last.
    polled: Timestamp,
    mode: Mode,
    /// Interfaces, with how the program is attached; none: it is not.
    interfaces: &'a [(String, Option<String>)],
    packets: u64,
    /// By how they left the program.
    packets_by: &'a [(String, u64)],
    probes: u64,
    /// By class.
    probes_by: &'a [(String, u64)],
    sources_remembered: usize,
    sources_active: usize,
    findings_open: usize,
    bans: BanCounts,
    max_bans: u32,
    shields: ShieldCounts,
    feed_networks: usize,
    circuit_breaker_open: bool,
    /// Whether there is a token with which something can be done from the page.
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
