//! Decides whether a network is banned or shielded from, for how long, and why. Pure: time and all facts are passed in.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use ipnet::IpNet;

use super::{
    LONGEST_BAN, Mode, ModeState, SHORTEST_BAN,
    allow::AllowList,
    ban_table::{Ban, BanTable},
    breaker::Breaker,
    cause::{Cause, Origin},
    refusal::Refusal,
    settings::Settings,
};
use crate::{
    cidr,
    clock::Now,
    detect::{
        Confidence, Plain,
        findings::{Finding, Spoofable},
    },
    sensor::gate::{Extent, HoldTerms},
    settings::Interval,
    sources::Sources,
};
/// The widest IPv4 network that can be banned: the size that a regional registry gets.
pub const WIDEST_V4: u8 = 8;
/// The widest IPv6 network that can be banned.
pub const WIDEST_V6: u8 = 16;

/// Where there is room for few bans, one network may have this many of them.
const LEAST_SHARE: usize = 16;

/// The difference that the ends of one decision of CrowdSec may have when CrowdSec sends it twice.
const SLACK: Duration = Duration::from_secs(60);

/// The input of the policy.
#[derive(Clone, Copy)]
pub struct PolicyInput<'a> {
    /// `[response]`.
    pub settings: &'a Settings,
    /// The mode in force.
    pub mode: ModeState,
    /// The networks that are never banned.
    pub allowed: &'a AllowList,
    /// The current bans and shields.
    pub ban_table: &'a BanTable,
    /// The number of recent bans.
    pub breaker: &'a Breaker,
    /// The current time.
    pub now: Now,
    /// The source of randomness that spreads bans over time.
    pub salt: &'a RandomState,
}

/// The decision of the policy.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Make a ban or a shield.
    Ban(BanTerms),
    /// Do nothing, because a ban or shield exists already.
    Stands {
        /// The network of that ban or shield.
        net: IpNet,
        /// A ban or a shield.
        extent: Extent,
    },
    /// Do nothing, for this reason.
    Refused(Refusal),
}

/// A ban or shield to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct BanTerms {
    /// A ban or a shield.
    pub extent: Extent,
    /// The duration; none: until it is taken back.
    pub lasts: Option<Duration>,
    /// See [`super::ban_table::Ban::level`].
    pub level: u32,
    /// It drops nothing, whatever the mode becomes.
    pub dry: bool,
    /// The network whose ban is evicted to make room.
    pub evicts: Option<IpNet>,
    /// The reason, in words.
    pub reason: String,
}

impl BanTerms {
    /// The ban or shield of `net` on these terms.
    pub fn ban(&self, net: IpNet, cause: &Cause, now: Now) -> Ban {
        Ban {
            net,
            extent: self.extent,
            origin: cause.origin(),
            reason: self.reason.clone(),
            since: now.wall,
            ends: self.lasts.map(|lasts| now.at.saturating_add(lasts)),
            level: self.level,
            dry: self.dry,
        }
    }
}

/// Decides about a ban of `net`.
pub fn judge(net: IpNet, cause: &Cause, input: PolicyInput<'_>) -> Decision {
    match decide(net, cause, input) {
        Ok(decision) => decision,
        Err(refusal) => Decision::Refused(refusal),
    }
}

/// The shield in place of a ban that the circuit breaker refuses. It harms nobody, and the source does not go on
/// unhindered. None: shields are off, one is there already, or there is no room.
pub fn shield_instead(net: IpNet, cause: &Cause, input: PolicyInput<'_>) -> Option<BanTerms> {
    let PolicyInput { settings, ban_table, now, .. } = input;
    let is_there = ban_table.covering(net).is_some_and(|ban| stands(ban, Extent::Shield, settings, now));
    if !settings.shield || is_there {
        return None;
    }
    let evicts = room(net, cause, Extent::Shield, input).ok()?;
    let terms = match cause {
        Cause::Rule { rule, confidence, reason, .. } => {
            by_rule(net, Extent::Shield, (rule, *confidence, reason), input)
        }
        Cause::Fleet { rule, lasts, reason, .. } => {
            by_fleet(Extent::Shield, (rule, *lasts, reason), input.mode.mode)
        }
        Cause::Feed { .. } | Cause::Hand { .. } | Cause::Crowdsec { .. } => return None,
    };
    Some(BanTerms { evicts, ..terms })
}

/// Refuses networks that can never be banned, whatever the cause. A network around allowed addresses can be banned if
/// the kernel knows all of them: it looks for them before each drop.
pub fn check(net: IpNet, allowed: &AllowList) -> Result<(), Refusal> {
    let least = match net {
        IpNet::V4(_) => WIDEST_V4,
        IpNet::V6(_) => WIDEST_V6,
    };
    if net.prefix_len() == 0 {
        return Err(Refusal::Everybody(net));
    }
    if net.trunc() != net {
        return Err(Refusal::HostBits { net });
    }
    if net.prefix_len() < least {
        return Err(Refusal::TooWide { net, least });
    }
    let part = if allowed.is_lacking { allowed.within(net).next() } else { None };
    match allowed.around(net).or(part) {
        Some((allowed, why)) => Err(Refusal::Allowed { net, allowed, why: why.clone() }),
        None => Ok(()),
    }
}

/// Refuses a network around this host or its gateway: its neighbours are in it, too. They have nothing to do with each
/// other, and those that scan are sources of their own. Only a user may ban all of them.
pub fn spares_neighbours(net: IpNet, allowed: &AllowList) -> Result<(), Refusal> {
    match allowed.near(net) {
        Some((allowed, why)) => Err(Refusal::Allowed { net, allowed, why: why.clone() }),
        None => Ok(()),
    }
}

/// The response that a finding is certain enough for, on this host or elsewhere. A ban needs evidence that nobody else
/// can have forged. A shield harms nobody, and needs only medium confidence: forgeable evidence cannot give more.
///
/// # Errors
/// The finding is not certain enough for either; the error is the reason.
pub fn qualify(
    rule: &str,
    confidence: Confidence,
    spoofable: Spoofable,
    had_connections: bool,
    settings: &Settings,
) -> Result<Extent, Refusal> {
    if !settings.rules.iter().any(|one| one == rule) {
        return Err(Refusal::Rule { rule: rule.to_owned() });
    }
    let is_sure = confidence >= settings.min_confidence;
    if !spoofable.is_possible() {
        let refusal = Refusal::Confidence { has: confidence, wanted: settings.min_confidence };
        return if is_sure { Ok(Extent::Full) } else { Err(refusal) };
    }
    let wanted = settings.min_confidence.min(Confidence::Medium);
    if confidence < wanted {
        return Err(Refusal::Confidence { has: confidence, wanted });
    }
    if settings.allow_spoofable && is_sure && !had_connections {
        return Ok(Extent::Full);
    }
    if settings.shield { Ok(Extent::Shield) } else { Err(Refusal::Spoofable(spoofable)) }
}

/// Decides which sources the kernel may hold. The evidence must be such that a rule certainly matches on it, and that
/// rule must be allowed to ban or shield. A hold is a shield for a moment, so the circuit breaker does not stop holds
/// where shields are made. None: no source is held.
pub fn reflex(plain: &[Plain], input: PolicyInput<'_>) -> Option<HoldTerms> {
    let PolicyInput { settings, mode: ModeState { mode, .. }, breaker, .. } = input;
    if mode == Mode::Observe || settings.reflex.is_zero() {
        return None;
    }
    // Services that are surely closed give medium confidence, whether the address is forged or not.
    let bans =
        settings.allow_spoofable && settings.min_confidence <= Confidence::Medium && !breaker.is_open();
    if !settings.shield && !bans {
        return None;
    }
    let plain = plain.iter().filter(|plain| settings.rules.iter().any(|rule| rule == plain.rule));
    plain.min_by_key(|plain| plain.services).map(|plain| HoldTerms {
        services: plain.services,
        lasts: settings.reflex,
        most: settings.max_per_minute,
    })
}

fn decide(net: IpNet, cause: &Cause, input: PolicyInput<'_>) -> Result<Decision, Refusal> {
    let PolicyInput { settings, mode: ModeState { mode, .. }, allowed, ban_table, breaker, now, .. } = input;
    check(net, allowed)?;
    let terms = match cause {
        Cause::Rule { rule, confidence, spoofable, had_connections, has_grounds, reason, .. } => {
            if mode == Mode::Observe {
                return Err(Refusal::Observing);
            }
            let extent = qualify(rule, *confidence, *spoofable, *had_connections, settings)?;
            if let Some(ban) = ban_table.covering(net).filter(|ban| stands(ban, extent, settings, now)) {
                return Ok(Decision::Stands { net: ban.net, extent: ban.extent });
            }
            if !has_grounds {
                return Err(Refusal::NothingNew);
            }
            let max = settings.max_per_minute;
            if extent == Extent::Full {
                spares_neighbours(net, allowed)?;
                if breaker.refuses(net, now.at, max) {
                    return Err(Refusal::Breaker { max });
                }
            }
            by_rule(net, extent, (rule, *confidence, reason), input)
        }
        Cause::Feed { feed } => {
            spares_neighbours(net, allowed)?;
            // The kernel stores these beside the ban table: they take no room in it and last as long as they are
            // listed.
            let reason = format!("listed in {feed}");
            let dry = mode != Mode::Enforce;
            let extent = Extent::Full;
            return Ok(Decision::Ban(BanTerms { extent, lasts: None, level: 0, dry, evicts: None, reason }));
        }
        Cause::Hand { lasts, reason, .. } => {
            let lasts = lasts.map(checked).transpose()?;
            let (extent, reason) = (Extent::Full, reason.clone());
            BanTerms { extent, lasts, level: 0, dry: false, evicts: None, reason }
        }
        Cause::Crowdsec { decision, scenario, lasts } => {
            spares_neighbours(net, allowed)?;
            let lasts = checked(*lasts)?;
            match ban_table.banned(net) {
                Some(ban) if outweighs(ban, *decision, lasts, now) => {
                    return Ok(Decision::Stands { net: ban.net, extent: ban.extent });
                }
                Some(_) => {}
                // Lists of others are long: no ban of this host is evicted to make room for them.
                None if ban_table.len(Extent::Full) >= settings.max_bans as usize => {
                    return Err(Refusal::Full { max: settings.max_bans, extent: Extent::Full });
                }
                None => {}
            }
            let reason = format!("CrowdSec: {scenario}");
            let (extent, lasts) = (Extent::Full, Some(lasts));
            BanTerms { extent, lasts, level: 0, dry: false, evicts: None, reason }
        }
        Cause::Fleet { proven, lasts, rule, reason, .. } => {
            if mode == Mode::Observe {
                return Err(Refusal::Observing);
            }
            checked(*lasts)?;
            let extent = match (*proven, settings.shield) {
                (true, _) => Extent::Full,
                (false, true) => Extent::Shield,
                (false, false) => return Err(Refusal::Spoofable(Spoofable::Yes)),
            };
            if let Some(ban) = ban_table.covering(net).filter(|ban| stands(ban, extent, settings, now)) {
                return Ok(Decision::Stands { net: ban.net, extent: ban.extent });
            }
            if extent == Extent::Full {
                spares_neighbours(net, allowed)?;
                let max = settings.max_per_minute;
                if breaker.refuses(net, now.at, max) {
                    return Err(Refusal::Breaker { max });
                }
                // No ban of this host is evicted to make room for those of others.
                if ban_table.banned(net).is_none() && ban_table.len(extent) >= settings.max_bans as usize {
                    return Err(Refusal::Full { max: settings.max_bans, extent });
                }
            }
            by_fleet(extent, (rule, *lasts, reason), mode)
        }
    };
    let evicts = room(net, cause, terms.extent, input)?;
    Ok(Decision::Ban(BanTerms { evicts, ..terms }))
}

/// The terms of a ban or shield for a finding of this rule, with its confidence and reason.
fn by_rule(
    net: IpNet,
    extent: Extent,
    (rule, confidence, reason): (&str, Confidence, &str),
    input: PolicyInput<'_>,
) -> BanTerms {
    let PolicyInput { settings, mode: ModeState { mode, .. }, ban_table, now, .. } = input;
    let (level, done) = match extent {
        Extent::Shield => (0, "shielded from".to_owned()),
        Extent::Full => {
            let before = ban_table.before(net).and_then(|past| past.level(settings.forgive, now.wall));
            let level = before.map_or(0, |level| level.saturating_add(1));
            (level, nth(level))
        }
    };
    let lasts = settings.time(level);
    let spread = spread(lasts, settings.jitter, input.salt.hash_one((net, now.at)));
    let reason =
        format!("{done} for {}: {rule}, confidence {}: {reason}", Interval(lasts), confidence.label());
    BanTerms { extent, lasts: Some(spread), level, dry: mode == Mode::DryRun, evicts: None, reason }
}

/// The terms of a ban or shield that the fleet decided.
fn by_fleet(extent: Extent, (rule, lasts, reason): (&str, Duration, &str), mode: Mode) -> BanTerms {
    let reason = format!("fleet: {rule}: {reason}");
    BanTerms { extent, lasts: Some(lasts), level: 0, dry: mode == Mode::DryRun, evicts: None, reason }
}

/// Whether the existing ban or shield is enough. A ban takes precedence over a shield. A shield is renewed in the
/// second half of its time, since it lasts as long as its source is active.
fn stands(ban: &Ban, wanted: Extent, settings: &Settings, now: Now) -> bool {
    match (ban.extent, wanted) {
        (Extent::Full, Extent::Full | Extent::Shield) => true,
        (Extent::Shield, Extent::Full) => false,
        (Extent::Shield, Extent::Shield) => ban.left(now.at).is_none_or(|left| left > settings.time(0) / 2),
    }
}

/// The network whose ban or shield has to be evicted, if any. The bans of one customer's addresses evict each other
/// before they evict those of others.
fn room(net: IpNet, cause: &Cause, extent: Extent, input: PolicyInput<'_>) -> Result<Option<IpNet>, Refusal> {
    let max = match extent {
        Extent::Full => input.settings.max_bans,
        Extent::Shield => input.settings.max_shields,
    };
    let is_there = input.ban_table.get(net).is_some_and(|ban| ban.extent == extent);
    if is_there {
        return Ok(None);
    }
    if let Cause::Rule { .. } | Cause::Fleet { .. } = cause
        && let Some(crowded) = input.ban_table.crowded(net, extent, share(max))
    {
        return Ok(Some(crowded));
    }
    if input.ban_table.len(extent) < max as usize {
        return Ok(None);
    }
    input.ban_table.victim(extent).map(Some).ok_or(Refusal::Full { max, extent })
}

/// How many of all bans, or of all shields, rules may make in one network (IPv4 /24, IPv6 /48).
fn share(max: u32) -> usize {
    (max as usize / 8).max(LEAST_SHARE)
}

/// Whether a ban takes precedence over a decision of CrowdSec: it was ordered here, lasts longer, or is the same
/// decision.
fn outweighs(ban: &Ban, decision: u64, lasts: Duration, now: Now) -> bool {
    let left = ban.left(now.at);
    match ban.origin {
        Origin::Hand { .. } => true,
        Origin::Crowdsec { decision: before } => {
            before == decision && left.is_some_and(|left| left.abs_diff(lasts) < SLACK)
        }
        Origin::Rule { .. } | Origin::Feed { .. } | Origin::Fleet { .. } | Origin::Adopted => {
            left.is_none_or(|left| left >= lasts)
        }
    }
}

fn checked(lasts: Duration) -> Result<Duration, Refusal> {
    if (SHORTEST_BAN..=LONGEST_BAN).contains(&lasts) { Ok(lasts) } else { Err(Refusal::Time) }
}

/// Makes a ban up to `percent` longer, so that bans that begin together do not end together.
fn spread(lasts: Duration, percent: u8, random: u64) -> Duration {
    // A thousandth of the spread is fine enough: of ten minutes and 10 % that is 60 ms.
    let thousandths = u32::try_from(random % 1_000).unwrap_or(0) * u32::from(percent);
    lasts.saturating_add(lasts / 100_000 * thousandths)
}

/// "banned", "banned for the 3rd time".
fn nth(level: u32) -> String {
    let ordinal = match level {
        0 => return "banned".to_owned(),
        1 => "2nd".to_owned(),
        2 => "3rd".to_owned(),
        more => format!("{}th", u64::from(more) + 1),
    };
    format!("banned for the {ordinal} time")
}

/// The network to ban for the source of a finding, which may be a prefix around many sources.
pub fn net_of_finding(finding: &Finding, sources: &Sources) -> IpNet {
    finding.bits.map_or_else(|| sources.net(&finding.source), |bits| cidr::net(finding.source, bits))
}

#[cfg(test)]
mod tests;
