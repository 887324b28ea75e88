//! Orders by hand, and questions.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ipnet::IpNet;
use scanguard_common::address::{Address, SourceMask};

use super::{
    Mode, ModeCause,
    allow::{Why, around},
    book::Ban,
    card::Card,
    cause::{Cause, Origin},
    policy::{self, Decision},
    refusal::Refusal,
    report::{
        AllowedReport, BanCounts, BanReport, BanState, Bans, Done, Explanation, FindingReport, OpenFinding,
        ReflexReport, ResponseStatus, ShieldCounts,
    },
    responder::{MAX_ALLOWED_BY_HAND, Responder},
};
use crate::{
    cidr,
    clock::Now,
    detect::findings::Finding,
    observe::greatest,
    sensor::gate::{Extent, Standing},
    settings::Interval,
};

/// An order.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Ban somebody.
    Ban {
        /// Who.
        net: IpNet,
        /// For how long; none: until it is taken back.
        lasts: Option<Duration>,
        /// Why.
        reason: String,
    },
    /// End a ban.
    Unban {
        /// Of whom.
        net: IpNet,
    },
    /// Never ban somebody, and end what bans there are.
    Allow {
        /// Whom.
        net: IpNet,
    },
    /// Take that back.
    Disallow {
        /// Of whom.
        net: IpNet,
    },
    /// Change the mode.
    Mode {
        /// To which.
        mode: Mode,
        /// Enforce only until then, unless it is confirmed.
        confirm: Option<Duration>,
    },
    /// Go on enforcing.
    Confirm,
}

/// An order that was not carried out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OrderError {
    /// The policy says no.
    #[error("{} is not banned: {refusal}", cidr::name(*.net))]
    Refused {
        /// Who was to be banned.
        net: IpNet,
        /// Why not.
        refusal: Refusal,
    },
    /// There is no such ban or shield, nor one around it.
    #[error("{} is not banned", cidr::name(*.0))]
    NotBanned(IpNet),
    /// It is banned as part of something else.
    #[error(
        "{} is banned only as part of {around}: `scanguard unban {around}` ends that, `scanguard allow {}` spares it",
        cidr::name(*.net), cidr::name(*.net)
    )]
    BannedAround {
        /// Whose ban was to end.
        net: IpNet,
        /// What is banned.
        around: IpNet,
    },
    /// A feed lists it.
    #[error(
        "{} is banned because {feed} lists {around}: `scanguard allow {}` spares it", cidr::name(*.net),
        cidr::name(*.net)
    )]
    Listed {
        /// Whose ban was to end.
        net: IpNet,
        /// What is listed.
        around: IpNet,
        /// Where.
        feed: String,
    },
    /// Nothing is allowed that would allow everybody.
    #[error("{0} is every address there is; `scanguard observe` says that better")]
    AllowsEverybody(IpNet),
    /// It is written wrongly.
    #[error("{net} has bits beyond its prefix; is {} meant, or the address {}?", .net.trunc(), .net.addr())]
    HostBits {
        /// As it was written.
        net: IpNet,
    },
    /// There is no room.
    #[error("{MAX_ALLOWED_BY_HAND} networks are allowed by hand already")]
    AllowedFull,
    /// It is not allowed by hand.
    #[error("{}", not_by_hand(*.net, .allowed.as_ref()))]
    NotAllowedByHand {
        /// What was not to be allowed any more.
        net: IpNet,
        /// What around it or within it is allowed, and why.
        allowed: Option<(IpNet, Why)>,
    },
    /// There is nothing to confirm.
    #[error("there is nothing to confirm: the mode is {0}")]
    NothingToConfirm(Mode),
    /// A mode that takes no confirmation, or too much or too little time for it.
    #[error("the time within which enforcing has to be confirmed is from 1s to 24h; other modes have none")]
    Confirm,
    /// The kernel did not take it.
    #[error("the kernel did not take it: {0}")]
    Kernel(String),
    /// Who is never banned was changed, but the kernel does not know yet.
    #[error(
        "the list of who is never banned is changed, but the kernel did not take it, which is tried again: {0}"
    )]
    Untold(String),
}

fn not_by_hand(net: IpNet, allowed: Option<&(IpNet, Why)>) -> String {
    let name = cidr::name(net);
    match allowed {
        None => format!("{name} is not allowed by hand"),
        Some((allowed, why)) if *allowed == net => format!("{name} is not allowed by hand; {why}"),
        Some((allowed, Why::Hand)) => {
            let part = if allowed.contains(&net) { "only as part of" } else { "not as a whole: only" };
            let allowed = cidr::name(*allowed);
            format!(
                "{name} is allowed by hand {part} {allowed}: `scanguard disallow {allowed}` takes that back"
            )
        }
        Some((allowed, why)) => {
            format!("{name} is not allowed by hand; {} is never banned: {why}", cidr::name(*allowed))
        }
    }
}

/// How long one may have to confirm.
const CONFIRM: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

impl Responder {
    /// Carries out an order of a user.
    ///
    /// # Errors
    /// See [`OrderError`]; nothing was changed then, but for [`OrderError::Untold`].
    pub fn order(
        &mut self,
        order: Order,
        uid: u32,
        now: Now,
        card: &mut dyn Card,
    ) -> Result<Done, OrderError> {
        match order {
            Order::Ban { net, lasts, reason } => self.order_ban(net, lasts, reason, uid, now, card),
            Order::Unban { net } => self.order_unban(net, now, card),
            Order::Allow { net } => self.order_allow(net, now, card),
            Order::Disallow { net } => {
                if net.trunc() != net {
                    return Err(OrderError::HostBits { net });
                }
                if !self.by_hand.remove(&net) {
                    let allowed = self.allowed.conflict(net).map(|(allowed, why)| (allowed, why.clone()));
                    return Err(OrderError::NotAllowedByHand { net, allowed });
                }
                let told = self.allow(now, card);
                self.changed();
                told.map_err(|error| OrderError::Untold(error.to_string()))?;
                let still = self.allowed.conflict(net).map(|(net, why)| still_allowed(net, why));
                Ok(done(format!("{} is no longer allowed by hand", cidr::name(net)), still))
            }
            Order::Mode { mode, confirm } => self.order_mode(mode, confirm, uid, now, card),
            Order::Confirm => match self.mode.deadline.take() {
                None => Err(OrderError::NothingToConfirm(self.mode.mode)),
                Some(_) => {
                    self.write_all(now, card);
                    self.ban_listed(now, card);
                    self.changed();
                    tracing::warn!("mode {}: confirmed by uid {uid}", self.mode.mode);
                    Ok(done(format!("confirmed: the mode stays {}", self.mode.mode), None))
                }
            },
        }
    }

    fn order_ban(
        &mut self,
        net: IpNet,
        lasts: Option<Duration>,
        reason: String,
        uid: u32,
        now: Now,
        card: &mut dyn Card,
    ) -> Result<Done, OrderError> {
        match self.make(net, &Cause::Hand { uid, lasts, reason }, now, card) {
            Decision::Ban(_) => {
                let until = match lasts {
                    Some(lasts) => format!("for {}", Interval(lasts)),
                    None => "until `scanguard unban`".to_owned(),
                };
                let note = match self.mode.mode {
                    Mode::Observe => Some("the mode is observe: nothing is dropped, and nothing counted"),
                    Mode::DryRun => Some("the mode is dry-run: nothing is dropped, but counted"),
                    Mode::Enforce => None,
                };
                Ok(done(format!("{} is banned {until}", cidr::name(net)), note.map(str::to_owned)))
            }
            Decision::Stands { net, .. } => Ok(done(format!("{} is banned already", cidr::name(net)), None)),
            Decision::Refused(refusal) => {
                self.metrics.refused(&refusal);
                Err(OrderError::Refused { net, refusal })
            }
        }
    }

    fn order_unban(&mut self, net: IpNet, now: Now, card: &mut dyn Card) -> Result<Done, OrderError> {
        if net.trunc() != net {
            return Err(OrderError::HostBits { net });
        }
        // Rules ban the prefix that an IPv6 source stands for: who is asked to free one of it means that.
        let masked = policy::net_of(&self.source(net.addr()), self.ipv6_prefix);
        let is_host = net.prefix_len() == net.max_prefix_len();
        let names_prefix = is_host && self.book.get(net).is_none() && self.book.get(masked).is_some();
        let meant = if names_prefix { masked } else { net };
        if self.book.get(meant).is_none() {
            if let Some(ban) = self.book.covering(net) {
                return Err(OrderError::BannedAround { net, around: ban.net });
            }
            if let Some((around, feed)) = self.feeds.covering(net) {
                return Err(OrderError::Listed { net, around, feed: feed.to_owned() });
            }
            return Err(OrderError::NotBanned(net));
        }
        let extent = self.book.get(meant).map_or(Extent::Full, |ban| ban.extent);
        self.unban(&[(meant, extent)], now, card)?;
        let rest = self.book.covering(net).map(|ban| format!("it is still banned as part of {}", ban.net));
        let listed = self.feeds.covering(net).map(|(around, feed)| format!("{feed} still lists {around}"));
        let what = match extent {
            Extent::Full => "banned",
            Extent::Shield => "shielded from",
        };
        Ok(done(format!("{} is no longer {what}", cidr::name(meant)), rest.or(listed)))
    }

    /// Ends bans and shields of just these networks. There may be thousands.
    fn unban(&mut self, ended: &[(IpNet, Extent)], now: Now, card: &mut dyn Card) -> Result<(), OrderError> {
        self.lift(ended, now, card).map_err(|error| OrderError::Kernel(error.to_string()))?;
        for (net, extent) in ended {
            self.book.remove(*net);
            self.let_go.add(&[*net]);
            match extent {
                Extent::Full => tracing::info!("the ban of {} was ended by hand", cidr::name(*net)),
                Extent::Shield => tracing::debug!("the shield from {} was ended by hand", cidr::name(*net)),
            }
        }
        self.changed();
        Ok(())
    }

    fn order_allow(&mut self, net: IpNet, now: Now, card: &mut dyn Card) -> Result<Done, OrderError> {
        if net.prefix_len() == 0 {
            return Err(OrderError::AllowsEverybody(net));
        }
        if net.trunc() != net {
            return Err(OrderError::HostBits { net });
        }
        if self.by_hand.len() >= MAX_ALLOWED_BY_HAND && !self.by_hand.contains(&net) {
            return Err(OrderError::AllowedFull);
        }
        self.by_hand.insert(net);
        let told = self.allow(now, card);
        let within = self.book.bans().filter(|ban| net.contains(&ban.net));
        let ended: Vec<_> = within.map(|ban| (ban.net, ban.extent)).collect();
        self.unban(&ended, now, card)?;
        let within: Vec<_> = ended.iter().map(|(net, _)| *net).collect();
        told.map_err(|error| OrderError::Untold(error.to_string()))?;
        let ended = (!within.is_empty()).then(|| {
            format!("bans and shields that were ended: {}, of {}", within.len(), cidr::names(&within))
        });
        Ok(done(format!("{} is never banned", cidr::name(net)), ended))
    }

    fn order_mode(
        &mut self,
        mode: Mode,
        confirm: Option<Duration>,
        uid: u32,
        now: Now,
        card: &mut dyn Card,
    ) -> Result<Done, OrderError> {
        if confirm.is_some_and(|confirm| mode != Mode::Enforce || !CONFIRM.contains(&confirm)) {
            return Err(OrderError::Confirm);
        }
        self.breaker.reset();
        self.set_mode(mode, ModeCause::Hand { uid }, confirm, now, card)
            .map_err(|error| OrderError::Kernel(error.to_string()))?;
        let note = confirm.map(|confirm| {
            format!("it goes back to dry-run unless `scanguard confirm` comes within {}", Interval(confirm))
        });
        Ok(done(format!("the mode is {mode}"), note))
    }

    /// The source that an address counts for.
    pub fn source(&self, ip: IpAddr) -> Address {
        SourceMask::new(self.ipv6_prefix).apply(Address::from(ip.to_canonical()))
    }

    fn report(&self, ban: &Ban, standing: Option<Standing>, now: Now) -> BanReport {
        BanReport {
            net: ban.net,
            response: ban.extent,
            origin: ban.origin.clone(),
            reason: ban.reason.clone(),
            since: ban.since,
            seconds_left: ban.left(now.at).map(|left| left.as_secs()),
            level: ban.level,
            drops: self.mode.mode == Mode::Enforce && !ban.dry,
            packets: standing.map(|standing| standing.dropped),
            seconds_since_last: standing.and_then(|standing| standing.last).map(|last| last.as_secs()),
        }
    }

    /// How many bans there are, without those of feeds.
    pub fn bans_held(&self) -> usize {
        self.book.len(Extent::Full)
    }

    /// What the kernel has of these, which are bans and shields.
    fn standings(&self, nets: &[IpNet], card: &dyn Card) -> BTreeMap<IpNet, Standing> {
        let mut standings = BTreeMap::new();
        for extent in Extent::ALL {
            let is_one = |net: &&IpNet| self.book.get(**net).is_some_and(|ban| ban.extent == extent);
            let nets: Vec<_> = nets.iter().filter(is_one).copied().collect();
            standings.extend(card.standings(extent, &nets).unwrap_or_default());
        }
        standings
    }

    /// The bans that were made last, at most so many, the last one first, and likewise shields after them, of which anybody can
    /// have thousands made; without a number all, by network.
    pub fn bans(&self, rows: Option<usize>, now: Now, card: &dyn Card) -> Bans {
        let nets: Vec<_> = match rows {
            None => self.book.bans().map(|ban| ban.net).collect(),
            Some(rows) => {
                let rank = |ban: &Ban| (ban.extent == Extent::Full, ban.since, ban.net);
                greatest(self.book.bans().map(rank), rows).into_iter().map(|(_, _, net)| net).collect()
            }
        };
        let standing = self.standings(&nets, card);
        let bans = nets.iter().filter_map(|net| self.book.get(*net));
        Bans {
            mode: self.mode.mode,
            bans: bans.map(|ban| self.report(ban, standing.get(&ban.net).copied(), now)).collect(),
            feed_networks: self.feeds.len(),
        }
    }

    /// How it stands.
    pub fn status(&self, now: Now, state_file_error: Option<String>) -> ResponseStatus {
        let mut bans = BanCounts::default();
        for ban in self.book.bans().filter(|ban| ban.extent == Extent::Full) {
            match ban.origin {
                Origin::Rule { .. } | Origin::Feed { .. } => bans.rule += 1,
                Origin::Hand { .. } => bans.hand += 1,
                Origin::Crowdsec { .. } => bans.crowdsec += 1,
                Origin::Adopted => bans.adopted += 1,
            }
        }
        ResponseStatus {
            mode: self.mode.mode,
            mode_cause: self.mode.cause,
            mode_since: self.mode.since,
            mode_configured: self.settings.mode,
            confirm_seconds_left: self.mode.left(now).map(|left| left.as_secs()),
            drop: self.settings.drop.label().to_owned(),
            reflex: self.reflex.map(|reflex| ReflexReport {
                services: reflex.services,
                milliseconds: u64::try_from(reflex.lasts.as_millis()).unwrap_or(u64::MAX),
            }),
            bans,
            max_bans: self.settings.max_bans,
            shields: ShieldCounts {
                on: self.settings.shield,
                held: self.book.len(Extent::Shield),
                most: self.settings.max_shields,
            },
            feed_networks: self.feeds.len(),
            feed_networks_left_out: self.feeds_taken.refused + self.feeds_taken.left_out,
            allowed: self.allowed.entries().map(|(net, why)| allowed_report(net, why)).collect(),
            bans_last_minute: self.breaker.recent(now.at),
            max_per_minute: self.settings.max_per_minute,
            circuit_breaker_open: self.breaker.is_open(),
            state_file: self.settings.state.display().to_string(),
            state_file_error,
        }
    }

    /// Why an address is banned or not. Its history, and what it said, are the caller's to add.
    pub fn explain(
        &self,
        ip: IpAddr,
        findings: &mut dyn Iterator<Item = &Finding>,
        now: Now,
        card: &dyn Card,
    ) -> Explanation {
        let host = cidr::host(ip);
        let source = self.source(ip);
        let masked = self.net(&source);
        let mut reports = Vec::new();
        let mut policy_says = None;
        for finding in
            findings.filter(|finding| finding.source == source || finding.sources.examples.contains(&source))
        {
            let report = self.finding(finding, masked, now);
            policy_says.get_or_insert_with(|| format!("{}: {}", report.rule, report.policy));
            reports.push(report);
        }
        let allowed = around(host)
            .find_map(|net| self.allowed.entries().find(|(entry, _)| *entry == net))
            .map(|(net, why)| allowed_report(net, why));
        let feed = self.feeds.covering(host).map(|(net, feed)| (feed.to_owned(), net));
        // A ban for a feed goes before a shield.
        let ban = self.book.covering(host).filter(|ban| ban.extent == Extent::Full || feed.is_none());
        let ban = ban.map(|ban| self.report(ban, card.standing(ban.extent, ban.net).ok().flatten(), now));
        let drops = ban.as_ref().map_or(self.mode.mode == Mode::Enforce, |ban| ban.drops);
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
            (Some(ban), _, None) => verdict_of(ban, self.mode.mode),
            (None, Some((feed, net)), None) => {
                format!("banned: {feed} lists {net}; the mode is {}", self.mode.mode)
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
            before: self.book.before(masked).map(|past| (past.ended, past.level)),
            findings: reports,
            history: None,
            said: None,
        }
    }

    /// A finding as evidence against a network.
    fn finding(&self, finding: &Finding, net: IpNet, now: Now) -> FindingReport {
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
            policy: self.policy_of(finding, net, now),
        }
    }

    /// An open finding with whose it is.
    pub fn open_finding(&self, finding: &Finding, now: Now) -> OpenFinding {
        let net = self.net(&finding.source);
        OpenFinding {
            source: finding.source_ip().map(|_| net),
            sources: finding.sources.count,
            country: finding.origin.country.map(|country| country.to_string()),
            finding: self.finding(finding, net, now),
        }
    }

    /// The network that is banned for what a source does.
    pub fn net(&self, source: &Address) -> IpNet {
        policy::net_of(source, self.ipv6_prefix)
    }

    /// Whether a network is banned or shielded from.
    pub fn ban_state(&self, net: IpNet) -> BanState {
        let covering = self.book.covering(net);
        let ban = covering.filter(|ban| ban.extent == Extent::Full);
        let banned = ban.is_some() || self.feeds.covering(net).is_some();
        match (self.allowed.conflict(net), banned, self.mode.mode) {
            (Some(_), ..) => BanState::Allowed,
            (None, false, _) if covering.is_some() => BanState::Shielded,
            (None, false, _) => BanState::None,
            (None, true, Mode::Enforce) if ban.is_none_or(|ban| !ban.dry) => BanState::Dropped,
            (None, true, Mode::Enforce | Mode::DryRun) => BanState::Counted,
            (None, true, Mode::Observe) => BanState::Banned,
        }
    }

    fn policy_of(&self, finding: &Finding, net: IpNet, now: Now) -> String {
        let causes = self.causes(finding);
        let Some((_, cause)) = causes.iter().find(|(one, _)| *one == net) else {
            return "it takes part in this, but is not known well enough to be banned for it".to_owned();
        };
        match policy::judge(net, cause, self.given(now)) {
            Decision::Ban(sentence) => format!("to be {}", sentence.reason),
            Decision::Stands { net, extent: Extent::Full } => {
                format!("{} is banned already", cidr::name(net))
            }
            Decision::Stands { net, extent: Extent::Shield } => {
                format!("{} is shielded from already", cidr::name(net))
            }
            Decision::Refused(refusal) => refusal.to_string(),
        }
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
    format!("{what} by {} {until}, as {}: {}; {effect}", ban.origin, cidr::name(ban.net), ban.reason)
}

fn allowed_report(net: IpNet, why: &Why) -> AllowedReport {
    AllowedReport { net, why: why.to_string() }
}

fn still_allowed(net: IpNet, why: &Why) -> String {
    format!("{} is still never banned: {why}", cidr::name(net))
}

fn done(said: String, note: Option<String>) -> Done {
    Done { said, notes: note.into_iter().collect() }
}
