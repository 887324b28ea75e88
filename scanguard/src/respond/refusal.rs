//! Why a ban is not made.

use ipnet::IpNet;

use super::allow::Why;
use crate::{
    cidr,
    detect::{Confidence, findings::Spoofable},
    sensor::gate::Extent,
    settings::Interval,
};

/// A ban that is not made, with the reason in words.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Rules ban nobody in this mode.
    #[error("the mode is observe: no source is banned")]
    Observing,
    /// The rule is not on the list.
    #[error("findings of {rule} do not ban (response.rules)")]
    Rule {
        /// The rule.
        rule: String,
    },
    /// The confidence is too low.
    #[error(
        "its confidence is {}, {} is wanted (response.min_confidence)", .has.label(), .wanted.label()
    )]
    Confidence {
        /// The finding's.
        has: Confidence,
        /// The least.
        wanted: Confidence,
    },
    /// The address may be forged.
    #[error(
        "its address may be forged ({0}), and a ban would hit somebody else (response.shield, response.allow_spoofable)"
    )]
    Spoofable(Spoofable),
    /// The source was released, and has done too little since.
    #[error(
        "no rule has matched since its last ban ended or enforcing began, and earlier activity does not count"
    )]
    NothingNew,
    /// It is allowed, or a part of it is.
    #[error("{}", overlap(*.net, *.allowed, .why))]
    Allowed {
        /// The network to ban.
        net: IpNet,
        /// The allowed network.
        allowed: IpNet,
        /// Why it is allowed.
        why: Why,
    },
    /// It contains all addresses.
    #[error("{0} contains all addresses")]
    Everybody(IpNet),
    /// It is too wide.
    #[error("{net} is too wide: at least /{least} is wanted")]
    TooWide {
        /// The network to ban.
        net: IpNet,
        /// The shortest prefix.
        least: u8,
    },
    /// It is written wrongly.
    #[error("{net} has bits beyond its prefix; is {} meant, or the address {}?", .net.trunc(), .net.addr())]
    HostBits {
        /// As it was written.
        net: IpNet,
    },
    /// It would last too long or not at all.
    #[error(
        "a ban lasts from {} to {}; without a time, it lasts until it is taken back",
        Interval(super::SHORTEST_BAN),
        Interval(super::LONGEST_BAN)
    )]
    Time,
    /// There is no room.
    #[error(
        "there are {max} {}s already, and none of them can be evicted (response.max_{}s)",
        .extent.label(), .extent.label()
    )]
    Full {
        /// The cap.
        max: u32,
        /// Of bans or of shields.
        extent: Extent,
    },
    /// Rules would ban in too many networks within one minute.
    #[error(
        "the circuit breaker is open: rules would ban in more than {max} networks within one minute \
         (response.max_per_minute); it closes by itself a minute after the storm"
    )]
    Breaker {
        /// The cap.
        max: u32,
    },
    /// The kernel did not take it.
    #[error("the kernel did not take it: {0}")]
    Kernel(String),
}

fn overlap(net: IpNet, allowed: IpNet, why: &Why) -> String {
    let allowed_name = cidr::name(allowed);
    match (allowed.contains(&net), allowed == net) {
        (_, true) => format!("{allowed_name} is never banned: {why}"),
        (true, false) => format!("it is within {allowed_name}, which is never banned: {why}"),
        (false, false) => {
            format!("{allowed_name}, which is never banned, is within {}: {why}", cidr::name(net))
        }
    }
}

impl Refusal {
    /// All names that [`Self::label`] returns.
    pub const LABELS: [&'static str; 13] = [
        "observe",
        "rule",
        "confidence",
        "spoofable",
        "let_go",
        "allowed",
        "everybody",
        "too_wide",
        "host_bits",
        "time",
        "full",
        "circuit_breaker",
        "kernel",
    ];

    /// The name in metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Observing => "observe",
            Self::Rule { .. } => "rule",
            Self::Confidence { .. } => "confidence",
            Self::Spoofable(_) => "spoofable",
            Self::NothingNew => "let_go",
            Self::Allowed { .. } => "allowed",
            Self::Everybody(_) => "everybody",
            Self::TooWide { .. } => "too_wide",
            Self::HostBits { .. } => "host_bits",
            Self::Time => "time",
            Self::Full { .. } => "full",
            Self::Breaker { .. } => "circuit_breaker",
            Self::Kernel(_) => "kernel",
        }
    }
}
