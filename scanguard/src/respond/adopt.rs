//! What an agent before this one left in the kernel, where there is no state file that says more: it is kept.

use ipnet::IpNet;

use super::{
    Mode,
    book::Ban,
    card::Card,
    cause::Origin,
    policy,
    responder::{MAX_ALLOWED_BY_HAND, Responder},
};
use crate::{clock::Now, sensor::gate::Standing};

impl Responder {
    /// Takes bans over that an agent before this one left in the kernel, with the time that is left of them; those that it
    /// does not take stay among the strays. What only counted there does not come to drop.
    pub(super) fn adopt(&mut self, strays: &mut Vec<IpNet>, now: Now, card: &dyn Card) {
        let standings = match card.standings(strays) {
            Ok(standings) => standings,
            Err(error) => return tracing::error!("the bans in the kernel cannot be read: {error}"),
        };
        let enforcing = self.mode.mode == Mode::Enforce;
        for (net, Standing { remaining, enforced, .. }) in standings {
            let is_over = remaining.is_some_and(|remaining| remaining < policy::SHORTEST);
            let has_room = self.book.len() < self.settings.max_bans as usize;
            if is_over || !has_room || (enforcing && !enforced) || policy::check(net, &self.allowed).is_err()
            {
                continue;
            }
            self.book.insert(Ban {
                net,
                origin: Origin::Adopted,
                reason: "it was in the kernel; the state file, which would say why, is lost".to_owned(),
                since: now.wall,
                ends: remaining.map(|remaining| now.at.saturating_add(remaining)),
                level: 0,
                dry: !enforced,
            });
        }
        let found = strays.len();
        strays.retain(|net| self.book.get(*net).is_none());
        if found > 0 {
            tracing::warn!(
                "there is no state file: {} of {found} bans in the kernel are taken over",
                found - strays.len()
            );
        }
    }

    /// Spares on whom an agent before this one had the kernel spare: who of them was allowed by hand, nobody can say any more.
    pub(super) fn adopt_allowed(&mut self, card: &dyn Card) {
        let known = self.allow_list();
        let room = MAX_ALLOWED_BY_HAND.saturating_sub(self.by_hand.len());
        let before = self.by_hand.len();
        self.by_hand.extend(card.allowed().into_iter().filter(|net| !known.covers(*net)).take(room));
        let adopted = self.by_hand.len() - before;
        if adopted > 0 {
            tracing::warn!(
                "there is no state file: {adopted} networks that the kernel never drops are taken over as allowed by hand; \
                 `scanguard status` lists them, `scanguard disallow` takes one back"
            );
        }
    }
}
