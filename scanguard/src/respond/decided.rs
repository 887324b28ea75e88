//! Carries out CrowdSec's decisions, and selects the findings to report to it.

use std::collections::BTreeSet;

use ipnet::IpNet;
use scanguard_common::address::Address;

use super::{
    cause::{Cause, Origin},
    enforcer::Enforcer,
    policy::{self, Decision},
    responder::Responder,
};
use crate::{cidr, clock::Now, detect::findings::Finding, sensor::gate::Extent, sources::Sources};

/// The decisions of CrowdSec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decided {
    /// The networks to ban, each with its cause.
    pub bans: Vec<(IpNet, Cause)>,
    /// The networks whose ban by CrowdSec ends.
    pub lifts: Lifts,
}

/// The networks whose ban by CrowdSec ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Lifts {
    /// These networks.
    These(BTreeSet<IpNet>),
    /// All networks but these.
    AllBut(BTreeSet<IpNet>),
}

impl Default for Lifts {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl Decided {
    /// The same about IPv4 clients, for networks that are those of their addresses behind a translator.
    fn meant(self, sources: &Sources) -> Self {
        let all = |nets: BTreeSet<IpNet>| nets.into_iter().map(|net| sources.meant(net)).collect();
        Self {
            bans: self.bans.into_iter().map(|(net, cause)| (sources.meant(net), cause)).collect(),
            lifts: match self.lifts {
                Lifts::These(nets) => Lifts::These(all(nets)),
                Lifts::AllBut(nets) => Lifts::AllBut(all(nets)),
            },
        }
    }
}

/// The networks of a finding, and whether the policy would ban each, whatever the mode. Other hosts that get the
/// finding should be as careful as this one. They do not know shields.
pub fn recommended(responder: &Responder, finding: &Finding) -> Vec<(IpNet, bool)> {
    // All sources are forged.
    if finding.source == Address::UNSPECIFIED {
        return Vec::new();
    }
    let (confidence, spoofable) = finding.known();
    let had_connections = finding.had_connections();
    let qualified =
        policy::qualify(finding.rule, confidence, spoofable, had_connections, &responder.settings);
    let qualifies = qualified == Ok(Extent::Full);
    // Others do not know whom this host spares.
    let allowed = &responder.allowed.list;
    let is_free = |net| policy::check(net, allowed).is_ok() && allowed.conflict(net).is_none();
    let causes = responder.causes(finding).into_iter();
    causes.map(|(net, _)| (net, qualifies && is_free(net))).collect()
}

/// Bans the networks that CrowdSec bans, as far as the policy agrees. Ends bans that CrowdSec took back, but only
/// those that it made.
pub fn take(responder: &mut Responder, decided: Decided, now: Now, enforcer: &mut dyn Enforcer) {
    let Decided { bans, lifts } = decided.meant(&responder.sources);
    let lifted = lift_decided(responder, lifts, now, enforcer);
    let (mut made, mut refused) = (Vec::new(), 0);
    for (net, cause) in bans {
        match policy::judge(net, &cause, responder.policy_input(now)) {
            Decision::Ban(terms) => {
                let ban = terms.ban(net, &cause, now);
                tracing::debug!(by = ban.origin.label(), "ban of {}: {}", cidr::name(net), ban.reason);
                made.push(responder.kernel_bans(now).ban(&ban));
                responder.enter_in_table(ban, enforcer);
            }
            Decision::Stands { .. } => {}
            Decision::Refused(refusal) => {
                tracing::debug!("{} is not banned: {refusal}", cidr::name(net));
                responder.metrics.refused(&refusal);
                refused += 1;
            }
        }
    }
    if made.is_empty() && refused == 0 && lifted == 0 {
        return;
    }
    // In one call, since there may be thousands.
    if let Err(error) = enforcer.ban(Extent::Full, &mut made.iter().copied()) {
        tracing::error!("some networks that CrowdSec bans could not be banned: {error}");
        made.retain(|ban| {
            let is_there = matches!(enforcer.standing(Extent::Full, ban.net), Ok(Some(_)));
            if !is_there {
                responder.ban_table.remove(ban.net);
            }
            is_there
        });
    }
    for ban in made.iter().filter_map(|ban| responder.ban_table.get(ban.net)) {
        responder.metrics.banned(&ban.origin);
    }
    tracing::info!("CrowdSec: {} bans made, {refused} refused, {lifted} ended", made.len());
    responder.changed();
}

/// Returns the number of lifted bans.
fn lift_decided(responder: &mut Responder, lifts: Lifts, now: Now, enforcer: &mut dyn Enforcer) -> usize {
    let is_decided = |origin: &Origin| match origin {
        Origin::Crowdsec { .. } => true,
        Origin::Rule { .. }
        | Origin::Feed { .. }
        | Origin::Hand { .. }
        | Origin::Fleet { .. }
        | Origin::Adopted => false,
    };
    let decided = responder.ban_table.bans().filter(|ban| is_decided(&ban.origin)).map(|ban| ban.net);
    let lifted: Vec<_> = match lifts {
        Lifts::These(nets) => decided.filter(|net| nets.contains(net)).collect(),
        Lifts::AllBut(nets) => decided.filter(|net| !nets.contains(net)).collect(),
    };
    let ended: Vec<_> = lifted.iter().map(|net| (*net, Extent::Full)).collect();
    if let Err(error) = responder.kernel_bans(now).lift(&ended, enforcer) {
        // They stay in the table, and end by themselves.
        tracing::error!("some bans that CrowdSec took back could not be lifted: {error}");
        return 0;
    }
    for net in &lifted {
        responder.ban_table.remove(*net);
    }
    responder.released.add(&lifted);
    lifted.len()
}

#[cfg(test)]
mod tests;
