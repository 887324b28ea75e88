//! Bans the networks of feeds of known-bad sources. These bans are not in the ban table, and last as long as the
//! listing.

use std::{collections::BTreeMap, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use ipnet::IpNet;
use scanguard_common::abi;

use super::{
    Mode, ModeState,
    cause::Cause,
    enforcer::{Enforcer, KernelBan},
    policy::{self, Decision, PolicyInput},
    settings::KnownBad,
};
use crate::{
    clock::Now,
    detect::feeds::Feeds,
    sensor::{SensorError, gate::Extent},
};

/// How long a listed network stays banned when the agent is dead.
const LASTS: Duration = Duration::from_secs(24 * 60 * 60);
/// How often their bans are renewed.
const REFRESH: Duration = Duration::from_secs(6 * 60 * 60);
/// The delay before the first retry of networks that the kernel did not take; each further delay is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest delay between retries.
const LAST_WAIT: Duration = Duration::from_secs(5 * 60);

/// The networks of feeds that are banned.
#[derive(Debug, Default)]
pub struct FeedBans {
    /// The networks that the feeds list, banned or not.
    listed: Feeds,
    /// The result of the last attempt that succeeded.
    taken: Taken,
    /// The networks, with the names of their feeds.
    nets: BTreeMap<IpNet, String>,
    /// How all networks were last written to the kernel; none: some were not.
    written: Option<Written>,
    /// The state of retries after the kernel did not take all networks.
    retry: Option<Retry>,
}

/// The time of the next retry.
#[derive(Debug)]
struct Retry {
    /// The delay after that.
    waits: ExponentialBackoff,
    at: Duration,
}

impl Retry {
    /// The next state after a failure at this time, given the previous state.
    fn after(before: Option<Self>, now: Duration) -> Self {
        let waits = || {
            let waits = ExponentialBuilder::new().with_factor(2.0).without_max_times();
            waits.with_min_delay(FIRST_WAIT).with_max_delay(LAST_WAIT).build()
        };
        let mut waits = before.map_or_else(waits, |before| before.waits);
        let wait = waits.next().unwrap_or(LAST_WAIT);
        Self { waits, at: now.saturating_add(wait) }
    }
}

/// How networks were written to the kernel.
#[derive(Clone, Copy, Debug)]
struct Written {
    at: Duration,
    /// Whether they drop packets, or only count them.
    enforced: bool,
    /// As [`ModeState::deadline`]: their bans end then.
    deadline: Option<Duration>,
}

impl Written {
    fn by(input: PolicyInput<'_>) -> Self {
        let ModeState { mode, deadline, .. } = input.mode;
        Self { at: input.now.at, enforced: mode == Mode::Enforce, deadline }
    }

    /// Whether the written state is still right: a new write would be the same, and no ban ends soon.
    fn holds(&self, input: PolicyInput<'_>) -> bool {
        let Self { at, enforced, deadline } = Self::by(input);
        (enforced, deadline) == (self.enforced, self.deadline) && at.saturating_sub(self.at) < REFRESH
    }
}

/// The result of an attempt to ban the networks of the feeds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Taken {
    /// Networks that the policy refused: they overlap with an allowed network, or they are too wide.
    pub refused: u64,
    /// Networks without room.
    pub left_out: u64,
}

impl FeedBans {
    /// Networks that are banned.
    pub fn len(&self) -> usize {
        self.nets.len()
    }

    /// Whether no network is banned.
    pub fn is_empty(&self) -> bool {
        self.nets.is_empty()
    }

    /// The feed for which exactly this network is banned.
    pub fn get(&self, net: IpNet) -> Option<&str> {
        self.nets.get(&net).map(String::as_str)
    }

    /// The narrowest banned network around `net`, with its feed.
    pub fn covering(&self, net: IpNet) -> Option<(IpNet, &str)> {
        super::allow::around(net).find_map(|around| Some((around, self.get(around)?)))
    }

    /// Takes the networks that the feeds list. They are banned by the next [`Self::ban`].
    pub fn set_listed(&mut self, feeds: Feeds) {
        self.listed = feeds;
    }

    /// The result of the last attempt that succeeded.
    pub fn taken(&self) -> Taken {
        self.taken
    }

    /// Bans the networks that the feeds list, and ends the bans of networks that they no longer list. If the kernel did
    /// not take all of them, [`Self::is_due`] tells when to try again.
    pub fn ban(&mut self, input: PolicyInput<'_>, enforcer: &mut dyn Enforcer) {
        let (wanted, taken) = wanted(&self.listed, input);
        match self.write(wanted, input, enforcer) {
            Ok(()) => {
                self.retry = None;
                if taken.left_out > 0 && taken != self.taken {
                    tracing::warn!("{} networks on feeds are not banned: there is no room", taken.left_out);
                }
                self.taken = taken;
            }
            Err(error) => {
                self.written = None;
                self.retry = Some(Retry::after(self.retry.take(), input.now.at));
                tracing::error!("some networks on feeds could not be banned, trying again: {error}");
            }
        }
    }

    fn write(
        &mut self,
        wanted: BTreeMap<IpNet, String>,
        input: PolicyInput<'_>,
        enforcer: &mut dyn Enforcer,
    ) -> Result<(), SensorError> {
        let is_gone = |net: &&IpNet| !wanted.contains_key(net) && input.ban_table.banned(**net).is_none();
        enforcer.unban(Extent::Full, &mut self.nets.keys().filter(is_gone).copied())?;
        let old = std::mem::replace(&mut self.nets, wanted);
        match self.written.take().filter(|written| written.holds(input)) {
            // Networks that the kernel already has are not written again: there may be a hundred thousand.
            Some(written) => {
                let new = |ban: &KernelBan| !old.contains_key(&ban.net);
                enforcer.ban(Extent::Full, &mut self.kernel_bans(input).filter(new))?;
                self.written = Some(written);
            }
            None => {
                enforcer.ban(Extent::Full, &mut self.kernel_bans(input))?;
                self.written = Some(Written::by(input));
            }
        }
        Ok(())
    }

    /// The networks that the ban table does not ban itself.
    fn kernel_bans<'a>(&'a self, input: PolicyInput<'a>) -> impl Iterator<Item = KernelBan> + 'a {
        let nets = self.nets.keys().filter(move |net| input.ban_table.banned(**net).is_none());
        nets.map(move |net| kernel_ban(*net, &input.mode, input.now))
    }

    /// Whether it is time to write them again, by [`Self::ban`].
    pub fn is_due(&self, at: Duration) -> bool {
        match (&self.retry, &self.written) {
            (Some(retry), _) => retry.at <= at,
            (None, Some(written)) => !self.is_empty() && at.saturating_sub(written.at) >= REFRESH,
            (None, None) => false,
        }
    }

    /// The form of one network that the kernel takes.
    pub fn kernel(&self, net: IpNet, mode: &ModeState, now: Now) -> Option<KernelBan> {
        self.get(net).map(|_| kernel_ban(net, mode, now))
    }
}

/// Free room in the kernel's maps.
struct Places {
    single: usize,
    networks: usize,
}

impl Places {
    /// The room that the ban table cannot need. The table may have more than `max_bans` if that was lowered, and one
    /// more for a moment, since a ban is made before the one that it replaces is removed.
    fn beside_the_table(input: PolicyInput<'_>) -> Self {
        let of_the_table = input.ban_table.len(Extent::Full).max(input.settings.max_bans as usize) + 1;
        let beside = |places: u32| (places as usize).saturating_sub(of_the_table);
        Self { single: beside(abi::DEFAULT_MAX_BANS), networks: beside(abi::MAX_BANNED_NETWORKS) }
    }

    /// Whether there is room for this network; takes the room.
    fn take(&mut self, net: IpNet) -> bool {
        // An IPv6 network may be stored with the single addresses, depending on the mask: it is counted as both.
        let is_single = net.prefix_len() == net.max_prefix_len() || net.addr().is_ipv6();
        let is_network = net.prefix_len() != net.max_prefix_len() || net.addr().is_ipv6();
        if (is_single && self.single == 0) || (is_network && self.networks == 0) {
            return false;
        }
        self.single -= usize::from(is_single);
        self.networks -= usize::from(is_network);
        true
    }
}

/// The networks to ban, and the result for the others.
fn wanted(feeds: &Feeds, input: PolicyInput<'_>) -> (BTreeMap<IpNet, String>, Taken) {
    let (mut wanted, mut taken) = (BTreeMap::new(), Taken::default());
    if input.settings.known_bad != KnownBad::Drop || input.mode.mode == Mode::Observe {
        return (wanted, taken);
    }
    let mut places = Places::beside_the_table(input);
    for (net, feed) in feeds.networks() {
        if wanted.contains_key(&net) {
            continue;
        }
        match policy::judge(net, &Cause::Feed { feed: feed.to_owned() }, input) {
            Decision::Ban(_) => {}
            Decision::Stands { .. } | Decision::Refused(_) => {
                taken.refused += 1;
                continue;
            }
        }
        if places.take(net) {
            wanted.insert(net, feed.to_owned());
        } else {
            taken.left_out += 1;
        }
    }
    (wanted, taken)
}

fn kernel_ban(net: IpNet, mode: &ModeState, now: Now) -> KernelBan {
    KernelBan { net, lasts: mode.kept(Some(LASTS), now), enforced: mode.mode == Mode::Enforce }
}
