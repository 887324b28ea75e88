//! Takes over what an earlier agent left in the kernel, if no state file gives more details.

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

/// The facts that decide which bans are kept.
#[derive(Clone, Copy)]
pub(super) struct Filter<'a> {
    pub(super) settings: &'a Settings,
    pub(super) mode: Mode,
    pub(super) allowed: &'a AllowList,
}

/// Takes over bans or shields that an earlier agent left in the kernel, with their remaining time. Bans that it does
/// not take over stay among the strays. A ban that only counted packets does not start to drop them.
pub(super) fn bans(
    ban_table: &mut BanTable,
    filter: Filter<'_>,
    extent: Extent,
    strays: &mut Vec<IpNet>,
    now: Now,
    enforcer: &dyn Enforcer,
) {
    let Filter { settings, mode, allowed } = filter;
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
            // Nobody knows whether a user ordered it.
            || policy::spares_neighbours(net, allowed).is_err()
        {
            continue;
        }
        ban_table.insert(Ban {
            net,
            extent,
            origin: Origin::Adopted,
            reason: "it was in the kernel; its reason is lost with the state file".to_owned(),
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

/// Keeps the networks that an earlier agent had the kernel spare: it is unknown which of them were allowed by hand.
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
