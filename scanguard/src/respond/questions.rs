//! Answers questions about bans: the list of bans, the reason of a ban, and the state of the response.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ipnet::IpNet;
use scanguard_common::address::Address;

use super::{
    Mode,
    allow::{Why, around},
    ban_table::Ban,
    cause::Origin,
    enforcer::Enforcer,
    policy::{self, Decision},
    report::{
        AllowedReport, BanCounts, BanReport, BanState, Bans, Explanation, FindingReport, OpenFinding,
        ReflexReport, ResponseStatus, ShieldCounts, spared,
    },
    responder::Responder,
};
use crate::{
    cidr,
    clock::Now,
    detect::findings::{Direction, Finding},
    observe::greatest,
    sensor::gate::{Extent, Standing},
    settings::Interval,
};

fn ban_report(responder: &Responder, ban: &Ban, standing: Option<Standing>, now: Now) -> BanReport {
    BanReport {
        net: ban.net,
        response: ban.extent,
        origin: ban.origin.clone(),
        reason: ban.reason.clone(),
        spared: responder.allowed.list.within(ban.net).count(),
        since: ban.since,
        seconds_left: ban.left(now.at).map(|left| left.as_secs()),
        level: ban.level,
        drops: responder.mode.mode == Mode::Enforce && !ban.dry,
        packets: standing.map(|standing| standing.dropped),
        seconds_since_last: standing.and_then(|standing| standing.last).map(|last| last.as_secs()),
    }
}

/// The kernel's records of these bans and shields.
fn standings(responder: &Responder, nets: &[IpNet], enforcer: &dyn Enforcer) -> BTreeMap<IpNet, Standing> {
    let mut standings = BTreeMap::new();
    for extent in Extent::ALL {
        let is_one = |net: &&IpNet| responder.ban_table.get(**net).is_some_and(|ban| ban.extent == extent);
        let nets: Vec<_> = nets.iter().filter(is_one).copied().collect();
        standings.extend(enforcer.standings(extent, &nets).unwrap_or_default());
    }
    standings
}

/// The latest bans, at most `rows`, the last one first, and after them the latest shields. Shields come second because
/// anybody can cause thousands of them. Without a number, all of them, by network.
pub fn bans(responder: &Responder, rows: Option<usize>, now: Now, enforcer: &dyn Enforcer) -> Bans {
    let nets: Vec<_> = match rows {
        None => responder.ban_table.bans().map(|ban| ban.net).collect(),
        Some(rows) => {
            let rank = |ban: &Ban| (ban.extent == Extent::Full, ban.since, ban.net);
            greatest(responder.ban_table.bans().map(rank), rows).into_iter().map(|(_, _, net)| net).collect()
        }
    };
    let standing = standings(responder, &nets, enforcer);
    let bans = nets.iter().filter_map(|net| responder.ban_table.get(*net));
    Bans {
        mode: responder.mode.mode,
        bans: bans.map(|ban| ban_report(responder, ban, standing.get(&ban.net).copied(), now)).collect(),
        feed_networks: responder.feeds.len(),
    }
}

/// The state of the response.
pub fn status(responder: &Responder, now: Now, state_file_error: Option<String>) -> ResponseStatus {
    let mut bans = BanCounts::default();
    for ban in responder.ban_table.bans().filter(|ban| ban.extent == Extent::Full) {
        match ban.origin {
            Origin::Rule { .. } | Origin::Feed { .. } => bans.rule += 1,
            Origin::Hand { .. } => bans.hand += 1,
            Origin::Crowdsec { .. } => bans.crowdsec += 1,
            Origin::Fleet { .. } => bans.fleet += 1,
            Origin::Adopted => bans.adopted += 1,
        }
    }
    let taken = responder.feeds.taken();
    ResponseStatus {
        mode: responder.mode.mode,
        mode_cause: responder.mode.cause,
        mode_since: responder.mode.since,
        mode_configured: responder.settings.mode,
        confirm_seconds_left: responder.mode.left(now).map(|left| left.as_secs()),
        drop: responder.settings.drop.label().to_owned(),
        reflex: responder.holds.in_kernel().map(|reflex| ReflexReport {
            services: reflex.services,
            milliseconds: u64::try_from(reflex.lasts.as_millis()).unwrap_or(u64::MAX),
        }),
        bans,
        max_bans: responder.settings.max_bans,
        shields: ShieldCounts {
            on: responder.settings.shield,
            held: responder.ban_table.len(Extent::Shield),
            most: responder.settings.max_shields,
        },
        feed_networks: responder.feeds.len(),
        feed_networks_left_out: taken.refused + taken.left_out,
        allowed: responder.allowed.list.entries().map(|(net, why)| allowed_report(net, why)).collect(),
        bans_last_minute: responder.breaker.networks(now.at),
        max_per_minute: responder.settings.max_per_minute,
        circuit_breaker_open: responder.breaker.is_open(),
        state_file: responder.settings.state.display().to_string(),
        state_file_error,
    }
}

/// Explains why an address is banned or not. The caller adds its history and content.
pub fn explain(
    responder: &Responder,
    ip: IpAddr,
    findings: &mut dyn Iterator<Item = &Finding>,
    now: Now,
    enforcer: &dyn Enforcer,
) -> Explanation {
    let host = cidr::host(ip);
    let source = responder.source(ip);
    let masked = responder.net(&source);
    let mut reports = Vec::new();
    let mut policy_says = None;
    for finding in findings.filter(|finding| concerns(responder, finding, ip, &source)) {
        let net = finding.bits.map_or(masked, |_| policy::net_of_finding(finding, &responder.sources));
        let report = evidence(responder, finding, net, now);
        policy_says.get_or_insert_with(|| format!("{}: {}", report.rule, report.policy));
        reports.push(report);
    }
    // An address behind a translator is banned by its client, by a network of clients, or by a prefix around it.
    let meant = responder.sources.meant(host);
    let allowed = around(host)
        .chain(around(meant))
        .find_map(|net| responder.allowed.list.entries().find(|(entry, _)| *entry == net))
        .map(|(net, why)| allowed_report(net, why));
    let feed = responder
        .feeds
        .covering(meant)
        .or_else(|| responder.feeds.covering(host))
        .map(|(net, feed)| (feed.to_owned(), net));
    // A ban because of a feed takes precedence over a shield.
    let ban = responder.ban_table.covering(meant).or_else(|| responder.ban_table.covering(host));
    let ban = ban.filter(|ban| ban.extent == Extent::Full || feed.is_none());
    let ban =
        ban.map(|ban| ban_report(responder, ban, enforcer.standing(ban.extent, ban.net).ok().flatten(), now));
    let drops = ban.as_ref().map_or(responder.mode.mode == Mode::Enforce, |ban| ban.drops);
    let response = match (&ban, &feed) {
        (Some(ban), _) => Some(ban.response),
        (None, Some(_)) => Some(Extent::Full),
        (None, None) => None,
    };
    let banned = response == Some(Extent::Full);
    let dropped = banned && drops && allowed.is_none();
    let verdict = match (&ban, &feed, &allowed) {
        (Some(BanReport { response: Extent::Shield, .. }), _, Some(allowed)) => format!(
            "shielded from, but spared: {} is never dropped: {}",
            cidr::name(allowed.net),
            allowed.why
        ),
        (Some(_), _, Some(allowed)) | (None, Some(_), Some(allowed)) => {
            format!("banned, but spared: {} is never dropped: {}", cidr::name(allowed.net), allowed.why)
        }
        (Some(ban), _, None) => verdict_of(ban, responder.mode.mode),
        (None, Some((feed, net)), None) => {
            format!("banned: {feed} lists {net}; the mode is {}", responder.mode.mode)
        }
        (None, None, Some(allowed)) => {
            format!("not banned, and never will be: {} ({})", allowed.why, cidr::name(allowed.net))
        }
        (None, None, None) => match policy_says {
            Some(said) => format!("not banned. {said}"),
            None => "not banned: there is no open finding of it".to_owned(),
        },
    };
    Explanation {
        address: ip,
        response,
        banned,
        dropped,
        verdict,
        ban,
        feed,
        allowed,
        before: responder.ban_table.before(masked).map(|past| (past.ended, past.level)),
        findings: reports,
        history: None,
        said: None,
    }
}

/// Whether a finding is about an address: about its source, or about a prefix around it.
fn concerns(responder: &Responder, finding: &Finding, ip: IpAddr, source: &Address) -> bool {
    if finding.bits.is_some() {
        return policy::net_of_finding(finding, &responder.sources).contains(&ip.to_canonical());
    }
    finding.source == *source || finding.sources.examples.contains(source)
}

/// A finding as evidence against a network.
fn evidence(responder: &Responder, finding: &Finding, net: IpNet, now: Now) -> FindingReport {
    let (confidence, spoofable) = finding.known();
    FindingReport {
        id: finding.id.clone(),
        rule: finding.rule.to_owned(),
        severity: finding.severity,
        confidence,
        spoofable: spoofable.to_string(),
        first_seen: finding.first,
        last_seen: finding.last,
        probes: finding.probes(),
        said: finding.content.as_ref().map(|content| content.summary.to_string()),
        reason: finding.reason.clone(),
        policy: policy_of(responder, finding, net, now),
    }
}

/// An open finding with its source.
pub fn open_finding(responder: &Responder, finding: &Finding, now: Now) -> OpenFinding {
    let net = policy::net_of_finding(finding, &responder.sources);
    OpenFinding {
        source: finding.source_ip().map(|_| net),
        sources: finding.sources.count,
        country: finding.origin.country.map(|country| country.to_string()),
        actor: finding.actor.as_ref().map(ToString::to_string),
        command: finding.actor.as_ref().and_then(|actor| actor.origin()),
        finding: evidence(responder, finding, net, now),
    }
}

/// Whether a network is banned or shielded from.
pub fn ban_state(responder: &Responder, net: IpNet) -> BanState {
    let covering = responder.ban_table.covering(net);
    let ban = covering.filter(|ban| ban.extent == Extent::Full);
    let banned = ban.is_some() || responder.feeds.covering(net).is_some();
    match (responder.allowed.list.around(net), banned, responder.mode.mode) {
        (Some(_), ..) => BanState::Allowed,
        (None, false, _) if covering.is_some() => BanState::Shielded,
        (None, false, _) => BanState::None,
        (None, true, Mode::Enforce) if ban.is_none_or(|ban| !ban.dry) => BanState::Dropped,
        (None, true, Mode::Enforce | Mode::DryRun) => BanState::Counted,
        (None, true, Mode::Observe) => BanState::Banned,
    }
}

fn policy_of(responder: &Responder, finding: &Finding, net: IpNet, now: Now) -> String {
    if finding.direction() == Direction::Outbound {
        return "bans are for sources, and this is about what leaves".to_owned();
    }
    let causes = responder.causes(finding);
    let Some((_, cause)) = causes.iter().find(|(one, _)| *one == net) else {
        return "it takes part in this, but is not known well enough to be banned for it".to_owned();
    };
    match policy::judge(net, cause, responder.policy_input(now)) {
        Decision::Ban(terms) => format!("to be {}", terms.reason),
        Decision::Stands { net, extent: Extent::Full } => {
            format!("{} is banned already", cidr::name(net))
        }
        Decision::Stands { net, extent: Extent::Shield } => {
            format!("{} is shielded from already", cidr::name(net))
        }
        Decision::Refused(refusal) => refusal.to_string(),
    }
}

fn verdict_of(ban: &BanReport, mode: Mode) -> String {
    let until = match ban.seconds_left {
        Some(left) => format!("for {} more", Interval(Duration::from_secs(left))),
        None => "until `scanguard unban`".to_owned(),
    };
    let (what, packets, pass) = match ban.response {
        Extent::Full => ("banned", "its packets", ""),
        Extent::Shield => {
            ("shielded from", "those of its packets that meet no service here", ", all others pass")
        }
    };
    let effect = match (mode, ban.drops) {
        (Mode::Enforce, true) => format!("{packets} are dropped{pass}"),
        (Mode::Enforce | Mode::DryRun, _) => {
            format!("the mode is dry-run: {packets} are counted, not dropped")
        }
        (Mode::Observe, _) => "the mode is observe: nothing is dropped".to_owned(),
    };
    let spared = spared(ban.spared);
    format!("{what} by {} {until}, as {}{spared}: {}; {effect}", ban.origin, cidr::name(ban.net), ban.reason)
}

fn allowed_report(net: IpNet, why: &Why) -> AllowedReport {
    AllowedReport { net, why: why.to_string() }
}
