//! Writes bans and shields to the kernel, with the duration and effect that the mode gives them.

use ipnet::IpNet;

use super::{
    Mode, ModeState,
    ban_table::{Ban, BanTable},
    enforcer::{Enforcer, KernelBan},
    feed::FeedBans,
};
use crate::{
    clock::Now,
    sensor::{SensorError, gate::Extent},
};

/// All bans and shields at one moment.
#[derive(Clone, Copy)]
pub(super) struct KernelBans<'a> {
    pub(super) mode: ModeState,
    pub(super) ban_table: &'a BanTable,
    pub(super) feeds: &'a FeedBans,
    pub(super) now: Now,
}

impl KernelBans<'_> {
    /// The form of a ban that the kernel takes.
    pub(super) fn ban(&self, ban: &Ban) -> KernelBan {
        let lasts = self.mode.kept(ban.left(self.now.at), self.now);
        KernelBan { net: ban.net, lasts, enforced: self.mode.mode == Mode::Enforce && !ban.dry }
    }

    /// Writes all bans and shields of the ban table to the kernel again.
    pub(super) fn write_all(&self, enforcer: &mut dyn Enforcer) {
        for extent in Extent::ALL {
            let bans = self.ban_table.bans().filter(|ban| ban.extent == extent);
            if let Err(error) = enforcer.ban(extent, &mut bans.map(|ban| self.ban(ban))) {
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
        enforcer: &mut dyn Enforcer,
    ) -> Result<(), SensorError> {
        let of = |wanted| ended.iter().filter(move |(_, extent)| *extent == wanted).map(|(net, _)| *net);
        let listed = |net: &IpNet| self.feeds.kernel(*net, &self.mode, self.now);
        enforcer.unban(Extent::Full, &mut of(Extent::Full).filter(|net| listed(net).is_none()))?;
        enforcer.ban(Extent::Full, &mut of(Extent::Full).filter_map(|net| listed(&net)))?;
        enforcer.unban(Extent::Shield, &mut of(Extent::Shield))
    }
}
