//! What an agent before this one left in the kernel, where there is no state file that says more: it is kept.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{
    Mode, SHORTEST_BAN,
    allow::{AllowList, MAX_ALLOWED_BY_HAND},
    ban_table::{Ban, BanTable},
    cause::Origin,
    enforcer::Enforcer,
    policy,
    settings::Settings,
};
use crate::{
    clock::Now,
    sensor::gate::{Extent, Standing},
};

/// By what it is decided what is kept.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) settings: &'a Settings,
    pub(super) mode: Mode,
    pub(super) allowed: &'a AllowList,
}

/// Takes bans or shields over that an agent before this one left in the kernel, with the time that is left of them; those
/// that it does not take stay among the strays. What only counted there does not come to drop.
pub(super) fn bans(
    ban_table: &mut BanTable,
    terms: Terms<'_>,
    extent: Extent,
    strays: &mut Vec<IpNet>,
    now: Now,
    enforcer: &dyn Enforcer,
) {
    let Terms { settings, mode, allowed } = terms;
    let what = extent.label();
    let standings = match enforcer.standings(extent, strays) {
        Ok(standings) => standings,
        Err(error) => return tracing::error!("the {what}s in the kernel cannot be read: {error}"),
    };
    let most = match extent {
        Extent::Full => settings.max_bans,
        Extent::Shield => settings.max_shields,
    };
    let enforcing = mode == Mode::Enforce;
    for (net, Standing { remaining, enforced, .. }) in standings {
        let is_over = remaining.is_some_and(|remaining| remaining < SHORTEST_BAN);
        let has_room = ban_table.len(extent) < most as usize;
        let is_banned = ban_table.banned(net).is_some();
        if is_over
            || !has_room
            || is_banned
            || (enforcing && !enforced)
            || policy::check(net, allowed).is_err()
        {
            continue;
        }
        ban_table.insert(Ban {
            net,
            extent,
            origin: Origin::Adopted,
            reason: "it was in the kernel; the state file, which would say why, is lost".to_owned(),
            since: now.wall,
            ends: remaining.map(|remaining| now.at.saturating_add(remaining)),
            level: 0,
            dry: !enforced,
        });
    }
    let found = strays.len();
    strays.retain(|net| ban_table.get(*net).is_none_or(|ban| ban.extent != extent));
    if found > 0 {
        tracing::warn!(
            "there is no state file: {} of {found} {what}s in the kernel are taken over",
            found - strays.len()
        );
    }
}

/// Spares on whom an agent before this one had the kernel spare: who of them was allowed by hand, nobody can say any more.
pub(super) fn allowed(by_hand: &mut BTreeSet<IpNet>, known: &AllowList, enforcer: &dyn Enforcer) {
    let room = MAX_ALLOWED_BY_HAND.saturating_sub(by_hand.len());
    let before = by_hand.len();
    by_hand.extend(enforcer.allowed().into_iter().filter(|net| !known.covers(*net)).take(room));
    let adopted = by_hand.len() - before;
    if adopted > 0 {
        tracing::warn!(
            "there is no state file: {adopted} networks that the kernel never drops are taken over as allowed by hand; \
             `scanguard status` lists them, `scanguard disallow` takes one back"
        );
    }
}
