//! Carries out orders of users.

use std::time::Duration;

use ipnet::IpNet;

use super::{
    Mode, ModeCause,
    allow::{MAX_ALLOWED_BY_HAND, Why},
    cause::Cause,
    enforcer::Enforcer,
    policy::Decision,
    refusal::Refusal,
    report::Done,
    responder::Responder,
};
use crate::{cidr, clock::Now, sensor::gate::Extent, settings::Interval};

/// An order.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Ban a network.
    Ban {
        /// The network.
        net: IpNet,
        /// The duration; none: until it is taken back.
        lasts: Option<Duration>,
        /// Why.
        reason: String,
    },
    /// End a ban.
    Unban {
        /// The network.
        net: IpNet,
    },
    /// Never ban a network, and end its existing bans.
    Allow {
        /// The network.
        net: IpNet,
    },
    /// Take that back.
    Disallow {
        /// The network.
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

impl Order {
    /// The same order about IPv4 clients, if the network is that of their addresses behind a translator. To allow is no
    /// such order: the allow list has the address that was written, and the policy knows what it means.
    fn meant(mut self, responder: &Responder) -> Self {
        match &mut self {
            Self::Ban { net, .. } => *net = responder.sources.meant(*net),
            Self::Unban { net } if responder.ban_table.get(*net).is_none() => {
                *net = responder.sources.meant(*net);
            }
            Self::Unban { .. }
            | Self::Allow { .. }
            | Self::Disallow { .. }
            | Self::Mode { .. }
            | Self::Confirm => {}
        }
        self
    }
}

/// An order that was not carried out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OrderError {
    /// The policy says no.
    #[error("{} is not banned: {refusal}", cidr::name(*.net))]
    Refused {
        /// The network to ban.
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
        /// The network whose ban should end.
        net: IpNet,
        /// The banned network.
        around: IpNet,
    },
    /// A feed lists it.
    #[error(
        "{} is banned because {feed} lists {around}: `scanguard allow {}` spares it", cidr::name(*.net),
        cidr::name(*.net)
    )]
    Listed {
        /// The network whose ban should end.
        net: IpNet,
        /// The listed network.
        around: IpNet,
        /// The feed.
        feed: String,
    },
    /// A network that would allow all addresses is refused.
    #[error("{0} contains all addresses; to ban no source, use `scanguard observe`")]
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
        /// The network that should no longer be allowed.
        net: IpNet,
        /// An allowed network around it or within it, and the reason.
        allowed: Option<(IpNet, Why)>,
    },
    /// What leaves is not looked at.
    #[error(
        "what leaves this host is not looked at: outbound.enabled, and `scanguard doctor` says whether it can be"
    )]
    NothingLeaves,
    /// No program that uses the network has this path or unit.
    #[error("no program that uses the network matches {0}")]
    UnknownProgram(String),
    /// No actor that is known now has this name.
    #[error(
        "no actor that is known now matches {0}: see `scanguard actors` and `scanguard findings`; all are forgotten when \
         the agent restarts"
    )]
    UnknownActor(String),
    /// There is nothing to confirm.
    #[error("there is nothing to confirm: the mode is {0}")]
    NothingToConfirm(Mode),
    /// A mode that takes no confirmation, or too much or too little time for it.
    #[error("the time within which enforcing has to be confirmed is from 1s to 24h; other modes have none")]
    Confirm,
    /// The kernel did not take it.
    #[error("the kernel did not take it: {0}")]
    Kernel(String),
    /// The allow list was changed, but the kernel does not have it yet.
    #[error("the allow list is changed, but the kernel did not take it yet; the agent tries again: {0}")]
    NotInKernel(String),
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

/// Carries out an order of a user.
///
/// # Errors
/// See [`OrderError`]. Nothing was changed then, except with [`OrderError::NotInKernel`].
pub fn carry_out(
    responder: &mut Responder,
    order: Order,
    uid: u32,
    now: Now,
    enforcer: &mut dyn Enforcer,
) -> Result<Done, OrderError> {
    match order.meant(responder) {
        Order::Ban { net, lasts, reason } => ban(responder, net, lasts, reason, uid, now, enforcer),
        Order::Unban { net } => unban(responder, net, now, enforcer),
        Order::Allow { net } => allow(responder, net, now, enforcer),
        Order::Disallow { net } => {
            if net.trunc() != net {
                return Err(OrderError::HostBits { net });
            }
            if !responder.allowed.by_hand.remove(&net) {
                let allowed =
                    responder.allowed.list.conflict(net).map(|(allowed, why)| (allowed, why.clone()));
                return Err(OrderError::NotAllowedByHand { net, allowed });
            }
            let result = responder.allow(now, enforcer);
            responder.changed();
            result.map_err(|error| OrderError::NotInKernel(error.to_string()))?;
            let still = responder.allowed.list.conflict(net).map(|(net, why)| still_allowed(net, why));
            Ok(done(format!("{} is no longer allowed by hand", cidr::name(net)), still))
        }
        Order::Mode { mode, confirm } => set_mode(responder, mode, confirm, uid, now, enforcer),
        Order::Confirm => match responder.mode.deadline.take() {
            None => Err(OrderError::NothingToConfirm(responder.mode.mode)),
            Some(_) => {
                responder.kernel_bans(now).write_all(enforcer);
                responder.ban_listed(now, enforcer);
                responder.changed();
                tracing::warn!("mode {}: confirmed by uid {uid}", responder.mode.mode);
                Ok(done(format!("confirmed: the mode stays {}", responder.mode.mode), None))
            }
        },
    }
}

fn ban(
    responder: &mut Responder,
    net: IpNet,
    lasts: Option<Duration>,
    reason: String,
    uid: u32,
    now: Now,
    enforcer: &mut dyn Enforcer,
) -> Result<Done, OrderError> {
    match responder.make(net, &Cause::Hand { uid, lasts, reason }, now, enforcer) {
        Decision::Ban(_) => {
            let until = match lasts {
                Some(lasts) => format!("for {}", Interval(lasts)),
                None => "until `scanguard unban`".to_owned(),
            };
            let note = match responder.mode.mode {
                Mode::Observe => Some("the mode is observe: nothing is dropped, and nothing counted"),
                Mode::DryRun => Some("the mode is dry-run: nothing is dropped, but counted"),
                Mode::Enforce => None,
            };
            let spared = spared(responder, net);
            let notes = spared.into_iter().chain(note.map(str::to_owned)).collect();
            Ok(Done { said: format!("{} is banned {until}", cidr::name(net)), notes })
        }
        Decision::Stands { net, .. } => Ok(done(format!("{} is banned already", cidr::name(net)), None)),
        Decision::Refused(refusal) => {
            responder.metrics.refused(&refusal);
            Err(OrderError::Refused { net, refusal })
        }
    }
}

/// The allowed parts of a network, in words: a ban spares them.
fn spared(responder: &Responder, net: IpNet) -> Option<String> {
    const SHOWN: usize = 8;
    let parts = || responder.allowed.list.within(net);
    let named: Vec<_> =
        parts().take(SHOWN).map(|(part, why)| format!("{} ({why})", cidr::name(part))).collect();
    let more = match parts().count().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    (!named.is_empty()).then(|| format!("never dropped, though part of it: {}{more}", named.join(", ")))
}

fn unban(
    responder: &mut Responder,
    net: IpNet,
    now: Now,
    enforcer: &mut dyn Enforcer,
) -> Result<Done, OrderError> {
    if net.trunc() != net {
        return Err(OrderError::HostBits { net });
    }
    // Rules ban the prefix that an IPv6 source stands for: an order to free one of its addresses means the prefix.
    let masked = responder.net(&responder.source(net.addr()));
    let is_host = net.prefix_len() == net.max_prefix_len();
    let names_prefix =
        is_host && responder.ban_table.get(net).is_none() && responder.ban_table.get(masked).is_some();
    let meant = if names_prefix { masked } else { net };
    if responder.ban_table.get(meant).is_none() {
        if let Some(ban) = responder.ban_table.covering(net) {
            return Err(OrderError::BannedAround { net, around: ban.net });
        }
        if let Some((around, feed)) = responder.feeds.covering(net) {
            return Err(OrderError::Listed { net, around, feed: feed.to_owned() });
        }
        return Err(OrderError::NotBanned(net));
    }
    let extent = responder.ban_table.get(meant).map_or(Extent::Full, |ban| ban.extent);
    end(responder, &[(meant, extent)], now, enforcer)?;
    let rest =
        responder.ban_table.covering(net).map(|ban| format!("it is still banned as part of {}", ban.net));
    let listed = responder.feeds.covering(net).map(|(around, feed)| format!("{feed} still lists {around}"));
    let what = match extent {
        Extent::Full => "banned",
        Extent::Shield => "shielded from",
    };
    Ok(done(format!("{} is no longer {what}", cidr::name(meant)), rest.or(listed)))
}

/// Ends bans and shields of exactly these networks. There may be thousands.
fn end(
    responder: &mut Responder,
    ended: &[(IpNet, Extent)],
    now: Now,
    enforcer: &mut dyn Enforcer,
) -> Result<(), OrderError> {
    responder
        .kernel_bans(now)
        .lift(ended, enforcer)
        .map_err(|error| OrderError::Kernel(error.to_string()))?;
    for (net, extent) in ended {
        responder.ban_table.remove(*net);
        responder.released.add(&[*net]);
        match extent {
            Extent::Full => tracing::info!("the ban of {} was ended by hand", cidr::name(*net)),
            Extent::Shield => tracing::debug!("the shield from {} was ended by hand", cidr::name(*net)),
        }
    }
    responder.changed();
    Ok(())
}

fn allow(
    responder: &mut Responder,
    net: IpNet,
    now: Now,
    enforcer: &mut dyn Enforcer,
) -> Result<Done, OrderError> {
    if net.prefix_len() == 0 {
        return Err(OrderError::AllowsEverybody(net));
    }
    if net.trunc() != net {
        return Err(OrderError::HostBits { net });
    }
    if responder.allowed.by_hand.len() >= MAX_ALLOWED_BY_HAND && !responder.allowed.by_hand.contains(&net) {
        return Err(OrderError::AllowedFull);
    }
    responder.allowed.by_hand.insert(net);
    let result = responder.allow(now, enforcer);
    let meant = responder.sources.meant(net);
    let within = responder.ban_table.bans().filter(|ban| net.contains(&ban.net) || meant.contains(&ban.net));
    let ended: Vec<_> = within.map(|ban| (ban.net, ban.extent)).collect();
    end(responder, &ended, now, enforcer)?;
    let within: Vec<_> = ended.iter().map(|(net, _)| *net).collect();
    result.map_err(|error| OrderError::NotInKernel(error.to_string()))?;
    let ended = (!within.is_empty())
        .then(|| format!("bans and shields that were ended: {}, of {}", within.len(), cidr::names(&within)));
    Ok(done(format!("{} is never banned", cidr::name(net)), ended))
}

fn set_mode(
    responder: &mut Responder,
    mode: Mode,
    confirm: Option<Duration>,
    uid: u32,
    now: Now,
    enforcer: &mut dyn Enforcer,
) -> Result<Done, OrderError> {
    if confirm.is_some_and(|confirm| mode != Mode::Enforce || !CONFIRM.contains(&confirm)) {
        return Err(OrderError::Confirm);
    }
    responder.breaker.reset();
    responder
        .set_mode(mode, ModeCause::Hand { uid }, confirm, now, enforcer)
        .map_err(|error| OrderError::Kernel(error.to_string()))?;
    let note = confirm.map(|confirm| {
        format!("it goes back to dry-run unless `scanguard confirm` comes within {}", Interval(confirm))
    });
    Ok(done(format!("the mode is {mode}"), note))
}

fn still_allowed(net: IpNet, why: &Why) -> String {
    format!("{} is still never banned: {why}", cidr::name(net))
}

fn done(said: String, note: Option<String>) -> Done {
    Done { said, notes: note.into_iter().collect() }
}
