//! Whether somebody is banned, for how long, and why. Pure: time and everything else is passed in.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use ipnet::IpNet;

use super::{
    Mode, ModeState,
    allow::AllowList,
    book::{Ban, Book},
    breaker::Breaker,
    cause::{Cause, Origin},
    refusal::Refusal,
    report,
    settings::Settings,
};
use crate::{
    clock::Now,
    config::Interval,
    detect::{Confidence, Plain, findings::Spoofable},
    sensor::gate::Reflex,
};

/// A ban lasts at least this long.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// A ban with an end lasts at most this long: beyond ten years, "until it is taken back" is what is meant.
pub const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// The widest IPv4 network that can be banned: what a regional registry was given.
pub const WIDEST_V4: u8 = 8;
/// The widest IPv6 network that can be banned.
pub const WIDEST_V6: u8 = 16;

/// By so much the ends of one decision of CrowdSec differ when it is told twice.
const SLACK: Duration = Duration::from_secs(60);

/// What the policy goes by.
#[derive(Clone, Copy)]
pub struct Circumstances<'a> {
    /// `[response]`.
    pub settings: &'a Settings,
    /// The mode in force.
    pub mode: ModeState,
    /// Who is never banned.
    pub allowed: &'a AllowList,
    /// Who is banned.
    pub book: &'a Book,
    /// How many were banned lately.
    pub breaker: &'a Breaker,
    /// When.
    pub now: Now,
    /// By what bans are spread over time.
    pub salt: &'a RandomState,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// A ban.
    Ban(Sentence),
    /// Nothing: it is banned already.
    Stands {
        /// The network that is.
        net: IpNet,
    },
    /// Nothing, for this reason.
    Refused(Refusal),
}

/// A ban to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Sentence {
    /// For how long; none: until it is taken back.
    pub lasts: Option<Duration>,
    /// See [`super::book::Ban::level`].
    pub level: u32,
    /// It drops nothing, whatever the mode becomes.
    pub dry: bool,
    /// Whose ban goes to make room.
    pub evicts: Option<IpNet>,
    /// Why, in words.
    pub reason: String,
}

/// Decides about a ban of `net`.
pub fn judge(net: IpNet, cause: &Cause, given: Circumstances<'_>) -> Decision {
    match decide(net, cause, given) {
        Ok(decision) => decision,
        Err(refusal) => Decision::Refused(refusal),
    }
}

/// Refuses what is no network that can be banned, whoever asks.
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
    match allowed.conflict(net) {
        Some((allowed, why)) => Err(Refusal::Allowed { net, allowed, why: why.clone() }),
        None => Ok(()),
    }
}

/// Refuses what is not certain enough to ban somebody for, here or elsewhere.
pub fn qualify(
    rule: &str,
    confidence: Confidence,
    spoofable: Spoofable,
    settings: &Settings,
) -> Result<(), Refusal> {
    if !settings.rules.iter().any(|one| one == rule) {
        return Err(Refusal::Rule { rule: rule.to_owned() });
    }
    if confidence < settings.min_confidence {
        return Err(Refusal::Confidence { has: confidence, wanted: settings.min_confidence });
    }
    if spoofable.is_possible() && !settings.allow_spoofable {
        return Err(Refusal::Spoofable(spoofable));
    }
    Ok(())
}

/// Decides what may be held: only on evidence on which a rule matches for certain that may ban for it, of sources that
/// may be banned, and no more of them than may still be banned within this minute. None: nobody.
pub fn reflex(plain: &[Plain], given: Circumstances<'_>) -> Option<Reflex> {
    let Circumstances { settings, mode: ModeState { mode, .. }, breaker, now, .. } = given;
    let most = settings.max_per_minute.saturating_sub(breaker.recent(now.at));
    if mode == Mode::Observe || settings.reflex.is_zero() || most == 0 {
        return None;
    }
    // Services that are surely closed are proven; what is known of the source beside is whether it completed a connection.
    let must_be_known = !settings.allow_spoofable || settings.min_confidence == Confidence::High;
    let plain = plain.iter().filter(|plain| settings.rules.iter().any(|rule| rule == plain.rule));
    plain.min_by_key(|plain| plain.services).map(|plain| Reflex {
        services: plain.services,
        completed_within: must_be_known.then_some(plain.window),
        lasts: settings.reflex,
        most,
    })
}

fn decide(net: IpNet, cause: &Cause, given: Circumstances<'_>) -> Result<Decision, Refusal> {
    let Circumstances { settings, mode: ModeState { mode, .. }, allowed, book, breaker, now, .. } = given;
    check(net, allowed)?;
    let sentence = match cause {
        Cause::Rule { rule, confidence, spoofable, has_grounds, reason, .. } => {
            if mode == Mode::Observe {
                return Err(Refusal::Observing);
            }
            qualify(rule, *confidence, *spoofable, settings)?;
            if let Some(ban) = book.covering(net) {
                return Ok(Decision::Stands { net: ban.net });
            }
            if !has_grounds {
                return Err(Refusal::LetGo);
            }
            if breaker.is_full(now.at, settings.max_per_minute) {
                return Err(Refusal::Breaker { max: settings.max_per_minute });
            }
            let before = book.before(net).and_then(|past| past.level(settings.forgive, now.wall));
            let level = before.map_or(0, |level| level.saturating_add(1));
            let lasts = settings.time(level);
            let spread = spread(lasts, settings.jitter, given.salt.hash_one((net, now.at)));
            let reason = format!(
                "{} for {}: {rule}, confidence {}: {reason}",
                nth(level),
                Interval(lasts),
                confidence.label()
            );
            Sentence { lasts: Some(spread), level, dry: mode == Mode::DryRun, evicts: None, reason }
        }
        Cause::Feed { feed } => {
            // The kernel holds these beside the book: they take nobody's room and last as long as they are listed.
            let reason = format!("listed in {feed}");
            let dry = mode != Mode::Enforce;
            return Ok(Decision::Ban(Sentence { lasts: None, level: 0, dry, evicts: None, reason }));
        }
        Cause::Hand { lasts, reason, .. } => {
            let lasts = lasts.map(checked).transpose()?;
            Sentence { lasts, level: 0, dry: false, evicts: None, reason: reason.clone() }
        }
        Cause::Crowdsec { decision, scenario, lasts } => {
            let lasts = checked(*lasts)?;
            match book.get(net) {
                Some(ban) if outweighs(ban, *decision, lasts, now) => {
                    return Ok(Decision::Stands { net: ban.net });
                }
                Some(_) => {}
                // Lists of others are long: nobody who was banned here goes to make room for them.
                None if book.len() >= settings.max_bans as usize => {
                    return Err(Refusal::Full { max: settings.max_bans });
                }
                None => {}
            }
            let reason = format!("CrowdSec: {scenario}");
            Sentence { lasts: Some(lasts), level: 0, dry: false, evicts: None, reason }
        }
    };
    let evicts = room(net, given)?;
    Ok(Decision::Ban(Sentence { evicts, ..sentence }))
}

/// Whose ban has to go, if anybody's.
fn room(net: IpNet, given: Circumstances<'_>) -> Result<Option<IpNet>, Refusal> {
    let max = given.settings.max_bans;
    if given.book.get(net).is_some() || given.book.len() < max as usize {
        return Ok(None);
    }
    given.book.victim().map(Some).ok_or(Refusal::Full { max })
}

/// Whether a ban goes before what CrowdSec decided: it was ordered here, or it lasts longer, or is the same decision.
fn outweighs(ban: &Ban, decision: u64, lasts: Duration, now: Now) -> bool {
    let left = ban.left(now.at);
    match ban.origin {
        Origin::Hand { .. } => true,
        Origin::Crowdsec { decision: before } => {
            before == decision && left.is_some_and(|left| left.abs_diff(lasts) < SLACK)
        }
        Origin::Rule { .. } | Origin::Feed { .. } | Origin::Adopted => left.is_none_or(|left| left >= lasts),
    }
}

fn checked(lasts: Duration) -> Result<Duration, Refusal> {
    if (SHORTEST..=LONGEST).contains(&lasts) { Ok(lasts) } else { Err(Refusal::Time) }
}

/// Makes a ban up to `percent` longer, so that many that were made at once do not end at once.
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

/// What is banned of the source of a finding: an IPv4 address, or the prefix that an IPv6 source stands for.
pub fn net_of(source: &scanguard_common::address::Address, ipv6_prefix: u8) -> IpNet {
    let bits = if source.is_v4() { 32 } else { ipv6_prefix.min(128) };
    IpNet::new(source.to_ip(), bits).map_or_else(|_| report::host(source.to_ip()), |net| net.trunc())
}

#[cfg(test)]
mod tests;
