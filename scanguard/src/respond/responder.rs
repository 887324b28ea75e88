//! Makes and ends bans as the policy decides, and keeps the kernel, the ban table and the state file consistent.

use std::{collections::BTreeSet, hash::RandomState, net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use jiff::SignedDuration;
use scanguard_common::{
    abi,
    address::{Address, SourceMask},
};

use super::{
    LONGEST_BAN, Mode, ModeCause, ModeState,
    adopt::{self, Filter},
    allow::{AllowList, MAX_ALLOWED_BY_HAND, Why, around},
    ban_table::{Ban, BanTable, Past},
    breaker::Breaker,
    cause::Cause,
    enforcer::{Enforcer, KernelBan},
    feed::{FeedBans, Taken},
    policy::{self, BanTerms, Decision, PolicyInput},
    refusal::Refusal,
    settings::{Drop, Settings},
    ssh::{Connections, SshPeers},
    state::{SavedBan, SavedMode, SavedPast, State},
};
use crate::{
    cidr,
    clock::Now,
    detect::{Plain, feeds::Feeds, findings::Finding},
    respond::metrics::ResponseMetrics,
    sensor::{
        SensorError,
        gate::{Extent, HoldTerms},
    },
    settings::Interval,
};

/// How often the state file is written for shields alone: forged addresses cause ever new shields, and lost shields are
/// made again.
const SHIELDS_KEPT: Duration = Duration::from_secs(30);

/// The addresses that this host depends on, as host discovery found them.
#[derive(Clone, Debug, Default)]
pub struct Discovered {
    /// Its own addresses.
    pub own: Vec<IpNet>,
    /// Default gateways.
    pub gateways: BTreeSet<IpAddr>,
    /// Resolvers.
    pub resolvers: BTreeSet<IpAddr>,
    /// Networks directly at the interfaces of `response.allow_interfaces`.
    pub attached: Vec<(String, IpNet)>,
    /// Connections to the SSH server.
    pub ssh: Connections,
}

/// All knowledge about bans.
pub struct Responder {
    pub(super) settings: Settings,
    /// Bits of an IPv6 source that are kept.
    pub(super) ipv6_prefix: u8,
    pub(super) mode: ModeState,
    pub(super) ban_table: BanTable,
    pub(super) by_hand: BTreeSet<IpNet>,
    discovered: Discovered,
    ssh: SshPeers,
    pub(super) allowed: AllowList,
    /// Why the kernel did not take all of `allowed` the last time; none if it did.
    allow_error: Option<String>,
    pub(super) breaker: Breaker,
    listed: Feeds,
    pub(super) feeds: FeedBans,
    pub(super) feeds_taken: Taken,
    /// The evidence on which rules match whatever else is known.
    plain: Vec<Plain>,
    /// The terms of holds that the kernel has.
    pub(super) reflex: Option<HoldTerms>,
    salt: RandomState,
    pub(super) metrics: Arc<ResponseMetrics>,
    dirty: bool,
    /// Shields were made since the state file was last written for them, and the next write is not yet due.
    shields_unsaved: bool,
    /// The time of that write.
    shields_saved: Duration,
    /// There was no state file, so the kernel's bans are all that is known.
    state_was_lost: bool,
    pub(super) released: Released,
}

impl Responder {
    /// Starts with the content of the state file, if there is one. The kernel is not changed before [`Self::enter`].
    pub fn new(
        settings: Settings,
        ipv6_prefix: u8,
        state: Option<State>,
        metrics: Arc<ResponseMetrics>,
        now: Now,
    ) -> Self {
        let mode = ModeState::configured(settings.mode, now);
        metrics.limits(settings.max_bans, settings.max_shields);
        let mut responder = Self {
            settings,
            ipv6_prefix,
            mode,
            ban_table: BanTable::default(),
            by_hand: BTreeSet::new(),
            discovered: Discovered::default(),
            ssh: SshPeers::default(),
            allowed: AllowList::default(),
            allow_error: None,
            breaker: Breaker::default(),
            listed: Feeds::default(),
            feeds: FeedBans::default(),
            feeds_taken: Taken::default(),
            plain: Vec::new(),
            reflex: None,
            salt: RandomState::new(),
            metrics,
            dirty: true,
            shields_unsaved: false,
            shields_saved: now.at,
            state_was_lost: state.is_none(),
            released: Released::default(),
        };
        if let Some(state) = state {
            responder.restore(state, now);
        }
        responder
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
        SourceMask::new(self.ipv6_prefix).apply(Address::from(ip.to_canonical()))
    }

    /// The network to ban for the activity of a source.
    pub fn net(&self, source: &Address) -> IpNet {
        policy::net_of(source, self.ipv6_prefix)
    }

    fn restore(&mut self, state: State, now: Now) {
        let SavedMode { mode, cause, since, configured } = state.mode;
        if configured == self.settings.mode {
            self.mode = ModeState { mode, cause, since, configured, deadline: None };
            if cause == ModeCause::CircuitBreaker {
                self.breaker.trip();
            }
        } else {
            tracing::info!(
                "response.mode was changed to {}: that holds, not the {mode} of the state file",
                self.settings.mode
            );
        }
        let most = self.settings.max_bans as usize;
        for SavedPast { net, level, ended, dry } in state.past.into_iter().take(most) {
            // A time in the future was written by a wrong clock.
            self.ban_table.remember(net.trunc(), Past { level, ended: ended.min(now.wall), dry }, most);
        }
        // A start in the future comes from a wrong clock. Its age is unknown, but the remaining time is not.
        let since_then = now.wall.max(state.saved);
        for SavedBan { net, extent, origin, reason, since, ends, level, dry } in state.bans {
            // Shields are for sources as they are counted, which depends on the length of the IPv6 prefix.
            let is_source = net == self.net(&self.source(net.addr()));
            let (most, fits) = match extent {
                Extent::Full => (most, true),
                Extent::Shield => (self.settings.max_shields as usize, is_source),
            };
            if !fits || self.ban_table.len(extent) >= most {
                continue;
            }
            let left =
                ends.map(|ends| Duration::try_from(ends.duration_since(since_then)).unwrap_or_default());
            // A ban that ended in the meantime is removed and remembered like any other.
            let ends = left.map(|left| now.at.saturating_add(left.min(LONGEST_BAN)));
            let since = since.min(now.wall);
            self.ban_table.insert(Ban { net: net.trunc(), extent, origin, reason, since, ends, level, dry });
        }
        self.by_hand.extend(state.allowed.iter().take(MAX_ALLOWED_BY_HAND).map(IpNet::trunc));
    }

    /// The content for the state file.
    pub fn state(&self, now: Now) -> State {
        let ModeState { mode, cause, since, configured, deadline } = self.mode;
        let mode = match deadline {
            // An agent that dies before the confirmation must not enforce after its restart.
            Some(_) => SavedMode { mode: Mode::DryRun, cause: ModeCause::Unconfirmed, since, configured },
            None => SavedMode { mode, cause, since, configured },
        };
        let mut state = State::new(now.wall, mode);
        state.bans = self
            .ban_table
            .bans()
            .map(|ban| SavedBan {
                net: ban.net,
                extent: ban.extent,
                origin: ban.origin.clone(),
                reason: ban.reason.clone(),
                since: ban.since,
                ends: ban.left(now.at).and_then(|left| {
                    now.wall.checked_add(SignedDuration::try_from(left).unwrap_or(SignedDuration::MAX)).ok()
                }),
                level: ban.level,
                dry: ban.dry,
            })
            .collect();
        let past = self.ban_table.past();
        state.past = past
            .map(|(net, past)| SavedPast { net, level: past.level, ended: past.ended, dry: past.dry })
            .collect();
        state.allowed = self.by_hand.iter().copied().collect();
        state
    }

    /// Whether the state file has to be written. The call resets this.
    pub fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    /// Makes a write for changed shields due at once, because the agent ends.
    pub fn keep_shields(&mut self) {
        self.dirty |= std::mem::take(&mut self.shields_unsaved);
    }

    /// The state file could not be written, so the write has to be tried again.
    pub fn stay_dirty(&mut self) {
        self.dirty = true;
    }

    /// Only shields changed.
    fn shields_changed(&mut self) {
        self.shields_unsaved = true;
        self.metrics.shields(self.ban_table.len(Extent::Shield));
    }

    pub(super) fn changed(&mut self) {
        self.dirty = true;
        let bans = || self.ban_table.bans().filter(|ban| ban.extent == Extent::Full);
        let count = |label| bans().filter(|ban| ban.origin.label() == label).count();
        self.metrics.shields(self.ban_table.len(Extent::Shield));
        self.metrics.bans(&[
            ("rule", count("rule")),
            ("hand", count("hand")),
            ("crowdsec", count("crowdsec")),
            ("adopted", count("adopted")),
            ("feed", self.feeds.len()),
        ]);
        self.metrics.allowed(self.allowed.len());
        self.metrics.breaker(self.breaker.is_open());
        self.metrics.mode(self.mode.mode);
    }

    pub(super) fn policy_input(&self, now: Now) -> PolicyInput<'_> {
        PolicyInput {
            settings: &self.settings,
            mode: self.mode,
            allowed: &self.allowed,
            ban_table: &self.ban_table,
            breaker: &self.breaker,
            now,
            salt: &self.salt,
        }
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
                    Filter { settings: &self.settings, mode: self.mode.mode, allowed: &self.allowed };
                adopt::bans(&mut self.ban_table, filter, extent, &mut strays, now, enforcer);
            }
            if !strays.is_empty() {
                let (count, what) = (strays.len(), extent.label());
                tracing::info!("{count} {what}s in the kernel that are not to be there are lifted");
            }
            enforcer.unban(extent, &mut strays.into_iter())?;
        }
        self.write_all(now, enforcer);
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
        self.ssh.see(&discovered.ssh, now.at);
        self.discovered = discovered;
        if self.state_was_lost {
            let known = self.allow_list();
            adopt::allowed(&mut self.by_hand, &known, enforcer);
        }
        self.allow_as_known(now, enforcer);
    }

    /// As [`Self::allow`], for callers that do not need the result.
    fn allow_as_known(&mut self, now: Now, enforcer: &mut dyn Enforcer) {
        let before = self.allow_error.clone();
        match self.allow(now, enforcer) {
            Ok(()) if before.is_some() => tracing::info!("the kernel took who is never banned"),
            Err(error) if self.allow_error != before => {
                tracing::error!("the kernel did not take all who are never banned, trying on: {error}");
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Rebuilds the allow list, and writes it to the kernel if it changed or the last write failed.
    ///
    /// # Errors
    /// The kernel did not take all of it. The policy uses the new list all the same, and the next call tries again.
    pub(super) fn allow(&mut self, now: Now, enforcer: &mut dyn Enforcer) -> Result<(), SensorError> {
        let allowed = self.allow_list();
        if allowed == self.allowed && self.allow_error.is_none() {
            return Ok(());
        }
        let most = abi::MAX_ALLOWED as usize;
        if allowed.len() > most {
            tracing::warn!("{} networks are never banned, of which the kernel holds {most}", allowed.len());
        }
        let result = enforcer.set_allowed(&allowed.nets(most));
        self.allow_error = result.as_ref().err().map(ToString::to_string);
        if allowed != self.allowed {
            self.allowed = allowed;
            self.ban_listed(now, enforcer);
            self.changed();
        }
        result
    }

    /// The networks that are never banned, from all that is known.
    pub(super) fn allow_list(&self) -> AllowList {
        let mut allowed = AllowList::default();
        let Discovered { own, gateways, resolvers, attached, .. } = &self.discovered;
        own.iter().for_each(|net| allowed.add(*net, Why::Own));
        self.settings.allow.iter().for_each(|net| allowed.add(*net, Why::Configured));
        self.by_hand.iter().for_each(|net| allowed.add(*net, Why::Hand));
        self.ssh.addresses().for_each(|ip| allowed.add(cidr::host(ip), Why::Ssh));
        gateways.iter().for_each(|ip| allowed.add(cidr::host(*ip), Why::Gateway));
        resolvers.iter().for_each(|ip| allowed.add(cidr::host(*ip), Why::Resolver));
        attached.iter().for_each(|(name, net)| allowed.add(*net, Why::Interface(name.clone())));
        allowed
    }

    /// Takes the networks on feeds.
    pub fn set_feeds(&mut self, feeds: &Feeds, now: Now, enforcer: &mut dyn Enforcer) {
        self.listed = feeds.clone();
        self.ban_listed(now, enforcer);
        self.changed();
    }

    pub(super) fn ban_listed(&mut self, now: Now, enforcer: &mut dyn Enforcer) {
        let Self { settings, mode, allowed, ban_table, breaker, salt, .. } = self;
        let input = PolicyInput { settings, mode: *mode, allowed, ban_table, breaker, now, salt };
        match self.feeds.set(&self.listed, input, enforcer) {
            Ok(taken) => {
                if taken.left_out > 0 && taken != self.feeds_taken {
                    tracing::warn!("{} networks on feeds are not banned: there is no room", taken.left_out);
                }
                self.feeds_taken = taken;
            }
            Err(error) => tracing::error!("not all networks on feeds are banned, trying on: {error}"),
        }
        self.metrics.feeds(self.feeds_taken.refused, self.feeds_taken.left_out);
    }

    /// Takes the evidence on which rules match whatever else is known.
    pub fn set_plain(&mut self, plain: Vec<Plain>, now: Now, enforcer: &mut dyn Enforcer) {
        self.plain = plain;
        self.arm(now, enforcer);
    }

    /// Writes to the kernel which sources it may hold, if that has changed.
    fn arm(&mut self, now: Now, enforcer: &mut dyn Enforcer) {
        let reflex = policy::reflex(&self.plain, self.policy_input(now));
        if reflex == self.reflex {
            return;
        }
        match enforcer.set_hold(reflex) {
            Ok(()) => self.reflex = reflex,
            Err(error) => tracing::error!("the kernel was not told whom to hold: {error}"),
        }
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

    /// The networks to ban or shield from for a finding: its source, or the known sources of a campaign.
    pub(super) fn causes(&self, finding: &Finding) -> Vec<(IpNet, Cause)> {
        let sources = if finding.sources.count > 0 {
            finding.sources.examples.as_slice()
        } else {
            std::slice::from_ref(&finding.source)
        };
        let (confidence, spoofable) = finding.known();
        let cause = Cause::Rule {
            rule: finding.rule.to_owned(),
            finding: finding.id.clone(),
            confidence,
            spoofable,
            had_connections: finding.had_connections(),
            has_grounds: finding.has_grounds(),
            reason: finding.reason.clone(),
        };
        sources.iter().map(|source| (policy::net_of(source, self.ipv6_prefix), cause.clone())).collect()
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
                self.trip(*max, now, enforcer);
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
        let ban = ban(net, cause, terms, now);
        enforcer.ban(*extent, &mut std::iter::once(self.kernel_ban(&ban, now)))?;
        if let Some(evicted) = evicts {
            self.evict(*extent, *evicted, now, enforcer);
        }
        let (mode, by, name) = (self.mode.mode, ban.origin.label(), cidr::name(net));
        match extent {
            Extent::Full => {
                if let Cause::Rule { .. } = cause {
                    self.breaker.made(now.at, self.settings.max_per_minute);
                    self.arm(now, enforcer);
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
        match (self.lift(&[(net, extent)], now, enforcer), extent) {
            (Ok(()), Extent::Full) => {
                self.ban_table.remove(net);
                self.metrics.evicted();
                tracing::warn!("{name} is banned no more: there is no room (response.max_bans)");
            }
            (Ok(()), Extent::Shield) => {
                self.ban_table.remove(net);
                self.metrics.shield_evicted();
                tracing::debug!("{name} is shielded from no more: there is no room (response.max_shields)");
            }
            // It stays in the table, and ends by itself.
            (Err(error), _) => {
                let what = extent.label();
                tracing::error!("the {what} of {name}, for which there is no room, stays: {error}");
            }
        }
    }

    /// The form of a ban that the kernel takes.
    pub(super) fn kernel_ban(&self, ban: &Ban, now: Now) -> KernelBan {
        let lasts = self.mode.kept(ban.left(now.at), now);
        KernelBan { net: ban.net, lasts, enforced: self.mode.mode == Mode::Enforce && !ban.dry }
    }

    /// Writes all bans and shields to the kernel again.
    pub(super) fn write_all(&mut self, now: Now, enforcer: &mut dyn Enforcer) {
        for extent in Extent::ALL {
            let bans = self.ban_table.bans().filter(|ban| ban.extent == extent);
            let bans: Vec<_> = bans.map(|ban| self.kernel_ban(ban, now)).collect();
            if let Err(error) = enforcer.ban(extent, &mut bans.into_iter()) {
                tracing::error!("the kernel did not take all {}s: {error}", extent.label());
            }
        }
    }

    /// Ends shields in the kernel, and bans, unless a feed lists the same network. There may be thousands.
    ///
    /// # Errors
    /// A map could not be changed; some of them may have ended.
    pub(super) fn lift(
        &self,
        ended: &[(IpNet, Extent)],
        now: Now,
        enforcer: &mut dyn Enforcer,
    ) -> Result<(), SensorError> {
        let of = |wanted| ended.iter().filter(move |(_, extent)| *extent == wanted).map(|(net, _)| *net);
        let listed = |net: &IpNet| self.feeds.kernel(*net, &self.mode, now);
        enforcer.unban(Extent::Full, &mut of(Extent::Full).filter(|net| listed(net).is_none()))?;
        enforcer.ban(Extent::Full, &mut of(Extent::Full).filter_map(|net| listed(&net)))?;
        enforcer.unban(Extent::Shield, &mut of(Extent::Shield))
    }

    fn trip(&mut self, max: u32, now: Now, enforcer: &mut dyn Enforcer) {
        let is_news = self.breaker.trip();
        // If the breaker tripped before and the mode is still enforce, the fallback failed, so it is tried again.
        if !is_news && self.mode.mode != Mode::Enforce {
            return;
        }
        if is_news {
            self.metrics.tripped();
        }
        if self.mode.mode != Mode::Enforce {
            tracing::warn!(
                "more than {max} bans within one minute: in enforce this would fall back to dry-run"
            );
            return self.changed();
        }
        tracing::error!(
            "more than {max} bans within one minute (response.max_per_minute): falling back to dry-run, nothing is \
             dropped; look at `scanguard bans`, then `scanguard enforce`"
        );
        if let Err(error) = self.set_mode(Mode::DryRun, ModeCause::CircuitBreaker, None, now, enforcer) {
            tracing::error!("the mode could not be changed: {error}");
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
            if let Err(error) = self.lift(&dry, now, enforcer) {
                tracing::warn!("bans that were made in dry-run could not be lifted: {error}");
            }
        }
        self.write_all(now, enforcer);
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
        Some(std::mem::take(&mut self.released)).filter(|released| *released != Released::default())
    }

    /// Does the regular work; the caller calls this at least once a second.
    pub fn chores(&mut self, now: Now, enforcer: &mut dyn Enforcer) {
        self.arm(now, enforcer);
        if self.allow_error.is_some() {
            self.allow_as_known(now, enforcer);
        }
        let ended = self.ban_table.expire(now, self.settings.max_bans as usize);
        if !ended.is_empty() {
            let lifted: Vec<_> = ended.iter().map(|ban| (ban.net, ban.extent)).collect();
            if let Err(error) = self.lift(&lifted, now, enforcer) {
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
        if self.shields_unsaved && now.at.saturating_sub(self.shields_saved) >= SHIELDS_KEPT {
            (self.shields_unsaved, self.shields_saved, self.dirty) = (false, now.at, true);
        }
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

/// Released sources: their earlier activity does not justify a ban.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Released {
    /// The bans of these networks ended.
    Networks(BTreeSet<IpNet>),
    /// All sources, because enforcing begins: no activity so far led to a drop.
    All,
}

impl Default for Released {
    fn default() -> Self {
        Self::Networks(BTreeSet::new())
    }
}

impl Released {
    /// Adds these networks.
    pub(super) fn add(&mut self, nets: &[IpNet]) {
        match self {
            Self::Networks(all) => all.extend(nets),
            Self::All => {}
        }
    }

    /// Whether a whole network is released.
    pub fn has(&self, net: IpNet) -> bool {
        match self {
            Self::Networks(nets) => around(net).any(|around| nets.contains(&around)),
            Self::All => true,
        }
    }
}

/// The ban or shield that results from the terms of the policy.
pub(super) fn ban(net: IpNet, cause: &Cause, terms: &BanTerms, now: Now) -> Ban {
    Ban {
        net,
        extent: terms.extent,
        origin: cause.origin(),
        reason: terms.reason.clone(),
        since: now.wall,
        ends: terms.lasts.map(|lasts| now.at.saturating_add(lasts)),
        level: terms.level,
        dry: terms.dry,
    }
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
