//! Makes and ends bans as the policy decides, and keeps the kernel, the ban table and the state file consistent.

use std::{hash::RandomState, net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use scanguard_common::address::Address;

use super::{
    Mode, ModeCause, ModeState,
    adopt::{self, Filter},
    allowed_networks::{AllowedNetworks, Discovered},
    ban_table::{Ban, BanTable},
    breaker::Breaker,
    cause::{Cause, Origin},
    enforcer::Enforcer,
    feed::{FeedBans, Taken},
    holds::Holds,
    kernel_bans::KernelBans,
    policy::{self, BanTerms, Decision, PolicyInput},
    refusal::Refusal,
    released::Released,
    settings::{Drop, Settings},
    snapshot::{self, Restored},
    state::State,
    unsaved::Unsaved,
};
use crate::{
    cidr,
    clock::Now,
    detect::{
        Plain,
        feeds::Feeds,
        findings::{Direction, Finding},
    },
    respond::metrics::ResponseMetrics,
    sensor::{SensorError, gate::Extent},
    settings::Interval,
    sources::Sources,
};

/// All knowledge about bans. It carries out what the policy decides; its parts do the rest.
pub struct Responder {
    pub(super) settings: Settings,
    /// How addresses become sources.
    pub(super) sources: Sources,
    pub(super) mode: ModeState,
    pub(super) ban_table: BanTable,
    pub(super) allowed: AllowedNetworks,
    pub(super) breaker: Breaker,
    pub(super) feeds: FeedBans,
    pub(super) holds: Holds,
    salt: RandomState,
    pub(super) metrics: Arc<ResponseMetrics>,
    unsaved: Unsaved,
    /// There was no state file, so the kernel's bans are all that is known.
    state_was_lost: bool,
    pub(super) released: Released,
}

impl Responder {
    /// Starts with the content of the state file, if there is one. The kernel is not changed before [`Self::enter`].
    pub fn new(
        settings: Settings,
        sources: Sources,
        state: Option<State>,
        metrics: Arc<ResponseMetrics>,
        now: Now,
    ) -> Self {
        metrics.limits(settings.max_bans, settings.max_shields);
        let state_was_lost = state.is_none();
        let restored = match state {
            Some(state) => Restored::from_state(state, &settings, now),
            None => Restored::nothing(&settings, now),
        };
        if restored.mode.cause == ModeCause::CircuitBreaker {
            tracing::warn!(
                "the circuit breaker of an earlier version fell back to {}, and that holds: set the mode \
                 (`scanguard enforce`)",
                restored.mode.mode
            );
        }
        Self {
            settings,
            sources,
            mode: restored.mode,
            ban_table: restored.ban_table,
            allowed: AllowedNetworks::new(restored.by_hand),
            breaker: Breaker::default(),
            feeds: FeedBans::default(),
            holds: Holds::default(),
            salt: RandomState::new(),
            metrics,
            unsaved: Unsaved::new(now.at),
            state_was_lost,
            released: Released::default(),
        }
    }

    /// The mode in force.
    pub fn mode(&self) -> Mode {
        self.mode.mode
    }

    /// The number of bans, without those of feeds.
    pub fn bans_held(&self) -> usize {
        self.ban_table.len(Extent::Full)
    }

    /// The source to which an address belongs.
    pub fn source(&self, ip: IpAddr) -> Address {
        self.allowed.source(ip, &self.sources)
    }

    /// Sets how addresses become sources. Bans and shields that rules made of what is no source any more end: they would
    /// concern all clients of a translator.
    pub fn set_sources(&mut self, sources: Sources, now: Now, enforcer: &mut dyn Enforcer) {
        self.sources = sources;
        let is_rule = |ban: &Ban| matches!(ban.origin, Origin::Rule { .. });
        let wrong = self.ban_table.bans().filter(|ban| is_rule(ban) && self.sources.has_embedded(ban.net));
        let wrong: Vec<_> = wrong.map(|ban| (ban.net, ban.extent)).collect();
        if !wrong.is_empty() {
            if let Err(error) = self.kernel_bans(now).lift(&wrong, enforcer) {
                tracing::error!(
                    "bans of the prefixes of translators end later, since they could not be lifted: {error}"
                );
            }
            for (net, extent) in &wrong {
                let (what, name) = (extent.label(), cidr::name(*net));
                tracing::info!("the {what} of {name} is ended: its addresses count for IPv4 clients now");
                self.ban_table.remove(*net);
            }
            self.changed();
        }
        self.allow_as_known(now, enforcer);
    }

    /// The network to ban for the activity of a source.
    pub fn net(&self, source: &Address) -> IpNet {
        self.sources.net(source)
    }

    /// The network of the sources of a finding.
    pub fn net_of(&self, finding: &Finding) -> IpNet {
        policy::net_of_finding(finding, &self.sources)
    }

    /// The content for the state file.
    pub fn state(&self, now: Now) -> State {
        snapshot::state(&self.mode, &self.ban_table, &self.allowed.by_hand, now)
    }

    /// Whether the state file has to be written. The call resets this.
    pub fn take_dirty(&mut self) -> bool {
        self.unsaved.take()
    }

    /// Makes a write for changed shields due at once, because the agent ends.
    pub fn keep_shields(&mut self) {
        self.unsaved.include_shields();
    }

    /// The state file has to be written again: a write has failed, or the agent ends.
    pub fn stay_dirty(&mut self) {
        self.unsaved.changed();
    }

    /// Only shields changed.
    fn shields_changed(&mut self) {
        self.unsaved.shields_changed();
        self.metrics.shields(self.ban_table.len(Extent::Shield));
    }

    pub(super) fn changed(&mut self) {
        self.unsaved.changed();
        let bans = || self.ban_table.bans().filter(|ban| ban.extent == Extent::Full);
        let count = |label| bans().filter(|ban| ban.origin.label() == label).count();
        self.metrics.shields(self.ban_table.len(Extent::Shield));
        self.metrics.bans(&[
            ("rule", count("rule")),
            ("hand", count("hand")),
            ("crowdsec", count("crowdsec")),
            ("fleet", count("fleet")),
            ("adopted", count("adopted")),
            ("feed", self.feeds.len()),
        ]);
        self.metrics.allowed(self.allowed.list.len());
        self.metrics.breaker(self.breaker.is_open());
        self.metrics.mode(self.mode.mode);
    }

    pub(super) fn policy_input(&self, now: Now) -> PolicyInput<'_> {
        PolicyInput {
            settings: &self.settings,
            mode: self.mode,
            allowed: &self.allowed.list,
            ban_table: &self.ban_table,
            breaker: &self.breaker,
            now,
            salt: &self.salt,
        }
    }

    /// The bans and shields in the form that the kernel takes.
    pub(super) fn kernel_bans(&self, now: Now) -> KernelBans<'_> {
        KernelBans { mode: self.mode, ban_table: &self.ban_table, feeds: &self.feeds, now }
    }

    /// At the start, brings the kernel in line with the ban table.
    ///
    /// # Errors
    /// The gate could not be set; without it there are no bans.
    pub fn enter(&mut self, now: Now, enforcer: &mut dyn Enforcer) -> Result<(), SensorError> {
        if self.mode.mode == Mode::Enforce {
            self.ban_table.remove_dry();
        }
        let state_was_lost = std::mem::take(&mut self.state_was_lost);
        for extent in Extent::ALL {
            let mut strays = enforcer.banned(extent);
            strays.retain(|net| match extent {
                // Networks of feeds are not in the ban table.
                Extent::Full => self.ban_table.banned(*net).is_none() && self.feeds.get(*net).is_none(),
                Extent::Shield => self.ban_table.get(*net).is_none_or(|ban| ban.extent != Extent::Shield),
            });
            if state_was_lost {
                let filter =
                    Filter { settings: &self.settings, mode: self.mode.mode, allowed: &self.allowed.list };
                adopt::bans(&mut self.ban_table, filter, extent, &mut strays, now, enforcer);
            }
            if !strays.is_empty() {
                let (count, what) = (strays.len(), extent.label());
                tracing::info!("{count} {what}s in the kernel are not in the ban table and are lifted");
            }
            enforcer.unban(extent, &mut strays.into_iter())?;
        }
        self.kernel_bans(now).write_all(enforcer);
        self.ban_listed(now, enforcer);
        enforcer.set_gate(self.mode.mode.gate(), self.settings.drop == Drop::All)?;
        self.arm(now, enforcer);
        tracing::info!(
            "mode {}, {}; {} bans, {} shields",
            self.mode.mode,
            self.mode.cause,
            self.ban_table.len(Extent::Full),
            self.ban_table.len(Extent::Shield)
        );
        self.changed();
        Ok(())
    }

    /// Takes the addresses that this host depends on. Bans that overlap with them stay, but the kernel spares the
    /// addresses.
    pub fn set_discovered(&mut self, discovered: Discovered, now: Now, enforcer: &mut dyn Enforcer) {
        self.allowed.set_discovered(discovered, now.at);
        if self.state_was_lost {
            self.allowed.adopt(&self.settings.allow, &self.sources, enforcer);
        }
        self.allow_as_known(now, enforcer);
    }

    /// As [`Self::allow`], for callers that do not need the result.
    fn allow_as_known(&mut self, now: Now, enforcer: &mut dyn Enforcer) {
        let before = self.allowed.kernel_error.clone();
        match self.allow(now, enforcer) {
            Ok(()) if before.is_some() => tracing::info!("the kernel has the whole allow list again"),
            Err(error) if self.allowed.kernel_error != before => {
                tracing::error!("the kernel did not take the whole allow list, trying again: {error}");
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Rebuilds the allow list, and writes it to the kernel if it changed or the last write failed.
    ///
    /// # Errors
    /// The kernel did not take all of it. The policy uses the new list all the same, and the next call tries again.
    pub(super) fn allow(&mut self, now: Now, enforcer: &mut dyn Enforcer) -> Result<(), SensorError> {
        let (changed, result) = self.allowed.update(&self.settings.allow, &self.sources, enforcer);
        if changed {
            self.ban_listed(now, enforcer);
            self.changed();
        }
        result
    }

    /// Takes the networks on feeds.
    pub fn set_feeds(&mut self, feeds: &Feeds, now: Now, enforcer: &mut dyn Enforcer) {
        self.feeds.set_listed(feeds.clone());
        self.ban_listed(now, enforcer);
        self.changed();
    }

    pub(super) fn ban_listed(&mut self, now: Now, enforcer: &mut dyn Enforcer) {
        let Self { settings, mode, allowed, ban_table, breaker, salt, .. } = self;
        let allowed = &allowed.list;
        let input = PolicyInput { settings, mode: *mode, allowed, ban_table, breaker, now, salt };
        self.feeds.ban(input, enforcer);
        let Taken { refused, left_out } = self.feeds.taken();
        self.metrics.feeds(refused, left_out);
    }

    /// Takes the evidence on which rules match whatever else is known.
    pub fn set_plain(&mut self, plain: Vec<Plain>, now: Now, enforcer: &mut dyn Enforcer) {
        self.holds.plain = plain;
        self.arm(now, enforcer);
    }

    /// Writes to the kernel which sources it may hold, if that has changed.
    fn arm(&mut self, now: Now, enforcer: &mut dyn Enforcer) {
        let terms = policy::reflex(&self.holds.plain, self.policy_input(now));
        self.holds.write(terms, enforcer);
    }

    /// Acts on a finding that is new or has changed.
    pub fn consider(&mut self, finding: &Finding, now: Now, enforcer: &mut dyn Enforcer) {
        for (net, cause) in self.causes(finding) {
            match self.make(net, &cause, now, enforcer) {
                Decision::Refused(refusal) => {
                    self.metrics.refused(&refusal);
                    tracing::debug!(id = finding.id, "{} is not banned: {refusal}", cidr::name(net));
                }
                Decision::Ban(_) | Decision::Stands { .. } => {}
            }
        }
    }

    /// Looks again at open findings, since a ban that was refused may now be possible: the mode changed, a ban ended,
    /// or there is room. Refusals are not counted again.
    pub fn reconsider(
        &mut self,
        findings: &mut dyn Iterator<Item = &Finding>,
        now: Now,
        enforcer: &mut dyn Enforcer,
    ) {
        if self.mode.mode == Mode::Observe {
            return;
        }
        for (net, cause) in findings.flat_map(|finding| self.causes(finding)).collect::<Vec<_>>() {
            self.make(net, &cause, now, enforcer);
        }
    }

    /// The networks to ban or shield from for a finding: its source (which may be a prefix around many sources), or the
    /// known sources of a campaign.
    ///
    /// There are none for what leaves this host: its source is no address. All that bans, shields or reports to CrowdSec
    /// goes by this function.
    pub(super) fn causes(&self, finding: &Finding) -> Vec<(IpNet, Cause)> {
        if finding.direction() == Direction::Outbound {
            return Vec::new();
        }
        if finding.bits.is_some() {
            return vec![(policy::net_of_finding(finding, &self.sources), Cause::of(finding))];
        }
        let sources = if finding.sources.count > 0 {
            finding.sources.examples.as_slice()
        } else {
            std::slice::from_ref(&finding.source)
        };
        let cause = Cause::of(finding);
        sources.iter().map(|source| (self.sources.net(source), cause.clone())).collect()
    }

    /// As [`Self::make`], for what others decided: a refusal is counted.
    pub fn order(&mut self, net: IpNet, cause: &Cause, now: Now, enforcer: &mut dyn Enforcer) -> Decision {
        let decision = self.make(self.sources.meant(net), cause, now, enforcer);
        if let Decision::Refused(refusal) = &decision {
            self.metrics.refused(refusal);
            tracing::debug!("{} is not banned: {refusal}", cidr::name(net));
        }
        decision
    }

    /// Asks the policy, and makes the ban or shield if that is the decision.
    pub fn make(&mut self, net: IpNet, cause: &Cause, now: Now, enforcer: &mut dyn Enforcer) -> Decision {
        let decision = policy::judge(net, cause, self.policy_input(now));
        match &decision {
            Decision::Ban(terms) => match self.carry_out(net, cause, terms, now, enforcer) {
                Ok(()) => decision,
                Err(error) => {
                    tracing::error!("{} could not be banned: {error}", cidr::name(net));
                    Decision::Refused(Refusal::Kernel(error.to_string()))
                }
            },
            Decision::Refused(Refusal::Breaker { max }) => {
                self.refused_by_breaker(net, *max, now, enforcer);
                if let Some(terms) = policy::shield_instead(net, cause, self.policy_input(now))
                    && let Err(error) = self.carry_out(net, cause, &terms, now, enforcer)
                {
                    tracing::error!("{} could not be shielded from: {error}", cidr::name(net));
                }
                decision
            }
            Decision::Stands { .. } | Decision::Refused(_) => decision,
        }
    }

    fn carry_out(
        &mut self,
        net: IpNet,
        cause: &Cause,
        terms: &BanTerms,
        now: Now,
        enforcer: &mut dyn Enforcer,
    ) -> Result<(), SensorError> {
        let BanTerms { extent, evicts, reason, .. } = terms;
        let ban = terms.ban(net, cause, now);
        enforcer.ban(*extent, &mut std::iter::once(self.kernel_bans(now).ban(&ban)))?;
        if let Some(evicted) = evicts {
            self.evict(*extent, *evicted, now, enforcer);
        }
        let (mode, by, name) = (self.mode.mode, ban.origin.label(), cidr::name(net));
        match extent {
            Extent::Full => {
                if let Cause::Rule { .. } | Cause::Fleet { .. } = cause {
                    self.breaker.made(net, now.at, self.settings.max_per_minute);
                }
                self.metrics.banned(&ban.origin);
                tracing::info!(%mode, by, "ban of {name}: {reason}");
                self.enter_in_table(ban, enforcer);
                self.changed();
            }
            Extent::Shield => {
                if self.enter_in_table(ban, enforcer).is_none() {
                    self.metrics.shielded();
                }
                // Forged addresses can cause thousands.
                tracing::debug!(%mode, by, "shield from {name}: {reason}");
                self.shields_changed();
            }
        }
        Ok(())
    }

    /// Enters a ban or shield that the kernel has into the ban table. A shield that a ban replaces is ended. Returns
    /// the previous entry.
    pub(super) fn enter_in_table(&mut self, ban: Ban, enforcer: &mut dyn Enforcer) -> Option<Ban> {
        let (net, extent) = (ban.net, ban.extent);
        let before = self.ban_table.insert(ban);
        if let Some(Ban { extent: Extent::Shield, .. }) = before
            && extent == Extent::Full
            && let Err(error) = enforcer.unban(Extent::Shield, &mut std::iter::once(net))
        {
            // The shield drops nothing that the ban does not drop, and it ends by itself.
            tracing::warn!("the shield from {} stays beside its ban: {error}", cidr::name(net));
        }
        before
    }

    /// Evicts a ban or shield to make room for a new one.
    fn evict(&mut self, extent: Extent, net: IpNet, now: Now, enforcer: &mut dyn Enforcer) {
        let name = cidr::name(net);
        match (self.kernel_bans(now).lift(&[(net, extent)], enforcer), extent) {
            (Ok(()), Extent::Full) => {
                self.ban_table.remove(net);
                self.metrics.evicted();
                tracing::warn!("the ban of {name} was ended to make room for another (response.max_bans)");
            }
            (Ok(()), Extent::Shield) => {
                self.ban_table.remove(net);
                self.metrics.shield_evicted();
                tracing::debug!(
                    "the shield from {name} was ended to make room for another (response.max_shields)"
                );
            }
            // It stays in the table, and ends by itself.
            (Err(error), _) => {
                let what = extent.label();
                tracing::error!(
                    "the {what} of {name} was to make room for another, but could not be lifted: {error}"
                );
            }
        }
    }

    /// Notes a ban that the circuit breaker refuses, and says so if the breaker opens.
    fn refused_by_breaker(&mut self, net: IpNet, max: u32, now: Now, enforcer: &mut dyn Enforcer) {
        if !self.breaker.refused(net, now.at, max) {
            return;
        }
        self.metrics.tripped();
        tracing::error!(
            "the circuit breaker is open: rules would ban in more than {max} networks within one minute \
             (response.max_per_minute). New bans by rules are refused, all bans that there are hold, and it closes by \
             itself a minute after the storm"
        );
        self.arm(now, enforcer);
        self.changed();
    }

    /// Closes the circuit breaker if the storm is over.
    fn close_breaker(&mut self, now: Now, enforcer: &mut dyn Enforcer) {
        if let Some(refused) = self.breaker.close_if_calm(now.at, self.settings.max_per_minute) {
            tracing::warn!(
                "the circuit breaker is closed again: rules ban as before; {refused} bans were refused"
            );
            self.arm(now, enforcer);
            self.changed();
        }
    }

    /// Changes the mode. Enforcing may need a confirmation to last.
    ///
    /// # Errors
    /// The gate could not be set; the mode stays as it was.
    pub fn set_mode(
        &mut self,
        mode: Mode,
        cause: ModeCause,
        confirm: Option<Duration>,
        now: Now,
        enforcer: &mut dyn Enforcer,
    ) -> Result<(), SensorError> {
        let before = self.mode;
        let drop_all = self.settings.drop == Drop::All;
        // Sources that are released must not wait; sources that are dropped from now on can.
        if mode != Mode::Enforce {
            enforcer.set_gate(mode.gate(), drop_all)?;
        }
        self.mode = ModeState {
            mode,
            cause,
            since: now.wall,
            configured: self.settings.mode,
            deadline: confirm.map(|confirm| now.at.saturating_add(confirm)),
        };
        if mode == Mode::Enforce {
            self.released = Released::All;
            let dry: Vec<_> = self.ban_table.remove_dry().iter().map(|ban| (ban.net, ban.extent)).collect();
            if let Err(error) = self.kernel_bans(now).lift(&dry, enforcer) {
                tracing::warn!("bans that were made in dry-run could not be lifted: {error}");
            }
        }
        self.kernel_bans(now).write_all(enforcer);
        if mode == Mode::Enforce
            && let Err(error) = enforcer.set_gate(mode.gate(), drop_all)
        {
            self.mode = before;
            return Err(error);
        }
        self.ban_listed(now, enforcer);
        self.arm(now, enforcer);
        match confirm {
            Some(confirm) => tracing::warn!(
                "mode {mode}, {cause}; back to dry-run unless `scanguard confirm` comes within {}",
                Interval(confirm)
            ),
            None => tracing::warn!("mode {mode}, {cause}; it was {}", before.mode),
        }
        self.changed();
        Ok(())
    }

    /// The sources that were released since the last call, because a ban ended or none was in force. None: no source.
    pub fn take_released(&mut self) -> Option<Released> {
        self.released.take()
    }

    /// Does the regular work; the caller calls this at least once a second.
    pub fn chores(&mut self, now: Now, enforcer: &mut dyn Enforcer) {
        self.close_breaker(now, enforcer);
        self.arm(now, enforcer);
        if self.allowed.kernel_error.is_some() {
            self.allow_as_known(now, enforcer);
        }
        self.end_expired(now, enforcer);
        self.unsaved.tick(now.at);
        self.ban_table.forgive(self.settings.forgive, now.wall);
        if self.mode.deadline.is_some_and(|deadline| deadline <= now.at) {
            tracing::warn!("enforcing was not confirmed in time: back to dry-run, nothing is dropped");
            if let Err(error) = self.set_mode(Mode::DryRun, ModeCause::Unconfirmed, None, now, enforcer) {
                tracing::error!("the mode could not be changed: {error}");
            }
        }
        if self.feeds.is_due(now.at) {
            self.ban_listed(now, enforcer);
        }
    }

    /// Ends the bans and shields whose time is over.
    fn end_expired(&mut self, now: Now, enforcer: &mut dyn Enforcer) {
        let ended = self.ban_table.expire(now, self.settings.max_bans as usize);
        if ended.is_empty() {
            return;
        }
        let lifted: Vec<_> = ended.iter().map(|ban| (ban.net, ban.extent)).collect();
        if let Err(error) = self.kernel_bans(now).lift(&lifted, enforcer) {
            // The kernel has already ended them by its own clock.
            tracing::warn!("bans and shields that have ended could not be removed: {error}");
        }
        let bans = lifted.iter().filter(|(_, extent)| *extent == Extent::Full);
        let bans: Vec<_> = bans.map(|(net, _)| *net).collect();
        match bans.as_slice() {
            [] => {}
            [one] => tracing::info!("the ban of {} has ended", cidr::name(*one)),
            many => tracing::info!("{} bans have ended: {}", many.len(), cidr::names(many)),
        }
        if bans.len() < lifted.len() {
            tracing::debug!("{} shields have ended", lifted.len() - bans.len());
            self.shields_changed();
        }
        if !bans.is_empty() {
            self.released.add(&bans);
            self.changed();
        }
    }

    /// Takes new settings. Bans stay; the mode changes only if `response.mode` does.
    pub fn reconfigure(&mut self, settings: Settings, now: Now, enforcer: &mut dyn Enforcer) {
        let old = std::mem::replace(&mut self.settings, settings);
        self.metrics.limits(self.settings.max_bans, self.settings.max_shields);
        let result = if old.mode != self.settings.mode {
            self.breaker.reset();
            self.set_mode(self.settings.mode, ModeCause::Configuration, None, now, enforcer)
        } else {
            enforcer.set_gate(self.mode.mode.gate(), self.settings.drop == Drop::All)
        };
        if let Err(error) = result {
            tracing::error!("the mode could not be changed: {error}");
        }
        self.allow_as_known(now, enforcer);
        self.ban_listed(now, enforcer);
        self.arm(now, enforcer);
        self.changed();
    }
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
